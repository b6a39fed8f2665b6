//! The queries that walk the store: SCAN, KEYS and RANGE.

use crate::glob::Pattern;
use crate::kv::database::{Found, Run, View};
use crate::kv::key::Key;
use crate::kv::keys::ReadKeys;
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

/// A slot of more keys than this is not walked by one query of SCAN, since others wait for its
/// group. In a range layout all keys of a group count as one slot.
const MAX_WALKED: usize = 1 << 17;

/// How many keys a random one is chosen from, so that the choice holds nobody up.
const MAX_CHOICE: usize = 1_024;

/// After so many keys that have expired and were not swept, a query ends with what it has, since
/// others wait for its group.
const MAX_EXPIRED: usize = 1 << 14;

/// A stretch of keys in their order: clients' keys or stored ones.
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

impl<'a, K: ReadKeys> View<'a, K> {
    /// One step of SCAN. Slots are walked in order. Within a slot, keys come in the order of their
    /// places, so all keys of a slot are looked at. All keys that share the last place are
    /// reported, so that the next step, which begins behind that place, misses none. Places stay
    /// far below `u64::MAX`, which stands for "to the end".
    ///
    /// A step ends before a slot of too many keys. One that begins there reports nothing, and the
    /// same place to go on from. [`Self::places`] goes over such a slot in parts.
    pub(super) fn scan(
        &self,
        partition: Partition,
        within: &Range<u64>,
        count: u64,
        pattern: Option<&[u8]>,
    ) -> Result<Answer, K::Error> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        let pattern = pattern.map(|pattern| Pattern::new(pattern, false));
        let mut matching = MATCHING_A_QUERY;
        let mut room = PAGE_BYTES;
        let mut keys = Vec::new();
        let (mut seen, mut expired) = (0, 0);
        let mut next = None;
        let mut slot_start = match partition {
            Partition::Hash | Partition::Slots => Some(((within.start >> 32) & 0xffff) as u16),
            Partition::Range => Some(0),
        };
        while let Some(start) = slot_start {
            let Some((slot, walked)) = self.slot_from(partition, start)? else {
                break;
            };
            if u64::from(slot) << 32 >= within.end {
                break;
            }
            let (mut places, mut gone) = (Vec::new(), 0);
            let mut walked = walked.peekable();
            for found in walked.by_ref().take(MAX_WALKED) {
                let (key, value) = found?;
                let place = place(partition, &key);
                match value {
                    _ if !within.contains(&place) => {}
                    Some(_) => places.push((place, key)),
                    None => gone += 1,
                }
            }
            if walked.peek().is_some() {
                next = Some(within.start.max(u64::from(slot) << 32));
                break;
            }
            expired += gone;
            let want = (count - seen).max(places.len() / MAX_STEPS_A_SLOT);
            let behind = take_page(places, want, |key| {
                let name = partition.client_key(key);
                let cost = pattern.as_ref().map_or(0, |pattern| pattern.cost(name.len()));
                matching = matching.saturating_sub(cost);
                if pattern.as_ref().is_none_or(|pattern| pattern.matches(name)) {
                    keys.push(client_key(partition, key));
                    room = room.saturating_sub(name.len());
                }
                seen += 1;
                matching > 0 && room > 0
            });
            if behind.is_some() {
                next = behind;
                break;
            }
            slot_start = match partition {
                Partition::Hash | Partition::Slots => slot.checked_add(1),
                Partition::Range => None,
            };
            let has_walked = seen >= count || expired >= MAX_EXPIRED;
            if has_walked || matching == 0 || room == 0 {
                let following = match slot_start {
                    Some(start) => self.slot_from(partition, start)?,
                    None => None,
                };
                let following = following.map(|(slot, _)| u64::from(slot) << 32);
                next = following.filter(|place| *place < within.end);
                break;
            }
        }
        Ok(Answer::Page { keys, examined: (seen + expired) as u64, next })
    }

    /// One step over a stretch of stored keys: looks at up to `limit_keys`, and counts or lists
    /// them.
    pub(super) fn stretch(
        &self,
        partition: Partition,
        span: KeySpan<'_>,
        limit_keys: u64,
        with_names: bool,
    ) -> Result<Answer, K::Error> {
        let (mut keys, mut count) = (Vec::new(), 0);
        if span.is_empty() {
            return Ok(Answer::Stretch { keys, count, last: None });
        }
        let limit = usize::try_from(limit_keys).unwrap_or(usize::MAX).max(1);
        let mut walked = self.run_of(span)?;
        let (mut room, mut last) = (PAGE_BYTES, None);
        for found in walked.by_ref().take(limit) {
            let (key, value) = found?;
            let key = last.insert(key);
            if value.is_none() {
                continue;
            }
            count += 1;
            if with_names {
                keys.push(client_key(partition, key));
                room = room.saturating_sub(key.len());
            }
            if room == 0 {
                break;
            }
        }
        let last = last_unless_at_end(last, walked)?;
        Ok(Answer::Stretch { keys, count, last })
    }

    /// One step over the keys of a slot, in stored order: looks at up to `limit_keys` behind
    /// `after`, and reports those whose places lie within some, and that match.
    pub(super) fn places(
        &self,
        partition: Partition,
        within: &Range<u64>,
        after: Option<&Bytes>,
        pattern: Option<&[u8]>,
        limit_keys: u64,
    ) -> Result<Answer, K::Error> {
        let (mut keys, mut count) = (Vec::new(), 0);
        let slot = ((within.start >> 32) & 0xffff) as u16;
        let is_one = partition == Partition::Range;
        let first = if is_one { Bytes::new() } else { in_slot(slot, b"") };
        let end = slot.checked_add(1).filter(|_| !is_one).map(|next| in_slot(next, b""));
        let start = after.unwrap_or(&first);
        let span = KeySpan { start, after_start: after.is_some(), end: end.as_deref() };
        if span.is_empty() {
            return Ok(Answer::Stretch { keys, count, last: None });
        }
        let limit = usize::try_from(limit_keys).unwrap_or(usize::MAX).max(1);
        let pattern = pattern.map(|pattern| Pattern::new(pattern, false));
        let (mut matching, mut room) = (MATCHING_A_QUERY, PAGE_BYTES);
        let (mut walked, mut last) = (self.run_of(span)?, None);
        for found in walked.by_ref().take(limit) {
            let (key, value) = found?;
            let key = last.insert(key);
            if value.is_none() || !within.contains(&place(partition, key)) {
                continue;
            }
            count += 1;
            let name = partition.client_key(key);
            if pattern.as_ref().is_none_or(|pattern| pattern.matches(name)) {
                keys.push(client_key(partition, key));
                room = room.saturating_sub(name.len());
            }
            let cost = pattern.as_ref().map_or(0, |pattern| pattern.cost(name.len()));
            matching = matching.saturating_sub(cost);
            if matching == 0 || room == 0 {
                break;
            }
        }
        let last = last_unless_at_end(last, walked)?;
        Ok(Answer::Stretch { keys, count, last })
    }

    /// One step of KEYS: looks at up to `limit_keys` keys behind `after`, and reports those that
    /// match.
    pub(super) fn keys(
        &self,
        partition: Partition,
        after: Option<&Bytes>,
        pattern: &[u8],
        limit_keys: u64,
    ) -> Result<Answer, K::Error> {
        let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(&after[..]));
        let limit = usize::try_from(limit_keys).unwrap_or(usize::MAX).max(1);
        let mut walked = self.range((start, Bound::Unbounded))?;
        let pattern = Pattern::new(pattern, false);
        let (mut matching, mut room) = (MATCHING_A_QUERY, PAGE_BYTES);
        let mut keys = Vec::new();
        let mut last = None;
        for found in walked.by_ref().take(limit) {
            let (key, value) = found?;
            let key = last.insert(key);
            if value.is_none() {
                continue;
            }
            let name = partition.client_key(key);
            if pattern.matches(name) {
                keys.push(client_key(partition, key));
                room = room.saturating_sub(name.len());
            }
            matching = matching.saturating_sub(pattern.cost(name.len()));
            if matching == 0 || room == 0 {
                break;
            }
        }
        let last = last_unless_at_end(last, walked)?;
        Ok(Answer::Listing { keys, last })
    }

    /// One step of RANGE: pairs in the order of the clients' keys. In a hash layout each slot is a
    /// sorted run of its own, and the runs are merged. A step that ends for the sake of expired
    /// keys reports the last of them like a key whose value was too long. Who asks for that finds
    /// nothing, and goes on behind it.
    pub(super) fn ordered(
        &self,
        partition: Partition,
        span: KeySpan<'_>,
        limit_pairs: u64,
        limit_bytes: u64,
    ) -> Result<Answer, K::Error> {
        if span.is_empty() {
            return Ok(Answer::Pairs { pairs: Vec::new(), more: false });
        }
        let mut merge = Merge::new(partition, self.runs(partition, span)?)?;
        let limit = usize::try_from(limit_pairs).unwrap_or(usize::MAX).max(1);
        let mut pairs = Vec::new();
        let (mut bytes, mut expired) = (0, 0);
        while pairs.len() < limit
            && let Some(head) = merge.peek()
        {
            let Some(value) = &head.value else {
                expired += 1;
                if expired == MAX_EXPIRED {
                    pairs.push((head.client_key.clone(), None));
                }
                merge.pass()?;
                if expired == MAX_EXPIRED {
                    break;
                }
                continue;
            };
            let value = Some(value).filter(|value| value.len() as u64 <= limit_bytes);
            bytes += (head.client_key.len() + value.map_or(0, Bytes::len)) as u64;
            if bytes > limit_bytes && !pairs.is_empty() {
                break;
            }
            pairs.push((head.client_key.clone(), value.cloned()));
            merge.pass()?;
        }
        Ok(Answer::Pairs { pairs, more: merge.peek().is_some() })
    }

    /// Any key: the seed chooses a slot, and one of the first keys behind it. None if all that are
    /// looked at have expired.
    pub(super) fn random(
        &self,
        partition: Partition,
        seed: u64,
    ) -> Result<Option<Bytes>, K::Error> {
        let slot = match partition {
            Partition::Hash | Partition::Slots => seed as u16,
            Partition::Range => 0,
        };
        let mut keys = self.choice_from(partition, slot)?;
        if keys.is_empty() {
            keys = self.choice_from(partition, 0)?;
        }
        let chosen = (seed >> 16).checked_rem(keys.len() as u64);
        let chosen = chosen.and_then(|chosen| keys.get(usize::try_from(chosen).ok()?));
        Ok(chosen.map(|key| client_key(partition, key)))
    }

    /// The first keys of the first slot at or behind `slot` in which any is found.
    fn choice_from(&self, partition: Partition, slot: u16) -> Result<Vec<Key>, K::Error> {
        let start = match partition {
            Partition::Hash | Partition::Slots => in_slot(slot, b""),
            Partition::Range => Bytes::new(),
        };
        let mut keys: Vec<Key> = Vec::new();
        for found in self.range((Bound::Included(&start), Bound::Unbounded))?.take(MAX_EXPIRED) {
            let (key, Some(_)) = found? else { continue };
            let slot = partition.stored_slot(&key);
            let is_same = |first: &Key| partition.stored_slot(first) == slot;
            if keys.len() == MAX_CHOICE || !keys.first().is_none_or(is_same) {
                break;
            }
            keys.push(key);
        }
        Ok(keys)
    }

    /// The sorted runs of the keys in `span`: one a slot, or a single one.
    fn runs(
        &self,
        partition: Partition,
        span: KeySpan<'_>,
    ) -> Result<Vec<Run<'a, '_, K>>, K::Error> {
        let mut runs = Vec::new();
        if partition == Partition::Range {
            runs.push(self.run_of(span)?);
            return Ok(runs);
        }
        let mut from = Some(0);
        while let Some(start) = from
            && let Some((slot, _)) = self.slot_from(partition, start)?
        {
            let next = slot.checked_add(1);
            let end = span.end.map(|end| in_slot(slot, end));
            let end = end.or_else(|| next.map(|next| in_slot(next, b"")));
            let start = &in_slot(slot, span.start);
            runs.push(self.run_of(KeySpan { start, end: end.as_deref(), ..span })?);
            from = next;
        }
        Ok(runs)
    }

    /// The keys in `span`, which is not empty.
    fn run_of(
        &self,
        KeySpan { start, after_start, end }: KeySpan<'_>,
    ) -> Result<Run<'a, '_, K>, K::Error> {
        let start = if after_start { Bound::Excluded(start) } else { Bound::Included(start) };
        self.range((start, end.map_or(Bound::Unbounded, Bound::Excluded)))
    }

    /// The first slot at or behind `slot` that holds keys, if only expired ones, with its keys.
    fn slot_from(
        &self,
        partition: Partition,
        slot: u16,
    ) -> Result<Option<Slot<'a, '_, K>>, K::Error> {
        let start = match partition {
            Partition::Hash | Partition::Slots => in_slot(slot, b""),
            Partition::Range => Bytes::new(),
        };
        let from = |start| self.range((Bound::Included(start), Bound::Unbounded));
        let Some(first) = from(&start)?.next() else { return Ok(None) };
        if partition == Partition::Range {
            return Ok(Some((0, from(&start)?)));
        }
        let slot = partition.stored_slot(&first?.0);
        let end = slot.checked_add(1).map(|next| in_slot(next, b""));
        let start = in_slot(slot, b"");
        let span = KeySpan { start: &start, after_start: false, end: end.as_deref() };
        Ok(Some((slot, self.run_of(span)?)))
    }
}

