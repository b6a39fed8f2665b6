//! The time since 1970, as nodes hand it on to each other.

use logboat_raft::{ClockReading, NodeId, Time};
use std::collections::BTreeMap;

/// No clock shows a later time than this, some 285,000 years from now.
const LATEST_MS: u64 = 1 << 53;

/// What the time since 1970 was at the origin of the node's [`Time`], in milliseconds. The clock
/// goes on with that time, which nobody sets.
type Origin = i64;

/// A node's clock. A node that starts has none: it settles on one that it hears from peers, and on
/// wall clocks only if none of them has any. From then on nothing sets it.
#[derive(Debug)]
pub(super) struct UnixClock {
    wall: Origin,
    /// What the node has settled on.
    settled: Option<Origin>,
    /// The last answer of each peer, and whether the peer had settled. Nothing is noted once the
    /// node has settled itself.
    heard: BTreeMap<NodeId, (Origin, bool)>,
    /// Until when peers may still come that have settled.
    patient_until: Time,
}

impl UnixClock {
    /// The clock of a node whose wall clock shows `wall_ms` now.
    pub(super) fn new(wall_ms: u64, now: Time, patient_until: Time) -> Self {
        let wall = origin_of(wall_ms, now);
        Self { wall, settled: None, heard: BTreeMap::new(), patient_until }
    }

    /// A peer has answered. Nothing rests on how long that was under way: the clock is behind by as
    /// much.
    pub(super) fn hear(&mut self, peer: NodeId, reading: ClockReading, now: Time) {
        if self.settled.is_none() {
            let origin = origin_of(reading.unix_ms, now);
            self.heard.insert(peer, (origin, reading.is_settled));
        }
    }

    /// The node does not know a peer any more.
    pub(super) fn forget(&mut self, peer: NodeId) {
        self.heard.remove(&peer);
    }

    /// Settles if it is time to, when a majority of the nodes has been heard.
    pub(super) fn settle(&mut self, now: Time) {
        if self.settled.is_none()
            && (now >= self.patient_until || self.heard.values().any(|(_, settled)| *settled))
        {
            self.settled = Some(self.origin());
            self.heard.clear();
        }
    }

    /// What the clock shows. Without one of its own, the node goes by those that it has heard.
    pub(super) fn reading(&self, now: Time) -> ClockReading {
        let now_ms = i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX);
        let unix_ms = u64::try_from(self.origin().saturating_add(now_ms)).unwrap_or(0);
        ClockReading { unix_ms: unix_ms.min(LATEST_MS), is_settled: self.settled.is_some() }
    }

    /// What the clock showed at the origin of [`Time`], in milliseconds. Of several clocks it is
    /// the lower one in the middle: one that is wrong does not count among three, and of two that
    /// is taken which expires nothing early.
    pub(super) fn origin(&self) -> Origin {
        let settled = self.heard.values().filter(|(_, settled)| *settled);
        let settled: Vec<Origin> = settled.map(|(origin, _)| *origin).collect();
        let walls = || self.heard.values().map(|(origin, _)| *origin).chain([self.wall]).collect();
        self.settled.unwrap_or_else(|| {
            let mut origins = if settled.is_empty() { walls() } else { settled };
            origins.sort_unstable();
            origins[(origins.len() - 1) / 2]
        })
    }
}

/// What a clock showed at the origin that shows `unix_ms` now.
fn origin_of(unix_ms: u64, now: Time) -> Origin {
    let now_ms = i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX);
    i64::try_from(unix_ms.min(LATEST_MS)).unwrap_or(i64::MAX).saturating_sub(now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const NOON_MS: u64 = 1_000_000 * HOUR_MS;

    fn clock(wall_ms: u64) -> UnixClock {
        UnixClock::new(wall_ms, Time(0), Time::from_millis(2_000))
    }

    fn reading(unix_ms: u64, is_settled: bool) -> ClockReading {
        ClockReading { unix_ms, is_settled }
    }

    #[test]
    fn a_node_whose_wall_clock_is_wrong_goes_by_what_it_hears() {
        for wall_ms in [NOON_MS + HOUR_MS, NOON_MS - HOUR_MS, 0, u64::MAX] {
            let mut clock = clock(wall_ms);
            clock.hear(NodeId(2), reading(NOON_MS + 100, true), Time::from_millis(100));
            clock.settle(Time::from_millis(100));
            // The next one comes from a node that has just settled on something else.
            clock.hear(NodeId(3), reading(0, true), Time::from_millis(200));
            clock.settle(Time::from_millis(5_000));
            let shown = clock.reading(Time::from_millis(5_000));
            assert_eq!(shown, reading(NOON_MS + 5_000, true));
        }
    }

    #[test]
    fn one_wrong_wall_clock_of_three_does_not_count() {
        for wrong_ms in [NOON_MS + HOUR_MS, 0] {
            for wrong in 0..3 {
                let wall = |node| if node == wrong { wrong_ms } else { NOON_MS };
                let mut clock = clock(wall(0));
                let now = Time::from_millis(10);
                clock.hear(NodeId(2), reading(wall(1) + 10, false), now);
                clock.hear(NodeId(3), reading(wall(2) + 10, false), now);
                clock.settle(now);
                assert_eq!(clock.reading(now), reading(NOON_MS + 10, false), "others may come");
                let later = Time::from_millis(2_000);
                clock.settle(later);
                assert_eq!(clock.reading(later), reading(NOON_MS + 2_000, true));
            }
        }
    }

    #[test]
    fn of_two_wall_clocks_the_earlier_one_counts() {
        let mut clock = clock(NOON_MS);
        clock.hear(NodeId(2), reading(NOON_MS - HOUR_MS, false), Time(0));
        assert_eq!(clock.reading(Time(0)).unix_ms, NOON_MS - HOUR_MS);
        clock.hear(NodeId(2), reading(NOON_MS + HOUR_MS, false), Time(0));
        assert_eq!(clock.reading(Time(0)).unix_ms, NOON_MS);
    }
}
