//! What clients hold together is bounded, whatever they ask for.

mod support;

use logboat_server::front::FrontConfig;
use logboat_server::layout::Partition;
use logboat_server::limits::Limits;
use logboat_server::memory::MemoryBackend;
use std::thread;
use std::time::Duration;
use support::{Client, Server};

const REFUSED: &str =
    "-TRYAGAIN clients hold as much memory as they may; the command had no effect";

const NO_ROOM: &str = "-TRYAGAIN clients hold as much memory as they may; read less at a time";

/// A server whose clients may hold this much.
fn with_memory(max_buffered_bytes: usize) -> Server {
    let wanted_stall_timeout = Duration::from_secs(60);
    let config = FrontConfig { max_buffered_bytes, wanted_stall_timeout, ..FrontConfig::default() };
    Server::start(MemoryBackend::even(Partition::Hash, 4, Limits::default()), config)
}

fn request(arguments: &[String]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", arguments.len());
    for argument in arguments {
        request += &format!("${}\r\n{argument}\r\n", argument.len());
    }
    request.into_bytes()
}

/// A client whose request has not arrived whole, and holds most of the memory. Returns when `other`
/// has seen that.
fn almost_full(server: &Server, other: &mut Client) -> Client {
    let mut client = server.connect();
    let value = "x".repeat(800_000);
    client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$800000\r\n{value}").as_bytes());
    while !other.ask("CLIENT LIST").contains(" qbuf=800000 ") {}
    client
}

#[test]
fn the_names_of_a_list_count_until_it_is_sent() {
    let server = with_memory(1_000_000);
    let mut other = server.connect();
    assert_eq!(other.call(&["SET", "{t}big", &"v".repeat(300_000)]), "+OK");
    // More than the system takes for a client that does not read, and then long names.
    let big = std::iter::repeat_n("{t}big".to_owned(), 60);
    let long = (0..10).map(|number| format!("{{t}}{number}{}", "n".repeat(55_000)));
    let arguments: Vec<_> = std::iter::once("MGET".to_owned()).chain(big).chain(long).collect();
    let request = request(&arguments);
    let mut idle = server.connect();
    idle.send(&request);
    while !other.ask("CLIENT LIST").contains("cmd=mget") {}
    for _ in 0..20 {
        other.send(&request);
        assert_eq!(other.reply(), REFUSED);
        assert_eq!(other.ask("SET small 1"), "+OK");
    }
    assert_eq!(idle.reply().matches("vvv\"").count(), 60);
    other.send(&request);
    assert_eq!(other.reply().matches("vvv\"").count(), 60);
}

#[test]
fn a_command_that_waits_for_the_end_of_a_pause_counts() {
    let server = with_memory(1_000_000);
    let (mut client, mut paused) = (server.connect(), server.connect());
    assert_eq!(client.ask("CLIENT PAUSE 60000 WRITE"), "+OK");
    let request = request(&["SET".to_owned(), "a".to_owned(), "v".repeat(800_000)]);
    paused.send(&request);
    while !client.ask("CLIENT LIST").contains("flags=b") {}
    assert!(client.ask("CLIENT LIST").contains(" argv-mem=800004 "));
    let mut other = server.connect();
    other.send(&request);
    assert_eq!(other.reply(), REFUSED);
    assert_eq!(client.ask("CLIENT UNPAUSE"), "+OK");
    assert_eq!(paused.reply(), "+OK");
    other.send(&request);
    assert_eq!(other.reply(), "+OK");
}

#[test]
fn monitors_that_do_not_read_hold_no_more_than_all_clients_may() {
    let max = 16 << 20;
    let server = with_memory(max);
    let mut client = server.connect();
    let mut monitors: Vec<_> = (0..8).map(|_| server.connect()).collect();
    assert!(monitors.iter_mut().all(|monitor| monitor.ask("MONITOR") == "+OK"));
    let request = request(&["SET".to_owned(), "a".to_owned(), "v".repeat(10_000)]);
    let mut number = |section: &str, field: &str| -> usize {
        for _ in 0..50 {
            client.send(&request);
            assert_eq!(client.reply(), "+OK");
        }
        let info = client.ask(&format!("INFO {section}"));
        let (_, rest) = info.split_once(&format!("{field}:")).unwrap();
        rest.split(|it: char| !it.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let mut most = 0;
    while number("clients", "connected_clients") > 1 {
        most = most.max(number("memory", "mem_clients_normal"));
    }
    // A buffer may have twice the room for what it holds.
    assert!(most < 5 * max / 2, "{most}");
}

#[test]
fn a_write_that_answers_with_a_value_needs_room_for_it() {
    let server = with_memory(1_000_000);
    let mut client = server.connect();
    let value = "v".repeat(400_000);
    for key in ["a", "b", "c"] {
        assert_eq!(client.call(&["SET", key, &value]), "+OK");
    }
    let unfinished = almost_full(&server, &mut client);
    for line in ["GETDEL a", "GETEX a PX 1", "SET a new GET", "GETSET a new", "SET a n GET PX 1"] {
        assert_eq!(client.ask(line), NO_ROOM, "{line}");
    }
    drop(unfinished);
    while client.ask("GETEX b PERSIST") == NO_ROOM {}
    let quoted = format!("\"{value}\"");
    assert_eq!(client.ask("GET a"), quoted, "nothing was changed");
    assert_eq!(client.ask("TTL a"), ":-1");
    assert_eq!(client.ask("GETEX a PX 100000000"), quoted);
    assert_eq!(client.ask("SET b new GET"), quoted);
    assert_eq!(client.ask("GETDEL a"), quoted);
    assert_eq!(client.ask("MGET a b c"), format!("[nil, \"new\", {quoted}]"));
}

#[test]
fn subsequences_of_large_values_are_refused_before_these_are_fetched() {
    let server = with_memory(1_000_000);
    let mut client = server.connect();
    assert_eq!(client.call(&["SET", "{t}large", &"v".repeat(5_000_000)]), "+OK");
    assert_eq!(client.call(&["SET", "{t}a", &"ab".repeat(100)]), "+OK");
    assert_eq!(client.call(&["SET", "{t}b", &"ba".repeat(200)]), "+OK");
    let too_large = "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let mut client = server.connect();
                assert_eq!(client.ask("LCS {t}large {t}large"), too_large);
                assert_eq!(client.ask("LCS {t}large {t}a LEN"), too_large);
            });
        }
    });
    // A table of 321,604 bytes.
    assert_eq!(client.ask("LCS {t}a {t}b LEN"), ":200");
    let _unfinished = almost_full(&server, &mut client);
    assert_eq!(client.ask("LCS {t}a {t}b LEN"), NO_ROOM);
    assert_eq!(client.ask("LCS none {t}b LEN"), ":0");
}
