//! The replicas of a worker. Each is a lightweight actor: a mailbox, a place in the queue of those
//! that have something to do, and one run a turn that takes in all there is.
//!
//! They share their worker's thread and its memory for events, so that an idle one costs a cell in
//! a table, and waking one neither allocates nor synchronizes with anybody.

use crate::replica::call::{Call, EndedCall};
use crate::replica::event::GroupEvent;
use crate::replica::run_context::{RunContext, RunScratch};
use crate::replica::wake_conditions::WakeConditions;
use crate::state_machine::{ApplyOn, StateMachine};
use crate::turn::Turn;
use crate::turn::slot::Slot;
use crate::worker::event_pool::EventPool;
use crate::worker::misplaced::MisplacedLeaders;
use crate::worker::prefetch::prefetch;
use crate::worker::replica_cell::ReplicaCell;
use crate::worker::wait_lists::WaitLists;
use logboat_raft::{Confirmation, GroupId, Message, NodeId, Support, Time, WriteSeq};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::time::Duration;

/// How many replicas ahead of the running one are prefetched.
const AHEAD: usize = 4;

/// The replicas of a worker by slot and by group, and the queue of those that have something to do.
pub(crate) struct Replicas {
    own: NodeId,
    cells: Vec<ReplicaCell>,
    by_group: FxHashMap<GroupId, Slot>,
    events: EventPool,
    scratch: RunScratch,
    ready: VecDeque<Slot>,
    /// The wait lists of these replicas.
    pub(crate) wait_lists: WaitLists,
    misplaced: MisplacedLeaders,
}

