//! Whether keys expire as they should: at one index, for good, and not early.
//!
//! The book carries out the committed commands on a model of its own. It goes by the clock of the
//! group, which is the latest time of any command so far, and by the deadlines as they were asked
//! for.

use crate::sim::host::{FOUNDED_MS, HOUR_MS};
use crate::sim::key_machine::{KeyEvent, LONGEST_VALUE_BYTES, count_of};
use bytes::Bytes;
use logboat_server::kv::{
    Answer, Command, Deadline, ExpireIf, Expiry, GroupTime, Lifetime, NodeClock, Proposal, Query,
    Question, Store,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of the keys of a group.
#[derive(Debug)]
pub(super) struct KeyBook {
    /// The clock of the group before the first command, and after each.
    clocks: Vec<u64>,
    /// What the first replica answered to each command.
    answers: Vec<Bytes>,
    /// What was written of each key, in order.
    keys: BTreeMap<Bytes, Vec<Version>>,
}

/// What a key is from a command on.
#[derive(Debug)]
struct Version {
    /// How many commands there are with that one.
    since: u64,
    entry: Option<Entry>,
    /// The state (by its commands) of the earliest read that saw it expired.
    gone: Option<u64>,
}

/// A value, and when it expires if it does.
#[derive(Clone, Debug)]
struct Entry {
    value: Bytes,
    deadline_ms: Option<u64>,
}

impl Default for KeyBook {
    fn default() -> Self {
        Self { clocks: vec![0], answers: Vec::new(), keys: BTreeMap::new() }
    }
}

impl KeyBook {
    /// A replica's store has done this, at a moment in microseconds.
    ///
    /// # Panics
    /// When it must not.
    pub(super) fn happened(&mut self, event: KeyEvent, now_us: u64) {
        match event {
            KeyEvent::Stamped { stamp_ms: None, .. } => {}
            KeyEvent::Stamped { stamp_ms: Some(stamp_ms), applied_ms } => {
                assert!(
                    stamp_ms >= applied_ms,
                    "a leader goes back by {} ms behind the clock of its group",
                    applied_ms - stamp_ms
                );
                let right_ms = FOUNDED_MS + now_us / 1_000;
                assert!(
                    stamp_ms < right_ms + HOUR_MS / 2,
                    "a leader writes a time that is {} ms ahead",
                    stamp_ms - right_ms
                );
            }
            KeyEvent::Applied { number, command, answer } => self.applied(number, command, answer),
            KeyEvent::Answered { count, query, answer, now_ms } => {
                let answer = Answer::decode(&answer).expect("stores answer");
                if answer != Answer::Late {
                    self.answered(count, &query, answer, Some(now_ms));
                }
            }
        }
    }

    /// A snapshot holds the keys as they were after the commands that it reflects.
    ///
    /// # Panics
    /// When it does not.
    pub(super) fn snapshot_is(&mut self, mut content: &[u8]) {
        let time = GroupTime::new(Arc::new(NodeClock::manual(0)));
        let mut store = Store::timed(Arc::default(), Arc::new(time));
        store.restore(&mut content).expect("a snapshot can be taken over");
        let count = count_of(&|query: &Bytes| store.query(query));
        for key in self.keys.keys().cloned().collect::<Vec<_>>() {
            let query = Query::Get { key, limit_bytes: LONGEST_VALUE_BYTES }.encode();
            let answer = Answer::decode(&store.query(&query)).expect("stores answer");
            self.answered(count, &query, answer, None);
        }
    }

    fn applied(&mut self, number: u64, command: Bytes, answer: Bytes) {
        if let Some(known) = self.answers.get(number as usize) {
            assert_eq!(*known, answer, "two replicas answer command {number} differently");
            return;
        }
        let Proposal { stamp_ms, command, .. } =
            Proposal::decode(&command).expect("clients send commands");
        let before_ms = self.clock_ms();
        self.clocks.push(before_ms.max(stamp_ms.unwrap_or(0)));
        let told = Answer::decode(&answer).expect("stores answer");
        self.answers.push(answer);
        match command {
            Command::Ask { query } => self.answered(number + 1, &query, told, None),
            command => {
                let text = format!("{command:?}");
                let expected = self.execute(number + 1, command);
                assert_eq!(told, expected, "the answer to {text} at {} ms", self.clock_ms());
            }
        }
    }

    /// The clock of the group.
    fn clock_ms(&self) -> u64 {
        self.clocks[self.clocks.len() - 1]
    }

    /// Carries out a command, the one with this number from 1 on.
    fn execute(&mut self, number: u64, command: Command) -> Answer {
        match command {
            Command::Set { key, value, lifetime, .. } => {
                let deadline_ms = match lifetime {
                    Lifetime::Endless => None,
                    Lifetime::Kept => self.present(&key).and_then(|entry| entry.deadline_ms),
                    Lifetime::Until(deadline) => Some(self.time_of(deadline)),
                };
                self.write(number, key, Some(Entry { value, deadline_ms }));
                Answer::Stored { done: true, old: None }
            }
            Command::Expire { key, deadline, condition } => {
                let new_ms = self.time_of(deadline);
                let Some(entry) = self.present(&key) else { return Answer::Integer(0) };
                if !holds(condition, entry.deadline_ms, new_ms) {
                    return Answer::Integer(0);
                }
                self.write(number, key, Some(Entry { deadline_ms: Some(new_ms), ..entry }));
                Answer::Integer(1)
            }
            Command::Persist { key } => {
                let entry = self.present(&key).filter(|entry| entry.deadline_ms.is_some());
                let Some(entry) = entry else { return Answer::Integer(0) };
                self.write(number, key, Some(Entry { deadline_ms: None, ..entry }));
                Answer::Integer(1)
            }
            Command::Delete { keys } => {
                let mut count = 0;
                for key in keys {
                    count += i64::from(self.present(&key).is_some());
                    self.write(number, key, None);
                }
                Answer::Integer(count)
            }
            Command::Tick => Answer::Done,
            other => unreachable!("no client sends {other:?}"),
        }
    }

    /// A deadline, by the clock of the group.
    fn time_of(&self, deadline: Deadline) -> u64 {
        match deadline {
            Deadline::At(time_ms) => time_ms as u64,
            Deadline::In(left_ms) => self.clock_ms().saturating_add_signed(left_ms),
        }
    }

    /// What a key holds now, if it has not expired.
    fn present(&self, key: &[u8]) -> Option<Entry> {
        let entry = self.keys.get(key)?.last()?.entry.clone()?;
        let clock_ms = self.clock_ms();
        entry.deadline_ms.is_none_or(|deadline_ms| deadline_ms > clock_ms).then_some(entry)
    }

    /// A key is this from now on. What has expired by then was never there.
    fn write(&mut self, number: u64, key: Bytes, entry: Option<Entry>) {
        let clock_ms = self.clock_ms();
        let lives = |entry: &Entry| entry.deadline_ms.is_none_or(|it| it > clock_ms);
        let version = Version { since: number, entry: entry.filter(lives), gone: None };
        self.keys.entry(key).or_default().push(version);
    }

    /// A replica has answered a query from its state after so many commands: as a command, or on a
    /// node whose clock shows `now_ms`.
    fn answered(&mut self, count: u64, query: &[u8], answer: Answer, now_ms: Option<u64>) {
        let clock_ms = self.clocks[count as usize];
        match (Question::decode(query).expect("clients send queries").query, answer) {
            (Query::Get { key, .. }, Answer::Value(seen)) => {
                self.read(&key, count, seen.as_ref(), now_ms);
            }
            (Query::Expiry { key }, Answer::Expiry(expiry)) => {
                let entry = self.read_is_there(&key, count, expiry != Expiry::Missing, now_ms);
                let expected = match entry.map(|entry| entry.deadline_ms) {
                    None => Expiry::Missing,
                    Some(None) => Expiry::Never,
                    Some(Some(deadline_ms)) => {
                        let now_ms = now_ms.map_or(clock_ms, |now_ms| now_ms.max(clock_ms));
                        Expiry::At { deadline_ms, left_ms: deadline_ms.saturating_sub(now_ms) }
                    }
                };
                assert!(is_same(expiry, expected), "{key:?} is said to expire {expiry:?}");
            }
            (query, answer) => panic!("{query:?} is answered {answer:?}"),
        }
    }

    /// A read found this value, or none, in the state after so many commands.
    fn read(&mut self, key: &Bytes, count: u64, seen: Option<&Bytes>, now_ms: Option<u64>) {
        let entry = self.read_is_there(key, count, seen.is_some(), now_ms);
        let held = entry.map(|entry| entry.value);
        assert_eq!(seen, held.as_ref(), "{key:?} is read after {count} commands");
    }

    /// A read found a key there, or not, in the state after so many commands. Returns what it has
    /// found.
    ///
    /// # Panics
    /// When it sees a key after a read that saw it expired, or when the key is gone before its
    /// deadline by the clock of the group.
    fn read_is_there(
        &mut self,
        key: &Bytes,
        count: u64,
        is_there: bool,
        now_ms: Option<u64>,
    ) -> Option<Entry> {
        let clock_ms = self.clocks[count as usize];
        let versions = self.keys.get_mut(key).map_or(&mut [][..], |versions| &mut versions[..]);
        let version = versions.iter_mut().rfind(|version| version.since <= count);
        let entry = version.as_ref().and_then(|version| version.entry.clone());
        let (Some(version), Some(entry)) = (version, entry) else {
            assert!(!is_there, "{key:?} is read after {count} commands, and is not there");
            return None;
        };
        let deadline_ms = entry.deadline_ms.unwrap_or(u64::MAX);
        if !is_there {
            assert!(
                deadline_ms <= clock_ms,
                "{key:?} expires {} ms earlier than asked, by the clock of the group",
                deadline_ms - clock_ms
            );
            version.gone = Some(version.gone.map_or(count, |gone| gone.min(count)));
            return None;
        }
        assert!(
            version.gone.is_none_or(|gone| count < gone),
            "a read sees {key:?} after a read that saw it expired"
        );
        let behind_ms = clock_ms.max(now_ms.unwrap_or(0)).saturating_sub(deadline_ms);
        assert!(
            deadline_ms > clock_ms && behind_ms == 0,
            "a read sees {key:?} {behind_ms} ms behind its deadline"
        );
        Some(entry)
    }
}

/// Whether a deadline may take the place of another one.
fn holds(condition: ExpireIf, old_ms: Option<u64>, new_ms: u64) -> bool {
    let ExpireIf { endless, expiring, later, earlier } = condition;
    (!endless || old_ms.is_none())
        && (!expiring || old_ms.is_some())
        && (!later || old_ms.is_some_and(|old_ms| new_ms > old_ms))
        && (!earlier || old_ms.is_none_or(|old_ms| new_ms < old_ms))
}

/// Whether a deadline is the expected one. How long it is until then may be less than expected: the
/// node may know that the clock of its group is ahead of its own.
fn is_same(expiry: Expiry, expected: Expiry) -> bool {
    match (expiry, expected) {
        (
            Expiry::At { deadline_ms, left_ms },
            Expiry::At { deadline_ms: expected_ms, left_ms: most_ms },
        ) => deadline_ms == expected_ms && left_ms <= most_ms,
        (expiry, expected) => expiry == expected,
    }
}
