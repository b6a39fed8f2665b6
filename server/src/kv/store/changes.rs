//! The commands to one database.

use crate::kv::entries::Entries;
use crate::kv::extended::{self, SumError};
use crate::kv::message::{Answer, Command, Condition, Failure};
use crate::kv::number::parse_integer;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;

/// The longest value that a command makes, whatever limit it carries: 512 MiB, as in Redis. Limits
/// are the settings of one node, and what a command says is a peer's word. This one is the same on
/// all replicas, and no replica fails for want of memory over a length that nobody meant.
pub(super) const LONGEST_VALUE_BYTES: u64 = 512 << 20;

impl Entries {
    pub(super) fn execute(&mut self, command: Command) -> Answer {
        match command {
            Command::Set { key, value, condition, want_old } => {
                self.set(key, value, &condition, want_old)
            }
            Command::Delete { keys } => {
                let removed = keys.iter().filter(|key| self.remove(key).is_some());
                Answer::Integer(removed.count() as i64)
            }
            Command::Take { key } => Answer::Value(self.remove(&key)),
            Command::Append { key, value, limit_bytes } => self.append(key, &value, limit_bytes),
            Command::SetRange { key, offset, value, limit_bytes } => {
                self.set_range(key, offset, &value, limit_bytes)
            }
            Command::Increment { key, by } => self.increment(key, by),
            Command::IncrementFloat { key, by } => self.increment_float(key, &by),
            Command::SetMany { pairs, only_if_missing } => self.set_many(pairs, only_if_missing),
            Command::Clear => {
                self.replace(BTreeMap::new());
                Answer::Done
            }
            Command::Rename { from, to, only_if_missing } => {
                self.rename(&from, to, only_if_missing)
            }
            // These concern other databases as well.
            Command::Copy { .. } | Command::ClearAll => Answer::Failed(Failure::Malformed),
        }
    }

    fn set(&mut self, key: Bytes, value: Bytes, condition: &Condition, want_old: bool) -> Answer {
        // Most of a SET is the way to its key.
        let depends = want_old || *condition != Condition::Always;
        let current = if depends { self.get(&key) } else { None };
        let done = match condition {
            Condition::Always => true,
            Condition::Missing => current.is_none(),
            Condition::Present => current.is_some(),
            Condition::Equals(expected) => current == Some(expected),
        };
        let old = if want_old { current.cloned() } else { None };
        if done {
            self.insert(key, value);
        }
        Answer::Stored { done, old }
    }

    fn set_many(&mut self, pairs: Vec<(Bytes, Bytes)>, only_if_missing: bool) -> Answer {
        let done = !only_if_missing || pairs.iter().all(|(key, _)| !self.contains_key(key));
        if done {
            pairs.into_iter().for_each(|(key, value)| self.insert(key, value));
        }
        Answer::Stored { done, old: None }
    }

    fn append(&mut self, key: Bytes, value: &[u8], limit_bytes: u64) -> Answer {
        let current = self.get(&key).map_or(&[][..], |value| &value[..]);
        let length = current.len() + value.len();
        if length as u64 > limit_bytes.min(LONGEST_VALUE_BYTES) {
            return Answer::Failed(Failure::TooLong);
        }
        let mut joined = BytesMut::with_capacity(length);
        joined.extend_from_slice(current);
        joined.extend_from_slice(value);
        self.insert(key, joined.freeze());
        Answer::Integer(length as i64)
    }

    fn set_range(&mut self, key: Bytes, offset: u64, value: &[u8], limit_bytes: u64) -> Answer {
        let current = self.get(&key).map_or(&[][..], |value| &value[..]);
        if value.is_empty() {
            return Answer::Integer(current.len() as i64);
        }
        let end = offset.saturating_add(value.len() as u64);
        if end > limit_bytes.min(LONGEST_VALUE_BYTES) {
            return Answer::Failed(Failure::TooLong);
        }
        let (offset, end) = (offset as usize, end as usize);
        let mut patched = BytesMut::with_capacity(end.max(current.len()));
        patched.extend_from_slice(current);
        patched.resize(end.max(current.len()), 0);
        patched[offset..end].copy_from_slice(value);
        let length = patched.len() as i64;
        self.insert(key, patched.freeze());
        Answer::Integer(length)
    }

    fn increment(&mut self, key: Bytes, by: i64) -> Answer {
        let current = match self.get(&key) {
            None => 0,
            Some(value) => match parse_integer(value) {
                Some(number) => number,
                None => return Answer::Failed(Failure::NotAnInteger),
            },
        };
        let Some(sum) = current.checked_add(by) else {
            return Answer::Failed(Failure::Overflow);
        };
        self.insert(key, Bytes::from(sum.to_string()));
        Answer::Integer(sum)
    }

    fn increment_float(&mut self, key: Bytes, by: &[u8]) -> Answer {
        let current = self.get(&key).map_or(&b"0"[..], |value| &value[..]);
        match extended::sum(current, by) {
            Ok(sum) => {
                let sum = Bytes::from(sum);
                self.insert(key, sum.clone());
                Answer::Value(Some(sum))
            }
            Err(SumError::NotAFloat) => Answer::Failed(Failure::NotAFloat),
            Err(SumError::Infinite) => Answer::Failed(Failure::Infinite),
        }
    }

    /// A key that gets its own name keeps its value.
    fn rename(&mut self, from: &Bytes, to: Bytes, only_if_missing: bool) -> Answer {
        if !self.contains_key(from) {
            return Answer::Failed(Failure::NoSuchKey);
        }
        if only_if_missing && self.contains_key(&to) {
            return Answer::Integer(0);
        }
        if let Some(value) = self.remove(from) {
            self.insert(to, value);
        }
        Answer::Integer(1)
    }
}
