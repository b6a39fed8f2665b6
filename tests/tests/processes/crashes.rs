//! Nodes that crash, pause, fall behind, move and end.

use crate::support::{Load, TestResult, get, set, spec};
use logboat_tests::process::{Cluster, NodeProcess, ProcessError, eventually, free_ports};
use redis::Connection;

#[test]
fn no_acknowledged_write_is_lost_when_nodes_are_killed_one_after_the_other() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "8", "--snapshot-log-bytes", "8192"]))?;
    let load = Load::start(&cluster);
    for victim in [1, 2, 3, 1] {
        load.await_progress(40)?;
        cluster.node_mut(victim).kill()?;
        load.await_progress(40)?;
        cluster.node_mut(victim).start()?;
        cluster.node_mut(victim).ready()?;
    }
    load.await_progress(40)?;
    check_on_all_nodes(&cluster, load)
}

#[test]
fn no_acknowledged_write_is_lost_when_all_nodes_are_killed_at_once() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "8", "--snapshot-log-bytes", "8192"]))?;
    let load = Load::start(&cluster);
    for _ in 0..3 {
        load.await_progress(60)?;
        cluster.nodes.iter_mut().try_for_each(NodeProcess::kill)?;
        cluster.start_all()?;
    }
    load.await_progress(60)?;
    check_on_all_nodes(&cluster, load)
}

#[test]
fn nodes_asked_to_end_exit_with_success_and_lose_nothing() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "8"]))?;
    let load = Load::start(&cluster);
    load.await_progress(60)?;
    cluster.nodes.iter_mut().try_for_each(NodeProcess::terminate)?;
    for node in &mut cluster.nodes {
        let status = node.wait()?;
        assert!(status.success(), "node {}: {status}", node.spec().id);
        let log = node.log();
        assert!(log.contains("has stopped") && !log.contains("panicked"), "{log}");
    }
    cluster.start_all()?;
    load.await_progress(60)?;
    check_on_all_nodes(&cluster, load)
}

#[test]
fn a_paused_leader_serves_no_stale_read_when_it_goes_on() -> TestResult {
    const GROUPS: u64 = 6;
    let mut cluster = Cluster::start(&spec(3, &["--groups", "6"]))?;
    let keys: Vec<_> = (0..24).map(|number| format!("key:{number}")).collect();
    let mut client = cluster.node(2).client()?;
    for key in &keys {
        set(&mut client, key, "old")?;
    }
    // The meta group and two more prefer node 1; it leads them once all nodes are there.
    eventually(
        "node 1 to lead groups",
        || Ok((number(&cluster, 1, "leaders")? > 1).then_some(())),
    )?;
    let mut readers = Vec::new();
    for key in &keys {
        let mut reader = cluster.node(1).client()?;
        assert_eq!(get(&mut reader, key)?.as_deref(), Some("old"));
        readers.push(reader);
    }
    cluster.node_mut(1).pause()?;
    eventually("the others to lead all groups", || {
        let leaders = number(&cluster, 2, "leaders")? + number(&cluster, 3, "leaders")?;
        Ok((leaders > GROUPS).then_some(()))
    })?;
    for key in &keys {
        set(&mut client, key, "new")?;
    }
    // The questions wait in the paused node's sockets: it answers when it still thinks it leads.
    for (reader, key) in readers.iter_mut().zip(&keys) {
        reader.send_packed_command(&redis::cmd("GET").arg(key).get_packed_command())?;
    }
    cluster.node_mut(1).resume()?;
    for (reader, key) in readers.iter_mut().zip(&keys) {
        let answer: String = redis::from_redis_value(reader.recv_response()?)?;
        assert_eq!(answer, "new", "{key}");
    }
    Ok(())
}

#[test]
fn a_node_that_was_down_past_the_logs_catches_up_by_snapshots() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "2", "--snapshot-log-bytes", "4096"]))?;
    cluster.node_mut(3).kill()?;
    let value = "v".repeat(400);
    let mut client = cluster.node(1).client()?;
    for number in 0..60 {
        set(&mut client, &format!("key:{number}"), &format!("{value}{number}"))?;
    }
    let written = cluster.node(1).metric("logboat_snapshots_written_total")?;
    assert!(written > 0.0, "60 values of 400 bytes are several times the threshold");
    cluster.node_mut(3).start()?;
    cluster.node_mut(3).ready()?;
    let sent = |id: usize| cluster.node(id).metric("logboat_snapshots_sent_total");
    eventually("snapshots to be sent", || Ok((sent(1)? + sent(2)? > 0.0).then_some(())))?;
    // Now nothing can be read but from nodes 2 and 3 together.
    cluster.node_mut(1).kill()?;
    let mut client = cluster.node(3).client()?;
    for number in 0..60 {
        let found = get(&mut client, &format!("key:{number}"))?;
        assert_eq!(found, Some(format!("{value}{number}")));
    }
    Ok(set(&mut client, "after", "written")?)
}

#[test]
fn a_cluster_whose_nodes_move_to_other_addresses_keeps_its_data() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "2"]))?;
    set(&mut cluster.node(1).client()?, "key", "value")?;
    cluster.nodes.iter_mut().try_for_each(NodeProcess::kill)?;
    let port = free_ports(3)?;
    for node in &mut cluster.nodes {
        let members = (0..3).map(|offset| format!("{}=127.0.0.1:{}", offset + 1, port + offset));
        node.spec_mut().cluster = members.collect::<Vec<_>>().join(",");
    }
    cluster.start_all()?;
    assert_eq!(get(&mut cluster.node(3).client()?, "key")?.as_deref(), Some("value"));
    Ok(())
}

/// A number in a node's `/status`.
fn number(cluster: &Cluster, node: usize, field: &str) -> Result<u64, ProcessError> {
    let status = cluster.node(node).status()?;
    Ok(status[field].as_u64().expect("the field is a number"))
}

/// Ends the load and checks what it wrote, each writer's through another node.
pub(crate) fn check_on_all_nodes(cluster: &Cluster, load: Load) -> TestResult {
    let clients = cluster.nodes.iter().map(NodeProcess::client);
    let mut clients = clients.collect::<Result<Vec<Connection>, _>>()?;
    let nodes = clients.len();
    for (number, written) in load.stop().iter().enumerate() {
        written.check(&mut clients[number % nodes])?;
    }
    Ok(())
}
