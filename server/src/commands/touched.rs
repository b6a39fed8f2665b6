//! The keys that the commands of a pipeline touch.

use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;
use std::hash::BuildHasher;

/// Up to so many keys are compared one by one.
const FEW: usize = 16;

/// What was done with a key last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    Write,
    /// The request of this number reads it.
    Read(usize),
}

/// Keys by their hashes. Two keys of one hash count as one, so that the second of two commands may
/// wait in vain.
#[derive(Default)]
pub(super) struct Touched {
    few: SmallVec<[(u64, Touch); FEW]>,
    many: FxHashMap<u64, Touch>,
}

impl Touched {
    /// What was done with `key` last.
    pub(super) fn by(&self, key: &[u8]) -> Option<Touch> {
        let hash = FxBuildHasher.hash_one(key);
        match self.many.is_empty() {
            true => self.few.iter().find(|(other, _)| *other == hash).map(|(_, touch)| *touch),
            false => self.many.get(&hash).copied(),
        }
    }

    pub(super) fn note(&mut self, key: &[u8], touch: Touch) {
        let hash = FxBuildHasher.hash_one(key);
        if self.many.is_empty() && self.few.len() < FEW {
            return self.few.push((hash, touch));
        }
        self.many.extend(self.few.drain(..));
        self.many.insert(hash, touch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_known_however_many_there_are() {
        let mut touched = Touched::default();
        for number in 0..100_usize {
            assert_eq!(touched.by(&number.to_be_bytes()), None);
            touched.note(&number.to_be_bytes(), Touch::Read(number));
            for earlier in 0..=number {
                assert_eq!(touched.by(&earlier.to_be_bytes()), Some(Touch::Read(earlier)));
            }
        }
    }
}
