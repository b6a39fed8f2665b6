//! State machines that keep their state on disk themselves, and those that want to wait or give up.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Cluster, TestResult, number};
use logboat::{
    ApplyError, ApplyOn, Change, CommandBatch, DiskStateMachine, GroupError, GroupId, GroupSpec,
    Index, LogId, NodeId, OnDisk, RequestError, RoleKind, SnapshotWriter, Term,
};
use logboat_raft::{Configuration, SnapshotMeta};
use logboat_storage::SnapshotStore;
use parking_lot::Mutex;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const GROUP: GroupId = GroupId(7);

/// What a state machine does when it comes to a command that says so.
const RETRY: &[u8] = b"retry";
const GIVE_UP: &[u8] = b"give up";
const WAIT: &[u8] = b"wait";

/// What survives of a state: the ids of all commands.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<Saved>>);

#[derive(Default)]
struct Saved {
    state: Option<(LogId, Vec<LogId>)>,
    /// How many commands were applied by all machines on it.
    applied: u64,
    restores: u64,
    /// For how long a command is put off, and how often yet.
    patience: Duration,
    refusals: u32,
    /// What a command waits for, and whether one does.
    gate: Option<Receiver<()>>,
    is_waiting: bool,
}

impl Disk {
    fn machine(&self) -> Box<OnDisk<Ids>> {
        self.machine_on(ApplyOn::Worker)
    }

    fn machine_on(&self, apply_on: ApplyOn) -> Box<OnDisk<Ids>> {
        let (disk, ids, last) = (self.clone(), Vec::new(), LogId::default());
        Box::new(OnDisk(Ids { disk, ids, last, apply_on }))
    }

    fn held(&self) -> usize {
        self.0.lock().state.as_ref().map_or(0, |(_, ids)| ids.len())
    }
}

/// Notes the id of each command.
struct Ids {
    disk: Disk,
    ids: Vec<LogId>,
    last: LogId,
    apply_on: ApplyOn,
}

impl Ids {
    fn answer(&self) -> Bytes {
        Bytes::copy_from_slice(&(self.ids.len() as u64).to_le_bytes())
    }
}

impl DiskStateMachine for Ids {
    fn open(&mut self) -> io::Result<Option<LogId>> {
        let saved = self.disk.0.lock();
        assert!(!saved.is_waiting, "another state machine is at work here");
        let Some((last, ids)) = &saved.state else { return Ok(None) };
        (self.last, self.ids) = (*last, ids.clone());
        Ok(Some(*last))
    }

    fn apply(&mut self, commands: &mut CommandBatch<'_>) -> Result<(), ApplyError> {
        while let Some((id, command)) = commands.peek().map(|(id, command)| (id, command.clone())) {
            let mut saved = self.disk.0.lock();
            if command == RETRY && saved.refusals > 0 {
                saved.refusals -= 1;
                return Err(ApplyError::Retry(saved.patience));
            }
            if command == GIVE_UP {
                return Err(ApplyError::Fail("as the command says".to_owned()));
            }
            saved.applied += 1;
            let gate = if command == WAIT { saved.gate.take() } else { None };
            saved.is_waiting = gate.is_some();
            drop(saved);
            if let Some(gate) = gate {
                let _ = gate.recv();
            }
            self.disk.0.lock().is_waiting = false;
            assert!(self.ids.last().is_none_or(|last| last.index < id.index), "applied twice");
            self.ids.push(id);
            commands.answer(self.answer());
        }
        self.last = commands.last();
        Ok(())
    }

    fn query(&self, _: Bytes) -> io::Result<Bytes> {
        Ok(self.answer())
    }

    fn sync(&mut self) -> io::Result<Option<LogId>> {
        self.disk.0.lock().state = Some((self.last, self.ids.clone()));
        Ok(Some(self.last))
    }

    fn snapshot(&self) -> io::Result<SnapshotWriter> {
        let ids = self.ids.clone();
        Ok(Box::new(move |writer| {
            let numbers = ids.iter().flat_map(|id| [id.term.0, id.index.0]);
            numbers.into_iter().try_for_each(|number| writer.write_all(&number.to_le_bytes()))
        }))
    }

