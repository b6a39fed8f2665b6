//! What a group's commands and queries do, over [keys](super::keys) of either kind.

mod changes;
mod listing;
#[cfg(test)]
mod model;
mod questions;

#[cfg(test)]
pub(super) use self::changes::LONGEST_VALUE_BYTES;
pub(crate) use self::listing::PAGE_BYTES;
use super::clock::{GroupTime, LATEST_MS, NEVER};
use super::database::Database;
use super::keys::{ReadKeys, WriteKeys};
use super::message::{
    Answer, Command, DATABASES, DatabaseSize, Failure, Proposal, Query, Question, needs_stamp,
};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

/// The databases of one group. Everything that depends on what is stored is decided here, by
/// [`apply`](Self::apply), in the order of the log.
#[derive(Debug)]
pub(super) struct State<K> {
    databases: [Database<K>; DATABASES as usize],
    /// The time: the state moves the group's clock, and reads that of the node.
    time: Arc<GroupTime>,
    /// No sweep begins before this time of the group.
    rest_until_ms: u64,
}

/// What a sweep may spend for each tick, in keys that it looks at. To remove the 512 keys of this
/// takes a fraction of a millisecond in memory, so nobody waits for long. How many ticks there are
/// depends on how long they take: see [`timekeeper`](crate::timekeeper).
const SPENT_BY_TICK: usize = 4_096;

/// What a sweep may spend for each other command that has a time. A command brings one key that
/// expires, at the most. This removes two, or looks at 16. So those that have expired are never
/// more than about an eighth of the others, however many commands come and whatever ticks do.
const SPENT_BY_COMMAND: usize = 16;

/// After a tick that has found too few expired keys for a sweep, the next comes after this time.
const REST_MS: u64 = 1_000;

/// The sizes of the databases, by how many keys each has and how many of these expire.
pub(super) fn keyspace(sizes: impl Iterator<Item = (u64, u64)>) -> Answer {
    let sizes = (0..DATABASES).zip(sizes);
    let sizes = sizes.map(|(database, (keys, expiring))| DatabaseSize { database, keys, expiring });
    Answer::Keyspace(sizes.filter(|size| size.keys > 0).collect())
}

impl<K> State<K> {
    /// The group's clock and that of the node.
    pub(super) const fn time(&self) -> &Arc<GroupTime> {
        &self.time
    }
}

impl<K: ReadKeys> State<K> {
    /// Answers an encoded [`Query`](super::Query) with an encoded [`Answer`].
    pub(super) fn query(&self, query: &Bytes) -> Result<Bytes, K::Error> {
        let answer = match Question::decode_shared(query) {
            Ok(question) => self.ask(&question, Some(&self.time))?,
            Err(_) => Answer::Failed(Failure::Malformed),
        };
        Ok(answer.encode())
    }

    /// Answers a question by the clock of the node, or without one by that of the group.
    fn ask(
        &self,
        Question { database, query }: &Question,
        time: Option<&GroupTime>,
    ) -> Result<Answer, K::Error> {
        match query {
            Query::Keyspace => {
                Ok(keyspace(self.keys().map(|keys| (keys.count(), keys.expiring()))))
            }
            query => self.database(*database).ask(query, time),
        }
    }

    /// The clock of the group.
    pub(super) fn clock_ms(&self) -> u64 {
        self.databases[0].clock_ms()
    }

    /// All databases in the order of their numbers.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.databases.iter().map(Database::keys)
    }

    fn database(&self, number: u8) -> &Database<K> {
        &self.databases[usize::from(number)]
    }

    fn database_mut(&mut self, number: u8) -> &mut Database<K> {
        &mut self.databases[usize::from(number)]
    }
}

impl<K: WriteKeys> State<K> {
    /// The state with these databases, at this time of the group.
    pub(super) fn new(keys: [K; DATABASES as usize], time: Arc<GroupTime>, clock_ms: u64) -> Self {
        let databases = keys.map(|keys| Database::new(keys, clock_ms));
        let state = Self { databases, time, rest_until_ms: 0 };
        state.time.set_group(clock_ms);
        state.tell_next();
        state
    }

    pub(super) fn keys_mut(&mut self) -> impl Iterator<Item = &mut K> {
        self.databases.iter_mut().map(Database::keys_mut)
    }

