//! The groups that are to hear the time, in turn.

use logboat::GroupId;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Groups in which keys have expired, and since when each of them waits for its memory.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    turns: VecDeque<GroupId>,
    since: BTreeMap<GroupId, Instant>,
}

impl Waiting {
    /// These are all that wait at `now`. Those that are new come last.
    pub(super) fn update(&mut self, groups: &[GroupId], now: Instant) {
        let mut since = BTreeMap::new();
        for group in groups {
            let known = self.since.remove(group);
            if known.is_none() {
                self.turns.push_back(*group);
            }
            since.insert(*group, known.unwrap_or(now));
        }
        self.since = since;
        self.turns.retain(|group| self.since.contains_key(group));
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// How long the first of them has been waiting.
    pub(super) fn longest(&self, now: Instant) -> Duration {
        let first = self.since.values().min();
        first.map_or(Duration::ZERO, |since| now.saturating_duration_since(*since))
    }

    /// Those whose turn it is, so many at the most. They wait no more.
    pub(super) fn take(&mut self, count: usize) -> Vec<(GroupId, Instant)> {
        let taken = self.turns.drain(..count.min(self.turns.len()));
        taken.filter_map(|group| Some((group, self.since.remove(&group)?))).collect()
    }

    /// A group that was taken has to wait again, behind the others.
    pub(super) fn put_back(&mut self, (group, since): (GroupId, Instant)) {
        if self.since.insert(group, since).is_none() {
            self.turns.push_back(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_turns_for_as_long_as_they_wait() {
        let start = Instant::now();
        let groups = [1, 2, 3].map(GroupId);
        let mut waiting = Waiting::default();
        waiting.update(&groups, start);
        let taken = waiting.take(2);
        assert_eq!(taken, [(groups[0], start), (groups[1], start)]);
        waiting.put_back(taken[0]);
        let later = start + Duration::from_secs(5);
        waiting.update(&[groups[0], groups[2], GroupId(4)], later);
        assert_eq!(waiting.longest(later), Duration::from_secs(5));
        let order: Vec<_> = waiting.take(9).into_iter().map(|(group, _)| group.0).collect();
        assert_eq!(order, [3, 1, 4]);
        assert!(waiting.is_empty());
        assert_eq!(waiting.longest(later), Duration::ZERO);
    }

    #[test]
    fn those_that_wait_no_more_lose_their_turns() {
        let start = Instant::now();
        let mut waiting = Waiting::default();
        waiting.update(&[GroupId(1), GroupId(2)], start);
        let taken = waiting.take(1);
        waiting.update(&[GroupId(2)], start);
        waiting.put_back(taken[0]);
        waiting.update(&[GroupId(1)], start);
        assert_eq!(waiting.take(9).len(), 1);
        waiting.update(&[], start);
        assert!(waiting.is_empty());
    }
}
