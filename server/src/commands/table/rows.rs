//! The rows of the table of commands.

use super::spec::{Client, Cluster, Command, Config, Keys, Latency, Name, Object, SlowLog, Spec};

/// Makes the rows, numbered from the first number on. A row has a name, the command in the program,
/// arity, flags, categories, where the keys are, and what is done with them. The next line has
/// group, since, summary, and the subcommands if there are any.
macro_rules! rows {
    ($first_number:literal =>
        $($full_name:literal $name:ident $(($subcommand:ident))? $arity:literal
        $flags:literal $categories:literal
        $keys:ident $key_flags:literal
        $group:literal $since:literal $summary:literal $($subcommands:ident)?;)*) => {
        &numbered($first_number, [$(Spec {
            number: 0,
            full_name: $full_name,
            name: Name::$name $(($name::$subcommand))?,
            arity: $arity,
            flags: $flags,
            categories: $categories,
            keys: Keys::$keys,
            key_flags: $key_flags,
            group: $group,
            since: $since,
            summary: $summary,
            subcommands: rows!(@ $($subcommands)?),
        },)*])
    };
    (@) => { &[] };
    (@ $subcommands:ident) => { $subcommands };
}

/// The numbers of all rows are below this.
pub const NUMBERS: u16 = 512;

/// Gives the rows numbers, from `first` on.
const fn numbered<const N: usize>(first: u16, mut rows: [Spec; N]) -> [Spec; N] {
    let mut at = 0;
    while at < N {
        rows[at].number = first + at as u16;
        at += 1;
    }
    rows
}