impl Replicas {
    /// No replicas yet, on node `own`.
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            cells: Vec::new(),
            by_group: FxHashMap::default(),
            events: EventPool::default(),
            scratch: RunScratch::default(),
            ready: VecDeque::new(),
            wait_lists: WaitLists::new(own),
            misplaced: MisplacedLeaders::default(),
        }
    }

    /// The slot of the next replica that is added.
    pub(crate) fn next_slot(&self) -> Slot {
        Slot(u32::try_from(self.cells.len()).expect("fewer than 2^32 replicas a worker"))
    }

    /// Gives a replica of `group` the [`next_slot`](Self::next_slot). It takes the place of the one
    /// before, if there was one, whose slot is not used again: so late events for that reach no
    /// other replica.
    pub(crate) fn add(&mut self, group: GroupId, cell: ReplicaCell) {
        let former = self.by_group.insert(group, self.next_slot());
        self.cells.push(cell);
        self.wait_lists.add();
        if let Some(slot) = former {
            let cell = &mut self.cells[slot.0 as usize];
            cell.replaced();
            self.wait_lists.update(slot, cell.wake_conditions, []);
        }
    }

    /// Ends a replica that has failed or was stopped. Returns its state machine.
    pub(crate) fn retire(&mut self, slot: Slot) -> Option<Box<dyn StateMachine>> {
        self.cells[slot.0 as usize].group.retire()
    }

    /// Ends a replica that is gone. Nothing that comes for its group reaches it any more. Returns
    /// its state machine.
    pub(crate) fn bury(&mut self, group: GroupId, slot: Slot) -> Option<Box<dyn StateMachine>> {
        if self.slot_of(group) == Some(slot) {
            self.by_group.remove(&group);
        }
        let machine = self.retire(slot);
        let cell = &mut self.cells[slot.0 as usize];
        cell.wake_conditions = WakeConditions::default();
        self.wait_lists.update(slot, cell.wake_conditions, []);
        machine
    }

    pub(crate) fn slot_of(&self, group: GroupId) -> Option<Slot> {
        self.by_group.get(&group).copied()
    }

    /// Has the replica take in `event` in this turn.
    pub(crate) fn post(&mut self, slot: Slot, event: GroupEvent) {
        self.events.push(&mut self.cells[slot.0 as usize].inbox, event);
        self.wake(slot);
    }

    /// Has the replica take in a message in this turn: the one `at` this place of those that are
    /// [kept](Self::keep_messages) next.
    pub(crate) fn post_message(&mut self, slot: Slot, at: usize) {
        self.events.push_message(&mut self.cells[slot.0 as usize].inbox, at);
        self.wake(slot);
    }

    /// Keeps the messages of a peer until the replicas run.
    pub(crate) fn keep_messages(&mut self, from: NodeId, messages: Vec<(GroupId, Message)>) {
        self.events.keep(from, messages);
    }

    /// Posts to every replica the event that `event` makes for it, if any.
    pub(crate) fn post_each(&mut self, mut event: impl FnMut(&ReplicaCell) -> Option<GroupEvent>) {
        for slot in (0..self.next_slot().0).map(Slot) {
            if let Some(event) = event(&self.cells[slot.0 as usize]) {
                self.post(slot, event);
            }
        }
    }

    /// Posts to every replica that knows `leader` as its leader the event that `event` makes for
    /// it, if any.
    pub(crate) fn post_to_followers(
        &mut self,
        leader: NodeId,
        mut event: impl FnMut(&ReplicaCell) -> Option<GroupEvent>,
    ) {
        for slot in self.wait_lists.followers_of(leader).to_vec() {
            if let Some(event) = event(&self.cells[slot.0 as usize]) {
                self.post(slot, event);
            }
        }
    }

    /// Wakes the replicas whose deadlines have come.
    pub(crate) fn wake_due(&mut self, now: Time) {
        while let Some(slot) = self.wait_lists.pop_due(now) {
            self.post(slot, GroupEvent::Tick);
        }
    }

    /// Wakes at `most` so many replicas that a change of support concerns. Returns whether there
    /// are more.
    pub(crate) fn wake_concerned(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let Some(slot) = self.wait_lists.pop_concerned() else { break };
            self.post(slot, GroupEvent::SupportChanged);
        }
        self.wait_lists.has_concerned()
    }

    /// A peer answered a round: wakes those whose reads waited for one.
    pub(crate) fn confirmed(&mut self, support: &mut Support, from: NodeId, answer: Confirmation) {
        for slot in self.wait_lists.confirmed(support, from, answer) {
            self.post(slot, GroupEvent::Confirmed);
        }
    }

    /// Whether there are misplaced leaders here.
    pub(crate) fn leads_for_others(&self) -> bool {
        !self.misplaced.is_empty()
    }

    /// Has at `most` so many replicas hand leadership to `node`, which should lead them.
    pub(crate) fn hand_to(&mut self, node: NodeId, most: usize) {
        for slot in self.misplaced.take(node, most) {
            if self.cells[slot.0 as usize].preferred == Some(node) {
                self.post(slot, GroupEvent::TransferIfCaughtUp(node));
                self.misplaced.add(node, slot);
            }
        }
    }

    /// When some replica, or an open round, has a deadline.
    pub(crate) fn next_deadline(&self, round_patience: Duration) -> Option<Time> {
        let round = self.wait_lists.round_deadline(round_patience);
        self.wait_lists.next_deadline().into_iter().chain(round).min()
    }

    /// Notes that everything up to `seq` is durable. A replica that does not wait for it learns it
    /// at its next run.
    pub(crate) fn durable(&mut self, slot: Slot, seq: WriteSeq) {
        let cell = &mut self.cells[slot.0 as usize];
        cell.durable = cell.durable.max(seq);
        if cell.wake_conditions.durability {
            self.wake(slot);
        }
    }

    /// Runs the next replica that has something to do. Returns its slot, and the call of its state
    /// machine that has to follow.
    pub(crate) fn run_next(&mut self, turn: &mut Turn) -> Option<(Slot, Option<Call>)> {
        if let Some(next) = self.ready.get(2 * AHEAD) {
            prefetch(&self.cells[next.0 as usize]);
        }
        if let Some(next) = self.ready.get(AHEAD) {
            prefetch(&*self.cells[next.0 as usize].group);
        }
        let Some(slot) = self.ready.pop_front() else {
            self.events.clear();
            return None;
        };
        let cell = &mut self.cells[slot.0 as usize];
        cell.woken = false;
        let events = self.events.take(std::mem::take(&mut cell.inbox));
        cell.run(&mut RunContext { turn, scratch: &mut self.scratch }, events);
        Some((slot, self.begin_call(turn, slot)))
    }

    /// Tells a replica what came of a call. Returns the call that has to follow.
    pub(crate) fn end_call(
        &mut self,
        turn: &mut Turn,
        slot: Slot,
        ended: EndedCall,
    ) -> Option<Call> {
        let cell = &mut self.cells[slot.0 as usize];
        cell.end_call(&mut RunContext { turn, scratch: &mut self.scratch }, ended);
        self.begin_call(turn, slot)
    }

    /// Has a replica run without its state machine, until its call has ended.
    pub(crate) fn detach(&mut self, turn: &Turn, slot: Slot) {
        self.cells[slot.0 as usize].group.detach(&mut self.scratch);
        self.settle(&turn.support, slot);
    }

    /// Where the state machine of a replica is called.
    pub(crate) fn apply_on(&self, slot: Slot) -> ApplyOn {
        self.cells[slot.0 as usize].apply_on
    }

    /// Has the state machine of a replica called elsewhere from now on.
    pub(crate) fn move_to_pool(&mut self, slot: Slot) {
        self.cells[slot.0 as usize].apply_on = ApplyOn::Pool;
    }

    /// The group of the replica in a slot.
    pub(crate) fn group_of(&self, slot: Slot) -> GroupId {
        self.cells[slot.0 as usize].group.id()
    }

    fn begin_call(&mut self, turn: &mut Turn, slot: Slot) -> Option<Call> {
        let cell = &mut self.cells[slot.0 as usize];
        let call = cell.group.begin_call(&mut RunContext { turn, scratch: &mut self.scratch });
        if call.is_none() {
            self.settle(&turn.support, slot);
        }
        call
    }

    /// A replica has nothing to do for now: notes what it waits for.
    fn settle(&mut self, support: &Support, slot: Slot) {
        let cell = &mut self.cells[slot.0 as usize];
        cell.wake_conditions = cell.group.wake_conditions(support);
        self.wait_lists.update(slot, cell.wake_conditions, cell.group.members().voters());
        let leads = cell.wake_conditions.leader == Some(self.own);
        let preferred = if leads { cell.should_lead_on(self.own) } else { None };
        // Another may be preferred while this one leads.
        if preferred != std::mem::replace(&mut cell.preferred, preferred)
            && let Some(preferred) = preferred
        {
            self.misplaced.add(preferred, slot);
        }
    }

    fn wake(&mut self, slot: Slot) {
        let cell = &mut self.cells[slot.0 as usize];
        if !std::mem::replace(&mut cell.woken, true) {
            self.ready.push_back(slot);
        }
    }
}
