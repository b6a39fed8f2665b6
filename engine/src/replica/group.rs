//! One replica without its mailbox: the core, the state machine, and the requests that wait.
//!
//! [`Group::run`] is all there is to call. It does no I/O but to adopt a snapshot in [`Storage`], so a
//! simulator drives it as the actor does.
//!
//! [`Storage`]: crate::turn::storage::Storage

use crate::admission::Permit;
use crate::background::log_reader::LogReadJob;
use crate::background::snapshots::SnapshotJob;
use crate::error::RequestError;
use crate::metrics::EngineMetrics;
use crate::replica::pending::{BatchReply, Proposals, Read, Reads, Responder, one_answer};
use crate::request::{Answer, RequestKind, decode_list};
use crate::state_machine::StateMachine;
use crate::turn::{Slot, Turn};
use crate::view::GroupView;
use bytes::Bytes;
use logboat_raft::{
    Commands, Entries, Entry, EntryKind, GroupId, Index, Input, LoadFor, LogId, Message, NodeId,
    Output, Payload, Persist, Raft, ReadMode, Refusal, RoleKind, Round, Support, Term, Time,
    WriteSeq,
};
use logboat_storage::ReadError;
use logboat_transport::RequestId;
use smallvec::SmallVec;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What can happen to a replica.
pub enum GroupEvent {
    /// A deadline of the replica has come.
    Tick,
    /// What the node knows of a peer's liveness has changed, and that concerns the replica.
    SupportChanged,
    /// Peers have answered a round that reads here wait for.
    Confirmed,
    /// A peer's message.
    Message {
        /// The sender.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// A command to replicate.
    Propose(Request),
    /// A list of commands to replicate, in this order and with nothing between them.
    ProposeAll(Request),
    /// A query to answer linearizably.
    Read(Request, ReadMode),
    /// The answer to a [`LogReadJob`].
    LogRead {
        /// What they are for.
        target: LoadFor,
        /// The first index that was wanted.
        first: Index,
        /// Entries from there on; none when the log does not have it.
        entries: Result<Vec<Entry>, ReadError>,
    },
    /// The connection to a node broke.
    Disconnected(NodeId),
    /// A snapshot asked for by [`SnapshotJob::Write`] is durable, or could not be written.
    SnapshotWritten(Option<LogId>),
    /// A snapshot asked for by [`SnapshotJob::Send`] has left this node, or could not be sent.
    SnapshotSent {
        /// The receiver.
        to: NodeId,
        /// What it covers; nothing when it failed.
        last: Option<LogId>,
    },
    /// The log wants room: make a snapshot.
    Compact,
    /// Campaign without waiting for a timeout.
    Campaign,
    /// Hand over leadership.
    Transfer(NodeId),
    /// Hand over leadership, if that can be done without a pause.
    TransferIfCaughtUp(NodeId),
    /// The node can't go on; nothing more becomes durable.
    Halt,
}

impl GroupEvent {
    /// That a request has come.
    #[must_use]
    pub fn request(kind: RequestKind, request: Request) -> Self {
        match kind {
            RequestKind::Propose => Self::Propose(request),
            RequestKind::ProposeAll => Self::ProposeAll(request),
            RequestKind::Read(mode) => Self::Read(request, mode),
        }
    }
}

/// A command, list of commands or query, with whoever waits for its answer.
pub struct Request {
    pub(crate) body: Bytes,
    pub(crate) responder: Responder,
}

impl Request {
    /// A request of a caller in this process, and where its answer comes.
    #[must_use]
    pub fn local(body: Bytes, permit: Permit) -> (Self, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Self { body, responder: Responder::Local { sender, _permit: permit } }, receiver)
    }

    /// A request of a caller on another node, which is answered by a reply to `id`.
    #[must_use]
    pub fn remote(body: Bytes, node: NodeId, id: RequestId, permit: Permit) -> Self {
        Self { body, responder: Responder::Remote { node, id, _permit: permit } }
    }
}