/// A slot with its keys.
type Slot<'a, 'v, K> = (u16, Run<'a, 'v, K>);

/// The last key that a walk has come to, if it could go on.
fn last_unless_at_end<K: ReadKeys>(
    last: Option<Key>,
    mut walked: Run<'_, '_, K>,
) -> Result<Option<Bytes>, K::Error> {
    let has_more = walked.next().transpose()?.is_some();
    Ok(last.filter(|_| has_more).map(|last| last.to_bytes()))
}

/// Hands those of `places` that make a page of about `want` to `take`, in order, and returns the
/// first place behind them. A page ends early with a key for which `take` is false. It never parts
/// equal places.
fn take_page(
    mut places: Vec<(u64, Key)>,
    want: usize,
    mut take: impl FnMut(&Key) -> bool,
) -> Option<u64> {
    // Most of a large slot is for later steps, so it is not sorted.
    let mut behind = None;
    if want < places.len() {
        let at = want.saturating_sub(1);
        let (_, (last, _), rest) = places.select_nth_unstable_by_key(at, |(place, _)| *place);
        let last = *last;
        behind = rest.iter().map(|(place, _)| *place).filter(|place| *place > last).min();
        places.retain(|(place, _)| *place <= last);
    }
    places.sort_unstable();
    let mut last = None;
    for (place, key) in places {
        if last.is_some_and(|last| place > last) {
            return Some(place);
        }
        if !take(&key) {
            last = Some(place);
        }
    }
    behind
}