/// All commands, sorted by name.
pub static COMMANDS: &[Spec] = rows! { 0 =>
    "append" Append 3 "write denyoom fast" "string" ONE "RW insert"
        "string" "2.0.0" "Appends to the value of a key";
    "asking" Asking 1 "fast" "connection" NONE ""
        "cluster" "3.0.0" "Is accepted: any node takes any key";
    "auth" Auth -2 "noscript loading stale fast no_auth allow_busy" "connection" NONE ""
        "connection" "1.0.0" "Refuses every password, since there is none";
    "client" Container -2 "" "" NONE ""
        "connection" "2.4.0" "Commands about connections" CLIENT;
    "cluster" Container -2 "" "" NONE ""
        "cluster" "3.0.0" "Commands for clients of clusters" CLUSTER;
    "command" Command(All) -1 "loading stale" "connection" NONE ""
        "server" "2.8.13" "Describes the commands" COMMAND;
    "config" Container -2 "" "" NONE ""
        "server" "2.0.0" "Commands about the configuration" CONFIG;
    "copy" Copy -3 "write denyoom" "keyspace" TWO "RO access|OW update"
        "generic" "6.2.0" "Copies the value of a key to another key of its range";
    "dbsize" DbSize 1 "readonly fast" "keyspace" NONE ""
        "server" "1.0.0" "Counts the keys";
    "debug" Debug -2 "admin noscript loading stale protected" "" NONE ""
        "server" "1.0.0" "Has replicas of this node stand still, if that is allowed";
    "decr" Decr 2 "write denyoom fast" "string" ONE "RW access update"
        "string" "1.0.0" "Subtracts one from the integer of a key";
    "decrby" DecrBy 3 "write denyoom fast" "string" ONE "RW access update"
        "string" "1.0.0" "Subtracts from the integer of a key";
    "del" Del -2 "write" "keyspace" ALL "RM delete"
        "generic" "1.0.0" "Removes keys";
    "discard" Discard 1 "noscript loading stale fast allow_busy" "transaction" NONE ""
        "transactions" "2.0.0" "Ends a transaction that was refused";
    "echo" Echo 2 "loading stale fast" "connection" NONE ""
        "connection" "1.0.0" "Answers its argument";
    "exec" Exec 1 "noscript loading stale skip_slowlog" "transaction" NONE ""
        "transactions" "1.2.0" "Ends a transaction that was refused";
    "exists" Exists -2 "readonly fast" "keyspace" ALL "RO"
        "generic" "1.0.0" "Counts the keys that are there";
    "expire" Expire -3 "write fast" "keyspace" ONE "RW update"
        "generic" "1.0.0" "Sets after how many seconds a key expires";
    "expireat" ExpireAt -3 "write fast" "keyspace" ONE "RW update"
        "generic" "1.2.0" "Sets at which second a key expires";
    "expiretime" ExpireTime 2 "readonly fast" "keyspace" ONE "RO access"
        "generic" "7.0.0" "Tells at which second a key expires";
    "flushall" FlushAll -1 "write" "keyspace dangerous" NONE ""
        "server" "1.0.0" "Removes all keys";
    "flushdb" FlushDb -1 "write" "keyspace dangerous" NONE ""
        "server" "1.0.0" "Removes all keys of the database";
    "function" Container -2 "" "" NONE ""
        "scripting" "7.0.0" "Commands about functions, of which there are none" FUNCTION;
    "get" Get 2 "readonly fast" "string" ONE "RO access"
        "string" "1.0.0" "Gets the value of a key";
    "getdel" GetDel 2 "write fast" "string" ONE "RW access delete"
        "string" "6.2.0" "Removes a key and gets what it held";
    "getex" GetEx -2 "write fast" "string" ONE "RW access update"
        "string" "6.2.0" "Gets the value of a key, and sets when it expires";
    "getrange" GetRange 4 "readonly" "string" ONE "RO access"
        "string" "2.4.0" "Gets a part of the value of a key";
    "getset" GetSet 3 "write denyoom fast" "string" ONE "RW access update"
        "string" "1.0.0" "Sets a key and gets what it held";
    "hello" Hello -1 "noscript loading stale fast no_auth allow_busy" "connection" NONE ""
        "connection" "6.0.0" "Chooses the protocol";
    "incr" Incr 2 "write denyoom fast" "string" ONE "RW access update"
        "string" "1.0.0" "Adds one to the integer of a key";
    "incrby" IncrBy 3 "write denyoom fast" "string" ONE "RW access update"
        "string" "1.0.0" "Adds to the integer of a key";
    "incrbyfloat" IncrByFloat 3 "write denyoom fast" "string" ONE "RW access update"
        "string" "2.6.0" "Adds to the floating-point number of a key";
    "info" Info -1 "loading stale" "dangerous" NONE ""
        "server" "1.0.0" "Describes the server and its load";
    "keys" Keys 2 "readonly" "keyspace dangerous" NONE ""
        "generic" "1.0.0" "Lists the keys that match a pattern";
    "lastsave" LastSave 1 "loading stale fast" "admin dangerous" NONE ""
        "server" "1.0.0" "Tells when the node was started: what it had then was on its disk";
    "latency" Container -2 "" "" NONE ""
        "server" "2.8.13" "Commands about commands that took long" LATENCY;
    "lcs" Lcs -3 "readonly" "string" TWO "RO access"
        "string" "7.0.0" "Finds the longest common subsequence of two values";
    "memory" Container -2 "" "" NONE ""
        "server" "4.0.0" "Commands about memory" MEMORY;
    "mget" MGet -2 "readonly fast" "string" ALL "RO access"
        "string" "1.0.0" "Gets the values of keys";
    "monitor" Monitor 1 "admin noscript loading stale" "" NONE ""
        "server" "1.0.0" "Shows the commands that clients of this node send from now on";
    "move" Move 3 "write fast" "keyspace" ONE "RW access update"
        "generic" "1.0.0" "Is refused; COPY and DEL do the same in two steps";
    "mset" MSet -3 "write denyoom" "string" PAIRS "OW update"
        "string" "1.0.1" "Sets keys that lie in one range";
    "msetnx" MSetNx -3 "write denyoom" "string" PAIRS "OW insert"
        "string" "1.0.1" "Sets keys that lie in one range if none is there";
    "multi" Multi 1 "noscript loading stale fast allow_busy" "transaction" NONE ""
        "transactions" "1.2.0" "Is refused, with what follows up to EXEC";
    "object" Container -2 "" "" NONE ""
        "generic" "2.2.3" "Commands about how values are kept" OBJECT;
    "persist" Persist 2 "write fast" "keyspace" ONE "RW update"
        "generic" "2.2.0" "Has a key not expire";
    "pexpire" PExpire -3 "write fast" "keyspace" ONE "RW update"
        "generic" "2.6.0" "Sets after how many milliseconds a key expires";
    "pexpireat" PExpireAt -3 "write fast" "keyspace" ONE "RW update"
        "generic" "2.6.0" "Sets at which millisecond a key expires";
    "pexpiretime" PExpireTime 2 "readonly fast" "keyspace" ONE "RO access"
        "generic" "7.0.0" "Tells at which millisecond a key expires";
    "ping" Ping -1 "fast" "connection" NONE ""
        "connection" "1.0.0" "Answers PONG or its argument";
    "psetex" PSetEx 4 "write denyoom" "string" ONE "OW update"
        "string" "2.6.0" "Sets a key that expires after so many milliseconds";
    "pttl" PTtl 2 "readonly fast" "keyspace" ONE "RO access"
        "generic" "2.6.0" "Tells in how many milliseconds a key expires";
    "quit" Quit -1 "noscript loading stale fast no_auth allow_busy" "connection" NONE ""
        "connection" "1.0.0" "Closes the connection";
    "randomkey" RandomKey 1 "readonly" "keyspace" NONE ""
        "generic" "1.0.0" "Gets any key";
    "range" Range -3 "readonly" "keyspace" NONE ""
        "generic" "1.0.0" "Gets keys and values in key order (not in Redis)";
    "readonly" ReadOnly 1 "loading stale fast" "connection" NONE ""
        "cluster" "3.0.0" "Has reads served by any node, linearizably";
    "readwrite" ReadWrite 1 "loading stale fast" "connection" NONE ""
        "cluster" "3.0.0" "Has reads served by the leaders of slots";
    "rename" Rename 3 "write" "keyspace" TWO "RW access delete|OW update"
        "generic" "1.0.0" "Gives a value another key of its range";
    "renamenx" RenameNx 3 "write fast" "keyspace" TWO "RW access delete|OW insert"
        "generic" "1.0.0" "Gives a value another key of its range that is not there";
    "reset" Reset 1 "noscript loading stale fast no_auth allow_busy" "connection" NONE ""
        "connection" "6.2.0" "Makes the connection as new";
    "role" Role 1 "noscript loading stale fast" "admin dangerous" NONE ""
        "server" "2.8.12" "Tells that the node takes writes";
    "scan" Scan -2 "readonly" "keyspace" NONE ""
        "generic" "2.8.0" "Lists the keys step by step";
    "script" Container -2 "" "" NONE ""
        "scripting" "2.6.0" "Commands about scripts, of which there are none" SCRIPT;
    "select" Select 2 "loading stale fast" "connection" NONE ""
        "connection" "1.0.0" "Chooses a database";
    "set" Set -3 "write denyoom" "string" ONE "RW access update variable_flags"
        "string" "1.0.0" "Sets a key, on conditions";
    "setex" SetEx 4 "write denyoom" "string" ONE "OW update"
        "string" "2.0.0" "Sets a key that expires after so many seconds";
    "setnx" SetNx 3 "write denyoom fast" "string" ONE "OW insert"
        "string" "1.0.0" "Sets a key if it is not there";
    "setrange" SetRange 4 "write denyoom" "string" ONE "RW update"
        "string" "2.2.0" "Overwrites a part of the value of a key";
    "slowlog" Container -2 "" "" NONE ""
        "server" "2.2.12" "Commands about the commands that took longest" SLOWLOG;
    "strlen" StrLen 2 "readonly fast" "string" ONE "RO"
        "string" "2.2.0" "Gets the length of the value of a key";
    "substr" SubStr 4 "readonly" "string" ONE "RO access"
        "string" "1.0.0" "Gets a part of the value of a key";
    "swapdb" SwapDb 3 "write fast" "keyspace dangerous" NONE ""
        "server" "4.0.0" "Is refused: no entry of a log reaches all ranges";
    "time" Time 1 "loading stale fast" "" NONE ""
        "server" "2.6.0" "Tells the time of this node's wall clock";
    "touch" Touch -2 "readonly fast" "keyspace" ALL "RO"
        "generic" "3.2.1" "Counts the keys that are there";
    "ttl" Ttl 2 "readonly fast" "keyspace" ONE "RO access"
        "generic" "1.0.0" "Tells in how many seconds a key expires";
    "type" Type 2 "readonly fast" "keyspace" ONE "RO"
        "generic" "1.0.0" "Gets the type of a key's value";
    "unlink" Unlink -2 "write fast" "keyspace" ALL "RM delete"
        "generic" "4.0.0" "Removes keys";
    "unwatch" Unwatch 1 "noscript loading stale fast allow_busy" "transaction" NONE ""
        "transactions" "2.2.0" "Forgets watched keys, of which there are none";
    "wait" Wait 3 "noscript" "connection" NONE ""
        "generic" "3.0.0" "Tells on how many other nodes every write is sure to be";
    "watch" Watch -2 "noscript loading stale fast allow_busy" "transaction" ALL "RO"
        "transactions" "2.2.0" "Is refused, as transactions are";
};

