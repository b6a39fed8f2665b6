//! Each command's replies and errors, for every way that keys may lie on ranges.

mod support;

use logboat_server::layout::Partition;
use std::collections::BTreeSet;
use support::Server;

/// Sends each line and compares the reply, in a new database of each kind.
#[track_caller]
fn transcript(lines: &[(&str, &str)]) {
    for server in Server::of_each_kind() {
        let mut client = server.connect();
        for (line, expected) in lines {
            assert_eq!(client.ask(line), *expected, "{line}");
        }
    }
}

#[test]
fn connection_commands() {
    transcript(&[
        ("PING", "+PONG"),
        ("ping hello", "\"hello\""),
        ("ping a b", "-ERR wrong number of arguments for 'ping' command"),
        ("ECHO x", "\"x\""),
        ("ECHO", "-ERR wrong number of arguments for 'echo' command"),
        ("SELECT 0", "+OK"),
        ("SELECT 16", "-ERR DB index is out of range"),
        ("SELECT -1", "-ERR DB index is out of range"),
        ("SELECT x", "-ERR value is not an integer or out of range"),
        ("CLIENT GETNAME", "nil"),
        ("CLIENT SETNAME foo", "+OK"),
        ("CLIENT GETNAME", "\"foo\""),
        ("CLIENT SETINFO LIB-NAME redis-rs", "+OK"),
        ("CLIENT SETINFO lib-ver 1.0", "+OK"),
        ("CLIENT SETINFO x y", "-ERR Unrecognized option 'x'"),
        ("CLIENT NO-EVICT ON", "+OK"),
        ("CLIENT NO-TOUCH maybe", "-ERR syntax error"),
        ("CLIENT FOO", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP."),
        ("CLIENT", "-ERR wrong number of arguments for 'client' command"),
        ("CLIENT ID x", "-ERR wrong number of arguments for 'client|id' command"),
        ("CLIENT LIST TYPE replica", "\"\""),
        ("CLIENT LIST TYPE x", "-ERR Unknown client type 'x'"),
        ("HELLO 4", "-NOPROTO unsupported protocol version"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range"),
        ("HELLO 3 foo", "-ERR Syntax error in HELLO option 'foo'"),
        ("CLIENT TRACKING OFF", "+OK"),
        ("CLIENT TRACKING off BCAST REDIRECT 1 PREFIX a", "+OK"),
        ("CLIENT TRACKING ON", "-ERR client tracking is not supported"),
        ("CLIENT TRACKING maybe", "-ERR syntax error"),
        ("CLIENT TRACKING OFF foo", "-ERR syntax error"),
        ("CLIENT TRACKINGINFO", "[\"flags\", [\"off\"], \"redirect\", :-1, \"prefixes\", []]"),
        ("CLIENT GETREDIR", ":-1"),
        ("EXEC", "-ERR EXEC without MULTI"),
        (
            "EXEC x",
            "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' \
             command",
        ),
        ("DISCARD", "-ERR DISCARD without MULTI"),
        ("WATCH a", "-ERR WATCH is not supported, as transactions are not"),
        ("WATCH", "-ERR wrong number of arguments for 'watch' command"),
        ("UNWATCH", "+OK"),
        ("no\0such a\0 b", "-ERR unknown command 'no', with args beginning with: 'a' 'b' "),
        ("nosuch a b", "-ERR unknown command 'nosuch', with args beginning with: 'a' 'b' "),
        ("RESET", "+RESET"),
        ("CLIENT GETNAME", "nil"),
        ("QUIT", "+OK"),
    ]);
}

#[test]
fn set_and_get() {
    transcript(&[
        ("GET a", "nil"),
        ("SET a 1", "+OK"),
        ("GET a", "\"1\""),
        ("SET a _", "+OK"),
        ("GET a", "\"\""),
        ("SET a 2 NX", "nil"),
        ("SET a 2 XX", "+OK"),
        ("SET a 3 GET", "\"2\""),
        ("SET a 4 GET NX", "\"3\""),
        ("SET a 4 XX get", "\"3\""),
        ("SET b 1 XX", "nil"),
        ("SET b 1 XX GET", "nil"),
        ("GET b", "nil"),
        ("SET b 1 NX GET", "nil"),
        ("GET b", "\"1\""),
        ("SET a 5 NX XX", "-ERR syntax error"),
        ("SET a 5 foo", "-ERR syntax error"),
        ("SET a 5 KEEPTTL EX 10", "-ERR syntax error"),
        ("SET a 5 KEEPTTL", "+OK"),
        ("SET a 4 keepttl KEEPTTL GET XX", "\"5\""),
        ("SET a", "-ERR wrong number of arguments for 'set' command"),
        ("SETNX a 9", ":0"),
        ("SETNX c 9", ":1"),
        ("GETSET c 10", "\"9\""),
        ("GETSET new 10", "nil"),
        ("GETDEL c", "\"10\""),
        ("GETDEL c", "nil"),
        ("TYPE a", "+string"),
        ("TYPE c", "+none"),
    ]);
}

#[test]
fn set_if_equal() {
    transcript(&[
        ("SET a new IFEQ old", "nil"),
        ("GET a", "nil"),
        ("SET a old", "+OK"),
        ("SET a new IFEQ other", "nil"),
        ("SET a new IFEQ other GET", "\"old\""),
        ("GET a", "\"old\""),
        ("SET a new IFEQ old", "+OK"),
        ("SET a newer GET IFEQ new", "\"new\""),
        ("GET a", "\"newer\""),
        ("SET none x IFEQ y GET", "nil"),
        ("SET a x IFEQ", "-ERR syntax error"),
        ("SET a x IFEQ y NX", "-ERR syntax error"),
        ("SET a x XX IFEQ y", "-ERR syntax error"),
        ("SET a x IFEQ y IFEQ y", "-ERR syntax error"),
    ]);
}

#[test]
fn parts_of_strings() {
    transcript(&[
        ("STRLEN a", ":0"),
        ("APPEND a Hello", ":5"),
        ("APPEND a World", ":10"),
        ("STRLEN a", ":10"),
        ("GETRANGE a 0 3", "\"Hell\""),
        ("SUBSTR a -5 -1", "\"World\""),
        ("GETRANGE none 0 -1", "\"\""),
        ("GETRANGE a x 1", "-ERR value is not an integer or out of range"),
        ("SETRANGE a 5 Moon!", ":10"),
        ("GET a", "\"HelloMoon!\""),
        ("SETRANGE b 2 x", ":3"),
        ("GET b", "\"\\x00\\x00x\""),
        ("SETRANGE none 5 _", ":0"),
        ("EXISTS none", ":0"),
        ("SETRANGE a -1 x", "-ERR offset is out of range"),
        ("SETRANGE a x x", "-ERR value is not an integer or out of range"),
        (
            "SETRANGE a 536870908 world",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ),
        (
            "SETRANGE a 9223372036854775807 A",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ),
    ]);
}

#[test]
fn numbers() {
    transcript(&[
        ("INCR n", ":1"),
        ("INCRBY n 17179869184", ":17179869185"),
        ("DECRBY n 17179869186", ":-1"),
        ("DECR n", ":-2"),
        ("INCRBY n x", "-ERR value is not an integer or out of range"),
        ("DECRBY n -9223372036854775808", "-ERR decrement would overflow"),
        ("SET n 9223372036854775807", "+OK"),
        ("INCR n", "-ERR increment or decrement would overflow"),
        ("GET n", "\"9223372036854775807\""),
        ("SET n 1x", "+OK"),
        ("INCR n", "-ERR value is not an integer or out of range"),
        ("INCRBYFLOAT n 1", "-ERR value is not a valid float"),
        ("SET n 10.50", "+OK"),
        ("INCRBYFLOAT n 0.1", "\"10.6\""),
        ("INCRBYFLOAT n -5", "\"5.6\""),
        ("SET n 5.0e3", "+OK"),
        ("INCRBYFLOAT n 2.0e2", "\"5200\""),
        ("INCRBYFLOAT n inf", "-ERR increment would produce NaN or Infinity"),
        ("INCRBYFLOAT n x", "-ERR value is not a valid float"),
        ("GET n", "\"5200\""),
    ]);
}

#[test]
fn many_keys() {
    transcript(&[
        ("MSET {t}a 1 {t}b 2", "+OK"),
        ("MGET {t}a none {t}b {t}a", "[\"1\", nil, \"2\", \"1\"]"),
        ("MSET {t}a 1 {t}b", "-ERR wrong number of arguments for 'mset' command"),
        ("MSETNX {t}a 1 {t}b", "-ERR wrong number of arguments for 'msetnx' command"),
        ("MSETNX {t}c 3 {t}b 4", ":0"),
        ("GET {t}c", "nil"),
        ("MSETNX {t}c 3 {t}c 4", ":1"),
        ("GET {t}c", "\"4\""),
        ("SET x 1", "+OK"),
        ("SET y 1", "+OK"),
        ("EXISTS x x y none", ":3"),
        ("DBSIZE", ":5"),
        ("DEL x x none", ":1"),
        ("UNLINK y {t}a", ":2"),
        ("DBSIZE", ":2"),
        ("FLUSHALL foo", "-ERR syntax error"),
        ("FLUSHALL ASYNC", "+OK"),
        ("DBSIZE", ":0"),
        ("SET x 1", "+OK"),
        ("FLUSHDB", "+OK"),
        ("KEYS *", "[]"),
    ]);
}

#[test]
fn databases_are_apart() {
    transcript(&[
        ("SET a zero", "+OK"),
        ("SELECT 3", "+OK"),
        ("GET a", "nil"),
        ("MSET a three", "+OK"),
        ("SET b more", "+OK"),
        ("MGET a b", "[\"three\", \"more\"]"),
        ("DBSIZE", ":2"),
        ("SCAN 0 COUNT 1000 MATCH a", "[\"0\", [\"a\"]]"),
        ("KEYS a", "[\"a\"]"),
        ("RANGE a b", "[\"a\", \"three\"]"),
        ("COPY a a", "-ERR source and destination objects are the same"),
        ("COPY a a DB 3", "-ERR source and destination objects are the same"),
        ("COPY a a DB 0", ":0"),
        ("COPY a a DB 0 REPLACE", ":1"),
        ("COPY a a DB 16", "-ERR DB index is out of range"),
        ("COPY a a DB x", "-ERR value is not an integer or out of range"),
        ("COPY a a DB", "-ERR syntax error"),
        ("COPY none none DB 1", ":0"),
        ("MOVE a 3", "-ERR source and destination objects are the same"),
        ("MOVE a 16", "-ERR DB index is out of range"),
        ("MOVE a 1", "-ERR MOVE is not supported; COPY with DB and DEL do the same in two steps"),
        ("SWAPDB x 1", "-ERR invalid first DB index"),
        ("SWAPDB 0 x", "-ERR invalid second DB index"),
        ("SWAPDB 0 16", "-ERR DB index is out of range"),
        (
            "SWAPDB 0 1",
            "-ERR SWAPDB is not supported: no single entry of a log reaches all keys of a database",
        ),
        ("FLUSHDB", "+OK"),
        ("DBSIZE", ":0"),
        ("SET a three", "+OK"),
        ("RESET", "+RESET"),
        ("GET a", "\"three\""),
        ("SET a 1", "+OK"),
        ("SELECT 3", "+OK"),
        ("INCRBY a 1", "-ERR value is not an integer or out of range"),
        ("FLUSHALL", "+OK"),
        ("GET a", "nil"),
        ("SELECT 0", "+OK"),
        ("GET a", "nil"),
    ]);
}

#[test]
fn a_pipeline_changes_its_database_in_its_place() {
    for server in Server::of_each_kind() {
        let mut client = server.connect();
        client.send(b"SET a 0\r\nSELECT 1\r\nSET a 1\r\nGET a\r\nSELECT 0\r\nGET a\r\n");
        let replies: Vec<_> = (0..6).map(|_| client.reply()).collect();
        assert_eq!(replies, ["+OK", "+OK", "+OK", "\"1\"", "+OK", "\"0\""]);
        let line = client.ask("CLIENT INFO");
        assert!(line.contains(" db=0 "), "{line}");
    }
}

#[test]
fn keys_are_renamed_and_copied() {
    transcript(&[
        ("RENAME {t}a {t}b", "-ERR no such key"),
        ("SET {t}a 1", "+OK"),
        ("RENAME {t}a {t}b", "+OK"),
        ("EXISTS {t}a", ":0"),
        ("RENAME {t}b {t}b", "+OK"),
        ("RENAMENX {t}b {t}b", ":0"),
        ("RENAMENX {t}b {t}c", ":1"),
        ("GET {t}c", "\"1\""),
        ("COPY {t}c {t}d", ":1"),
        ("SET {t}c 2", "+OK"),
        ("COPY {t}c {t}d", ":0"),
        ("COPY {t}c {t}d replace", ":1"),
        ("GET {t}d", "\"2\""),
        ("COPY {t}c {t}d FOO", "-ERR syntax error"),
        ("TOUCH {t}c {t}c none", ":2"),
        ("RENAME a", "-ERR wrong number of arguments for 'rename' command"),
    ]);
    let server = Server::with(Partition::Range, 16);
    let mut client = server.connect();
    for line in ["RENAME a \u{7f}", "RENAMENX a \u{7f}", "COPY a \u{7f}"] {
        let refused = "-CROSSRANGE Keys in request don't lie in the same range";
        assert_eq!(client.ask(line), refused, "{line}");
    }
}

#[test]
fn a_random_key_is_one_of_those_that_are_there() {
    for server in Server::of_each_kind() {
        let mut client = server.connect();
        assert_eq!(client.ask("RANDOMKEY"), "nil");
        let keys = ["a", "b", "c", "\u{7f}"];
        for key in keys {
            client.ask(&format!("SET {key} 1"));
        }
        let seen: BTreeSet<_> = (0..200).map(|_| client.ask("RANDOMKEY")).collect();
        let known = keys.map(|key| format!("\"{}\"", key.as_bytes().escape_ascii()));
        assert!(seen.len() > 1 && seen.iter().all(|key| known.contains(key)), "{seen:?}");
    }
}

#[test]
fn values_are_described_as_redis_would_keep_them() {
    let refused = "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. \
                   Please note that when switching between policies at runtime LRU and LFU data \
                   will take some time to adjust.";
    transcript(&[
        ("OBJECT ENCODING a", "nil"),
        ("OBJECT FREQ a", "nil"),
        ("OBJECT IDLETIME a", "nil"),
        ("OBJECT REFCOUNT a", "nil"),
        ("SET a 123", "+OK"),
        ("OBJECT ENCODING a", "\"int\""),
        ("OBJECT REFCOUNT a", ":2147483647"),
        ("OBJECT FREQ a", refused),
        ("OBJECT IDLETIME a", ":0"),
        ("SET a 10000", "+OK"),
        ("OBJECT REFCOUNT a", ":1"),
        ("SET a 0123", "+OK"),
        ("OBJECT ENCODING a", "\"embstr\""),
        ("SET a aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeee", "+OK"),
        ("OBJECT ENCODING a", "\"embstr\""),
        ("APPEND a e", ":45"),
        ("OBJECT encoding a", "\"raw\""),
        ("OBJECT REFCOUNT a", ":1"),
        ("OBJECT FOO a", "-ERR unknown subcommand 'FOO'. Try OBJECT HELP."),
        ("OBJECT FREQ", "-ERR wrong number of arguments for 'object|freq' command"),
        ("MEMORY USAGE none", "nil"),
        ("MEMORY USAGE a SAMPLES -1", "-ERR syntax error"),
        ("MEMORY USAGE a SAMPLES x", "-ERR value is not an integer or out of range"),
        ("MEMORY USAGE a FOO 1", "-ERR syntax error"),
        ("WAIT 0 0", ":0"),
        ("WAIT x 0", "-ERR value is not an integer or out of range"),
        ("WAIT 0 x", "-ERR timeout is not an integer or out of range"),
        ("WAIT 1 -1", "-ERR timeout is negative"),
    ]);
    let server = Server::with(Partition::Range, 1);
    let mut client = server.connect();
    assert_eq!(client.ask("SET abc value"), "+OK");
    assert_eq!(client.ask("MEMORY USAGE abc SAMPLES 5"), ":160");
}

#[test]
fn common_subsequences() {
    transcript(&[
        ("LCS a b", "\"\""),
        ("LCS a b LEN", ":0"),
        ("LCS a b IDX", "[\"matches\", [], \"len\", :0]"),
        ("SET a ohmytext", "+OK"),
        ("SET b mynewtext", "+OK"),
        ("LCS a b", "\"mytext\""),
        ("LCS a b len", ":6"),
        ("LCS a b IDX", "[\"matches\", [[[:4, :7], [:5, :8]], [[:2, :3], [:0, :1]]], \"len\", :6]"),
        (
            "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
            "[\"matches\", [[[:4, :7], [:5, :8], :4]], \"len\", :6]",
        ),
        ("LCS a b IDX LEN", "-ERR If you want both the length and indexes, please just use IDX."),
        ("LCS a b FOO", "-ERR syntax error"),
        ("LCS a b MINMATCHLEN", "-ERR syntax error"),
        ("LCS a b MINMATCHLEN x", "-ERR value is not an integer or out of range"),
        ("SETRANGE a 3000 x", ":3001"),
        ("SETRANGE b 3000 x", ":3001"),
        (
            "LCS a b",
            "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ),
    ]);
}

#[test]
fn scan_errors_and_options() {
    transcript(&[
        ("SCAN 0", "[\"0\", []]"),
        ("SCAN x", "-ERR invalid cursor"),
        ("SCAN _", "[\"0\", []]"),
        ("SCAN -1", "[\"0\", []]"),
        ("SCAN 0 COUNT 0", "-ERR syntax error"),
        ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range"),
        ("SCAN 0 MATCH", "-ERR syntax error"),
        ("SCAN 0 FOO BAR", "-ERR syntax error"),
        ("SCAN 0 COUNT abc FOO", "-ERR value is not an integer or out of range"),
        ("SCAN 0 FOO COUNT abc", "-ERR syntax error"),
        ("SCAN 0 NOVALUES", "-ERR NOVALUES option can only be used in HSCAN"),
        ("SCAN 0 COUNT 5 NOVALUES", "-ERR NOVALUES option can only be used in HSCAN"),
        ("SCAN 0 COUNT abc NOVALUES", "-ERR value is not an integer or out of range"),
        ("SET key1 x", "+OK"),
        ("SCAN 0 COUNT 1000", "[\"0\", [\"key1\"]]"),
        ("SCAN 0 COUNT 1000 TYPE string MATCH k*1", "[\"0\", [\"key1\"]]"),
        ("SCAN 0 COUNT 1000 MATCH x*", "[\"0\", []]"),
        ("SCAN 0 COUNT 1000 TYPE list", "[\"0\", []]"),
        ("SCAN 18446744073709551615", "[\"0\", []]"),
        ("KEYS k?y[0-9]", "[\"key1\"]"),
    ]);
}

#[test]
fn range_replies_in_key_order() {
    transcript(&[
        ("RANGE _ _", "[]"),
        ("SET b 2", "+OK"),
        ("SET a 1", "+OK"),
        ("SET c 3", "+OK"),
        ("RANGE a c", "[\"a\", \"1\", \"b\", \"2\"]"),
        ("RANGE _ _", "[\"a\", \"1\", \"b\", \"2\", \"c\", \"3\"]"),
        ("RANGE aa _ limit 1", "[\"b\", \"2\"]"),
        ("RANGE a _ LIMIT 0", "[]"),
        ("RANGE c a", "[]"),
        ("RANGE a a", "[]"),
        ("RANGE a", "-ERR wrong number of arguments for 'range' command"),
        ("RANGE a b LIMIT", "-ERR syntax error"),
        ("RANGE a b LIMIT -1", "-ERR value is out of range, must be positive"),
        ("RANGE a b LIMIT x", "-ERR value is not an integer or out of range"),
    ]);
}

#[test]
fn server_commands() {
    transcript(&[
        ("CONFIG GET databases nosuch", "[\"databases\", \"16\"]"),
        ("CONFIG GET DATA*", "[\"databases\", \"16\"]"),
        (
            "CONFIG SET nosuch 1",
            "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'",
        ),
        (
            "CONFIG SET databases 2",
            "-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set \
             immutable config",
        ),
        ("CONFIG GET DATABASES", "[\"DATABASES\", \"16\"]"),
        ("CONFIG GET data* DATABASES", "[\"databases\", \"16\"]"),
        ("CONFIG GET SAVE data* save", "[\"databases\", \"16\", \"SAVE\", \"\"]"),
        ("CONFIG SET save _", "+OK"),
        (
            "CONFIG SET save 900",
            "-ERR CONFIG SET failed (possibly related to argument 'save') - Invalid save parameters",
        ),
        ("CONFIG SET appendonly no appendfsync EVERYSEC", "+OK"),
        ("CONFIG GET append*", "[\"appendfsync\", \"everysec\", \"appendonly\", \"no\"]"),
        (
            "CONFIG SET appendonly maybe",
            "-ERR CONFIG SET failed (possibly related to argument 'appendonly') - argument must be 'yes' or 'no'",
        ),
        (
            "CONFIG SET appendfsync x",
            "-ERR CONFIG SET failed (possibly related to argument 'appendfsync') - argument(s) must be one of the following: everysec, always, no",
        ),
        ("CONFIG SET timeout 100 tcp-keepalive 0", "+OK"),
        (
            "CONFIG SET Timeout x",
            "-ERR CONFIG SET failed (possibly related to argument 'Timeout') - argument couldn't be parsed into an integer",
        ),
        (
            "CONFIG SET timeout 5 maxclients 0",
            "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - argument must be between 1 and 4294967295 inclusive",
        ),
        (
            "CONFIG SET timeout 2147483648",
            "-ERR CONFIG SET failed (possibly related to argument 'timeout') - argument must be between 0 and 2147483647 inclusive",
        ),
        ("CONFIG GET timeout t*", "[\"tcp-keepalive\", \"0\", \"timeout\", \"100\"]"),
        (
            "CONFIG SET timeout 1 TIMEOUT 2",
            "-ERR CONFIG SET failed (possibly related to argument 'TIMEOUT') - duplicate parameter",
        ),
        (
            "CONFIG SET timeout 1 nosuch 2",
            "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'",
        ),
        ("CONFIG SET timeout 1 x", "-ERR syntax error"),
        ("CONFIG SET maxclients 20000", "+OK"),
        ("CONFIG SET maxmemory 0 maxmemory-policy noeviction", "+OK"),
        (
            "CONFIG SET maxmemory-policy allkeys-lru",
            "-ERR CONFIG SET failed (possibly related to argument 'maxmemory-policy') - can't set immutable config",
        ),
        ("CONFIG SET a", "-ERR wrong number of arguments for 'config|set' command"),
        ("CONFIG RESETSTAT", "+OK"),
        ("CONFIG REWRITE", "-ERR The server is running without a config file"),
        ("FUNCTION FLUSH", "+OK"),
        ("SCRIPT FLUSH SYNC", "+OK"),
        ("INFO engine", "\"# Engine\\r\\ngroups:7\\r\\n\""),
        ("INFO nosuch", "\"\""),
    ]);
}

#[test]
fn info_counts_the_keys_of_all_databases() {
    transcript(&[
        ("INFO keyspace", "\"# Keyspace\\r\\n\""),
        ("MSET a 1", "+OK"),
        ("SET b 1 EX 100", "+OK"),
        ("COPY a a DB 7", ":1"),
        (
            "INFO keyspace",
            "\"# Keyspace\\r\\ndb0:keys=2,expires=1,avg_ttl=0\\r\\ndb7:keys=1,expires=0,\
             avg_ttl=0\\r\\n\"",
        ),
    ]);
}

#[test]
fn info_has_the_sections_of_redis() {
    let server = Server::with(Partition::Hash, 1);
    let mut client = server.connect();
    let info = client.ask("INFO");
    let sections = [
        "Server",
        "Clients",
        "Memory",
        "Persistence",
        "Stats",
        "Replication",
        "CPU",
        "Cluster",
        "Engine",
        "Keyspace",
    ];
    let found = sections.map(|title| info.find(&format!("# {title}\\r\\n")));
    assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{info}");
    for (section, fields) in [
        (
            "memory",
            &[
                "used_memory:",
                "used_memory_human:",
                "used_memory_rss:",
                "used_memory_peak:",
                "total_system_memory:",
                "maxmemory:0",
                "maxmemory_policy:noeviction",
                "mem_fragmentation_ratio:",
                "mem_clients_normal:",
            ][..],
        ),
        ("cpu", &["used_cpu_sys:", "used_cpu_user:", "used_cpu_sys_children:"]),
        (
            "persistence",
            &[
                "loading:0",
                "rdb_bgsave_in_progress:0",
                "rdb_last_save_time:",
                "rdb_last_bgsave_status:ok",
                "aof_enabled:1",
                "aof_last_write_status:ok",
            ],
        ),
    ] {
        let text = client.ask(&format!("INFO {section}"));
        for field in fields {
            assert!(text.contains(&format!("\\n{field}")), "{field} in {text}");
        }
    }
}

#[test]
fn introspection() {
    transcript(&[
        ("COMMAND GETKEYS MSET a 1 b 2", "[\"a\", \"b\"]"),
        ("COMMAND GETKEYS PING x", "-ERR The command has no key arguments"),
        ("COMMAND GETKEYS ECHO a b", "-ERR The command has no key arguments"),
        ("COMMAND GETKEYS CLIENT ID", "-ERR The command has no key arguments"),
        ("COMMAND GETKEYS CONFIG FOO", "-ERR Invalid command specified"),
        ("COMMAND GETKEYS SET a", "-ERR Invalid number of arguments specified for command"),
        ("COMMAND GETKEYS MSET a 1 b", "[\"a\", \"b\"]"),
        ("COMMAND GETKEYS PING", "-ERR wrong number of arguments for 'command|getkeys' command"),
        ("COMMAND GETKEYS nosuch x", "-ERR Invalid command specified"),
        ("COMMAND GETKEYS GET a b", "-ERR Invalid number of arguments specified for command"),
        ("COMMAND LIST FILTERBY PATTERN m*t", "[\"mget\", \"mset\"]"),
        ("COMMAND LIST FILTERBY MODULE x", "[]"),
        ("COMMAND LIST FILTERBY foo x", "-ERR syntax error"),
        (
            "COMMAND INFO get nosuch",
            "[[\"get\", :2, [+readonly, +fast], :1, :1, :1, [+@read, +@string, +@fast], [], \
             [[\"flags\", [+RO, +access], \"begin_search\", [\"type\", \"index\", \"spec\", \
             [\"index\", :1]], \"find_keys\", [\"type\", \"range\", \"spec\", [\"lastkey\", :0, \
             \"keystep\", :1, \"limit\", :0]]]], []], nil]",
        ),
        (
            "COMMAND DOCS echo nosuch",
            "[\"echo\", [\"summary\", \"Answers its argument\", \"since\", \"1.0.0\", \"group\", \
             \"connection\"]]",
        ),
    ]);
}

#[test]
fn every_command_of_the_table_is_described() {
    let server = Server::with(Partition::Hash, 1);
    let mut client = server.connect();
    let count = client.ask("COMMAND COUNT");
    let listed = client.ask("COMMAND LIST FILTERBY PATTERN *");
    let top_level = listed.split(", ").filter(|name| !name.contains('|')).count();
    assert_eq!(count, format!(":{top_level}"));
    assert_eq!(client.ask("COMMAND DOCS"), client.ask("command docs"));
    for parent in ["CLIENT", "COMMAND", "CONFIG"] {
        let help = client.ask(&format!("{parent} HELP"));
        assert!(help.starts_with(&format!("[\"{parent} <subcommand>")), "{help}");
        assert!(help.contains("\"HELP\""), "{help}");
    }
}
