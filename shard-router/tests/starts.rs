//! A replica whose state machine hangs at its start holds up neither the others nor a stop.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use bytes::Bytes;
use logboat::{GroupId, Node, NodeConfig, NodeId, SnapshotWriter, StateMachine};
use logboat_router::{Plan, Router, RouterStartError};
use parking_lot::{Condvar, Mutex};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How many ranges there are.
const RANGES: u64 = 3;

/// The group that hangs. It is not the last that is started.
const HANGING: GroupId = GroupId(2);

/// What state machines pass that take over a snapshot.
#[derive(Default)]
struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, is_shut: bool) {
        *self.is_shut.lock() = is_shut;
        self.opened.notify_all();
    }
}

/// Counts commands.
struct Counter {
    count: u8,
    gate: Arc<Gate>,
}

impl StateMachine for Counter {
    fn apply(&mut self, _command: Bytes) -> Bytes {
        self.count += 1;
        self.query(Bytes::new())
    }

    fn query(&self, _query: Bytes) -> Bytes {
        Bytes::copy_from_slice(&[self.count])
    }

    fn snapshot(&self) -> SnapshotWriter {
        let count = [self.count];
        Box::new(move |writer| writer.write_all(&count))
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        let mut is_shut = self.gate.is_shut.lock();
        while *is_shut {
            self.gate.opened.wait(&mut is_shut);
        }
        drop(is_shut);
        let mut count = [0];
        reader.read_exact(&mut count)?;
        self.count = count[0];
        Ok(())
    }
}

fn node(dir: &Path) -> Node {
    let members = [(NodeId(1), "127.0.0.1:0".to_owned())].into();
    let mut config = NodeConfig::new(NodeId(1), members, dir).unwrap();
    config.workers = 1;
    config.wal.segment_bytes = 1 << 20;
    config.state_machine_timeout = Duration::from_millis(100);
    Node::start(config).unwrap()
}

fn plan() -> Plan {
    Plan {
        layout: "plain".into(),
        groups: Some(RANGES as usize),
        keeps_layout: false,
        edge_bits: 16,
        split_keys: None,
        replicas: 1,
    }
}

/// A node that is a cluster by itself; the gate is that of the group that hangs.
async fn start(dir: &Path, gate: &Arc<Gate>) -> Router {
    let gate = Arc::clone(gate);
    let machine = move |range: &logboat_router::Range| -> Box<dyn StateMachine> {
        let gate = if range.group == HANGING { Arc::clone(&gate) } else { Arc::default() };
        Box::new(Counter { count: 0, gate })
    };
    Router::start(node(dir), plan(), machine).await.unwrap()
}

async fn propose(router: &Router, group: GroupId) -> u8 {
    let map = router.map();
    let range = map.ranges().iter().find(|range| range.group == group).unwrap();
    router.propose(range, Bytes::new()).await.unwrap()[0]
}

/// A directory in which every group has counted one command, and the one that hangs a snapshot.
async fn made() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let router = start(dir.path(), &Arc::default()).await;
    for range in router.map().ranges() {
        assert_eq!(propose(&router, range.group).await, 1);
    }
    router.node().group(HANGING).unwrap().compact();
    let snapshot = dir.path().join("snapshots").join(format!("{HANGING}.snap"));
    while !snapshot.exists() {
        tokio::task::yield_now().await;
    }
    router.node().stop();
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_replicas_start_and_this_one_is_found_when_it_has_started() {
    let (dir, gate) = (made().await, Arc::<Gate>::default());
    gate.set(true);
    let router = start(dir.path(), &gate).await;
    let stuck: Vec<_> = router.node().status().stuck.into_iter().map(|it| it.group).collect();
    assert_eq!(stuck, [HANGING]);
    for range in router.map().ranges().iter().filter(|range| range.group != HANGING) {
        assert_eq!(propose(&router, range.group).await, 2);
    }
    gate.set(false);
    assert_eq!(propose(&router, HANGING).await, 2);
    assert!(router.node().status().stuck.is_empty());
    router.node().stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stops_while_a_replica_is_being_started() {
    let (dir, gate) = (made().await, Arc::<Gate>::default());
    gate.set(true);
    let router = start(dir.path(), &gate).await;
    let node = router.node().clone();
    tokio::task::spawn_blocking(move || node.stop()).await.unwrap();
    drop(router);
    gate.set(false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_machine_that_can_t_be_made_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    let started = Router::start(node.clone(), plan(), |_| panic!("there is none")).await;
    assert!(matches!(started, Err(RouterStartError::Panicked)));
    node.stop();
}
