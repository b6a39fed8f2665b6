//! A worker: the actor that owns the replicas of one arbiter (one thread). It runs those that have
//! something to do, and flushes what they produced in a turn: one batch for the log, one buffer for
//! each peer.

pub(crate) mod alarms;
pub(crate) mod event;
mod event_pool;
pub(crate) mod inbox;
#[cfg(test)]
mod interleavings;
mod misplaced;
mod prefetch;
mod queue;
mod replica_cell;
mod replicas;
pub(crate) mod runtime;
mod ticker;
pub(crate) mod wait_lists;

use crate::background::guard::Guard;
use crate::error::RequestError;
use crate::founding::Founder;
use crate::liveness::manager::LivenessManager;
use crate::replica::event::GroupEvent;
use crate::replica::group::{Group, Shared};
use crate::request::encoding::encode_reply;
use crate::turn::Turn;
use crate::turn::jobs::{LogReadQueue, SnapshotQueue};
use crate::turn::peer_buffers::send_all;
use crate::turn::slot::Slot;
use crate::worker::alarms::Alarms;
use crate::worker::event::{Event, StartGroup};
use crate::worker::inbox::{Drain, WorkerInbox, take_by};
use crate::worker::replica_cell::ReplicaCell;
use crate::worker::replicas::Replicas;
use actix::{Actor, AsyncContext, Context, Handler};
use logboat_raft::{Epoch, GroupId, LogWrite, NodeId, Persist, SupportMessage, Time, WriteSeq};
use logboat_storage::{Batch, Poisoned, Wal};
use logboat_transport::{RequestId, Transport};
use parking_lot::{Mutex, MutexGuard};
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

/// What a worker works with; the same for all workers of a node.
#[derive(Clone)]
pub(crate) struct WorkerContext {
    pub(crate) node: NodeId,
    pub(crate) wal: Wal,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) peers: Arc<[NodeId]>,
    pub(crate) liveness: Arc<LivenessManager>,
    pub(crate) founder: Arc<Founder>,
    pub(crate) log_reads: LogReadQueue,
    pub(crate) snapshots: SnapshotQueue,
    pub(crate) shared: Arc<Shared>,
    /// Ends the node if the worker panics.
    pub(crate) guard: Guard,
    /// How long a peer must have supported this node before leaderships are handed to it.
    pub(crate) settling: Duration,
}

/// The actor that owns an arbiter's replicas.
pub(crate) struct Worker {
    number: usize,
    inbox: Arc<WorkerInbox>,
    alarms: Arc<Alarms>,
    /// What was taken out of the inbox; kept for its memory.
    events: Vec<Event>,
    replicas: Replicas,
    turn: Turn,
    /// Since when each peer supports this node.
    supporters: Vec<(NodeId, Time)>,
    poisoned: bool,
    /// Whether the node stops.
    stopping: bool,
    context: WorkerContext,
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Drop for Worker {
    /// Whoever posted something, or does it yet, must not wait for a worker that is gone.
    fn drop(&mut self) {
        self.inbox.close();
    }
}

impl Handler<Drain> for Worker {
    type Result = ();