const CLIENT: &[Spec] = rows! { 128 =>
    "client|caching" Client(Caching) 3 "noscript loading stale" "connection" NONE ""
        "connection" "6.0.0" "Is refused, since there is no tracking of keys";
    "client|getname" Client(GetName) 2 "noscript loading stale" "connection" NONE ""
        "connection" "2.6.9" "Gets the name of the connection";
    "client|getredir" Client(GetRedir) 2 "noscript loading stale" "connection" NONE ""
        "connection" "6.0.0" "Gets whom invalidations are sent to: nobody";
    "client|help" Client(Help) 2 "loading stale" "connection" NONE ""
        "connection" "5.0.0" "Lists the subcommands";
    "client|id" Client(Id) 2 "noscript loading stale" "connection" NONE ""
        "connection" "5.0.0" "Gets the number of the connection";
    "client|info" Client(Info) 2 "noscript loading stale" "connection" NONE ""
        "connection" "6.2.0" "Describes the connection";
    "client|kill" Client(Kill) -3 "admin noscript loading stale" "connection" NONE ""
        "connection" "2.4.0" "Ends connections to this node";
    "client|list" Client(List) -2 "admin noscript loading stale" "connection" NONE ""
        "connection" "2.4.0" "Describes all connections";
    "client|no-evict" Client(NoEvict) 3 "admin noscript loading stale" "connection" NONE ""
        "connection" "7.0.0" "Is noted: no connection is evicted for its memory alone";
    "client|no-touch" Client(NoTouch) 3 "noscript loading stale" "connection" NONE ""
        "connection" "7.2.0" "Keeps access times as they are, of which there are none";
    "client|pause" Client(Pause) -3 "admin noscript loading stale" "connection" NONE ""
        "connection" "3.0.0" "Has commands of this node's clients wait";
    "client|reply" Client(Reply) 3 "noscript loading stale" "connection" NONE ""
        "connection" "3.2.0" "Turns replies on or off";
    "client|setinfo" Client(SetInfo) 4 "noscript loading stale" "connection" NONE ""
        "connection" "7.2.0" "Names the client library";
    "client|setname" Client(SetName) 3 "noscript loading stale" "connection" NONE ""
        "connection" "2.6.9" "Names the connection";
    "client|tracking" Client(Tracking) -3 "noscript loading stale" "connection" NONE ""
        "connection" "6.0.0" "Turns tracking of keys off, which it is";
    "client|trackinginfo" Client(TrackingInfo) 2 "noscript loading stale" "connection" NONE ""
        "connection" "6.2.0" "Describes the tracking of keys, which is off";
    "client|unblock" Client(Unblock) -3 "admin noscript loading stale" "connection" NONE ""
        "connection" "5.0.0" "Finds nobody, since no command blocks";
    "client|unpause" Client(Unpause) 2 "admin noscript loading stale" "connection" NONE ""
        "connection" "6.2.0" "Ends CLIENT PAUSE";
};

