//! Plausible numbers: which terms, indexes, epochs and boot counts an honest peer can have reached.
//!
//! A replica that adopts a term remembers it for good. So does a node that hears of an epoch or a
//! boot count. A single message with a number near the end of its range would leave no room for the
//! next election, restart or withdrawal. So a number is believed only within these bounds.

use crate::{Index, NodeId, Term, Time};
use alloc::boxed::Box;

/// The largest term, index, epoch, round or boot count that is believed at all. At a million steps
/// a second it takes two thousand years to get there.
pub const MAX_COUNT: u64 = 1 << 56;

/// How far messages may raise a replica's term at once, however short it has run. A replica that
/// was away while the others held an election a second catches up after a hundred years.
pub const MAX_STEP: u64 = 1 << 32;

/// Up to where a term is believed that two nodes name. At a million steps a second it takes a
/// hundred years to get there. What lies between this and [`MAX_COUNT`] is room for elections, even
/// if two nodes are wrong.
pub(crate) const MAX_VOUCHED: u64 = 1 << 52;

/// How far ahead of a replica's log an index may be. A replica that was away while its group wrote
/// a million entries a second catches up after nine years.
pub const MAX_INDEX_STEP: u64 = 1 << 48;

/// How far messages may still raise a replica's term, and so which terms it believes.
///
/// It is [`MAX_STEP`] at first, and grows by a million a second for as long as the replica runs,
/// which no elections reach. A term that messages bring is paid for from it, whatever message that
/// is. So what they have led one replica to is believed by all that have run as long, be it that
/// they hear of it late. If the credit had a bound, a replica could be led so far, little by
/// little, that the others never believe it again.
///
/// One that was started since has less credit. It believes a term that is beyond it when two nodes
/// have named that term or a later one, since a single wrong node can't bring that about alone.
/// What that one names may be any term, but the lower one of the two is then an honest node's.
#[derive(Debug)]
pub(crate) struct TermCredit {
    /// When the replica started, and a microsecond for each term that messages have raised it by.
    whole_at: Time,
    /// The latest term that was named and is beyond the credit, and by whom. Boxed, since most
    /// replicas never hear of one.
    named: Option<Box<(Term, NodeId)>>,
}

impl TermCredit {
    /// The credit of a replica that starts.
    pub(crate) const fn new(now: Time) -> Self {
        Self { whole_at: now, named: None }
    }

    /// Whether a message may name a term that is `step` ahead.
    pub(crate) const fn covers(&self, now: Time, step: u64) -> bool {
        self.whole_at.0.saturating_add(step) <= now.0.saturating_add(MAX_STEP)
    }

    /// Whether another node than `from` has named `term` or a later one. If not, this one may do so
    /// for the next.
    pub(crate) fn is_vouched_for(&mut self, from: NodeId, term: Term) -> bool {
        let (latest, by) = self.named.as_deref().copied().unwrap_or((Term(0), from));
        if term > latest {
            self.named = Some(Box::new((term, from)));
        }
        term <= latest && from != by && term.0 <= MAX_VOUCHED
    }

    /// A message raises the term by `step`. Nothing is owed for a term that was vouched for. A
    /// resignation may raise it by one more than was covered.
    pub(crate) fn spend(&mut self, now: Time, step: u64) {
        let spent = self.whole_at.0.saturating_add(step);
        self.whole_at.0 = spent.min(now.0.saturating_add(MAX_STEP + 1));
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
        credit.spend(Time(1_000), MAX_STEP);
        assert!(credit.covers(Time(1_000), 0) && !credit.covers(Time(1_000), 1));
        assert!(credit.covers(Time(1_500), 500) && !credit.covers(Time(1_500), 501));
        credit.spend(Time(1_500), 501);
        assert!(!credit.covers(Time(1_501), 1) && credit.covers(Time(1_502), 1));
        assert!(credit.covers(Time(1_501 + 3 * MAX_STEP), 3 * MAX_STEP));
    }

    #[test]
    fn a_term_is_vouched_for_by_another_node() {
        let (one, two, wrong) = (NodeId(1), NodeId(2), NodeId(3));
        let mut credit = TermCredit::new(Time(0));
        assert!(!credit.is_vouched_for(one, Term(70)) && !credit.is_vouched_for(one, Term(70)));
        assert!(credit.is_vouched_for(two, Term(70)) && !credit.is_vouched_for(two, Term(71)));
        assert!(!credit.is_vouched_for(wrong, Term(MAX_COUNT)));
        assert!(!credit.is_vouched_for(wrong, Term(70)), "nobody vouches for itself");
        assert!(credit.is_vouched_for(one, Term(72)), "an honest node's term");
        assert!(!credit.is_vouched_for(one, Term(MAX_VOUCHED + 1)));
        // What comes after that is paid for, and is no debt before.
        credit.spend(Time(5), 9 * MAX_STEP);
        assert!(!credit.covers(Time(6), 1) && credit.covers(Time(7), 1));
    }
}
