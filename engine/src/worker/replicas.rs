//! The replicas of a worker, each a lightweight actor: an inbox, a place in the queue of those that
//! have something to do, and one run a turn that takes in all there is.
//!
//! They share their worker's thread and its memory for events, so that an idle one costs a cell in a
//! table, and waking one neither allocates nor synchronizes with anybody.

use crate::replica::group::{Group, GroupEvent, WakeConditions};
use crate::turn::{Slot, Turn};
use crate::worker::prefetch::prefetch;
use crate::worker::wait_lists::WaitLists;
use logboat_raft::{Confirmation, GroupId, NodeId, Support, Time, WriteSeq};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// How many replicas ahead of the one that runs memory is asked for.
const AHEAD: usize = 4;
/// How many events the empty pool keeps room for.
const KEPT_EVENTS: usize = 1 << 14;

/// A replica with what its worker keeps of it.
pub(crate) struct ReplicaCell {
    group: Box<Group>,
    /// The newest mark that is durable.
    durable: WriteSeq,
    wake_conditions: WakeConditions,
    inbox: EventList,
    woken: bool,
    /// All voters of the group, this node among them.
    voters: Arc<[NodeId]>,
    /// Where the group's leader should be.
    preferred: NodeId,
}

impl ReplicaCell {
    pub(crate) fn new(group: Group, voters: Arc<[NodeId]>, preferred: NodeId) -> Self {
        Self {
            durable: WriteSeq::default(),
            wake_conditions: WakeConditions::default(),
            group: Box::new(group),
            inbox: EventList::EMPTY,
            woken: false,
            voters,
            preferred,
        }
    }

    pub(crate) const fn wake_conditions(&self) -> WakeConditions {
        self.wake_conditions
    }

    /// Whether a replica of the group is on `node`.
    pub(crate) fn is_on(&self, node: NodeId) -> bool {
        self.voters.contains(&node)
    }

    /// Runs the replica. A panic ends it, and the other replicas go on.
    fn run(&mut self, turn: &mut Turn, events: impl Iterator<Item = GroupEvent>) {
        let run = AssertUnwindSafe(|| self.group.run(turn, self.durable, events));
        if catch_unwind(run).is_err() {
            self.group.fail(turn, "it panicked");
        }
        self.wake_conditions = self.group.wake_conditions(&turn.support);
    }
}

/// The replicas of a worker by slot and by group, and who of them has something to do.
pub(crate) struct Replicas {
    own: NodeId,
    cells: Vec<ReplicaCell>,
    by_group: FxHashMap<GroupId, Slot>,
    queued: Vec<QueuedEvent>,
    ready: VecDeque<Slot>,
    /// Who waits for what.
    pub(crate) wait_lists: WaitLists,
    /// By preferred node, replicas that led here when they ran last, though another is preferred.
    misplaced: FxHashMap<NodeId, VecDeque<Slot>>,
}

/// An event in an inbox.
struct QueuedEvent {
    event: Option<GroupEvent>,
    next: Option<u32>,
}

/// An inbox: the first and the last of the events that hang together.
#[derive(Clone, Copy)]
struct EventList(Option<(u32, u32)>);

impl EventList {
    const EMPTY: Self = Self(None);
}

