//! The commands and queries to a group of the store, and its answers.

mod codec;

pub(super) use self::codec::{needs_stamp, stamped, unstamped};
use super::footprint::entry_bytes;
use crate::layout::Partition;
use bytes::Bytes;

/// The version of the encoding that this program writes, and the only one that it reads.
pub const VERSION: u8 = 1;

/// How many databases a store has. The number of a database stands beside the command or the query
/// that is meant for it, so the keys are the same in all of them.
pub const DATABASES: u8 = 16;

/// A command with the database that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The time at which the leader proposed it, if it goes by the time: milliseconds since 1970.
    pub stamp_ms: Option<u64>,
    /// The database.
    pub database: u8,
    /// What is done there.
    pub command: Command,
}

/// A query with the database that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The database.
    pub database: u8,
    /// What is asked.
    pub query: Query,
}

/// When a [`Command::Set`] takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// Only if the key is missing (NX).
    Missing,
    /// Only if the key is there (XX).
    Present,
    /// Only if the key is there and holds exactly this value (IFEQ).
    Equals(Bytes),
}

/// When a key expires, in milliseconds. Behind the ends of what can be counted stands the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// At this time since 1970.
    At(i64),
    /// So long after the leader proposes the command.
    In(i64),
}

/// How long a key that is set lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is removed.
    Endless,
    /// As long as it would have without being set.
    Kept,
    /// Until the deadline.
    Until(Deadline),
}

/// When a [`Command::Expire`] takes effect: all that are named must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireIf {
    /// The key does not expire (NX).
    pub endless: bool,
    /// The key expires (XX).
    pub expiring: bool,
    /// The new deadline is later (GT). A key that does not expire has the latest.
    pub later: bool,
    /// The new deadline is earlier (LT).
    pub earlier: bool,
}

/// A change of the store. Keys are stored keys (see [`crate::layout`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sets a key; answers [`Answer::Stored`].
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When it is set.
        condition: Condition,
        /// Whether the answer carries the old value, and how long that may be. Beyond it nothing is
        /// changed, and the answer is [`Answer::Withheld`].
        want_old: Option<u64>,
        /// How long it lives.
        lifetime: Lifetime,
    },
    /// Removes keys; answers [`Answer::Integer`] with the number of those that were there.
    Delete {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Removes a key; answers [`Answer::Value`] with what it held, or [`Answer::Withheld`] beyond
    /// the limit. Then it stays.
    Take {
        /// The key.
        key: Bytes,
        /// The longest value that is wanted.
        limit_bytes: u64,
    },
    /// Appends to a value; answers [`Answer::Integer`] with its new length.
    Append {
        /// The key.
        key: Bytes,
        /// What is appended.
        value: Bytes,
        /// The longest value allowed, in bytes. It is part of the command so that replicas with
        /// different configurations decide alike.
        limit_bytes: u64,
    },
    /// Overwrites part of a value, padded with zero bytes; answers its new length.
    SetRange {
        /// The key.
        key: Bytes,
        /// Where to write, in bytes.
        offset: u64,
        /// What to write. Writing nothing changes nothing.
        value: Bytes,
        /// The longest value allowed, in bytes.
        limit_bytes: u64,
    },
    /// Adds to an integer; answers [`Answer::Integer`].
    Increment {
        /// The key. A missing one counts as zero.
        key: Bytes,
        /// What is added.
        by: i64,
    },
    /// Adds to a floating-point number, digit for digit as Redis does; answers [`Answer::Value`].
    IncrementFloat {
        /// The key. A missing one counts as zero.
        key: Bytes,
        /// What is added, as the client wrote it.
        by: Bytes,
    },
    /// Sets several keys at once; answers [`Answer::Stored`].
    SetMany {
        /// Keys and values. The last one wins where a key occurs twice.
        pairs: Vec<(Bytes, Bytes)>,
        /// Whether nothing is set if one of the keys is already there (MSETNX).
        only_if_missing: bool,
    },
    /// Removes every key of the database.
    Clear,
    /// Gives a value another key, in the place of what that held; answers [`Answer::Integer`] with
    /// whether it did so, or [`Failure::NoSuchKey`].
    Rename {
        /// The key that goes.
        from: Bytes,
        /// The key that has the value afterwards.
        to: Bytes,
        /// Whether nothing is done if `to` is there (RENAMENX).
        only_if_missing: bool,
    },
    /// Copies a value; answers [`Answer::Integer`] with whether it did so, or [`Answer::Withheld`]
    /// for a value beyond the limit. Who has memory for it may ask again then.
    Copy {
        /// The key of the value.
        from: Bytes,
        /// The key of the copy.
        to: Bytes,
        /// The database of the copy, below [`DATABASES`].
        to_database: u8,
        /// Whether the copy takes the place of what is there (REPLACE).
        replace: bool,
        /// The longest value that is copied, in bytes. It is counted as growth.
        limit_bytes: u64,
    },
    /// Removes every key of every database that clients choose.
    ClearAll,
    /// Sets when a key expires; answers [`Answer::Integer`] with whether it did so. A key whose new
    /// deadline has passed is removed.
    Expire {
        /// The key.
        key: Bytes,
        /// When it expires.
        deadline: Deadline,
        /// When this takes effect.
        condition: ExpireIf,
    },
    /// Has a key live until it is removed; answers [`Answer::Integer`] with whether it would have
    /// expired.
    Persist {
        /// The key.
        key: Bytes,
    },
    /// Changes how long a key lives; answers [`Answer::Value`] with what it holds, or
    /// [`Answer::Withheld`] beyond the limit. Then nothing is changed.
    GetExpire {
        /// The key.
        key: Bytes,
        /// How long it lives from now on.
        lifetime: Lifetime,
        /// The longest value that is wanted.
        limit_bytes: u64,
    },
    /// Moves the clock of the group, and then answers a query by it.
    Ask {
        /// The query, encoded.
        query: Bytes,
    },
    /// Moves the clock of the group, so that memory is freed.
    Tick,
}

