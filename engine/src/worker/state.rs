//! The state of a worker: its replicas, and what they produce in a turn. It belongs to no thread:
//! the worker's thread has it, but for the time in which a state machine is called.

use crate::background::guard::Guard;
use crate::background::pool::{Job, Late, Progress};
use crate::background::removals::{await_removal, write_tombstone};
use crate::background::user_code::UserCode;
use crate::error::RequestError;
use crate::founding::Founder;
use crate::groups::Groups;
use crate::liveness::manager::LivenessManager;
use crate::peers::Peers;
use crate::replica::call::{Call, EndedCall};
use crate::replica::event::{GroupEvent, offered_snapshot};
use crate::replica::group::{Group, Shared};
use crate::state_machine::ApplyOn;
use crate::turn::Turn;
use crate::turn::gone::GoneReplica;
use crate::turn::jobs::{LogReadQueue, SnapshotQueue};
use crate::turn::peer_buffers::{send_all, without_refused};
use crate::turn::slot::Slot;
use crate::worker::alarms::Alarms;
use crate::worker::departed::{Absent, Departed};
use crate::worker::event::{Event, StartGroup};
use crate::worker::inbox::{WorkerInbox, take_by};
use crate::worker::replica_cell::ReplicaCell;
use crate::worker::replicas::Replicas;
use logboat_raft::{
    Epoch, GroupId, Message, NodeId, Raft, ReplicaId, SupportMessage, Time, WriteSeq,
};
use logboat_storage::{Batch, DataDir, Poisoned, Refusals, Wal};
use logboat_transport::{RequestId, Transport};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// After how many replicas what they produced leaves, so that peers and disk begin while the others
/// run.
const BURST: usize = 1_024;

/// How many replicas learn in one turn that the support for their leader's node, or of a peer for
/// this node, has changed.
const CONCERNED_A_TURN: usize = 128;

/// How many leaderships are handed to preferred replicas at once.
const REBALANCED_AT_ONCE: usize = 32;

/// How many rounds of a handover are for replicas that are up to date.
const EASY_ROUNDS: usize = 4;

/// How long a round of confirmations may take before its messages are taken for lost.
const ROUND_PATIENCE: Duration = Duration::from_millis(250);

/// After so many calls in a row that did not return, all calls go to the pool, until one returns.
const MOST_LEFT_IN_A_ROW: u32 = 3;

/// What a worker works with; the same for all workers of a node.
#[derive(Clone)]
pub(crate) struct WorkerContext {
    pub(crate) node: NodeId,
    pub(crate) wal: Wal,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) liveness: Arc<LivenessManager>,
    pub(crate) founder: Arc<Founder>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) log_reads: LogReadQueue,
    pub(crate) snapshots: SnapshotQueue,
    pub(crate) shared: Arc<Shared>,
    /// Where state machines are called that are slow.
    pub(crate) user_code: UserCode,
    /// The lock of the directory, which no other node gets while a worker may adopt a snapshot.
    pub(crate) _directory: Arc<DataDir>,
    /// Ends the node if the worker panics.
    pub(crate) guard: Guard,
    /// How long a peer must have supported this node before leaderships are handed to it.
    pub(crate) settling: Duration,
}

/// The state of a worker.
pub(crate) struct WorkerState {
    number: usize,
    inbox: Arc<WorkerInbox>,
    alarms: Arc<Alarms>,
    /// What was taken out of the inbox; kept for its memory.
    events: Vec<Event>,
    replicas: Replicas,
    departed: Departed,
    turn: Turn,
    /// How many replicas have run in this turn.
    ran: usize,
    /// The call of a state machine that goes on, without the state.
    calling: Option<Calling>,
    /// How many calls were left to their threads since the last one that returned.
    left_in_a_row: u32,
    /// Numbers the calls.
    calls: u64,
    /// Whether another turn has to follow this one.
    wants_turn: bool,
    /// Since when each peer supports this node.
    supporters: Vec<(NodeId, Time)>,
    poisoned: bool,
    /// Whether the node stops.
    stopping: bool,
    /// Who waits for the end of the turn in which the replicas stop.
    stopped: Vec<Sender<()>>,
    context: WorkerContext,
}

/// A call that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Calling {
    /// The replica whose state machine it is.
    pub(super) slot: Slot,
    pub(super) group: GroupId,
    /// Which of the worker's calls it is.
    number: u64,
}

