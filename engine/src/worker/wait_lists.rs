//! Wait lists: which replicas of a worker wait for what. A replica is woken by its deadline, by a
//! change of support that concerns its leader, or by a round of confirmations. No replica is looked
//! at in vain. A group at rest (quiesced, hibernating) waits in no list that anything walks.
//!
//! The lists hold indexes of slots rather than replicas, so that a simulator can use them with its
//! own. An index that another replica gets keeps its places in the lists: the next one may be woken
//! once for what the one before waited for, and finds nothing to do.

use crate::replica::wake_conditions::WakeConditions;
use crate::turn::slot::SlotIndex;
use logboat_raft::{Confirmation, Epoch, NodeId, Round, Support, Time};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// The wait lists of a worker.
pub struct WaitLists {
    own: NodeId,
    entries: Vec<Entry>,
    /// The replicas by their leader's node.
    followers: FxHashMap<NodeId, Vec<SlotIndex>>,
    /// Deadlines, soonest first. An entry counts only if it is also the timer in its replica's
    /// places.
    timers: BinaryHeap<Reverse<(Time, SlotIndex)>>,
    /// How many replicas have a deadline.
    waiting: usize,
    /// Replicas that a change of support concerns, in the order in which they are woken.
    concerned: VecDeque<SlotIndex>,
    /// Replicas that have to tell peers something, as soon as these support this node again.
    speakers: Vec<SlotIndex>,
    rounds: Rounds,
}

/// Later than any deadline.
const NEVER: Time = Time(u64::MAX);

/// A replica's places in the lists.
#[derive(Clone, Copy)]
struct Entry {
    leader: Option<NodeId>,
    /// Its place among those with the same leader.
    place: u32,
    /// [`NEVER`] without one, and so for the timer. Options would take twice the memory.
    deadline: Time,
    /// The soonest of its timers. The others are void.
    timer: Time,
    /// Whether it is listed among those that wait for a round.
    awaits: bool,
    /// Whether it is listed among those that a change of support concerns.
    is_concerned: bool,
    /// Whether it is listed among those that have to tell peers something.
    speaks: bool,
}

/// Rounds of confirmations. One round at a time asks each peer that one of the groups needs once,
/// for all reads of the worker.
#[derive(Default)]
struct Rounds {
    newest: Round,
    /// When the newest round was opened.
    opened: Time,
    /// Whether too few peers have answered it to open the next.
    open: bool,
    /// How many peers have answered it.
    answers: usize,
    /// The peers that it asks.
    peers: PeerSet,
    /// Replicas with reads that wait for a round up to the newest, and the peers that they need.
    asked: Readers,
    /// Replicas with reads that wait for the round after it.
    next: Readers,
    /// Whether a replica with reads that wait for the newest round needs a peer that this does not
    /// ask: the members of its group have changed since.
    is_short: bool,
}

/// Replicas with reads that wait for a round.
#[derive(Default)]
struct Readers {
    slots: Vec<SlotIndex>,
    /// The other voters of their groups.
    peers: PeerSet,
}

/// Some peers. A node has few of them, so a scan is faster than a hash set.
#[derive(Default)]
struct PeerSet(Vec<NodeId>);

impl PeerSet {
    fn contains(&self, peer: NodeId) -> bool {
        self.0.contains(&peer)
    }

    fn insert(&mut self, peer: NodeId) {
        if !self.contains(peer) {
            self.0.push(peer);
        }
    }
}

impl WaitLists {
    /// The lists of a worker of node `own`, without replicas.
    #[must_use]
    pub fn new(own: NodeId) -> Self {
        Self {
            own,
            entries: Vec::new(),
            followers: FxHashMap::default(),
            timers: BinaryHeap::new(),
            waiting: 0,
            concerned: VecDeque::new(),
            speakers: Vec::new(),
            rounds: Rounds::default(),
        }
    }

    /// Makes room for a replica in a slot of the next index.
    pub fn add(&mut self) {
        self.entries.push(Entry {
            leader: None,
            place: 0,
            deadline: NEVER,
            timer: NEVER,
            awaits: false,
            is_concerned: false,
            speaks: false,
        });
    }

