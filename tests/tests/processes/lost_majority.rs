//! A cluster that loses a majority of its nodes for good, and goes on from what is left.

use crate::support::{TestResult, get, program, set, spec};
use logboat_tests::process::{Cluster, ProcessError, eventually};
use std::fs;
use std::process::Output;

/// How many keys are written.
const KEYS: usize = 60;

/// Runs `logboat recover` on the directories of some nodes.
fn recover(cluster: &Cluster, what: &[&str], nodes: &[usize]) -> Result<Output, ProcessError> {
    let mut command = program().command();
    command.arg("recover").args(what);
    for node in nodes {
        command.arg("--data-dir").arg(&cluster.node(*node).spec().data_dir);
    }
    Ok(command.output()?)
}

fn error(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes keys that end in this letter through a node.
fn write(cluster: &Cluster, node: usize, letter: char) -> TestResult {
    let mut client = cluster.node(node).client()?;
    for number in 0..KEYS {
        set(&mut client, &format!("key:{number}:{letter}"), "value")?;
    }
    Ok(())
}

/// Reads the same keys through a node.
fn check(cluster: &Cluster, node: usize, letter: char) -> TestResult {
    let mut client = cluster.node(node).client()?;
    for number in 0..KEYS {
        let key = format!("key:{number}:{letter}");
        assert_eq!(get(&mut client, &key)?.as_deref(), Some("value"), "{key}");
    }
    Ok(())
}

/// Waits until a node is ready: the nodes that were given up have left the cluster's table.
fn serves(cluster: &Cluster, node: usize) -> Result<(), ProcessError> {
    eventually("a node to be ready", || {
        Ok(cluster.node(node).page("/readyz").is_ok_and(|(code, _)| code == 200).then_some(()))
    })
}

#[test]
fn one_of_three_nodes_goes_on_alone_and_lets_none_of_the_others_in_again() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "4", "--snapshot-log-bytes", "4096"]))?;
    write(&cluster, 1, 'a')?;
    // What is acknowledged from now on is on nodes 1 and 2.
    cluster.node_mut(3).kill()?;
    write(&cluster, 1, 'b')?;
    let in_use = recover(&cluster, &["plan", "--lost", "2,3"], &[1])?;
    assert!(error(&in_use).contains("in use"), "{in_use:?}");
    cluster.node_mut(1).kill()?;
    cluster.node_mut(2).kill()?;
    fs::remove_dir_all(&cluster.node(2).spec().data_dir)?;

    // Node 3 may come back as long as nobody says that it does not.
    let waits = error(&recover(&cluster, &["apply", "--lost", "2"], &[1])?);
    assert!(waits.contains("node 3 is neither named as lost nor here"), "{waits}");
    let unknown = error(&recover(&cluster, &["apply", "--lost", "2,3,9"], &[1])?);
    assert!(unknown.contains("no directory knows node 9"), "{unknown}");
    let here = error(&recover(&cluster, &["apply", "--lost", "1,2,3"], &[1])?);
    assert!(here.contains("node 1 is named as lost"), "{here}");

    let plan = text(&recover(&cluster, &["plan", "--lost", "2,3"], &[1])?);
    assert_eq!(plan.matches("starts over from node 1").count(), 5, "{plan}");
    let json = text(&recover(&cluster, &["plan", "--json", "--lost", "2,3"], &[1])?);
    let json: serde_json::Value = serde_json::from_str(&json)?;
    assert_eq!(json["groups"].as_array().map(Vec::len), Some(5), "{json}");
    assert_eq!(json["groups"][0]["verdict"], "starts_over");
    assert!(json["groups"][1]["copies"][0]["last_index"].as_u64() > Some(1), "{json}");

    let done = text(&recover(&cluster, &["apply", "--lost", "2,3"], &[1])?);
    assert!(done.starts_with("5 groups start over"), "{done}");
    let again = text(&recover(&cluster, &["apply", "--lost", "2,3"], &[1])?);
    assert!(again.contains("nothing was done"), "{again}");

    cluster.node_mut(1).start()?;
    serves(&cluster, 1)?;
    check(&cluster, 1, 'a')?;
    check(&cluster, 1, 'b')?;
    write(&cluster, 1, 'c')?;
    // One that was given up comes back with all its data, the other one on an empty directory, of
    // which nobody can say that it was the node's.
    for (node, told) in [(3, "node 3 has left the cluster"), (2, "unknown node peer=1")] {
        cluster.node_mut(node).start()?;
        eventually("the node to be told", || {
            Ok(cluster.node(node).log().contains(told).then_some(()))
        })?;
    }
    // A restart changes nothing.
    cluster.node_mut(1).kill()?;
    cluster.node_mut(1).start()?;
    serves(&cluster, 1)?;
    check(&cluster, 1, 'b')?;
    check(&cluster, 1, 'c')
}

#[test]
fn two_of_five_nodes_go_on_together() -> TestResult {
    let options = ["--groups", "2", "--replicas", "5"];
    let mut cluster = Cluster::start(&spec(5, &options))?;
    cluster.node_mut(4).kill()?;
    cluster.node_mut(5).kill()?;
    // All three that are left hold what is acknowledged.
    write(&cluster, 2, 'a')?;
    [1, 2, 3].into_iter().try_for_each(|node| cluster.node_mut(node).kill())?;
    let few = text(&recover(&cluster, &["plan", "--lost", "4,5"], &[1, 2, 3])?);
    assert_eq!(few.matches("goes on by itself").count(), 3, "{few}");
    let done = text(&recover(&cluster, &["apply", "--force"], &[1, 2])?);
    assert!(done.contains("node 3,4,5 is never let in again"), "{done}");
    for node in [1, 2] {
        cluster.node_mut(node).start()?;
    }
    [1, 2].into_iter().try_for_each(|node| serves(&cluster, node))?;
    for node in [1, 2] {
        check(&cluster, node, 'a')?;
        write(&cluster, node, 'b')?;
    }
    // The copy that was not chosen learns: it takes part in what is written.
    let applied = |cluster: &Cluster, node: usize| -> Result<f64, ProcessError> {
        cluster.node(node).metric("logboat_applied_entries_total")
    };
    for node in [1, 2] {
        eventually("each node to apply", || {
            Ok((applied(&cluster, node)? >= KEYS as f64).then_some(()))
        })?;
    }
    Ok(())
}
