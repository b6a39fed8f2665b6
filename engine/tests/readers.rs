//! Readers answer queries beside their state machines: neither waits for the other, answers lack
//! nothing that was applied, and what a reader does wrong is its replica's matter alone.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Cluster, TestResult, impatient, number, patient, pause};
use logboat::{
    ApplyOn, GroupId, GroupSpec, NodeId, ReadFrom, ReadMode, RequestError, RoleKind,
    SnapshotWriter, StateMachine, StateReader, UserCode,
};
use parking_lot::{Condvar, Mutex};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const GROUP: GroupId = GroupId(3);
const OTHER: GroupId = GroupId(6);
const NODE: NodeId = NodeId(1);

/// A query that waits at the gate, one that fails, and one that panics.
const WAIT: &[u8] = b"wait";
const FAIL: &[u8] = b"fail";
const PANIC: &[u8] = b"panic";

/// What calls pass while it is open.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    is_shut: bool,
    waiting: usize,
}

impl Gate {
    fn shut(&self) {
        self.state.lock().is_shut = true;
    }

    fn open(&self) {
        self.state.lock().is_shut = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock();
        state.waiting += 1;
        while state.is_shut {
            self.changed.wait(&mut state);
        }
        state.waiting -= 1;
    }

    async fn await_waiting(&self, count: usize) {
        while self.state.lock().waiting < count {
            pause().await;
        }
    }
}

/// The gates of a replica: what it applies, and what its reader is asked. They open at the end of a
/// test, however that ends.
#[derive(Default)]
struct Gates {
    applies: Arc<Gate>,
    queries: Arc<Gate>,
}

impl Drop for Gates {
    fn drop(&mut self) {
        self.applies.open();
        self.queries.open();
    }
}

/// Counts commands. A restore makes another counter, with another reader.
struct Counter {
    count: Arc<AtomicU64>,
    applies: Arc<Gate>,
    queries: Arc<Gate>,
    apply_on: ApplyOn,
}

struct CounterReader {
    count: Arc<AtomicU64>,
    queries: Arc<Gate>,
}

impl Counter {
    fn new(gates: &Gates, apply_on: ApplyOn) -> Box<Self> {
        let (applies, queries) = (Arc::clone(&gates.applies), Arc::clone(&gates.queries));
        Box::new(Self { count: Arc::default(), applies, queries, apply_on })
    }
}

impl StateMachine for Counter {
    fn apply(&mut self, _: Bytes) -> Bytes {
        self.applies.pass();
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        Bytes::copy_from_slice(&count.to_le_bytes())
    }

    fn reader(&self) -> Option<Arc<dyn StateReader>> {
        let (count, queries) = (Arc::clone(&self.count), Arc::clone(&self.queries));
        Some(Arc::new(CounterReader { count, queries }))
    }

    fn snapshot(&self) -> SnapshotWriter {
        let count = self.count.load(Ordering::SeqCst);
        Box::new(move |writer| writer.write_all(&count.to_le_bytes()))
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        let mut count = [0; 8];
        reader.read_exact(&mut count)?;
        // As tables are deleted that another state has taken the place of.
        self.count.store(0, Ordering::SeqCst);
        self.count = Arc::new(AtomicU64::new(u64::from_le_bytes(count)));
        Ok(())
    }

    fn apply_on(&self) -> ApplyOn {
        self.apply_on
    }
}

impl StateReader for CounterReader {
    fn query(&self, query: Bytes) -> io::Result<Bytes> {
        match &query[..] {
            WAIT => self.queries.pass(),
            FAIL => return Err(io::Error::other("a bad table")),
            PANIC => panic!("as the query says"),
            _ => {}
        }
        Ok(Bytes::copy_from_slice(&self.count.load(Ordering::SeqCst).to_le_bytes()))
    }
}