/// What the replicas of a node share.
pub struct Shared {
    /// How long a proposal may stay without an outcome.
    pub request_timeout: Duration,
    /// How many bytes of commands make a new snapshot due.
    pub snapshot_log_bytes: u64,
    /// Counters of the node.
    pub metrics: EngineMetrics,
}

/// What wakes a replica besides messages and requests, and by whom it is led.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeConditions {
    /// When a write is durable: it has something to commit or to apply then.
    pub durability: bool,
    /// When this moment has come.
    pub deadline: Option<Time>,
    /// When this round of confirmations, or a later one, is answered.
    pub awaited_round: Option<Round>,
    /// When what the node knows of this one's liveness changes.
    pub leader: Option<NodeId>,
}

/// One replica of one group.
pub struct Group {
    id: GroupId,
    slot: Slot,
    raft: Raft,
    machine: Box<dyn StateMachine>,
    shared: Arc<Shared>,
    view: Arc<GroupView>,
    proposals: Proposals,
    reads: Reads,
    durable: WriteSeq,
    applied: LogId,
    /// Bytes of commands applied since the last snapshot.
    applied_bytes: u64,
    snapshot_running: bool,
    halted: bool,
    /// When this replica, which failed, tells its peers again not to be bound to it.
    next_resignation: Option<Time>,
}

impl Group {
    /// A replica whose state machine stands at the snapshot from which `raft` starts.
    #[must_use]
    pub fn new(
        id: GroupId,
        slot: Slot,
        raft: Raft,
        machine: Box<dyn StateMachine>,
        shared: Arc<Shared>,
        view: Arc<GroupView>,
    ) -> Self {
        let applied = raft.snapshot();
        view.progress(raft.commit(), applied.index);
        view.role_changed(raft.role(), raft.term(), raft.leader());
        Self {
            id,
            slot,
            raft,
            machine,
            shared,
            view,
            proposals: Proposals::default(),
            reads: Reads::default(),
            durable: WriteSeq::default(),
            applied,
            applied_bytes: 0,
            snapshot_running: false,
            halted: false,
            next_resignation: None,
        }
    }

    /// Takes in what happened since the last run; `durable` is the newest durable write. Proposals go
    /// to the core as one batch, and so do reads.
    pub fn run(
        &mut self,
        turn: &mut Turn,
        durable: WriteSeq,
        events: impl Iterator<Item = GroupEvent>,
    ) {
        if durable > self.durable {
            self.durable = durable;
            self.step(turn, Input::Persisted { seq: durable });
        }
        let mut commands = Commands::new();
        let mut reads: SmallVec<[(ReadMode, Vec<Read>); 1]> = SmallVec::new();
        for event in events {
            match event {
                GroupEvent::Propose(request) => {
                    commands.push(request.body);
                    turn.proposing.push(request.responder);
                }
                GroupEvent::ProposeAll(request) => all_of(turn, request, &mut commands),
                GroupEvent::Read(Request { body: query, responder }, mode) => {
                    let read = Read { query, responder };
                    match reads.iter_mut().find(|(other, _)| *other == mode) {
                        Some((_, reads)) => reads.push(read),
                        None => reads.push((mode, vec![read])),
                    }
                }
                GroupEvent::Tick => self.tick(turn),
                GroupEvent::SupportChanged => self.step(turn, Input::SupportChanged),
                GroupEvent::Confirmed => self.step(turn, Input::Confirmed),
                GroupEvent::Message { from, message } => self.receive(turn, from, message),
                GroupEvent::LogRead { target, first, entries } => {
                    self.loaded(turn, target, first, entries);
                }
                GroupEvent::Disconnected(node) => self.step(turn, Input::Unreachable { node }),
                GroupEvent::SnapshotWritten(last) => self.snapshot_written(turn, last),
                GroupEvent::SnapshotSent { to, last } => self.snapshot_sent(turn, to, last),
                GroupEvent::Compact => self.snapshot(turn),
                GroupEvent::Campaign => self.step(turn, Input::Campaign),
                GroupEvent::Transfer(to) => self.step(turn, Input::Transfer { to }),
                GroupEvent::TransferIfCaughtUp(to) => {
                    if self.raft.is_caught_up(to) {
                        self.step(turn, Input::Transfer { to });
                    }
                }
                GroupEvent::Halt => self.halt(turn),
            }
        }
        if !commands.is_empty() {
            self.propose(turn, commands);
        }
        for (mode, reads) in reads {
            self.read(turn, reads, mode);
        }
        let committed = self.raft.commit().0 - self.view.commit().0;
        self.shared.metrics.committed.inc_by(committed);
        self.view.progress(self.raft.commit(), self.applied.index);
    }