impl Command {
    /// Whether it frees what is stored, or moves the clock of the group, so that expired keys are
    /// freed. Other commands take room in the log, and give nothing for it.
    #[must_use]
    pub const fn frees(&self) -> bool {
        matches!(
            self,
            Self::Delete { .. }
                | Self::Take { .. }
                | Self::Clear
                | Self::ClearAll
                | Self::Ask { .. }
                | Self::Tick
        )
    }

    /// The length of the longest key that it names, in bytes.
    #[must_use]
    pub(super) fn longest_key_bytes(&self) -> usize {
        match self {
            Self::Set { key, .. }
            | Self::Take { key, .. }
            | Self::Append { key, .. }
            | Self::SetRange { key, .. }
            | Self::Increment { key, .. }
            | Self::IncrementFloat { key, .. }
            | Self::Expire { key, .. }
            | Self::Persist { key }
            | Self::GetExpire { key, .. } => key.len(),
            Self::Delete { keys } => keys.iter().map(Bytes::len).max().unwrap_or_default(),
            Self::SetMany { pairs, .. } => {
                pairs.iter().map(|(key, _)| key.len()).max().unwrap_or_default()
            }
            Self::Rename { from, to, .. } | Self::Copy { from, to, .. } => from.len().max(to.len()),
            Self::Clear | Self::ClearAll | Self::Ask { .. } | Self::Tick => 0,
        }
    }

