//! Nodes that can't go on with what they have, and are mended from the others by themselves.

use crate::support::{TestResult, get, set, spec};
use logboat_tests::process::{Cluster, NodeProcess, ProcessError, eventually};
use std::fs;
use std::path::{Path, PathBuf};

/// How many keys are written.
const KEYS: usize = 40;

fn write(node: &NodeProcess, value: &str) -> TestResult {
    let mut client = node.client()?;
    for number in 0..KEYS {
        set(&mut client, &format!("key:{number}"), value)?;
    }
    Ok(())
}

fn check(node: &NodeProcess, value: &str) -> TestResult {
    let mut client = node.client()?;
    for number in 0..KEYS {
        assert_eq!(get(&mut client, &format!("key:{number}"))?.as_deref(), Some(value), "{number}");
    }
    Ok(())
}

/// Waits until a node serves under this id.
fn serves_as(node: &NodeProcess, id: u64) -> Result<(), ProcessError> {
    eventually(&format!("a node to serve as node {id}"), || {
        let is_it = node.status().is_ok_and(|status| status["node_id"] == id);
        let is_well = node.page("/healthz").is_ok_and(|(code, _)| code == 200);
        Ok((is_it && is_well).then_some(()))
    })
}

/// Waits until these are the voters of every group, by what a node says.
fn voters_are(node: &NodeProcess, voters: &[u64]) -> Result<(), ProcessError> {
    eventually(&format!("each group to have the voters {voters:?}"), || {
        let (_, page) = node.page("/groups")?;
        let page: serde_json::Value = serde_json::from_str(&page).unwrap_or_default();
        let groups = page["groups"].as_array().cloned().unwrap_or_default();
        let are = |group: &serde_json::Value| {
            let of = group["voters"].as_array().into_iter().flatten();
            let mut of: Vec<_> = of.filter_map(serde_json::Value::as_u64).collect();
            of.sort_unstable();
            of == voters && group["learners"].as_array().is_some_and(Vec::is_empty)
        };
        Ok((!groups.is_empty() && groups.iter().all(are)).then_some(()))
    })
}

/// Waits until a node has left the cluster, by what another one says.
fn has_left(node: &NodeProcess, id: u64) -> Result<(), ProcessError> {
    eventually(&format!("node {id} to leave the cluster"), || {
        let (_, page) = node.page("/nodes")?;
        let page: serde_json::Value = serde_json::from_str(&page).unwrap_or_default();
        let nodes = page["nodes"].as_array().cloned().unwrap_or_default();
        Ok((!nodes.is_empty() && nodes.iter().all(|node| node["id"] != id)).then_some(()))
    })
}

/// Flips a bit in the header of a segment of a node's log: no checksum in there can be verified
/// without it.
fn damage_header(node: &NodeProcess) -> std::io::Result<PathBuf> {
    let path = node.wal_dir().join("0000000001.wal");
    let mut content = fs::read(&path)?;
    content[16] ^= 1;
    fs::write(&path, content)?;
    Ok(path)
}

/// Ends a node in good order.
fn end(node: &mut NodeProcess) -> Result<(), ProcessError> {
    node.terminate()?;
    node.wait().map(drop)
}

