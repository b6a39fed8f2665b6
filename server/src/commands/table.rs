//! The table of commands: names, numbers of arguments, flags, and where the keys are.

use bytes::Bytes;

use super::arguments::text;
use super::error::CommandError;

/// The bytes of a name or of arguments that an error repeats.
const MAX_ECHO_BYTES: usize = 128;

/// A command, or a subcommand of one.
#[derive(Debug)]
pub struct Spec {
    /// Its name in lower case; of a subcommand behind its command's name and a bar.
    pub full_name: &'static str,
    /// What it is in the program.
    pub name: Name,
    /// The number of elements of a request, names included; negative for "at least".
    pub arity: i64,
    /// Redis's flags.
    pub flags: &'static [&'static str],
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
    const NONE: Self = Self {
        first: 0,
        last: 0,
        step: 0,
    };
    const ONE: Self = Self {
        first: 1,
        last: 1,
        step: 1,
    };
    const ALL: Self = Self {
        first: 1,
        last: -1,
        step: 1,
    };
    const PAIRS: Self = Self {
        first: 1,
        last: -1,
        step: 2,
    };

    /// The keys among `request`, whose first element is the command's name.
    pub fn of(self, request: &[Bytes]) -> impl Iterator<Item = &Bytes> {
        let end = if self.last < 0 {
            request.len() as i64 + self.last
        } else {
            self.last
        };
        let keys = match self.first {
            0 => &[],
            first => request
                .get(first as usize..=end.max(0) as usize)
                .unwrap_or_default(),
        };
        keys.iter().step_by(self.step.max(1) as usize)
    }
}

impl Spec {
    /// The name without that of the command it belongs to.
    #[must_use]
    pub fn own_name(&self) -> &'static str {
        self.full_name
            .rsplit_once('|')
            .map_or(self.full_name, |(_, name)| name)
    }

    /// What stands behind the command's name, or its two names, in a request that resolves to it.
    #[must_use]
    pub fn arguments_of<'a>(&self, request: &'a [Bytes]) -> &'a [Bytes] {
        let names = if self.full_name.contains('|') { 2 } else { 1 };
        &request[names..]
    }

    /// The categories of Redis's access control that follow from flags and group.
    pub fn categories(&self) -> impl Iterator<Item = &'static str> {
        let has = |flag: &&str| self.flags.contains(flag);
        let group = match self.group {
            "string" => "@string",
            "generic" => "@keyspace",
            "connection" => "@connection",
            "scripting" => "@scripting",
            _ => "@admin",
        };
        let access = [("readonly", "@read"), ("write", "@write")];
        let access = access
            .into_iter()
            .filter(move |(flag, _)| has(flag))
            .map(|(_, name)| name);
        let speed = if has(&"fast") { "@fast" } else { "@slow" };
        access.chain([group, speed])
    }

    const fn accepts(&self, elements: usize) -> bool {
        let elements = elements as i64;
        if self.arity < 0 {
            elements >= -self.arity
        } else {
            elements == self.arity
        }
    }
}

/// The command of this name, in any case.
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    find_in(COMMANDS, name)
}

/// The command or subcommand that a request calls; the number of its arguments fits.
///
/// # Errors
/// Fails with Redis's text if there is no such command or the number of arguments does not fit.
pub fn resolve(request: &[Bytes]) -> Result<&'static Spec, CommandError> {
    let name = request.first().map_or(&[][..], |name| &name[..]);
    let Some(mut spec) = find(name) else {
        return Err(unknown(name, request));
    };
    if let (false, Some(sub)) = (spec.subcommands.is_empty(), request.get(1)) {
        spec = find_in(spec.subcommands, sub).ok_or_else(|| CommandError::UnknownSubcommand {
            name: text(&sub[..sub.len().min(MAX_ECHO_BYTES)]),
            command: spec.full_name.to_ascii_uppercase(),
        })?;
    }
    if spec.accepts(request.len()) {
        Ok(spec)
    } else {
        Err(CommandError::Arity(spec.full_name.to_owned()))
    }
}