impl Replicas {
    /// No replicas yet, on node `own`.
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            cells: Vec::new(),
            by_group: FxHashMap::default(),
            queued: Vec::new(),
            ready: VecDeque::new(),
            wait_lists: WaitLists::new(own),
            misplaced: FxHashMap::default(),
        }
    }

    /// The slot of the next replica that is seated.
    pub(crate) fn next_slot(&self) -> Slot {
        Slot(u32::try_from(self.cells.len()).expect("fewer than 2^32 replicas a worker"))
    }

    /// Gives a replica of `group` the [`next_slot`](Self::next_slot).
    pub(crate) fn add(&mut self, group: GroupId, cell: ReplicaCell) {
        self.by_group.insert(group, self.next_slot());
        self.cells.push(cell);
        self.wait_lists.add();
    }

    pub(crate) fn slot_of(&self, group: GroupId) -> Option<Slot> {
        self.by_group.get(&group).copied()
    }

    /// Has the replica take in `event` in this turn.
    pub(crate) fn post(&mut self, slot: Slot, event: GroupEvent) {
        let at = u32::try_from(self.queued.len()).expect("fewer than 2^32 events a turn");
        self.queued.push(QueuedEvent { event: Some(event), next: None });
        let cell = &mut self.cells[slot.0 as usize];
        cell.inbox = match cell.inbox {
            EventList(None) => EventList(Some((at, at))),
            EventList(Some((first, last))) => {
                self.queued[last as usize].next = Some(at);
                EventList(Some((first, at)))
            }
        };
        self.wake(slot);
    }

    /// Has every replica take in what `event` makes for it, if anything.
    pub(crate) fn post_each(&mut self, mut event: impl FnMut(&ReplicaCell) -> Option<GroupEvent>) {
        for slot in (0..self.next_slot().0).map(Slot) {
            if let Some(event) = event(&self.cells[slot.0 as usize]) {
                self.post(slot, event);
            }
        }
    }

    /// Has every replica that knows `leader` as its leader take in what `event` makes for it, if
    /// anything.
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

    /// Wakes at `most` so many replicas that a change of support concerns. Whether there are more.
    pub(crate) fn wake_concerned(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let Some(slot) = self.wait_lists.pop_concerned() else { break };
            self.post(slot, GroupEvent::SupportChanged);
        }
        self.wait_lists.has_concerned()
    }

    /// A peer answered a round: wakes those whose reads waited for one.
    pub(crate) fn confirmed(
        &mut self,
        support: &mut Support,
        from: NodeId,
        answer: Confirmation,
        peers: usize,
    ) {
        for slot in self.wait_lists.confirmed(support, from, answer, peers) {
            self.post(slot, GroupEvent::Confirmed);
        }
    }

    /// Whether replicas lead here though another is preferred.
    pub(crate) fn leads_for_others(&self) -> bool {
        self.misplaced.values().any(|slots| !slots.is_empty())
    }

    /// Has at `most` so many replicas hand leadership to `node`, where it should be.
    pub(crate) fn hand_to(&mut self, node: NodeId, most: usize) {
        let misplaced = self.misplaced.entry(node).or_default();
        let some: Vec<Slot> = misplaced.drain(..most.min(misplaced.len())).collect();
        for slot in some {
            if self.cells[slot.0 as usize].wake_conditions.leader == Some(self.own) {
                self.post(slot, GroupEvent::TransferIfCaughtUp(node));
                self.misplaced.entry(node).or_default().push_back(slot);
            }
        }
    }

    /// When some replica, or an open round, has a deadline.
    pub(crate) fn next_deadline(&self, round_patience: Duration) -> Option<Time> {
        let round = self.wait_lists.round_deadline(round_patience);
        self.wait_lists.next_deadline().into_iter().chain(round).min()
    }

    /// Everything up to `seq` is durable. A replica that does not wait for it learns it when it runs
    /// next.
    pub(crate) fn durable(&mut self, slot: Slot, seq: WriteSeq) {
        let cell = &mut self.cells[slot.0 as usize];
        cell.durable = cell.durable.max(seq);
        if cell.wake_conditions.durability {
            self.wake(slot);
        }
    }

    /// Runs those that have something to do, each once, but at `most` so many of them. Whether there
    /// are more.
    pub(crate) fn run(&mut self, turn: &mut Turn, most: usize) -> bool {
        for _ in 0..most.min(self.ready.len()) {
            if let Some(next) = self.ready.get(2 * AHEAD) {
                prefetch(&self.cells[next.0 as usize]);
            }
            if let Some(next) = self.ready.get(AHEAD) {
                prefetch(&*self.cells[next.0 as usize].group);
            }
            let Some(slot) = self.ready.pop_front() else { break };
            let cell = &mut self.cells[slot.0 as usize];
            cell.woken = false;
            let EventList(chain) = std::mem::replace(&mut cell.inbox, EventList::EMPTY);
            let next = chain.map(|(first, _)| first);
            let led = cell.wake_conditions.leader == Some(self.own);
            cell.run(turn, Mail { queued: &mut self.queued, next });
            self.wait_lists.update(slot, cell.wake_conditions);
            let leads = cell.wake_conditions.leader == Some(self.own);
            if leads && !led && cell.preferred != self.own {
                self.misplaced.entry(cell.preferred).or_default().push_back(slot);
            }
        }
        let more = !self.ready.is_empty();
        if !more {
            self.queued.clear();
            self.queued.shrink_to(KEPT_EVENTS);
        }
        more
    }

    fn wake(&mut self, slot: Slot) {
        let cell = &mut self.cells[slot.0 as usize];
        if !std::mem::replace(&mut cell.woken, true) {
            self.ready.push_back(slot);
        }
    }
}

/// The events of one replica, in the order in which they came.
struct Mail<'a> {
    queued: &'a mut [QueuedEvent],
    next: Option<u32>,
}

impl Iterator for Mail<'_> {
    type Item = GroupEvent;

    fn next(&mut self) -> Option<GroupEvent> {
        let queued_event = &mut self.queued[self.next? as usize];
        self.next = queued_event.next;
        queued_event.event.take()
    }
}
