//! The runs of one group, packed: with thousands of groups they are most of what the log needs
//! memory for.

use logboat_raft::{Index, LogPosition};
use std::collections::VecDeque;

/// Consecutive entries in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first entry of the record, which need not be live any more.
    pub(crate) first: Index,
    /// Where the record begins.
    pub(crate) place: LogPosition,
    /// The entries of the record.
    pub(crate) count: u32,
    /// The bytes of the record.
    pub(crate) bytes: u32,
}

/// Runs by first index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    /// What the packed indexes count from.
    base: u64,
    packed: VecDeque<Packed>,
}

#[derive(Clone, Copy, Debug)]
struct Packed {
    first: u32,
    place: LogPosition,
    count: u32,
    bytes: u32,
}

const _: () = assert!(size_of::<Packed>() == 20, "the design allows 24");

/// The most entries of a group that may be not compacted; an eighth of what indexes can be apart.
pub(crate) const MAX_ENTRIES: u64 = 1 << 29;

/// The capacity grows by one part in so many, and by this many runs at the least, once there are as
/// many.
const GROWTH: usize = 8;

/// For how many runs there is room at first: an idle group has few.
const FIRST: usize = 2;

impl Runs {
    pub(crate) fn len(&self) -> usize {
        self.packed.len()
    }

    pub(crate) fn get(&self, at: usize) -> Option<Run> {
        self.packed.get(at).map(|packed| self.unpack(packed))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        self.packed.iter().map(|packed| self.unpack(packed))
    }

    pub(crate) fn last(&self) -> Option<Run> {
        self.packed.back().map(|packed| self.unpack(packed))
    }

    /// How many runs begin before `index`.
    pub(crate) fn before(&self, index: Index) -> usize {
        self.packed.partition_point(|packed| self.base + u64::from(packed.first) < index.0)
    }

    /// Adds a run behind those that begin before it.
    pub(crate) fn insert(&mut self, run: Run) {
        if self.packed.len() == self.packed.capacity() {
            let least = self.packed.len().clamp(FIRST, GROWTH);
            self.packed.reserve_exact((self.packed.len() / GROWTH).max(least));
        }
        let first = self.relative(run.first);
        let packed = Packed { first, place: run.place, count: run.count, bytes: run.bytes };
        match self.last() {
            Some(last) if last.first >= run.first => {
                let at = self.before(run.first);
                self.packed.insert(at, packed);
            }
            _ => self.packed.push_back(packed),
        }
    }

    pub(crate) fn remove(&mut self, at: usize) {
        self.packed.remove(at);
    }

    pub(crate) fn pop_last(&mut self) {
        self.packed.pop_back();
    }

    /// Drops the first so many runs. Also gives memory back when most of it is unused, since most
    /// of thousands of groups are idle.
    pub(crate) fn drop_first(&mut self, count: usize) {
        self.packed.drain(..count);
        if self.packed.len() < self.packed.capacity() / 2 {
            self.packed.shrink_to_fit();
        }
    }

    fn unpack(&self, packed: &Packed) -> Run {
        Run {
            first: Index(self.base + u64::from(packed.first)),
            place: packed.place,
            count: packed.count,
            bytes: packed.bytes,
        }
    }

    /// What stands for `index`; counts all from the least of them if need be.
    fn relative(&mut self, index: Index) -> u32 {
        let least = self.get(0).map_or(index, |run| run.first.min(index)).0;
        if index.0 < self.base || index.0 - self.base > u64::from(u32::MAX) {
            let base = std::mem::replace(&mut self.base, least);
            for packed in &mut self.packed {
                packed.first = narrow(base + u64::from(packed.first) - least);
            }
        }
        narrow(index.0 - self.base)
    }
}

/// A distance within a group's log, which never gets as long as this ([`MAX_ENTRIES`]). Only damage
/// makes it larger. Then some run does not begin where the one before it ends, and that shows the
/// damage, whatever this number is.
fn narrow(distance: u64) -> u32 {
    u32::try_from(distance).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64) -> Run {
        Run {
            first: Index(first),
            place: LogPosition { segment: 1, offset: first as u32 },
            count: 1,
            bytes: 9,
        }
    }

    fn firsts(runs: &Runs) -> Vec<u64> {
        (0..runs.len()).filter_map(|at| runs.get(at)).map(|run| run.first.0).collect()
    }

    #[test]
    fn indexes_far_apart_in_time_are_told_exactly() {
        let mut runs = Runs::default();
        let far = 1 << 40;
        for first in [5, 7, 9] {
            runs.insert(run(first));
        }
        assert_eq!(firsts(&runs), [5, 7, 9]);
        assert_eq!((runs.before(Index(7)), runs.before(Index(8))), (1, 2));
        runs.drop_first(3);
        for first in [far, far + 2, far + 1, far - 1] {
            runs.insert(run(first));
        }
        assert_eq!(firsts(&runs), [far - 1, far, far + 1, far + 2]);
        assert_eq!(runs.get(2), Some(run(far + 1)));
        runs.remove(1);
        runs.pop_last();
        assert_eq!(firsts(&runs), [far - 1, far + 1]);
        assert_eq!(runs.last(), Some(run(far + 1)));
    }

    #[test]
    fn little_memory_is_spare() {
        let mut runs = Runs::default();
        for first in 1..=1_000 {
            runs.insert(run(first));
            assert!(runs.packed.capacity() <= first as usize + GROWTH.max(first as usize / GROWTH));
        }
        runs.drop_first(900);
        assert!(runs.packed.capacity() <= 101);
    }
}
