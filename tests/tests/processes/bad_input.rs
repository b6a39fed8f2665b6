//! What must be refused, with an error that names the cause, while everything else goes on.

use crate::support::{
    TestResult, copy_directory, get, program, refusal, set, shared_cluster, spec, talk,
};
use logboat_tests::process::{Cluster, NodeProcess, eventually};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

#[test]
fn wrong_options_are_refused_by_name() -> TestResult {
    let mut cluster = Cluster::new(&spec(1, &[]))?;
    let node = cluster.node_mut(1);
    let right = node.spec().clone();
    for (members, cause) in [
        ("1", "--cluster: \"1\" is not ID=HOST:PORT"),
        ("1=127.0.0.1", "--cluster: \"1=127.0.0.1\" is not ID=HOST:PORT"),
        ("1=127.0.0.1:7401,1=127.0.0.1:7402", "--cluster: node 1 stands there twice"),
        ("2=127.0.0.1:7401", "node 1 is not among the members"),
    ] {
        members.clone_into(&mut node.spec_mut().cluster);
        check_refused(node, &[cause])?;
    }
    node.spec_mut().cluster.clone_from(&right.cluster);
    for (option, value, cause) in [
        ("--partition", "modulo", "expected slots, hash or range"),
        ("--groups", "0", "a cluster has from 1 to 65,536 groups, not 0"),
        ("--heartbeat-ms", "400", "--heartbeat-ms"),
        ("--split-keys", "keys", "--split-keys goes with --partition range"),
        ("--config", "/no/such/file.toml", "--config /no/such/file.toml"),
    ] {
        node.spec_mut().options.clone_from(&right.options);
        node.spec_mut().options.extend([option.to_owned(), value.to_owned()]);
        check_refused(node, &[cause])?;
    }
    Ok(())
}