const CLUSTER: &[Spec] = rows! { 160 =>
    "cluster|countkeysinslot" Cluster(CountKeysInSlot) 3 "stale" "" NONE ""
        "cluster" "3.0.0" "Counts the keys of a slot";
    "cluster|getkeysinslot" Cluster(GetKeysInSlot) 4 "stale" "" NONE ""
        "cluster" "3.0.0" "Lists keys of a slot";
    "cluster|help" Cluster(Help) 2 "loading stale" "" NONE ""
        "cluster" "5.0.0" "Lists the subcommands";
    "cluster|info" Cluster(Info) 2 "loading stale" "" NONE ""
        "cluster" "3.0.0" "Describes the cluster";
    "cluster|keyslot" Cluster(KeySlot) 3 "loading stale" "" NONE ""
        "cluster" "3.0.0" "Tells the slot of a key";
    "cluster|myid" Cluster(MyId) 2 "loading stale" "" NONE ""
        "cluster" "3.0.0" "Tells the name of the node";
    "cluster|myshardid" Cluster(MyShardId) 2 "loading stale" "" NONE ""
        "cluster" "7.2.0" "Tells the name of the node, which is a shard of its own";
    "cluster|nodes" Cluster(Nodes) 2 "loading stale" "" NONE ""
        "cluster" "3.0.0" "Lists the nodes and their slots";
    "cluster|replicas" Cluster(Replicas) 3 "admin loading stale" "" NONE ""
        "cluster" "5.0.0" "Lists nothing: every node leads slots";
    "cluster|shards" Cluster(Shards) 2 "loading stale" "" NONE ""
        "cluster" "7.0.0" "Lists slots with their leaders and replicas, by nodes";
    "cluster|slots" Cluster(Slots) 2 "loading stale" "" NONE ""
        "cluster" "3.0.0" "Lists slots with their leaders and replicas";
};

