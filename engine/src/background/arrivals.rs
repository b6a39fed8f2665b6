//! Incoming snapshots: those that peers stream to this node, until they are whole and offered.

use logboat_raft::{GroupId, LogId, NodeId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many snapshots of one peer may be arriving. A peer streams one at a time, and offers each
/// when its last chunk has left. So few are ever whole and not yet offered. Each holds a file.
const MAX_A_PEER: usize = 16;

/// A snapshot is given up when no part of it came for so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A part of a snapshot that has arrived, and its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The group.
    pub group: GroupId,
    /// Its sender.
    pub from: NodeId,
    /// The last entry that the snapshot covers.
    pub last: LogId,
    /// Where in the snapshot it begins, in bytes.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// The snapshots that are arriving, each with its receiver: at most one a group and sender, and few
/// a peer. Which of two senders leads is the replica's to say, so neither is in the other's way.
pub struct Arrivals<R>(BTreeMap<(GroupId, NodeId), Arrival<R>>);

struct Arrival<R> {
    last: LogId,
    offset: u64,
    total_bytes: u64,
    receiver: R,
    /// When the newest part came.
    newest: Instant,
}

impl<R> Default for Arrivals<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R> Arrivals<R> {
    /// Whether another snapshot of `from` replaces the one that waits longest.
    fn is_full(&self, from: NodeId) -> bool {
        self.0.keys().filter(|(_, sender)| *sender == from).count() >= MAX_A_PEER
    }

    /// A snapshot begins to arrive, which replaces an earlier one of the group and sender.
    pub fn begin(&mut self, part: Part, total_bytes: u64, receiver: R, now: Instant) {
        let Part { group, from, last, .. } = part;
        self.0.remove(&(group, from));
        if self.is_full(from) {
            let of_peer = self.0.iter().filter(|((_, sender), _)| *sender == from);
            let oldest = of_peer.min_by_key(|(_, arrival)| arrival.newest).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.0.remove(&oldest));
        }
        let arrival = Arrival { last, offset: 0, total_bytes, receiver, newest: now };
        self.0.insert((group, from), arrival);
    }

    /// The receiver of a part, if the part is the next one of its snapshot.
    ///
    /// # Errors
    /// When no snapshot of the group is arriving from there; when the part does not follow the last
    /// one.
    pub fn next(&mut self, part: Part, now: Instant) -> Result<&mut R, &'static str> {
        let arrival = self.0.get_mut(&(part.group, part.from));
        let arrival = arrival.ok_or("its beginning is not here any more")?;
        if (arrival.last, arrival.offset) != (part.last, part.offset) {
            return Err("its parts don't follow each other");
        }
        arrival.offset += part.bytes;
        arrival.newest = now;
        Ok(&mut arrival.receiver)
    }

    /// Gives a group's snapshots up.
    pub fn forget(&mut self, group: GroupId) {
        self.0.retain(|(of, _), _| *of != group);
    }

    /// Gives the snapshot of `from` up to `last` up.
    pub fn spoil(&mut self, group: GroupId, from: NodeId, last: LogId) {
        self.remove(group, from, last);
    }

    /// Takes the snapshot of `from` that ends with `last`, if it is whole.
    pub fn take(&mut self, group: GroupId, from: NodeId, last: LogId) -> Option<R> {
        let arrival = self.remove(group, from, last)?;
        (arrival.offset == arrival.total_bytes).then_some(arrival.receiver)
    }

    fn remove(&mut self, group: GroupId, from: NodeId, last: LogId) -> Option<Arrival<R>> {
        let arrival = self.0.get(&(group, from))?;
        if arrival.last == last { self.0.remove(&(group, from)) } else { None }
    }

    /// The connection of `peer` has ended: it does not go on with what it had begun.
    pub(crate) fn closed(&mut self, peer: NodeId) {
        let is_whole = |arrival: &Arrival<R>| arrival.offset == arrival.total_bytes;
        self.0.retain(|(_, from), arrival| *from != peer || is_whole(arrival));
    }

    /// Gives up the snapshots of which nothing came for too long.
    pub fn expire(&mut self, now: Instant) {
        self.0.retain(|_, arrival| now.saturating_duration_since(arrival.newest) < PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::{Index, Term};

    const PEER: NodeId = NodeId(2);

    fn part(group: u64, offset: u64) -> Part {
        Part { group: GroupId(group), from: PEER, last: LogId::default(), offset, bytes: 10 }
    }

    fn begin(arrivals: &mut Arrivals<u64>, group: u64, now: Instant) {
        arrivals.begin(part(group, 0), 20, group, now);
    }

    #[test]
    fn a_snapshot_is_taken_when_it_is_whole() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        begin(&mut arrivals, 1, now);
        assert_eq!(arrivals.next(part(1, 0), now), Ok(&mut 1));
        assert!(arrivals.next(part(1, 0), now).is_err(), "it came before");
        assert_eq!(arrivals.next(part(1, 10), now), Ok(&mut 1));
        assert!(arrivals.next(part(2, 0), now).is_err(), "it has not begun");
        assert_eq!(arrivals.take(GroupId(1), PEER, LogId::default()), Some(1));
        begin(&mut arrivals, 1, now);
        assert_eq!(arrivals.take(GroupId(1), PEER, LogId::default()), None);
    }

    #[test]
    fn what_a_former_leader_goes_on_to_send_spoils_nothing() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        let former = Part { from: NodeId(3), ..part(1, 0) };
        arrivals.begin(former, 20, 0, now);
        assert_eq!(arrivals.next(former, now), Ok(&mut 0));
        begin(&mut arrivals, 1, now);
        assert_eq!(arrivals.next(part(1, 0), now), Ok(&mut 1));
        assert!(arrivals.next(Part { offset: 30, ..former }, now).is_err());
        arrivals.spoil(GroupId(1), former.from, former.last);
        // It begins again, with one that it has made meanwhile, and offers it.
        let former = Part { last: LogId::new(Term(1), Index(9)), ..former };
        arrivals.begin(former, 10, 2, now);
        assert_eq!(arrivals.next(former, now), Ok(&mut 2));
        assert_eq!(arrivals.take(GroupId(1), former.from, LogId::default()), None);
        assert_eq!(arrivals.take(GroupId(1), former.from, former.last), Some(2));
        assert_eq!(arrivals.next(part(1, 10), now), Ok(&mut 1));
        assert_eq!(arrivals.take(GroupId(1), PEER, former.last), None, "it is of another");
        assert_eq!(arrivals.take(GroupId(1), PEER, LogId::default()), Some(1));
        assert!(arrivals.0.is_empty());
    }

    #[test]
    fn what_is_spoiled_or_of_a_group_that_goes_is_given_up() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        for group in 1..=2 {
            begin(&mut arrivals, group, now);
            arrivals.begin(Part { from: NodeId(3), ..part(group, 0) }, 20, 0, now);
        }
        arrivals.spoil(GroupId(1), PEER, LogId::default());
        assert!(arrivals.next(part(1, 0), now).is_err());
        assert_eq!(arrivals.0.len(), 3);
        arrivals.forget(GroupId(2));
        assert_eq!(arrivals.0.len(), 1);
    }

    #[test]
    fn the_snapshots_of_a_peer_are_bounded_and_the_one_that_waits_longest_goes() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        for group in 0..1_000 {
            begin(&mut arrivals, group, now + Duration::from_millis(group));
        }
        let mut left: Vec<_> = arrivals.0.keys().map(|(group, _)| group.0).collect();
        left.sort_unstable();
        assert_eq!(left, (1_000 - MAX_A_PEER as u64..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_lost_connection_left_unfinished_goes_and_what_is_whole_stays() {
        let (mut arrivals, now) = (Arrivals::default(), Instant::now());
        begin(&mut arrivals, 1, now);
        begin(&mut arrivals, 2, now);
        assert!(arrivals.next(part(2, 0), now).is_ok() && arrivals.next(part(2, 10), now).is_ok());
        arrivals.closed(NodeId(3));
        assert_eq!(arrivals.0.len(), 2);
        arrivals.closed(PEER);
        assert_eq!(arrivals.0.len(), 1);
        arrivals.expire(now + PATIENCE / 2);
        assert_eq!(arrivals.0.len(), 1);
        arrivals.expire(now + PATIENCE);
        assert!(arrivals.0.is_empty());
    }
}