#[test]
fn a_data_directory_of_another_node_or_cluster_is_refused() -> TestResult {
    let mut cluster = Cluster::new(&spec(2, &["--groups", "2"]))?;
    cluster.start_all()?;
    set(&mut cluster.node(1).client()?, "key", "value")?;
    cluster.nodes.iter_mut().try_for_each(NodeProcess::kill)?;
    let node = cluster.node_mut(2);
    let right = node.spec().clone();

    node.spec_mut().data_dir.set_file_name("node-1");
    let dir = node.spec().data_dir.display().to_string();
    check_refused(node, &[&dir, "belongs to node 1, not to node 2"])?;

    *node.spec_mut() = right.clone();
    node.spec_mut().options.extend(["--cluster-name".to_owned(), "another".to_owned()]);
    check_refused(node, &["node-2", r#"belongs to cluster "logboat", not to "another""#])?;

    *node.spec_mut() = right.clone();
    node.spec_mut().cluster.push_str(",3=127.0.0.1:1");
    check_refused(node, &["node-2", "belongs to a cluster of the nodes 1,2, not 1,2,3"])?;

    *node.spec_mut() = right;
    cluster.start_all()?;
    assert_eq!(get(&mut cluster.node(2).client()?, "key")?.as_deref(), Some("value"));
    Ok(())
}

#[test]
fn a_data_directory_in_use_and_busy_ports_are_refused() -> TestResult {
    let cluster = Cluster::start(&spec(1, &["--groups", "2"]))?;
    let mut client = cluster.node(1).client()?;
    let in_use = cluster.node(1).spec().data_dir.clone();

    let mut others = Cluster::new(&spec(1, &[]))?;
    let other = others.node_mut(1);
    let right = other.spec().clone();
    other.spec_mut().data_dir = in_use;
    check_refused(other, &["is in use by", "node-1"])?;

    *other.spec_mut() = right.clone();
    let peer_port = port_of(&right.cluster);
    for port in [right.client_port, right.admin_port, peer_port] {
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = format!("127.0.0.1:{port}");
        check_refused(other, &[&address, "in use"])?;
    }
    others.start_all()?;
    set(&mut client, "key", "the first process goes on")?;
    Ok(())
}

#[test]
fn another_partition_or_number_of_groups_than_stored_is_refused() -> TestResult {
    let mut cluster = Cluster::start(&spec(1, &["--groups", "4"]))?;
    set(&mut cluster.node(1).client()?, "key", "value")?;
    let right = cluster.node(1).spec().options.clone();
    cluster.node_mut(1).kill()?;
    let node = cluster.node_mut(1);
    let groups = node.spec_mut().options.last_mut().expect("the options end with the groups");
    "5".clone_into(groups);
    check_refused(node, &["groups 4, not 5", "can't be changed later"])?;
    node.spec_mut().options.clone_from(&right);
    node.spec_mut().options.extend(["--partition".to_owned(), "range".to_owned()]);
    check_refused(node, &["slots, not range", "can't be changed later"])?;
    node.spec_mut().options = right;
    cluster.start_all()?;
    assert_eq!(get(&mut cluster.node(1).client()?, "key")?.as_deref(), Some("value"));
    Ok(())
}

#[test]
fn damage_to_a_group_is_named_by_file_and_offset_and_costs_one_replica() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "2"]))?;
    let mut client = cluster.node(1).client()?;
    let value = "a value that stands nowhere else";
    set(&mut client, "key", value)?;
    // A write is acknowledged before all nodes have it.
    let path =
        eventually("the value in the log of node 3", || Ok(file_with(cluster.node(3), value)?))?;
    cluster.node_mut(3).terminate()?;
    assert!(cluster.node_mut(3).wait()?.success());

    let mut content = fs::read(&path)?;
    let at = position(&content, value.as_bytes()).expect("the value was found before");
    content[at] ^= 1;
    fs::write(&path, &content)?;
    let file = path.display().to_string();
    let dir = cluster.node(3).spec().data_dir.display().to_string();
    let verified = program().command().args(["wal", "verify", &dir]).output()?;
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(!verified.status.success());
    assert!(said.contains(&file) && said.contains("is damaged at offset"), "{said}");

    // Twice, since the second start finds the tombstone of the replica.
    for round in ["once", "twice"] {
        cluster.node_mut(3).start()?;
        let failed = eventually("the status of node 3", || {
            let status = cluster.node(3).status();
            Ok(status.ok().map(|status| status["failed"].clone()))
        })?;
        let reason = failed[0]["reason"].to_string();
        assert_eq!(failed.as_array().map(Vec::len), Some(1), "{failed}");
        assert!(reason.contains(&file) && reason.contains("is damaged at offset"), "{reason}");
        set(&mut client, "key", round)?;
        let read = |node: usize| -> TestResult<Option<String>> {
            Ok(get(&mut cluster.node(node).client()?, "key")?)
        };
        assert_eq!(read(2)?.as_deref(), Some(round));
        cluster.node_mut(3).terminate()?;
        assert!(cluster.node_mut(3).wait()?.success());
    }
    Ok(())
}

#[test]
fn a_log_whose_damage_can_t_be_pinned_is_refused_by_file_and_offset_where_nobody_else_is()
-> TestResult {
    let mut cluster = Cluster::start(&spec(1, &["--groups", "2"]))?;
    set(&mut cluster.node(1).client()?, "key", "value")?;
    cluster.node_mut(1).terminate()?;
    assert!(cluster.node_mut(1).wait()?.success());
    let path = cluster.node(1).wal_dir().join("0000000001.wal");
    let whole = fs::read(&path)?;
    let mut damaged = whole.clone();
    // The header of the segment: without it, no checksum in there can be verified.
    damaged[16] ^= 1;
    fs::write(&path, damaged)?;
    let file = path.display().to_string();
    check_refused(
        cluster.node_mut(1),
        &[&file, "is damaged at offset 0: the segment header fails"],
    )?;
    fs::write(&path, whole)?;
    cluster.start_all()?;
    assert_eq!(get(&mut cluster.node(1).client()?, "key")?.as_deref(), Some("value"));
    Ok(())
}