    /// What must wake this replica.
    #[must_use]
    pub fn wake_conditions(&self, support: &Support) -> WakeConditions {
        if self.halted {
            return WakeConditions { deadline: self.next_resignation, ..WakeConditions::default() };
        }
        let deadlines = [self.raft.next_deadline(support), self.proposals.next_deadline()];
        WakeConditions {
            durability: self.raft.role() != RoleKind::Follower
                || self.raft.commit() > self.applied.index,
            deadline: deadlines.into_iter().flatten().min(),
            awaited_round: self.raft.awaited_round(),
            leader: self.raft.leader(),
        }
    }

    /// The replica's core, for those who check it.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    fn tick(&mut self, turn: &mut Turn) {
        self.proposals.expire(turn);
        if self.next_resignation.is_some() {
            self.resign(turn);
        }
        self.step(turn, Input::Tick);
    }

    fn receive(&mut self, turn: &mut Turn, from: NodeId, message: Message) {
        let offered = match message.payload {
            Payload::Snapshot { last } => Some(last),
            _ => None,
        };
        self.step(turn, Input::Receive { from, message });
        if let Some(last) = offered {
            // There is nothing left of one that was adopted.
            turn.storage.discard_snapshot(self.id, last);
        }
    }

    fn propose(&mut self, turn: &mut Turn, commands: Commands) {
        if self.halted {
            return answer_proposing(turn, &RequestError::Stopped);
        }
        self.shared.metrics.proposals.inc_by(commands.len() as u64);
        self.step(turn, Input::Propose { commands });
    }

    fn read(&mut self, turn: &mut Turn, reads: Vec<Read>, mode: ReadMode) {
        let token = self.reads.add(reads);
        if self.halted {
            return self.reads.abandon(turn);
        }
        self.step(turn, Input::Read { token, mode });
    }

    fn step(&mut self, turn: &mut Turn, input: Input) {
        if self.halted {
            return;
        }
        let mut outputs = std::mem::take(&mut turn.outputs);
        self.raft.step(turn.now, &turn.support, input, &mut outputs);
        self.carry_out(turn, outputs);
    }

    /// Does what the core wants, in its order.
    fn carry_out(&mut self, turn: &mut Turn, mut outputs: Vec<Output>) {
        for output in outputs.drain(..) {
            if self.halted {
                return;
            }
            match output {
                Output::Persist(persist) => self.persist(turn, persist),
                Output::Send { to, message } => turn.send(to, self.id, &message),
                Output::SendAfter { after, to, message } => {
                    self.send_after(turn, after, to, &message);
                }
                Output::Apply { entries } => self.apply(turn, entries),
                Output::Proposed { first } => self.proposed(turn, first),
                Output::Refused { reason } => answer_proposing(turn, &reason.into()),
                Output::ReadReady { token } => self.serve(turn, token),
                Output::ReadRefused { token, reason } => self.refuse(turn, token, reason),
                Output::Load { target, first, last, max_bytes } => turn.loads.push(LogReadJob {
                    group: self.id,
                    slot: self.slot,
                    target,
                    first,
                    last,
                    max_bytes,
                }),
                Output::SendSnapshot { to } => {
                    turn.snapshots.push(SnapshotJob::Send { group: self.id, slot: self.slot, to })
                }
                Output::RestoreSnapshot { last } => self.restore(turn, last),
                Output::RoleChanged { role, term, leader } => {
                    self.role_changed(role, term, leader);
                }
            }
        }
        turn.outputs = outputs;
    }

    fn persist(&mut self, turn: &mut Turn, persist: Persist) {
        turn.persist(self.slot, self.id, persist);
    }

    fn send_after(&self, turn: &mut Turn, after: WriteSeq, to: NodeId, message: &Message) {
        if after <= self.durable {
            turn.send(to, self.id, message);
        } else {
            turn.send_when_durable(to, self.id, message);
        }
    }

    fn apply(&mut self, turn: &mut Turn, entries: Entries) {
        self.shared.metrics.applied.inc_by(entries.len() as u64);
        for entry in entries {
            let id = entry.id();
            self.applied_bytes += entry.data.len() as u64;
            let responder = self.proposals.applied(turn, id);
            match entry.kind {
                EntryKind::Noop => {}
                EntryKind::Command => {
                    let machine = AssertUnwindSafe(&mut self.machine);
                    let Ok(answer) = catch_unwind(move || { machine }.apply(entry.data)) else {
                        return self.fail(turn, &format!("its state machine panicked at {id}"));
                    };
                    if let Some(responder) = responder {
                        responder.answer(turn, Ok(answer));
                    }
                }
            }
            self.applied = id;
        }
        if self.applied_bytes >= self.shared.snapshot_log_bytes {
            self.snapshot(turn);
        }
    }

    fn proposed(&mut self, turn: &mut Turn, first: LogId) {
        let deadline = turn.now + self.shared.request_timeout;
        let mut proposing = std::mem::take(&mut turn.proposing);
        for (offset, responder) in proposing.drain(..).enumerate() {
            let id = LogId::new(first.term, first.index.plus(offset as u64));
            self.proposals.add(turn, id, deadline, responder);
        }
        turn.proposing = proposing;
    }

    fn serve(&mut self, turn: &mut Turn, token: logboat_raft::ReadToken) {
        for read in self.reads.take(token) {
            self.shared.metrics.reads.inc();
            let machine = AssertUnwindSafe(&self.machine);
            let Ok(answer) = catch_unwind(move || { machine }.query(read.query)) else {
                read.responder.answer(turn, Err(RequestError::Stopped));
                return self.fail(turn, "its state machine panicked at a query");
            };
            read.responder.answer(turn, Ok(answer));
        }
    }

    fn refuse(&mut self, turn: &mut Turn, token: logboat_raft::ReadToken, reason: Refusal) {
        for read in self.reads.take(token) {
            read.responder.answer(turn, Err(reason.into()));
        }
    }

    fn loaded(
        &mut self,
        turn: &mut Turn,
        target: LoadFor,
        first: Index,
        entries: Result<Vec<Entry>, ReadError>,
    ) {
        // A snapshot may have taken the place of what was to be applied meanwhile.
        let awaited = target == LoadFor::Apply && first == self.applied.index.next();
        match entries {
            Ok(entries) if entries.is_empty() && awaited => {
                self.fail(turn, &format!("its log lacks the committed entry {first}"));
            }
            Ok(entries) => self.step(turn, Input::Loaded { target, entries: entries.into() }),
            Err(error) => self.fail(turn, &error.to_string()),
        }
    }

    /// Starts a snapshot of the present state, unless one is being written.
    fn snapshot(&mut self, turn: &mut Turn) {
        if self.halted || self.snapshot_running || self.applied.index <= self.raft.snapshot().index
        {
            return;
        }
        self.snapshot_running = true;
        self.applied_bytes = 0;
        turn.snapshots.push(SnapshotJob::Write {
            group: self.id,
            slot: self.slot,
            last: self.applied,
            writer: self.machine.snapshot(),
        });
    }

    fn snapshot_written(&mut self, turn: &mut Turn, last: Option<LogId>) {
        self.snapshot_running = false;
        // A leader's snapshot may have overtaken ours.
        if let Some(last) = last.filter(|last| last.index > self.raft.snapshot().index) {
            self.step(turn, Input::Compact { last });
        }
    }

    /// The bytes have left, so the core's offer follows on the same connection.
    fn snapshot_sent(&mut self, turn: &mut Turn, to: NodeId, last: Option<LogId>) {
        let input = match last {
            Some(last) => Input::SnapshotSent { to, last },
            None => Input::SnapshotFailed { to },
        };
        self.step(turn, input);
    }

    fn restore(&mut self, turn: &mut Turn, last: LogId) {
        let restored = turn
            .storage
            .adopt_snapshot(self.id, last)
            .and_then(|mut reader| self.machine.restore(&mut *reader));
        if let Err(error) = restored {
            return self.fail(turn, &format!("the leader's snapshot at {last}: {error}"));
        }
        self.proposals.covered(turn, last.index);
        self.applied = last;
        self.applied_bytes = 0;
    }

    fn role_changed(&mut self, role: RoleKind, term: Term, leader: Option<NodeId>) {
        let was_leading = self.view.role() == RoleKind::Leader;
        let leads = role == RoleKind::Leader;
        if leads && !was_leading {
            self.shared.metrics.elections_won.inc();
            self.shared.metrics.leaders.inc();
        } else if was_leading && !leads {
            self.shared.metrics.leaders.dec();
        }
        if role == RoleKind::Candidate {
            self.shared.metrics.campaigns.inc();
        }
        self.view.role_changed(role, term, leader);
    }

    /// Stops the replica with an error.
    pub(crate) fn fail(&mut self, turn: &mut Turn, reason: &str) {
        tracing::error!(group = self.id.0, "this replica stops: {reason}");
        self.shared.metrics.failed_replicas.inc();
        self.halt(turn);
        self.resign(turn);
    }

    /// The node goes on, so its peers go on supporting it: followers that fortified this replica would
    /// wait for ever. They are told again and again, since nothing they answer says that they know.
    fn resign(&mut self, turn: &mut Turn) {
        let resignations: SmallVec<[_; 4]> = self.raft.resignations(&turn.support).collect();
        for (peer, message) in resignations {
            turn.send(peer, self.id, &message);
        }
        self.next_resignation = Some(turn.now + self.raft.election_timeout());
    }

    /// Takes no further part in the group.
    fn halt(&mut self, turn: &mut Turn) {
        self.halted = true;
        self.role_changed(RoleKind::Follower, self.raft.term(), None);
        self.proposals.abandon(turn);
        self.reads.abandon(turn);
        answer_proposing(turn, &RequestError::Stopped);
    }
}

/// Adds the commands of a list to those that are proposed next.
fn all_of(turn: &mut Turn, Request { body, responder }: Request, commands: &mut Commands) {
    let Some(list) = decode_list(body) else {
        return responder.answer(turn, Err(RequestError::Stopped));
    };
    if list.is_empty() {
        return responder.answer(turn, one_answer(&[]));
    }
    let answers = BatchReply::new(list.len(), responder);
    for (number, command) in list.into_iter().enumerate() {
        commands.push(command);
        turn.proposing.push(Responder::Batched { answers: Arc::clone(&answers), number });
    }
}

/// Refuses the proposals of the step that is running.
fn answer_proposing(turn: &mut Turn, error: &RequestError) {
    let mut proposing = std::mem::take(&mut turn.proposing);
    for responder in proposing.drain(..) {
        responder.answer(turn, Err(error.clone()));
    }
    turn.proposing = proposing;
}