/// What a worker does next.
pub(super) enum Next {
    /// Call a state machine, without the state.
    Call(Calling, Call),
    /// The turn is over; another one has to follow at once, or when something happens.
    Over { wants_turn: bool },
}

impl WorkerState {
    pub(crate) fn new(
        number: usize,
        inbox: Arc<WorkerInbox>,
        alarms: Arc<Alarms>,
        context: WorkerContext,
        mut turn: Turn,
    ) -> Self {
        turn.support.founded = context.liveness.is_founded();
        for (peer, epoch) in context.liveness.support_for() {
            turn.support.of_mut(peer).support_for = Some(epoch);
        }
        Self {
            number,
            inbox,
            alarms,
            events: Vec::new(),
            replicas: Replicas::new(context.node),
            departed: Departed::default(),
            turn,
            ran: 0,
            calling: None,
            left_in_a_row: 0,
            calls: 0,
            wants_turn: false,
            supporters: Vec::new(),
            poisoned: false,
            stopping: false,
            stopped: Vec::new(),
            context,
        }
    }

    /// Goes on with a turn until a state machine has to be called, or until the turn is over. A
    /// turn takes in what happened, runs the replicas that it concerns, and hands on what they
    /// produced. `ended` is the call after which it goes on; without one, a turn begins.
    pub(super) fn go_on(&mut self, ended: Option<EndedCall>) -> Next {
        let mut slot_and_call = match (self.calling.take(), ended) {
            (Some(Calling { slot, .. }), Some(ended)) => {
                self.left_in_a_row = 0;
                Some((slot, self.replicas.end_call(&mut self.turn, slot, ended)))
            }
            _ => {
                self.begin_turn();
                self.replicas.run_next(&mut self.turn)
            }
        };
        while let Some((slot, call)) = slot_and_call {
            if let Some(call) = call
                && let (group, Some(call)) = self.pass_to_pool(slot, call)
            {
                self.calls += 1;
                let calling = Calling { slot, group, number: self.calls };
                self.calling = Some(calling);
                return Next::Call(calling, call);
            }
            self.ran += 1;
            if self.ran.is_multiple_of(BURST) {
                self.flush();
            }
            slot_and_call = self.replicas.run_next(&mut self.turn);
        }
        self.end_turn()
    }

    /// The call that goes on.
    pub(super) const fn calling(&self) -> Option<Calling> {
        self.calling
    }

    /// Goes on without the state machine that is being called, which takes too long. From now on it
    /// is called on the pool, so that it does not hold up the others again.
    pub(super) fn leave_call(&mut self) {
        if let Some(Calling { slot, .. }) = self.calling.take() {
            self.left_in_a_row += 1;
            self.replicas.detach(&self.turn, slot);
            self.replicas.move_to_pool(slot);
            self.replicas.post(slot, GroupEvent::Stuck);
        }
    }

    /// Passes a call to the pool, if that is where it belongs, or else returns it, with its group.
    /// A snapshot that is taken over holds up no other group of the worker, and may take its time.
    /// When one call after the other hangs, others would as well, and the worker would spend its
    /// time with them.
    fn pass_to_pool(&mut self, slot: Slot, call: Call) -> (GroupId, Option<Call>) {
        let trusts = self.left_in_a_row < MOST_LEFT_IN_A_ROW;
        let (group, apply_on) = self.replicas.called_on(slot);
        let UserCode { machines, restorers, .. } = &self.context.user_code;
        let pool = match apply_on {
            _ if call.restores() => restorers,
            ApplyOn::Worker if trusts => return (group, Some(call)),
            ApplyOn::Worker | ApplyOn::Pool => machines,
        };
        self.replicas.detach(&self.turn, slot);
        let work = Box::new(move |progress: &Progress| {
            Some(GroupEvent::Called(Box::new(call.run_watched(progress))))
        });
        pool.submit([Job { group, slot, late: Late::Call, work }]);
        (group, None)
    }

    fn begin_turn(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        self.turn.now = take_by(&self.inbox, &mut events, || self.context.liveness.now());
        let mut wants_leases = false;
        for event in events.drain(..) {
            wants_leases |= event.wants_lease();
            self.handle_event(event);
        }
        if wants_leases {
            self.know_leases();
        }
        self.events = events;
        self.wants_turn = self.replicas.wake_concerned(CONCERNED_A_TURN);
        self.ran = 0;
    }

