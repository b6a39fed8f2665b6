//! A panic in user code is one replica's matter: the node and its other replicas go on.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Cluster, Counter, TestResult, number};
use logboat::{GroupId, GroupRequest, NodeId, RequestError, SnapshotWriter, StateMachine};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const GROUP: GroupId = GroupId(7);
const OTHER: GroupId = GroupId(8);
const NODE: NodeId = NodeId(1);

async fn await_failure(cluster: &Cluster, group: GroupId) -> String {
    loop {
        let failed = cluster.node(NODE).status().failed;
        if let Some(replica) = failed.into_iter().find(|replica| replica.group == group) {
            return replica.reason;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_snapshot_writer_that_panics_stops_its_replica_and_no_other_snapshot() -> TestResult {
    let cluster = Cluster::new(1)?;
    cluster.start_group(GROUP)?;
    cluster.start_group(OTHER)?;
    cluster.propose(GROUP, b"panic in writers").await;
    cluster.propose(OTHER, b"+").await;
    cluster.handle(NODE, GROUP).compact();
    let reason = await_failure(&cluster, GROUP).await;
    assert!(reason.contains("snapshot") && reason.contains("as a command said"), "{reason}");
    cluster.handle(NODE, OTHER).compact();
    while cluster.node(NODE).metrics().snapshots_written.get() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(cluster.node(NODE).status().failure, None);
    assert_eq!(number(&cluster.propose(OTHER, b"+").await), 2);
    Ok(())
}

#[tokio::test]
async fn who_proposed_a_command_that_panics_elsewhere_hears_it_at_once() -> TestResult {
    let cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"+").await;
    let leader = cluster.leader(GROUP).await;
    let other = cluster.ids().into_iter().find(|node| *node != leader).unwrap();
    // Nothing else ends this wait: the connection stands, and a call has no limit of its own.
    let request = GroupRequest::propose(Bytes::from_static(b"panic"));
    let answer = cluster.node(other).call(leader, GROUP, &request).await;
    assert_eq!(answer, Err(RequestError::TimedOut));
    let failure = cluster.handle(leader, GROUP).view().failure().map(str::to_owned);
    assert!(failure.is_some_and(|reason| reason.contains("panicked")));
    Ok(())
}

#[tokio::test]
async fn reads_behind_one_that_panics_are_answered_too() -> TestResult {
    let cluster = Cluster::new(1)?;
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"panic at queries").await;
    let handle = cluster.handle(NODE, GROUP);
    let reads = (0..5).map(|_| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.read(Bytes::new()).await })
    });
    for read in reads.collect::<Vec<_>>() {
        assert_eq!(read.await?, Err(RequestError::Stopped));
    }
    Ok(())
}

/// A counter that notes its drop, and panics then.
struct Dropped {
    counter: Counter,
    is_dropped: Arc<AtomicBool>,
}

impl Drop for Dropped {
    fn drop(&mut self) {
        let was_dropped = self.is_dropped.swap(true, Ordering::SeqCst);
        assert!(was_dropped, "as the test wants, once");
    }
}

impl StateMachine for Dropped {
    fn apply(&mut self, command: Bytes) -> Bytes {
        self.counter.apply(command)
    }

    fn query(&self, query: Bytes) -> Bytes {
        self.counter.query(query)
    }

    fn snapshot(&self) -> SnapshotWriter {
        self.counter.snapshot()
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        self.counter.restore(reader)
    }
}

#[tokio::test]
async fn a_state_machine_that_panics_when_it_is_dropped_ends_no_other_replica() -> TestResult {
    let cluster = Cluster::new(1)?;
    cluster.start_group(OTHER)?;
    let is_dropped = Arc::<AtomicBool>::default();
    for start in 0..2 {
        let (counter, is_dropped) = (Counter::default(), Arc::clone(&is_dropped));
        cluster.start_with(NODE, GROUP, Box::new(Dropped { counter, is_dropped }))?;
        if start == 0 {
            cluster.propose(GROUP, b"panic at queries").await;
            let answer = cluster.handle(NODE, GROUP).read(Bytes::new()).await;
            assert_eq!(answer, Err(RequestError::Stopped));
        }
    }
    while !is_dropped.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for count in 1..=10 {
        assert_eq!(number(&cluster.propose(OTHER, b"+").await), count);
    }
    assert_eq!(cluster.node(NODE).status().failed, []);
    Ok(())
}
