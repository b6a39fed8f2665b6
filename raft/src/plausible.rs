//! Plausible numbers: which terms, indexes, epochs and boot counts an honest peer can have reached.
//!
//! A replica that adopts a term remembers it for good. So does a node that hears of an epoch or a
//! boot count. A single message with a number near the end of its range would leave no room for the
//! next election, restart or withdrawal. So a number is believed only within these bounds.

use crate::{Index, Time};

/// The largest term, index, epoch, round or boot count that is believed at all. At a million steps
/// a second it takes two thousand years to get there.
pub const MAX_COUNT: u64 = 1 << 56;

/// How far messages may raise a replica's term at once, however short it has run. A replica that
/// was away while the others held an election a second catches up after a hundred years.
pub const MAX_STEP: u64 = 1 << 32;

/// How far ahead of a replica's log an index may be. A replica that was away while its group wrote
/// a million entries a second catches up after nine years.
pub const MAX_INDEX_STEP: u64 = 1 << 48;

/// How far messages may still raise a replica's term, and so which terms it believes.
///
/// It is [`MAX_STEP`] at first, and grows by a million a second for as long as the replica runs,
/// which no elections reach. A term that messages bring is paid for from it, whatever message that
/// is. So what they have led one replica to is believed by all that have run as long, be it that
/// they hear of it late. One that was started since believes it after a while. If the credit had a
/// bound, a replica could be led so far, little by little, that the others never believe it again.
#[derive(Debug)]
pub(crate) struct TermCredit {
    /// When the replica started, and a microsecond for each term that messages have raised it by.
    whole_at: Time,
}

impl TermCredit {
    /// The credit of a replica that starts.
    pub(crate) const fn new(now: Time) -> Self {
        Self { whole_at: now }
    }

    /// Whether a message may name a term that is `step` ahead.
    pub(crate) const fn covers(&self, now: Time, step: u64) -> bool {
        self.whole_at.0.saturating_add(step) <= now.0.saturating_add(MAX_STEP)
    }

    /// A message raises the term by `step`.
    pub(crate) const fn spend(&mut self, step: u64) {
        self.whole_at.0 = self.whole_at.0.saturating_add(step);
    }
}

/// Whether an index that a peer names can be one of a log that ends at `last` here.
pub(crate) const fn is_index_plausible(last: Index, heard: Index) -> bool {
    heard.0 <= MAX_COUNT && heard.0.saturating_sub(last.0) <= MAX_INDEX_STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_bounded() {
        let far = Index(7 + MAX_INDEX_STEP);
        assert!(is_index_plausible(Index(7), far) && !is_index_plausible(Index(6), far));
        assert!(!is_index_plausible(Index(MAX_COUNT), Index(MAX_COUNT + 1)));
    }

    #[test]
    fn the_credit_of_terms_grows_with_time() {
        let mut credit = TermCredit::new(Time(1_000));
        assert!(credit.covers(Time(1_000), MAX_STEP) && !credit.covers(Time(1_000), MAX_STEP + 1));
        credit.spend(MAX_STEP);
        assert!(credit.covers(Time(1_000), 0) && !credit.covers(Time(1_000), 1));
        assert!(credit.covers(Time(1_500), 500) && !credit.covers(Time(1_500), 501));
        credit.spend(501);
        assert!(!credit.covers(Time(1_501), 1) && credit.covers(Time(1_502), 1));
        assert!(credit.covers(Time(1_501 + 3 * MAX_STEP), 3 * MAX_STEP));
    }
}
