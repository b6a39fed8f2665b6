//! The specification of a command, as the table holds it.

use crate::commands::error::CommandError;
use bytes::Bytes;
use std::str::SplitAsciiWhitespace;

/// A command in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the commands")]
pub enum Name {
    Append,
    Asking,
    Auth,
    Client(Client),
    Cluster(Cluster),
    Command(Command),
    Config(Config),
    /// A command that is nothing without a subcommand; no request resolves to it.
    Container,
    Copy,
    DbSize,
    Debug,
    Decr,
    DecrBy,
    Del,
    Discard,
    Echo,
    Exec,
    Exists,
    Expire,
    ExpireAt,
    ExpireTime,
    FlushAll,
    FlushDb,
    FunctionFlush,
    Get,
    GetDel,
    GetEx,
    GetRange,
    GetSet,
    Hello,
    Incr,
    IncrBy,
    IncrByFloat,
    Info,
    Keys,
    LastSave,
    Latency(Latency),
    Lcs,
    MemoryHelp,
    MemoryUsage,
    MGet,
    Monitor,
    Move,
    MSet,
    MSetNx,
    Multi,
    Object(Object),
    Persist,
    PExpire,
    PExpireAt,
    PExpireTime,
    Ping,
    PSetEx,
    PTtl,
    Quit,
    RandomKey,
    Range,
    ReadOnly,
    ReadWrite,
    Rename,
    RenameNx,
    Reset,
    Role,
    Scan,
    ScriptFlush,
    Select,
    Set,
    SetEx,
    SetNx,
    SetRange,
    SlowLog(SlowLog),
    StrLen,
    SubStr,
    SwapDb,
    Time,
    Touch,
    Ttl,
    Type,
    Unlink,
    Unwatch,
    Wait,
    Watch,
}

/// The subcommands of CLIENT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the subcommands")]
pub enum Client {
    Caching,
    GetName,
    GetRedir,
    Help,
    Id,
    Info,
    Kill,
    List,
    NoEvict,
    NoTouch,
    Pause,
    Reply,
    SetInfo,
    SetName,
    Tracking,
    TrackingInfo,
    Unblock,
    Unpause,
}

/// The subcommands of CLUSTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the subcommands")]
pub enum Cluster {
    CountKeysInSlot,
    GetKeysInSlot,
    Help,
    Info,
    KeySlot,
    MyId,
    MyShardId,
    Nodes,
    Replicas,
    Shards,
    Slots,
}

/// COMMAND and its subcommands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the subcommands")]
pub enum Command {
    /// COMMAND itself.
    All,
    Count,
    Docs,
    GetKeys,
    GetKeysAndFlags,
    Help,
    Info,
    List,
}

/// The subcommands of CONFIG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the subcommands")]
pub enum Config {
    Get,
    Help,
    ResetStat,
    Rewrite,
    Set,
}

/// The subcommands of LATENCY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the subcommands")]
pub enum Latency {
    Doctor,
    Graph,
    Help,
    Histogram,
    History,
    Latest,
    Reset,
}

/// The subcommands of OBJECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the subcommands")]
pub enum Object {
    Encoding,
    Freq,
    Help,
    IdleTime,
    RefCount,
}

/// The subcommands of SLOWLOG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the subcommands")]
pub enum SlowLog {
    Get,
    Help,
    Len,
    Reset,
}

/// What Redis's access control says that is done with a key.
pub type KeyFlags = SplitAsciiWhitespace<'static>;

/// A command, or a subcommand of one.
#[derive(Debug)]
pub struct Spec {
    /// Its number among all commands and subcommands, below [`NUMBERS`](super::NUMBERS).
    pub number: u16,
    /// Its name in lower case; of a subcommand behind its command's name and a bar.
    pub full_name: &'static str,
    /// What it is in the program.
    pub name: Name,
    /// The number of elements of a request, names included; negative for "at least".
    pub arity: i64,
    pub(super) flags: &'static str,
    /// The categories of access control that do not follow from the flags.
    pub(super) categories: &'static str,
    /// Where its keys are.
    pub keys: Keys,
    /// What is done with the keys; with each of them, where bars stand between.
    pub(super) key_flags: &'static str,
    /// The group in the documentation.
    pub group: &'static str,
    /// The version of Redis that had it first.
    pub since: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Its subcommands, sorted by name.
    pub subcommands: &'static [Self],
}

