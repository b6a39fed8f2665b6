//! The queries to one database.

use super::listing::KeySpan;
use crate::kv::clock::{GroupTime, NEVER};
use crate::kv::database::{Database, View};
use crate::kv::footprint::entry_bytes;
use crate::kv::keys::ReadKeys;
use crate::kv::message::{Answer, Expiry, Failure, Query};
use bytes::Bytes;

impl<K: ReadKeys> Database<K> {
    /// Answers a query by the clock of the node, or without one by that of the group.
    pub(in crate::kv) fn ask(
        &self,
        query: &Query,
        time: Option<&GroupTime>,
    ) -> Result<Answer, K::Error> {
        // Most databases have no deadlines, and need no clock.
        let view = match time.filter(|_| self.keys().expiring() > 0) {
            Some(time) => View::at(self, time.now_ms()),
            None => View::settled(self),
        };
        let answer = view.answer(query)?;
        Ok(if view.is_late() { Answer::Late } else { answer })
    }
}

impl<K: ReadKeys> View<'_, K> {
    fn answer(&self, query: &Query) -> Result<Answer, K::Error> {
        match query {
            Query::Get { key, limit_bytes } => Ok(up_to(self.get(key)?, *limit_bytes)),
            Query::GetMany { keys, limit_bytes } => self.values(keys, *limit_bytes),
            Query::Exists { keys } => {
                let mut there = 0;
                for key in keys {
                    there += i64::from(self.entry(key)?.is_some());
                }
                Ok(Answer::Integer(there))
            }
            Query::Length { key } => {
                Ok(Answer::Integer(self.get(key)?.map_or(0, |value| value.len() as i64)))
            }
            Query::Slice { key, start, end, limit_bytes } => {
                let value = self.get(key)?.map(|value| slice(&value, *start, *end));
                Ok(up_to(Some(value.unwrap_or_default()), *limit_bytes))
            }
            Query::Usage { key } => {
                let bytes = |value: Bytes| entry_bytes(key.len(), value.len()) as i64;
                Ok(Answer::Integer(self.get(key)?.map_or(-1, bytes)))
            }
            Query::Expiry { key } => self.expiry(key),
            // It concerns the store as a whole.
            Query::Keyspace => Ok(Answer::Failed(Failure::Malformed)),
            Query::Beginning { key, bytes } => {
                let bytes = usize::try_from(*bytes).unwrap_or(usize::MAX);
                let beginning = |value: Bytes| value.slice(..bytes.min(value.len()));
                Ok(Answer::Value(self.get(key)?.map(beginning)))
            }
            Query::Random { partition, seed } => Ok(Answer::Value(self.random(*partition, *seed)?)),
            Query::Count => Ok(Answer::Integer(self.count() as i64)),
            Query::Scan { partition, from, until, count, pattern } => {
                let places = *from..until.unwrap_or(u64::MAX);
                self.scan(*partition, &places, *count, pattern.as_deref())
            }
            Query::Places { partition, from, until, after, pattern, limit_keys } => {
                let (places, pattern) = (*from..*until, pattern.as_deref());
                self.places(*partition, &places, after.as_ref(), pattern, *limit_keys)
            }
            Query::Keys { partition, after, pattern, limit_keys } => {
                self.keys(*partition, after.as_ref(), pattern, *limit_keys)
            }
            Query::Stretch { partition, start, after_start, end, limit_keys, with_names } => {
                let span = KeySpan { start, after_start: *after_start, end: end.as_deref() };
                self.stretch(*partition, span, *limit_keys, *with_names)
            }
            Query::Ordered { partition, start, after_start, end, limit_pairs, limit_bytes } => {
                let span = KeySpan { start, after_start: *after_start, end: end.as_deref() };
                self.ordered(*partition, span, *limit_pairs, *limit_bytes)
            }
        }
    }

    fn expiry(&self, key: &[u8]) -> Result<Answer, K::Error> {
        Ok(Answer::Expiry(match self.entry(key)?.map(|entry| entry.deadline_ms) {
            None => Expiry::Missing,
            Some(NEVER) => Expiry::Never,
            Some(deadline_ms) => {
                let left_ms = deadline_ms.saturating_sub(self.now_ms());
                Expiry::At { deadline_ms, left_ms }
            }
        }))
    }

    fn values(&self, keys: &[Bytes], limit_bytes: u64) -> Result<Answer, K::Error> {
        let mut left = limit_bytes;
        let mut values = Vec::new();
        for key in keys {
            let value = self.get(key)?;
            match left.checked_sub(value.as_ref().map_or(0, |value| value.len() as u64)) {
                Some(rest) => left = rest,
                None => break,
            }
            values.push(value);
        }
        Ok(Answer::Values(values))
    }
}

/// A value, unless it is longer than is wanted.
pub(super) fn up_to(value: Option<Bytes>, limit_bytes: u64) -> Answer {
    match value.as_ref().map(|value| value.len() as u64) {
        Some(bytes) if bytes > limit_bytes => Answer::Withheld { bytes },
        _ => Answer::Value(value),
    }
}

/// The bytes from `start` to `end`, both inclusive; negative offsets count from the end. As in
/// Redis's GETRANGE, an offset before the first byte means the first byte.
fn slice(value: &Bytes, start: i64, end: i64) -> Bytes {
    let length = value.len() as i64;
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let from_start = |offset: i64| {
        if offset < 0 { (length + offset).max(0) } else { offset }
    };
    let (start, end) = (from_start(start), from_start(end).min(length - 1));
    if start > end { Bytes::new() } else { value.slice(start as usize..=end as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_follow_getrange() {
        let value = Bytes::from_static(b"Hello World");
        for (start, end, expected) in [
            (0, 3, "Hell"),
            (0, -1, "Hello World"),
            (-4, -1, "orld"),
            (5, 3, ""),
            (5, 5000, " World"),
            (-5000, 10000, "Hello World"),
            (0, -100, "H"),
            (1, -100, ""),
            (-1, -100, ""),
            (-100, -99, "H"),
            (-100, -100, "H"),
            (-100, -101, ""),
            (i64::MIN, i64::MAX, "Hello World"),
        ] {
            assert_eq!(slice(&value, start, end), expected, "{start} {end}");
        }
        assert_eq!(slice(&Bytes::new(), 0, -1), "");
    }
}