const COMMAND: &[Spec] = rows! { 192 =>
    "command|count" Command(Count) 2 "loading stale" "connection" NONE ""
        "server" "2.8.13" "Counts the commands";
    "command|docs" Command(Docs) -2 "loading stale" "connection" NONE ""
        "server" "7.0.0" "Documents commands";
    "command|getkeys" Command(GetKeys) -4 "loading stale" "connection" NONE ""
        "server" "2.8.13" "Finds the keys of a whole command";
    "command|getkeysandflags" Command(GetKeysAndFlags) -4 "loading stale" "connection" NONE ""
        "server" "7.0.0" "Finds the keys of a whole command, and what it does with them";
    "command|help" Command(Help) 2 "loading stale" "connection" NONE ""
        "server" "5.0.0" "Lists the subcommands";
    "command|info" Command(Info) -2 "loading stale" "connection" NONE ""
        "server" "2.8.13" "Describes commands";
    "command|list" Command(List) -2 "loading stale" "connection" NONE ""
        "server" "7.0.0" "Lists the names of the commands";
};

const CONFIG: &[Spec] = rows! { 224 =>
    "config|get" Config(Get) -3 "admin noscript loading stale" "" NONE ""
        "server" "2.0.0" "Gets parameters that match patterns";
    "config|help" Config(Help) 2 "loading stale" "" NONE ""
        "server" "5.0.0" "Lists the subcommands";
    "config|resetstat" Config(ResetStat) 2 "admin noscript loading stale" "" NONE ""
        "server" "2.0.0" "Resets the statistics";
    "config|rewrite" Config(Rewrite) 2 "admin noscript loading stale" "" NONE ""
        "server" "2.8.0" "Rewrites the configuration file, of which there is none";
    "config|set" Config(Set) -4 "admin noscript loading stale" "" NONE ""
        "server" "2.0.0" "Sets parameters, as far as they can change";
};

