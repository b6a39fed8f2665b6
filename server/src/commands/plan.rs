//! What a command does next: reply, ask one range of the store, or go its own way.

use super::context::Outcome;
use super::error::CommandError;
use crate::backend::{Access, RangeId};
use crate::kv::{Answer, Command, Query};
use bytes::Bytes;
use std::fmt;
use std::pin::Pin;

/// What a command does when its arguments are understood.
pub(super) enum Step<'a> {
    /// It replies, and neither asks the store nor changes the connection.
    Reply(Outcome),
    /// It asks one range of the store, beside other commands of its connection.
    Store(Plan),
    /// It runs alone: nothing before it is under way, and nothing behind it has begun. Nothing is
    /// done until this is awaited.
    Alone(Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>),
}

impl<'a> Step<'a> {
    pub(super) fn alone(outcome: impl Future<Output = Outcome> + Send + 'a) -> Self {
        Self::Alone(Box::pin(outcome))
    }
}

/// How the store's answer becomes the reply.
pub(super) type Shape = fn(Answer) -> Outcome;

/// A command that asks one range of the store, or the reason why it does not.
pub(super) type Planned = Result<Plan, CommandError>;

/// One request to one range, and how its answer becomes the reply.
pub(super) struct Plan {
    pub(super) range: RangeId,
    pub(super) ask: Ask,
    pub(super) shape: Shape,
}

/// A request to a range.
pub(super) enum Ask {
    Write(Command),
    Read(Query),
    /// A query that came late: see [`Answer::Late`].
    LateRead(Query),
}

impl Plan {
    pub(super) const fn write(range: RangeId, command: Command, shape: Shape) -> Self {
        Self { range, ask: Ask::Write(command), shape }
    }

    pub(super) const fn read(range: RangeId, query: Query, shape: Shape) -> Self {
        Self { range, ask: Ask::Read(query), shape }
    }
}

impl Ask {
    /// The command, if it is one.
    pub(super) const fn command(&self) -> Option<&Command> {
        match self {
            Self::Write(command) => Some(command),
            Self::Read(_) | Self::LateRead(_) => None,
        }
    }

    /// Whether the answer to a write carries a value.
    pub(super) const fn takes_value(&self) -> bool {
        matches!(
            self,
            Self::Write(
                Command::Take { .. }
                    | Command::GetExpire { .. }
                    | Command::Set { want_old: Some(_), .. }
            )
        )
    }

    /// Sets how long the value may be that is answered, if one is.
    pub(super) const fn limit_value(&mut self, bytes: usize) {
        if let Self::Read(Query::Get { limit_bytes, .. } | Query::Slice { limit_bytes, .. })
        | Self::LateRead(Query::Get { limit_bytes, .. } | Query::Slice { limit_bytes, .. })
        | Self::Write(
            Command::Take { limit_bytes, .. }
            | Command::GetExpire { limit_bytes, .. }
            | Command::Set { want_old: Some(limit_bytes), .. },
        ) = self
        {
            *limit_bytes = bytes as u64;
        }
    }

    /// Whether a value is read.
    pub(super) const fn reads_value(&self) -> bool {
        matches!(self, Self::Read(Query::Get { .. } | Query::Slice { .. }))
    }

    /// Whether it reads a value, or what stands beside it: Redis counts whether the key was found.
    pub(super) const fn looks_up(&self) -> bool {
        matches!(
            self,
            Self::Read(Query::Get { .. } | Query::Slice { .. })
                | Self::LateRead(Query::Get { .. } | Query::Slice { .. })
                | Self::Write(Command::Take { .. } | Command::GetExpire { .. })
        )
    }

    /// Whether nothing is changed.
    pub(super) const fn is_read(&self) -> bool {
        matches!(self, Self::Read(_) | Self::LateRead(_))
    }

    /// The query came late, and is asked again.
    pub(super) fn come_late(&mut self) {
        if let Self::Read(query) = self {
            *self = Self::LateRead(query.clone());
        }
    }

    /// The request to a database, as the store understands it.
    pub(super) fn encode(&self, database: u8) -> (Access, Bytes) {
        match self {
            Self::Write(command) => (Access::Write, command.encode_in(database)),
            Self::Read(query) => (Access::Read, query.encode_in(database)),
            Self::LateRead(query) => (Access::Write, late(query, database)),
        }
    }
}

/// The command that moves the clock of the group before it answers the query.
pub(super) fn late(query: &Query, database: u8) -> Bytes {
    Command::Ask { query: query.encode_in(database) }.encode()
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("range", &self.range).finish_non_exhaustive()
    }
}
