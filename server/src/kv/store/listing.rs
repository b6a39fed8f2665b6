//! The queries that walk the store: SCAN, KEYS and RANGE.

use crate::glob::Pattern;
use crate::kv::entries::{Run, View};
use crate::kv::message::Answer;
use crate::layout::{Partition, in_slot, place};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Bound, Range};

/// A page of SCAN or KEYS ends with the key that brings it to so many bytes, whatever it was asked
/// for. Keys that share a place in SCAN are not parted.
pub(crate) const PAGE_BYTES: usize = 256 << 10;

/// A slot is walked in at most about this many steps of SCAN, whatever COUNT is. A step looks at
/// every key of its slot, so smaller steps would cost the square of the slot's size.
const MAX_STEPS_A_SLOT: usize = 64;

/// After so many steps of matching (see [`Pattern::cost`]) a query ends with the key that it has
/// reached, whatever it was asked for, since others wait for its group: some tens of milliseconds.
const MATCHING_A_QUERY: usize = 1 << 23;

/// How many keys a random one is chosen from, so that the choice holds nobody up.
const MAX_CHOICE: usize = 1_024;

/// A stretch of the clients' keys, in their own order.
#[derive(Clone, Copy)]
pub(super) struct KeySpan<'a> {
    /// The first key.
    pub(super) start: &'a [u8],
    /// Whether `start` itself is left out.
    pub(super) after_start: bool,
    /// The key before which to stop; none for no end.
    pub(super) end: Option<&'a [u8]>,
}

impl KeySpan<'_> {
    fn is_empty(&self) -> bool {
        self.end.is_some_and(|end| end <= self.start)
    }
}

impl<'a> View<'a> {
    /// One step of SCAN. Slots are walked in order. Within a slot, keys come in the order of their
    /// places, so all keys of a slot are looked at. All keys that share the last place are
    /// reported, so that the next step, which begins behind that place, misses none. Places stay
    /// far below `u64::MAX`, which stands for "to the end".
    pub(super) fn scan(
        &self,
        partition: Partition,
        within: &Range<u64>,
        count: u64,
        pattern: Option<&[u8]>,
    ) -> Answer {
        let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        let pattern = pattern.map(|pattern| Pattern::new(pattern, false));
        let mut matching = MATCHING_A_QUERY;
        let mut room = PAGE_BYTES;
        let mut seen: Vec<&Bytes> = Vec::new();
        let mut next = None;
        let mut slot_start = match partition {
            Partition::Hash | Partition::Slots => Some(((within.start >> 32) & 0xffff) as u16),
            Partition::Range => Some(0),
        };
        while let Some(start) = slot_start {
            let Some((slot, keys)) = self.slot_from(partition, start) else {
                break;
            };
            let places: Vec<(u64, &Bytes)> = keys
                .map(|(key, _)| (place(partition, key), key))
                .filter(|(place, _)| within.contains(place))
                .collect();
            let want = (count - seen.len()).max(places.len() / MAX_STEPS_A_SLOT);
            let (page, behind) = page_of(places, want, |key| {
                let key = partition.client_key(key);
                let cost = pattern.as_ref().map_or(0, |pattern| pattern.cost(key.len()));
                matching = matching.saturating_sub(cost);
                room = room.saturating_sub(key.len());
                matching > 0 && room > 0
            });
            seen.extend(page.iter().map(|(_, key)| *key));
            if behind.is_some() {
                next = behind;
                break;
            }
            slot_start = match partition {
                Partition::Hash | Partition::Slots => slot.checked_add(1),
                Partition::Range => None,
            };
            if seen.len() >= count || matching == 0 || room == 0 {
                next = slot_start
                    .and_then(|start| self.slot_from(partition, start))
                    .map(|(slot, _)| u64::from(slot) << 32);
                break;
            }
        }
        let keys = seen.iter().map(|key| client_key(partition, key));
        let keys = keys.filter(|key| pattern.as_ref().is_none_or(|p| p.matches(key)));
        Answer::Page { keys: keys.collect(), examined: seen.len() as u64, next }
    }