    /// Lists a replica anew after its run, by its wake conditions. If it has reads that wait for a
    /// round, the round asks the nodes of these `voters`.
    pub fn update(
        &mut self,
        slot: SlotIndex,
        wake_conditions: WakeConditions,
        voters: impl IntoIterator<Item = NodeId>,
    ) {
        if self.entry(slot).leader != wake_conditions.leader {
            self.follow(slot, wake_conditions.leader);
        }
        let entry = &mut self.entries[slot.0 as usize];
        self.waiting -= usize::from(entry.deadline != NEVER);
        entry.deadline = wake_conditions.deadline.unwrap_or(NEVER);
        self.waiting += usize::from(entry.deadline != NEVER);
        if entry.deadline < entry.timer {
            entry.timer = entry.deadline;
            self.timers.push(Reverse((entry.deadline, slot)));
        }
        if wake_conditions.speaks && !std::mem::replace(&mut entry.speaks, true) {
            self.speakers.push(slot);
        }
        if let Some(round) = wake_conditions.awaited_round {
            let is_listed = std::mem::replace(&mut entry.awaits, true);
            let peers = voters.into_iter().filter(|node| *node != self.own);
            self.rounds.need(round, peers, (!is_listed).then_some(slot));
        }
    }

    /// The replicas that know `leader` as their leader.
    #[must_use]
    pub fn followers_of(&self, leader: NodeId) -> &[SlotIndex] {
        self.followers.get(&leader).map_or(&[], Vec::as_slice)
    }

    /// When the next replica has a deadline, at the soonest: a timer that is void counts, too, but
    /// not while nobody has a deadline. Whoever looks at the clock would do so in vain until then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let soonest = self.timers.peek().filter(|_| self.waiting > 0);
        soonest.map(|Reverse((time, _))| *time)
    }

    /// Takes out a replica whose deadline has come.
    pub fn pop_due(&mut self, now: Time) -> Option<SlotIndex> {
        while let Some(Reverse((time, slot))) =
            self.timers.peek().copied().filter(|it| it.0.0 <= now)
        {
            self.timers.pop();
            let entry = &mut self.entries[slot.0 as usize];
            if entry.timer != time {
                continue;
            }
            // A deadline that was put off since gets a new timer.
            if entry.deadline <= now {
                entry.timer = NEVER;
                return Some(slot);
            }
            entry.timer = entry.deadline;
            if entry.timer != NEVER {
                self.timers.push(Reverse((entry.timer, slot)));
            }
        }
        None
    }

    /// This node supports `peer` at `epoch` from now on, or no longer. That concerns the replicas
    /// that follow a leader there, which may have fortified it at another epoch.
    pub fn support_for_changed(
        &mut self,
        support: &mut Support,
        peer: NodeId,
        epoch: Option<Epoch>,
    ) {
        support.of_mut(peer).support_for = epoch;
        self.concern_followers_of(peer);
    }

    /// `peer` supports this node at `epoch`, or may no longer do so. That concerns the leaders
    /// here, and those that have to tell peers something.
    pub fn support_from_changed(
        &mut self,
        support: &mut Support,
        peer: NodeId,
        epoch: Option<Epoch>,
    ) {
        support.of_mut(peer).support_from = epoch;
        self.concern_followers_of(self.own);
        let speakers = std::mem::take(&mut self.speakers);
        speakers.iter().for_each(|slot| self.entries[slot.0 as usize].speaks = false);
        concern(&mut self.entries, &mut self.concerned, &speakers);
    }

    /// Lists those that follow a leader there.
    fn concern_followers_of(&mut self, leader: NodeId) {
        let followers = self.followers.get(&leader).map_or(&[][..], Vec::as_slice);
        concern(&mut self.entries, &mut self.concerned, followers);
    }

    /// Takes out a replica that a change of support concerns.
    pub fn pop_concerned(&mut self) -> Option<SlotIndex> {
        let slot = self.concerned.pop_front()?;
        self.entries[slot.0 as usize].is_concerned = false;
        Some(slot)
    }

    /// Whether a change of support concerns replicas that were not taken out yet.
    #[must_use]
    pub fn has_concerned(&self) -> bool {
        !self.concerned.is_empty()
    }

    /// Opens the next round, if reads wait for it and none is open. The peers have to be asked then
    /// that it [asks](Self::asks). When reads have waited for the newest round for `patience`, they
    /// are asked again. Its messages may be lost, or its answers may have come before followers
    /// fortified.
    pub fn open_round(
        &mut self,
        support: &mut Support,
        now: Time,
        patience: Duration,
    ) -> Option<Round> {
        let is_late = self.round_deadline(patience).is_some_and(|deadline| deadline <= now);
        let rounds = &mut self.rounds;
        let is_due = is_late || rounds.is_short;
        if (rounds.open || rounds.next.slots.is_empty()) && !is_due {
            return None;
        }
        rounds.open_next(now);
        support.next_round = rounds.newest.next();
        Some(rounds.newest)
    }

    /// Whether the newest round asks `peer`: one of the replicas whose reads wait for it needs the
    /// answer.
    #[must_use]
    pub fn asks(&self, peer: NodeId) -> bool {
        self.rounds.peers.contains(peer)
    }

    /// When the reads of the open round will have waited for too long.
    #[must_use]
    pub fn round_deadline(&self, patience: Duration) -> Option<Time> {
        let Rounds { opened, open, asked, next, .. } = &self.rounds;
        let waits = !asked.slots.is_empty() || (*open && !next.slots.is_empty());
        waits.then(|| *opened + patience)
    }

    /// Notes that `peer` answered a round. When half of those that it asks have answered, the next
    /// round may be opened. Returns the replicas that may have been waiting for that.
    pub fn confirmed(
        &mut self,
        support: &mut Support,
        peer: NodeId,
        answer: Confirmation,
    ) -> Vec<SlotIndex> {
        let known = &mut support.of_mut(peer).confirmed;
        if answer.round <= known.round || answer.round > self.rounds.newest {
            return Vec::new();
        }
        *known = answer;
        if answer.round == self.rounds.newest {
            self.rounds.answers += 1;
            if self.rounds.answers >= self.rounds.peers.0.len().div_ceil(2) {
                self.rounds.open = false;
            }
        }
        self.rounds.asked.peers.0.clear();
        let asked = std::mem::take(&mut self.rounds.asked.slots);
        for slot in &asked {
            self.entries[slot.0 as usize].awaits = false;
        }
        asked
    }

    fn entry(&self, slot: SlotIndex) -> &Entry {
        &self.entries[slot.0 as usize]
    }

    /// Moves a replica to the list of those that follow `leader`.
    fn follow(&mut self, slot: SlotIndex, leader: Option<NodeId>) {
        let Entry { leader: old, place, .. } = *self.entry(slot);
        if let Some(list) = old.and_then(|old| self.followers.get_mut(&old)) {
            list.swap_remove(place as usize);
            if let Some(moved) = list.get(place as usize) {
                self.entries[moved.0 as usize].place = place;
            }
        }
        let list = leader.map(|leader| self.followers.entry(leader).or_default());
        let entry = &mut self.entries[slot.0 as usize];
        entry.leader = leader;
        if let Some(list) = list {
            entry.place = u32::try_from(list.len()).expect("fewer than 2^32 replicas a worker");
            list.push(slot);
        }
    }
}