const FUNCTION: &[Spec] = rows! { 256 =>
    "function|flush" FunctionFlush -2 "write noscript" "scripting" NONE ""
        "scripting" "7.0.0" "Removes all functions";
};

const SCRIPT: &[Spec] = rows! { 288 =>
    "script|flush" ScriptFlush -2 "noscript" "scripting" NONE ""
        "scripting" "2.6.0" "Removes all scripts";
};

const MEMORY: &[Spec] = rows! { 320 =>
    "memory|help" MemoryHelp 2 "loading stale" "" NONE ""
        "server" "4.0.0" "Lists the subcommands";
    "memory|usage" MemoryUsage -3 "readonly" "" SECOND "RO"
        "server" "4.0.0" "Tells what a key and its value take in memory";
};

const OBJECT: &[Spec] = rows! { 352 =>
    "object|encoding" Object(Encoding) 3 "readonly" "keyspace" SECOND "RO"
        "generic" "2.2.3" "Tells how Redis would keep the value";
    "object|freq" Object(Freq) 3 "readonly" "keyspace" SECOND "RO"
        "generic" "4.0.0" "Is refused: no accesses are counted";
    "object|help" Object(Help) 2 "loading stale" "keyspace" NONE ""
        "generic" "6.2.0" "Lists the subcommands";
    "object|idletime" Object(IdleTime) 3 "readonly" "keyspace" SECOND "RO"
        "generic" "2.2.3" "Is 0: no access times are kept";
    "object|refcount" Object(RefCount) 3 "readonly" "keyspace" SECOND "RO"
        "generic" "2.2.3" "Tells how many references Redis would count";
};

const LATENCY: &[Spec] = rows! { 384 =>
    "latency|doctor" Latency(Doctor) 2 "admin noscript loading stale" "" NONE ""
        "server" "2.8.13" "Tells which events took how long";
    "latency|graph" Latency(Graph) 3 "admin noscript loading stale" "" NONE ""
        "server" "2.8.13" "Draws the samples of an event";
    "latency|help" Latency(Help) 2 "loading stale" "" NONE ""
        "server" "2.8.13" "Lists the subcommands";
    "latency|histogram" Latency(Histogram) -2 "admin noscript loading stale" "" NONE ""
        "server" "7.0.0" "Tells how long commands took, in powers of two";
    "latency|history" Latency(History) 3 "admin noscript loading stale" "" NONE ""
        "server" "2.8.13" "Lists the samples of an event";
    "latency|latest" Latency(Latest) 2 "admin noscript loading stale" "" NONE ""
        "server" "2.8.13" "Lists the last sample of each event";
    "latency|reset" Latency(Reset) -2 "admin noscript loading stale" "" NONE ""
        "server" "2.8.13" "Forgets the samples of events";
};

const SLOWLOG: &[Spec] = rows! { 416 =>
    "slowlog|get" SlowLog(Get) -2 "admin loading stale" "" NONE ""
        "server" "2.2.12" "Lists the last commands that took long";
    "slowlog|help" SlowLog(Help) 2 "loading stale" "" NONE ""
        "server" "6.2.0" "Lists the subcommands";
    "slowlog|len" SlowLog(Len) 2 "admin loading stale" "" NONE ""
        "server" "2.2.12" "Counts the commands that SLOWLOG GET lists";
    "slowlog|reset" SlowLog(Reset) 2 "admin loading stale" "" NONE ""
        "server" "2.2.12" "Forgets the commands that took long";
};