fn find_in(specs: &'static [Spec], name: &[u8]) -> Option<&'static Spec> {
    let lower = || name.iter().map(u8::to_ascii_lowercase);
    let found = specs.binary_search_by(|spec| spec.own_name().bytes().cmp(lower()));
    found.ok().map(|position| &specs[position])
}

fn unknown(name: &[u8], request: &[Bytes]) -> CommandError {
    let mut arguments = String::new();
    for argument in request.iter().skip(1) {
        let Some(room) = MAX_ECHO_BYTES
            .checked_sub(arguments.len())
            .filter(|room| *room > 0)
        else {
            break;
        };
        arguments += &format!("'{}' ", text(&argument[..argument.len().min(room)]));
    }
    let name = text(&name[..name.len().min(MAX_ECHO_BYTES)]);
    CommandError::UnknownCommand { name, arguments }
}

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

/// All commands, sorted by name.
pub static COMMANDS: &[Spec] = &[
    Spec {
        full_name: "append",
        name: Name::Append,
        arity: 3,
        flags: &["write", "denyoom", "fast"],
        keys: Keys::ONE,
        group: "string",
        since: "2.0.0",
        summary: "Appends to the value of a key",
        subcommands: &[],
    },
    Spec {
        full_name: "client",
        name: Name::Client,
        arity: -2,
        flags: &[],
        keys: Keys::NONE,
        group: "connection",
        since: "2.4.0",
        summary: "Commands about connections",
        subcommands: CLIENT,
    },
    Spec {
        full_name: "command",
        name: Name::Command,
        arity: -1,
        flags: &["loading", "stale"],
        keys: Keys::NONE,
        group: "server",
        since: "2.8.13",
        summary: "Describes the commands",
        subcommands: COMMAND,
    },
    Spec {
        full_name: "config",
        name: Name::Config,
        arity: -2,
        flags: &[],
        keys: Keys::NONE,
        group: "server",
        since: "2.0.0",
        summary: "Commands about the configuration",
        subcommands: CONFIG,
    },
    Spec {
        full_name: "dbsize",
        name: Name::DbSize,
        arity: 1,
        flags: &["readonly", "fast"],
        keys: Keys::NONE,
        group: "server",
        since: "1.0.0",
        summary: "Counts the keys",
        subcommands: &[],
    },
    Spec {
        full_name: "decr",
        name: Name::Decr,
        arity: 2,
        flags: &["write", "denyoom", "fast"],
        keys: Keys::ONE,
        group: "string",
        since: "1.0.0",
        summary: "Subtracts one from the integer of a key",
        subcommands: &[],
    },
    Spec {
        full_name: "decrby",
        name: Name::DecrBy,
        arity: 3,
        flags: &["write", "denyoom", "fast"],
        keys: Keys::ONE,
        group: "string",
        since: "1.0.0",
        summary: "Subtracts from the integer of a key",
        subcommands: &[],
    },
    Spec {
        full_name: "del",
        name: Name::Del,
        arity: -2,
        flags: &["write"],
        keys: Keys::ALL,
        group: "generic",
        since: "1.0.0",
        summary: "Removes keys",
        subcommands: &[],
    },
    Spec {
        full_name: "echo",
        name: Name::Echo,
        arity: 2,
        flags: &["loading", "stale", "fast"],
        keys: Keys::NONE,
        group: "connection",
        since: "1.0.0",
        summary: "Answers its argument",
        subcommands: &[],
    },
    Spec {
        full_name: "exists",
        name: Name::Exists,
        arity: -2,
        flags: &["readonly", "fast"],
        keys: Keys::ALL,
        group: "generic",
        since: "1.0.0",
        summary: "Counts the keys that are there",
        subcommands: &[],
    },
    Spec {
        full_name: "flushall",
        name: Name::FlushAll,
        arity: -1,
        flags: &["write"],
        keys: Keys::NONE,
        group: "server",
        since: "1.0.0",
        summary: "Removes all keys",
        subcommands: &[],
    },
    Spec {
        full_name: "flushdb",
        name: Name::FlushDb,
        arity: -1,
        flags: &["write"],
        keys: Keys::NONE,
        group: "server",
        since: "1.0.0",
        summary: "Removes all keys of the only database",
        subcommands: &[],
    },
    Spec {
        full_name: "function",
        name: Name::Function,
        arity: -2,
        flags: &[],
        keys: Keys::NONE,
        group: "scripting",
        since: "7.0.0",
        summary: "Commands about functions, of which there are none",
        subcommands: FUNCTION,
    },
    Spec {
        full_name: "get",
        name: Name::Get,
        arity: 2,
        flags: &["readonly", "fast"],
        keys: Keys::ONE,
        group: "string",
        since: "1.0.0",
        summary: "Gets the value of a key",
        subcommands: &[],
    },
    Spec {
        full_name: "getdel",
        name: Name::GetDel,
        arity: 2,
        flags: &["write", "fast"],
        keys: Keys::ONE,
        group: "string",
        since: "6.2.0",
        summary: "Removes a key and gets what it held",
        subcommands: &[],
    },
    Spec {
        full_name: "getrange",
        name: Name::GetRange,
        arity: 4,
        flags: &["readonly"],
        keys: Keys::ONE,
        group: "string",
        since: "2.4.0",
        summary: "Gets a part of the value of a key",
        subcommands: &[],
    },
    Spec {
        full_name: "getset",
        name: Name::GetSet,
        arity: 3,
        flags: &["write", "denyoom", "fast"],
        keys: Keys::ONE,
        group: "string",
        since: "1.0.0",
        summary: "Sets a key and gets what it held",
        subcommands: &[],
    },
    Spec {
        full_name: "hello",
        name: Name::Hello,
        arity: -1,
        flags: &[
            "noscript",
            "loading",
            "stale",
            "fast",
            "no_auth",
            "allow_busy",
        ],
        keys: Keys::NONE,
        group: "connection",
        since: "6.0.0",
        summary: "Chooses the protocol",
        subcommands: &[],
    },
    Spec {
        full_name: "incr",
        name: Name::Incr,
        arity: 2,
        flags: &["write", "denyoom", "fast"],
        keys: Keys::ONE,
        group: "string",
        since: "1.0.0",
        summary: "Adds one to the integer of a key",
        subcommands: &[],
    },
    Spec {
        full_name: "incrby",
        name: Name::IncrBy,
        arity: 3,
        flags: &["write", "denyoom", "fast"],
        keys: Keys::ONE,
        group: "string",
        since: "1.0.0",
        summary: "Adds to the integer of a key",
        subcommands: &[],
    },
    Spec {
        full_name: "incrbyfloat",
        name: Name::IncrByFloat,
        arity: 3,
        flags: &["write", "denyoom", "fast"],
        keys: Keys::ONE,
        group: "string",
        since: "2.6.0",
        summary: "Adds to the floating-point number of a key",
        subcommands: &[],
    },
    Spec {
        full_name: "info",
        name: Name::Info,
        arity: -1,
        flags: &["loading", "stale"],
        keys: Keys::NONE,
        group: "server",
        since: "1.0.0",
        summary: "Describes the server and its load",
        subcommands: &[],
    },
    Spec {
        full_name: "keys",
        name: Name::Keys,
        arity: 2,
        flags: &["readonly"],
        keys: Keys::NONE,
        group: "generic",
        since: "1.0.0",
        summary: "Lists the keys that match a pattern",
        subcommands: &[],
    },
    Spec {
        full_name: "mget",
        name: Name::MGet,
        arity: -2,
        flags: &["readonly", "fast"],
        keys: Keys::ALL,
        group: "string",
        since: "1.0.0",
        summary: "Gets the values of keys",
        subcommands: &[],
    },
    Spec {
        full_name: "mset",
        name: Name::MSet,
        arity: -3,
        flags: &["write", "denyoom"],
        keys: Keys::PAIRS,
        group: "string",
        since: "1.0.1",
        summary: "Sets keys that lie in one range",
        subcommands: &[],
    },
    Spec {
        full_name: "msetnx",
        name: Name::MSetNx,
        arity: -3,
        flags: &["write", "denyoom"],
        keys: Keys::PAIRS,
        group: "string",
        since: "1.0.1",
        summary: "Sets keys that lie in one range if none is there",
        subcommands: &[],
    },
    Spec {
        full_name: "ping",
        name: Name::Ping,
        arity: -1,
        flags: &["fast"],
        keys: Keys::NONE,
        group: "connection",
        since: "1.0.0",
        summary: "Answers PONG or its argument",
        subcommands: &[],
    },
    Spec {
        full_name: "quit",
        name: Name::Quit,
        arity: -1,
        flags: &[
            "noscript",
            "loading",
            "stale",
            "fast",
            "no_auth",
            "allow_busy",
        ],
        keys: Keys::NONE,
        group: "connection",
        since: "1.0.0",
        summary: "Closes the connection",
        subcommands: &[],
    },
    Spec {
        full_name: "range",
        name: Name::Range,
        arity: -3,
        flags: &["readonly"],
        keys: Keys::NONE,
        group: "generic",
        since: "1.0.0",
        summary: "Gets keys and values in key order (not in Redis)",
        subcommands: &[],
    },
    Spec {
        full_name: "reset",
        name: Name::Reset,
        arity: 1,
        flags: &[
            "noscript",
            "loading",
            "stale",
            "fast",
            "no_auth",
            "allow_busy",
        ],
        keys: Keys::NONE,
        group: "connection",
        since: "6.2.0",
        summary: "Makes the connection as new",
        subcommands: &[],
    },
    Spec {
        full_name: "scan",
        name: Name::Scan,
        arity: -2,
        flags: &["readonly"],
        keys: Keys::NONE,
        group: "generic",
        since: "2.8.0",
        summary: "Lists the keys step by step",
        subcommands: &[],
    },
    Spec {
        full_name: "script",
        name: Name::Script,
        arity: -2,
        flags: &[],
        keys: Keys::NONE,
        group: "scripting",
        since: "2.6.0",
        summary: "Commands about scripts, of which there are none",
        subcommands: SCRIPT,
    },
    Spec {
        full_name: "select",
        name: Name::Select,
        arity: 2,
        flags: &["loading", "stale", "fast"],
        keys: Keys::NONE,
        group: "connection",
        since: "1.0.0",
        summary: "Selects the only database",
        subcommands: &[],
    },
    Spec {
        full_name: "set",
        name: Name::Set,
        arity: -3,
        flags: &["write", "denyoom"],
        keys: Keys::ONE,
        group: "string",
        since: "1.0.0",
        summary: "Sets a key, on conditions",
        subcommands: &[],
    },
    Spec {
        full_name: "setnx",
        name: Name::SetNx,
        arity: 3,
        flags: &["write", "denyoom", "fast"],
        keys: Keys::ONE,
        group: "string",
        since: "1.0.0",
        summary: "Sets a key if it is not there",
        subcommands: &[],
    },
    Spec {
        full_name: "setrange",
        name: Name::SetRange,
        arity: 4,
        flags: &["write", "denyoom"],
        keys: Keys::ONE,
        group: "string",
        since: "2.2.0",
        summary: "Overwrites a part of the value of a key",
        subcommands: &[],
    },
    Spec {
        full_name: "strlen",
        name: Name::StrLen,
        arity: 2,
        flags: &["readonly", "fast"],
        keys: Keys::ONE,
        group: "string",
        since: "2.2.0",
        summary: "Gets the length of the value of a key",
        subcommands: &[],
    },
    Spec {
        full_name: "substr",
        name: Name::SubStr,
        arity: 4,
        flags: &["readonly"],
        keys: Keys::ONE,
        group: "string",
        since: "1.0.0",
        summary: "Gets a part of the value of a key",
        subcommands: &[],
    },
    Spec {
        full_name: "type",
        name: Name::Type,
        arity: 2,
        flags: &["readonly", "fast"],
        keys: Keys::ONE,
        group: "generic",
        since: "1.0.0",
        summary: "Gets the type of a key's value",
        subcommands: &[],
    },
    Spec {
        full_name: "unlink",
        name: Name::Unlink,
        arity: -2,
        flags: &["write", "fast"],
        keys: Keys::ALL,
        group: "generic",
        since: "4.0.0",
        summary: "Removes keys",
        subcommands: &[],
    },
];

const CLIENT: &[Spec] = &[
    Spec {
        full_name: "client|getname",
        name: Name::ClientGetName,
        arity: 2,
        flags: &[],
        keys: Keys::NONE,
        group: "connection",
        since: "2.6.9",
        summary: "Gets the name of the connection",
        subcommands: &[],
    },
    Spec {
        full_name: "client|help",
        name: Name::ClientHelp,
        arity: 2,
        flags: &[],
        keys: Keys::NONE,
        group: "connection",
        since: "5.0.0",
        summary: "Lists the subcommands",
        subcommands: &[],
    },
    Spec {
        full_name: "client|id",
        name: Name::ClientId,
        arity: 2,
        flags: &[],
        keys: Keys::NONE,
        group: "connection",
        since: "5.0.0",
        summary: "Gets the number of the connection",
        subcommands: &[],
    },
    Spec {
        full_name: "client|info",
        name: Name::ClientInfo,
        arity: 2,
        flags: &[],
        keys: Keys::NONE,
        group: "connection",
        since: "6.2.0",
        summary: "Describes the connection",
        subcommands: &[],
    },
    Spec {
        full_name: "client|list",
        name: Name::ClientList,
        arity: -2,
        flags: &[],
        keys: Keys::NONE,
        group: "connection",
        since: "2.4.0",
        summary: "Describes all connections",
        subcommands: &[],
    },
    Spec {
        full_name: "client|no-evict",
        name: Name::ClientNoEvict,
        arity: 3,
        flags: &[],
        keys: Keys::NONE,
        group: "connection",
        since: "7.0.0",
        summary: "Protects the connection from eviction, which there is none of",
        subcommands: &[],
    },
    Spec {
        full_name: "client|no-touch",
        name: Name::ClientNoTouch,
        arity: 3,
        flags: &[],
        keys: Keys::NONE,
        group: "connection",
        since: "7.2.0",
        summary: "Keeps access times as they are, of which there are none",
        subcommands: &[],
    },
    Spec {
        full_name: "client|reply",
        name: Name::ClientReply,
        arity: 3,
        flags: &[],
        keys: Keys::NONE,
        group: "connection",
        since: "3.2.0",
        summary: "Turns replies on or off",
        subcommands: &[],
    },
    Spec {
        full_name: "client|setinfo",
        name: Name::ClientSetInfo,
        arity: 4,
        flags: &[],
        keys: Keys::NONE,
        group: "connection",
        since: "7.2.0",
        summary: "Names the client library",
        subcommands: &[],
    },
    Spec {
        full_name: "client|setname",
        name: Name::ClientSetName,
        arity: 3,
        flags: &[],
        keys: Keys::NONE,
        group: "connection",
        since: "2.6.9",
        summary: "Names the connection",
        subcommands: &[],
    },
];

const COMMAND: &[Spec] = &[
    Spec {
        full_name: "command|count",
        name: Name::CommandCount,
        arity: 2,
        flags: &[],
        keys: Keys::NONE,
        group: "server",
        since: "2.8.13",
        summary: "Counts the commands",
        subcommands: &[],
    },
    Spec {
        full_name: "command|docs",
        name: Name::CommandDocs,
        arity: -2,
        flags: &[],
        keys: Keys::NONE,
        group: "server",
        since: "7.0.0",
        summary: "Documents commands",
        subcommands: &[],
    },
    Spec {
        full_name: "command|getkeys",
        name: Name::CommandGetKeys,
        arity: -4,
        flags: &[],
        keys: Keys::NONE,
        group: "server",
        since: "2.8.13",
        summary: "Finds the keys of a whole command",
        subcommands: &[],
    },
    Spec {
        full_name: "command|help",
        name: Name::CommandHelp,
        arity: 2,
        flags: &[],
        keys: Keys::NONE,
        group: "server",
        since: "5.0.0",
        summary: "Lists the subcommands",
        subcommands: &[],
    },
    Spec {
        full_name: "command|info",
        name: Name::CommandInfo,
        arity: -2,
        flags: &[],
        keys: Keys::NONE,
        group: "server",
        since: "2.8.13",
        summary: "Describes commands",
        subcommands: &[],
    },
    Spec {
        full_name: "command|list",
        name: Name::CommandList,
        arity: -2,
        flags: &[],
        keys: Keys::NONE,
        group: "server",
        since: "7.0.0",
        summary: "Lists the names of the commands",
        subcommands: &[],
    },
];

const CONFIG: &[Spec] = &[
    Spec {
        full_name: "config|get",
        name: Name::ConfigGet,
        arity: -3,
        flags: &[],
        keys: Keys::NONE,
        group: "server",
        since: "2.0.0",
        summary: "Gets parameters that match patterns",
        subcommands: &[],
    },
    Spec {
        full_name: "config|help",
        name: Name::ConfigHelp,
        arity: 2,
        flags: &[],
        keys: Keys::NONE,
        group: "server",
        since: "5.0.0",
        summary: "Lists the subcommands",
        subcommands: &[],
    },
    Spec {
        full_name: "config|resetstat",
        name: Name::ConfigResetStat,
        arity: 2,
        flags: &[],
        keys: Keys::NONE,
        group: "server",
        since: "2.0.0",
        summary: "Resets the statistics",
        subcommands: &[],
    },
    Spec {
        full_name: "config|rewrite",
        name: Name::ConfigRewrite,
        arity: 2,
        flags: &[],
        keys: Keys::NONE,
        group: "server",
        since: "2.8.0",
        summary: "Rewrites the configuration file, of which there is none",
        subcommands: &[],
    },
    Spec {
        full_name: "config|set",
        name: Name::ConfigSet,
        arity: -4,
        flags: &[],
        keys: Keys::NONE,
        group: "server",
        since: "2.0.0",
        summary: "Sets parameters, all of which are fixed",
        subcommands: &[],
    },
];

const FUNCTION: &[Spec] = &[Spec {
    full_name: "function|flush",
    name: Name::FunctionFlush,
    arity: -2,
    flags: &[],
    keys: Keys::NONE,
    group: "scripting",
    since: "7.0.0",
    summary: "Removes all functions",
    subcommands: &[],
}];

const SCRIPT: &[Spec] = &[Spec {
    full_name: "script|flush",
    name: Name::ScriptFlush,
    arity: -2,
    flags: &[],
    keys: Keys::NONE,
    group: "scripting",
    since: "2.6.0",
    summary: "Removes all scripts",
    subcommands: &[],
}];

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Vec<Bytes> {
        line.split(' ')
            .map(|word| Bytes::copy_from_slice(word.as_bytes()))
            .collect()
    }

    #[test]
    fn names_are_sorted_for_the_search() {
        let tables = COMMANDS
            .iter()
            .map(|spec| spec.subcommands)
            .chain([COMMANDS]);
        for table in tables {
            assert!(table.is_sorted_by(|a, b| a.own_name() < b.own_name()));
        }
    }

    #[test]
    fn requests_resolve_to_commands_and_subcommands() {
        assert_eq!(resolve(&request("gEt a")).unwrap().name, Name::Get);
        assert_eq!(resolve(&request("client id")).unwrap().name, Name::ClientId);
        assert_eq!(resolve(&request("COMMAND")).unwrap().name, Name::Command);
        for (line, text) in [
            ("get", "ERR wrong number of arguments for 'get' command"),
            ("get a b", "ERR wrong number of arguments for 'get' command"),
            (
                "CONFIG",
                "ERR wrong number of arguments for 'config' command",
            ),
            (
                "config GET",
                "ERR wrong number of arguments for 'config|get' command",
            ),
            (
                "config foo",
                "ERR unknown subcommand 'foo'. Try CONFIG HELP.",
            ),
            (
                "foo bar baz",
                "ERR unknown command 'foo', with args beginning with: 'bar' 'baz' ",
            ),
            (
                "foo",
                "ERR unknown command 'foo', with args beginning with: ",
            ),
        ] {
            assert_eq!(resolve(&request(line)).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn long_unknown_commands_are_cut_in_the_error() {
        let long = "x".repeat(1000);
        let error = resolve(&request(&format!("{long} {long} {long}")))
            .unwrap_err()
            .to_string();
        let cut = "x".repeat(128);
        let expected = format!("ERR unknown command '{cut}', with args beginning with: '{cut}' ");
        assert_eq!(error, expected);
    }

    #[test]
    fn keys_are_found_at_their_positions() {
        let keys = |line: &str| -> Vec<String> {
            let request = request(line);
            let spec = resolve(&request).unwrap();
            spec.keys.of(&request).map(|key| text(key)).collect()
        };
        assert_eq!(keys("mset a 1 b 2"), ["a", "b"]);
        assert_eq!(keys("set a 1 NX"), ["a"]);
        assert_eq!(keys("del a b c"), ["a", "b", "c"]);
        assert!(keys("ping").is_empty());
    }
}
