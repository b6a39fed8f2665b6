//! Wait lists: which replicas of a worker wait for what. A replica is woken by its deadline, by a
//! change of support that concerns its leader, or by a round of confirmations. No replica is looked
//! at in vain. A group at rest (quiesced, hibernating) waits in no list that anything walks.
//!
//! The lists hold slots rather than replicas, so that a simulator can use them with its own.

use crate::replica::wake_conditions::WakeConditions;
use crate::turn::slot::Slot;
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
    followers: FxHashMap<NodeId, Vec<Slot>>,
    /// Deadlines, soonest first. An entry counts only if it is also the timer in its replica's
    /// places.
    timers: BinaryHeap<Reverse<(Time, Slot)>>,
    /// Replicas that a change of support concerns, in the order in which they are woken.
    concerned: VecDeque<Slot>,
    /// Replicas that have to tell peers something, as soon as these support this node again.
    speakers: Vec<Slot>,
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

/// Rounds of confirmations. One round at a time asks all peers once, for all reads of the worker.
#[derive(Default)]
struct Rounds {
    newest: Round,
    /// When the newest round was opened.
    opened: Time,
    /// Whether too few peers have answered it to open the next.
    open: bool,
    /// How many peers have answered it.
    answers: usize,
    /// Replicas with reads that wait for a round up to the newest.
    asked: Vec<Slot>,
    /// Replicas with reads that wait for the round after it.
    next: Vec<Slot>,
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
            concerned: VecDeque::new(),
            speakers: Vec::new(),
            rounds: Rounds::default(),
        }
    }

    /// Lists the replica in the next slot.
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

    /// Lists a replica anew after its run, by its wake conditions.
    pub fn update(&mut self, slot: Slot, wake_conditions: WakeConditions) {
        if self.entry(slot).leader != wake_conditions.leader {
            self.follow(slot, wake_conditions.leader);
        }
        let entry = &mut self.entries[slot.0 as usize];
        entry.deadline = wake_conditions.deadline.unwrap_or(NEVER);
        if entry.deadline < entry.timer {
            entry.timer = entry.deadline;
            self.timers.push(Reverse((entry.deadline, slot)));
        }
        if wake_conditions.speaks && !std::mem::replace(&mut entry.speaks, true) {
            self.speakers.push(slot);
        }
        if let Some(round) = wake_conditions.awaited_round
            && !std::mem::replace(&mut entry.awaits, true)
        {
            let asked = round <= self.rounds.newest;
            if asked { &mut self.rounds.asked } else { &mut self.rounds.next }.push(slot);
        }
    }

    /// The replicas that know `leader` as their leader.
    #[must_use]
    pub fn followers_of(&self, leader: NodeId) -> &[Slot] {
        self.followers.get(&leader).map_or(&[], Vec::as_slice)
    }

    /// When the next replica has a deadline, at the soonest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.peek().map(|Reverse((time, _))| *time)
    }

    /// Takes out a replica whose deadline has come.
    pub fn pop_due(&mut self, now: Time) -> Option<Slot> {
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
    pub fn pop_concerned(&mut self) -> Option<Slot> {
        let slot = self.concerned.pop_front()?;
        self.entries[slot.0 as usize].is_concerned = false;
        Some(slot)
    }

    /// Whether a change of support concerns replicas that were not taken out yet.
    #[must_use]
    pub fn has_concerned(&self) -> bool {
        !self.concerned.is_empty()
    }

    /// Opens the next round, if reads wait for it and none is open. All peers have to be asked
    /// then. When reads have waited for the newest round for `patience`, all peers are asked again.
    /// Its messages may be lost, or its answers may have come before followers fortified.
    pub fn open_round(
        &mut self,
        support: &mut Support,
        now: Time,
        patience: Duration,
    ) -> Option<Round> {
        let is_late = self.round_deadline(patience).is_some_and(|deadline| deadline <= now);
        let rounds = &mut self.rounds;
        if (rounds.open || rounds.next.is_empty()) && !is_late {
            return None;
        }
        rounds.newest = rounds.newest.next();
        rounds.opened = now;
        rounds.open = true;
        rounds.answers = 0;
        rounds.asked.append(&mut rounds.next);
        support.next_round = rounds.newest.next();
        Some(rounds.newest)
    }

    /// When the reads of the open round will have waited for too long.
    #[must_use]
    pub fn round_deadline(&self, patience: Duration) -> Option<Time> {
        let Rounds { opened, open, asked, next, .. } = &self.rounds;
        let waits = !asked.is_empty() || (*open && !next.is_empty());
        waits.then(|| *opened + patience)
    }

    /// Notes that `peer` answered a round. Half of the `peers` and this node are a majority; when
    /// it has answered, the next round may be opened. Returns the replicas that may have been
    /// waiting for that.
    pub fn confirmed(
        &mut self,
        support: &mut Support,
        peer: NodeId,
        answer: Confirmation,
        peers: usize,
    ) -> Vec<Slot> {
        let known = &mut support.of_mut(peer).confirmed;
        if answer.round <= known.round || answer.round > self.rounds.newest {
            return Vec::new();
        }
        *known = answer;
        if answer.round == self.rounds.newest {
            self.rounds.answers += 1;
            if self.rounds.answers >= peers.div_ceil(2) {
                self.rounds.open = false;
            }
        }
        let asked = std::mem::take(&mut self.rounds.asked);
        for slot in &asked {
            self.entries[slot.0 as usize].awaits = false;
        }
        asked
    }

    fn entry(&self, slot: Slot) -> &Entry {
        &self.entries[slot.0 as usize]
    }

    /// Moves a replica to the list of those that follow `leader`.
    fn follow(&mut self, slot: Slot, leader: Option<NodeId>) {
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

/// Lists replicas that a change of support concerns, each once: peers may change their support
/// faster than replicas are taken out.
fn concern(entries: &mut [Entry], concerned: &mut VecDeque<Slot>, slots: &[Slot]) {
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
        for slot in (0..slots).map(Slot) {
            lists.add();
            let leader = Some(if slot.0 % 2 == 0 { own } else { peer });
            lists.update(slot, WakeConditions { leader, ..WakeConditions::default() });
        }
        for round in 0..2 {
            for epoch in (1..=1_000).map(Epoch) {
                lists.support_from_changed(&mut support, peer, Some(epoch));
                lists.support_for_changed(&mut support, peer, Some(epoch));
            }
            let mut concerned: Vec<_> = std::iter::from_fn(|| lists.pop_concerned()).collect();
            concerned.sort_unstable();
            assert_eq!(concerned, (0..slots).map(Slot).collect::<Vec<_>>(), "round {round}");
        }
    }
}
