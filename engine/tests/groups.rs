//! Starting replicas: one at a time, from all that the log holds, and again after a failure.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Cluster, Counter, TestResult, number};
use logboat::{
    GroupError, GroupHandle, GroupId, GroupSpec, Node, NodeConfig, NodeId, SnapshotWriter,
    StateMachine,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;
use std::{io, thread};

const GROUP: GroupId = GroupId(7);

/// What goes wrong when a state machine takes over a snapshot.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Error,
    Panic,
    /// It refuses a count of so much.
    From(u64),
}

/// A counter that may fail to take over a snapshot.
struct Flaky {
    counter: Counter,
    fault: Fault,
}

impl StateMachine for Flaky {
    fn apply(&mut self, command: Bytes) -> Bytes {
        self.counter.apply(command)
    }

    fn query(&self, query: Bytes) -> Bytes {
        assert_ne!(&query[..], b"panic", "as the query says");
        self.counter.query(query)
    }

    fn snapshot(&self) -> SnapshotWriter {
        self.counter.snapshot()
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        match self.fault {
            Fault::None => self.counter.restore(reader),
            Fault::Error => Err(io::Error::other("as the test wants")),
            Fault::Panic => panic!("as the test wants"),
            Fault::From(limit) => {
                self.counter.restore(reader)?;
                let count = number(&self.counter.query(Bytes::new()));
                if count < limit { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
            }
        }
    }
}

/// A node that is a cluster by itself.
fn lone_node(directory: &Path) -> Result<Node, Box<dyn std::error::Error>> {
    let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
    let mut config = NodeConfig::new(NodeId(1), members, directory)?;
    config.wal.segment_bytes = 1 << 20;
    config.workers = 2;
    Ok(Node::start(config)?)
}

fn start(node: &Node, group: GroupId, fault: Fault) -> Result<GroupHandle, GroupError> {
    let machine = Box::new(Flaky { counter: Counter::default(), fault });
    node.create_group(GroupSpec { group, replicas: vec![NodeId(1)], preferred: None, machine })
}

async fn count_up(handle: &GroupHandle, to: u64) {
    handle.view().led().await;
    while number(&handle.propose(Bytes::from_static(b"+")).await.unwrap()) < to {}
}

async fn await_snapshots(node: &Node, count: u64) {
    while node.metrics().snapshots_written.get() < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until the replica has failed, and returns why. A read that panics on a busy machine is
/// refused before that, as one that takes too long.
async fn failure(handle: &GroupHandle) -> String {
    while handle.view().failure().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    handle.view().failure().unwrap().to_owned()
}

#[tokio::test]
async fn a_start_that_fails_leaves_the_log_to_the_next_one() -> TestResult {
    let directory = tempfile::tempdir()?;
    let node = lone_node(directory.path())?;
    let handle = start(&node, GROUP, Fault::None)?;
    count_up(&handle, 10).await;
    handle.compact();
    await_snapshots(&node, 1).await;
    count_up(&handle, 100).await;
    node.stop();
    drop((handle, node));

    let node = lone_node(directory.path())?;
    for fault in [Fault::Error, Fault::Panic] {
        let refused = start(&node, GROUP, fault);
        assert!(matches!(refused, Err(GroupError::Snapshot { .. })), "{fault:?}");
        assert!(node.group(GROUP).is_none());
    }
    let handle = start(&node, GROUP, Fault::None)?;
    handle.view().led().await;
    assert_eq!(number(&handle.read(Bytes::new()).await?), 100);
    Ok(())
}

#[tokio::test]
async fn of_starts_at_once_one_wins() -> TestResult {
    let directory = tempfile::tempdir()?;
    let node = lone_node(directory.path())?;
    for group in (1..=50).map(GroupId) {
        let barrier = Arc::new(Barrier::new(2));
        let starts = [(); 2].map(|()| {
            let (node, barrier) = (node.clone(), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                start(&node, group, Fault::None)
            })
        });
        let results = starts.map(|start| start.join().unwrap());
        let refused = results.iter().filter_map(|result| result.as_ref().err());
        let is_named =
            |error: &GroupError| matches!(error, GroupError::Exists(_) | GroupError::Starting(_));
        assert_eq!(refused.filter(|error| is_named(error)).count(), 1, "{group}");
        assert_eq!(results.iter().flatten().count(), 1, "{group}");
    }
    assert_eq!(node.groups().len(), 50);
    Ok(())
}

#[tokio::test]
async fn a_replica_that_failed_starts_again_from_what_it_had() -> TestResult {
    let directory = tempfile::tempdir()?;
    let node = lone_node(directory.path())?;
    let mut handle = start(&node, GROUP, Fault::None)?;
    let mut count = 0;
    for round in 1..=3 {
        count += 10;
        count_up(&handle, count).await;
        if round == 2 {
            handle.compact();
            await_snapshots(&node, 1).await;
        }
        assert!(matches!(start(&node, GROUP, Fault::None), Err(GroupError::Exists(_))));
        assert!(handle.read(Bytes::from_static(b"panic")).await.is_err());
        let failure = failure(&handle).await;
        assert!(failure.contains("query"), "{failure}");
        handle = start(&node, GROUP, Fault::None)?;
        handle.view().led().await;
        assert_eq!(number(&handle.read(Bytes::new()).await?), count);
    }
    Ok(())
}

fn with_replicas(replicas: &[u64]) -> GroupSpec {
    let machine = Box::<Counter>::default();
    let replicas = replicas.iter().copied().map(NodeId).collect();
    GroupSpec { group: GROUP, replicas, preferred: None, machine }
}

#[tokio::test]
async fn a_group_keeps_the_replicas_that_it_was_started_with() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"+").await;
    // A majority may do without it, and it would have nothing stored.
    cluster.await_applied(NodeId(1), GROUP, 1).await;
    cluster.restart_without_groups(NodeId(1))?;
    for given in [&[1][..], &[1, 2]] {
        let refused = cluster.node(NodeId(1)).create_group(with_replicas(given)).err().unwrap();
        let before = [1, 2, 3].map(NodeId);
        let is_named = matches!(&refused, GroupError::OtherReplicas { before: found, .. }
            if **found == before);
        assert!(is_named, "{refused}");
    }
    cluster.node(NodeId(1)).create_group(with_replicas(&[3, 2, 1]))?;
    cluster.await_applied(NodeId(1), GROUP, 1).await;
    Ok(())
}

