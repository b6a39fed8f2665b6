//! Plausible numbers: which terms, indexes, epochs and boot counts an honest peer can have reached.
//!
//! A replica that adopts a term remembers it for good. So does a node that hears of an epoch or a
//! boot count. A single message with a number near the end of its range would leave no room for the
//! next election, restart or withdrawal. So a number is believed only within these bounds.

/// The largest term, index, epoch, round or boot count that is believed at all. At a million steps
/// a second it takes two thousand years to get there.
pub const MAX_COUNT: u64 = 1 << 56;

/// How far ahead of what the receiver knows a term, an epoch or a boot count may be. A node that
/// was away while the others held an election a second catches up after a hundred years.
///
/// The bound is relative, so a peer that goes up to it leaves the others room to follow.
pub const MAX_STEP: u64 = 1 << 32;

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
    }
}
