//! The snapshots that leave this node: a few at a time, and ever later for a receiver that refuses.
//!
//! A receiver without room refuses a snapshot. Sent again at once, it would take the network and
//! the disks of both nodes for nothing, over and over.

use crate::turn::slot::Slot;
use logboat_raft::{GroupId, LogId, NodeId};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many snapshots leave at a time. Each holds a file.
const MAX_LEAVING: usize = 16;

/// How many of them go to one peer, which is sent one after the other: while one travels, the next
/// is ready.
const MAX_A_PEER: usize = 2;

/// How long a group's snapshot waits after the first refusal, and at the most.
const GROUP_WAITS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(60)];

/// The same for all snapshots to a node.
const NODE_WAITS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// After so long a snapshot that was not refused counts as taken.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(5);

/// A snapshot that a replica here wants to have sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    pub(crate) group: GroupId,
    /// The replica's place, for the answer.
    pub(crate) slot: Slot,
    /// The receiver.
    pub(crate) to: NodeId,
}

/// What is known of a stream on both of its ends: whether the receiver has refused it. Streams of
/// the same snapshot to the same node have one each.
pub(crate) type IsRefused = Arc<AtomicBool>;

/// Which snapshots leave, and when.
#[derive(Default)]
pub(crate) struct Departures {
    waiting: VecDeque<Departure>,
    /// How many are leaving, by receiver.
    leaving: HashMap<NodeId, usize>,
    /// What was sent lately, and not refused.
    sent: HashMap<(GroupId, NodeId), Sent>,
    /// What was refused lately.
    groups: HashMap<(GroupId, NodeId), Backoff>,
    nodes: HashMap<NodeId, Backoff>,
}

/// The snapshot of a group that was sent to a node last.
struct Sent {
    /// The last entry that it covers.
    last: LogId,
    /// When all of it had left.
    left: Option<Instant>,
    /// Ends its stream, if it has not left yet.
    is_refused: IsRefused,
}

/// How long to wait for a receiver that refuses (exponential backoff).
struct Backoff {
    refusals: u32,
    /// Nothing is sent before.
    until: Instant,
    /// When something was sent that has not been refused.
    left: Option<Instant>,
}

impl Departures {
    /// Has a snapshot leave in its turn. One that waits already is not sent twice.
    pub(crate) fn add(&mut self, departure: Departure) {
        let is_same =
            |other: &Departure| (other.group, other.to) == (departure.group, departure.to);
        self.waiting.retain(|other| !is_same(other));
        self.waiting.push_back(departure);
    }