/// Merges sorted runs by the clients' keys.
struct Merge<'a, 'v, K: ReadKeys> {
    partition: Partition,
    runs: Vec<Run<'a, 'v, K>>,
    heads: BinaryHeap<Reverse<Head>>,
}

/// The next entry of a run; ordered by the client's key first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    client_key: Bytes,
    run: usize,
    value: Option<Bytes>,
}

impl<'a, 'v, K: ReadKeys> Merge<'a, 'v, K> {
    fn new(partition: Partition, runs: Vec<Run<'a, 'v, K>>) -> Result<Self, K::Error> {
        let mut merge = Self { partition, heads: BinaryHeap::with_capacity(runs.len()), runs };
        for run in 0..merge.runs.len() {
            merge.refill(run)?;
        }
        Ok(merge)
    }

    fn refill(&mut self, run: usize) -> Result<(), K::Error> {
        if let Some(found) = self.runs[run].next() {
            let (key, value): Found = found?;
            let client_key = client_key(self.partition, &key);
            self.heads.push(Reverse(Head { client_key, run, value }));
        }
        Ok(())
    }

    /// The first of all that is left.
    fn peek(&self) -> Option<&Head> {
        self.heads.peek().map(|Reverse(head)| head)
    }

    fn pass(&mut self) -> Result<(), K::Error> {
        match self.heads.pop() {
            Some(Reverse(head)) => self.refill(head.run),
            None => Ok(()),
        }
    }
}

fn client_key(partition: Partition, stored: &Key) -> Bytes {
    Bytes::copy_from_slice(partition.client_key(stored))
}

#[cfg(test)]
mod tests;