/// The positions of keys in a request, counted with the command's name as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The first; zero if there are none.
    pub first: i64,
    /// The last; negative counts from the end.
    pub last: i64,
    /// From one to the next.
    pub step: i64,
}

impl Keys {
    pub(in crate::commands) const NONE: Self = Self { first: 0, last: 0, step: 0 };
    pub(super) const ONE: Self = Self { first: 1, last: 1, step: 1 };
    pub(super) const TWO: Self = Self { first: 1, last: 2, step: 1 };
    pub(super) const SECOND: Self = Self { first: 2, last: 2, step: 1 };
    pub(super) const ALL: Self = Self { first: 1, last: -1, step: 1 };
    pub(super) const PAIRS: Self = Self { first: 1, last: -1, step: 2 };

    /// The keys among `request`, whose first element is the command's name.
    pub fn of(self, request: &[Bytes]) -> impl Iterator<Item = &Bytes> + Clone {
        let end = if self.last < 0 { request.len() as i64 + self.last } else { self.last };
        let keys = match self.first {
            0 => &[],
            first => request.get(first as usize..=end.max(0) as usize).unwrap_or_default(),
        };
        keys.iter().step_by(self.step.max(1) as usize)
    }
}

impl Spec {
    /// The name without that of the command it belongs to.
    #[must_use]
    pub fn own_name(&self) -> &'static str {
        self.full_name.rsplit_once('|').map_or(self.full_name, |(_, name)| name)
    }

    /// Redis's flags.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        self.flags.split_ascii_whitespace()
    }

    /// Whether it has this flag of Redis.
    #[must_use]
    pub fn has_flag(&self, wanted: &str) -> bool {
        self.flags().any(|flag| flag == wanted)
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_readonly(&self) -> bool {
        self.has_flag("readonly")
    }

    /// Whether a client may send it that has not logged in.
    #[must_use]
    pub fn may_come_before_login(&self) -> bool {
        self.has_flag("no_auth")
    }

    /// What stands behind the command's name, or its two names, in a request that resolves to it.
    #[must_use]
    pub fn arguments_of<'a>(&self, request: &'a [Bytes]) -> &'a [Bytes] {
        let names = if self.full_name.contains('|') { 2 } else { 1 };
        &request[names..]
    }

    /// The keys in groups of those that the same is done with, each with Redis's flags for it.
    pub fn key_groups(&self) -> impl Iterator<Item = (Keys, KeyFlags)> {
        let Keys { first, last, step } = self.keys;
        let is_one = !self.key_flags.contains('|');
        let flags = self.key_flags.split('|').take(if first > 0 { usize::MAX } else { 0 });
        (first..).step_by(step.max(1) as usize).zip(flags).map(move |(place, flags)| {
            let last = if is_one { last } else { place };
            (Keys { first: place, last, step }, flags.split_ascii_whitespace())
        })
    }

    /// The categories of Redis's access control, in its order.
    pub fn categories(&self) -> impl Iterator<Item = &'static str> {
        let named = |wanted: &str| self.categories.split_ascii_whitespace().any(|c| c == wanted);
        [
            ("@keyspace", named("keyspace")),
            ("@read", self.is_readonly()),
            ("@write", self.has_flag("write")),
            ("@string", named("string")),
            ("@admin", self.has_flag("admin") || named("admin")),
            ("@fast", self.has_flag("fast")),
            ("@slow", !self.has_flag("fast")),
            ("@dangerous", self.has_flag("admin") || named("dangerous")),
            ("@connection", named("connection")),
            ("@transaction", named("transaction")),
            ("@scripting", named("scripting")),
        ]
        .into_iter()
        .filter_map(|(category, applies)| applies.then_some(category))
    }

    /// Whether the number of elements of a request fits, names included.
    pub(in crate::commands) fn check_arity(&self, elements: usize) -> Result<(), CommandError> {
        let arity = || CommandError::Arity(self.full_name.to_owned());
        self.accepts(elements).then_some(()).ok_or_else(arity)
    }

    /// Whether a request may have this many elements, names included.
    #[must_use]
    pub const fn accepts(&self, elements: usize) -> bool {
        let elements = elements as i64;
        if self.arity < 0 { elements >= -self.arity } else { elements == self.arity }
    }
}