/// Flips a bit in the first file of a directory that holds this text, somewhere in it.
fn flip(dir: &Path, text: &[u8]) -> std::io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let mut content = fs::read(&path)?;
        if let Some(at) = content.windows(text.len()).position(|window| window == text) {
            content[at] ^= 1;
            fs::write(&path, content)?;
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn a_damaged_replica_is_mended_and_the_node_says_from_whom() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "2"]))?;
    let value = "a value that stands nowhere else";
    set(&mut cluster.node(1).client()?, "key", value)?;
    voters_are(cluster.node(3), &[1, 2, 3])?;
    // A write is acknowledged before all nodes have it.
    eventually("the damage", || {
        end(cluster.node_mut(3))?;
        let is_there = flip(&cluster.node(3).wal_dir(), value.as_bytes())?;
        cluster.node_mut(3).start()?;
        Ok(is_there.then_some(()))
    })?;
    let mended = eventually("the replica to be mended", || {
        let status = cluster.node(3).status().unwrap_or_default();
        Ok(status["mended"].get(0).cloned())
    })?;
    let reason = mended["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("is damaged at offset"), "{mended}");
    assert!(mended["from"] == 1 || mended["from"] == 2, "{mended}");
    eventually("nothing to be amiss", || {
        let status = cluster.node(3).status()?;
        Ok(status["failed"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })?;
    assert_eq!(get(&mut cluster.node(3).client()?, "key")?.as_deref(), Some(value));
    Ok(())
}

#[test]
fn damage_that_can_t_be_pinned_has_a_node_join_again_by_itself() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "4"]))?;
    write(cluster.node(1), "before")?;
    end(cluster.node_mut(3))?;
    let file = damage_header(cluster.node(3))?.display().to_string();
    cluster.node_mut(3).start()?;
    serves_as(cluster.node(3), 4)?;
    write(cluster.node(1), "meanwhile")?;
    voters_are(cluster.node(3), &[1, 2, 4])?;
    has_left(cluster.node(3), 3)?;
    check(cluster.node(3), "meanwhile")?;
    let log = cluster.node(3).log();
    assert!(log.contains(&format!("{file} is damaged at offset 0")), "{log}");
    assert!(log.contains("this node joins again as a new one"), "{log}");
    assert_eq!(cluster.node(3).status()?["former"]["node_id"], 3);
    let former = cluster.node(3).spec().data_dir.join("former-3");
    eventually("what it had to be deleted", || Ok((!former.exists()).then_some(())))?;
    // The same command starts it again, beside one of the others alone.
    cluster.node_mut(3).kill()?;
    cluster.node_mut(1).kill()?;
    cluster.node_mut(3).start()?;
    serves_as(cluster.node(3), 4)?;
    check(cluster.node(3), "meanwhile")
}

#[test]
fn a_node_that_was_given_up_comes_back_as_a_new_one() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "4", "--lost-after", "2s"]))?;
    write(cluster.node(1), "before")?;
    cluster.add(&["--election-timeout-ms", "500", "--wal-segment-bytes", "262144"])?.start()?;
    serves_as(cluster.node(4), 4)?;
    // One with which the cluster was made, and one that has joined it.
    for (place, id, next) in [(3, 3, 5), (4, 4, 6)] {
        cluster.node_mut(place).kill()?;
        has_left(cluster.node(1), id)?;
        cluster.node_mut(place).start()?;
        serves_as(cluster.node(place), next)?;
        check(cluster.node(place), "before")?;
        let data_dir = &cluster.node(place).spec().data_dir;
        assert!(data_dir.join(format!("former-{id}/IDENTITY")).exists());
    }
    Ok(())
}

#[test]
fn a_node_that_may_be_needed_waits_and_says_so() -> TestResult {
    let mut cluster = Cluster::start(&spec(3, &["--groups", "2"]))?;
    write(cluster.node(1), "before")?;
    end(cluster.node_mut(3))?;
    cluster.node_mut(2).kill()?;
    damage_header(cluster.node(3))?;
    cluster.node_mut(3).start()?;
    eventually("the node to say that it waits", || {
        let log = cluster.node(3).log();
        let is_said = log.contains("waits until the cluster gives it up")
            && log.contains("have no leader without node 3");
        Ok(is_said.then_some(()))
    })?;
    assert!(cluster.node(3).spec().data_dir.join("IDENTITY").exists());
    // A crash of it changes nothing.
    cluster.node_mut(3).kill()?;
    cluster.node_mut(3).start()?;
    cluster.node_mut(2).start()?;
    serves_as(cluster.node(3), 4)?;
    check(cluster.node(3), "before")
}
