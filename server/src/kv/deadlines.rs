//! How many keys expire when, about.

use std::collections::BTreeMap;

/// Deadlines are counted in spans of 2 to the power of this at first, in milliseconds: about a
/// second.
const SHORTEST_SPAN_BITS: u32 = 10;

/// The longest spans, of about 70 minutes.
const LONGEST_SPAN_BITS: u32 = 22;

/// So many spans are never too many. A node has databases of many groups, and a span takes some 20
/// bytes: with more of them, each key of a database of some thousands would have its own.
const FEW_SPANS: usize = 1024;

/// Above that, a span has so many deadlines on average.
const DEADLINES_A_SPAN: usize = 4;

/// The deadlines of a database, counted by the spans of time in which they lie. That takes a few
/// bytes a deadline, where an index of the keys would take as much as the keys. To find the keys,
/// all are looked at: see `sweep` of [`MemoryKeys`](super::memory_keys::MemoryKeys).
///
/// Deadlines that are far apart would take a span each. So the spans become longer when there are
/// too many, and keys may be freed that much later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deadlines {
    span_bits: u32,
    spans: BTreeMap<u64, u32>,
    count: usize,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { span_bits: SHORTEST_SPAN_BITS, spans: BTreeMap::new(), count: 0 }
    }
}

impl Deadlines {
    pub(super) fn add(&mut self, deadline_ms: u64) {
        *self.spans.entry(deadline_ms >> self.span_bits).or_insert(0) += 1;
        self.count += 1;
        while self.span_bits < LONGEST_SPAN_BITS
            && self.spans.len() > FEW_SPANS.max(self.count / DEADLINES_A_SPAN)
        {
            self.double_spans();
        }
    }

    pub(super) fn remove(&mut self, deadline_ms: u64) {
        let span = deadline_ms >> self.span_bits;
        if let Some(count) = self.spans.get_mut(&span) {
            *count -= 1;
            self.count -= 1;
            if *count == 0 {
                self.spans.remove(&span);
            }
        }
        if self.count == 0 {
            *self = Self::default();
        }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// No deadline is before this time.
    pub(super) fn earliest_ms(&self) -> Option<u64> {
        self.spans.first_key_value().map(|(span, _)| span << self.span_bits)
    }

    /// At this time the deadlines of the first span have passed.
    pub(super) fn first_end_ms(&self) -> Option<u64> {
        self.spans.first_key_value().map(|(span, _)| (span + 1) << self.span_bits)
    }

    /// How many deadlines lie in spans that have ended by `now_ms`.
    pub(super) fn passed(&self, now_ms: u64) -> u64 {
        self.spans.range(..now_ms >> self.span_bits).map(|(_, count)| u64::from(*count)).sum()
    }

    /// Makes one span of each two neighbours.
    fn double_spans(&mut self) {
        self.span_bits += 1;
        let mut doubled: Vec<(u64, u32)> = Vec::with_capacity(self.spans.len());
        for (span, count) in std::mem::take(&mut self.spans) {
            match doubled.last_mut().filter(|(last, _)| *last == span >> 1) {
                Some((_, sum)) => *sum = sum.saturating_add(count),
                None => doubled.push((span >> 1, count)),
            }
        }
        self.spans = doubled.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    /// Times that are spread over so many days.
    fn spread(count: u64, days: u64) -> impl Iterator<Item = u64> {
        let mixed = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..count).map(move |number| mixed(number) % (days * DAY_MS))
    }

    #[test]
    fn deadlines_take_few_spans_however_they_are_spread() {
        for days in [1, 30, 365] {
            let mut deadlines = Deadlines::default();
            spread(200_000, days).for_each(|deadline| deadlines.add(deadline));
            let spans = deadlines.spans.len();
            assert!(spans <= 200_000 / DEADLINES_A_SPAN, "{spans} spans for {days} days");
        }
    }

    #[test]
    fn the_keys_of_a_node_with_many_groups_share_spans() {
        for (keys, days) in [(5_000, 30), (40_000, 365)] {
            let mut deadlines = Deadlines::default();
            spread(keys, days).for_each(|deadline| deadlines.add(deadline));
            let spans = deadlines.spans.len() as u64;
            assert!(spans * 4 <= keys, "{spans} spans for {keys} keys");
        }
    }

    #[test]
    fn what_is_known_of_deadlines_holds_and_ends_with_them() {
        let mut deadlines = Deadlines::default();
        let times: Vec<u64> = spread(40_000, 400).collect();
        times.iter().for_each(|deadline| deadlines.add(*deadline));
        assert!(deadlines.span_bits > SHORTEST_SPAN_BITS);
        let first = *times.iter().min().unwrap();
        assert!(deadlines.earliest_ms().is_some_and(|time| time <= first));
        assert!(deadlines.first_end_ms().is_some_and(|time| time > first));
        for now in (0..400).map(|day| day * DAY_MS) {
            let passed = times.iter().filter(|deadline| **deadline < now).count() as u64;
            assert!(deadlines.passed(now) <= passed);
            let span = 1 << deadlines.span_bits;
            assert!(deadlines.passed(now + span) >= passed);
        }
        times.iter().for_each(|deadline| deadlines.remove(*deadline));
        assert_eq!(deadlines, Deadlines::default());
    }
}
