//! What a node says of its replicas to those who listen.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use common::{Cluster, TestResult};
use logboat::{Events, GroupHandle, GroupId, NodeEvent, NodeId, RoleKind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
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

/// A waker that looks at a replica at the very moment at which it is called.
struct Look {
    at: GroupHandle,
    seen: Mutex<Option<(RoleKind, Option<NodeId>)>>,
    thread: std::thread::Thread,
}

impl Wake for Look {
    fn wake(self: Arc<Self>) {
        *self.seen.lock().unwrap() = Some((self.at.view().role(), self.at.view().leader()));
        self.thread.unpark();
    }
}

/// Waits until `of` says that its own node leads. Returns what its replica was seen to be when that
/// was told, if it was waited for by then.
fn seen_when_told(mut events: Events, at: GroupHandle, own: NodeId) -> Option<RoleKind> {
    loop {
        let (seen, thread) = (Mutex::new(None), std::thread::current());
        let look = Arc::new(Look { at: at.clone(), seen, thread });
        let waker = Arc::clone(&look).into();
        let mut next = pin!(events.next());
        let event = loop {
            match next.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(event) => break event.unwrap(),
                Poll::Pending => std::thread::park(),
            }
        };
        if new_leader(&event) == Some(own) {
            let seen = look.seen.lock().unwrap().take();
            return seen.map(|(role, leader)| {
                assert_eq!(leader, Some(own));
                role
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_of_a_leader_finds_it_leading() -> TestResult {
    let cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    let mut looks = 0;
    while looks < 3 {
        let leader = cluster.leader(GROUP).await;
        let successor = cluster.ids().into_iter().find(|node| *node != leader).unwrap();
        let events = cluster.node(successor).events();
        let at = cluster.handle(successor, GROUP);
        let told = std::thread::spawn(move || seen_when_told(events, at, successor));
        while cluster.handle(leader, GROUP).transfer(successor).await.is_err()
            && cluster.leader(GROUP).await != successor
        {}
        if let Some(role) = tokio::task::spawn_blocking(|| told.join().unwrap()).await? {
            assert_eq!(role, RoleKind::Leader);
            looks += 1;
        }
    }
    Ok(())
}
