//! What the table holds of a command.

use bytes::Bytes;

/// What a command is in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the commands")]
pub enum Name {
    Append,
    Client,
    ClientGetName,
    ClientHelp,
    ClientId,
    ClientInfo,
    ClientList,
    ClientNoEvict,
    ClientNoTouch,
    ClientReply,
    ClientSetInfo,
    ClientSetName,
    Command,
    CommandCount,
    CommandDocs,
    CommandGetKeys,
    CommandHelp,
    CommandInfo,
    CommandList,
    Config,
    ConfigGet,
    ConfigHelp,
    ConfigResetStat,
    ConfigRewrite,
    ConfigSet,
    DbSize,
    Decr,
    DecrBy,
    Del,
    Echo,
    Exists,
    FlushAll,
    FlushDb,
    Function,
    FunctionFlush,
    Get,
    GetDel,
    GetRange,
    GetSet,
    Hello,
    Incr,
    IncrBy,
    IncrByFloat,
    Info,
    Keys,
    MGet,
    MSet,
    MSetNx,
    Ping,
    Quit,
    Range,
    Reset,
    Scan,
    Script,
    ScriptFlush,
    Select,
    Set,
    SetNx,
    SetRange,
    StrLen,
    SubStr,
    Type,
    Unlink,
}

/// A command, or a subcommand of one.
#[derive(Debug)]
pub struct Spec {
    /// Its name in lower case; of a subcommand behind its command's name and a bar.
    pub full_name: &'static str,
    /// What it is in the program.
    pub name: Name,
    /// The number of elements of a request, names included; negative for "at least".
    pub arity: i64,
    pub(super) flags: &'static str,
    /// Where its keys are.
    pub keys: Keys,
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
    pub(super) const NONE: Self = Self { first: 0, last: 0, step: 0 };
    pub(super) const ONE: Self = Self { first: 1, last: 1, step: 1 };
    pub(super) const ALL: Self = Self { first: 1, last: -1, step: 1 };
    pub(super) const PAIRS: Self = Self { first: 1, last: -1, step: 2 };

    /// The keys among `request`, whose first element is the command's name.
    pub fn of(self, request: &[Bytes]) -> impl Iterator<Item = &Bytes> {
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

    /// What stands behind the command's name, or its two names, in a request that resolves to it.
    #[must_use]
    pub fn arguments_of<'a>(&self, request: &'a [Bytes]) -> &'a [Bytes] {
        let names = if self.full_name.contains('|') { 2 } else { 1 };
        &request[names..]
    }

    /// The categories of Redis's access control that follow from flags and group.
    pub fn categories(&self) -> impl Iterator<Item = &'static str> {
        let has = |wanted: &str| self.flags().any(|flag| flag == wanted);
        let group = match self.group {
            "string" => "@string",
            "generic" => "@keyspace",
            "connection" => "@connection",
            "scripting" => "@scripting",
            _ => "@admin",
        };
        let access = [("readonly", "@read"), ("write", "@write")];
        let access = access.into_iter().filter(move |(flag, _)| has(flag)).map(|(_, name)| name);
        let speed = if has("fast") { "@fast" } else { "@slow" };
        access.chain([group, speed])
    }

    pub(super) const fn accepts(&self, elements: usize) -> bool {
        let elements = elements as i64;
        if self.arity < 0 { elements >= -self.arity } else { elements == self.arity }
    }
}
