//! The commands to one database.

use crate::kv::clock::NEVER;
use crate::kv::database::Database;
use crate::kv::extended::{self, SumError};
use crate::kv::keys::{Entry, WriteKeys};
use crate::kv::message::{Answer, Command, Condition, Deadline, ExpireIf, Failure, Lifetime};
use crate::kv::number::parse_integer;
use crate::kv::state::questions::up_to;
use bytes::{Bytes, BytesMut};

/// The longest value that a command makes, whatever limit it carries: 512 MiB, as in Redis. Limits
/// are the settings of one node, and what a command says is a peer's word. This one is the same on
/// all replicas, and no replica fails for want of memory over a length that nobody meant.
pub(in crate::kv) const LONGEST_VALUE_BYTES: u64 = 512 << 20;

impl<K: WriteKeys> Database<K> {
    pub(super) fn execute(&mut self, command: Command) -> Result<Answer, K::Error> {
        match command {
            Command::Set { key, value, condition, want_old, lifetime } => {
                let done = self.set(&key, &condition, want_old)?;
                if let Answer::Stored { done: true, .. } = done {
                    self.put_for(key, K::kept(value), lifetime)?;
                }
                Ok(done)
            }
            Command::Expire { key, deadline, condition } => self.expire(key, deadline, condition),
            Command::Persist { key } => self.persist(key),
            Command::GetExpire { key, lifetime, limit_bytes } => {
                let answer = up_to(self.get(&key)?, limit_bytes);
                if let Answer::Value(Some(value)) = &answer {
                    self.put_for(key, value.clone(), lifetime)?;
                }
                Ok(answer)
            }
            Command::Delete { keys } => {
                let mut removed = 0;
                for key in &keys {
                    removed += i64::from(self.remove(key)?.is_some());
                }
                Ok(Answer::Integer(removed))
            }
            Command::Take { key, limit_bytes } => {
                let answer = up_to(self.get(&key)?, limit_bytes);
                if let Answer::Value(_) = answer {
                    self.remove(&key)?;
                }
                Ok(answer)
            }
            Command::Append { key, value, limit_bytes } => self.append(key, &value, limit_bytes),
            Command::SetRange { key, offset, value, limit_bytes } => {
                self.set_range(key, offset, &value, limit_bytes)
            }
            Command::Increment { key, by } => self.increment(key, by),
            Command::IncrementFloat { key, by } => self.increment_float(key, &by),
            Command::SetMany { pairs, only_if_missing } => self.set_many(pairs, only_if_missing),
            Command::Clear => {
                self.clear();
                Ok(Answer::Done)
            }
            Command::Rename { from, to, only_if_missing } => {
                self.rename(&from, to, only_if_missing)
            }
            // These concern the store as a whole.
            Command::Copy { .. } | Command::ClearAll | Command::Ask { .. } | Command::Tick => {
                Ok(Answer::Failed(Failure::Malformed))
            }
        }
    }

    /// What becomes of a SET. The value is put in its place by the caller.
    fn set(
        &self,
        key: &Bytes,
        condition: &Condition,
        want_old: Option<u64>,
    ) -> Result<Answer, K::Error> {
        // Most of a SET is the way to its key.
        let depends = want_old.is_some() || *condition != Condition::Always;
        let current = if depends { self.get(key)? } else { None };
        let done = match condition {
            Condition::Always => true,
            Condition::Missing => current.is_none(),
            Condition::Present => current.is_some(),
            Condition::Equals(expected) => current.as_ref() == Some(expected),
        };
        let Some(limit_bytes) = want_old else { return Ok(Answer::Stored { done, old: None }) };
        Ok(match up_to(current, limit_bytes) {
            Answer::Value(old) => Answer::Stored { done, old },
            withheld => withheld,
        })
    }