#[test]
fn sets_that_no_group_can_have_are_refused() -> TestResult {
    let cluster = Cluster::new(3)?;
    let node = cluster.node(NodeId(1));
    for replicas in [&[][..], &[0, 1], &[1, 1, 2], &[1, 2, 99]] {
        let refused = node.create_group(with_replicas(replicas));
        assert!(matches!(refused, Err(GroupError::Replicas { .. })), "{replicas:?}");
    }
    let refused = node.create_group(with_replicas(&[2, 3]));
    assert!(matches!(refused, Err(GroupError::NotAReplica(GROUP))));
    let preferring = GroupSpec { preferred: Some(NodeId(3)), ..with_replicas(&[1, 2]) };
    assert!(matches!(node.create_group(preferring), Err(GroupError::Replicas { .. })));
    assert!(node.groups().is_empty());
    Ok(())
}

#[tokio::test]
async fn replicas_with_different_sets_name_each_other_and_elect_nobody() -> TestResult {
    let cluster = Cluster::new(3)?;
    let sets = [(1, &[1, 2, 3][..]), (2, &[1, 2]), (3, &[2, 3])];
    for (node, replicas) in sets {
        cluster.node(NodeId(node)).create_group(with_replicas(replicas))?;
    }
    // Of each two one at least hears of the other. One of the three may have missed both while it
    // started, and goes on alone.
    let names = |node| cluster.node(NodeId(node)).status().other_voters.first().copied();
    while sets.iter().filter_map(|(node, _)| names(*node)).count() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for (node, _) in sets {
        if let Some(named) = names(node) {
            assert_eq!(named.group, GROUP);
            assert_ne!(named.node, NodeId(node));
        }
        assert_eq!(cluster.node(NodeId(node)).status().leaders, 0);
    }
    Ok(())
}

