//! The commands that a state machine is given together.

use crate::replica::call::Outcome;
use bytes::Bytes;
use logboat_raft::{Configuration, Entries, Entry, EntryKind, LogId};
use smallvec::IntoIter;
use std::time::Duration;

/// A committed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its entry in the group's log. Ids grow from one command to the next, with gaps: the log also
    /// holds entries of its own.
    pub id: LogId,
    /// What was proposed.
    pub data: Bytes,
}

/// Why a state machine does not go on with a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It can't go on. This replica stops with the reason; the others of the group go on.
    #[error("{0}")]
    Fail(String),
    /// It can't go on now, since a disk is behind or full. It is given the batch again after this
    /// time, from the first command on that has no answer. Until then the replica applies nothing.
    #[error("try again in {0:?}")]
    Retry(Duration),
}

/// Committed commands in their order, each of which is to be answered.
///
/// [`take`](Self::take) hands out the next command, and [`answer`](Self::answer) answers it. A
/// state machine that may have to [try again](ApplyError::Retry) [looks](Self::peek) at a command,
/// applies it, and answers it only then: what was taken is not given again.
pub struct CommandBatch<'a> {
    entries: IntoIter<[Entry; 1]>,
    outcomes: &'a mut Vec<Outcome>,
    /// The command that was taken and has no answer.
    taken: Option<LogId>,
    last: LogId,
    /// What is wrong with an entry.
    damage: Option<String>,
}

impl<'a> CommandBatch<'a> {
    /// The commands among these entries. What comes of them goes to `outcomes`.
    pub(crate) fn new(entries: Entries, outcomes: &'a mut Vec<Outcome>) -> Self {
        let last = entries.last().map(Entry::id).unwrap_or_default();
        Self { entries: entries.into_iter(), outcomes, taken: None, last, damage: None }
    }

    /// The entry after which the state stands when the batch is applied. It is that of the last
    /// command, or a later one that holds no command.
    #[must_use]
    pub const fn last(&self) -> LogId {
        self.last
    }

    /// The next command, which stays where it is until it is answered.
    pub fn peek(&mut self) -> Option<(LogId, &Bytes)> {
        self.pass();
        let next = self.entries.as_slice().first();
        next.filter(|entry| entry.kind == EntryKind::Command).map(|entry| (entry.id(), &entry.data))
    }

    /// The next command.
    pub fn take(&mut self) -> Option<Command> {
        self.pass();
        let is_command = |entry: &Entry| entry.kind == EntryKind::Command;
        if !self.entries.as_slice().first().is_some_and(is_command) {
            return None;
        }
        let entry = self.entries.next()?;
        self.taken = Some(entry.id());
        Some(Command { id: entry.id(), data: entry.data })
    }

    /// Answers the command that was taken, or else the one that comes next.
    pub fn answer(&mut self, answer: Bytes) {
        let next = || self.entries.next().map(|entry| entry.id());
        if let Some(id) = self.taken.take().or_else(next) {
            self.outcomes.push(Outcome::Applied { id, answer: Some(answer) });
        }
    }

    /// Passes entries that hold no command.
    fn pass(&mut self) {
        while let Some(entry) = self.entries.as_slice().first()
            && entry.kind != EntryKind::Command
            && self.damage.is_none()
        {
            match passed(entry) {
                Ok(outcome) => self.outcomes.push(outcome),
                Err(damage) => self.damage = Some(damage),
            }
            self.entries.next();
        }
    }

    /// Where it is, for messages.
    pub(crate) fn position(&self) -> LogId {
        let next = || self.entries.as_slice().first().map(Entry::id);
        self.taken.or_else(next).unwrap_or(self.last)
    }

    /// What came of it, by what the state machine says.
    pub(crate) fn end(mut self, result: Result<(), ApplyError>) -> Ended {
        self.pass();
        match (self.damage, result) {
            (Some(damage), _) => Ended::Failed(damage),
            (None, Err(ApplyError::Fail(reason))) => {
                Ended::Failed(format!("its state machine gave up: {reason}"))
            }
            (None, Err(ApplyError::Retry(after))) if self.taken.is_none() => {
                Ended::Retry { after, entries: self.entries.collect() }
            }
            (None, Ok(())) if self.taken.is_none() && self.entries.as_slice().is_empty() => {
                Ended::Applied
            }
            (None, _) => Ended::Failed("its state machine left a command unanswered".to_owned()),
        }
    }
}

/// What came of a batch.
pub(crate) enum Ended {
    Applied,
    /// The rest is to be applied later.
    Retry {
        after: Duration,
        entries: Entries,
    },
    Failed(String),
}

/// What comes of an entry that holds no command, or one whose command is applied already.
pub(crate) fn passed(entry: &Entry) -> Result<Outcome, String> {
    let id = entry.id();
    match entry.kind {
        EntryKind::Noop | EntryKind::Command => Ok(Outcome::Applied { id, answer: None }),
        EntryKind::Configuration => {
            let configuration = Configuration::decode(&entry.data);
            let configuration = configuration.map_err(|error| format!("at {id}: {error}"))?;
            Ok(Outcome::Configured { id, configuration: configuration.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::{Index, Term};

    fn entries(kinds: &[EntryKind]) -> Entries {
        let entry = |(offset, kind): (usize, &EntryKind)| {
            let id = LogId::new(Term(1), Index(offset as u64 + 1));
            let data = Bytes::from(vec![offset as u8]);
            Entry { term: id.term, index: id.index, kind: *kind, checksum: 0, data }
        };
        kinds.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn commands_come_in_order_and_what_lies_between_them_is_passed() {
        let mut outcomes = Vec::new();
        let kinds = [EntryKind::Noop, EntryKind::Command, EntryKind::Noop, EntryKind::Command];
        let mut batch = CommandBatch::new(entries(&kinds), &mut outcomes);
        assert_eq!(batch.last().index, Index(4));
        assert_eq!(batch.peek().map(|(id, _)| id.index), Some(Index(2)));
        batch.answer(Bytes::from_static(b"two"));
        let command = batch.take().unwrap();
        assert_eq!((command.id.index, &command.data[..]), (Index(4), &[3][..]));
        batch.answer(Bytes::from_static(b"four"));
        assert_eq!(batch.take(), None);
        assert!(matches!(batch.end(Ok(())), Ended::Applied));
        let seen = outcomes.iter().map(|outcome| match outcome {
            Outcome::Applied { id, answer } => (id.index.0, answer.is_some()),
            _ => panic!("nothing else"),
        });
        assert_eq!(seen.collect::<Vec<_>>(), [(1, false), (2, true), (3, false), (4, true)]);
    }

    #[test]
    fn what_is_not_answered_is_given_again_or_is_an_error() {
        let kinds = [EntryKind::Command, EntryKind::Command, EntryKind::Noop];
        let retry = || Err(ApplyError::Retry(Duration::from_secs(1)));
        let mut outcomes = Vec::new();
        let mut batch = CommandBatch::new(entries(&kinds), &mut outcomes);
        batch.take();
        batch.answer(Bytes::new());
        batch.peek();
        let Ended::Retry { entries: rest, .. } = batch.end(retry()) else { panic!("a retry") };
        assert_eq!(rest.iter().map(|entry| entry.index.0).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(outcomes.len(), 1);
        let mut taken = CommandBatch::new(entries(&kinds), &mut outcomes);
        taken.take();
        assert!(matches!(taken.end(retry()), Ended::Failed(_)));
        let left = CommandBatch::new(entries(&kinds), &mut outcomes);
        assert!(matches!(left.end(Ok(())), Ended::Failed(_)));
    }
}
