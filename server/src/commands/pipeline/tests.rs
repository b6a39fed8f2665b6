//! A pipeline of commands on a store in memory.

use super::*;
use crate::commands::execute_alone;
use crate::kv::DataMemory;
use crate::layout::Partition;
use crate::limits::Limits;
use crate::memory::MemoryBackend;
use crate::server_state::Facts;
use crate::session::{Registration, Session, Socket};
use crate::settings::Settings;

/// How long each command takes.
const MILLISECOND: Duration = Duration::from_millis(1);

const MAX_BUFFERED_BYTES: usize = 1_000_000;

struct Fixture {
    server: ServerState,
    backend: MemoryBackend,
    session: Session,
    /// How many requests each round had.
    rounds: Vec<usize>,
    _registration: Registration,
}

impl Fixture {
    fn new() -> Self {
        let address = ([127, 0, 0, 1], 1).into();
        let facts = Box::new(Facts::default);
        let (data, settings) = (DataMemory::default(), Settings::default());
        let server = ServerState::new(address, MAX_BUFFERED_BYTES, data, settings, facts);
        let socket = Socket { address, local_address: address, descriptor: 0 };
        let registration = server.clients.register(socket);
        Self {
            backend: MemoryBackend::even(Partition::Hash, 4, Limits::default()),
            session: Session::new(registration.client.clone()),
            server,
            rounds: Vec::new(),
            _registration: registration,
        }
    }

    /// Carries out lines of words, and returns the replies.
    async fn run(&mut self, lines: &[&str]) -> Vec<Reply> {
        self.rounds.clear();
        let mut replies = Vec::new();
        let mut lines = lines.iter().peekable();
        while lines.peek().is_some() {
            let mut pipeline = Pipeline::default();
            while let Some(line) = lines.peek() {
                let request: Vec<_> = line.split(' ').map(word).collect();
                let mut context = Context {
                    backend: &self.backend,
                    server: &self.server,
                    session: &mut self.session,
                };
                match pipeline.add(&mut context, request) {
                    Added::Here => {}
                    Added::Later(_) | Added::Paused(_) => break,
                    Added::Alone(_) if !pipeline.is_empty() => break,
                    Added::Alone(request) => {
                        replies.push(execute_alone(&mut context, &request).await);
                    }
                }
                lines.next();
            }
            self.finish(&mut pipeline, &mut replies);
        }
        replies
    }

    fn finish(&mut self, pipeline: &mut Pipeline, replies: &mut Vec<Reply>) {
        loop {
            let (server, client, took) = (&self.server, &self.session.client, MILLISECOND);
            replies.extend(std::iter::from_fn(|| pipeline.next_reply(server, client, took)));
            pipeline.count(server, took);
            let Some(requests) = pipeline.next_round(&self.server) else {
                if pipeline.is_empty() {
                    return;
                }
                continue;
            };
            self.rounds.push(requests.len());
            let answers = self.backend.answers_to(requests);
            pipeline.answered(answers);
        }
    }
}

/// `@100` stands for a value of so many bytes.
fn word(word: &str) -> Bytes {
    match word.strip_prefix('@') {
        Some(length) => vec![b'v'; length.parse().unwrap()].into(),
        None => Bytes::copy_from_slice(word.as_bytes()),
    }
}

fn value(length: usize) -> Reply {
    Reply::Bulk(vec![b'v'; length].into())
}

#[tokio::test]
async fn commands_on_different_keys_go_together_and_a_key_is_read_after_it_was_written() {
    let mut fixture = Fixture::new();
    let replies = fixture.run(&["SET a 1", "SET b 2", "GET c", "GET a", "SET a 3"]).await;
    let one = Reply::Bulk(Bytes::from("1"));
    assert_eq!(replies, [Reply::OK, Reply::OK, Reply::Null, one, Reply::OK]);
    assert_eq!(fixture.rounds, [3, 1, 1]);
}

#[tokio::test]
async fn writes_of_a_key_go_together_in_their_order() {
    let mut fixture = Fixture::new();
    let replies = fixture.run(&["INCR n", "INCRBY n 5", "APPEND n 0", "DECR n"]).await;
    let numbers = [1, 6, 2, 59].map(Reply::Integer);
    assert_eq!(replies, numbers);
    assert_eq!(fixture.rounds, [4]);
}

#[tokio::test]
async fn equal_reads_share_an_answer_and_others_of_their_key_wait() {
    let mut fixture = Fixture::new();
    fixture.run(&["SET a xyz"]).await;
    let replies = fixture.run(&["GET a", "GET a", "EXISTS a", "STRLEN a", "GET a"]).await;
    let xyz = Reply::Bulk(Bytes::from("xyz"));
    let (one, three) = (Reply::Integer(1), Reply::Integer(3));
    assert_eq!(replies, [xyz.clone(), xyz.clone(), one, three, xyz]);
    assert_eq!(fixture.rounds, [1, 1, 1, 1]);
}

