//! The process of a simulated node. It does what the worker and the threads of a real one do, in
//! one thread: wakes the replicas that have something to do, and carries away what their turn
//! produced. The log's side of it is in `wal`, that of the snapshots in `transfer`.

use super::checks::Checks;
use super::disk::{HostStorage, read_snapshot};
use super::host::{CrashPoint, Hardware};
use super::machine::{Breakage, Journal, Machine, take_query_id};
use super::options::Fault;
use super::probe::cut_power;
use super::reads::{ReadBook, Reader};
use super::scene::{Event, Resignation, Scene, Target};
use super::transfer::Arriving;
use super::vigil::{keeps_bond, start_liveness};
use super::wal::{Submission, Writer};
use bytes::Bytes;
use logboat::internals::{
    Admission, Group, GroupEvent, Liveness, LogReadJob, Request, RunContext, RunScratch, Shared,
    Slot, Turn, WaitLists, WakeConditions, decode_reply, decode_request, encode_reply,
    encode_request, recover,
};
use logboat::{GroupView, ReadMode, RequestError, RequestKind, StateMachine};
use logboat_raft::{
    Config, Epoch, Fortification, GroupId, Index, LogId, Message, NodeId, Payload, Raft, ReadToken,
    Restored, RoleKind, Status, Support, Term, Time, WriteSeq,
};
use logboat_storage::simulation::{InlineWal, SimDisk};
use logboat_storage::{ReadError, Recovered, SnapshotStore};
use logboat_transport::{Outgoing, Parcel, RequestId, decode};
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
    inbox: Vec<GroupEvent>,
    pub(super) woken: bool,
    pub(super) durable: WriteSeq,
    pub(super) wake_conditions: WakeConditions,
    view: Arc<GroupView>,
    pub(super) preferred: NodeId,
    pub(super) journal: Journal,
    reads: ReadBook,
    /// The replica has stopped for good, though its node lives.
    pub(super) failed: bool,
}

impl ReplicaCell {
    /// The term in which the replica leads.
    fn leads_in(&self) -> Option<Term> {
        let raft = self.group.raft();
        (raft.role() == RoleKind::Leader).then(|| raft.term())
    }

    /// After the replica ran, having led before in the term `led`: checks what was read.
    fn check_reads(&mut self, node: NodeId, led: Option<Term>, support: &Support, checks: &Checks) {
        let leads = led.filter(|_| self.leads_in() == led);
        let served = std::mem::take(&mut self.journal.lock().answered);
        let peers: Vec<NodeId> = self.group.raft().peers().collect();
        let group = group_place(self.id);
        self.reads.ran(&Reader { node, group, leads, peers: &peers, support }, &served, checks);
    }
}

/// What a message of an earlier term leaves as it is.
#[derive(Debug, PartialEq)]
struct Standing {
    role: RoleKind,
    term: Term,
    fortified: Option<Fortification>,
    last: LogId,
    /// What a leader counts of each peer.
    counts: Vec<(Index, Option<Epoch>)>,
}

impl Standing {
    fn of(raft: &Raft) -> Self {
        let Status { role, term, fortified, last, peers, .. } = raft.status();
        let counts = peers.iter().map(|peer| (peer.matched, peer.fortified)).collect();
        Self { role, term, fortified, last, counts }
    }
}

/// Whether an event is a message of a term before `term`, which means nothing any more. What ends
/// bonds still does.
fn is_late(event: &GroupEvent, term: Term) -> bool {
    let GroupEvent::Message { message, .. } = event else {
        return false;
    };
    let ends_bonds = matches!(
        message.payload,
        Payload::PreVote { .. } | Payload::Vote { .. } | Payload::Resign { .. }
    );
    message.term < term && !ends_bonds
}

