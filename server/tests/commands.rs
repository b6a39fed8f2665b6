//! The replies and errors of commands on strings and keys, for every way that keys may lie on
//! ranges.

mod support;

use logboat_server::layout::Partition;
use std::collections::BTreeSet;
use support::{Server, transcript};

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
        (
            "CLIENT CACHING maybe",
            "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN \
             or OPTOUT mode enabled",
        ),
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
        ("SETRANGE {t}c 2000000 x", ":2000001"),
        ("COPY {t}c {t}d replace", ":1"),
        ("STRLEN {t}d", ":2000001"),
        ("SET {t}c 2", "+OK"),
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
fn every_key_of_many_ranges_is_drawn_at_times() {
    for partition in [Partition::Slots, Partition::Hash] {
        let server = Server::with(partition, 64);
        let mut client = server.connect();
        for key in 0..300 {
            assert_eq!(client.ask(&format!("SET {key} 1")), "+OK");
        }
        let seen: BTreeSet<_> = (0..5_000).map(|_| client.ask("RANDOMKEY")).collect();
        // The first slots of the ranges have 64 of them, or a few more.
        assert!(seen.len() > 250, "{}", seen.len());
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
