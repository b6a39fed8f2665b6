//! The commands to one database.

use crate::kv::clock::NEVER;
use crate::kv::entries::{Entries, Entry};
use crate::kv::extended::{self, SumError};
use crate::kv::message::{Answer, Command, Condition, Deadline, ExpireIf, Failure, Lifetime};
use crate::kv::number::parse_integer;
use crate::kv::store::questions::up_to;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;

/// The longest value that a command makes, whatever limit it carries: 512 MiB, as in Redis. Limits
/// are the settings of one node, and what a command says is a peer's word. This one is the same on
/// all replicas, and no replica fails for want of memory over a length that nobody meant.
pub(super) const LONGEST_VALUE_BYTES: u64 = 512 << 20;

impl Entries {
    pub(super) fn execute(&mut self, command: Command) -> Answer {
        match command {
            Command::Set { key, value, condition, want_old, lifetime } => {
                let done = self.set(&key, &condition, want_old);
                if let Answer::Stored { done: true, .. } = done {
                    self.put_for(key, value, lifetime);
                }
                done
            }
            Command::Expire { key, deadline, condition } => self.expire(key, deadline, condition),
            Command::Persist { key } => self.persist(key),
            Command::GetExpire { key, lifetime, limit_bytes } => {
                let answer = up_to(self.get(&key).cloned(), limit_bytes);
                if let Answer::Value(Some(value)) = &answer {
                    self.put_for(key, value.clone(), lifetime);
                }
                answer
            }
            Command::Delete { keys } => {
                let removed = keys.iter().filter(|key| self.remove(key).is_some());
                Answer::Integer(removed.count() as i64)
            }
            Command::Take { key, limit_bytes } => {
                let answer = up_to(self.get(&key).cloned(), limit_bytes);
                if let Answer::Value(_) = answer {
                    self.remove(&key);
                }
                answer
            }
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
            // These concern the store as a whole.
            Command::Copy { .. } | Command::ClearAll | Command::Ask { .. } | Command::Tick => {
                Answer::Failed(Failure::Malformed)
            }
        }
    }

    /// What becomes of a SET. The value is put in its place by the caller.
    fn set(&self, key: &Bytes, condition: &Condition, want_old: Option<u64>) -> Answer {
        // Most of a SET is the way to its key.
        let depends = want_old.is_some() || *condition != Condition::Always;
        let current = if depends { self.get(key) } else { None };
        let done = match condition {
            Condition::Always => true,
            Condition::Missing => current.is_none(),
            Condition::Present => current.is_some(),
            Condition::Equals(expected) => current == Some(expected),
        };
        let Some(limit_bytes) = want_old else { return Answer::Stored { done, old: None } };
        match up_to(current.cloned(), limit_bytes) {
            Answer::Value(old) => Answer::Stored { done, old },
            withheld => withheld,
        }
    }

    fn put_for(&mut self, key: Bytes, value: Bytes, lifetime: Lifetime) {
        match lifetime {
            Lifetime::Endless => self.insert(key, value),
            Lifetime::Kept => self.update(key, value),
            Lifetime::Until(deadline) => {
                let deadline_ms = self.time_of(deadline);
                self.put(key, Entry { value, deadline_ms });
            }
        }
    }

    /// A deadline by the clock of the group, which the stamp of the command has moved.
    fn time_of(&self, deadline: Deadline) -> u64 {
        let now = i64::try_from(self.clock_ms()).unwrap_or(i64::MAX);
        let time = match deadline {
            Deadline::At(time) => time,
            Deadline::In(time) => now.saturating_add(time),
        };
        u64::try_from(time).unwrap_or(0)
    }

    fn expire(&mut self, key: Bytes, deadline: Deadline, condition: ExpireIf) -> Answer {
        let Some(entry) = self.entry(&key) else { return Answer::Integer(0) };
        let (old_ms, new_ms) = (entry.deadline_ms, self.time_of(deadline));
        let ExpireIf { endless, expiring, later, earlier } = condition;
        let is_endless = old_ms == NEVER;
        let holds = !(endless && !is_endless
            || expiring && is_endless
            || later && new_ms <= old_ms
            || earlier && new_ms >= old_ms);
        if holds {
            let value = entry.value.clone();
            self.put(key, Entry { value, deadline_ms: new_ms });
        }
        Answer::Integer(holds.into())
    }

    fn persist(&mut self, key: Bytes) -> Answer {
        match self.entry(&key) {
            Some(entry) if entry.deadline_ms != NEVER => {
                let value = entry.value.clone();
                self.insert(key, value);
                Answer::Integer(1)
            }
            _ => Answer::Integer(0),
        }
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
        self.update(key, joined.freeze());
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
        self.update(key, patched.freeze());
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
        self.update(key, Bytes::from(sum.to_string()));
        Answer::Integer(sum)
    }

    fn increment_float(&mut self, key: Bytes, by: &[u8]) -> Answer {
        let current = self.get(&key).map_or(&b"0"[..], |value| &value[..]);
        match extended::sum(current, by) {
            Ok(sum) => {
                let sum = Bytes::from(sum);
                self.update(key, sum.clone());
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
        if let Some(entry) = self.remove(from) {
            self.put(to, entry);
        }
        Answer::Integer(1)
    }
}
