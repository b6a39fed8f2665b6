//! The replicas of a worker, each a lightweight actor: an inbox, a place in the queue of those that
//! have something to do, and one run a turn that takes in all there is.
//!
//! They share their worker's thread and its memory for letters, so that an idle one costs a seat in a
//! table, and waking one neither allocates nor synchronizes with anybody.

use crate::replica::group::{Attention, Group, GroupEvent};
use crate::turn::{Slot, Turn};
use crate::worker::prefetch::prefetch;
use crate::worker::wait_lists::Roster;
use logboat_raft::{Epoch, GroupId, Mark, NodeId, Support, Time};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// How many replicas ahead of the one that runs memory is asked for.
const AHEAD: usize = 4;
/// How many letters an empty post office keeps room for.
const KEPT_LETTERS: usize = 1 << 14;

/// A replica with what its worker keeps of it.
pub(crate) struct Seat {
    group: Box<Group>,
    /// The newest mark that is durable.
    durable: Mark,
    attention: Attention,
    inbox: Chain,
    woken: bool,
    /// All voters of the group, this node among them.
    voters: Arc<[NodeId]>,
    /// Where the group's leader should be.
    preferred: NodeId,
}

impl Seat {
    pub(crate) fn new(group: Group, voters: Arc<[NodeId]>, preferred: NodeId) -> Self {
        Self {
            durable: Mark::default(),
            attention: Attention::default(),
            group: Box::new(group),
            inbox: Chain::EMPTY,
            woken: false,
            voters,
            preferred,
        }
    }

    pub(crate) const fn attention(&self) -> Attention {
        self.attention
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
        self.attention = self.group.attention(&turn.support);
    }
}

/// The replicas of a worker by slot and by group, and who of them has something to do.
pub(crate) struct Replicas {
    own: NodeId,
    seats: Vec<Seat>,
    by_group: FxHashMap<GroupId, Slot>,
    letters: Vec<Letter>,
    ready: VecDeque<Slot>,
    /// Who waits for what.
    pub(crate) roster: Roster,
    /// By preferred node, replicas that led here when they ran last, though another is preferred.
    astray: FxHashMap<NodeId, VecDeque<Slot>>,
}

/// An event in an inbox.
struct Letter {
    event: Option<GroupEvent>,
    next: Option<u32>,
}

/// An inbox: the first and the last of the letters that hang together.
#[derive(Clone, Copy)]
struct Chain(Option<(u32, u32)>);

impl Chain {
    const EMPTY: Self = Self(None);
}