    fn end_turn(&mut self) -> Next {
        self.ask_for_confirmation();
        self.bury();
        self.replicas.free_ended(&mut self.turn);
        self.flush();
        let departed = self.departed.next_deadline(&self.turn.support);
        let deadline = self.replicas.next_deadline(ROUND_PATIENCE).into_iter().chain(departed);
        self.alarms.set(self.number, deadline.min());
        self.alarms.lead_for_others(self.number, self.replicas.leads_for_others());
        for done in self.stopped.drain(..) {
            // Whoever stops the node may have given up on this worker.
            let _ = done.send(());
        }
        Next::Over { wants_turn: self.wants_turn }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Tick => {
                self.replicas.wake_due(self.turn.now);
                self.departed.say_again(&mut self.turn);
            }
            Event::Founded => self.found(),
            Event::SupportForChanged(peer, epoch) => {
                self.replicas.wait_lists.support_for_changed(&mut self.turn.support, peer, epoch);
            }
            Event::SupportFromChanged(peer, epoch) => self.support_from_changed(peer, epoch),
            Event::Confirmed { from, answer } => {
                self.replicas.confirmed(&mut self.turn.support, from, answer);
            }
            Event::Rebalance => self.rebalance(),
            Event::Messages { from, messages } => {
                for (at, (group, message)) in messages.iter().enumerate() {
                    self.receive(from, *group, message, at);
                }
                self.replicas.keep_messages(from, messages);
            }
            Event::Local(slot, event) => {
                if matches!(event, GroupEvent::Called(_)) {
                    self.left_in_a_row = 0;
                }
                self.replicas.post(slot, event);
            }
            Event::Group(group, event) => self.post_to_group(group, event),
            Event::Remote { from, id, group, event } => self.remote(from, id, group, event),
            Event::Durable(seqs) => self.durable(seqs),
            Event::Disconnected(node) => self.disconnected(node),
            Event::Compact(groups) => self.compact(groups),
            Event::Poisoned(reason) => self.poison(&reason),
            Event::Start(start) => self.start_group(*start),
            Event::Retire(group, slot, done) => self.retire(group, slot, done),
            Event::Transfer { round } => self.transfer(round),
            Event::Stop(done) => {
                self.stopping = true;
                self.halt_all();
                self.stopped.push(done);
            }
        }
    }

    /// Replicas that stood still begin.
    fn found(&mut self) {
        if !std::mem::replace(&mut self.turn.support.founded, true) {
            self.replicas.post_each(|_| Some(GroupEvent::Founded));
        }
    }

    fn support_from_changed(&mut self, peer: NodeId, epoch: Option<Epoch>) {
        self.replicas.wait_lists.support_from_changed(&mut self.turn.support, peer, epoch);
        self.supporters.retain(|(supporter, _)| *supporter != peer);
        if epoch.is_some() {
            self.supporters.push((peer, self.turn.now));
        }
    }

    /// Leases change with every heartbeat, so they are looked up when reads want them, once a turn.
    fn know_leases(&mut self) {
        for (peer, lease) in self.context.liveness.leases() {
            self.turn.support.of_mut(peer).lease = lease;
        }
    }

    /// One question to each peer on which reads wait, for all of them.
    fn ask_for_confirmation(&mut self) {
        let Self { replicas, turn, context, .. } = self;
        let Some(round) =
            replicas.wait_lists.open_round(&mut turn.support, turn.now, ROUND_PATIENCE)
        else {
            return;
        };
        let boot = context.liveness.boot();
        let worker = u32::try_from(self.number).expect("fewer than 2^32 workers");
        for peer in context.peers.all().iter().filter(|peer| replicas.wait_lists.asks(**peer)) {
            turn.sends.to(*peer).push_support(&SupportMessage::Confirm { boot, worker, round });
        }
    }

    /// Hands some leaderships to those that are preferred, once their nodes have been there for a
    /// while.
    fn rebalance(&mut self) {
        let (now, settling) = (self.turn.now, self.context.settling);
        for (peer, since) in &self.supporters {
            if now.since(*since) >= settling {
                self.replicas.hand_to(*peer, REBALANCED_AT_ONCE);
            }
        }
    }

    /// Hands a message, which is `at` this place of its list, to its replica. For one that is not
    /// here, the node answers. With an offer that is lost goes the snapshot that it is about.
    fn receive(&mut self, from: NodeId, group: GroupId, message: &Message, at: usize) {
        self.departed.receive(from, group, message);
        if let Some(slot) = self.replicas.slot_of(group) {
            return self.replicas.post_message(slot, at);
        }
        if let Some(last) = offered_snapshot(message) {
            self.turn.storage.discard_snapshot(group, last);
        }
        let WorkerContext { wal, groups, .. } = &self.context;
        let (tombstone, is_known) = (wal.tombstone(group), groups.is_known(group));
        Absent { group, tombstone, is_known }.answer(&mut self.turn, from, message);
    }

    /// Messages for a group that does not run here (yet) are lost like any others.
    fn post_to_group(&mut self, group: GroupId, event: GroupEvent) {
        if let Some(slot) = self.replicas.slot_of(group) {
            self.replicas.post_at(slot, event);
        }
    }

    fn remote(&mut self, node: NodeId, id: RequestId, group: GroupId, event: GroupEvent) {
        if let Some(slot) = self.replicas.slot_of(group) {
            return self.replicas.post_at(slot, event);
        }
        self.turn.reply(node, id, &Err(RequestError::NoSuchGroup(group)));
    }

    /// Batches of these writes are durable, but for what the log refused: a replica whose writes it
    /// does not take fails.
    fn durable(&mut self, seqs: Vec<(Slot, WriteSeq)>) {
        let refusals = self.context.wal.refusals();
        let refuses = !refusals.is_empty();
        for (slot, seq) in seqs {
            if refuses
                && let Some(group) = self.replicas.group_of(slot)
                && let Some(refusal) = refusals.of(group)
            {
                self.replicas.post(slot, GroupEvent::Fail(refusal.to_string()));
            } else {
                self.replicas.durable(slot, seq);
            }
        }
    }

    /// The log wants these groups to make snapshots, or has given them up, since their entries are
    /// damaged.
    fn compact(&mut self, groups: Vec<GroupId>) {
        for group in groups {
            let event = match self.context.wal.refusals().of(group) {
                Some(refusal) => GroupEvent::Fail(refusal.to_string()),
                None => GroupEvent::Compact,
            };
            self.post_to_group(group, event);
        }
    }

    /// Leaders that wait for an answer may have lost it.
    fn disconnected(&mut self, node: NodeId) {
        let own = self.context.node;
        self.replicas.post_to_followers(own, |cell| {
            let waits = cell.awaits_deadline() && cell.is_on(node);
            waits.then_some(GroupEvent::Disconnected(node))
        });
    }

    /// Hands the groups led here to the nodes that support this one, in turn. In the first rounds
    /// only replicas that are up to date are taken, a later round has the others catch up.
    fn transfer(&mut self, round: usize) {
        let (own, support) = (self.context.node, &self.turn.support);
        let lives = |node: &&NodeId| support.of(**node).support_from.is_some();
        let peers = self.context.peers.all();
        let nodes: Vec<_> = peers.iter().filter(lives).copied().collect();
        let (catches_up, round) = (round >= EASY_ROUNDS, round.min(EASY_ROUNDS));
        let mut number = round;
        self.replicas.post_to_followers(own, |cell| {
            let mut candidates = nodes.iter().copied().filter(|node| cell.is_on(*node));
            let among = candidates.clone().count().max(1);
            number += 1;
            let to = candidates.nth(number % among)?;
            let event =
                if catches_up { GroupEvent::Transfer } else { GroupEvent::TransferIfCaughtUp };
            Some(event(to))
        });
    }

    fn poison(&mut self, poisoned: &Poisoned) {
        if !self.poisoned {
            self.poisoned = true;
            tracing::error!("no group of this worker can go on: {poisoned}");
            self.halt_all();
        }
    }

    fn halt_all(&mut self) {
        self.replicas.post_each(|_| Some(GroupEvent::Halt));
    }

    /// Ends the replicas that are gone. The tombstones follow all that they wrote, and when one is
    /// durable, the snapshot goes.
    fn bury(&mut self) {
        let gone_replicas = std::mem::take(&mut self.turn.gone);
        for gone in &gone_replicas {
            self.departed.add(&mut self.turn, gone);
            let GoneReplica { group, slot, .. } = *gone;
            let machine = self.replicas.bury(group, slot);
            machine.into_iter().for_each(|machine| self.turn.discard(group, slot, machine));
        }
        if !gone_replicas.is_empty() {
            self.flush();
        }
        for GoneReplica { group, slot, floor, buried, .. } in gone_replicas {
            let groups = Arc::clone(&self.context.groups);
            let buried = Box::new(move || {
                groups.buried(group, slot);
                buried.into_iter().for_each(|buried| buried());
            });
            let WorkerContext { wal, snapshots, .. } = &self.context;
            write_tombstone(wal, snapshots, group, floor, buried);
        }
        for (group, buried) in self.turn.awaited_burials.drain(..) {
            let WorkerContext { wal, snapshots, .. } = &self.context;
            await_removal(wal, snapshots, group, buried);
        }
    }

    /// What is posted to the replica from now on is refused. The batch that says when all it wrote
    /// is durable follows the replica's own, and its completion theirs.
    fn retire(&mut self, group: GroupId, slot: Slot, done: Sender<Result<(), Poisoned>>) {
        let machine = self.replicas.retire(slot);
        machine.into_iter().for_each(|machine| self.turn.discard(group, slot, machine));
        self.flush();
        // Whoever waited may have given up.
        let completion = Box::new(move |result: Result<&Refusals, Poisoned>| {
            drop(done.send(result.map(drop)));
        });
        let (grants, writes) = (Vec::new(), Vec::new());
        self.context.wal.submit(Batch { grants, writes, completion });
    }

    fn start_group(&mut self, start: StartGroup) {
        if self.poisoned || self.stopping {
            // Dropping it tells the caller.
            return;
        }
        let slot = self.replicas.next_slot();
        let group_id = start.config.group;
        let founding = Arc::clone(&start.config.founding);
        let is_founder = start.config.replica == ReplicaId::FOUNDER;
        let recovery = start.recovery;
        let first = is_founder && recovery.restored.configurations.is_empty();
        let configuration = recovery.restored.base(&founding);
        let raft = Raft::new(start.config, recovery.known_committed(), self.turn.now);
        if let Some(persist) = recovery.reset {
            self.turn.writes.push((group_id, persist));
        }
        let shared = Arc::clone(&self.context.shared);
        let view = Arc::clone(&start.view);
        let machine = start.machine;
        let mut group = Group::new(group_id, slot, raft, configuration, machine, shared, view);
        group.has_reader(start.reader);
        if first && !founding.members().is_empty() {
            group.found(founding);
        }
        if let Some(last) = recovery.state_holds {
            group.state_holds(last);
        }
        let cell = ReplicaCell::new(group, start.apply_on);
        self.replicas.add(group_id, cell);
        // Entries that a restart found committed are applied, and a lone voter elects itself,
        // without waiting for a message.
        self.replicas.post(slot, GroupEvent::Tick);
        // A caller that gave up waiting does not need to know either.
        let _ = start.done.send(slot);
    }

    /// Empties the turn buffer: its writes become one batch of the log (group commit). What peers
    /// were promised leaves when that is durable.
    fn flush(&mut self) {
        let Self { turn, context, .. } = self;
        let transport = &context.transport;
        send_all(&**transport, turn.sends.take());
        let promises = turn.promises.take();
        if !turn.writes.is_empty() || !promises.is_empty() {
            let (seqs, transport) = (std::mem::take(&mut turn.seqs), Arc::clone(transport));
            let inbox = Arc::clone(&self.inbox);
            let completion = Box::new(move |result: Result<&Refusals, _>| match result {
                Ok(refusals) => {
                    send_all(&*transport, without_refused(promises, refusals));
                    inbox.post(Event::Durable(seqs));
                }
                Err(poisoned) => inbox.post(Event::Poisoned(poisoned)),
            });
            let mut batches = turn.take_batches();
            // Batches become durable in order, so what rests on any of them waits for the last.
            let last = batches.pop().unwrap_or_default();
            for writes in batches {
                let completion = Box::new(|_: Result<&Refusals, _>| {});
                context.wal.submit(Batch { grants: Vec::new(), writes, completion });
            }
            context.wal.submit(Batch { grants: Vec::new(), writes: last, completion });
        }
        for job in turn.log_reads.drain(..) {
            context.log_reads.submit(job);
        }
        for job in turn.snapshots.drain(..) {
            context.snapshots.submit(job);
        }
        for (group, peer, violation) in turn.violations.drain(..) {
            if violation.is_certain() {
                context.transport.disconnect(peer, &format!("group {group}: {violation}"));
            } else {
                tracing::warn!(peer = %peer, "a message of node {peer} to group {group} is not \
                     believed: {violation}");
            }
        }
        if !turn.queries.is_empty() {
            context.user_code.ask(turn.queries.drain(..));
        }
        for (group, slot, left) in turn.discarded.drain(..) {
            context.user_code.machines.discard(group, slot, left);
        }
        // Last, since callers take time on the processors that the others need.
        turn.callers.wake();
    }
}
