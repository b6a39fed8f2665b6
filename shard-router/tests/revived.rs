//! A replica that failed and was started again is found by the routers of its node.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod growing;

use bytes::Bytes;
use growing::{eventually, founder, founders, stop};
use logboat::{GroupSpec, Node, NodeConfig, NodeId, SnapshotWriter, StateMachine};
use logboat_router::{META_GROUP, Plan, Router};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Counts commands; panics at a query that asks for it.
#[derive(Default)]
struct Counter(u8);

impl StateMachine for Counter {
    fn apply(&mut self, _command: Bytes) -> Bytes {
        self.0 += 1;
        self.query(Bytes::new())
    }

    fn query(&self, query: Bytes) -> Bytes {
        assert_ne!(&query[..], b"panic", "as the query says");
        Bytes::copy_from_slice(&[self.0])
    }

    fn snapshot(&self) -> SnapshotWriter {
        let count = [self.0];
        Box::new(move |writer| writer.write_all(&count))
    }

    fn restore(&mut self, reader: &mut dyn Read) -> std::io::Result<()> {
        let mut count = [0];
        reader.read_exact(&mut count)?;
        self.0 = count[0];
        Ok(())
    }
}

/// A node that is a cluster by itself, with one range.
async fn start(dir: &Path) -> Router {
    let members = [(NodeId(1), "127.0.0.1:0".to_owned())].into();
    let mut config = NodeConfig::new(NodeId(1), members, dir).unwrap();
    config.workers = 1;
    config.wal.segment_bytes = 1 << 20;
    let node = Node::start(config).unwrap();
    let plan = Plan {
        layout: "plain".to_owned(),
        groups: Some(1),
        keeps_layout: false,
        edge_bits: 16,
        split_keys: None,
        replicas: 1,
    };
    Router::start(node, plan, |_| Box::<Counter>::default()).await.unwrap()
}

/// Starts the replica of the only range on its node, beside the router.
fn start_replica(router: &Router) {
    let map = router.map();
    let range = &map.ranges()[0];
    let spec = GroupSpec {
        group: range.group,
        replicas: range.replicas.clone(),
        preferred: None,
        machine: Box::<Counter>::default(),
    };
    router.node().create_group(spec).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_find_a_replica_that_failed_and_was_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let router = start(dir.path()).await;
    let (map, one) = (router.map(), Bytes::from_static(&[1]));
    let range = &map.ranges()[0];
    assert_eq!(router.propose(range, Bytes::new()).await.unwrap(), one);
    let handle = router.node().group(range.group).unwrap();
    while handle.view().failure().is_none() {
        // On a busy machine there may be no leader for a moment.
        assert!(handle.read(Bytes::from_static(b"panic")).await.is_err());
    }
    start_replica(&router);
    assert_eq!(router.read(range, Bytes::new()).await.unwrap(), one);
    assert_eq!(router.propose(range, Bytes::new()).await.unwrap(), &[2][..]);
    router.node().stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_find_a_replica_that_did_not_start_with_the_router() {
    let dir = tempfile::tempdir().unwrap();
    let router = start(dir.path()).await;
    let (map, one) = (router.map(), Bytes::from_static(&[1]));
    let range = &map.ranges()[0];
    assert_eq!(router.propose(range, Bytes::new()).await.unwrap(), one);
    router.node().group(range.group).unwrap().compact();
    let snapshot = dir.path().join("snapshots").join(format!("{}.snap", range.group));
    while !snapshot.exists() {
        tokio::task::yield_now().await;
    }
    router.node().stop();
    drop(router);

    flip_last_byte(&snapshot);
    let router = start(dir.path()).await;
    let failed = router.node().status().failed;
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].group, range.group);
    assert!(failed[0].reason.contains("snapshots"), "{failed:?}");
    flip_last_byte(&snapshot);
    start_replica(&router);
    assert!(router.node().status().failed.is_empty());
    assert_eq!(router.read(range, Bytes::new()).await.unwrap(), one);
    router.node().stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_of_the_table_costs_a_replica_which_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let lost_after = Some(Duration::from_secs(60));
    let (mut routers, nodes) = founders(&dir, 1, lost_after).await;
    let meta = |router: &Router| router.node().group(META_GROUP);
    meta(&routers[1]).unwrap().compact();
    let snapshot = dir.path().join("2/snapshots").join(format!("{META_GROUP}.snap"));
    eventually("it is written", || snapshot.exists()).await;
    stop(routers.remove(1)).await;

    flip_last_byte(&snapshot);
    let router = founder(&dir, 2, &nodes, 1, lost_after).await;
    let range = router.map().ranges()[0].clone();
    assert_eq!(router.propose(&range, Bytes::from_static(b"x")).await.unwrap(), "x");
    eventually("the replica is replaced", || {
        let runs = meta(&router).is_some_and(|replica| replica.view().leader().is_some());
        runs && router.node().status().failed.is_empty()
    })
    .await;
    for router in routers.into_iter().chain([router]) {
        stop(router).await;
    }
}

fn flip_last_byte(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(file, bytes).unwrap();
}
