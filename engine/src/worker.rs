//! A worker: the actor that owns one arbiter's replicas, wakes those that have something to do, and
//! flushes what they produced in a turn.

use crate::actor::{GroupActor, Seat};
use crate::error::RequestError;
use crate::group::{Attention, Group, GroupEvent, Shared};
use crate::heartbeat::Gathering;
use crate::inbox::{Event, StartGroup, WorkerInbox};
use crate::pending::Responder;
use crate::snapshots::SnapshotQueue;
use crate::turn::{Slot, Turn};
use actix::{Actor, Context, Handler, Message};
use logboat_raft::{GroupId, Mark, NodeId, RoleKind, Time};
use logboat_storage::{Batch, Completion, Poisoned, Wal};
use logboat_transport::{Outgoing, RequestId, Transport};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// What a worker works with; the same for all workers of a node but for the inbox.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) node: NodeId,
    pub(crate) started: Instant,
    pub(crate) wal: Wal<TurnDurable>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) snapshots: SnapshotQueue,
    pub(crate) shared: Arc<Shared>,
    pub(crate) stall_limit: std::time::Duration,
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
    surroundings: Surroundings,
    turn: Rc<RefCell<Turn>>,
    flusher: actix::Addr<Flusher>,
    seats: Vec<Rc<Seat>>,
    by_group: HashMap<GroupId, Slot>,
    /// When the batches that are not yet durable were submitted, oldest first.
    unsynced: Rc<RefCell<VecDeque<Time>>>,
    poisoned: bool,
}

