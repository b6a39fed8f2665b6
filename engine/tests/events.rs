//! What a node says of its replicas to those who listen.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use common::{Cluster, TestResult};
use logboat::{Events, GroupId, NodeEvent, NodeId};
use std::time::Duration;

const GROUP: GroupId = GroupId(1);

/// Waits for an event that `wanted` makes something of.
async fn wait_for<T>(events: &mut Events, wanted: impl Fn(&NodeEvent) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = wanted(&events.next().await.unwrap()) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap()
}

fn new_leader(event: &NodeEvent) -> Option<NodeId> {
    match event {
        NodeEvent::LeaderChanged { group: GROUP, leader, .. } => *leader,
        _ => None,
    }
}

#[tokio::test]
async fn a_lost_leader_and_its_successor_are_told() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    let mut events: Vec<_> = cluster.ids().iter().map(|id| cluster.node(*id).events()).collect();
    cluster.start_group(GROUP)?;
    let leader = cluster.leader(GROUP).await;
    cluster.stop(leader);
    let others: Vec<_> = cluster.ids().into_iter().filter(|node| *node != leader).collect();
    let successor = cluster.leader_among(&others, GROUP).await;
    while wait_for(&mut events[successor.0 as usize - 1], new_leader).await != successor {}
    // A node that has stopped says nothing any more.
    let stopped = &mut events[leader.0 as usize - 1];
    while stopped.next().await.is_some() {}
    Ok(())
}

#[tokio::test]
async fn snapshots_and_failures_are_told_with_their_reasons() -> TestResult {
    let cluster = Cluster::new(3)?;
    let mut events = cluster.node(NodeId(2)).events();
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"+").await;
    cluster.await_applied(NodeId(2), GROUP, 1).await;
    cluster.handle(NodeId(2), GROUP).compact();
    let last = wait_for(&mut events, |event| match event {
        NodeEvent::SnapshotMade { group: GROUP, last } => Some(*last),
        _ => None,
    });
    assert!(last.await.index.0 >= 2);
    cluster.handle(NodeId(2), GROUP).view().led().await;
    let leader = cluster.leader(GROUP).await;
    // It makes all replicas fail, so that nobody answers.
    let panic = bytes::Bytes::from_static(b"panic");
    assert!(cluster.handle(leader, GROUP).propose(panic).await.is_err());
    let reason = wait_for(&mut events, |event| match event {
        NodeEvent::Failed { group: GROUP, reason } => Some(reason.clone()),
        _ => None,
    });
    let reason = reason.await;
    assert!(reason.contains("as the command says"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn a_replica_of_which_its_peers_have_not_heard_is_orphaned() -> TestResult {
    let cluster = Cluster::new(3)?;
    let mut events = cluster.node(NodeId(1)).events();
    cluster.start_with(NodeId(1), GROUP, Box::<common::Counter>::default())?;
    let is_orphaned =
        |event: &NodeEvent| (*event == NodeEvent::Orphaned { group: GROUP }).then_some(());
    wait_for(&mut events, is_orphaned).await;
    // It takes part as soon as there are others.
    for node in [NodeId(2), NodeId(3)] {
        cluster.start_with(node, GROUP, Box::<common::Counter>::default())?;
    }
    wait_for(&mut events, |event| new_leader(event).map(drop)).await;
    Ok(())
}
