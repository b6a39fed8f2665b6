//! The process of a simulated node. It does what the threads of a real one do, in one thread: here
//! is its start. The workers are in `worker`, the log's threads in `wal`, that of the snapshots in
//! `transfer`, the liveness manager in `vigil`, what comes from peers in `peers` and from clients
//! in `requests`.

use super::cells::ReplicaCell;
use super::disk::{HostStorage, read_snapshot};
use super::disk_machine::Surroundings;
use super::elastic::{Office, machine_of};
use super::host::Hardware;
use super::machine::{Breakage, Journal};
use super::probe::forgets_earlier_votes;
use super::reads::ReadBook;
use super::requests::Caller;
use super::scene::{Event, Scene};
use super::strangers::draw_stranger;
use super::transfer::Incoming;
use super::vigil::start_liveness;
use super::wal::Writer;
use super::worker::{Worker, WorkerEvent};
use bytes::Bytes;
use logboat::internals::{
    Admission, FoundingProgress, Group, GroupEvent, Liveness, LogReadJob, Peers, QueryJob,
    Recovery, Shared, Slot, SlotIndex, WakeConditions, is_unborn, recover, start_of,
};
use logboat::{DiskStateMachine, GroupView, RequestError, StateMachine};
use logboat_raft::{
    Config, Configuration, Epoch, GroupId, Introduction, Lease, NodeId, Raft, ReadToken, ReplicaId,
    Restored, Time, WriteSeq,
};
use logboat_router::internals::Feed;
use logboat_storage::simulation::{InlineWal, SimDisk};
use logboat_storage::{ReadError, Recovered, SnapshotStore};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The process.
pub(super) struct Process {
    pub(super) workers: Vec<Worker>,
    pub(super) storage: Arc<HostStorage>,
    pub(super) cells: Vec<ReplicaCell>,
    pub(super) by_group: BTreeMap<GroupId, usize>,
    pub(super) liveness: Liveness,
    /// A node that this one does not know as a peer for now.
    pub(super) stranger: Option<NodeId>,
    /// How this start introduces itself to a peer that never let the node in.
    pub(super) introduction: Introduction,
    founding: FoundingProgress,
    /// Until when this node certainly supports each peer, by its own clock, and at which epoch.
    pub(super) supports_until: BTreeMap<NodeId, (Epoch, Time)>,
    /// Until when the peers' support lasts.
    pub(super) leases: BTreeMap<NodeId, Lease>,
    /// Until when the requests of these peers for support are not heard.
    pub(super) unsupported: BTreeMap<NodeId, u64>,
    pub(super) writer: Writer,
    pub(super) incoming: Incoming,
    pub(super) shared: Arc<Shared>,
    pub(super) admission: Arc<Admission>,
    pub(super) waiting: Vec<(Caller, oneshot::Receiver<Result<Bytes, RequestError>>)>,
    pub(super) calls: BTreeMap<u64, (Caller, usize)>,
    pub(super) next_call: u64,
    /// The node's part of an elastic cluster.
    pub(super) office: Option<Box<Office>>,
}