    /// One step of KEYS: looks at up to `limit_keys` keys behind `after`, and reports those that
    /// match.
    pub(super) fn keys(
        &self,
        partition: Partition,
        after: Option<&Bytes>,
        pattern: &[u8],
        limit_keys: u64,
    ) -> Answer {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let limit = usize::try_from(limit_keys).unwrap_or(usize::MAX).max(1);
        let mut walked = self.range((start, Bound::Unbounded));
        let pattern = Pattern::new(pattern, false);
        let (mut matching, mut room) = (MATCHING_A_QUERY, PAGE_BYTES);
        let mut keys = Vec::new();
        let mut last = None;
        for (key, _) in walked.by_ref().take(limit) {
            let name = partition.client_key(key);
            if pattern.matches(name) {
                keys.push(client_key(partition, key));
                room = room.saturating_sub(name.len());
            }
            last = Some(key);
            matching = matching.saturating_sub(pattern.cost(name.len()));
            if matching == 0 || room == 0 {
                break;
            }
        }
        let last = if walked.next().is_some() { last.cloned() } else { None };
        Answer::Listing { keys, last }
    }

    /// One step of RANGE: pairs in the order of the clients' keys. In a hash layout each slot is a
    /// sorted run of its own, and the runs are merged.
    pub(super) fn ordered(
        &self,
        partition: Partition,
        span: KeySpan<'_>,
        limit_pairs: u64,
        limit_bytes: u64,
    ) -> Answer {
        if span.is_empty() {
            return Answer::Pairs { pairs: Vec::new(), more: false };
        }
        let mut merge = Merge::new(partition, self.runs(partition, span)).peekable();
        let limit = usize::try_from(limit_pairs).unwrap_or(usize::MAX).max(1);
        let mut pairs = Vec::new();
        let mut bytes = 0;
        while pairs.len() < limit
            && let Some(&(key, value)) = merge.peek()
        {
            let value = Some(value).filter(|value| value.len() as u64 <= limit_bytes);
            bytes += (partition.client_key(key).len() + value.map_or(0, Bytes::len)) as u64;
            if bytes > limit_bytes && !pairs.is_empty() {
                break;
            }
            pairs.push((client_key(partition, key), value.cloned()));
            merge.next();
        }
        Answer::Pairs { pairs, more: merge.peek().is_some() }
    }

    /// Any key: the seed chooses a slot, and one of the first keys behind it.
    pub(super) fn random(&self, partition: Partition, seed: u64) -> Option<Bytes> {
        let slot = match partition {
            Partition::Hash | Partition::Slots => seed as u16,
            Partition::Range => 0,
        };
        let (_, keys) = self.slot_from(partition, slot).or_else(|| self.slot_from(partition, 0))?;
        let keys: Vec<_> = keys.take(MAX_CHOICE).collect();
        let chosen = (seed >> 16) % keys.len() as u64;
        keys.get(usize::try_from(chosen).ok()?).map(|(key, _)| client_key(partition, key))
    }

    /// The sorted runs of the keys in `span`: one a slot, or a single one.
    fn runs(&self, partition: Partition, span: KeySpan<'_>) -> Vec<Run<'a, '_>> {
        let KeySpan { start, after_start, end } = span;
        let lower = |key| {
            if after_start { Bound::Excluded(key) } else { Bound::Included(key) }
        };
        match partition {
            Partition::Range => {
                let end = end
                    .map_or(Bound::Unbounded, |end| Bound::Excluded(Bytes::copy_from_slice(end)));
                let start = lower(Bytes::copy_from_slice(start));
                vec![self.range((start, end))]
            }
            Partition::Hash | Partition::Slots => {
                let mut runs = Vec::new();
                let mut from = Some(0);
                while let Some((slot, _)) = from.and_then(|from| self.slot_from(partition, from)) {
                    let end = match (end, slot.checked_add(1)) {
                        (Some(end), _) => Bound::Excluded(in_slot(slot, end)),
                        (None, Some(next)) => Bound::Excluded(in_slot(next, b"")),
                        (None, None) => Bound::Unbounded,
                    };
                    let start = lower(in_slot(slot, start));
                    runs.push(self.range((start, end)));
                    from = slot.checked_add(1);
                }
                runs
            }
        }
    }

