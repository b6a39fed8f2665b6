//! A worker: the actor that owns one arbiter's replicas, runs those that have something to do, and
//! flushes what they produced in a turn.

use crate::admission::Admission;
use crate::error::RequestError;
use crate::group::{Attention, Group, GroupEvent, Shared};
use crate::heartbeat::Gathering;
use crate::inbox::{Event, StartGroup, WorkerInbox};
use crate::pending::Responder;
use crate::replicas::{Replicas, Seat};
use crate::snapshots::SnapshotQueue;
use crate::turn::{Slot, Turn};
use actix::{Actor, Context, Handler, Message};
use logboat_raft::{GroupId, Mark, NodeId, Time};
use logboat_storage::{Batch, Completion, Poisoned, Wal};
use logboat_transport::{Outgoing, RequestId, Transport};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// After how many replicas what they produced leaves, so that peers and disk begin while the others
/// run.
const BURST: usize = 1_024;

/// What a worker works with; the same for all workers of a node but for the inbox.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) node: NodeId,
    pub(crate) started: Instant,
    pub(crate) wal: Wal<TurnDurable>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) snapshots: SnapshotQueue,
    pub(crate) shared: Arc<Shared>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) stall_limit: Duration,
}

impl Surroundings {
    fn now(&self) -> Time {
        let micros = self.started.elapsed().as_micros();
        Time(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// Travels with a turn's batch through the log: when the batch is durable, what was promised leaves
/// for the peers straight away, and the worker learns the marks.
pub(crate) struct TurnDurable {
    marks: Vec<(Slot, Mark)>,
    promises: Vec<(NodeId, Outgoing)>,
    transport: Arc<dyn Transport>,
    inbox: Arc<WorkerInbox>,
}

impl Completion for TurnDurable {
    fn complete(self, result: Result<(), Poisoned>) {
        match result {
            Ok(()) => {
                send_all(&*self.transport, self.promises);
                self.inbox.post(Event::Durable(self.marks));
            }
            Err(poisoned) => self.inbox.post(Event::Poisoned(poisoned)),
        }
    }
}

/// Raft survives the loss of any message, so one that can't be queued is lost like one on the way;
/// the transport counts it.
fn send_all(transport: &dyn Transport, outgoing: Vec<(NodeId, Outgoing)>) {
    for (peer, outgoing) in outgoing {
        let _ = transport.send(peer, outgoing);
    }
}

/// "Your inbox is no longer empty."
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Drain;

/// The actor that owns an arbiter's replicas.
pub(crate) struct Worker {
    inbox: Arc<WorkerInbox>,
    /// What was taken out of the inbox; kept for its memory.
    events: Vec<Event>,
    replicas: Replicas,
    turn: Turn,
    /// What the heartbeats of this interval go to.
    gathering: Option<Arc<Gathering>>,
    /// When the batches that are not yet durable were submitted, oldest first.
    unsynced: VecDeque<Time>,
    /// How often leaderships were handed over because the log stood still.
    handovers: usize,
    poisoned: bool,
    surroundings: Surroundings,
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

    /// A turn: takes in what happened, runs the replicas that it concerns, and hands on what they
    /// produced.
    fn handle(&mut self, Drain: Drain, _context: &mut Context<Self>) {
        // Whoever is about to post something goes first, so that turns grow when the processor is short.
        std::thread::yield_now();
        self.turn.now = self.surroundings.now();
        let mut events = std::mem::take(&mut self.events);
        self.inbox.take(&mut events);
        let mut stopping = Vec::new();
        for event in events.drain(..) {
            self.handle_event(event, &mut stopping);
        }
        self.events = events;
        while self.replicas.run(&mut self.turn, BURST) {
            self.flush();
        }
        self.flush();
        if let Some(gathering) = self.gathering.take() {
            self.gather(&gathering);
        }
        for done in stopping {
            // Whoever stops the node may have given up on this worker.
            let _ = done.send(());
        }
    }
}

impl Worker {
    pub(crate) fn new(inbox: Arc<WorkerInbox>, surroundings: Surroundings, turn: Turn) -> Self {
        Self {
            inbox,
            events: Vec::new(),
            replicas: Replicas::default(),
            turn,
            gathering: None,
            unsynced: VecDeque::new(),
            handovers: 0,
            poisoned: false,
            surroundings,
        }
    }

    fn handle_event(&mut self, event: Event, stopping: &mut Vec<Sender<()>>) {
        match event {
            Event::Tick(gathering) => self.tick(gathering),
            Event::Messages { from, messages } => {
                for (group, message) in messages {
                    self.post_to_group(group, GroupEvent::Message { from, message });
                }
            }
            Event::Local(slot, event) => self.replicas.post(slot, event),
            Event::Group(group, event) => self.post_to_group(group, event),
            Event::Remote { from, id, group, event } => self.remote(from, id, group, event),
            Event::Durable(marks) => self.durable(marks),
            Event::Disconnected(node) => self.disconnected(node),
            Event::Compact(groups) => {
                for group in groups {
                    self.post_to_group(group, GroupEvent::Compact);
                }
            }
            Event::Poisoned(reason) => self.poison(&reason),
            Event::Start(start) => self.start_group(*start),
            Event::Transfer(nodes) => self.transfer(&nodes),
            Event::Stop(done) => {
                self.halt_all();
                stopping.push(done);
            }
        }
    }

    /// Leaders send heartbeats; the others run only when a deadline of theirs has come, or when they
    /// are the first to campaign where nobody leads.
    fn tick(&mut self, gathering: Arc<Gathering>) {
        let now = self.turn.now;
        self.replicas.post_each(|seat| {
            let Attention { heartbeats, deadline, durability: _ } = seat.attention();
            let due = heartbeats || deadline.is_some_and(|deadline| deadline <= now);
            due.then_some(GroupEvent::Tick)
        });
        self.replicas.post_each(|seat| seat.may_campaign().then_some(GroupEvent::Campaign));
        if self.stalled() {
            self.hand_over();
        }
        self.gathering = Some(gathering);
    }

    /// Whether the log has stood still for an election timeout.
    fn stalled(&self) -> bool {
        let limit = self.surroundings.stall_limit;
        self.unsynced.front().is_some_and(|oldest| self.turn.now.since(*oldest) > limit)
    }

    /// A node whose disk does not answer lets go of its leaderships: what is proposed here could not
    /// be answered. To another successor each time, should one be as badly off.
    fn hand_over(&mut self) {
        let peers = self.surroundings.transport.peers();
        let mut live: Vec<_> =
            peers.into_iter().filter(|peer| peer.connected).map(|peer| peer.node).collect();
        let first = self.handovers % live.len().max(1);
        live.rotate_left(first);
        self.handovers += 1;
        self.transfer(&live);
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
        let responder = Responder::Remote { node, id };
        responder.answer(&mut self.turn, Err(RequestError::NoSuchGroup(group)));
    }

    fn durable(&mut self, marks: Vec<(Slot, Mark)>) {
        self.unsynced.pop_front();
        for (slot, mark) in marks {
            self.replicas.durable(slot, mark);
        }
    }

    fn disconnected(&mut self, node: NodeId) {
        self.replicas.post_each(|seat| {
            seat.attention().heartbeats.then_some(GroupEvent::Disconnected(node))
        });
    }

    /// Hands the groups led here to `nodes` in turn.
    fn transfer(&mut self, nodes: &[NodeId]) {
        let mut number = 0;
        self.replicas.post_each(|seat| {
            if !seat.leads() {
                return None;
            }
            let mut candidates = nodes.iter().filter(|node| seat.is_peer(**node));
            let among = candidates.clone().count().max(1);
            number += 1;
            candidates.nth(number % among).map(|to| GroupEvent::Transfer(*to))
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

    fn start_group(&mut self, start: StartGroup) {
        let slot = self.replicas.next_slot();
        let group_id = start.config.group;
        let own = self.surroundings.node;
        let peers = start.config.voters.iter().copied().filter(|node| *node != own).collect();
        if let Some(persist) = start.reset {
            self.turn.writes.push((group_id, persist));
        }
        let raft = logboat_raft::Raft::new(start.config, start.restored, self.turn.now);
        let shared = Arc::clone(&self.surroundings.shared);
        let view = Arc::clone(&start.view);
        let group = Group::new(group_id, slot, raft, start.machine, shared, view);
        self.replicas.seat(group_id, Seat::new(group, start.view, peers, start.preferred));
        // Entries that a restart found committed are applied, and a lone voter elects itself, without
        // waiting for a message.
        let first = if start.preferred { GroupEvent::Campaign } else { GroupEvent::Tick };
        self.replicas.post(slot, first);
        // A caller that gave up waiting has no use for the word either.
        let _ = start.done.send(slot);
    }

    /// Empties the turn buffer.
    fn flush(&mut self) {
        let Self { turn, surroundings, .. } = self;
        let transport = &surroundings.transport;
        send_all(&**transport, turn.sends.take());
        let promises = turn.promises.take();
        if !turn.writes.is_empty() || !promises.is_empty() {
            self.unsynced.push_back(turn.now);
            surroundings.wal.submit(Batch {
                writes: std::mem::take(&mut turn.writes),
                completion: TurnDurable {
                    marks: std::mem::take(&mut turn.marks),
                    promises,
                    transport: Arc::clone(transport),
                    inbox: Arc::clone(&self.inbox),
                },
            });
        }
        for job in turn.snapshots.drain(..) {
            surroundings.snapshots.submit(job);
        }
    }

    /// Adds the heartbeats of this interval to those of the other workers, unless nobody should be
    /// kept from taking over.
    fn gather(&mut self, gathering: &Gathering) {
        let heartbeats = self.turn.heartbeats.take();
        if !self.stalled() {
            gathering.add(heartbeats);
        }
    }
}