#[test]
fn a_peer_of_a_foreign_cluster_is_refused_on_both_sides() -> TestResult {
    // Each has a majority without its third node, and the second one takes a node of the first one
    // for its own third.
    let of_two = |name| spec(3, &["--groups", "2", "--found-without", "3", "--cluster-name", name]);
    let mut first = Cluster::new(&of_two("first"))?;
    let mut second = Cluster::new(&of_two("second"))?;
    let peer_of_first =
        first.node(1).spec().cluster.split(',').next().and_then(|member| member.strip_prefix("1="));
    let peer_of_first = peer_of_first.expect("node 1 comes first").to_owned();
    for cluster in [&mut first, &mut second] {
        cluster.nodes.truncate(2);
    }
    for node in &mut second.nodes {
        let (own, _) = node.spec().cluster.rsplit_once("3=").expect("there are three members");
        node.spec_mut().cluster = format!("{own}3={peer_of_first}");
    }
    first.start_all()?;
    second.start_all()?;
    eventually("the listener to log the refusal", || {
        Ok(first.node(1).log().contains("wrong cluster").then_some(()))
    })?;
    eventually("the dialer to tell of the refusal", || {
        let status = second.node(1).status()?;
        let peers = status["peers"].as_array().cloned().unwrap_or_default();
        let mut errors = peers.iter().filter_map(|peer| peer["last_error"].as_str());
        Ok(errors.any(|error| error.contains("wrong cluster")).then_some(()))
    })?;
    for (cluster, value) in [(&first, "first"), (&second, "second")] {
        set(&mut cluster.node(1).client()?, "key", value)?;
        assert_eq!(get(&mut cluster.node(2).client()?, "key")?.as_deref(), Some(value));
    }
    Ok(())
}

#[test]
fn a_node_that_comes_back_without_its_disk_is_refused_on_both_sides() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "2"]))?;
    let mut client = cluster.node(1).client()?;
    set(&mut client, "key", "value")?;
    cluster.node_mut(3).kill()?;
    fs::remove_dir_all(&cluster.node(3).spec().data_dir)?;
    cluster.node_mut(3).start()?;
    for id in [1, 3] {
        eventually("the refusal to be logged", || {
            Ok(cluster.node(id).log().contains("by another data directory").then_some(()))
        })?;
    }
    let (code, page) = cluster.node(3).page("/healthz")?;
    assert!(code == 503 && page.contains("waits to be recorded by 1, 2"), "{page}");
    assert_eq!(cluster.node(3).status()?["waiting_for"], serde_json::json!([1, 2]));
    set(&mut client, "key", "the others go on")?;
    assert_eq!(get(&mut cluster.node(2).client()?, "key")?.as_deref(), Some("the others go on"));
    Ok(())
}

#[test]
fn a_node_whose_log_was_deleted_does_not_start_where_nobody_else_is() -> TestResult {
    let mut cluster = Cluster::start(&spec(1, &["--groups", "2"]))?;
    set(&mut cluster.node(1).client()?, "key", "value")?;
    cluster.node_mut(1).kill()?;
    for entry in fs::read_dir(cluster.node(1).wal_dir())? {
        fs::remove_file(entry?.path())?;
    }
    let said = cluster.node_mut(1).start_refused()?;
    assert!(said.contains("it was durable up to"), "{said}");
    Ok(())
}

#[test]
fn an_old_copy_of_a_data_directory_is_refused_on_both_sides() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "2"]))?;
    cluster.node_mut(3).terminate()?;
    cluster.node_mut(3).wait()?;
    let directory = cluster.node(3).spec().data_dir.clone();
    let copy = cluster.dir().join("copy");
    copy_directory(&directory, &copy)?;
    cluster.start_all()?;
    set(&mut cluster.node(1).client()?, "key", "value")?;
    cluster.node_mut(3).terminate()?;
    cluster.node_mut(3).wait()?;
    fs::remove_dir_all(&directory)?;
    fs::rename(&copy, &directory)?;
    cluster.node_mut(3).start()?;
    for id in [1, 3] {
        eventually("the refusal to be logged", || {
            Ok(cluster.node(id).log().contains("copies of its directory").then_some(()))
        })?;
    }
    Ok(())
}