impl Process {
    /// Starts all replicas of a node.
    pub(super) fn start(
        hardware: &mut Hardware,
        wal: InlineWal<SimDisk>,
        recovered: Recovered,
        scene: &mut Scene,
    ) -> Self {
        let Recovered { groups: mut restored, grants, damaged } = recovered;
        let found_end = wal.log().found_end();
        let snapshots = SnapshotStore::open_on(hardware.snapshots.clone());
        let snapshots = snapshots.expect("a directory can be listed");
        for group in snapshots.groups() {
            if wal.log().tombstone(group).is_some() {
                snapshots.remove(group).expect("a snapshot can be removed");
            }
        }
        let storage = Arc::new(HostStorage::new(wal, snapshots));
        let shared = Shared {
            request_timeout: scene.plan.request_timeout,
            snapshot_log_bytes: scene.plan.snapshot_log_bytes,
            disk_is_full: Arc::default(),
            unapplied: Admission::new(1 << 20),
            metrics: Arc::default(),
            events: Arc::default(),
            peers: Arc::new(Peers::new((1..=scene.plan.nodes as u64).map(NodeId))),
            mending: Arc::default(),
        };
        let workers = start_workers(hardware, &storage, scene);
        let stranger = draw_stranger(hardware, scene);
        let mut process = Self {
            workers,
            storage,
            cells: Vec::new(),
            by_group: BTreeMap::new(),
            liveness: start_liveness(hardware, &grants, stranger, scene),
            stranger,
            introduction: Introduction {
                incarnation: hardware.directory,
                newest: hardware.boot.start(),
                log_end: found_end,
                ..Introduction::default()
            },
            founding: FoundingProgress::new(scene.plan.awaited(hardware.place)),
            supports_until: BTreeMap::new(),
            leases: BTreeMap::new(),
            unsupported: BTreeMap::new(),
            writer: Writer::default(),
            incoming: Incoming::new(),
            shared: Arc::new(shared),
            admission: Admission::new(1 << 20),
            waiting: Vec::new(),
            calls: BTreeMap::new(),
            next_call: hardware.incarnation << 32,
            office: scene.plan.elastic.then(|| Office::new(hardware.incarnation)),
        };
        for worker in &mut process.workers {
            worker.turn.support.founded = process.liveness.is_founded();
        }
        if hardware.stands_in() {
            hardware.tick_later(Time(0), scene);
            return process;
        }
        scene.checks.started(hardware.place, process.liveness.boot(), &grants);
        process.go_on_supporting(hardware, scene);
        for group in 0..scene.plan.groups {
            let found = restored.remove(&group_id(group));
            // Of damage that is gone with its segment, the tombstone is left. No replica of a
            // damaged node is removed otherwise, and none is added again.
            let has_tombstone = process.storage.wal.lock().log().tombstone(group_id(group));
            let is_lost = damaged.contains_key(&group_id(group))
                || (hardware.damaged && has_tombstone.is_some());
            if scene.plan.hosts(group).contains(&hardware.place) && !is_lost {
                process.start_group(hardware, group, found.unwrap_or_default(), scene);
            }
        }
        assert!(restored.is_empty(), "the log holds groups that were never here: {restored:?}");
        process.schedule_turns(hardware, scene);
        hardware.tick_later(Time(0), scene);
        process
    }

    /// Workers go by the support that the disk knows of.
    fn go_on_supporting(&mut self, hardware: &Hardware, scene: &Scene) {
        for (peer, epoch) in self.liveness.support_for() {
            for worker in &mut self.workers {
                worker.turn.support.of_mut(peer).support_for = Some(epoch);
            }
            let timing = scene.plan.timing_of(hardware.place);
            let until = hardware.time(scene.now) + timing.support_timeout;
            self.supports_until.insert(peer, (epoch, until));
        }
    }

    /// A peer has recorded this node. When all have that are waited for, the node may promise.
    pub(super) fn recorded_by(&mut self, hardware: &mut Hardware, peer: NodeId, scene: &mut Scene) {
        self.founding.recorded_by(peer);
        if hardware.boot.founded || !self.founding.is_complete() {
            return;
        }
        hardware.boot.founded = true;
        scene.trace.note(scene.now, &[hardware.place as u64], format_args!("is founded"));
        self.liveness.found(hardware.time(scene.now));
        self.tell_all(|| WorkerEvent::Founded);
        self.schedule_turns(hardware, scene);
    }