    /// The databases have been replaced by those of another state, at this time of the group.
    pub(super) fn replaced(&mut self, clock_ms: u64) {
        self.databases.iter_mut().for_each(|database| database.set_clock(clock_ms));
        self.rest_until_ms = 0;
        self.time.set_group(clock_ms);
        self.tell_next();
    }

    /// Carries out an encoded [`Command`] and returns the encoded [`Answer`]. Deterministic and
    /// total: bytes that are no command change nothing and answer [`Failure::Malformed`]. So does a
    /// command that goes by the time and has none: it would be carried out at the time of the
    /// last one that had, and a key expire before its deadline.
    pub(super) fn apply(&mut self, command: &Bytes) -> Result<Bytes, K::Error> {
        let answer = match Proposal::decode_shared(command) {
            Ok(_) if needs_stamp(command) => Answer::Failed(Failure::Malformed),
            Ok(Proposal { stamp_ms, database, command }) => {
                let is_tick = matches!(command, Command::Tick);
                stamp_ms.into_iter().for_each(|stamp_ms| self.move_clock(stamp_ms));
                let answer = self.execute(database, command)?;
                match stamp_ms {
                    Some(_) if is_tick => self.sweep_for_tick()?,
                    Some(_) => drop(self.sweep(SPENT_BY_COMMAND)?),
                    None => {}
                }
                // Only commands with a time bring a first deadline.
                if stamp_ms.is_some() || self.time.has_deadlines() {
                    self.tell_next();
                }
                answer
            }
            Err(_) => Answer::Failed(Failure::Malformed),
        };
        Ok(answer.encode())
    }

    /// Moves the clock of the group, never back, and never to where no leader's clock is.
    fn move_clock(&mut self, stamp_ms: u64) {
        if stamp_ms > self.clock_ms() && stamp_ms <= LATEST_MS {
            self.databases.iter_mut().for_each(|database| database.set_clock(stamp_ms));
            self.time.set_group(stamp_ms);
        }
    }

    /// Removes some of the keys that have expired, for so much at the most. Returns what is left of
    /// that.
    fn sweep(&mut self, mut budget: usize) -> Result<usize, K::Error> {
        self.databases.iter_mut().try_for_each(|database| database.sweep(&mut budget))?;
        Ok(budget)
    }

    /// The same for a tick. How long it takes decides when the node's next ticks are, and nothing
    /// here.
    fn sweep_for_tick(&mut self) -> Result<(), K::Error> {
        let started = Instant::now();
        if self.sweep(SPENT_BY_TICK)? == SPENT_BY_TICK {
            self.rest_until_ms = self.clock_ms().saturating_add(REST_MS);
        }
        self.time.note_sweep(started.elapsed());
        Ok(())
    }

    /// Tells those who write the time into the log when they have to.
    fn tell_next(&self) {
        let earliest = self.keys().filter_map(WriteKeys::earliest_ms).min();
        let next_tick = match self.keys().filter_map(WriteKeys::next_sweep_ms).min() {
            None => NEVER,
            Some(0) => 0,
            Some(next_ms) => next_ms.max(self.rest_until_ms),
        };
        self.time.set_next(earliest.unwrap_or(NEVER), next_tick);
    }

    fn execute(&mut self, database: u8, command: Command) -> Result<Answer, K::Error> {
        match command {
            Command::Copy { from, to, to_database, replace, limit_bytes } => {
                let entry = self.database(database).entry(&from)?;
                let target = self.database_mut(to_database);
                let Some(entry) = entry else { return Ok(Answer::Integer(0)) };
                if !replace && target.contains_key(&to)? {
                    return Ok(Answer::Integer(0));
                }
                let bytes = entry.value.len() as u64;
                if bytes > limit_bytes {
                    return Ok(Answer::Withheld { bytes });
                }
                target.put(to, entry)?;
                Ok(Answer::Integer(1))
            }
            Command::ClearAll => {
                self.databases.iter_mut().for_each(Database::clear);
                Ok(Answer::Done)
            }
            Command::Ask { query } => match Question::decode(&query) {
                Ok(question) => self.ask(&question, None),
                Err(_) => Ok(Answer::Failed(Failure::Malformed)),
            },
            Command::Tick => Ok(Answer::Done),
            command => self.database_mut(database).execute(command),
        }
    }
}
