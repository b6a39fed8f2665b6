//! Keys that expire: each command's replies and errors, and what becomes of the keys.

mod support;

use logboat_server::front::FrontConfig;
use logboat_server::kv::NodeClock;
use logboat_server::layout::Partition;
use logboat_server::limits::Limits;
use logboat_server::memory::MemoryBackend;
use std::sync::Arc;
use support::{Server, in_its_store};

/// When the clock of a test stands still at first: in November of 2023.
const START_MS: u64 = 1_700_000_000_000;

/// Sends each line and compares the reply, in a new server of each kind. `+500` lets half a second
/// pass.
#[track_caller]
fn transcript(lines: &[(&str, &str)]) {
    for (partition, ranges) in [(Partition::Slots, 16), (Partition::Range, 16)] {
        let clock = Arc::new(NodeClock::manual(START_MS));
        let backend = MemoryBackend::timed(partition, ranges, Limits::default(), &clock);
        let server = Server::start(in_its_store(backend), FrontConfig::default());
        let mut client = server.connect();
        for (line, expected) in lines {
            if let Some(passes_ms) = line.strip_prefix('+') {
                clock.set(clock.now_ms() + passes_ms.parse::<u64>().expect("milliseconds"));
                continue;
            }
            assert_eq!(client.ask(line), *expected, "{line}");
        }
    }
}

#[test]
fn a_key_expires_when_it_is_to() {
    transcript(&[
        ("SET a 1 PX 1000", "+OK"),
        ("PTTL a", ":1000"),
        ("TTL a", ":1"),
        ("PEXPIRETIME a", ":1700000001000"),
        ("EXPIRETIME a", ":1700000001"),
        ("+999", ""),
        ("GET a", "\"1\""),
        ("PTTL a", ":1"),
        ("TTL a", ":0"),
        ("+1", ""),
        ("GET a", "nil"),
        ("TTL a", ":-2"),
        ("PTTL a", ":-2"),
        ("EXPIRETIME a", ":-2"),
        ("SET a 1", "+OK"),
        ("TTL a", ":-1"),
        ("PTTL a", ":-1"),
        ("PEXPIRETIME a", ":-1"),
    ]);
}

#[test]
fn every_command_takes_an_expired_key_for_a_missing_one() {
    let checks = [
        ("GET a", "nil"),
        ("GETDEL a", "nil"),
        ("GETSET a 2", "nil"),
        ("GETEX a PERSIST", "nil"),
        ("STRLEN a", ":0"),
        ("GETRANGE a 0 -1", "\"\""),
        ("EXISTS a a", ":0"),
        ("TOUCH a", ":0"),
        ("TYPE a", "+none"),
        ("OBJECT ENCODING a", "nil"),
        ("MEMORY USAGE a", "nil"),
        ("MGET a a", "[nil, nil]"),
        ("KEYS *", "[]"),
        ("SCAN 0 COUNT 100", "[\"0\", []]"),
        ("RANGE _ _", "[]"),
        ("RANDOMKEY", "nil"),
        ("LCS a a", "\"\""),
        ("APPEND a x", ":1"),
        ("INCR a", ":1"),
        ("INCRBYFLOAT a 1", "\"1\""),
        ("SETRANGE a 1 x", ":2"),
        ("SET a 2 NX", "+OK"),
        ("SET a 2 XX", "nil"),
        ("SET a 2 GET", "nil"),
        ("SETNX a 2", ":1"),
        ("MSETNX a 2", ":1"),
        ("DEL a", ":0"),
        ("UNLINK a", ":0"),
        ("RENAME a a", "-ERR no such key"),
        ("COPY a a DB 1", ":0"),
        ("EXPIRE a 10", ":0"),
        ("PERSIST a", ":0"),
    ];
    for (line, expected) in checks {
        transcript(&[("SET a 7 PX 10", "+OK"), ("+10", ""), (line, expected)]);
    }
}

