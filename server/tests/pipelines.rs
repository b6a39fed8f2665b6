//! Pipelines: what a client hears must not depend on how much it sends before it reads.

mod support;

use logboat_server::front::FrontConfig;
use logboat_server::layout::Partition;
use logboat_server::limits::Limits;
use logboat_server::memory::MemoryBackend;
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use support::{Client, Server};

/// Words of a command; few keys, so that neighbours meet.
fn command() -> impl Strategy<Value = Vec<String>> {
    let key = || "[abc]|\\{a\\}[12]";
    let value = || "[0-9]{1,2}|[xyz]{0,3}|v{2000}|v{20000}";
    let command = prop_oneof![
        4 => (key(), value()).prop_map(|(key, value)| vec!["SET".into(), key, value]),
        4 => key().prop_map(|key| vec!["GET".into(), key]),
        2 => key().prop_map(|key| vec!["INCR".into(), key]),
        1 => (key(), value()).prop_map(|(key, value)| vec!["APPEND".into(), key, value]),
        1 => (key(), value()).prop_map(|(key, value)| vec!["GETSET".into(), key, value]),
        1 => (key(), value()).prop_map(|(key, value)| {
            vec!["SET".into(), key, value, "NX".into(), "GET".into()]
        }),
        1 => (key(), value()).prop_map(|(key, value)| {
            vec!["SETRANGE".into(), key, "3".into(), value]
        }),
        1 => key().prop_map(|key| vec!["GETRANGE".into(), key, "1".into(), "-2".into()]),
        1 => key().prop_map(|key| vec!["STRLEN".into(), key]),
        1 => key().prop_map(|key| vec!["TYPE".into(), key]),
        1 => vec(key(), 1..4).prop_map(|keys| [vec!["DEL".into()], keys].concat()),
        1 => vec(key(), 1..4).prop_map(|keys| [vec!["EXISTS".into()], keys].concat()),
        1 => vec(key(), 1..4).prop_map(|keys| [vec!["MGET".into()], keys].concat()),
        1 => vec((key(), value()), 1..3).prop_map(|pairs| {
            let pairs = pairs.into_iter().flat_map(|(key, value)| [key, value]);
            std::iter::once("MSET".into()).chain(pairs).collect()
        }),
    ];
    let others = ["PING", "NOSUCH a", "GET", "MULTI", "EXEC", "DISCARD", "RESET", "ECHO x"];
    let other = proptest::sample::select(others.to_vec());
    let other = other.prop_map(|line| line.split(' ').map(str::to_owned).collect());
    prop_oneof![9 => command, 1 => other]
}

fn encoded(commands: &[Vec<String>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for command in commands {
        bytes.extend(format!("*{}\r\n", command.len()).bytes());
        for word in command {
            bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
        }
    }
    bytes
}

/// Sends bytes in chunks of the lengths that `lengths` repeats.
fn send_in_chunks(client: &mut Client, mut bytes: &[u8], lengths: &[usize]) {
    for length in lengths.iter().cycle() {
        let (chunk, rest) = bytes.split_at(bytes.len().min(*length));
        client.send(chunk);
        if rest.is_empty() {
            return;
        }
        bytes = rest;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_pipeline_in_any_chunks_is_answered_like_one_command_at_a_time(
        commands in vec(command(), 1..60),
        lengths in vec(prop_oneof![1..30_usize, 100..100_000_usize], 1..5),
    ) {
        for server in Server::of_each_kind() {
            let mut client = server.connect();
            let one_by_one: Vec<_> = commands.iter().map(|command| client.call(command)).collect();
            prop_assert_eq!(server.connect().ask("FLUSHALL"), "+OK");
            let mut client = server.connect();
            send_in_chunks(&mut client, &encoded(&commands), &lengths);
            let pipelined: Vec<_> = commands.iter().map(|_| client.reply()).collect();
            prop_assert_eq!(pipelined, one_by_one);
        }
    }
}

#[test]
fn a_pipeline_of_many_commands_is_answered_in_order_and_nothing_is_done_twice() {
    const COMMANDS: usize = 1_000_000;
    let server = Server::with(Partition::Hash, 4);
    let mut client = server.connect();
    let mut sender = TcpStream::connect(server.address).unwrap();
    let mut counted = Client::of(sender.try_clone().unwrap());
    let writing = thread::spawn(move || sender.write_all(&b"INCR n\r\n".repeat(COMMANDS)));
    for number in 1..=COMMANDS {
        assert_eq!(counted.reply(), format!(":{number}"));
    }
    writing.join().unwrap().unwrap();
    assert_eq!(client.ask("GET n"), format!("\"{COMMANDS}\""));
}

#[test]
fn of_a_pipeline_that_is_cut_off_what_had_arrived_whole_is_done() {
    let server = Server::with(Partition::Hash, 4);
    let mut client = server.connect();
    client.send(b"SET a 1\r\nINCR a\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n");
    client.close_sending_side();
    assert_eq!([client.reply(), client.reply()], ["+OK", ":2"]);
    assert!(client.is_closed());
    assert_eq!(server.connect().ask("GET a"), "\"2\"");
}

#[test]
fn an_error_in_the_middle_of_a_pipeline_is_answered_in_its_place() {
    let server = Server::with(Partition::Hash, 4);
    let mut client = server.connect();
    let value = "v".repeat(9 << 20);
    let too_long = format!("*3\r\n$3\r\nSET\r\n$1\r\nb\r\n${}\r\n{value}\r\n", value.len());
    client.send(b"SET a 1\r\nGET\r\nINCR a\r\n");
    client.send(too_long.as_bytes());
    client.send(b"GET a\r\n*1\r\n!\r\nSET a 7\r\n");
    let replies: Vec<_> = (0..6).map(|_| client.reply()).collect();
    assert_eq!([&replies[0], &replies[2], &replies[4]], ["+OK", ":2", "\"2\""]);
    assert!(replies[1].starts_with("-ERR wrong number of arguments"), "{}", replies[1]);
    assert!(replies[3].starts_with("-ERR argument of 9437184 bytes"), "{}", replies[3]);
    assert!(replies[5].starts_with("-ERR Protocol error: expected '$'"), "{}", replies[5]);
    assert!(client.is_closed());
    assert_eq!(server.connect().ask("GET a"), "\"2\"");
}

#[test]
fn many_large_values_are_read_at_once_within_the_memory_of_clients() {
    let config = FrontConfig { max_buffered_bytes: 2_000_000, ..FrontConfig::default() };
    let backend = MemoryBackend::even(Partition::Hash, 4, Limits::default());
    let server = Server::start(backend, config);
    let mut client = server.connect();
    let value = "v".repeat(500_000);
    for key in 0..20 {
        assert_eq!(client.call(&["SET", &key.to_string(), &value]), "+OK");
    }
    // Several clients want more together than there is room for, and wait for each other.
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let mut client = server.connect();
            thread::spawn(move || {
                let gets: String = (0..20).map(|key| format!("GET {key}\r\n")).collect();
                client.send(gets.as_bytes());
                (0..20).map(|_| client.reply()).collect::<Vec<_>>()
            })
        })
        .collect();
    for reader in readers {
        for reply in reader.join().unwrap() {
            let refused = reply.starts_with("-TRYAGAIN clients hold as much memory");
            assert!(refused || reply.len() == value.len() + 2, "{reply:.80}");
        }
    }
    assert_eq!(client.ask("GET 1").len(), value.len() + 2);
}