impl Replicas {
    /// No replicas yet, on node `own`.
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            seats: Vec::new(),
            by_group: FxHashMap::default(),
            letters: Vec::new(),
            ready: VecDeque::new(),
            roster: Roster::new(own),
            astray: FxHashMap::default(),
        }
    }

    /// The slot of the next replica that is seated.
    pub(crate) fn next_slot(&self) -> Slot {
        Slot(u32::try_from(self.seats.len()).expect("fewer than 2^32 replicas a worker"))
    }

    /// Gives a replica of `group` the [`next_slot`](Self::next_slot).
    pub(crate) fn seat(&mut self, group: GroupId, seat: Seat) {
        self.by_group.insert(group, self.next_slot());
        self.seats.push(seat);
        self.roster.add();
    }

    pub(crate) fn slot_of(&self, group: GroupId) -> Option<Slot> {
        self.by_group.get(&group).copied()
    }

    /// Has the replica take in `event` in this turn.
    pub(crate) fn post(&mut self, slot: Slot, event: GroupEvent) {
        let at = u32::try_from(self.letters.len()).expect("fewer than 2^32 letters a turn");
        self.letters.push(Letter { event: Some(event), next: None });
        let seat = &mut self.seats[slot.0 as usize];
        seat.inbox = match seat.inbox {
            Chain(None) => Chain(Some((at, at))),
            Chain(Some((first, last))) => {
                self.letters[last as usize].next = Some(at);
                Chain(Some((first, at)))
            }
        };
        self.wake(slot);
    }

    /// Has every replica take in what `event` makes for it, if anything.
    pub(crate) fn post_each(&mut self, mut event: impl FnMut(&Seat) -> Option<GroupEvent>) {
        for slot in (0..self.next_slot().0).map(Slot) {
            if let Some(event) = event(&self.seats[slot.0 as usize]) {
                self.post(slot, event);
            }
        }
    }

    /// Has every replica that knows `leader` as its leader take in what `event` makes for it, if
    /// anything.
    pub(crate) fn post_to_followers(
        &mut self,
        leader: NodeId,
        mut event: impl FnMut(&Seat) -> Option<GroupEvent>,
    ) {
        for slot in self.roster.followers_of(leader).to_vec() {
            if let Some(event) = event(&self.seats[slot.0 as usize]) {
                self.post(slot, event);
            }
        }
    }

    /// Wakes the replicas whose deadlines have come.
    pub(crate) fn wake_due(&mut self, now: Time) {
        while let Some(slot) = self.roster.pop_due(now) {
            self.post(slot, GroupEvent::Tick);
        }
    }

    /// Wakes at `most` so many replicas that a change of support concerns. Whether there are more.
    pub(crate) fn wake_concerned(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let Some(slot) = self.roster.pop_concerned() else { break };
            self.post(slot, GroupEvent::SupportChanged);
        }
        self.roster.has_concerned()
    }

    /// A peer answered a round: wakes those whose reads waited for one.
    pub(crate) fn confirmed(
        &mut self,
        support: &mut Support,
        from: NodeId,
        answer: (u64, Option<Epoch>),
        peers: usize,
    ) {
        for slot in self.roster.confirmed(support, from, answer, peers) {
            self.post(slot, GroupEvent::Confirmed);
        }
    }

    /// Whether replicas lead here though another is preferred.
    pub(crate) fn leads_for_others(&self) -> bool {
        self.astray.values().any(|slots| !slots.is_empty())
    }

    /// Has at `most` so many replicas hand leadership to `node`, where it should be.
    pub(crate) fn yield_to(&mut self, node: NodeId, most: usize) {
        let astray = self.astray.entry(node).or_default();
        let some: Vec<Slot> = astray.drain(..most.min(astray.len())).collect();
        for slot in some {
            if self.seats[slot.0 as usize].attention.leader == Some(self.own) {
                self.post(slot, GroupEvent::Yield(node));
                self.astray.entry(node).or_default().push_back(slot);
            }
        }
    }

    /// When some replica, or an open round, has a deadline.
    pub(crate) fn next_deadline(&self, round_patience: Duration) -> Option<Time> {
        let round = self.roster.round_deadline(round_patience);
        self.roster.next_deadline().into_iter().chain(round).min()
    }

    /// Everything up to `mark` is durable. A replica that does not wait for it learns it when it runs
    /// next.
    pub(crate) fn durable(&mut self, slot: Slot, mark: Mark) {
        let seat = &mut self.seats[slot.0 as usize];
        seat.durable = seat.durable.max(mark);
        if seat.attention.durability {
            self.wake(slot);
        }
    }

    /// Runs those that have something to do, each once, but at `most` so many of them. Whether there
    /// are more.
    pub(crate) fn run(&mut self, turn: &mut Turn, most: usize) -> bool {
        for _ in 0..most.min(self.ready.len()) {
            if let Some(next) = self.ready.get(2 * AHEAD) {
                prefetch(&self.seats[next.0 as usize]);
            }
            if let Some(next) = self.ready.get(AHEAD) {
                prefetch(&*self.seats[next.0 as usize].group);
            }
            let Some(slot) = self.ready.pop_front() else { break };
            let seat = &mut self.seats[slot.0 as usize];
            seat.woken = false;
            let Chain(chain) = std::mem::replace(&mut seat.inbox, Chain::EMPTY);
            let next = chain.map(|(first, _)| first);
            let led = seat.attention.leader == Some(self.own);
            seat.run(turn, Mail { letters: &mut self.letters, next });
            self.roster.update(slot, seat.attention);
            let leads = seat.attention.leader == Some(self.own);
            if leads && !led && seat.preferred != self.own {
                self.astray.entry(seat.preferred).or_default().push_back(slot);
            }
        }
        let more = !self.ready.is_empty();
        if !more {
            self.letters.clear();
            self.letters.shrink_to(KEPT_LETTERS);
        }
        more
    }

    fn wake(&mut self, slot: Slot) {
        let seat = &mut self.seats[slot.0 as usize];
        if !std::mem::replace(&mut seat.woken, true) {
            self.ready.push_back(slot);
        }
    }
}

/// The letters of one replica, in the order in which they came.
struct Mail<'a> {
    letters: &'a mut [Letter],
    next: Option<u32>,
}

impl Iterator for Mail<'_> {
    type Item = GroupEvent;

    fn next(&mut self) -> Option<GroupEvent> {
        let letter = &mut self.letters[self.next? as usize];
        self.next = letter.next;
        letter.event.take()
    }
}
