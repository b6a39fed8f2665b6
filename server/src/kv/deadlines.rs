//! How many keys expire when, about.

use std::collections::BTreeMap;

/// Deadlines are counted in spans of 2 to the power of this, in milliseconds: about a second.
const SPAN_BITS: u32 = 10;

/// The deadlines of a database, counted by the spans of time in which they lie. That takes a few
/// bytes a deadline at the most, where an index of the keys would take as much as the keys. To find
/// the keys, all are looked at: see [`Entries::sweep`](super::entries::Entries::sweep).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Deadlines {
    spans: BTreeMap<u64, u32>,
    count: usize,
}

impl Deadlines {
    pub(super) fn add(&mut self, deadline_ms: u64) {
        *self.spans.entry(deadline_ms >> SPAN_BITS).or_insert(0) += 1;
        self.count += 1;
    }

    pub(super) fn remove(&mut self, deadline_ms: u64) {
        let span = deadline_ms >> SPAN_BITS;
        if let Some(count) = self.spans.get_mut(&span) {
            *count -= 1;
            self.count -= 1;
            if *count == 0 {
                self.spans.remove(&span);
            }
        }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// No deadline is before this time.
    pub(super) fn earliest_ms(&self) -> Option<u64> {
        self.spans.first_key_value().map(|(span, _)| span << SPAN_BITS)
    }

    /// At this time the deadlines of the first span have passed.
    pub(super) fn first_end_ms(&self) -> Option<u64> {
        self.spans.first_key_value().map(|(span, _)| (span + 1) << SPAN_BITS)
    }

    /// How many deadlines lie in spans that have ended by `now_ms`.
    pub(super) fn passed(&self, now_ms: u64) -> u64 {
        self.spans.range(..now_ms >> SPAN_BITS).map(|(_, count)| u64::from(*count)).sum()
    }
}
