//! The rows of the table of commands.

use super::spec::{Keys, Name, Spec};

/// Rows of: name, what it is in the program, arity, flags, keys, group, since, summary, and the
/// subcommands if it has any.
macro_rules! rows {
    ($($full_name:literal $name:ident $arity:literal $flags:literal $keys:ident
        $group:literal $since:literal $summary:literal $($subcommands:ident)?;)*) => {
        &[$(Spec {
            full_name: $full_name,
            name: Name::$name,
            arity: $arity,
            flags: $flags,
            keys: Keys::$keys,
            group: $group,
            since: $since,
            summary: $summary,
            subcommands: rows!(@ $($subcommands)?),
        },)*]
    };
    (@) => { &[] };
    (@ $subcommands:ident) => { $subcommands };
}

/// All commands, sorted by name.
pub static COMMANDS: &[Spec] = rows! {
    "append" Append 3 "write denyoom fast" ONE
        "string" "2.0.0" "Appends to the value of a key";
    "client" Client -2 "" NONE
        "connection" "2.4.0" "Commands about connections" CLIENT;
    "command" Command -1 "loading stale" NONE
        "server" "2.8.13" "Describes the commands" COMMAND;
    "config" Config -2 "" NONE
        "server" "2.0.0" "Commands about the configuration" CONFIG;
    "dbsize" DbSize 1 "readonly fast" NONE
        "server" "1.0.0" "Counts the keys";
    "decr" Decr 2 "write denyoom fast" ONE
        "string" "1.0.0" "Subtracts one from the integer of a key";
    "decrby" DecrBy 3 "write denyoom fast" ONE
        "string" "1.0.0" "Subtracts from the integer of a key";
    "del" Del -2 "write" ALL
        "generic" "1.0.0" "Removes keys";
    "echo" Echo 2 "loading stale fast" NONE
        "connection" "1.0.0" "Answers its argument";
    "exists" Exists -2 "readonly fast" ALL
        "generic" "1.0.0" "Counts the keys that are there";
    "flushall" FlushAll -1 "write" NONE
        "server" "1.0.0" "Removes all keys";
    "flushdb" FlushDb -1 "write" NONE
        "server" "1.0.0" "Removes all keys of the only database";
    "function" Function -2 "" NONE
        "scripting" "7.0.0" "Commands about functions, of which there are none" FUNCTION;
    "get" Get 2 "readonly fast" ONE
        "string" "1.0.0" "Gets the value of a key";
    "getdel" GetDel 2 "write fast" ONE
        "string" "6.2.0" "Removes a key and gets what it held";
    "getrange" GetRange 4 "readonly" ONE
        "string" "2.4.0" "Gets a part of the value of a key";
    "getset" GetSet 3 "write denyoom fast" ONE
        "string" "1.0.0" "Sets a key and gets what it held";
    "hello" Hello -1 "noscript loading stale fast no_auth allow_busy" NONE
        "connection" "6.0.0" "Chooses the protocol";
    "incr" Incr 2 "write denyoom fast" ONE
        "string" "1.0.0" "Adds one to the integer of a key";
    "incrby" IncrBy 3 "write denyoom fast" ONE
        "string" "1.0.0" "Adds to the integer of a key";
    "incrbyfloat" IncrByFloat 3 "write denyoom fast" ONE
        "string" "2.6.0" "Adds to the floating-point number of a key";
    "info" Info -1 "loading stale" NONE
        "server" "1.0.0" "Describes the server and its load";
    "keys" Keys 2 "readonly" NONE
        "generic" "1.0.0" "Lists the keys that match a pattern";
    "mget" MGet -2 "readonly fast" ALL
        "string" "1.0.0" "Gets the values of keys";
    "mset" MSet -3 "write denyoom" PAIRS
        "string" "1.0.1" "Sets keys that lie in one range";
    "msetnx" MSetNx -3 "write denyoom" PAIRS
        "string" "1.0.1" "Sets keys that lie in one range if none is there";
    "ping" Ping -1 "fast" NONE
        "connection" "1.0.0" "Answers PONG or its argument";
    "quit" Quit -1 "noscript loading stale fast no_auth allow_busy" NONE
        "connection" "1.0.0" "Closes the connection";
    "range" Range -3 "readonly" NONE
        "generic" "1.0.0" "Gets keys and values in key order (not in Redis)";
    "reset" Reset 1 "noscript loading stale fast no_auth allow_busy" NONE
        "connection" "6.2.0" "Makes the connection as new";
    "scan" Scan -2 "readonly" NONE
        "generic" "2.8.0" "Lists the keys step by step";
    "script" Script -2 "" NONE
        "scripting" "2.6.0" "Commands about scripts, of which there are none" SCRIPT;
    "select" Select 2 "loading stale fast" NONE
        "connection" "1.0.0" "Selects the only database";
    "set" Set -3 "write denyoom" ONE
        "string" "1.0.0" "Sets a key, on conditions";
    "setnx" SetNx 3 "write denyoom fast" ONE
        "string" "1.0.0" "Sets a key if it is not there";
    "setrange" SetRange 4 "write denyoom" ONE
        "string" "2.2.0" "Overwrites a part of the value of a key";
    "strlen" StrLen 2 "readonly fast" ONE
        "string" "2.2.0" "Gets the length of the value of a key";
    "substr" SubStr 4 "readonly" ONE
        "string" "1.0.0" "Gets a part of the value of a key";
    "type" Type 2 "readonly fast" ONE
        "generic" "1.0.0" "Gets the type of a key's value";
    "unlink" Unlink -2 "write fast" ALL
        "generic" "4.0.0" "Removes keys";
};