    fn restore(&mut self, reader: &mut dyn Read, last: LogId) -> io::Result<()> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let id = |id: &[u8]| LogId::new(Term(number(&id[..8])), Index(number(&id[8..])));
        self.ids = bytes.chunks(16).map(id).collect();
        self.last = last;
        self.disk.0.lock().restores += 1;
        self.sync().map(drop)
    }

    fn clear(&mut self) -> io::Result<()> {
        let mut saved = self.disk.0.lock();
        assert!(!saved.is_waiting, "another state machine is at work here");
        saved.state = None;
        Ok(())
    }

    fn apply_on(&self) -> ApplyOn {
        self.apply_on
    }
}

async fn await_held(disk: &Disk, count: usize) {
    while disk.held() < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_restart_goes_on_behind_what_is_durable() -> TestResult {
    let mut cluster = Cluster::new(1)?;
    let (node, disk) = (NodeId(1), Disk::default());
    for round in 1..=3_u64 {
        cluster.start_with(node, GROUP, disk.machine())?;
        for _ in 0..20 {
            cluster.propose(GROUP, b"+").await;
        }
        // The log is cut here, without a snapshot.
        cluster.handle(node, GROUP).compact();
        await_held(&disk, round as usize * 25 - 5).await;
        for _ in 0..5 {
            cluster.propose(GROUP, b"+").await;
        }
        assert_eq!(number(&cluster.read(GROUP).await), round * 25);
        assert_eq!(cluster.node(node).metrics().snapshots_written.get(), 0);
        cluster.stop(node);
        cluster.restart_without_groups(node)?;
    }
    // Those five that were not durable were applied again after each restart.
    assert_eq!(disk.0.lock().applied, 3 * 25 + 2 * 5);
    Ok(())
}

#[tokio::test]
async fn a_follower_past_which_the_log_was_cut_gets_a_snapshot() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    let disks = [(); 3].map(|()| Disk::default());
    let machine = |node: NodeId| disks[node.0 as usize - 1].machine();
    for node in cluster.ids() {
        cluster.start_with(node, GROUP, machine(node))?;
    }
    cluster.propose(GROUP, b"+").await;
    let leader = cluster.leader(GROUP).await;
    let behind = cluster.ids().into_iter().find(|node| *node != leader).unwrap();
    cluster.stop(behind);
    // Commands of 1 KiB against syncs every 16 KiB: the log is cut many times over.
    for _ in 0..200 {
        cluster.propose(GROUP, &[b'+'; 1024]).await;
    }
    let disk = &disks[behind.0 as usize - 1];
    for round in 0..2 {
        cluster.restart_without_groups(behind)?;
        cluster.start_with(behind, GROUP, machine(behind))?;
        cluster.await_applied(behind, GROUP, 201).await;
        let answer = cluster.handle(behind, GROUP).read_local(Bytes::new()).await?;
        assert_eq!(number(&answer.1), 201);
        assert_eq!(disk.0.lock().restores, 1, "round {round}: it keeps that by itself");
        cluster.stop(behind);
    }
    assert!(cluster.snapshots_sent() > 0);
    Ok(())
}

#[tokio::test]
async fn a_state_machine_that_wants_to_wait_is_given_the_rest_later() -> TestResult {
    let cluster = Cluster::new(1)?;
    let (node, disk, other) = (NodeId(1), Disk::default(), GroupId(9));
    cluster.start_with(node, GROUP, disk.machine())?;
    cluster.start_group(other)?;
    cluster.propose(GROUP, b"+").await;
    {
        let mut saved = disk.0.lock();
        (saved.patience, saved.refusals) = (Duration::from_millis(30), 3);
    }
    let handle = cluster.handle(node, GROUP);
    let waits = handle.propose(Bytes::from_static(RETRY));
    let behind = handle.propose(Bytes::from_static(b"+"));
    let (waits, behind) = tokio::join!(waits, behind);
    assert_eq!((number(&waits?), number(&behind?)), (2, 3));
    assert_eq!(disk.0.lock().refusals, 0);
    // For an hour, which nobody else waits for.
    {
        let mut saved = disk.0.lock();
        (saved.patience, saved.refusals) = (Duration::from_secs(3_600), 1);
    }
    let long = tokio::spawn(async move { handle.propose(Bytes::from_static(RETRY)).await });
    while disk.0.lock().refusals > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(number(&cluster.propose(other, b"+").await), 1);
    cluster.node(node).stop();
    assert!(long.await?.is_err());
    Ok(())
}

