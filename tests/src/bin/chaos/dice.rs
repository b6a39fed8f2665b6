//! What chance decides in a run, from a seed.

use logboat_tests::random::SplitMix64;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::time::Duration;

/// A source of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    seed: u64,
    numbers: SplitMix64,
}

impl Dice {
    /// The numbers of a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, numbers: SplitMix64::new(seed) }
    }

    /// Numbers that were never seen before, of a seed short enough to be typed.
    pub(crate) fn thrown() -> Self {
        Self::new(RandomState::new().hash_one(std::process::id()) >> 32)
    }

    /// What repeats these numbers.
    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// Another source, which gives other numbers.
    pub(crate) const fn split(&mut self) -> Self {
        Self::new(self.next())
    }

    /// A number below `bound`, which is not zero.
    pub(crate) const fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A length of time, given in milliseconds.
    pub(crate) const fn time_ms(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.next() % (range.end - range.start))
    }

    const fn next(&mut self) -> u64 {
        self.numbers.draw()
    }
}