impl Rounds {
    /// Reads of a replica wait for `round` and need answers of `peers`. `slot` is the replica's, if
    /// it is not listed yet.
    fn need(&mut self, round: Round, peers: impl Iterator<Item = NodeId>, slot: Option<SlotIndex>) {
        let is_asked = round <= self.newest;
        let readers = if is_asked { &mut self.asked } else { &mut self.next };
        for peer in peers {
            readers.peers.insert(peer);
            self.is_short |= is_asked && !self.peers.contains(peer);
        }
        readers.slots.extend(slot);
    }

    /// Opens the next round, for those who wait for it and for an earlier one.
    fn open_next(&mut self, now: Time) {
        self.newest = self.newest.next();
        self.opened = now;
        self.open = true;
        self.answers = 0;
        self.is_short = false;
        self.asked.slots.append(&mut self.next.slots);
        for peer in self.next.peers.0.drain(..) {
            self.asked.peers.insert(peer);
        }
        self.peers.0.clone_from(&self.asked.peers.0);
    }
}

/// Lists replicas that a change of support concerns, each once: peers may change their support
/// faster than replicas are taken out.
fn concern(entries: &mut [Entry], concerned: &mut VecDeque<SlotIndex>, slots: &[SlotIndex]) {
    for &slot in slots {
        if !std::mem::replace(&mut entries[slot.0 as usize].is_concerned, true) {
            concerned.push_back(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_concerned_is_listed_once_however_often_support_changes() {
        let (own, peer) = (NodeId(1), NodeId(2));
        let (mut lists, mut support) = (WaitLists::new(own), Support::default());
        let slots = 1_000;
        for slot in (0..slots).map(SlotIndex) {
            lists.add();
            let leader = Some(if slot.0 % 2 == 0 { own } else { peer });
            lists.update(slot, WakeConditions { leader, ..WakeConditions::default() }, []);
        }
        for round in 0..2 {
            for epoch in (1..=1_000).map(Epoch) {
                lists.support_from_changed(&mut support, peer, Some(epoch));
                lists.support_for_changed(&mut support, peer, Some(epoch));
            }
            let mut concerned: Vec<_> = std::iter::from_fn(|| lists.pop_concerned()).collect();
            concerned.sort_unstable();
            assert_eq!(concerned, (0..slots).map(SlotIndex).collect::<Vec<_>>(), "round {round}");
        }
    }

    #[test]
    fn deadlines_that_are_given_up_leave_nothing_to_wait_for() {
        let mut lists = WaitLists::new(NodeId(1));
        let set = |lists: &mut WaitLists, slot: u32, ms: Option<u64>| {
            let deadline = ms.map(Time::from_millis);
            let wake_conditions = WakeConditions { deadline, ..WakeConditions::default() };
            lists.update(SlotIndex(slot), wake_conditions, []);
        };
        (0..2).for_each(|_| lists.add());
        set(&mut lists, 0, Some(25_000));
        set(&mut lists, 1, Some(2_500));
        assert_eq!(lists.next_deadline(), Some(Time::from_millis(2_500)));
        set(&mut lists, 0, None);
        set(&mut lists, 1, None);
        assert_eq!(lists.next_deadline(), None);
        set(&mut lists, 1, Some(30_000));
        assert!(lists.next_deadline().is_some_and(|time| time <= Time::from_millis(30_000)));
        assert_eq!(lists.pop_due(Time::from_millis(29_999)), None);
        assert_eq!(lists.pop_due(Time::from_millis(30_000)), Some(SlotIndex(1)));
        set(&mut lists, 1, None);
        assert_eq!((lists.next_deadline(), lists.timers.len()), (None, 0));
    }

    const PATIENCE: Duration = Duration::from_millis(250);

    /// Lists of node 1 with two replicas, and what it knows of its peers.
    fn two_readers() -> (WaitLists, Support) {
        let mut lists = WaitLists::new(NodeId(1));
        (0..2).for_each(|_| lists.add());
        (lists, Support::default())
    }

    /// The replica has reads that wait for `round`, and these are the voters of its group.
    fn reads(lists: &mut WaitLists, slot: u32, round: u64, voters: &[u64]) {
        let awaited_round = Some(Round(round));
        let wake_conditions = WakeConditions { awaited_round, ..WakeConditions::default() };
        lists.update(SlotIndex(slot), wake_conditions, voters.iter().copied().map(NodeId));
    }

    fn open(lists: &mut WaitLists, support: &mut Support) -> Option<(u64, Vec<u64>)> {
        let round = lists.open_round(support, Time::default(), PATIENCE)?;
        Some((round.0, (1..=9).filter(|peer| lists.asks(NodeId(*peer))).collect()))
    }

    fn answer(
        lists: &mut WaitLists,
        support: &mut Support,
        peer: u64,
        round: u64,
    ) -> Vec<SlotIndex> {
        let answer = Confirmation { round: Round(round), epoch: Some(Epoch(1)) };
        lists.confirmed(support, NodeId(peer), answer)
    }

    #[test]
    fn a_round_asks_the_peers_that_its_groups_need() {
        let (mut lists, mut support) = two_readers();
        reads(&mut lists, 0, 1, &[1, 2, 3]);
        reads(&mut lists, 1, 1, &[1, 3, 4]);
        assert_eq!(open(&mut lists, &mut support), Some((1, vec![2, 3, 4])));
        // Two of the three it takes until the next may follow, and then the first replica's reads
        // still wait.
        assert_eq!(answer(&mut lists, &mut support, 4, 1), [SlotIndex(0), SlotIndex(1)]);
        reads(&mut lists, 0, 1, &[1, 2, 3]);
        reads(&mut lists, 1, 2, &[1, 3, 4]);
        assert_eq!(open(&mut lists, &mut support), None);
        assert_eq!(answer(&mut lists, &mut support, 3, 1), [SlotIndex(0)]);
        assert_eq!(open(&mut lists, &mut support), Some((2, vec![3, 4])));
    }

    #[test]
    fn a_round_that_is_asked_again_asks_those_whose_reads_wait_still() {
        let (mut lists, mut support) = two_readers();
        reads(&mut lists, 0, 1, &[1, 2, 3]);
        assert_eq!(open(&mut lists, &mut support), Some((1, vec![2, 3])));
        reads(&mut lists, 1, 2, &[1, 5]);
        let late = Time::default() + PATIENCE;
        assert_eq!(lists.open_round(&mut support, late, PATIENCE), Some(Round(2)));
        assert!([2, 3, 5].map(NodeId).into_iter().all(|peer| lists.asks(peer)));
    }

    #[test]
    fn a_voter_that_is_added_while_reads_wait_is_asked_at_once() {
        let (mut lists, mut support) = two_readers();
        reads(&mut lists, 0, 1, &[1, 2, 3]);
        assert_eq!(open(&mut lists, &mut support), Some((1, vec![2, 3])));
        reads(&mut lists, 0, 1, &[1, 2, 3]);
        assert_eq!(open(&mut lists, &mut support), None);
        reads(&mut lists, 0, 1, &[1, 2, 3, 4, 5]);
        assert_eq!(open(&mut lists, &mut support), Some((2, vec![2, 3, 4, 5])));
        assert_eq!(open(&mut lists, &mut support), None);
    }
}