#[tokio::test]
async fn who_puts_off_its_commands_for_ever_leads_no_more_until_it_gets_on() -> TestResult {
    let cluster = Cluster::configured(3, |config| {
        config.request_timeout = Duration::from_millis(300);
    })?;
    let disks = [(); 3].map(|()| Disk::default());
    for node in cluster.ids() {
        cluster.start_with(node, GROUP, disks[node.0 as usize - 1].machine())?;
    }
    let leader = cluster.leader(GROUP).await;
    let disk = &disks[leader.0 as usize - 1];
    {
        let mut saved = disk.0.lock();
        (saved.patience, saved.refusals) = (Duration::from_millis(5), u32::MAX);
    }
    let handle = cluster.handle(leader, GROUP);
    let answer = handle.propose(Bytes::from_static(RETRY)).await;
    assert_eq!(answer, Err(RequestError::TimedOut));
    let others: Vec<_> = cluster.ids().into_iter().filter(|node| *node != leader).collect();
    let next = cluster.handle(cluster.leader_among(&others, GROUP).await, GROUP);
    while next.read(Bytes::new()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let refused = handle.propose(Bytes::from_static(b"+")).await;
    assert!(matches!(refused, Err(RequestError::NotLeader { .. })), "{refused:?}");
    disk.0.lock().refusals = 0;
    cluster.await_applied(leader, GROUP, 1).await;
    while handle.view().role() != RoleKind::Leader {
        let leading = cluster.handle(cluster.leader(GROUP).await, GROUP);
        // It may lead again a little later.
        let _ = leading.transfer(leader).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_state_machine_that_gives_up_stops_its_replica_alone() -> TestResult {
    let cluster = Cluster::new(1)?;
    let (node, disk, other) = (NodeId(1), Disk::default(), GroupId(9));
    cluster.start_with(node, GROUP, disk.machine())?;
    cluster.start_group(other)?;
    cluster.propose(GROUP, b"+").await;
    let handle = cluster.handle(node, GROUP);
    let answer = handle.propose(Bytes::from_static(GIVE_UP)).await;
    assert_eq!(answer, Err(RequestError::TimedOut));
    let reason = handle.view().failure().unwrap().to_owned();
    assert!(reason.contains("as the command says"), "{reason}");
    assert_eq!(number(&cluster.propose(other, b"+").await), 1);
    Ok(())
}

#[tokio::test]
async fn what_a_former_replica_left_is_cleared() -> TestResult {
    let cluster = Cluster::new(3)?;
    let disks = [(); 3].map(|()| Disk::default());
    for node in cluster.ids() {
        cluster.start_with(node, GROUP, disks[node.0 as usize - 1].machine())?;
    }
    let node = NodeId(3);
    cluster.propose(GROUP, b"+").await;
    cluster.await_applied(node, GROUP, 1).await;
    cluster.handle(node, GROUP).compact();
    let disk = &disks[2];
    await_held(disk, 1).await;
    cluster.node(node).remove_group(GROUP).await?;
    assert_eq!(disk.held(), 1);
    cluster.node(node).join_group(GROUP, disk.machine())?;
    assert_eq!(disk.held(), 0);
    Ok(())
}

/// A crash comes when a replica that joins has taken over its first snapshot, and before the log
/// records that.
#[tokio::test]
async fn a_state_that_no_log_records_goes_with_its_snapshot() -> TestResult {
    let mut cluster = Cluster::new(2)?;
    let (one, two, replicas) = (NodeId(1), NodeId(2), vec![NodeId(1)]);
    let machine = Disk::default().machine();
    let spec = GroupSpec { group: GROUP, replicas: replicas.clone(), preferred: None, machine };
    let founder = cluster.node(one).create_group(spec)?;
    founder.view().led().await;
    founder.propose(Bytes::from_static(b"+")).await?;
    let last = LogId::new(Term(1), Index(2));
    let configuration = Configuration::founding(&replicas, None).into();
    cluster.node(two).stop();
    let store = SnapshotStore::open(&cluster.dir(two).join("snapshots"))?;
    store.create(GROUP, SnapshotMeta { last, configuration })?.finish()?;
    let disk = Disk::default();
    disk.0.lock().state = Some((last, vec![last]));
    cluster.restart_without_groups(two)?;
    let replica = cluster.node(two).join_group(GROUP, disk.machine())?;
    assert_eq!((disk.held(), disk.0.lock().restores), (0, 0));
    assert!(SnapshotStore::open(&cluster.dir(two).join("snapshots"))?.groups().is_empty());
    founder.change(&[Change::AddLearner(two)]).await?;
    cluster.await_applied(two, GROUP, 1).await;
    assert_eq!(number(&replica.read_local(Bytes::new()).await?.1), 1);
    Ok(())
}

/// The replica has ended, and a call of its state machine has not.
#[tokio::test]
async fn another_replica_waits_until_the_former_state_machine_is_gone() -> TestResult {
    for (apply_on, removes) in
        [ApplyOn::Pool, ApplyOn::Worker].into_iter().flat_map(|on| [(on, false), (on, true)])
    {
        let cluster = Cluster::configured(3, |config| {
            config.state_machine_timeout = Duration::from_millis(100);
        })?;
        let disks = [(); 3].map(|()| Disk::default());
        for node in cluster.ids() {
            let machine = disks[node.0 as usize - 1].machine_on(apply_on);
            cluster.start_with(node, GROUP, machine)?;
        }
        let other = GroupId(9);
        cluster.start_group(other)?;
        let (node, disk) = (NodeId(3), disks[2].clone());
        let (gate, shut) = channel();
        disk.0.lock().gate = Some(shut);
        cluster.propose(GROUP, WAIT).await;
        while !disk.0.lock().is_waiting {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if removes {
            cluster.node(node).remove_group(GROUP).await?;
        } else {
            cluster.node(node).stop_group(GROUP).await?;
        }
        let join = || {
            let (joining, machine) = (cluster.node(node).clone(), disk.machine_on(apply_on));
            tokio::task::spawn_blocking(move || joining.join_group(GROUP, machine))
        };
        let (mut one, mut another) = (join(), join());
        let (refused, joined) = tokio::select! {
            refused = &mut one => (refused?, another),
            refused = &mut another => (refused?, one),
        };
        let refused = refused.map(|_| "it was started");
        assert!(matches!(refused, Err(GroupError::Starting(_))), "{refused:?}");
        for _ in 0..20 {
            cluster.propose(other, b"+").await;
        }
        assert!(!joined.is_finished() && disk.0.lock().is_waiting);
        drop(gate);
        let handle = joined.await??;
        if !removes {
            cluster.propose(GROUP, b"+").await;
            cluster.await_applied(node, GROUP, 2).await;
            assert_eq!(number(&handle.read_local(Bytes::new()).await?.1), 2);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_state_that_the_log_does_not_follow_is_refused() -> TestResult {
    let cluster = Cluster::new(1)?;
    let disk = Disk::default();
    let last = LogId::new(Term(1), Index(5));
    disk.0.lock().state = Some((last, vec![last]));
    let refused = cluster.start_with(NodeId(1), GROUP, disk.machine()).unwrap_err().to_string();
    assert!(refused.contains("its state holds all up to 5@1"), "{refused}");
    Ok(())
}
