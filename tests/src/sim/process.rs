//! The process of a simulated node. It does what the threads of a real one do, in one thread: here
//! are its start and what comes from peers and clients. The workers are in `worker`, the log's
//! threads in `wal`, that of the snapshots in `transfer`, the liveness manager in `vigil`.

use super::checks::Checks;
use super::disk::{HostStorage, read_snapshot};
use super::host::Hardware;
use super::machine::{Breakage, Journal, Machine, take_query_id};
use super::reads::{ReadBook, Reader};
use super::scene::{Event, Resignation, Scene, Target};
use super::transfer::Arriving;
use super::vigil::start_liveness;
use super::wal::Writer;
use super::worker::{Worker, WorkerEvent};
use bytes::Bytes;
use logboat::internals::{
    Admission, FoundingProgress, Group, GroupEvent, Liveness, LogReadJob, Peers, Request, Shared,
    Slot, WakeConditions, decode_reply, decode_request, encode_reply, encode_request, founders_of,
    recover,
};
use logboat::{GroupView, ReadMode, RequestError, RequestKind, StateMachine};
use logboat_raft::{
    Config, Configuration, Epoch, Fortification, GroupId, Index, Introduction, Lease, LogId,
    Message, NodeId, Payload, Raft, ReadToken, ReplicaId, Restored, RoleKind, Status, Support,
    Term, Time, WriteSeq,
};
use logboat_storage::simulation::{InlineWal, SimDisk};
use logboat_storage::{ReadError, Recovered, SnapshotStore};
use logboat_transport::{Founders, Outgoing, Parcel, RequestId, decode};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Who asked: a client, and its attempt.
pub(super) type Caller = (usize, u64);

/// A replica, and what its worker knows of it.
pub(super) struct ReplicaCell {
    pub(super) group: Group,
    pub(super) id: GroupId,
    /// The worker that runs it.
    pub(super) worker: usize,
    pub(super) inbox: Vec<GroupEvent>,
    pub(super) woken: bool,
    pub(super) durable: WriteSeq,
    pub(super) wake_conditions: WakeConditions,
    view: Arc<GroupView>,
    pub(super) journal: Journal,
    reads: ReadBook,
    /// The replica has stopped for good, though its node lives.
    pub(super) failed: bool,
}

impl ReplicaCell {
    /// The node that should lead the group.
    pub(super) fn preferred(&self) -> Option<NodeId> {
        self.group.members().preferred()
    }

    /// Why the replica has stopped.
    pub(super) fn failure(&self) -> Option<&str> {
        self.view.failure()
    }

    /// The term in which the replica leads.
    pub(super) fn leads_in(&self) -> Option<Term> {
        let raft = self.group.raft();
        (raft.role() == RoleKind::Leader).then(|| raft.term())
    }

    /// After the replica ran, which led before by the configuration and in the term `led`: checks
    /// what was read.
    pub(super) fn check_reads(
        &mut self,
        node: NodeId,
        (before, led): (Arc<Configuration>, Option<Term>),
        support: &Support,
        checks: &Checks,
    ) {
        let leads = led.filter(|_| self.leads_in() == led);
        let served = std::mem::take(&mut self.journal.lock().answered);
        let configurations = [before, Arc::clone(self.group.raft().configuration())];
        let group = group_place(self.id);
        let reader = Reader { node, group, leads, configurations, support };
        self.reads.ran(&reader, &served, checks);
    }
}

/// What a message of an earlier term leaves as it is.
#[derive(Debug, PartialEq)]
pub(super) struct Standing {
    role: RoleKind,
    term: Term,
    fortified: Option<Fortification>,
    last: LogId,
    /// What a leader counts of each peer.
    counts: Vec<(Index, Option<Epoch>)>,
}

impl Standing {
    pub(super) fn of(raft: &Raft) -> Self {
        let Status { role, term, fortified, last, peers, .. } = raft.status();
        let counts = peers.iter().map(|peer| (peer.matched, peer.fortified)).collect();
        Self { role, term, fortified, last, counts }
    }
}

/// Whether an event is a message of a term before `term`, which means nothing any more. What ends
/// bonds or the replica still does.
pub(super) fn is_late(event: &GroupEvent, term: Term) -> bool {
    let GroupEvent::Message { message, .. } = event else {
        return false;
    };
    let ends_bonds = matches!(
        message.payload,
        Payload::PreVote { .. }
            | Payload::Vote { .. }
            | Payload::Resign { .. }
            | Payload::Gone { .. }
    );
    message.term < term && !ends_bonds
}