    fn handle(&mut self, Drain: Drain, context: &mut Context<Self>) {
        let guard = self.context.guard.clone();
        guard.run("a worker", || self.turn(context));
    }
}

impl Worker {
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
            turn,
            supporters: Vec::new(),
            poisoned: false,
            stopping: false,
            context,
        }
    }

    /// A turn: takes in what happened, runs the replicas that it concerns, and hands on what they
    /// produced.
    fn turn(&mut self, context: &mut Context<Self>) {
        // Whoever is about to post something goes first, so that turns grow when the processor is
        // short.
        std::thread::yield_now();
        let mut events = std::mem::take(&mut self.events);
        self.turn.now = take_by(&self.inbox, &mut events, || self.context.liveness.now());
        let (mut stopping, mut wants_leases) = (Vec::new(), false);
        for event in events.drain(..) {
            wants_leases |= event.wants_lease();
            self.handle_event(event, &mut stopping);
        }
        if wants_leases {
            self.know_leases();
        }
        self.events = events;
        if self.replicas.wake_concerned(CONCERNED_A_TURN) {
            context.notify(Drain);
        }
        while self.replicas.run(&mut self.turn, BURST) {
            self.flush();
        }
        self.ask_for_confirmation();
        self.flush();
        self.alarms.set(self.number, self.replicas.next_deadline(ROUND_PATIENCE));
        self.alarms.lead_for_others(self.number, self.replicas.leads_for_others());
        for done in stopping {
            // Whoever stops the node may have given up on this worker.
            let _ = done.send(());
        }
    }

    fn handle_event(&mut self, event: Event, stopping: &mut Vec<Sender<()>>) {
        match event {
            Event::Tick => self.replicas.wake_due(self.turn.now),
            Event::Founded => self.found(),
            Event::SupportForChanged(peer, epoch) => {
                self.replicas.wait_lists.support_for_changed(&mut self.turn.support, peer, epoch);
            }
            Event::SupportFromChanged(peer, epoch) => self.support_from_changed(peer, epoch),
            Event::Confirmed { from, answer } => {
                let (support, peers) = (&mut self.turn.support, self.context.peers.len());
                self.replicas.confirmed(support, from, answer, peers);
            }
            Event::Rebalance => self.rebalance(),
            Event::Messages { from, messages } => {
                for (group, message) in messages {
                    self.post_to_group(group, GroupEvent::Message { from, message });
                }
            }
            Event::Local(slot, event) => self.replicas.post(slot, event),
            Event::Group(group, event) => self.post_to_group(group, event),
            Event::Remote { from, id, group, event } => self.remote(from, id, group, event),
            Event::Durable(seqs) => self.durable(seqs),
            Event::Disconnected(node) => self.disconnected(node),
            Event::Compact(groups) => {
                for group in groups {
                    self.post_to_group(group, GroupEvent::Compact);
                }
            }
            Event::Poisoned(reason) => self.poison(&reason),
            Event::Start(start) => self.start_group(*start),
            Event::Retire(group, slot, done) => self.retire(group, slot, done),
            Event::Transfer { round } => self.transfer(round),
            Event::Stop(done) => {
                self.stopping = true;
                self.halt_all();
                stopping.push(done);
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

    /// One question to all peers, for all reads that wait for one.
    fn ask_for_confirmation(&mut self) {
        let Self { replicas, turn, context, .. } = self;
        let Some(round) =
            replicas.wait_lists.open_round(&mut turn.support, turn.now, ROUND_PATIENCE)
        else {
            return;
        };
        let boot = context.liveness.boot();
        let worker = u32::try_from(self.number).expect("fewer than 2^32 workers");
        for peer in &*context.peers {
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

    /// Messages for a group that does not run here (yet) are lost like any others.
    fn post_to_group(&mut self, group: GroupId, event: GroupEvent) {
        if let Some(slot) = self.replicas.slot_of(group) {
            self.replicas.post(slot, event);
        }
    }

    fn remote(&mut self, node: NodeId, id: RequestId, group: GroupId, event: GroupEvent) {
        if let Some(slot) = self.replicas.slot_of(group) {
            return self.replicas.post(slot, event);
        }
        self.turn.reply(node, id, &encode_reply(&Err(RequestError::NoSuchGroup(group))));
    }

    fn durable(&mut self, seqs: Vec<(Slot, WriteSeq)>) {
        for (slot, seq) in seqs {
            self.replicas.durable(slot, seq);
        }
    }

    /// Leaders that wait for an answer may have lost it.
    fn disconnected(&mut self, node: NodeId) {
        let own = self.context.node;
        self.replicas.post_to_followers(own, |cell| {
            let waits = cell.wake_conditions().deadline.is_some() && cell.is_on(node);
            waits.then_some(GroupEvent::Disconnected(node))
        });
    }

    /// Hands the groups led here to the nodes that support this one, in turn. In the first rounds
    /// only replicas that are up to date are taken, a later round has the others catch up.
    fn transfer(&mut self, round: usize) {
        let (own, support) = (self.context.node, &self.turn.support);
        let lives = |node: &&NodeId| support.of(**node).support_from.is_some();
        let nodes: Vec<_> = self.context.peers.iter().filter(lives).copied().collect();
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

    /// What is posted to the replica from now on is refused. The batch that says when all it wrote
    /// is durable follows the replica's own, and its completion theirs.
    fn retire(&mut self, group: GroupId, slot: Slot, done: Sender<Result<(), Poisoned>>) {
        self.replicas.retire(group, slot);
        self.flush();
        // Whoever waited may have given up.
        let completion = Box::new(move |result| drop(done.send(result)));
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
        let voters = Arc::clone(&start.config.voters);
        let first = start.restored.voters.is_none();
        let preferred = start.config.preferred;
        let raft = logboat_raft::Raft::new(start.config, start.restored, self.turn.now);
        if first {
            let log = LogWrite::Voters(Arc::clone(&voters));
            let persist = Persist { seq: WriteSeq::default(), hard_state: None, log };
            self.turn.writes.push((group_id, persist));
        }
        if let Some(persist) = start.reset {
            self.turn.writes.push((group_id, persist));
        }
        let shared = Arc::clone(&self.context.shared);
        let view = Arc::clone(&start.view);
        let group = Group::new(group_id, slot, raft, start.machine, shared, view);
        self.replicas.add(group_id, ReplicaCell::new(group, voters, preferred));
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
            let completion = Box::new(move |result| match result {
                Ok(()) => {
                    send_all(&*transport, promises);
                    inbox.post(Event::Durable(seqs));
                }
                Err(poisoned) => inbox.post(Event::Poisoned(poisoned)),
            });
            let writes = std::mem::take(&mut turn.writes);
            context.wal.submit(Batch { grants: Vec::new(), writes, completion });
        }
        for job in turn.log_reads.drain(..) {
            context.log_reads.submit(job);
        }
        for job in turn.snapshots.drain(..) {
            context.snapshots.submit(job);
        }
        for (group, peer, violation) in turn.violations.drain(..) {
            context.transport.disconnect(peer, &format!("group {group}: {violation}"));
        }
    }
}