#[tokio::test]
async fn errors_hold_nobody_up() {
    let mut fixture = Fixture::new();
    let replies = fixture.run(&["SET a 1", "NOSUCH", "SET a", "PING", "SET b 2"]).await;
    assert!(matches!(&replies[1], Reply::Error(text) if text.starts_with("ERR unknown")));
    assert!(matches!(&replies[2], Reply::Error(text) if text.starts_with("ERR wrong number")));
    assert_eq!([&replies[0], &replies[3]], [&Reply::OK, &Reply::Status("PONG")]);
    assert_eq!(fixture.rounds, [2]);
    let by_command = fixture.server.stats.commands.by_command();
    let counts = |name: &str| {
        let total = by_command.iter().find(|total| total.spec.full_name == name).unwrap();
        (total.calls, total.rejected, total.failed)
    };
    assert_eq!((counts("set"), counts("ping")), ((2, 1, 0), (1, 0, 0)));
    assert_eq!(fixture.server.stats.errors.total(), 2);
}

#[tokio::test]
async fn what_changes_the_connection_runs_alone_and_in_its_place() {
    let mut fixture = Fixture::new();
    let replies = fixture.run(&["SET a 1", "MULTI", "SET a 2", "EXEC", "GET a"]).await;
    assert_eq!([&replies[0], &replies[4]], [&Reply::OK, &Reply::Bulk(Bytes::from("1"))]);
    assert!(replies[1..4].iter().all(|reply| matches!(reply, Reply::Error(_))));
}

#[tokio::test]
async fn large_values_come_in_rounds_for_which_there_is_room() {
    let mut fixture = Fixture::new();
    let keys = 0..8;
    for key in keys.clone() {
        fixture.run(&[&format!("SET {key} @100000")]).await;
    }
    let lines: Vec<_> = keys.map(|key| format!("GET {key}")).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    assert!(fixture.run(&lines).await.iter().all(|reply| *reply == value(100_000)));
    assert_eq!(fixture.rounds, [8, 2, 2, 2, 2]);
    assert_eq!(fixture.server.memory.used_bytes(), 0);
    // Others leave room for one of them.
    let mut unread = fixture.server.memory.share();
    unread.set(MAX_BUFFERED_BYTES - 100_000);
    assert!(fixture.run(&lines).await.iter().all(|reply| *reply == value(100_000)));
    assert_eq!(fixture.rounds, [8, 1, 1, 1, 1, 1, 1, 1, 1]);
}

#[tokio::test]
async fn small_values_come_in_one_round_however_many_and_whatever_the_room() {
    let mut fixture = Fixture::new();
    let keys = 0..200;
    for key in keys.clone() {
        fixture.run(&[&format!("SET {key} @60")]).await;
    }
    let lines: Vec<_> = keys.map(|key| format!("GET {key}")).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let mut unread = fixture.server.memory.share();
    for held in [0, MAX_BUFFERED_BYTES] {
        unread.set(held);
        assert!(fixture.run(&lines).await.iter().all(|reply| *reply == value(60)));
        assert_eq!(fixture.rounds, [200]);
    }
}

#[tokio::test]
async fn a_large_reply_for_which_there_is_no_memory_is_refused() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.run(&["SET a @100000"]).await, [Reply::OK]);
    let mut unread = fixture.server.memory.share();
    unread.set(MAX_BUFFERED_BYTES);
    let refused = Reply::Error(CommandError::NoMemory.to_string());
    assert_eq!(fixture.run(&["GET a"]).await, std::slice::from_ref(&refused));
    let both = fixture.run(&["GET a", "STRLEN b"]).await;
    assert_eq!(both, [refused.clone(), Reply::Integer(0)]);
    assert_eq!(fixture.run(&["STRLEN a"]).await, [Reply::Integer(100_000)]);
    // A command that would take the value has no effect.
    assert_eq!(fixture.run(&["GETDEL a"]).await, [refused]);
    drop(unread);
    assert_eq!(fixture.run(&["GET a"]).await, [value(100_000)]);
    assert_eq!(fixture.run(&["GETDEL a"]).await, [value(100_000)]);
}

#[tokio::test]
async fn commands_that_get_old_values_do_not_pile_up() {
    let mut fixture = Fixture::new();
    let lines = ["SET a 1", "GETSET a 2", "SET b 1 GET", "GETDEL a", "SET c 1", "SET d 1"];
    fixture.run(&lines).await;
    assert_eq!(fixture.rounds, [1, 1, 1, 1, 2]);
}

#[tokio::test]
async fn a_pipeline_has_an_end() {
    let mut fixture = Fixture::new();
    let line = |key| format!("SET {key} 1");
    let lines: Vec<_> = (0..MAX_COMMANDS + 10).map(line).collect();
    fixture.run(&lines.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(fixture.rounds, [MAX_COMMANDS, 10]);
    // One that is larger than all others may be together goes by itself.
    fixture.run(&["SET a @600000", "SET b @600000", "SET c 1", "SET d @2000000"]).await;
    assert_eq!(fixture.rounds, [1, 2, 1]);
}
