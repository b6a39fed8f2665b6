//! Random numbers from a seed: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
//! number generators", 2014).

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::time::Duration;

/// A source of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// The numbers of a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, state: seed }
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
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