    /// Starts the replica of a group: the one that the log holds, or one that founds the group or
    /// waits to be added to it.
    pub(super) fn start_group(
        &mut self,
        hardware: &Hardware,
        group: usize,
        log: Restored,
        scene: &mut Scene,
    ) {
        let worker = group % self.workers.len();
        let id = group_id(group);
        let tombstone = self.storage.wal.lock().log().tombstone(id);
        scene.checks.recovered(hardware.place, group, &log, tombstone);
        if tombstone.is_some() && log == Restored::default() {
            scene.elastic.damaged.remove(&(hardware.place, id));
        }
        let is_original = log.hard_state.replica == ReplicaId::FOUNDER && tombstone.is_none();
        let is_founder = is_original && scene.plan.voters(group).contains(&hardware.place);
        let lowest = if is_founder { ReplicaId::FOUNDER } else { ReplicaId::FOUNDER.next() };
        let journal = Journal::default();
        let found = (&journal, log, is_founder);
        let (machine, recovery) = self.recover(hardware, group, found, scene);
        let restored = recovery.known_committed();
        let Recovery { reset, state_holds, .. } = recovery;
        let founding: Arc<Configuration> = match is_founder {
            true => scene.plan.founding(group).into(),
            false => Configuration::unknown().into(),
        };
        let is_new = restored.configurations.is_empty();
        if let Some(persist) = reset {
            scene.checks.writing(hardware.place, group, &persist);
            self.workers[worker].turn.writes.push((id, persist));
        }
        let configuration = restored.base(&founding);
        let config = Config {
            group: id,
            node: hardware.id(),
            replica: tombstone.unwrap_or(lowest),
            founding: Arc::clone(&founding),
            seed: scene.random.next(),
            tuning: Arc::new(scene.plan.tuning_of(hardware.place)),
        };
        forgets_earlier_votes(&config, &restored);
        let raft = Raft::new(config, restored, hardware.time(scene.now));
        let place = self.cells.len();
        let slot = Slot { index: SlotIndex(place as u32), generation: 0 };
        let view = Arc::<GroupView>::default();
        let shared = Arc::clone(&self.shared);
        let reader = machine.reader();
        let mut group =
            Group::new(id, slot, raft, configuration, machine, shared, Arc::clone(&view));
        group.has_reader(reader);
        if is_founder && is_new {
            group.found(founding);
        }
        if let Some(last) = state_holds {
            group.state_holds(last);
        }
        self.by_group.insert(id, place);
        self.workers.iter_mut().for_each(|worker| worker.wait_lists.add());
        self.cells.push(ReplicaCell {
            group,
            id,
            worker,
            inbox: Vec::new(),
            woken: false,
            durable: WriteSeq::default(),
            wake_conditions: WakeConditions::default(),
            view,
            journal,
            own_disk: hardware.machines.of(group_place(id)),
            reads: ReadBook::default(),
            troubled: None,
            failed: false,
        });
        if scene.elastic.damaged.contains_key(&(hardware.place, id)) {
            self.post(place, GroupEvent::Fail("simulated damage".to_owned()));
        }
        self.post(place, GroupEvent::Tick);
    }

    /// A state machine, and what its replica starts from with this log.
    fn recover(
        &self,
        hardware: &Hardware,
        group: usize,
        (journal, log, founds): (&Journal, Restored, bool),
        scene: &mut Scene,
    ) -> (Box<dyn StateMachine>, Recovery) {
        let id = group_id(group);
        let surroundings = Surroundings {
            plan: &scene.plan,
            journal,
            disk: hardware.machines.of(group),
            power: hardware.snapshots.clone(),
            clock: &hardware.unix_clock,
        };
        let feed = self.office.as_ref().map_or_else(Feed::new, |office| Arc::clone(&office.feed));
        let mut machine = machine_of(group, &feed, surroundings);
        if is_unborn(&log, founds) {
            let cleared = machine.on_disk().map_or(Ok(()), DiskStateMachine::clear);
            cleared.expect("a state can be cleared");
            self.storage.snapshots.remove(id).expect("a snapshot can be removed");
        }
        let snapshot = read_snapshot(&self.storage.snapshots, id);
        let snapshot = snapshot.unwrap_or_else(|error| {
            panic!("after a crash, node {} can't use a snapshot: {error}", hardware.id())
        });
        let holds = hardware.machines.of(group).holds();
        scene.checks.snapshot_found(hardware.place, group, snapshot.as_ref(), holds);
        let meta = snapshot.as_ref().map(|(meta, _)| meta.clone());
        let snapshot = snapshot.map(|(meta, content)| (meta, Cursor::new(content)));
        let agreed = recover(log, snapshot, &mut *machine);
        let recovery = agreed.expect("log, snapshot and state agree after a crash");
        let meta = meta.filter(|_| recovery.state_holds.is_none() || recovery.reset.is_some());
        scene.checks.reconciled(hardware.place, group, meta.as_ref(), &recovery.restored);
        (machine, recovery)
    }

