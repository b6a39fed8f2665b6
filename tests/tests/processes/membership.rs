//! Nodes that come in the wrong way or at the wrong time, and orders that make no sense: each gets
//! a clear error, or waits and says so, and nothing is half done.

use crate::support::{TestResult, copy_directory, get, program, set, spec};
use logboat_tests::process::{
    Cluster, NetworkNamespace, NodeProcess, ProcessError, SmallDisk, eventually, free_ports,
};
use serde_json::{Value, json};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What nodes get that join.
const JOINER: [&str; 4] = ["--election-timeout-ms", "500", "--wal-segment-bytes", "262144"];

/// A page that is JSON.
fn page(node: &NodeProcess, path: &str) -> Result<Value, ProcessError> {
    let (_, text) = node.page(path)?;
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// The state of a node, by what another one says.
fn state(node: &NodeProcess, id: u64) -> Result<Option<String>, ProcessError> {
    let page = page(node, "/nodes")?;
    let nodes = page["nodes"].as_array().cloned().unwrap_or_default();
    let record = nodes.iter().find(|node| node["id"] == id);
    Ok(record.and_then(|node| node["state"].as_str().map(str::to_owned)))
}

fn becomes(node: &NodeProcess, id: u64, wanted: &str) -> Result<(), ProcessError> {
    eventually(&format!("node {id} to be {wanted}"), || {
        Ok((state(node, id)?.as_deref() == Some(wanted)).then_some(()))
    })
}

/// Gives an order that must be refused with this code and in these words.
fn refused(node: &NodeProcess, path: &str, body: &Value, (code, words): (u16, &str)) -> TestResult {
    let (answered, text) = node.post(path, body)?;
    assert!(answered == code && text.contains(words), "{path} {body}: {answered} {text}");
    Ok(())
}

#[test]
fn of_two_processes_that_claim_one_id_one_is_turned_away() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "2"]))?;
    set(&mut cluster.node(1).client()?, "key", "before")?;
    cluster.node_mut(3).terminate()?;
    cluster.node_mut(3).wait()?;
    let original = cluster.node(3).spec().clone();
    let copy = cluster.dir().join("copy");
    copy_directory(&original.data_dir, &copy)?;
    cluster.start_all()?;

    let mut second = NodeProcess::new(program(), original, cluster.dir().join("copy.log"));
    let port = free_ports(3)?;
    let spec = second.spec_mut();
    spec.data_dir = copy;
    (spec.client_port, spec.admin_port) = (port, port + 1);
    let (others, _) = spec.cluster.rsplit_once("3=").expect("there are three members");
    spec.cluster = format!("{others}3=127.0.0.1:{}", port + 2);
    second.start()?;
    eventually("the copy to be turned away", || {
        Ok(second.log().contains("copies of its directory").then_some(()))
    })?;
    assert_eq!(second.page("/healthz")?.0, 503);
    // The original goes on.
    cluster.node_mut(1).kill()?;
    eventually("a write that takes nodes 2 and 3", || {
        Ok(set(&mut cluster.node(3).client()?, "key", "after").ok())
    })?;
    assert_eq!(get(&mut cluster.node(2).client()?, "key")?.as_deref(), Some("after"));
    Ok(())
}

#[test]
fn who_joins_a_cluster_without_a_majority_waits_and_joins_once() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "2"]))?;
    cluster.node_mut(1).kill()?;
    cluster.node_mut(2).kill()?;
    cluster.add(&JOINER)?.start()?;
    eventually("the node to say that it waits", || {
        let log = cluster.node(4).log();
        Ok(log.contains("this node waits for an answer of the cluster").then_some(()))
    })?;
    // It may crash meanwhile, and ask again.
    cluster.node_mut(4).kill()?;
    cluster.start_all()?;
    becomes(cluster.node(1), 4, "up")?;
    assert_eq!(cluster.node(4).status()?["node_id"], 4);

    // Another process on the same directory is no other node.
    let mut twin =
        NodeProcess::new(program(), cluster.node(4).spec().clone(), cluster.dir().join("twin.log"));
    let port = free_ports(3)?;
    let spec = twin.spec_mut();
    spec.peer_listen = Some(([127, 0, 0, 1], port + 2).into());
    (spec.client_port, spec.admin_port) = (port, port + 1);
    let said = twin.start_refused()?;
    assert!(said.contains("is in use by"), "{said}");
    let nodes = page(cluster.node(1), "/nodes")?;
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(4), "{nodes}");
    Ok(())
}

