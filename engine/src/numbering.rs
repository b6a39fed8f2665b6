//! Where this run of a node begins to number what others answer by its number.
//!
//! An answer may come late: after the node, or one replica of it, has started anew. If both runs
//! counted from one, it would be taken for the answer to another question. Whatever is matched to
//! its answer by a number alone therefore begins at a number of [`random_start`]. Two runs of a
//! node that number a billion questions each have a number in common once in nine billion restarts.

use std::hash::{BuildHasher, RandomState};

/// A number that no two calls have in common, nor two runs of a node, but by an accident that
/// nobody lives to see. It does not depend on any clock, which may be set back.
pub(crate) fn random_start() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_starts_are_the_same() {
        assert_ne!(random_start(), random_start());
    }
}