    fn put_for(&mut self, key: Bytes, value: Bytes, lifetime: Lifetime) -> Result<(), K::Error> {
        match lifetime {
            Lifetime::Endless => self.insert(key, value),
            Lifetime::Kept => self.update(key, value),
            Lifetime::Until(deadline) => {
                let deadline_ms = self.time_of(deadline);
                self.put(key, Entry { value, deadline_ms })
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

    fn expire(
        &mut self,
        key: Bytes,
        deadline: Deadline,
        condition: ExpireIf,
    ) -> Result<Answer, K::Error> {
        let Some(Entry { value, deadline_ms: old_ms }) = self.entry(&key)? else {
            return Ok(Answer::Integer(0));
        };
        let deadline_ms = self.time_of(deadline);
        let ExpireIf { endless, expiring, later, earlier } = condition;
        let is_endless = old_ms == NEVER;
        let holds = !(endless && !is_endless
            || expiring && is_endless
            || later && deadline_ms <= old_ms
            || earlier && deadline_ms >= old_ms);
        if holds {
            self.put(key, Entry { value, deadline_ms })?;
        }
        Ok(Answer::Integer(holds.into()))
    }

    fn persist(&mut self, key: Bytes) -> Result<Answer, K::Error> {
        let Some(entry) = self.entry(&key)?.filter(Entry::expires) else {
            return Ok(Answer::Integer(0));
        };
        self.insert(key, entry.value)?;
        Ok(Answer::Integer(1))
    }

    fn set_many(
        &mut self,
        pairs: Vec<(Bytes, Bytes)>,
        only_if_missing: bool,
    ) -> Result<Answer, K::Error> {
        if only_if_missing {
            for (key, _) in &pairs {
                if self.contains_key(key)? {
                    return Ok(Answer::Stored { done: false, old: None });
                }
            }
        }
        let mut pairs = pairs.into_iter();
        pairs.try_for_each(|(key, value)| self.insert(key, K::kept(value)))?;
        Ok(Answer::Stored { done: true, old: None })
    }

    fn append(&mut self, key: Bytes, value: &[u8], limit_bytes: u64) -> Result<Answer, K::Error> {
        let current = self.get(&key)?.unwrap_or_default();
        let length = current.len() + value.len();
        if length as u64 > limit_bytes.min(LONGEST_VALUE_BYTES) {
            return Ok(Answer::Failed(Failure::TooLong));
        }
        let mut joined = BytesMut::with_capacity(length);
        joined.extend_from_slice(&current);
        joined.extend_from_slice(value);
        self.update(key, joined.freeze())?;
        Ok(Answer::Integer(length as i64))
    }

    fn set_range(
        &mut self,
        key: Bytes,
        offset: u64,
        value: &[u8],
        limit_bytes: u64,
    ) -> Result<Answer, K::Error> {
        let current = self.get(&key)?.unwrap_or_default();
        if value.is_empty() {
            return Ok(Answer::Integer(current.len() as i64));
        }
        let end = offset.saturating_add(value.len() as u64);
        if end > limit_bytes.min(LONGEST_VALUE_BYTES) {
            return Ok(Answer::Failed(Failure::TooLong));
        }
        let (offset, end) = (offset as usize, end as usize);
        let mut patched = BytesMut::with_capacity(end.max(current.len()));
        patched.extend_from_slice(&current);
        patched.resize(end.max(current.len()), 0);
        patched[offset..end].copy_from_slice(value);
        let length = patched.len() as i64;
        self.update(key, patched.freeze())?;
        Ok(Answer::Integer(length))
    }

    fn increment(&mut self, key: Bytes, by: i64) -> Result<Answer, K::Error> {
        let current = match self.get(&key)? {
            None => 0,
            Some(value) => match parse_integer(&value) {
                Some(number) => number,
                None => return Ok(Answer::Failed(Failure::NotAnInteger)),
            },
        };
        let Some(sum) = current.checked_add(by) else {
            return Ok(Answer::Failed(Failure::Overflow));
        };
        self.update(key, Bytes::from(sum.to_string()))?;
        Ok(Answer::Integer(sum))
    }

    fn increment_float(&mut self, key: Bytes, by: &[u8]) -> Result<Answer, K::Error> {
        let current = self.get(&key)?.unwrap_or(Bytes::from_static(b"0"));
        match extended::sum(&current, by) {
            Ok(sum) => {
                let sum = Bytes::from(sum);
                self.update(key, sum.clone())?;
                Ok(Answer::Value(Some(sum)))
            }
            Err(SumError::NotAFloat) => Ok(Answer::Failed(Failure::NotAFloat)),
            Err(SumError::Infinite) => Ok(Answer::Failed(Failure::Infinite)),
        }
    }

    /// A key that gets its own name keeps its value.
    fn rename(
        &mut self,
        from: &Bytes,
        to: Bytes,
        only_if_missing: bool,
    ) -> Result<Answer, K::Error> {
        if !self.contains_key(from)? {
            return Ok(Answer::Failed(Failure::NoSuchKey));
        }
        if only_if_missing && self.contains_key(&to)? {
            return Ok(Answer::Integer(0));
        }
        if let Some(entry) = self.remove(from)? {
            self.put(to, entry)?;
        }
        Ok(Answer::Integer(1))
    }
}