    /// Takes the snapshot that leaves next. [`Self::left`] must follow.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Departure> {
        self.groups.retain(|_, backoff| !backoff.is_over(now));
        self.nodes.retain(|_, backoff| !backoff.is_over(now));
        self.sent.retain(|_, sent| !is_taken(sent.left, now));
        let at = self.waiting.iter().position(|departure| {
            self.has_room(departure.to) && self.due(departure).is_none_or(|due| due <= now)
        })?;
        let departure = self.waiting.remove(at)?;
        *self.leaving.entry(departure.to).or_default() += 1;
        Some(departure)
    }

    /// When [`Self::next`] has something, if no other snapshot has to leave before.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let ready = self.waiting.iter().filter(|departure| self.has_room(departure.to));
        ready.filter_map(|departure| self.due(departure)).min()
    }

    /// A group's snapshot up to `last` is on its way. Returns what becomes true if the receiver
    /// refuses it.
    pub(crate) fn begun(&mut self, group: GroupId, to: NodeId, last: LogId) -> IsRefused {
        let is_refused = IsRefused::default();
        let sent = Sent { last, left: None, is_refused: Arc::clone(&is_refused) };
        self.sent.insert((group, to), sent);
        is_refused
    }

    /// A snapshot that left, or failed to, makes room for another. `stream` is what [`Self::begun`]
    /// has returned.
    pub(crate) fn left(&mut self, group: GroupId, to: NodeId, stream: &IsRefused, now: Instant) {
        if let Some(count) = self.leaving.get_mut(&to) {
            *count = count.saturating_sub(1);
        }
        self.leaving.retain(|_, count| *count > 0);
        // If not, it was refused on its way, or another was sent since.
        let is_it = |sent: &&mut Sent| Arc::ptr_eq(&sent.is_refused, stream);
        let Some(sent) = self.sent.get_mut(&(group, to)).filter(is_it) else { return };
        sent.left = Some(now);
        let of_group = self.groups.get_mut(&(group, to)).into_iter();
        of_group.chain(self.nodes.get_mut(&to)).for_each(|backoff| backoff.left = Some(now));
    }

    /// The receiver has refused a group's snapshot up to `last`. Returns false if that is not the
    /// one that it was sent last: then nothing has changed.
    pub(crate) fn refused(
        &mut self,
        group: GroupId,
        to: NodeId,
        last: LogId,
        now: Instant,
    ) -> bool {
        if self.sent.get(&(group, to)).is_none_or(|sent| sent.last != last) {
            return false;
        }
        if let Some(sent) = self.sent.remove(&(group, to)) {
            sent.is_refused.store(true, Ordering::Relaxed);
        }
        let of_group = self.groups.entry((group, to)).or_insert_with(|| Backoff::new(now));
        of_group.refused(now, GROUP_WAITS);
        let of_node = self.nodes.entry(to).or_insert_with(|| Backoff::new(now));
        of_node.refused(now, NODE_WAITS);
        true
    }

    fn has_room(&self, to: NodeId) -> bool {
        let to_peer = self.leaving.get(&to).copied().unwrap_or(0);
        // A node that refuses is sent one at a time.
        let most = if self.nodes.contains_key(&to) { 1 } else { MAX_A_PEER };
        to_peer < most && self.leaving.values().sum::<usize>() < MAX_LEAVING
    }

    fn due(&self, departure: &Departure) -> Option<Instant> {
        let of_group = self.groups.get(&(departure.group, departure.to));
        let of_node = self.nodes.get(&departure.to);
        of_group.into_iter().chain(of_node).map(|backoff| backoff.until).max()
    }
}

impl Backoff {
    const fn new(now: Instant) -> Self {
        Self { refusals: 0, until: now, left: None }
    }

    /// Several that were under way together are refused together, and count once.
    fn refused(&mut self, now: Instant, [first, most]: [Duration; 2]) {
        self.left = None;
        if self.refusals > 0 && now < self.until {
            return;
        }
        let wait = first.saturating_mul(1 << self.refusals.min(20));
        self.refusals = self.refusals.saturating_add(1);
        self.until = now + wait.min(most);
    }

    /// Whether what was sent last has been taken.
    fn is_over(&self, now: Instant) -> bool {
        is_taken(self.left, now)
    }
}

