//! Plausible numbers: which terms, indexes, epochs and boot counts an honest peer can have reached.
//!
//! A replica that adopts a term remembers it for good. So does a node that hears of an epoch or a
//! boot count. A single message with a number near the end of its range would leave no room for the
//! next election, restart or withdrawal. So a number is believed only within these bounds.

use crate::{Index, Time};

/// The largest term, index, epoch, round or boot count that is believed at all. At a million steps
/// a second it takes two thousand years to get there.
pub const MAX_COUNT: u64 = 1 << 56;

/// How far ahead of what the receiver knows a term, an epoch or a boot count may be. A node that
/// was away while the others held an election a second catches up after a hundred years.
///
/// The bound is relative, so a peer that goes up to it leaves the others room to follow.
pub const MAX_STEP: u64 = 1 << 32;

/// How far ahead of a replica's log an index may be. A replica that was away while its group wrote
/// a million entries a second catches up after nine years.
pub const MAX_INDEX_STEP: u64 = 1 << 48;

/// How far messages may still raise a replica's term.
///
/// A bound on each step alone would let two messages take one replica so far ahead that the others
/// believe nothing which it says. So a replica takes a step of [`MAX_STEP`] once, and then a
/// million terms a second, which no elections reach and no replica falls behind.
#[derive(Debug)]
pub(crate) struct TermCredit {
    /// When the credit is whole again. Each term that a message brings costs a microsecond.
    whole_at: Time,
}

impl TermCredit {
    /// The whole credit.
    pub(crate) const fn new(now: Time) -> Self {
        Self { whole_at: now }
    }

    /// Whether a message may raise the term by `step` now.
    pub(crate) fn covers(&self, now: Time, step: u64) -> bool {
        let spent = self.whole_at.0.saturating_sub(now.0);
        spent.saturating_add(step) <= MAX_STEP
    }

    /// A message raises the term by `step`.
    pub(crate) fn spend(&mut self, now: Time, step: u64) {
        self.whole_at = Time(self.whole_at.max(now).0.saturating_add(step));
    }
}

/// Whether an index that a peer names can be one of a log that ends at `last` here.
pub(crate) const fn is_index_plausible(last: Index, heard: Index) -> bool {
    heard.0 <= MAX_COUNT && heard.0.saturating_sub(last.0) <= MAX_INDEX_STEP
}

/// Whether a count that stood at `known` can stand at `heard`.
#[must_use]
pub const fn is_plausible(known: u64, heard: u64) -> bool {
    heard <= MAX_COUNT && heard.saturating_sub(known) <= MAX_STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_counts_are_bounded() {
        assert!(is_plausible(0, 0) && is_plausible(7, 3) && is_plausible(7, 7 + MAX_STEP));
        assert!(!is_plausible(7, 8 + MAX_STEP));
        assert!(is_plausible(MAX_COUNT - 1, MAX_COUNT));
        assert!(!is_plausible(MAX_COUNT, MAX_COUNT + 1) && !is_plausible(0, u64::MAX));
        let far = Index(7 + MAX_INDEX_STEP);
        assert!(is_index_plausible(Index(7), far) && !is_index_plausible(Index(6), far));
    }

    #[test]
    fn the_credit_of_terms_comes_back_with_time() {
        let mut credit = TermCredit::new(Time(1_000));
        assert!(credit.covers(Time(1_000), MAX_STEP) && !credit.covers(Time(1_000), MAX_STEP + 1));
        credit.spend(Time(1_000), MAX_STEP);
        assert!(!credit.covers(Time(1_000), 1));
        assert!(credit.covers(Time(1_500), 500) && !credit.covers(Time(1_500), 501));
        credit.spend(Time(1_500), 500);
        assert!(!credit.covers(Time(1_500), 1));
        assert!(credit.covers(Time(1_500 + MAX_STEP), MAX_STEP));
    }
}
