//! Replicas that are removed, beside all else that a caller may do with them: nothing of a former
//! one comes back, and the other groups of the node go on.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Cluster, Counter, TestResult, number};
use logboat::{
    Change, GroupError, GroupHandle, GroupId, GroupSpec, Node, NodeConfig, NodeId, SnapshotWriter,
    StateMachine,
};
use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const GROUP: GroupId = GroupId(7);
/// A group of the same node, which is to go on.
const OTHER: GroupId = GroupId(8);

/// A node that is a cluster by itself.
fn lone_node(directory: &Path) -> Result<Node, Box<dyn std::error::Error>> {
    let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
    let mut config = NodeConfig::new(NodeId(1), members, directory)?;
    config.wal.segment_bytes = 1 << 20;
    config.workers = 1;
    config.state_machine_timeout = Duration::from_secs(60);
    Ok(Node::start(config)?)
}

fn found(node: &Node, group: GroupId, machine: impl StateMachine) -> GroupHandle {
    let (replicas, preferred, machine) = (vec![NodeId(1)], None, Box::new(machine));
    node.create_group(GroupSpec { group, replicas, preferred, machine }).unwrap()
}

async fn count_up(handle: &GroupHandle, to: u64) {
    handle.view().led().await;
    while number(&handle.propose(Bytes::from_static(b"+")).await.unwrap()) < to {}
}

/// Begins something, and gives up at once. Returns its outcome if it was done by then.
async fn begin<T>(begun: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        outcome = begun => Some(outcome),
        () = ready(()) => None,
    }
}