    /// How many bytes it may add to what is stored, at the most; `None` for what adds none.
    #[must_use]
    pub fn growth_bytes(&self) -> Option<u64> {
        let entry = |key: &Bytes, value_bytes: usize| entry_bytes(key.len(), value_bytes);
        match self {
            Self::Set { key, value, .. } | Self::Append { key, value, .. } => {
                Some(entry(key, value.len()))
            }
            Self::SetRange { key, offset, value, limit_bytes } => {
                let end = offset.saturating_add(value.len() as u64).min(*limit_bytes);
                Some(entry(key, 0).saturating_add(end))
            }
            Self::Increment { key, .. } => Some(entry(key, MAX_INTEGER_BYTES)),
            Self::IncrementFloat { key, by } => Some(entry(key, by.len())),
            Self::SetMany { pairs, .. } => {
                Some(pairs.iter().map(|(key, value)| entry(key, value.len())).sum())
            }
            Self::Copy { to, limit_bytes, .. } => Some(entry(to, 0).saturating_add(*limit_bytes)),
            Self::Rename { from, to, .. } => {
                let growth = to.len().saturating_sub(from.len()) as u64;
                (growth > 0).then_some(growth)
            }
            Self::Delete { .. }
            | Self::Take { .. }
            | Self::Clear
            | Self::ClearAll
            | Self::Expire { .. }
            | Self::Persist { .. }
            | Self::GetExpire { .. }
            | Self::Ask { .. }
            | Self::Tick => None,
        }
    }
}

/// The longest text of a 64-bit integer.
const MAX_INTEGER_BYTES: usize = 20;

/// A question to the store, answered without changing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The value of a key: [`Answer::Value`], or [`Answer::Withheld`] beyond the limit.
    Get {
        /// The key.
        key: Bytes,
        /// The longest value that is wanted.
        limit_bytes: u64,
    },
    /// The values of the first of several keys: [`Answer::Values`].
    GetMany {
        /// The keys.
        keys: Vec<Bytes>,
        /// The values together may have this many bytes. Those from the first one on that does not
        /// fit are left out.
        limit_bytes: u64,
    },
    /// How many of these keys are there (one that is named twice counts twice):
    /// [`Answer::Integer`].
    Exists {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// The length of a value in bytes, zero for a missing key: [`Answer::Integer`].
    Length {
        /// The key.
        key: Bytes,
    },
    /// Part of a value, with the rules of GETRANGE: [`Answer::Value`], or [`Answer::Withheld`]
    /// beyond the limit.
    Slice {
        /// The key.
        key: Bytes,
        /// The first byte; negative counts from the end.
        start: i64,
        /// The last byte, inclusive; negative counts from the end.
        end: i64,
        /// The longest part that is wanted.
        limit_bytes: u64,
    },
    /// The number of keys: [`Answer::Integer`].
    Count,
    /// What a key and its value take in memory, in bytes, or -1 for a missing key:
    /// [`Answer::Integer`].
    Usage {
        /// The key.
        key: Bytes,
    },
    /// When a key expires: [`Answer::Expiry`].
    Expiry {
        /// The key.
        key: Bytes,
    },
    /// How many keys each database has: [`Answer::Keyspace`].
    Keyspace,
    /// The first bytes of a value: [`Answer::Value`].
    Beginning {
        /// The key.
        key: Bytes,
        /// So many bytes at the most.
        bytes: u64,
    },
    /// Any key: [`Answer::Value`] with a client's key.
    Random {
        /// How the keys are laid out.
        partition: Partition,
        /// Chooses the key. Equal seeds choose equal keys of equal stores.
        seed: u64,
    },
    /// A step of SCAN: [`Answer::Page`].
    Scan {
        /// How the keys are laid out.
        partition: Partition,
        /// The place to go on from (see [`crate::layout::place`]).
        from: u64,
        /// The place to stop at, if not at the end.
        until: Option<u64>,
        /// About how many keys to look at.
        count: u64,
        /// Report only keys that match this glob.
        pattern: Option<Bytes>,
    },
    /// A part of a step of SCAN in a slot of many keys: [`Answer::Stretch`], in stored order.
    Places {
        /// How the keys are laid out.
        partition: Partition,
        /// The first place to report, which is in the slot.
        from: u64,
        /// The place before which to stop reporting.
        until: u64,
        /// Start behind this stored key.
        after: Option<Bytes>,
        /// Report only keys that match this glob.
        pattern: Option<Bytes>,
        /// Look at this many keys at most.
        limit_keys: u64,
    },
    /// Keys that match a glob, in stored order: [`Answer::Listing`].
    Keys {
        /// How the keys are laid out.
        partition: Partition,
        /// Start behind this stored key.
        after: Option<Bytes>,
        /// The glob.
        pattern: Bytes,
        /// Look at this many keys at most.
        limit_keys: u64,
    },
    /// Keys between two stored keys, in stored order: [`Answer::Stretch`].
    Stretch {
        /// How the keys are laid out.
        partition: Partition,
        /// The first stored key.
        start: Bytes,
        /// Whether `start` itself is left out.
        after_start: bool,
        /// The stored key before which to stop; none for no end.
        end: Option<Bytes>,
        /// Look at this many keys at most.
        limit_keys: u64,
        /// Whether the keys are wanted, and not only their number.
        with_names: bool,
    },
    /// Keys and values in the order of the clients' keys: [`Answer::Pairs`].
    Ordered {
        /// How the keys are laid out.
        partition: Partition,
        /// The first client key.
        start: Bytes,
        /// Whether `start` itself is left out.
        after_start: bool,
        /// The client key before which to stop; none for no end.
        end: Option<Bytes>,
        /// This many pairs at most.
        limit_pairs: u64,
        /// Stop before the pair that brings keys and values beyond this many bytes, but for the
        /// first one. A value that alone is longer is left out; the caller gets it by its key.
        limit_bytes: u64,
    },
}