    /// Does what an event of this process asks for.
    pub(super) fn handle(&mut self, hardware: &mut Hardware, event: Event, scene: &mut Scene) {
        match event {
            Event::Tick => self.tick(hardware, scene),
            Event::Turn(number) => self.turn(hardware, number, scene),
            Event::Synced => self.synced(hardware, scene),
            Event::Idle(writes) => self.idle(hardware, writes, scene),
            Event::Room => self.retry(hardware, scene),
            Event::ReadLog(job) => self.read_log(hardware, job, scene),
            Event::Query { job, is_slow } => self.ask_reader(hardware, job, is_slow, scene),
            Event::SnapshotWritten { group, meta, file } => {
                self.snapshot_written(hardware, (group, meta), file, scene);
            }
            Event::Chunk(departing) => self.send_piece(hardware, departing, scene),
            Event::AddPeer => self.know_stranger(hardware, scene),
            Event::Remove { place } => {
                self.post(place, GroupEvent::Remove(self.cells[place].id, Box::new(|| ())));
                self.schedule_turns(hardware, scene);
            }
            Event::Disconnected { to } => self.disconnected(hardware, to, scene),
            Event::Look => self.look(hardware, scene),
            Event::Question { from, question } => {
                self.questioned(hardware, from, &question, scene);
            }
            Event::Told { from, told } => self.told(hardware, from, told, scene),
            event => unreachable!("{event:?} concerns no process"),
        }
    }

    fn read_log(&mut self, hardware: &Hardware, job: LogReadJob, scene: &mut Scene) {
        let LogReadJob { group, first, last, max_bytes, .. } = job;
        let entries = if self.breaks(group) == Some(Breakage::LogRead) {
            self.cell_of(group).expect("it breaks").journal.lock().has_broken = true;
            let (file, reason) = (PathBuf::new(), "simulated".to_owned());
            Err(ReadError::Unreadable { group, file, offset: 0, reason, passes: false })
        } else {
            self.storage.wal.lock().read(group, first, last, max_bytes)
        };
        self.post_to_group(group, GroupEvent::log_read(job, entries));
        self.schedule_turns(hardware, scene);
    }

    fn ask_reader(&mut self, hardware: &Hardware, job: QueryJob, is_slow: bool, scene: &mut Scene) {
        let place = job.slot.index.0 as usize;
        if is_slow {
            self.post(place, GroupEvent::QueryStuck(job.number));
            let takes = scene.random.between(1, 2_000_000);
            scene.after(takes, hardware.target(), Event::Query { job, is_slow: false });
        } else {
            self.post(place, job.run());
        }
        self.schedule_turns(hardware, scene);
    }

    /// Nothing becomes durable any more.
    pub(super) fn halt(&mut self, hardware: &Hardware, scene: &mut Scene) {
        (0..self.cells.len()).for_each(|place| self.post(place, GroupEvent::Halt));
        self.schedule_turns(hardware, scene);
    }

    /// The leader that the replica of a group here knows.
    pub(super) fn leader_of(&self, group: GroupId) -> Option<NodeId> {
        self.cell_of(group)?.view.leader()
    }

    /// What is about to break of a replica here.
    fn breaks(&self, group: GroupId) -> Option<Breakage> {
        self.cell_of(group)?.journal.lock().breaks
    }

    pub(super) fn cell_of(&self, group: GroupId) -> Option<&ReplicaCell> {
        self.by_group.get(&group).map(|place| &self.cells[*place])
    }
}

/// The workers of a node, each of which numbers reads as no run before did.
fn start_workers(
    hardware: &Hardware,
    storage: &Arc<HostStorage>,
    scene: &mut Scene,
) -> Vec<Worker> {
    let worker = |_| {
        let token = ReadToken(start_of(&scene.random.hashes()));
        scene.checks.numbers_from(hardware.id(), token);
        Worker::new(hardware.id(), Arc::clone(storage), token)
    };
    (0..scene.plan.workers).map(worker).collect()
}

pub(super) const fn group_id(place: usize) -> GroupId {
    GroupId(place as u64 + 1)
}

pub(super) const fn group_place(group: GroupId) -> usize {
    group.0 as usize - 1
}