/// Starts the next replica, as soon as it may.
async fn join(node: &Node, group: GroupId) -> GroupHandle {
    loop {
        match node.join_group(group, Box::<Counter>::default()) {
            Ok(handle) => return handle,
            Err(GroupError::Removed(_) | GroupError::Exists(_)) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Checks that a replica began empty, and that its node takes writes.
async fn check_next(node: &Node, next: &GroupHandle, count: u64) {
    assert_eq!(next.view().applied().0, 0);
    count_up(&node.group(OTHER).unwrap(), count).await;
    assert_eq!(next.view().failure(), None);
}

#[tokio::test]
async fn a_replica_that_learns_that_it_is_gone_is_removed_by_its_node_as_well() -> TestResult {
    let cluster = Cluster::new(4)?;
    let (fourth, voters) = (NodeId(4), [1, 2, 3].map(NodeId));
    let groups = || (10..30).map(GroupId);
    let found = |group, nodes: &[NodeId]| {
        for node in nodes {
            let (replicas, preferred) = (nodes.to_vec(), None);
            let machine = Box::<Counter>::default();
            let spec = GroupSpec { group, replicas, preferred, machine };
            cluster.node(*node).create_group(spec).unwrap();
        }
    };
    groups().for_each(|group| found(group, &[1, 2, 3, 4].map(NodeId)));
    for group in groups() {
        let leader = loop {
            let all = [1, 2, 3, 4].map(NodeId);
            let leader = cluster.handle(cluster.leader_among(&all, group).await, group);
            let changes = [Change::Demote(fourth), Change::Prefer(NodeId(1))];
            if leader.change(&changes).await.is_ok() {
                break cluster.leader_among(&voters, group).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let former = cluster.node(fourth).group(group).unwrap();
        let leader = cluster.handle(leader, group);
        while leader.change(&[Change::Remove(fourth)]).await.is_err()
            && cluster.node(fourth).group(group).is_some()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while !former.view().is_gone() {
            tokio::task::yield_now().await;
        }
        let _ = cluster.node(fourth).stop_group(group).await;
        match cluster.node(fourth).remove_group(group).await {
            Ok(()) | Err(GroupError::NotStored(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(cluster.node(fourth).stored_groups().iter().all(|stored| stored.group != group));
        let next = join(cluster.node(fourth), group).await;
        assert_eq!(next.view().applied().0, 0);
    }
    found(OTHER, &[fourth]);
    count_up(&cluster.handle(fourth, OTHER), 1).await;
    Ok(())
}

#[tokio::test]
async fn what_is_stored_goes_even_if_the_caller_gives_up() -> TestResult {
    let directory = tempfile::tempdir()?;
    let node = lone_node(directory.path())?;
    count_up(&found(&node, GROUP, Counter::default()), 5).await;
    count_up(&found(&node, OTHER, Counter::default()), 1).await;
    node.stop();
    drop(node);

    let node = lone_node(directory.path())?;
    found(&node, OTHER, Counter::default());
    assert!(begin(node.remove_group(GROUP)).await.is_none_or(|outcome| outcome.is_ok()));
    let next = join(&node, GROUP).await;
    check_next(&node, &next, 2).await;
    Ok(())
}

#[tokio::test]
async fn nothing_starts_in_the_place_of_a_stopped_replica_that_is_being_removed() -> TestResult {
    let directory = tempfile::tempdir()?;
    let node = lone_node(directory.path())?;
    count_up(&found(&node, OTHER, Counter::default()), 1).await;
    count_up(&found(&node, GROUP, Counter::default()), 5).await;
    for round in 2..20 {
        node.stop_group(GROUP).await?;
        assert!(begin(node.remove_group(GROUP)).await.is_none_or(|outcome| outcome.is_ok()));
        // Whoever comes later waits for the same.
        match node.remove_group(GROUP).await {
            Ok(()) | Err(GroupError::NotStored(_)) => {}
            Err(error) => panic!("{error}"),
        }
        join(&node, GROUP).await;
        node.stop_group(GROUP).await?;
        assert!(begin(node.remove_group(GROUP)).await.is_none_or(|outcome| outcome.is_ok()));
        let next = join(&node, GROUP).await;
        check_next(&node, &next, round).await;
    }
    Ok(())
}

/// A counter whose snapshots wait to be written until they are let go.
struct Held {
    counter: Counter,
    captured: Sender<()>,
    /// Of the first snapshot.
    let_go: parking_lot::Mutex<Option<Receiver<()>>>,
}

impl StateMachine for Held {
    fn apply(&mut self, command: Bytes) -> Bytes {
        self.counter.apply(command)
    }

    fn query(&self, query: Bytes) -> Bytes {
        self.counter.query(query)
    }

    fn snapshot(&self) -> SnapshotWriter {
        let (writer, let_go) = (self.counter.snapshot(), self.let_go.lock().take());
        let _ = self.captured.send(());
        Box::new(move |file| {
            let_go.into_iter().for_each(|let_go| let_go.recv().unwrap_or(()));
            writer(file)
        })
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        self.counter.restore(reader)
    }
}

#[tokio::test]
async fn a_snapshot_that_waited_to_be_written_goes_with_its_replica() -> TestResult {
    let directory = tempfile::tempdir()?;
    let node = lone_node(directory.path())?;
    let (captured, captures) = channel();
    let (go, held) = channel();
    let machine = |let_go| {
        let (captured, let_go) = (captured.clone(), parking_lot::Mutex::new(let_go));
        Held { counter: Counter::default(), captured, let_go }
    };
    // The one that is written first holds up the other.
    let other = found(&node, OTHER, machine(Some(held)));
    let former = found(&node, GROUP, machine(None));
    for handle in [&other, &former] {
        count_up(handle, 5).await;
        handle.compact();
        captures.recv()?;
        // What it captured is handed over by now.
        handle.read(Bytes::new()).await?;
    }
    node.remove_group(GROUP).await?;
    go.send(())?;
    while node.metrics().snapshots_written.get() < 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Its turn comes before that of a later one.
    count_up(&other, 10).await;
    other.compact();
    while node.metrics().snapshots_written.get() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let next = join(&node, GROUP).await;
    check_next(&node, &next, 11).await;
    Ok(())
}
