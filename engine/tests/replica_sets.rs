//! Groups of one id that are started with different sets of replicas: of two, one acknowledges.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Cluster, Counter, TestResult, number};
use logboat::{GroupHandle, GroupId, GroupSpec, NodeId, RequestError};
use std::time::Duration;

const GROUP: GroupId = GroupId(7);

fn start(cluster: &Cluster, node: u64, replicas: &[u64]) -> GroupHandle {
    let replicas = replicas.iter().copied().map(NodeId).collect();
    let machine = Box::<Counter>::default();
    let spec = GroupSpec { group: GROUP, replicas, preferred: None, machine };
    cluster.node(NodeId(node)).create_group(spec).unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until the replica has failed, and returns why.
async fn failure(handle: &GroupHandle) -> String {
    until(|| handle.view().failure().is_some()).await;
    handle.view().failure().unwrap().to_owned()
}

/// Counts up at the leader, which is one of these nodes.
async fn propose_among(cluster: &Cluster, nodes: &[NodeId]) -> u64 {
    loop {
        let leader = cluster.leader_among(nodes, GROUP).await;
        match cluster.handle(leader, GROUP).propose(Bytes::from_static(b"+")).await {
            Ok(answer) => return number(&answer),
            Err(RequestError::NotLeader { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits until the node says that another one was started with other replicas.
async fn other_voters(cluster: &Cluster, node: u64) -> NodeId {
    let named = || cluster.node(NodeId(node)).status().other_voters;
    until(|| !named().is_empty()).await;
    assert_eq!(named()[0].group, GROUP);
    named()[0].node
}

#[tokio::test]
async fn of_sets_that_share_no_node_the_later_one_is_refused() -> TestResult {
    let cluster = Cluster::new(3)?;
    let first = start(&cluster, 1, &[1]);
    first.view().led().await;
    cluster.propose_at(NodeId(1), GROUP, b"+").await;
    for node in [2, 3] {
        let reason = failure(&start(&cluster, node, &[2, 3])).await;
        assert!(reason.contains("on 2, 3: node 1 has one with replicas on 1"), "{reason}");
        assert_eq!(cluster.node(NodeId(node)).status().failed[0].group, GROUP);
        assert_eq!(other_voters(&cluster, node).await, NodeId(1));
    }
    assert_ne!(other_voters(&cluster, 1).await, NodeId(1));
    assert_eq!(number(&cluster.propose_at(NodeId(1), GROUP, b"+").await), 2);
    Ok(())
}

#[tokio::test]
async fn a_replica_with_a_set_of_its_own_is_refused_beside_the_group_and_corrected() -> TestResult {
    let cluster = Cluster::new(3)?;
    for node in [1, 2] {
        start(&cluster, node, &[1, 2, 3]);
    }
    propose_among(&cluster, &[NodeId(1), NodeId(2)]).await;
    let reason = failure(&start(&cluster, 3, &[3])).await;
    assert!(reason.contains("on 3: node"), "{reason}");
    assert!(reason.contains("on 1, 2, 3"), "{reason}");
    // It was founded with none, so it may be started with the right ones.
    let corrected = start(&cluster, 3, &[3, 1, 2]);
    cluster.await_applied(NodeId(3), GROUP, 1).await;
    assert_eq!(corrected.view().failure(), None);
    Ok(())
}

#[tokio::test]
async fn of_different_sets_that_are_started_at_once_one_acknowledges_at_the_most() -> TestResult {
    let cluster = Cluster::new(3)?;
    let others = [1, 2].map(|node| start(&cluster, node, &[1, 2, 3]));
    let lone = start(&cluster, 3, &[3]);
    until(|| lone.view().failure().is_some() || lone.view().leader().is_some()).await;
    if lone.view().failure().is_none() {
        for other in &others {
            failure(other).await;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_group_that_was_founded_apart_ends_when_it_hears_the_leader_of_the_other() -> TestResult {
    let cluster = Cluster::new(3)?;
    let lone = {
        // It was founded as a node of the cluster, and is alone then.
        until(|| [1, 2, 3].iter().all(|node| is_founded(&cluster, *node))).await;
        cluster.isolate(NodeId(3));
        start(&cluster, 3, &[3])
    };
    lone.view().led().await;
    cluster.propose_at(NodeId(3), GROUP, b"+").await;
    for node in [1, 2] {
        start(&cluster, node, &[1, 2, 3]);
    }
    let others = [NodeId(1), NodeId(2)];
    propose_among(&cluster, &others).await;
    cluster.heal(NodeId(3));
    let reason = failure(&lone).await;
    assert!(reason.contains("leads a group of this id"), "{reason}");
    assert!(reason.contains("on 3"), "{reason}");
    assert_eq!(propose_among(&cluster, &others).await, 2);
    Ok(())
}

fn is_founded(cluster: &Cluster, node: u64) -> bool {
    cluster.node(NodeId(node)).status().waiting_for.is_empty()
}