/// Whether a snapshot that left then, and was not refused, counts as taken.
fn is_taken(left: Option<Instant>, now: Instant) -> bool {
    left.is_some_and(|left| now.saturating_duration_since(left) >= REFUSAL_PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::{Index, Term};

    const PEER: NodeId = NodeId(2);
    const LAST: LogId = LogId { term: Term(1), index: Index(7) };

    fn departure(group: u64) -> Departure {
        Departure { group: GroupId(group), slot: Slot::default(), to: PEER }
    }

    /// Sends group 1's snapshot over and over to a peer that refuses each when it has taken so long
    /// to send, and tells how many left within this time.
    fn sent_in(limit: Duration, transfer: Duration) -> u32 {
        let (mut departures, start) = (Departures::default(), Instant::now());
        let (mut now, mut sent) = (start, 0);
        while now < start + limit {
            departures.add(departure(1));
            let left = departures.next(now).or_else(|| {
                now = departures.next_due().unwrap().max(now);
                departures.next(now)
            });
            assert_eq!(left, Some(departure(1)));
            sent += 1;
            now += transfer;
            let stream = departures.begun(GroupId(1), PEER, LAST);
            departures.left(GroupId(1), PEER, &stream, now);
            assert!(departures.refused(GroupId(1), PEER, LAST, now));
        }
        sent
    }

    #[test]
    fn what_is_refused_again_and_again_is_sent_ever_later() {
        for transfer in [Duration::from_millis(1), Duration::from_secs(1)] {
            let sent = sent_in(Duration::from_secs(600), transfer);
            assert!((10..=20).contains(&sent), "{sent}");
        }
    }

    #[test]
    fn a_node_that_refuses_many_groups_is_spared_by_all_of_them() {
        let (mut departures, mut now) = (Departures::default(), Instant::now());
        (0..1_000).for_each(|group| departures.add(departure(group)));
        let (mut sent, end) = (0, now + Duration::from_secs(60));
        while now < end {
            match departures.next(now) {
                Some(Departure { group, .. }) => {
                    sent += 1;
                    let stream = departures.begun(group, PEER, LAST);
                    departures.left(group, PEER, &stream, now);
                    assert!(departures.refused(group, PEER, LAST, now));
                    departures.add(departure(group.0));
                }
                None => now = departures.next_due().unwrap(),
            }
        }
        assert!((10..=30).contains(&sent), "{sent}");
    }

    #[test]
    fn few_leave_at_a_time_and_no_peer_takes_the_place_of_others() {
        let (mut departures, now) = (Departures::default(), Instant::now());
        for to in (2..100).map(NodeId) {
            for group in 0..10 {
                departures.add(Departure { to, ..departure(group) });
            }
        }
        let left: Vec<_> = std::iter::from_fn(|| departures.next(now)).collect();
        assert_eq!(left.len(), MAX_LEAVING);
        assert_eq!(left.iter().filter(|departure| departure.to == PEER).count(), MAX_A_PEER);
        departures.left(left[0].group, left[0].to, &IsRefused::default(), now);
        assert!(departures.next(now).is_some());
        assert!(departures.next(now).is_none());
    }

    #[test]
    fn what_was_taken_ends_the_wait_and_one_that_waits_is_not_doubled() {
        let (mut departures, now) = (Departures::default(), Instant::now());
        departures.begun(GroupId(1), PEER, LAST);
        assert!(departures.refused(GroupId(1), PEER, LAST, now));
        departures.add(departure(1));
        departures.add(departure(1));
        assert_eq!(departures.next(now), None);
        let due = departures.next_due().unwrap();
        assert_eq!(departures.next(due), Some(departure(1)));
        let stream = departures.begun(GroupId(1), PEER, LAST);
        departures.left(GroupId(1), PEER, &stream, due);
        assert_eq!(departures.next(due), None);
        let later = due + REFUSAL_PATIENCE;
        departures.add(departure(1));
        assert_eq!(departures.next(later), Some(departure(1)));
        assert!(departures.groups.is_empty() && departures.nodes.is_empty());
    }

    #[test]
    fn what_is_refused_on_its_way_ends_and_is_not_taken_for_sent() {
        let (mut departures, mut now) = (Departures::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..8 {
            departures.add(departure(1));
            let due = departures.next_due().unwrap_or(now).max(now);
            waits.push(due.duration_since(now));
            now = due;
            assert_eq!(departures.next(now), Some(departure(1)));
            let is_refused = departures.begun(GroupId(1), PEER, LAST);
            assert!(!is_refused.load(Ordering::Relaxed));
            assert!(departures.refused(GroupId(1), PEER, LAST, now));
            assert!(is_refused.load(Ordering::Relaxed));
            departures.left(GroupId(1), PEER, &is_refused, now);
        }
        assert!(waits[1..].windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
    }

    #[test]
    fn only_what_was_sent_last_can_be_refused_and_once() {
        let (mut departures, now) = (Departures::default(), Instant::now());
        let newer = LogId { index: Index(8), ..LAST };
        for group in (0..1_000).map(GroupId) {
            assert!(!departures.refused(group, PEER, LAST, now), "nothing was sent");
        }
        assert!(departures.groups.is_empty() && departures.nodes.is_empty());
        departures.begun(GroupId(1), PEER, LAST);
        departures.begun(GroupId(1), PEER, newer);
        assert!(!departures.refused(GroupId(1), PEER, LAST, now), "it is late");
        assert!(!departures.refused(GroupId(1), NodeId(3), newer, now));
        assert!(departures.refused(GroupId(1), PEER, newer, now));
        assert!(!departures.refused(GroupId(1), PEER, newer, now));
        let former = departures.begun(GroupId(1), PEER, newer);
        let stream = departures.begun(GroupId(1), PEER, newer);
        departures.left(GroupId(1), PEER, &former, now);
        departures.next(now + REFUSAL_PATIENCE);
        assert_eq!(departures.sent.len(), 1, "it may be refused yet: the other one has left");
        departures.left(GroupId(1), PEER, &stream, now);
        departures.next(now + REFUSAL_PATIENCE);
        assert!(departures.sent.is_empty(), "it counts as taken");
    }
}