/// The process.
pub(super) struct Process {
    pub(super) workers: Vec<Worker>,
    pub(super) storage: Arc<HostStorage>,
    pub(super) cells: Vec<ReplicaCell>,
    pub(super) by_group: BTreeMap<GroupId, usize>,
    pub(super) liveness: Liveness,
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
    pub(super) arriving: BTreeMap<GroupId, Arriving>,
    pub(super) shared: Arc<Shared>,
    pub(super) admission: Arc<Admission>,
    waiting: Vec<(Caller, oneshot::Receiver<Result<Bytes, RequestError>>)>,
    calls: BTreeMap<u64, (Caller, usize)>,
    next_call: u64,
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
        };
        let worker = |_| {
            let token = ReadToken(scene.random.next());
            Worker::new(hardware.id(), Arc::clone(&storage), token)
        };
        let workers = (0..scene.plan.workers).map(worker).collect();
        let mut process = Self {
            workers,
            storage,
            cells: Vec::new(),
            by_group: BTreeMap::new(),
            liveness: start_liveness(hardware, &grants, scene),
            introduction: Introduction {
                incarnation: hardware.directory,
                newest: hardware.boot.start(),
                let_in: None,
                log_end: found_end,
            },
            founding: FoundingProgress::new(scene.plan.awaited(hardware.place)),
            supports_until: BTreeMap::new(),
            leases: BTreeMap::new(),
            unsupported: BTreeMap::new(),
            writer: Writer::default(),
            arriving: BTreeMap::new(),
            shared: Arc::new(shared),
            admission: Admission::new(1 << 20),
            waiting: Vec::new(),
            calls: BTreeMap::new(),
            next_call: hardware.incarnation << 32,
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
        let is_original = log.hard_state.replica == ReplicaId::FOUNDER && tombstone.is_none();
        let is_founder = is_original && scene.plan.voters(group).contains(&hardware.place);
        let lowest = if is_founder { ReplicaId::FOUNDER } else { ReplicaId::FOUNDER.next() };
        let journal = Journal::default();
        let mut machine = Machine::new(Arc::clone(&journal));
        let snapshot = read_snapshot(&self.storage.snapshots, id);
        let snapshot = snapshot.unwrap_or_else(|error| {
            panic!("after a crash, node {} can't use a snapshot: {error}", hardware.id())
        });
        scene.checks.snapshot_found(hardware.place, group, snapshot.as_ref());
        let meta = snapshot.as_ref().map(|(meta, _)| meta.clone());
        let snapshot = snapshot.map(|(meta, content)| (meta, Cursor::new(content)));
        let agreed = recover(log, snapshot, &mut machine);
        let (restored, reset) = agreed.expect("log and snapshot agree after a crash");
        scene.checks.reconciled(hardware.place, group, meta.as_ref(), &restored);
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
        let raft = Raft::new(config, restored, hardware.time(scene.now));
        let place = self.cells.len();
        let slot = Slot(place as u32);
        let view = Arc::<GroupView>::default();
        let machine: Box<dyn StateMachine> = Box::new(machine);
        let shared = Arc::clone(&self.shared);
        let mut group =
            Group::new(id, slot, raft, configuration, machine, shared, Arc::clone(&view));
        if is_founder && is_new {
            group.found(founding);
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
            reads: ReadBook::default(),
            failed: false,
        });
        self.post(place, GroupEvent::Tick);
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
            Event::SnapshotWritten { group, meta, file } => {
                self.snapshot_written(hardware, (group, meta), file, scene);
            }
            Event::Chunk(departing) => self.send_piece(hardware, departing, scene),
            Event::Disconnected { to } => self.disconnected(hardware, to, scene),
            event => unreachable!("{event:?} concerns no process"),
        }
    }

    fn read_log(&mut self, hardware: &Hardware, job: LogReadJob, scene: &mut Scene) {
        let LogReadJob { group, first, last, max_bytes, .. } = job;
        let entries = if self.breaks(group) == Some(Breakage::LogRead) {
            self.cell_of(group).expect("it breaks").journal.lock().has_broken = true;
            let (file, reason) = (PathBuf::new(), "simulated".to_owned());
            Err(ReadError::Unreadable { group, file, offset: 0, reason })
        } else {
            self.storage.wal.lock().read(group, first, last, max_bytes)
        };
        self.post_to_group(group, GroupEvent::log_read(job, entries));
        self.schedule_turns(hardware, scene);
    }

    /// Takes what a peer sent.
    pub(super) fn receive(
        &mut self,
        hardware: &mut Hardware,
        from: usize,
        frame: Bytes,
        scene: &mut Scene,
    ) {
        let mut parcels = Vec::new();
        decode(frame.clone(), &mut parcels).expect("a frame arrives as it was sent");
        let peer = NodeId(from as u64 + 1);
        let promises = parcels
            .iter()
            .any(|parcel| matches!(parcel, Parcel::Message { .. } | Parcel::Support(_)));
        assert!(!promises || scene.checks.is_founded(peer), "{peer} speaks before it is founded");
        for (group, term) in resignations(&parcels) {
            let (to, frame) = (hardware.place, frame.clone());
            scene.keep_resignation(Resignation { from, to, group, term, frame });
        }
        let mut asked = None;
        for parcel in parcels {
            match parcel {
                Parcel::Message { group, message } => {
                    if matches!(message.payload, Payload::Vote { transfer: false, .. }) {
                        asked = Some(group);
                    }
                    let times = (scene.now, scene.plan.retransmit_us());
                    let way = (from, hardware.place);
                    self.note_answer(peer, group, &message, scene);
                    scene.checks.promised(way, group_place(group), &message, times);
                    if matches!(message.payload, Payload::Snapshot { .. }) {
                        self.offered(hardware, peer, group, message, scene);
                    } else {
                        self.hand_over_message(peer, group, message);
                    }
                }
                Parcel::Request { id, group, body } => {
                    self.requested(hardware, peer, id, group, body, scene);
                }
                Parcel::Forward { .. } => unreachable!("clients ask the leader's machine directly"),
                Parcel::Reply { id, body } => {
                    let asked = self.calls.get(&id.0).is_some_and(|(_, asked)| *asked == from);
                    if asked && let Some((caller, _)) = self.calls.remove(&id.0) {
                        answer(caller, decode_reply(body), scene);
                    }
                }
                Parcel::Support(message) => self.heard(hardware, peer, message, scene),
                Parcel::Founders { group, founders, asks } => {
                    self.founders_named(hardware, peer, group, (founders, asks), scene);
                }
                Parcel::Snapshot(chunk) => self.piece_arrived(peer, chunk),
                Parcel::SnapshotRefused { group, last: _ } => {
                    self.post_to_group(group, GroupEvent::SnapshotSent { to: peer, meta: None });
                }
            }
        }
        if let Some(place) = asked.and_then(|group| self.by_group.get(&group).copied()) {
            self.withdraw_for_a_vote(hardware, place, scene);
        }
        self.schedule_turns(hardware, scene);
    }

    /// A peer says by whom a group was founded, and may ask.
    fn founders_named(
        &mut self,
        hardware: &Hardware,
        from: NodeId,
        group: GroupId,
        (founders, asks): (Option<Founders>, bool),
        scene: &mut Scene,
    ) {
        let plan = &scene.plan;
        let is_founder = plan.voters(group_place(group)).contains(&hardware.place);
        let own = is_founder.then(|| founders_of(&plan.founding(group_place(group)))).flatten();
        if asks {
            let mut outgoing = Outgoing::new();
            outgoing.push_founders(group, own.as_ref(), false);
            scene.send(hardware.place, from, outgoing);
        } else {
            self.post_to_group(group, GroupEvent::Founders { from, founders });
        }
    }

    fn requested(
        &mut self,
        hardware: &Hardware,
        from: NodeId,
        id: RequestId,
        group: GroupId,
        body: Bytes,
        scene: &mut Scene,
    ) {
        let refusal = match (self.admission.admit(body.len()), decode_request(body)) {
            (Ok(_), _) if !self.by_group.contains_key(&group) => RequestError::NoSuchGroup(group),
            (Ok(permit), Some((kind, body))) => {
                self.note_read(self.by_group[&group], kind, &body, scene);
                let request = Request::remote(body, from, id, permit);
                return self.post_to_group(group, GroupEvent::request(kind, request));
            }
            (Ok(_), None) => RequestError::Stopped,
            (Err(busy), _) => busy,
        };
        let mut outgoing = Outgoing::new();
        outgoing.push_reply(id, &encode_reply(&Err(refusal)));
        scene.send(hardware.place, from, outgoing);
    }

    /// Asks a replica, here or on another node, in the name of a client of this node.
    pub(super) fn ask(
        &mut self,
        hardware: &Hardware,
        caller: Caller,
        to: usize,
        group: GroupId,
        (kind, body): (RequestKind, Bytes),
        scene: &mut Scene,
    ) {
        if to == hardware.place {
            let admitted = self.admission.admit(body.len());
            match (admitted, self.by_group.get(&group)) {
                (Err(busy), _) => answer(caller, Err(busy), scene),
                (Ok(_), None) => answer(caller, Err(RequestError::NoSuchGroup(group)), scene),
                (Ok(permit), Some(place)) => {
                    let place = *place;
                    self.note_read(place, kind, &body, scene);
                    let (request, receiver) = Request::local(body, permit);
                    self.waiting.push((caller, receiver));
                    self.post(place, GroupEvent::request(kind, request));
                    self.schedule_turns(hardware, scene);
                }
            }
            return;
        }
        self.next_call += 1;
        let id = RequestId(self.next_call);
        let mut outgoing = Outgoing::new();
        outgoing.push_request(id, group, &encode_request(kind, &body));
        let frames = outgoing.into_frames();
        if frames.into_iter().all(|frame| scene.send_frame(hardware.place, to, frame, false)) {
            self.calls.insert(id.0, (caller, to));
        } else {
            answer(caller, Err(RequestError::Unreachable(NodeId(to as u64 + 1))), scene);
        }
    }

    /// A request comes to a replica here, which may be a read that no lease can serve.
    fn note_read(&mut self, place: usize, kind: RequestKind, body: &Bytes, scene: &Scene) {
        let RequestKind::Read(ReadMode { lease, .. }) = kind else { return };
        let id = take_query_id(&mut body.clone());
        let cell = &mut self.cells[place];
        if !lease {
            let next_round = self.workers[cell.worker].turn.support.next_round;
            cell.reads.came(id, next_round, scene.now);
        }
        let group = group_place(cell.id);
        if cell.leads_in().is_some_and(|term| scene.checks.handed_over(group, term)) {
            cell.reads.came_late(id);
        }
    }

    /// A leader may name an index to read at.
    fn note_answer(&mut self, from: NodeId, group: GroupId, message: &Message, scene: &Scene) {
        let is_answer = matches!(message.payload, Payload::ReadIndexReply { index: Some(_), .. });
        if let Some(place) = self.by_group.get(&group).filter(|_| is_answer) {
            self.cells[*place].reads.answered(from, scene.now);
        }
    }

    /// The connection to a node is lost: what was asked over it has an unknown outcome.
    pub(super) fn disconnected(&mut self, hardware: &Hardware, to: usize, scene: &mut Scene) {
        self.calls.retain(|_, (caller, asked)| {
            if *asked == to {
                answer(*caller, Err(RequestError::TimedOut), scene);
            }
            *asked != to
        });
        self.tell_all(|| WorkerEvent::Disconnected(NodeId(to as u64 + 1)));
        self.schedule_turns(hardware, scene);
    }

    /// Hands the answers of this turn to the clients of this node.
    pub(super) fn collect_answers(&mut self, scene: &mut Scene) {
        self.waiting.retain_mut(|(caller, receiver)| match receiver.try_recv() {
            Ok(result) => {
                answer(*caller, result, scene);
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => {
                answer(*caller, Err(RequestError::TimedOut), scene);
                false
            }
        });
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

/// The groups in which the sender of a frame resigns, each with its term, if the frame is one that
/// may come twice: it holds no request.
fn resignations(parcels: &[Parcel]) -> Vec<(GroupId, Term)> {
    if parcels.iter().any(|parcel| matches!(parcel, Parcel::Request { .. })) {
        return Vec::new();
    }
    let resignation = |parcel: &Parcel| match parcel {
        Parcel::Message { group, message } => {
            let Payload::Resign { term, .. } = message.payload else { return None };
            Some((*group, term))
        }
        _ => None,
    };
    parcels.iter().filter_map(resignation).collect()
}

fn answer((client, attempt): Caller, result: Result<Bytes, RequestError>, scene: &mut Scene) {
    scene.after(1, Target::World, Event::Answer { client, attempt, result });
}

pub(super) const fn group_id(place: usize) -> GroupId {
    GroupId(place as u64 + 1)
}

pub(super) const fn group_place(group: GroupId) -> usize {
    group.0 as usize - 1
}