/// Why the state machine refused; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The command or query did not decode.
    Malformed,
    /// The value is not a 64-bit integer in its canonical form.
    NotAnInteger,
    /// The sum does not fit 64 bits.
    Overflow,
    /// The value or the increment is not a floating-point number.
    NotAFloat,
    /// The sum is infinite.
    Infinite,
    /// The value would be longer than allowed.
    TooLong,
    /// The leader's node holds as much as it may. Decided before the command is proposed.
    OutOfMemory,
    /// There is no such key.
    NoSuchKey,
}

/// The state machine's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done, with no value.
    Done,
    /// A number.
    Integer(i64),
    /// The value of a key, if it is there.
    Value(Option<Bytes>),
    /// The value is longer than the question wanted.
    Withheld {
        /// Its length.
        bytes: u64,
    },
    /// The values of the first keys of the question, in its order.
    Values(Vec<Option<Bytes>>),
    /// Whether a value was set, and the old value if the command wanted it.
    Stored {
        /// Whether it was set.
        done: bool,
        /// The old value.
        old: Option<Bytes>,
    },
    /// A step of SCAN.
    Page {
        /// Clients' keys.
        keys: Vec<Bytes>,
        /// How many keys were looked at, matching or not.
        examined: u64,
        /// The place to go on from; none at the end of this store.
        next: Option<u64>,
    },
    /// A step of KEYS.
    Listing {
        /// Clients' keys.
        keys: Vec<Bytes>,
        /// The last stored key that was looked at; none at the end of this store.
        last: Option<Bytes>,
    },
    /// A step over a stretch of stored keys.
    Stretch {
        /// Clients' keys, if they are wanted.
        keys: Vec<Bytes>,
        /// How many keys are there among those that were looked at.
        count: u64,
        /// The last stored key that was looked at; none at the end of the stretch.
        last: Option<Bytes>,
    },
    /// Client keys with their values.
    Pairs {
        /// The pairs, in key order; without those values that exceed the limit.
        pairs: Vec<(Bytes, Option<Bytes>)>,
        /// Whether there are more.
        more: bool,
    },
    /// Refused.
    Failed(Failure),
    /// By the clock of its node, the query came after the deadline of a key that has not expired in
    /// the log. It has to be asked by [`Command::Ask`].
    Late,
    /// When a key expires.
    Expiry(Expiry),
    /// The databases that have keys.
    Keyspace(Vec<DatabaseSize>),
}

/// When a key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// There is no such key.
    Missing,
    /// It does not.
    Never,
    /// At this time.
    At {
        /// The time, in milliseconds since 1970.
        deadline_ms: u64,
        /// How long it is until then.
        left_ms: u64,
    },
}

/// How many keys a database has. Some of them may have expired, and take memory still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseSize {
    /// The number of the database.
    pub database: u8,
    /// Its keys.
    pub keys: u64,
    /// Those of them that expire.
    pub expiring: u64,
}