#[tokio::test]
async fn slow_queries_hold_up_neither_their_group_nor_others() -> TestResult {
    for apply_on in [ApplyOn::Worker, ApplyOn::Pool] {
        let cluster = Cluster::configured(1, patient)?;
        let gates = Gates::default();
        cluster.start_with(NODE, GROUP, Counter::new(&gates, apply_on))?;
        cluster.start_group(OTHER)?;
        cluster.propose(GROUP, b"+").await;
        gates.queries.shut();
        let read = || {
            let handle = cluster.handle(NODE, GROUP);
            tokio::spawn(async move { handle.read(Bytes::from_static(WAIT)).await })
        };
        let slow = [read(), read(), read()];
        // Several are under way at once.
        gates.queries.await_waiting(3).await;
        for count in 2..=20 {
            assert_eq!(number(&cluster.propose(GROUP, b"+").await), count);
            assert_eq!(number(&cluster.read(GROUP).await), count);
            cluster.propose(OTHER, b"+").await;
        }
        gates.queries.open();
        for slow in slow {
            assert_eq!(number(&slow.await??), 20, "it answers from what is there then");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_query_waits_for_what_was_committed_before_it_came() -> TestResult {
    let cluster = Cluster::configured(1, patient)?;
    let gates = Gates::default();
    cluster.start_with(NODE, GROUP, Counter::new(&gates, ApplyOn::Pool))?;
    cluster.start_group(OTHER)?;
    cluster.propose(GROUP, b"+").await;
    let handle = cluster.handle(NODE, GROUP);
    for round in 2..=30 {
        gates.applies.shut();
        let (writer, reader) = (handle.clone(), handle.clone());
        let write = tokio::spawn(async move { writer.propose(Bytes::from_static(b"+")).await });
        gates.applies.await_waiting(1).await;
        // It is committed by now.
        let read = tokio::spawn(async move { reader.read(Bytes::new()).await });
        let local = handle.clone();
        let local = tokio::spawn(async move { local.read_local(Bytes::new()).await });
        // By the time that the neighbour has its answer, the worker has seen the reads.
        tokio::task::yield_now().await;
        cluster.propose(OTHER, b"+").await;
        gates.applies.open();
        assert_eq!(number(&write.await??), round);
        assert_eq!(number(&read.await??), round);
        let (as_of, answer) = local.await??;
        assert!(number(&answer) < as_of.index.0, "it has what it says");
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_that_fails_or_panics_stops_its_replica_alone() -> TestResult {
    for (query, expected) in [(FAIL, "a bad table"), (PANIC, "as the query says")] {
        let cluster = Cluster::configured(1, patient)?;
        let gates = Gates::default();
        cluster.start_with(NODE, GROUP, Counter::new(&gates, ApplyOn::Worker))?;
        cluster.start_group(OTHER)?;
        cluster.propose(GROUP, b"+").await;
        let handle = cluster.handle(NODE, GROUP);
        let answer = handle.read(Bytes::from_static(query)).await;
        assert_eq!(answer, Err(RequestError::Stopped));
        let reason = handle.view().failure().unwrap().to_owned();
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(handle.read(Bytes::new()).await, Err(RequestError::Stopped));
        assert_eq!(number(&cluster.propose(OTHER, b"+").await), 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_whose_query_hangs_applies_and_leads_again_when_that_returns() -> TestResult {
    let cluster = Cluster::configured(3, impatient)?;
    let gates: Vec<Gates> = cluster.ids().iter().map(|_| Gates::default()).collect();
    let gates_of = |node: NodeId| &gates[node.0 as usize - 1];
    for node in cluster.ids() {
        cluster.start_with(node, GROUP, Counter::new(gates_of(node), ApplyOn::Worker))?;
    }
    cluster.propose(GROUP, b"+").await;
    let leader = cluster.leader(GROUP).await;
    let queries = &gates_of(leader).queries;
    queries.shut();
    let handle = cluster.handle(leader, GROUP);
    let answer = handle.read(Bytes::from_static(WAIT)).await;
    assert_eq!(answer, Err(RequestError::NotLeader { leader: None }));
    let [stuck] = cluster.node(leader).status().stuck[..] else { panic!("one query hangs") };
    assert_eq!((stuck.group, stuck.code), (GROUP, UserCode::StateReader));
    for count in 2..=10 {
        assert_eq!(number(&cluster.propose(GROUP, b"+").await), count);
        assert_ne!(cluster.leader(GROUP).await, leader);
    }
    cluster.await_applied(leader, GROUP, 10).await;
    assert_eq!(handle.read_local(Bytes::new()).await, Err(RequestError::Busy));
    queries.open();
    while !cluster.node(leader).status().stuck.is_empty() {
        pause().await;
    }
    while handle.view().role() != RoleKind::Leader {
        let leading = cluster.handle(cluster.leader(GROUP).await, GROUP);
        // It may lead again a little later.
        let _ = leading.transfer(leader).await;
        pause().await;
    }
    assert_eq!(number(&cluster.read(GROUP).await), 10);
    Ok(())
}

#[tokio::test]
async fn a_query_that_outlives_its_replica_answers_nobody() -> TestResult {
    let cluster = Cluster::configured(1, patient)?;
    let (gates, fresh) = (Gates::default(), Gates::default());
    cluster.start_with(NODE, GROUP, Counter::new(&gates, ApplyOn::Worker))?;
    cluster.propose(GROUP, b"+").await;
    gates.queries.shut();
    let handle = cluster.handle(NODE, GROUP);
    let late = tokio::spawn(async move { handle.read(Bytes::from_static(WAIT)).await });
    gates.queries.await_waiting(1).await;
    cluster.node(NODE).stop_group(GROUP).await?;
    assert_eq!(late.await?, Err(RequestError::Stopped));
    // Another replica takes its place, whose queries are numbered from the start as well.
    cluster.node(NODE).create_group(GroupSpec {
        group: GROUP,
        replicas: vec![NODE],
        preferred: None,
        machine: Counter::new(&fresh, ApplyOn::Worker),
    })?;
    cluster.propose(GROUP, b"+").await;
    fresh.queries.shut();
    let handle = cluster.handle(NODE, GROUP);
    let read = tokio::spawn(async move { handle.read(Bytes::from_static(WAIT)).await });
    fresh.queries.await_waiting(1).await;
    gates.queries.open();
    while gates.queries.state.lock().waiting > 0 {
        pause().await;
    }
    fresh.queries.open();
    assert_eq!(number(&read.await??), 2);
    Ok(())
}

#[tokio::test]
async fn many_queries_that_hang_take_no_threads_from_others() -> TestResult {
    let cluster = Cluster::configured(3, impatient)?;
    let gates: Vec<Gates> = cluster.ids().iter().map(|_| Gates::default()).collect();
    let free = Gates::default();
    for (node, gates) in cluster.ids().into_iter().zip(&gates) {
        cluster.start_with(node, GROUP, Counter::new(gates, ApplyOn::Worker))?;
        cluster.start_with(node, OTHER, Counter::new(&free, ApplyOn::Worker))?;
    }
    // The preferred node leads both.
    let leader = NODE;
    while cluster.leader(GROUP).await != leader || cluster.leader(OTHER).await != leader {
        pause().await;
    }
    cluster.propose(OTHER, b"+").await;
    let term = cluster.handle(leader, OTHER).view().term();
    gates[0].queries.shut();
    let hung: Vec<_> = (0..200)
        .map(|_| {
            let handle = cluster.handle(leader, GROUP);
            tokio::spawn(async move { handle.read(Bytes::from_static(WAIT)).await })
        })
        .collect();
    for hung in hung {
        assert_eq!(hung.await?, Err(RequestError::NotLeader { leader: None }));
        let answer = cluster.handle(leader, OTHER).read(Bytes::from_static(WAIT)).await?;
        assert_eq!(number(&answer), 1);
    }
    let stuck = cluster.node(leader).status().stuck;
    assert!(stuck.len() <= 4, "{stuck:?}");
    assert_eq!(cluster.handle(leader, OTHER).view().term(), term);
    Ok(())
}

#[tokio::test]
async fn a_query_of_a_state_that_was_replaced_is_not_answered_from_what_is_left() -> TestResult {
    let cluster = Cluster::configured(3, patient)?;
    let gates: Vec<Gates> = cluster.ids().iter().map(|_| Gates::default()).collect();
    for (node, gates) in cluster.ids().into_iter().zip(&gates) {
        cluster.start_with(node, GROUP, Counter::new(gates, ApplyOn::Worker))?;
    }
    cluster.propose(GROUP, b"+").await;
    let leader = cluster.leader(GROUP).await;
    let behind = cluster.ids().into_iter().find(|node| *node != leader).unwrap();
    // Before that it may not know whom to ask, and refuses the query.
    cluster.await_applied(behind, GROUP, 1).await;
    gates[behind.0 as usize - 1].queries.shut();
    let late = cluster.handle(behind, GROUP);
    let from_any = ReadMode { from: ReadFrom::Any, ..ReadMode::default() };
    let late = tokio::spawn(async move { late.read_in(from_any, Bytes::from_static(WAIT)).await });
    gates[behind.0 as usize - 1].queries.await_waiting(1).await;
    cluster.isolate(behind);
    let others: Vec<_> = cluster.ids().into_iter().filter(|node| *node != behind).collect();
    let commands = 100;
    let leader = cluster.leader_among(&others, GROUP).await;
    for _ in 0..commands {
        cluster.propose_at(leader, GROUP, &[0; 1 << 10]).await;
    }
    while cluster.node(leader).metrics().snapshots_written.get() == 0 {
        pause().await;
    }
    cluster.heal(behind);
    cluster.await_applied(behind, GROUP, commands + 1).await;
    assert!(cluster.snapshots_sent() > 0);
    assert_eq!(late.await?, Err(RequestError::NotLeader { leader: None }));
    gates[behind.0 as usize - 1].queries.open();
    let (_, answer) = cluster.handle(behind, GROUP).read_local(Bytes::new()).await?;
    assert_eq!(number(&answer), commands + 1);
    Ok(())
}
