//! Snapshots that are large, and many at once.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Cluster, TestResult, number, pause};
use logboat::{GroupId, GroupSpec, NodeId, SnapshotWriter, StateMachine};
use std::collections::BTreeMap;
use std::io::{self, Read};

/// What a state takes.
const STATE_BYTES: usize = 3 << 20;

/// Counts commands, and has a large state.
#[derive(Default)]
struct Large(u64);

impl StateMachine for Large {
    fn apply(&mut self, _: Bytes) -> Bytes {
        self.0 += 1;
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }

    fn query(&self, _: Bytes) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }

    fn snapshot(&self) -> SnapshotWriter {
        let count = self.0;
        Box::new(move |writer| {
            writer.write_all(&count.to_le_bytes())?;
            writer.write_all(&vec![count as u8; STATE_BYTES])
        })
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        let mut count = [0; 8];
        reader.read_exact(&mut count)?;
        self.0 = u64::from_le_bytes(count);
        let mut state = Vec::new();
        reader.read_to_end(&mut state)?;
        let is_whole = state == vec![count[0]; STATE_BYTES];
        if is_whole { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// Within a term every entry behind the leader's own is a command, so the count of a state tells
/// its entry.
#[tokio::test]
async fn a_state_that_any_replica_captures_is_that_of_its_entry_and_lacks_nothing() -> TestResult {
    const GROUP: GroupId = GroupId(5);
    let cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    let mut offsets = BTreeMap::new();
    for node in cluster.ids().repeat(10) {
        let replica = cluster.handle(node, GROUP);
        let acknowledged = number(&cluster.propose(GROUP, b"+").await);
        let (captured, _) = tokio::join!(replica.capture(None), cluster.propose(GROUP, b"+"));
        // While another leader is elected there is none.
        let Ok(captured) = captured else { continue };
        let mut state = Vec::new();
        captured.writer.unwrap()(&mut state)?;
        let (last, count) = (captured.last, number(&Bytes::from(state)));
        assert!(count >= acknowledged, "{count} of {acknowledged} at {last}");
        let offset = last.index.0 - count;
        assert_eq!(*offsets.entry(last.term).or_insert(offset), offset, "{count} at {last}");

        // What is known is not captured again, wherever it is asked for.
        let newest = cluster.handle(cluster.leader(GROUP).await, GROUP).capture(None).await;
        let Ok(newest) = newest else { continue };
        let Ok(again) = replica.capture(Some(newest.last)).await else { continue };
        assert_eq!(again.writer.is_none(), again.last == newest.last);
    }
    assert!(!offsets.is_empty(), "no state was captured");
    Ok(())
}

/// The network is faster than any disk here, and a sender had no way to know: it sent what the
/// receiver had no memory for, and began again.
#[tokio::test]
async fn large_snapshots_of_many_groups_find_memory_where_they_arrive() -> TestResult {
    const GROUPS: u64 = 8;
    let mut cluster = Cluster::configured(3, |config| {
        config.memory_budget_bytes = 32 << 20;
        config.snapshot_log_bytes = 1 << 30;
    })?;
    let groups = || (1..=GROUPS).map(GroupId);
    let start = |cluster: &Cluster, node| {
        groups().try_for_each(|group| {
            let (replicas, preferred) = (cluster.ids(), Some(NodeId(1)));
            let machine = Box::<Large>::default();
            let spec = GroupSpec { group, replicas, preferred, machine };
            cluster.node(node).create_group(spec).map(drop)
        })
    };
    for node in cluster.ids() {
        start(&cluster, node)?;
    }
    let three = NodeId(3);
    for group in groups() {
        cluster.propose(group, b"+").await;
    }
    cluster.stop(three);
    for group in groups() {
        cluster.propose(group, b"+").await;
        for node in [NodeId(1), NodeId(2)] {
            cluster.await_applied(node, group, 2).await;
            let written = || cluster.node(node).metrics().snapshots_written.get();
            let before = written();
            cluster.handle(node, group).compact();
            while written() == before {
                pause().await;
            }
        }
    }
    cluster.restart_without_groups(three)?;
    start(&cluster, three)?;
    for group in groups() {
        let replica = cluster.handle(three, group);
        // While it takes the snapshot over, it refuses to be read.
        while replica.read_local(Bytes::new()).await.map_or(0, |(_, count)| number(&count)) < 2 {
            pause().await;
        }
    }
    assert_eq!(cluster.node(three).metrics().messages_dropped.get(), 0);
    Ok(())
}