    /// The first slot at or behind `slot` that holds keys, with its keys.
    fn slot_from(&self, partition: Partition, slot: u16) -> Option<(u16, Run<'a, '_>)> {
        if partition == Partition::Range {
            return self.range(..).next().is_some().then(|| (0, self.range(..)));
        }
        let first = self.range(in_slot(slot, b"")..).next()?.0;
        let slot = partition.stored_slot(first);
        let end = match slot.checked_add(1) {
            Some(next) => Bound::Excluded(in_slot(next, b"")),
            None => Bound::Unbounded,
        };
        let keys = self.range((Bound::Included(in_slot(slot, b"")), end));
        Some((slot, keys))
    }
}

/// Those of `places` that make a page of about `want`, in order, and the first place behind them. A
/// page ends early with a key for which `go_on` is false. It never parts equal places.
fn page_of(
    mut places: Vec<(u64, &Bytes)>,
    want: usize,
    mut go_on: impl FnMut(&Bytes) -> bool,
) -> (Vec<(u64, &Bytes)>, Option<u64>) {
    // Most of a large slot is for later steps, so it is not sorted.
    let mut behind = None;
    if want < places.len() {
        let (_, &mut (last, _), rest) = places.select_nth_unstable(want.saturating_sub(1));
        behind = rest.iter().map(|(place, _)| *place).filter(|place| *place > last).min();
        places.retain(|(place, _)| *place <= last);
    }
    places.sort_unstable();
    if let Some(reached) = places.iter().position(|(_, key)| !go_on(key)) {
        let last = places[reached].0;
        let end = places.partition_point(|(place, _)| *place <= last);
        behind = places.get(end).map(|(place, _)| *place).or(behind);
        places.truncate(end);
    }
    (places, behind)
}

/// Merges sorted runs by the clients' keys.
struct Merge<'a, 'v> {
    partition: Partition,
    runs: Vec<Run<'a, 'v>>,
    heads: BinaryHeap<Reverse<Head<'a>>>,
}

/// The next entry of a run; ordered by the client's key first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head<'a> {
    client_key: &'a [u8],
    run: usize,
    key: &'a Bytes,
    value: &'a Bytes,
}

impl<'a, 'v> Merge<'a, 'v> {
    fn new(partition: Partition, runs: Vec<Run<'a, 'v>>) -> Self {
        let mut merge = Self { partition, heads: BinaryHeap::with_capacity(runs.len()), runs };
        for run in 0..merge.runs.len() {
            merge.refill(run);
        }
        merge
    }

    fn refill(&mut self, run: usize) {
        if let Some((key, value)) = self.runs[run].next() {
            let client_key = self.partition.client_key(key);
            self.heads.push(Reverse(Head { client_key, run, key, value }));
        }
    }
}

impl<'a> Iterator for Merge<'a, '_> {
    type Item = (&'a Bytes, &'a Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse(head) = self.heads.pop()?;
        self.refill(head.run);
        Some((head.key, head.value))
    }
}