/// The process.
pub(super) struct Process {
    pub(super) turn: Turn,
    scratch: RunScratch,
    pub(super) storage: Arc<HostStorage>,
    pub(super) cells: Vec<ReplicaCell>,
    by_group: BTreeMap<GroupId, usize>,
    /// Places of the cells that run in the next turn.
    woken: Vec<usize>,
    turn_scheduled: bool,
    /// Whether a leader's snapshot was adopted in this turn.
    has_adopted: bool,
    pub(super) liveness: Liveness,
    /// Until when this node certainly supports each peer, by its own clock, and at which epoch.
    pub(super) supports_until: BTreeMap<NodeId, (Epoch, Time)>,
    pub(super) wait_lists: WaitLists,
    /// Since when each peer supports this node.
    pub(super) supporters: BTreeMap<NodeId, Time>,
    /// Until when the requests of these peers for support are not heard.
    pub(super) unsupported: BTreeMap<NodeId, u64>,
    pub(super) writer: Writer,
    pub(super) arriving: BTreeMap<GroupId, Arriving>,
    shared: Arc<Shared>,
    admission: Arc<Admission>,
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
        let Recovered { groups: mut restored, grants } = recovered;
        let snapshots = SnapshotStore::open_on(hardware.snapshots.clone());
        let snapshots = snapshots.expect("a directory can be listed");
        let storage = Arc::new(HostStorage::new(wal, snapshots));
        let shared = Shared {
            request_timeout: scene.plan.request_timeout,
            snapshot_log_bytes: scene.plan.snapshot_log_bytes,
            unapplied: Admission::new(1 << 20),
            metrics: Arc::default(),
        };
        let mut process = Self {
            turn: Turn::new(storage.clone(), ReadToken(scene.random.next())),
            scratch: RunScratch::default(),
            storage,
            cells: Vec::new(),
            by_group: BTreeMap::new(),
            woken: Vec::new(),
            turn_scheduled: false,
            has_adopted: false,
            liveness: start_liveness(hardware, &grants, scene),
            supports_until: BTreeMap::new(),
            wait_lists: WaitLists::new(hardware.id()),
            supporters: BTreeMap::new(),
            unsupported: BTreeMap::new(),
            writer: Writer::default(),
            arriving: BTreeMap::new(),
            shared: Arc::new(shared),
            admission: Admission::new(1 << 20),
            waiting: Vec::new(),
            calls: BTreeMap::new(),
            next_call: hardware.incarnation << 32,
        };
        scene.checks.started(hardware.place, process.liveness.boot(), &grants);
        for (peer, epoch) in process.liveness.support_for() {
            process.turn.support.of_mut(peer).support_for = Some(epoch);
            let timing = scene.plan.timing_of(hardware.place);
            let until = hardware.time(scene.now) + timing.support_timeout;
            process.supports_until.insert(peer, (epoch, until));
        }
        for group in 0..scene.plan.groups {
            let found = restored.remove(&group_id(group));
            if scene.plan.voters(group).contains(&hardware.place) {
                process.start_group(hardware, group, found.unwrap_or_default(), scene);
            }
        }
        assert!(restored.is_empty(), "the log holds groups that were never here: {restored:?}");
        process.schedule_turn(hardware, scene);
        hardware.tick_later(Time(0), scene);
        process
    }

    fn start_group(&mut self, hardware: &Hardware, group: usize, log: Restored, scene: &mut Scene) {
        scene.checks.recovered(hardware.place, group, &log);
        let id = group_id(group);
        let journal = Journal::default();
        let mut machine = Machine::new(Arc::clone(&journal));
        let snapshot = read_snapshot(&self.storage.snapshots, id);
        let snapshot = snapshot.unwrap_or_else(|error| {
            panic!("after a crash, node {} can't use a snapshot: {error}", hardware.id())
        });
        let last = scene.checks.snapshot_found(hardware.place, group, snapshot.as_ref());
        let snapshot = snapshot.map(|(last, content)| (last, Cursor::new(content)));
        let agreed = recover(log, snapshot, &mut machine);
        let (restored, reset) = agreed.expect("log and snapshot agree after a crash");
        scene.checks.reconciled(hardware.place, group, last, &restored);
        if let Some(persist) = reset {
            scene.checks.writing(hardware.place, group, &persist);
            self.turn.writes.push((id, persist));
        }
        let voters = scene.plan.voters(group);
        let preferred = NodeId(voters[0] as u64 + 1);
        let mut voters: Vec<NodeId> = voters.iter().map(|node| NodeId(*node as u64 + 1)).collect();
        voters.sort_unstable();
        let config = Config {
            group: id,
            node: hardware.id(),
            voters: voters.into(),
            preferred,
            seed: scene.random.next(),
            tuning: Arc::new(scene.plan.tuning_of(hardware.place)),
        };
        let raft = Raft::new(config, restored, hardware.time(scene.now));
        let place = self.cells.len();
        let slot = Slot(place as u32);
        let view = Arc::<GroupView>::default();
        let machine: Box<dyn StateMachine> = Box::new(machine);
        let shared = Arc::clone(&self.shared);
        let group = Group::new(id, slot, raft, machine, shared, Arc::clone(&view));
        self.by_group.insert(id, place);
        self.wait_lists.add();
        self.cells.push(ReplicaCell {
            group,
            id,
            inbox: Vec::new(),
            woken: false,
            durable: WriteSeq::default(),
            wake_conditions: WakeConditions::default(),
            view,
            preferred,
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
            Event::Turn => self.turn(hardware, scene),
            Event::Synced => self.synced(hardware, scene),
            Event::Idle(writes) => self.idle(hardware, writes, scene),
            Event::Room => self.retry(hardware, scene),
            Event::ReadLog(job) => self.read_log(hardware, job, scene),
            Event::SnapshotWritten { group, last, file } => {
                self.snapshot_written(hardware, (group, last), file, scene);
            }
            Event::Chunk(departing) => self.send_piece(hardware, departing, scene),
            Event::Disconnected { to } => self.disconnected(hardware, to, scene),
            event => unreachable!("{event:?} concerns no process"),
        }
    }

    /// Runs the replicas that were woken, and flushes what they produced.
    pub(super) fn turn(&mut self, hardware: &mut Hardware, scene: &mut Scene) {
        self.turn_scheduled = false;
        self.turn.now = hardware.time(scene.now);
        self.wake_concerned();
        for place in std::mem::take(&mut self.woken) {
            let cell = &mut self.cells[place];
            cell.woken = false;
            let events = std::mem::take(&mut cell.inbox);
            let led = cell.leads_in();
            // Mostly all at once, as an actor does; at times one by one, which shows the checks
            // more.
            let apart = !events.is_empty() && scene.random.per_mille(250);
            if apart || events.len() == 1 {
                for event in events {
                    self.run_one(hardware, place, event, scene);
                }
            } else {
                self.run(hardware, place, events.into_iter(), scene);
            }
            let support = &self.turn.support;
            self.cells[place].check_reads(hardware.id(), led, support, &scene.checks);
            if hardware.snapshots.is_cut() {
                return;
            }
            if std::mem::take(&mut self.has_adopted) {
                cut_power(hardware, scene);
                if hardware.crashes(CrashPoint::SnapshotAdopted) {
                    return;
                }
            }
        }
        self.ask_for_confirmation(scene);
        self.flush(hardware, scene);
        self.collect_answers(scene);
        self.schedule_turn(hardware, scene);
    }

    /// Has a replica take in one event, and nothing else that could be the reason for what follows.
    fn run_one(&mut self, hardware: &Hardware, place: usize, event: GroupEvent, scene: &mut Scene) {
        let bond = self.standing_bond(place).filter(|bond| keeps_bond(&event, *bond));
        let raft = self.cells[place].group.raft();
        let before = is_late(&event, raft.term()).then(|| Standing::of(raft));
        self.run(hardware, place, std::iter::once(event), scene);
        if self.cells[place].failed {
            return;
        }
        let lost = bond.is_some() && self.standing_bond(place) != bond;
        assert!(!lost, "{bond:?} ended without a reason");
        if let Some(before) = before {
            let after = Standing::of(self.cells[place].group.raft());
            assert_eq!(after, before, "a message of an earlier term changed something");
        }
    }

    fn run(
        &mut self,
        hardware: &Hardware,
        place: usize,
        events: impl Iterator<Item = GroupEvent>,
        scene: &mut Scene,
    ) {
        let cell = &mut self.cells[place];
        let number = group_place(cell.id);
        let written = self.turn.writes.len();
        let failures = self.shared.metrics.failed_replicas.get();
        let mut run = RunContext { turn: &mut self.turn, scratch: &mut self.scratch };
        cell.group.run(&mut run, cell.durable, events);
        cell.wake_conditions = cell.group.wake_conditions(&self.turn.support);
        self.wait_lists.update(Slot(place as u32), cell.wake_conditions);
        for (group, last) in self.storage.take_adopted() {
            scene.checks.snapshot_durable(hardware.place, group_place(group), last);
            self.has_adopted = true;
        }
        for (_, persist) in &self.turn.writes[written..] {
            scene.checks.writing(hardware.place, number, persist);
        }
        if self.shared.metrics.failed_replicas.get() > failures {
            cell.failed = true;
            failed(hardware, cell, scene);
        }
        if !cell.failed {
            scene.checks.after_run(hardware.place, number, cell.group.raft());
        }
        for (place, operation, crc) in cell.journal.lock().applied.drain(..) {
            scene.checks.applied(number, place, operation, crc);
        }
    }

    fn flush(&mut self, hardware: &mut Hardware, scene: &mut Scene) {
        for (peer, outgoing) in self.turn.sends.take() {
            scene.send(hardware.place, peer, outgoing);
        }
        if !self.turn.writes.is_empty() && hardware.crashes(CrashPoint::Sent) {
            return;
        }
        let promises = self.turn.promises.take();
        let writes = std::mem::take(&mut self.turn.writes);
        let seqs = std::mem::take(&mut self.turn.seqs);
        if !writes.is_empty() || !promises.is_empty() {
            for (group, persist) in &writes {
                scene.checks.submitted(hardware.place, group_place(*group), persist);
            }
            self.writer.submit(Submission { writes, seqs, promises, ..Submission::default() });
            self.write(hardware, scene);
        }
        for job in std::mem::take(&mut self.turn.log_reads) {
            let takes = scene.random.between(1, scene.plan.sync_us);
            scene.after(takes, hardware.target(), Event::ReadLog(job));
        }
        let violation = self.turn.violations.first();
        assert_eq!(violation, None, "replicas keep to the protocol");
        for job in std::mem::take(&mut self.turn.snapshots) {
            self.snapshot_job(hardware, job, scene);
        }
    }

    fn read_log(&mut self, hardware: &Hardware, job: LogReadJob, scene: &mut Scene) {
        let LogReadJob { group, first, last, max_bytes, .. } = job;
        let entries = if self.breaks(group) == Some(Breakage::LogRead) {
            let (file, reason) = (PathBuf::new(), "simulated".to_owned());
            Err(ReadError::Unreadable { group, file, offset: 0, reason })
        } else {
            self.storage.wal.lock().read(group, first, last, max_bytes)
        };
        self.post_to_group(group, GroupEvent::log_read(job, entries));
        self.schedule_turn(hardware, scene);
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
        for (group, term) in resignations(&parcels) {
            let (to, frame) = (hardware.place, frame.clone());
            scene.keep_resignation(Resignation { from, to, group, term, frame });
        }
        for parcel in parcels {
            match parcel {
                Parcel::Message { group, message } => {
                    let times = (scene.now, scene.plan.retransmit_us());
                    let way = (from, hardware.place);
                    self.note_answer(peer, group, &message, scene);
                    scene.checks.promised(way, group_place(group), &message, times);
                    if matches!(message.payload, Payload::Snapshot { .. }) {
                        self.offered(hardware, peer, group, message, scene);
                    } else {
                        let event = GroupEvent::Message { from: peer, message };
                        self.post_to_group(group, event);
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
                Parcel::Snapshot(chunk) => self.piece_arrived(peer, chunk),
                Parcel::SnapshotRefused { group, last: _ } => {
                    self.post_to_group(group, GroupEvent::SnapshotSent { to: peer, last: None });
                }
            }
        }
        self.schedule_turn(hardware, scene);
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
                    self.schedule_turn(hardware, scene);
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
            cell.reads.came(id, self.turn.support.next_round, scene.now);
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
        for slot in self.wait_lists.followers_of(hardware.id()).to_vec() {
            if self.cells[slot.0 as usize].wake_conditions.deadline.is_some() {
                let node = NodeId(to as u64 + 1);
                self.post(slot.0 as usize, GroupEvent::Disconnected(node));
            }
        }
        self.schedule_turn(hardware, scene);
    }

    /// Hands the answers of this turn to the clients of this node.
    fn collect_answers(&mut self, scene: &mut Scene) {
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
        self.schedule_turn(hardware, scene);
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

    pub(super) fn post(&mut self, place: usize, event: GroupEvent) {
        self.cells[place].inbox.push(event);
        self.wake(place);
    }

    pub(super) fn post_to_group(&mut self, group: GroupId, event: GroupEvent) {
        if let Some(place) = self.by_group.get(&group) {
            self.post(*place, event);
        }
    }

    pub(super) fn wake(&mut self, place: usize) {
        if !std::mem::replace(&mut self.cells[place].woken, true) {
            self.woken.push(place);
        }
    }

    /// Lets the woken replicas run soon, together with those that are woken meanwhile.
    pub(super) fn schedule_turn(&mut self, hardware: &Hardware, scene: &mut Scene) {
        let work = !self.woken.is_empty()
            || self.wait_lists.has_concerned()
            || !self.turn.writes.is_empty();
        if work && !self.turn_scheduled {
            self.turn_scheduled = true;
            let soon = scene.random.between(1, 50);
            scene.after(soon, hardware.target(), Event::Turn);
        }
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
            let resigns = matches!(message.payload, Payload::Resign { .. });
            resigns.then_some((*group, message.term))
        }
        _ => None,
    };
    parcels.iter().filter_map(resignation).collect()
}

/// A replica has stopped, which it must not do without a reason. Its node is started again later.
fn failed(hardware: &Hardware, cell: &ReplicaCell, scene: &mut Scene) {
    if hardware.snapshots.is_cut() {
        return;
    }
    let broken = cell.journal.lock().breaks.is_some();
    assert!(hardware.damaged || broken, "a replica of group {} stopped", cell.id);
    scene.checks.failed(hardware.place, group_place(cell.id), cell.group.raft());
    if broken {
        scene.count(Fault::ReplicaFailure);
        let later = scene.random.between(1_000, 10_000_000);
        scene.after(later, hardware.target(), Event::Crash);
    }
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