const CLIENT: &[Spec] = rows! {
    "client|getname" ClientGetName 2 "" NONE
        "connection" "2.6.9" "Gets the name of the connection";
    "client|help" ClientHelp 2 "" NONE
        "connection" "5.0.0" "Lists the subcommands";
    "client|id" ClientId 2 "" NONE
        "connection" "5.0.0" "Gets the number of the connection";
    "client|info" ClientInfo 2 "" NONE
        "connection" "6.2.0" "Describes the connection";
    "client|list" ClientList -2 "" NONE
        "connection" "2.4.0" "Describes all connections";
    "client|no-evict" ClientNoEvict 3 "" NONE
        "connection" "7.0.0" "Protects the connection from eviction, which there is none of";
    "client|no-touch" ClientNoTouch 3 "" NONE
        "connection" "7.2.0" "Keeps access times as they are, of which there are none";
    "client|reply" ClientReply 3 "" NONE
        "connection" "3.2.0" "Turns replies on or off";
    "client|setinfo" ClientSetInfo 4 "" NONE
        "connection" "7.2.0" "Names the client library";
    "client|setname" ClientSetName 3 "" NONE
        "connection" "2.6.9" "Names the connection";
};

const COMMAND: &[Spec] = rows! {
    "command|count" CommandCount 2 "" NONE
        "server" "2.8.13" "Counts the commands";
    "command|docs" CommandDocs -2 "" NONE
        "server" "7.0.0" "Documents commands";
    "command|getkeys" CommandGetKeys -4 "" NONE
        "server" "2.8.13" "Finds the keys of a whole command";
    "command|help" CommandHelp 2 "" NONE
        "server" "5.0.0" "Lists the subcommands";
    "command|info" CommandInfo -2 "" NONE
        "server" "2.8.13" "Describes commands";
    "command|list" CommandList -2 "" NONE
        "server" "7.0.0" "Lists the names of the commands";
};

const CONFIG: &[Spec] = rows! {
    "config|get" ConfigGet -3 "" NONE
        "server" "2.0.0" "Gets parameters that match patterns";
    "config|help" ConfigHelp 2 "" NONE
        "server" "5.0.0" "Lists the subcommands";
    "config|resetstat" ConfigResetStat 2 "" NONE
        "server" "2.0.0" "Resets the statistics";
    "config|rewrite" ConfigRewrite 2 "" NONE
        "server" "2.8.0" "Rewrites the configuration file, of which there is none";
    "config|set" ConfigSet -4 "" NONE
        "server" "2.0.0" "Sets parameters, all of which are fixed";
};

const FUNCTION: &[Spec] = rows! {
    "function|flush" FunctionFlush -2 "" NONE
        "scripting" "7.0.0" "Removes all functions";
};

const SCRIPT: &[Spec] = rows! {
    "script|flush" ScriptFlush -2 "" NONE
        "scripting" "2.6.0" "Removes all scripts";
};