/// Two networks with a cable between them, whose ends are called `eth0`.
fn two_networks() -> io::Result<[(Arc<NetworkNamespace>, Ipv4Addr); 2]> {
    let (west, east) = (NetworkNamespace::new()?, NetworkNamespace::new()?);
    let other_end = east.path();
    west.ip(&format!("link add eth0 type veth peer name eth0 netns {}\n", other_end.display()))?;
    let networks = [(west, 1), (east, 2)].map(|(network, last)| {
        let address = Ipv4Addr::new(10, 0, 0, last);
        let commands =
            format!("link set lo up\nlink set eth0 up\naddress add {address}/24 dev eth0\n");
        network.ip(&commands)?;
        Ok::<_, io::Error>((Arc::new(network), address))
    });
    let [west, east] = networks;
    Ok([west?, east?])
}

#[test]
fn who_joins_beyond_a_cut_link_waits_and_joins_once() -> TestResult {
    let [west, east] = match two_networks() {
        Ok(networks) => networks,
        Err(error) => {
            eprintln!("skipped: {error}");
            return Ok(());
        }
    };
    // Node 1 is alone in the west.
    let mut cluster = Cluster::new(&spec(3, &["--groups", "2"]))?;
    let places = [&west, &east, &east];
    let members = cluster.node(1).spec().cluster.clone();
    let members = members
        .split(',')
        .zip(places)
        .map(|(member, (_, address))| member.replace("127.0.0.1", &address.to_string()));
    let members = members.collect::<Vec<_>>().join(",");
    for (node, (network, address)) in cluster.nodes.iter_mut().zip(places) {
        let spec = node.spec_mut();
        spec.cluster.clone_from(&members);
        (spec.host, spec.namespace) = (*address, Some(Arc::clone(network)));
    }
    cluster.start_all()?;

    // Nobody ends. The node that joins reaches node 1 alone, and is told to wait.
    west.0.ip("link set eth0 down\n")?;
    cluster.add(&JOINER)?.start()?;
    eventually("the node to say that it waits", || {
        let log = cluster.node(4).log();
        Ok(log.contains("this node waits for an answer of the cluster").then_some(()))
    })?;
    eventually("the others to go on without node 1", || {
        let posted = cluster.node(2).post("/settings", &json!({ "move_mib_per_s": 77 }));
        Ok(posted.is_ok_and(|(code, _)| code == 200).then_some(()))
    })?;
    assert_eq!(state(cluster.node(2), 4)?, None);

    west.0.ip("link set eth0 up\n")?;
    for id in 1..=3 {
        becomes(cluster.node(id), 4, "up")?;
    }
    assert_eq!(cluster.node(4).status()?["node_id"], 4);
    let nodes = page(cluster.node(3), "/nodes")?;
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(4), "{nodes}");
    Ok(())
}

