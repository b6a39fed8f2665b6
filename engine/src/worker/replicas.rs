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
use crate::turn::slot::{Slot, SlotIndex};
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
    table: Vec<TableEntry>,
    /// The indexes that nobody has.
    vacant: Vec<SlotIndex>,
    by_group: FxHashMap<GroupId, SlotIndex>,
    events: EventPool,
    scratch: RunScratch,
    ready: VecDeque<SlotIndex>,
    /// Replicas that have ended for good, and go when the turn is over.
    ended: Vec<SlotIndex>,
    /// What has come in this turn for replicas that have gone.
    late: Vec<GroupEvent>,
    /// The wait lists of these replicas.
    pub(crate) wait_lists: WaitLists,
    misplaced: MisplacedLeaders,
}

/// What the table has at an index.
#[derive(Default)]
struct TableEntry {
    /// How many replicas had the index before.
    generation: u32,
    replica: Option<ReplicaCell>,
}

impl Replicas {
    /// No replicas yet, on node `own`.
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            table: Vec::new(),
            vacant: Vec::new(),
            by_group: FxHashMap::default(),
            events: EventPool::default(),
            scratch: RunScratch::default(),
            ready: VecDeque::new(),
            ended: Vec::new(),
            late: Vec::new(),
            wait_lists: WaitLists::new(own),
            misplaced: MisplacedLeaders::default(),
        }
    }

    /// The slot of the next replica that is added.
    pub(crate) fn next_slot(&self) -> Slot {
        match self.vacant.last() {
            Some(&index) => self.slot_at(index),
            None => {
                let count = u32::try_from(self.table.len());
                let index = SlotIndex(count.expect("fewer than 2^32 replicas a worker"));
                Slot { index, generation: 0 }
            }
        }
    }

    /// Gives a replica of `group` the [`next_slot`](Self::next_slot). It takes the place of the one
    /// before, if there was one, which has ended.
    pub(crate) fn add(&mut self, group: GroupId, cell: ReplicaCell) {
        let Slot { index, .. } = self.next_slot();
        if self.vacant.pop().is_none() {
            self.table.push(TableEntry::default());
            self.wait_lists.add();
        }
        self.table[index.0 as usize].replica = Some(cell);
        self.ended.extend(self.by_group.insert(group, index));
    }

    /// Ends a replica that has failed or was stopped. Returns its state machine.
    pub(crate) fn retire(&mut self, slot: Slot) -> Option<Box<dyn StateMachine>> {
        self.get(slot)?.group.retire()
    }

    /// Ends a replica that is gone. Nothing that comes for its group reaches it any more. Returns
    /// its state machine.
    pub(crate) fn bury(&mut self, group: GroupId, slot: Slot) -> Option<Box<dyn StateMachine>> {
        let machine = self.get(slot)?.group.retire();
        if self.slot_of(group) == Some(slot.index) {
            self.by_group.remove(&group);
        }
        self.ended.push(slot.index);
        machine
    }

    /// Frees all that the replicas have which have ended, and their slots. No replica has anything
    /// to do. One whose state machine is being called stays until that has ended.
    pub(crate) fn free_ended(&mut self, turn: &mut Turn) {
        debug_assert!(self.ready.is_empty(), "the turn is over");
        for index in std::mem::take(&mut self.ended) {
            let entry = &mut self.table[index.0 as usize];
            let is_called = |cell: &ReplicaCell| cell.group.is_called_elsewhere();
            if entry.replica.as_ref().is_some_and(is_called) {
                self.ended.push(index);
                continue;
            }
            let slot = Slot { index, generation: entry.generation };
            let Some(cell) = entry.replica.take() else { continue };
            if let Some(preferred) = cell.preferred {
                self.misplaced.remove(preferred, index);
            }
            self.wait_lists.update(index, WakeConditions::default(), []);
            // An index that has had 2^32 replicas is used no more.
            if let Some(generation) = entry.generation.checked_add(1) {
                entry.generation = generation;
                self.vacant.push(index);
            }
            turn.discard(cell.group.id(), slot, cell.group);
        }
    }

    pub(crate) fn slot_of(&self, group: GroupId) -> Option<SlotIndex> {
        self.by_group.get(&group).copied()
    }

    /// Has the replica in a slot take in `event` in this turn, or somebody answer for one that has
    /// gone.
    pub(crate) fn post(&mut self, slot: Slot, event: GroupEvent) {
        if self.get(slot).is_some() {
            self.post_at(slot.index, event);
        } else {
            self.late.push(event);
        }
    }

    /// Has the replica at an index take in `event` in this turn, if there is one.
    pub(crate) fn post_at(&mut self, index: SlotIndex, event: GroupEvent) {
        let Some(cell) = &mut self.table[index.0 as usize].replica else { return };
        self.events.push(&mut cell.inbox, event);
        wake(&mut self.ready, index, cell);
    }

    /// Has the replica at an index take in a message in this turn: the one `at` this place of those
    /// that are [kept](Self::keep_messages) next.
    pub(crate) fn post_message(&mut self, index: SlotIndex, at: usize) {
        let Some(cell) = &mut self.table[index.0 as usize].replica else { return };
        self.events.push_message(&mut cell.inbox, at);
        wake(&mut self.ready, index, cell);
    }

    /// Keeps the messages of a peer until the replicas run.
    pub(crate) fn keep_messages(&mut self, from: NodeId, messages: Vec<(GroupId, Message)>) {
        self.events.keep(from, messages);
    }

    /// Posts to every replica the event that `event` makes for it, if any.
    pub(crate) fn post_each(&mut self, mut event: impl FnMut(&ReplicaCell) -> Option<GroupEvent>) {
        for place in 0..self.table.len() {
            if let Some(event) = self.table[place].replica.as_ref().and_then(&mut event) {
                self.post_at(SlotIndex(place as u32), event);
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
        for index in self.wait_lists.followers_of(leader).to_vec() {
            let cell = self.table[index.0 as usize].replica.as_ref();
            if let Some(event) = cell.and_then(&mut event) {
                self.post_at(index, event);
            }
        }
    }

    /// Wakes the replicas whose deadlines have come.
    pub(crate) fn wake_due(&mut self, now: Time) {
        while let Some(index) = self.wait_lists.pop_due(now) {
            self.post_at(index, GroupEvent::Tick);
        }
    }

    /// Wakes at `most` so many replicas that a change of support concerns. Returns whether there
    /// are more.
    pub(crate) fn wake_concerned(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let Some(index) = self.wait_lists.pop_concerned() else { break };
            self.post_at(index, GroupEvent::SupportChanged);
        }
        self.wait_lists.has_concerned()
    }

    /// A peer answered a round: wakes those whose reads waited for one.
    pub(crate) fn confirmed(&mut self, support: &mut Support, from: NodeId, answer: Confirmation) {
        for index in self.wait_lists.confirmed(support, from, answer) {
            self.post_at(index, GroupEvent::Confirmed);
        }
    }

    /// Whether there are misplaced leaders here.
    pub(crate) fn leads_for_others(&self) -> bool {
        !self.misplaced.is_empty()
    }

    /// Has at `most` so many replicas hand leadership to `node`, which should lead them.
    pub(crate) fn hand_to(&mut self, node: NodeId, most: usize) {
        for index in self.misplaced.next(node, most) {
            self.post_at(index, GroupEvent::TransferIfCaughtUp(node));
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
        let entry = &mut self.table[slot.index.0 as usize];
        if entry.generation == slot.generation
            && let Some(cell) = &mut entry.replica
        {
            cell.durable = cell.durable.max(seq);
            if cell.awaits_durability {
                wake(&mut self.ready, slot.index, cell);
            }
        }
    }

    /// Runs the next replica that has something to do. Returns its slot, and the call of its state
    /// machine that has to follow.
    pub(crate) fn run_next(&mut self, turn: &mut Turn) -> Option<(Slot, Option<Call>)> {
        let ahead = |at| self.ready.get(at).map(|index| &self.table[index.0 as usize]);
        if let Some(next) = ahead(2 * AHEAD) {
            prefetch(next);
        }
        if let Some(next) = ahead(AHEAD).and_then(|next| next.replica.as_ref()) {
            prefetch(&*next.group);
        }
        let Some(index) = self.ready.pop_front() else {
            self.events.clear();
            self.late.drain(..).for_each(|event| event.come_too_late(turn));
            return None;
        };
        let cell = running(&mut self.table, index);
        cell.woken = false;
        let events = self.events.take(std::mem::take(&mut cell.inbox));
        cell.run(&mut RunContext { turn, scratch: &mut self.scratch }, events);
        let slot = self.slot_at(index);
        Some((slot, self.begin_call(turn, slot)))
    }

    /// Tells a replica what came of a call. Returns the call that has to follow.
    pub(crate) fn end_call(
        &mut self,
        turn: &mut Turn,
        slot: Slot,
        ended: EndedCall,
    ) -> Option<Call> {
        let cell = running(&mut self.table, slot.index);
        cell.end_call(&mut RunContext { turn, scratch: &mut self.scratch }, ended);
        self.begin_call(turn, slot)
    }

    /// Has a replica run without its state machine, until its call has ended.
    pub(crate) fn detach(&mut self, turn: &Turn, slot: Slot) {
        running(&mut self.table, slot.index).group.detach(&mut self.scratch);
        self.settle(&turn.support, slot.index);
    }

    /// The group of a replica that runs, and where its state machine is called.
    pub(crate) fn called_on(&mut self, slot: Slot) -> (GroupId, ApplyOn) {
        let cell = running(&mut self.table, slot.index);
        (cell.group.id(), cell.apply_on)
    }

    /// Has the state machine of a replica called elsewhere from now on.
    pub(crate) fn move_to_pool(&mut self, slot: Slot) {
        running(&mut self.table, slot.index).apply_on = ApplyOn::Pool;
    }

    /// The group of the replica in a slot, unless that has gone.
    pub(crate) fn group_of(&mut self, slot: Slot) -> Option<GroupId> {
        self.get(slot).map(|cell| cell.group.id())
    }

    fn get(&mut self, slot: Slot) -> Option<&mut ReplicaCell> {
        let entry = &mut self.table[slot.index.0 as usize];
        entry.replica.as_mut().filter(|_| entry.generation == slot.generation)
    }

    fn slot_at(&self, index: SlotIndex) -> Slot {
        Slot { index, generation: self.table[index.0 as usize].generation }
    }

    fn begin_call(&mut self, turn: &mut Turn, slot: Slot) -> Option<Call> {
        let cell = running(&mut self.table, slot.index);
        let call = cell.group.begin_call(&mut RunContext { turn, scratch: &mut self.scratch });
        if call.is_none() {
            self.settle(&turn.support, slot.index);
        }
        call
    }

    /// A replica has nothing to do for now: notes what it waits for.
    fn settle(&mut self, support: &Support, index: SlotIndex) {
        let cell = running(&mut self.table, index);
        let wake_conditions = cell.group.wake_conditions(support);
        cell.awaits_durability = wake_conditions.durability;
        cell.awaits_deadline = wake_conditions.deadline.is_some();
        self.wait_lists.update(index, wake_conditions, cell.group.members().voters());
        let leads = wake_conditions.leader == Some(self.own);
        let preferred = if leads { cell.should_lead_on(self.own) } else { None };
        let former = std::mem::replace(&mut cell.preferred, preferred);
        // Another may be preferred while this one leads.
        if preferred != former {
            former.into_iter().for_each(|node| self.misplaced.remove(node, index));
            preferred.into_iter().for_each(|node| self.misplaced.add(node, index));
        }
    }
}

/// The replica at an index, which runs in this turn: so it is there.
fn running(table: &mut [TableEntry], index: SlotIndex) -> &mut ReplicaCell {
    let cell = table[index.0 as usize].replica.as_mut();
    cell.expect("a replica does not go in a turn in which it runs")
}

fn wake(ready: &mut VecDeque<SlotIndex>, index: SlotIndex, cell: &mut ReplicaCell) {
    if !std::mem::replace(&mut cell.woken, true) {
        ready.push_back(index);
    }
}

#[cfg(test)]
mod tests;