#[test]
fn garbage_on_the_ports_is_turned_away() -> TestResult {
    let cluster = shared_cluster()?;
    let node = cluster.node(1);
    let peer_port = port_of(&node.spec().cluster);
    let refused_before = node.metric("logboat_transport_refused_handshakes_total").unwrap_or(0.0);
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let garbage: Vec<u8> = (0..4096_u32).map(|number| ((number * 7919) >> 3) as u8).collect();
    assert_eq!(talk(peer_port, http)?, "");
    assert_eq!(talk(peer_port, &garbage)?, "");
    let refused = node.metric("logboat_transport_refused_handshakes_total")?;
    assert!(refused >= refused_before + 2.0, "{refused} after {refused_before}");
    eventually("the peers' port to log what it refused", || {
        Ok(node.log().contains("the other side does not speak this protocol").then_some(()))
    })?;

    let client_port = node.spec().client_port;
    talk(client_port, http)?;
    eventually("the refusal to be logged", || {
        Ok(node.log().contains("HTTP on the clients' port").then_some(()))
    })?;
    for (bytes, cause) in [
        (&b"*1\r\n$99999999999\r\n"[..], "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*99999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n!x\r\n", "-ERR Protocol error: expected '$', got '!'\r\n"),
        (b"SET \"a b\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
    ] {
        assert_eq!(talk(client_port, bytes)?, cause);
    }
    Ok(set(&mut node.client()?, "garbage", "does no harm")?)
}

#[test]
fn keys_and_values_over_their_limits_are_refused() -> TestResult {
    let cluster = shared_cluster()?;
    let mut client = cluster.node(2).client()?;
    let long_key = "k".repeat(56 * 1024 + 1);
    let said = refusal(set(&mut client, &long_key, "x"));
    assert!(said.contains("key of 57345 bytes exceeds the limit of 57344 bytes"), "{said}");
    assert_eq!(get(&mut client, &long_key).ok().flatten(), None);
    let long_value = "v".repeat(8 * 1024 * 1024 + 1);
    let said = refusal(set(&mut client, "limits", &long_value));
    assert!(said.contains("8388609 bytes exceeds the limit of 8388608 bytes"), "{said}");
    assert_eq!(get(&mut client, "limits")?, None);
    Ok(set(&mut client, "limits", "the connection goes on")?)
}

/// Checks that a node refuses to run and names each of the causes.
fn check_refused(node: &mut NodeProcess, causes: &[&str]) -> TestResult {
    let said = node.start_refused()?;
    for cause in causes {
        assert!(said.contains(cause), "no {cause:?} in:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    Ok(())
}

/// The port of node 1 for its peers.
fn port_of(cluster: &str) -> u16 {
    let first = cluster.split(',').next().and_then(|member| member.rsplit_once(':'));
    first.and_then(|(_, port)| port.parse().ok()).expect("the members have ports")
}

/// The segment of a node's log that holds `text`.
fn file_with(node: &NodeProcess, text: &str) -> std::io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(node.wal_dir())? {
        let path = entry?.path();
        // The segments that are made ahead may vanish meanwhile.
        let content = fs::read(&path).unwrap_or_default();
        if position(&content, text.as_bytes()).is_some() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Where `part` first stands in `whole`.
fn position(whole: &[u8], part: &[u8]) -> Option<usize> {
    whole.windows(part.len()).position(|window| window == part)
}

#[test]
fn a_node_whose_log_lines_nobody_takes_goes_on() -> TestResult {
    let mut cluster = Cluster::new(&spec(1, &["--groups", "2"]))?;
    let node = cluster.node_mut(1);
    node.start_unheard()?;
    node.ready()?;
    let lost = node.metric("logboat_log_lines_lost_total")?;
    // A warning on a thread that all clients need.
    talk(node.spec().client_port, b"POST / HTTP/1.1\r\n")?;
    eventually("the line to be lost", || {
        Ok((node.metric("logboat_log_lines_lost_total")? > lost).then_some(()))
    })?;
    let mut client = node.client()?;
    set(&mut client, "unheard", "x")?;
    assert_eq!(get(&mut client, "unheard")?.as_deref(), Some("x"));
    node.terminate()?;
    assert!(node.wait()?.success());
    Ok(())
}

#[test]
fn what_a_node_holds_is_bounded_for_clients_of_all_nodes() -> TestResult {
    let mut cluster = Cluster::new(&spec(3, &["--groups", "1"]))?;
    for (node, limit) in [(1, "1000000"), (2, "1000000"), (3, "0")] {
        let options = &mut cluster.node_mut(node).spec_mut().options;
        options.extend(["--max-memory".to_owned(), limit.to_owned()]);
    }
    cluster.start_all()?;
    // Its own limit lets everything in, so others must refuse.
    eventually("node 3 to lead nothing", || {
        Ok((cluster.node(3).status()?["leaders"] == 0).then_some(()))
    })?;
    let mut client = cluster.node(3).client()?;
    let oom = "OOM command not allowed when used memory > 'maxmemory'.";
    for command in [
        redis::cmd("SETRANGE").arg("large").arg(2_000_000).arg("x"),
        redis::cmd("SET").arg("large").arg("v".repeat(2_000_000)),
        redis::cmd("MSET").arg("large").arg("v".repeat(2_000_000)),
        redis::cmd("APPEND").arg("large").arg("v".repeat(2_000_000)),
    ] {
        assert_eq!(refusal(command.query::<()>(&mut client)), oom);
    }
    let value = "v".repeat(100_000);
    let mut refused = None;
    for number in 0..10 {
        refused = refused.or(set(&mut client, &format!("key:{number}"), &value).err());
    }
    assert_eq!(refusal::<()>(Err(refused.expect("less than a million bytes fit"))), oom);
    assert_eq!(get(&mut client, "key:0")?, Some(value.clone()));
    redis::cmd("DEL").arg("key:0").arg("key:1").arg("key:2").query::<()>(&mut client)?;
    set(&mut client, "more", &value)?;
    Ok(())
}

#[test]
fn what_a_node_holds_is_bounded() -> TestResult {
    let mut cluster = Cluster::new(&spec(1, &["--groups", "2", "--max-memory", "1000000"]))?;
    cluster.start_all()?;
    let mut client = cluster.node(1).client()?;
    let oom = "OOM command not allowed when used memory > 'maxmemory'.";
    // A few bytes that would grow to megabytes.
    let grow = redis::cmd("SETRANGE").arg("large").arg(2_000_000).arg("x").to_owned();
    assert_eq!(refusal(grow.query::<()>(&mut client)), oom);
    let value = "v".repeat(100_000);
    let refused = (0..10).find_map(|number| {
        set(&mut client, &format!("key:{number}"), &value).err().map(|error| (number, error))
    });
    let (number, error) = refused.expect("less than a million bytes fit");
    assert!((8..10).contains(&number), "{number}");
    assert_eq!(refusal::<()>(Err(error)), oom);
    // What is there can be read and removed, after a restart as well.
    cluster.node_mut(1).kill()?;
    cluster.start_all()?;
    let mut client = cluster.node(1).client()?;
    assert_eq!(get(&mut client, "key:0")?, Some(value.clone()));
    assert_eq!(refusal(set(&mut client, "more", &value.repeat(2))), oom);
    redis::cmd("DEL").arg("key:0").arg("key:1").query::<()>(&mut client)?;
    set(&mut client, "more", &value)?;
    Ok(())
}

#[test]
fn debug_is_refused_and_a_state_machine_that_it_hangs_leads_no_more() -> TestResult {
    let refused = shared_cluster()?;
    let sleep = || {
        let mut sleep = redis::cmd("DEBUG");
        sleep.arg("SLEEP").arg(20).arg("key");
        sleep
    };
    let refusal = refusal(sleep().query::<()>(&mut refused.node(1).client()?));
    assert!(
        refusal.contains("DEBUG command not allowed. If the enable-debug-command"),
        "{refusal}"
    );

    let options = ["--groups", "1", "--enable-debug-command", "local"];
    let cluster = Cluster::start(&spec(3, &options))?;
    let mut third = cluster.node(3).client()?;
    set(&mut third, "key", "before")?;
    // Whoever led, the replica on node 3 leads in the end.
    let mut sleeping = [cluster.node(1).client()?, cluster.node(2).client()?];
    for client in &mut sleeping {
        client.send_packed_command(&sleep().get_packed_command())?;
    }
    eventually("a write beside two replicas that hang", || {
        // One that was proposed at a leader that hangs has no outcome.
        Ok(set(&mut third, "key", "meanwhile").ok())
    })?;
    assert_eq!(get(&mut third, "key")?.as_deref(), Some("meanwhile"));
    for (id, client) in [1, 2].into_iter().zip(&mut sleeping) {
        eventually("the state machine that hangs to be named", || {
            let stuck = cluster.node(id).status()?["stuck"][0]["group"].is_u64();
            Ok(stuck.then_some(()))
        })?;
        client.set_read_timeout(Some(Duration::from_millis(1)))?;
        let early = client.recv_response();
        assert!(early.is_err(), "the sleep is over before the write: {early:?}");
    }
    Ok(())
}
