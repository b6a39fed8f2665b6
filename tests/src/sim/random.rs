//! The one source of chance of a simulation.

use crate::random::SplitMix64;
use std::hash::{BuildHasher, DefaultHasher, Hasher};

/// Makes hashes that a seed decides.
struct Seeded(u64);

impl BuildHasher for Seeded {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

/// A generator whose numbers follow from its seed.
#[derive(Clone, Debug)]
pub(super) struct Random(SplitMix64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed ^ 0x6c6f_6762_6f61_7400))
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number below `bound`, which is not zero.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number from `low` to `high`, both included.
    pub(super) const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A place in a list of `length`, which is not empty.
    pub(super) const fn place(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// What makes hashes that differ from those that it made before.
    pub(super) fn hashes(&mut self) -> impl BuildHasher + use<> {
        let seed = self.next();
        Seeded(seed)
    }

    /// True in so many of a thousand cases.
    pub(super) const fn per_mille(&mut self, cases: u64) -> bool {
        self.below(1_000) < cases
    }
}