fn client_key(partition: Partition, stored: &Bytes) -> Bytes {
    stored.slice_ref(partition.client_key(stored))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::clock::NEVER;
    use crate::kv::entries::{Entries, Entry};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const ALL_KEYS: KeySpan<'_> = KeySpan { start: b"", after_start: false, end: None };

    fn store(partition: Partition, keys: impl IntoIterator<Item = Vec<u8>>) -> Entries {
        let entries = keys.into_iter().map(|key| (partition.stored(&key), Bytes::from(key)));
        let mut store = Entries::default();
        let entry = |(key, value)| (key, Entry { value, deadline_ms: NEVER });
        store.replace(entries.map(entry).collect());
        store
    }

    fn keys(prefix: &str, count: usize) -> impl Iterator<Item = Vec<u8>> {
        (0..count).map(move |i| format!("{prefix}{i}").into_bytes())
    }

    /// Scans to the end; returns the keys and the number of steps.
    fn scan_all(store: &Entries, partition: Partition, count: u64) -> (Vec<Bytes>, usize) {
        let (mut all, mut from, mut steps) = (Vec::new(), 0, 0);
        loop {
            steps += 1;
            match View::settled(store).scan(partition, &(from..u64::MAX), count, None) {
                Answer::Page { keys, next, examined } => {
                    assert_eq!(examined, keys.len() as u64);
                    all.extend(keys);
                    let Some(next) = next else {
                        return (all, steps);
                    };
                    assert!(next > from, "a scan goes forward");
                    from = next;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_scan_reports_every_key_once() {
        for partition in [Partition::Hash, Partition::Slots, Partition::Range] {
            for prefix in ["key:", "{tag}"] {
                let store = store(partition, keys(prefix, 1000));
                for count in [1, 7, 10, 999, 5000] {
                    let (found, steps) = scan_all(&store, partition, count);
                    let distinct: BTreeSet<_> = found.iter().collect();
                    assert_eq!((found.len(), distinct.len()), (1000, 1000));
                    assert!(count < 1000 || steps == 1);
                }
            }
        }
    }

    #[test]
    fn a_large_slot_takes_a_bounded_number_of_steps() {
        let store = store(Partition::Hash, keys("{tag}", 5000));
        let (_, steps) = scan_all(&store, Partition::Hash, 1);
        // Each step takes a 64th of what is left until a step is one key.
        assert!(steps < 600, "{steps}");
    }

    #[test]
    fn a_scan_keeps_to_its_count_and_pattern() {
        let store = store(Partition::Hash, keys("key:", 1000));
        match View::settled(&store).scan(Partition::Hash, &(0..u64::MAX), 10, Some(b"key:1*")) {
            Answer::Page { keys, examined, next } => {
                assert_eq!(examined, 10);
                assert!(keys.len() <= 10 && keys.iter().all(|key| key.starts_with(b"key:1")));
                assert!(next.is_some());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_are_listed_in_steps() {
        let store = store(Partition::Hash, keys("key:", 100));
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            match View::settled(&store).keys(Partition::Hash, after.as_ref(), b"key:1*", 7) {
                Answer::Listing { keys, last } => {
                    found.extend(keys);
                    if last.is_none() {
                        break;
                    }
                    after = last;
                }
                other => panic!("{other:?}"),
            }
        }
        found.sort();
        assert_eq!(found.len(), 11);
        assert_eq!(found[0], "key:1");
    }

    #[test]
    fn every_key_of_a_few_is_chosen_at_times() {
        for partition in [Partition::Hash, Partition::Slots, Partition::Range] {
            assert_eq!(View::settled(&Entries::default()).random(partition, 7), None);
            let store = store(partition, keys("k", 10));
            let seeds = (0..2_000_u64).map(|seed| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let chosen: BTreeSet<_> =
                seeds.map(|seed| View::settled(&store).random(partition, seed)).collect();
            assert_eq!(chosen.len(), 10);
        }
    }

    #[test]
    fn a_pattern_that_is_slow_to_match_takes_more_queries() {
        let long = |i: usize| [format!("{{t}}{i}").into_bytes(), b"a".repeat(64 << 10)].concat();
        let pattern = [&b"*"[..], &b"b".repeat(60), b"*"].concat();
        for partition in [Partition::Hash, Partition::Slots, Partition::Range] {
            let store = store(partition, (0..20).map(long));
            let (mut seen, mut from, mut steps) = (0, Some(0), 0);
            while let Some(place) = from {
                match View::settled(&store).scan(partition, &(place..u64::MAX), 100, Some(&pattern))
                {
                    Answer::Page { examined, next, .. } => {
                        (seen, from, steps) = (seen + examined, next, steps + 1);
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!((seen, steps > 2), (20, true));
            let (mut after, mut steps) = (None, 1);
            while let Answer::Listing { last: Some(last), .. } =
                View::settled(&store).keys(partition, after.as_ref(), &pattern, 100)
            {
                (after, steps) = (Some(last), steps + 1);
            }
            assert!(steps > 2);
        }
    }

    #[test]
    fn a_page_ends_at_so_many_bytes() {
        let long = |i: usize| [format!("{{t}}{i:02}").into_bytes(), b"a".repeat(50_000)].concat();
        for partition in [Partition::Hash, Partition::Range] {
            let store = store(partition, (0..20).map(long));
            let (mut found, mut from) = (BTreeSet::new(), Some(0));
            while let Some(place) = from {
                let Answer::Page { keys, next, .. } =
                    View::settled(&store).scan(partition, &(place..u64::MAX), 100, None)
                else {
                    panic!("a scan gives pages");
                };
                assert!(keys.iter().map(Bytes::len).sum::<usize>() < PAGE_BYTES + 50_100);
                found.extend(keys);
                from = next;
            }
            assert_eq!(found.len(), 20);
            let (mut listed, mut after) = (0, None);
            loop {
                let Answer::Listing { keys, last } =
                    View::settled(&store).keys(partition, after.as_ref(), b"*", 100)
                else {
                    panic!("keys are listed");
                };
                assert!(keys.len() <= 6);
                listed += keys.len();
                match last {
                    Some(last) => after = Some(last),
                    None => break,
                }
            }
            assert_eq!(listed, 20);
        }
    }

    fn pairs(answer: Answer) -> (Vec<Bytes>, bool) {
        match answer {
            Answer::Pairs { pairs, more } => {
                (pairs.into_iter().map(|(key, _)| key).collect(), more)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_step_of_a_range_stops_at_bytes_but_makes_progress() {
        let store = store(Partition::Range, keys("k", 10));
        let step = |limit_bytes| {
            pairs(View::settled(&store).ordered(Partition::Range, ALL_KEYS, 100, limit_bytes))
        };
        assert_eq!(step(1).0, ["k0"]);
        assert_eq!(step(7).0, ["k0"]);
        assert_eq!(step(8).0, ["k0", "k1"]);
        assert!(step(8).1);
        assert_eq!(step(1000).0.len(), 10);
        assert!(!step(1000).1);
    }

    #[test]
    fn a_value_beyond_the_bytes_of_a_step_is_left_out() {
        let mut store = store(Partition::Range, keys("k", 3));
        store.insert(Bytes::from("k1"), Bytes::from(vec![7; 100]));
        match View::settled(&store).ordered(Partition::Range, ALL_KEYS, 100, 99) {
            Answer::Pairs { pairs, more } => {
                let lengths: Vec<_> =
                    pairs.iter().map(|(_, value)| value.as_ref().map(Bytes::len)).collect();
                assert_eq!((lengths, more), (vec![Some(2), None, Some(2)], false));
            }
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn ranges_agree_with_a_sorted_list(
            keys in proptest::collection::btree_set(proptest::collection::vec(0..4u8, 0..4), 0..40),
            start in proptest::collection::vec(0..4u8, 0..4),
            end in proptest::option::of(proptest::collection::vec(0..4u8, 0..4)),
            after_start: bool,
            limit in 1..50usize,
        ) {
            let inside: Vec<_> = keys
                .iter()
                .filter(|key| **key > start || (**key == start && !after_start))
                .filter(|key| end.as_ref().is_none_or(|end| *key < end))
                .cloned()
                .collect();
            for partition in [Partition::Hash, Partition::Slots, Partition::Range] {
                let store = store(partition, keys.iter().cloned());
                let span = KeySpan { start: &start, after_start, end: end.as_deref() };
                let answer = View::settled(&store).ordered(partition, span, limit as u64, u64::MAX);
                let (found, more) = pairs(answer);
                prop_assert_eq!(&found, &inside[..limit.min(inside.len())]);
                prop_assert_eq!(more, inside.len() > limit);
            }
        }
    }
}