#[test]
fn orders_that_make_no_sense_are_refused_in_words() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "2"]))?;
    cluster.add(&JOINER)?.start()?;
    cluster.node_mut(4).ready()?;
    becomes(cluster.node(2), 4, "up")?;
    let node = cluster.node(2);
    let to = |to: u64| json!({ "from": 1, "to": to });
    refused(node, "/groups/1/move", &to(9), (400, "there is no node 9"))?;
    refused(node, "/groups/7/move", &to(4), (400, "there is no group 7"))?;
    refused(node, "/groups/7/transfer", &json!({ "to": 4 }), (400, "there is no group 7"))?;
    refused(node, "/nodes/9/drain", &json!({}), (400, "there is no node 9"))?;
    refused(node, "/nodes/4/polish", &json!({}), (404, "nodes are not told to polish"))?;
    refused(node, "/nodes/4/remove-lost", &json!({}), (400, "is there: decommission it"))?;
    refused(node, "/nodes/decommission", &json!({ "nodes": [9] }), (400, "there is no node 9"))?;
    let few = json!({ "nodes": [1, 2] });
    refused(node, "/nodes/decommission", &few, (400, "2 nodes would stay"))?;
    let admin = node.admin_address().to_string();
    let output =
        program().command().args(["node", "decommission", "1", "2", "--admin", &admin]).output()?;
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("2 nodes would stay"), "{error}");

    // A node that is emptied, and one that is lost, take nothing.
    assert_eq!(node.post("/nodes/4/drain", &json!({}))?.0, 200);
    eventually("node 4 to hold nothing", || {
        let nodes = page(node, "/nodes")?;
        let nodes = nodes["nodes"].as_array().cloned().unwrap_or_default();
        let is_empty = |node: &Value| node["id"] == 4 && node["replicas"] == 0;
        Ok(nodes.iter().any(is_empty).then_some(()))
    })?;
    refused(node, "/groups/1/move", &to(4), (400, "node 4 is draining"))?;
    cluster.node_mut(4).kill()?;
    let node = cluster.node(2);
    eventually("node 4 to be given up", || {
        Ok((node.post("/nodes/4/remove-lost", &json!({}))?.0 == 200).then_some(()))
    })?;
    let (code, text) = node.post("/groups/1/move", &to(4))?;
    let is_told = text.contains("node 4 is lost") || text.contains("node 4 has left");
    assert!(code == 400 && is_told, "{code} {text}");
    for id in [1, 2, 3] {
        assert_eq!(state(node, id)?.as_deref(), Some("up"), "nothing is half done");
    }
    Ok(())
}

#[test]
fn orders_to_a_cluster_without_a_majority_fail_in_words_and_change_nothing() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "2"]))?;
    cluster.node_mut(1).kill()?;
    cluster.node_mut(2).kill()?;
    eventually("node 3 to be alone", || {
        Ok((cluster.node(3).status()?["groups_without_leader"] == 3).then_some(()))
    })?;
    refused(cluster.node(3), "/nodes/2/drain", &json!({}), (503, "unavailable"))?;
    cluster.start_all()?;
    for id in [1, 2, 3] {
        assert_eq!(state(cluster.node(3), id)?.as_deref(), Some("up"));
    }
    Ok(())
}

#[test]
fn a_disk_that_fills_in_mid_copy_costs_no_group_a_voter() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "2"]))?;
    let data_dir = cluster.dir().join("node-4");
    let disk = match SmallDisk::mount(&data_dir, 4 << 20) {
        Ok(disk) => disk,
        Err(error) => {
            eprintln!("skipped: {error}");
            return Ok(());
        }
    };
    // Neither group fits.
    let mut client = cluster.node(1).client()?;
    let value = "v".repeat(256 << 10);
    for number in 0..40 {
        set(&mut client, &format!("key:{number}"), &value)?;
    }
    cluster.add(&JOINER)?.start()?;
    let voters = |node: &NodeProcess| -> Result<Vec<usize>, ProcessError> {
        let groups = page(node, "/groups")?;
        let groups = groups["groups"].as_array().cloned().unwrap_or_default();
        Ok(groups.iter().filter_map(|it| Some(it["voters"].as_array()?.len())).collect())
    };
    eventually("node 4 to say that its disk is full", || {
        let voters = voters(cluster.node(1))?;
        assert!(voters.iter().all(|count| *count >= 3), "{voters:?}");
        let page = cluster.node(4).page("/healthz");
        Ok(page.is_ok_and(|(_, text)| text.contains("the disk is full")).then_some(()))
    })?;
    let order = json!({ "from": 1, "to": 4 });
    refused(cluster.node(2), "/groups/1/move", &order, (400, "the disk of node 4 is full"))?;
    set(&mut client, "key:0", "while full")?;
    assert_eq!(get(&mut cluster.node(3).client()?, "key:0")?.as_deref(), Some("while full"));
    assert!(voters(cluster.node(1))?.iter().all(|count| *count >= 3));
    cluster.node_mut(4).kill()?;
    drop(disk);
    Ok(())
}