/// Whether a snapshot lies in the directory that was received and not taken over.
fn has_received(directory: &Path) -> io::Result<bool> {
    let mut has = false;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        has |= path.extension().is_some_and(|extension| extension == "received");
        has |= path.is_dir() && has_received(&path)?;
    }
    Ok(has)
}

#[tokio::test]
async fn a_snapshot_that_the_state_machine_refuses_leaves_the_one_before() -> TestResult {
    let mut cluster = Cluster::configured(3, |config| config.snapshot_log_bytes = 1 << 30)?;
    cluster.start_group(GROUP)?;
    let behind = NodeId(3);
    let snapshots = |cluster: &Cluster, node| cluster.node(node).metrics().snapshots_written.get();
    for _ in 0..10 {
        cluster.propose(GROUP, b"+").await;
    }
    cluster.await_applied(behind, GROUP, 10).await;
    cluster.handle(behind, GROUP).compact();
    while snapshots(&cluster, behind) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.stop(behind);
    let others = [NodeId(1), NodeId(2)];
    cluster.leader_among(&others, GROUP).await;
    for count in 11..=100 {
        assert_eq!(number(&cluster.propose(GROUP, b"+").await), count);
    }
    for node in others {
        cluster.await_applied(node, GROUP, 100).await;
        cluster.handle(node, GROUP).compact();
        while snapshots(&cluster, node) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    cluster.restart_without_groups(behind)?;
    let start = |cluster: &Cluster, fault| {
        let machine = Box::new(Flaky { counter: Counter::default(), fault });
        cluster.node(behind).create_group(GroupSpec { machine, ..with_replicas(&[1, 2, 3]) })
    };
    // It starts from the snapshot that it has, and again when the leader's has been refused.
    for _ in 0..2 {
        let handle = start(&cluster, Fault::From(50))?;
        let failure = failure(&handle).await;
        assert!(failure.contains("the leader's snapshot"), "{failure}");
        while has_received(cluster.directory(behind))? {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    start(&cluster, Fault::None)?;
    cluster.await_applied(behind, GROUP, 100).await;
    Ok(())
}

#[tokio::test]
async fn who_failed_lets_its_followers_go_even_if_it_does_not_start_again() -> TestResult {
    let cluster = Cluster::configured(3, |config| config.snapshot_log_bytes = 1 << 30)?;
    let start = |node, fault| {
        let machine = Box::new(Flaky { counter: Counter::default(), fault });
        cluster.node(node).create_group(GroupSpec { machine, ..with_replicas(&[1, 2, 3]) })
    };
    for node in cluster.ids() {
        start(node, Fault::None)?;
    }
    cluster.propose(GROUP, b"+").await;
    let leader = cluster.leader(GROUP).await;
    let others: Vec<_> = cluster.ids().into_iter().filter(|node| *node != leader).collect();
    cluster.handle(leader, GROUP).compact();
    await_snapshots(cluster.node(leader), 1).await;
    for node in others.iter().copied() {
        cluster.await_applied(node, GROUP, 1).await;
    }
    // Both fail, and the follower is bound to the leader.
    for node in [others[0], leader] {
        let panic = Bytes::from_static(b"panic");
        assert!(cluster.handle(node, GROUP).read_local(panic).await.is_err());
        assert!(cluster.handle(node, GROUP).view().failure().is_some());
    }
    let refused = start(leader, Fault::Error);
    assert!(matches!(refused, Err(GroupError::Snapshot { .. })));
    start(others[0], Fault::None)?;
    tokio::time::timeout(Duration::from_secs(25), cluster.leader_among(&others, GROUP)).await?;
    start(leader, Fault::None)?;
    cluster.propose(GROUP, b"+").await;
    Ok(())
}
