//! The start of numberings: where this run of a node begins to number the questions that others
//! answer by number.
//!
//! An answer may come late, when the node or one of its replicas has started anew. If both runs
//! counted from one, the answer would be taken for that to another question. So questions that are
//! matched to their answers by a number alone begin at a number of [`random_start`]. Suppose that
//! two runs of a node number a billion questions each. They have a number in common once in nine
//! billion restarts.

use std::hash::{BuildHasher, RandomState};

/// A random number. Two calls, or two runs of a node, have it in common with negligible
/// probability. It depends on no clock, since clocks may be set back.
pub(crate) fn random_start() -> u64 {
    start_of(&RandomState::new())
}

/// The start of a numbering that this `chance` makes: a simulation has its own.
#[must_use]
pub fn start_of(chance: &impl BuildHasher) -> u64 {
    chance.hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_starts_are_the_same() {
        assert_ne!(random_start(), random_start());
    }
}