impl Worker {
    pub(crate) fn start_on_this_arbiter(
        inbox: Arc<WorkerInbox>,
        surroundings: Surroundings,
        turn: Turn,
    ) -> actix::Addr<Self> {
        let turn = Rc::new(RefCell::new(turn));
        let unsynced = Rc::new(RefCell::new(VecDeque::new()));
        let flusher = Flusher {
            inbox: Arc::clone(&inbox),
            surroundings: surroundings.clone(),
            turn: Rc::clone(&turn),
            unsynced: Rc::clone(&unsynced),
        }
        .start();
        let worker = Self {
            inbox,
            surroundings,
            turn,
            flusher,
            seats: Vec::new(),
            by_group: HashMap::new(),
            unsynced,
            poisoned: false,
        };
        worker.start()
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Tick(gathering) => self.tick(gathering),
            Event::Messages { from, messages } => {
                for (group, message) in messages {
                    self.post_to_group(group, GroupEvent::Message { from, message });
                }
            }
            Event::Local(slot, event) => self.post(slot, event),
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
                self.flusher.do_send(Flush { done: Some(done) });
            }
        }
    }

    /// Leaders send heartbeats; the others run only when a deadline of theirs has come, or when they
    /// are the first to campaign where nobody leads. A node whose log has stood still for an election
    /// timeout lets its leaderships go by sending no heartbeats.
    fn tick(&mut self, gathering: Arc<Gathering>) {
        let now = self.surroundings.now();
        let oldest = self.unsynced.borrow().front().copied();
        let stalled = oldest.is_some_and(|time| now.since(time) > self.surroundings.stall_limit);
        for seat in &self.seats {
            let Attention { heartbeats, deadline, durability: _ } = seat.attention.get();
            if (heartbeats && !stalled) || deadline.is_some_and(|deadline| deadline <= now) {
                seat.post(GroupEvent::Tick);
            }
            if seat.may_campaign() {
                seat.post(GroupEvent::Campaign);
            }
        }
        self.turn.borrow_mut().gathering = Some(gathering);
        self.flusher.do_send(Flush { done: None });
    }

    fn post(&self, slot: Slot, event: GroupEvent) {
        self.seats[slot.0 as usize].post(event);
    }

    /// Messages for a group that does not run here (yet) are lost like any others.
    fn post_to_group(&self, group: GroupId, event: GroupEvent) {
        if let Some(slot) = self.by_group.get(&group) {
            self.post(*slot, event);
        }
    }

    fn remote(&self, node: NodeId, id: RequestId, group: GroupId, event: GroupEvent) {
        if let Some(slot) = self.by_group.get(&group) {
            return self.post(*slot, event);
        }
        let responder = Responder::Remote { node, id };
        responder.answer(&mut self.turn.borrow_mut(), Err(RequestError::NoSuchGroup(group)));
        self.flusher.do_send(Flush { done: None });
    }

    /// Notes the marks; only replicas that wait for one run.
    fn durable(&self, marks: Vec<(Slot, Mark)>) {
        self.unsynced.borrow_mut().pop_front();
        for (slot, mark) in marks {
            let seat = &self.seats[slot.0 as usize];
            seat.durable.set(seat.durable.get().max(mark));
            if seat.attention.get().durability {
                seat.wake();
            }
        }
    }

    fn disconnected(&self, node: NodeId) {
        for seat in self.seats.iter().filter(|seat| seat.attention.get().heartbeats) {
            seat.post(GroupEvent::Disconnected(node));
        }
    }

    /// Hands the groups led here to `nodes` in turn.
    fn transfer(&self, nodes: &[NodeId]) {
        let led = self.seats.iter().filter(|seat| seat.view.role() == RoleKind::Leader);
        for (number, seat) in led.enumerate() {
            let mut candidates = nodes.iter().filter(|node| seat.peers.contains(node));
            let among = candidates.clone().count().max(1);
            if let Some(to) = candidates.nth(number % among) {
                seat.post(GroupEvent::Transfer(*to));
            }
        }
    }

    fn poison(&mut self, poisoned: &Poisoned) {
        if !self.poisoned {
            self.poisoned = true;
            tracing::error!("no group of this worker can go on: {poisoned}");
            self.halt_all();
        }
    }

    fn halt_all(&self) {
        for seat in &self.seats {
            seat.post(GroupEvent::Halt);
        }
    }

    fn start_group(&mut self, start: StartGroup) {
        let slot =
            Slot(u32::try_from(self.seats.len()).expect("fewer than 2^32 replicas a worker"));
        let group_id = start.config.group;
        let peers =
            start.config.voters.iter().copied().filter(|node| *node != self.surroundings.node);
        let peers = peers.collect();
        if let Some(persist) = start.reset {
            self.turn.borrow_mut().writes.push((group_id, persist));
            self.flusher.do_send(Flush { done: None });
        }
        let now = self.surroundings.now();
        let raft = logboat_raft::Raft::new(start.config, start.restored, now);
        let shared = Arc::clone(&self.surroundings.shared);
        let view = Arc::clone(&start.view);
        let group = Group::new(group_id, slot, raft, start.machine, shared, view);
        let attention = group.attention();
        let turn = Rc::clone(&self.turn);
        let seat = GroupActor::start_in(group, turn, self.flusher.clone(), |address| {
            Seat::new(address, attention, start.view, peers, start.preferred)
        });
        // Entries that a restart found committed are applied, and a lone voter elects itself, without
        // waiting for a message.
        seat.post(if start.preferred { GroupEvent::Campaign } else { GroupEvent::Tick });
        self.seats.push(seat);
        self.by_group.insert(group_id, slot);
        // A caller that gave up waiting has no use for the word either.
        let _ = start.done.send(slot);
    }
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Drain> for Worker {
    type Result = ();

    fn handle(&mut self, Drain: Drain, _context: &mut Context<Self>) {
        self.turn.borrow_mut().now = self.surroundings.now();
        for event in self.inbox.take() {
            self.handle_event(event);
        }
    }
}

/// "The groups that were ready have run."
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Flush {
    /// Told when everything is handed over.
    pub(crate) done: Option<std::sync::mpsc::Sender<()>>,
}

/// Empties the turn buffer. An actor of its own, since its mailbox is served after those of the
/// groups that were woken before it.
pub(crate) struct Flusher {
    inbox: Arc<WorkerInbox>,
    surroundings: Surroundings,
    turn: Rc<RefCell<Turn>>,
    unsynced: Rc<RefCell<VecDeque<Time>>>,
}

impl Actor for Flusher {
    type Context = Context<Self>;
}

impl Handler<Flush> for Flusher {
    type Result = ();

    fn handle(&mut self, flush: Flush, _context: &mut Context<Self>) {
        let mut turn = self.turn.borrow_mut();
        turn.flush_requested = false;
        let transport = &self.surroundings.transport;
        send_all(&**transport, turn.sends.take());
        if let Some(gathering) = turn.gathering.take() {
            gathering.add(&mut turn.heartbeats);
        }
        let promises = turn.promises.take();
        if !turn.writes.is_empty() || !promises.is_empty() {
            self.unsynced.borrow_mut().push_back(turn.now);
            self.surroundings.wal.submit(Batch {
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
            self.surroundings.snapshots.submit(job);
        }
        if let Some(done) = flush.done {
            // Whoever stops the node may have given up on this worker.
            let _ = done.send(());
        }
    }
}