#[test]
fn what_sets_a_key_says_how_long_it_lives() {
    transcript(&[
        ("SET a 1 EX 100", "+OK"),
        ("SET a 2 KEEPTTL", "+OK"),
        ("TTL a", ":100"),
        ("APPEND a 0", ":2"),
        ("INCR a", ":21"),
        ("SETRANGE a 0 3", ":2"),
        ("INCRBYFLOAT a 1", "\"32\""),
        ("TTL a", ":100"),
        ("RENAME a a", "+OK"),
        ("COPY a a DB 1", ":1"),
        ("TTL a", ":100"),
        ("SELECT 1", "+OK"),
        ("TTL a", ":100"),
        ("SELECT 0", "+OK"),
        ("SET a 1", "+OK"),
        ("TTL a", ":-1"),
        ("SETEX a 50 2", "+OK"),
        ("TTL a", ":50"),
        ("GETSET a 3", "\"2\""),
        ("TTL a", ":-1"),
        ("PSETEX a 1500 4", "+OK"),
        ("TTL a", ":2"),
        ("MSET a 1", "+OK"),
        ("TTL a", ":-1"),
        ("SET a 1 EXAT 1700000100 GET", "\"1\""),
        ("TTL a", ":100"),
        ("SET a 1 pxat 1700000200000 XX", "+OK"),
        ("TTL a", ":200"),
        ("SET a 1 EXAT 1", "+OK"),
        ("EXISTS a", ":0"),
        ("DBSIZE", ":0"),
        ("SET a 1 EX 0", "-ERR invalid expire time in 'set' command"),
        ("SET a 1 PX -1", "-ERR invalid expire time in 'set' command"),
        ("SET a 1 EX 9223372036854775807", "-ERR invalid expire time in 'set' command"),
        ("SET a 1 PX 9223372036854775807", "-ERR invalid expire time in 'set' command"),
        ("SET a 1 EX x", "-ERR value is not an integer or out of range"),
        ("SET a 1 EX", "-ERR syntax error"),
        ("SET a 1 EX 1 PX 1", "-ERR syntax error"),
        ("SET a 1 EX 1 KEEPTTL", "-ERR syntax error"),
        ("SET a 1 KEEPTTL EX 1", "-ERR syntax error"),
        ("SET a 1 PERSIST", "-ERR syntax error"),
        ("SET a 1 EX 1 EX 20", "+OK"),
        ("TTL a", ":20"),
        ("SETEX a 0 1", "-ERR invalid expire time in 'setex' command"),
        ("PSETEX a -5 1", "-ERR invalid expire time in 'psetex' command"),
        ("SETEX a x 1", "-ERR value is not an integer or out of range"),
        ("SETEX a 1", "-ERR wrong number of arguments for 'setex' command"),
    ]);
}

#[test]
fn expire_and_its_relatives() {
    transcript(&[
        ("EXPIRE a 10", ":0"),
        ("SET a 1", "+OK"),
        ("EXPIRE a 10 XX", ":0"),
        ("EXPIRE a 10 GT", ":0"),
        ("EXPIRE a 10 NX", ":1"),
        ("TTL a", ":10"),
        ("EXPIRE a 20 NX", ":0"),
        ("EXPIRE a 5 GT", ":0"),
        ("EXPIRE a 10 GT", ":0"),
        ("EXPIRE a 20 gt", ":1"),
        ("EXPIRE a 20 LT", ":0"),
        ("EXPIRE a 10 XX LT", ":1"),
        ("TTL a", ":10"),
        ("PERSIST a", ":1"),
        ("PERSIST a", ":0"),
        ("TTL a", ":-1"),
        ("EXPIRE a 10 LT", ":1"),
        ("PEXPIRE a 2500", ":1"),
        ("PTTL a", ":2500"),
        ("EXPIREAT a 1700000300", ":1"),
        ("TTL a", ":300"),
        ("PEXPIREAT a 1700000000500", ":1"),
        ("PTTL a", ":500"),
        ("EXPIRE a -1", ":1"),
        ("GET a", "nil"),
        ("SET a 1", "+OK"),
        ("EXPIREAT a 0", ":1"),
        ("GET a", "nil"),
        (
            "EXPIRE a 1 NX XX",
            "-ERR NX and XX, GT or LT options at the same time are not compatible",
        ),
        (
            "EXPIRE a 1 NX GT",
            "-ERR NX and XX, GT or LT options at the same time are not compatible",
        ),
        ("EXPIRE a 1 GT LT", "-ERR GT and LT options at the same time are not compatible"),
        ("EXPIRE a 1 AB", "-ERR Unsupported option AB"),
        ("EXPIRE a x", "-ERR value is not an integer or out of range"),
        ("EXPIRE a 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
        ("EXPIRE a -9223372036854775807", "-ERR invalid expire time in 'expire' command"),
        ("PEXPIRE a 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"),
        ("EXPIREAT a 9223372036854775807", "-ERR invalid expire time in 'expireat' command"),
        ("PEXPIREAT a 9223372036854775807", ":0"),
        ("EXPIRE a", "-ERR wrong number of arguments for 'expire' command"),
    ]);
}

#[test]
fn getex() {
    transcript(&[
        ("GETEX a EX 0", "nil"),
        ("SET a 1 EX 10", "+OK"),
        ("GETEX a", "\"1\""),
        ("TTL a", ":10"),
        ("GETEX a EX 20", "\"1\""),
        ("TTL a", ":20"),
        ("GETEX a PX 5000", "\"1\""),
        ("TTL a", ":5"),
        ("GETEX a EXAT 1700000030", "\"1\""),
        ("TTL a", ":30"),
        ("GETEX a PERSIST", "\"1\""),
        ("TTL a", ":-1"),
        ("GETEX a EX 0", "-ERR invalid expire time in 'getex' command"),
        ("GETEX a EX x", "-ERR value is not an integer or out of range"),
        ("GETEX a KEEPTTL", "-ERR syntax error"),
        ("GETEX a EX 1 PERSIST", "-ERR syntax error"),
        ("GETEX a PERSIST EX 1", "-ERR syntax error"),
        ("GETEX a EX", "-ERR syntax error"),
        ("GETEX a PXAT 5", "\"1\""),
        ("GETEX a", "nil"),
    ]);
}

#[test]
fn a_pipeline_sees_keys_expire() {
    let clock = Arc::new(NodeClock::manual(START_MS));
    let backend = MemoryBackend::timed(Partition::Hash, 4, Limits::default(), &clock);
    let server = Server::start(in_its_store(backend), FrontConfig::default());
    let mut client = server.connect();
    for key in 0..20 {
        assert_eq!(client.ask(&format!("SET {key} value PX {}", 10 * (key % 2 + 1))), "+OK");
    }
    clock.set(START_MS + 10);
    let lines: Vec<_> = (0..20).map(|key| format!("GET {key}\r\n")).collect();
    client.send(lines.concat().as_bytes());
    for key in 0..20 {
        let expected = if key % 2 == 0 { "nil" } else { "\"value\"" };
        assert_eq!(client.reply(), expected, "{key}");
    }
    // A clock that is set back brings nothing back, and lets nothing live longer.
    clock.set(START_MS - 3_600_000);
    assert_eq!(client.ask("GET 0"), "nil");
    assert_eq!(client.ask("GET 1"), "\"value\"");
}

#[test]
fn memory_of_expired_keys_is_freed_by_what_goes_by_the_time() {
    let clock = Arc::new(NodeClock::manual(START_MS));
    let backend = MemoryBackend::timed(Partition::Hash, 1, Limits::default(), &clock);
    let server = Server::start(in_its_store(backend), FrontConfig::default());
    let mut client = server.connect();
    for key in 0..100 {
        client.ask(&format!("SET {key} value PX 10"));
    }
    assert_eq!(client.ask("DBSIZE"), ":100");
    clock.set(START_MS + 3_000);
    assert_eq!(client.ask("DBSIZE"), ":100");
    // Two of them go with each.
    for number in 0..50 {
        assert_eq!(client.ask("SET a 1 EX 100"), "+OK", "{number}");
    }
    assert_eq!(client.ask("DBSIZE"), ":1");
}
