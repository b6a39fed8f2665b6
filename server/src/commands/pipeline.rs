//! A pipeline: neighbouring commands of one connection that are carried out together.
//!
//! Each command asks one range of the store at most. Commands on different keys do not wait for
//! each other. Those on the same key do as if they came one by one: writes of a range keep their
//! order, a read that follows a write of its key waits for the next pipeline, and so does a write
//! that follows a read. Two equal reads share one answer. Otherwise the second, which may be asked
//! again after the first was answered, could find an older value.
//!
//! Values come in rounds, so that a connection never holds more than there is room for. The first
//! round brings small ones. What is larger is asked for once more, as much at once as is free.

use super::answer::understood;
use super::context::{Context, Outcome};
use super::dispatch::{begin, prepare};
use super::error::CommandError;
use super::plan::{Ask, Plan, Shape, Step};
use super::table::Spec;
use super::touched::{Touch, Touched};
use crate::backend::{Backend, BackendError, RangeId, StoreAnswer, StoreRequest};
use crate::client_memory::{ClientMemory, Reservation, UNCOUNTED_BYTES};
use crate::kv::Answer;
use crate::resp::Reply;
use crate::server_state::ServerState;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// The most commands of a pipeline.
const MAX_COMMANDS: usize = 1_024;

/// The most bytes of their arguments. A command that is larger is carried out by itself.
const MAX_BYTES: usize = 1024 * 1024;

/// What each value may have in the first round, if there is room for so many of this size.
const LEAST_VALUE_BYTES: usize = 1024;

/// What the values of a later round may have together, beside the first of them.
const ROUND_BYTES: usize = 256 * 1024;

/// Neighbouring commands of one connection, from the time when they are gathered until the last one
/// has its reply.
#[derive(Default)]
pub struct Pipeline {
    /// The commands without a reply, in their order.
    slots: VecDeque<Slot>,
    asked: Vec<Asked>,
    touched: Touched,
    /// The database that they are for.
    database: u8,
    /// The requests of this round, by the places of their answers.
    round: Vec<usize>,
    /// How many of them have no answer.
    missing: usize,
    /// Whether the first round has begun.
    has_begun: bool,
    /// Whether no other command may join.
    is_full: bool,
    /// The bytes of all arguments.
    bytes: usize,
    /// The name of the last command.
    last_command: &'static str,
    commands: u64,
    errors: u64,
    /// Room for the values of this round.
    memory: Option<Reservation>,
}

/// A command that has no reply.
enum Slot {
    /// Its reply is known.
    Known(Outcome),
    /// The answer to a request becomes its reply.
    Asked { request: usize, shape: Shape },
}

/// A request to the store.
struct Asked {
    range: RangeId,
    ask: Ask,
    answer: Option<Result<Answer, CommandError>>,
    /// Whether its answer has not come in this round.
    waits: bool,
    /// How many commands wait for the answer.
    readers: usize,
    /// Whether there is room set aside for its answer.
    is_counted: bool,
}

/// What became of a command that was to join a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is one of it.
    Here,
    /// It has to wait until the pipeline has been carried out.
    Later,
    /// It runs alone, by [`execute_alone`](super::execute_alone).
    Alone,
}

impl Pipeline {
    /// Whether there is no command without a reply.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The bytes of all arguments.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The name of the last command.
    #[must_use]
    pub const fn last_command(&self) -> &'static str {
        self.last_command
    }

    /// Adds a command, its name and its arguments, if it can be carried out with the others.
    pub fn add<B: Backend>(&mut self, context: &mut Context<'_, B>, request: &[Bytes]) -> Added {
        let bytes = request.iter().map(Bytes::len).sum::<usize>();
        if !self.has_room_for(bytes) {
            return Added::Later;
        }
        let spec = match prepare(context, request) {
            Ok(spec) => spec,
            Err(error) => {
                self.push(Slot::Known(Err(error)));
                return Added::Here;
            }
        };
        self.database = context.session.database;
        match plan(context, spec, request) {
            Ok(Some(plan)) => {
                if !self.join(spec, request, plan) {
                    return Added::Later;
                }
            }
            Ok(None) => return Added::Alone,
            Err(outcome) => self.push(Slot::Known(outcome)),
        }
        self.bytes += bytes;
        self.last_command = spec.full_name;
        Added::Here
    }

    /// Adds a command that was refused before it was understood.
    pub fn add_refused(&mut self, reason: String) {
        self.push(Slot::Known(Err(CommandError::Refused(reason))));
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        let has_room = self.slots.len() < MAX_COMMANDS && self.bytes + bytes <= MAX_BYTES;
        self.slots.is_empty() || has_room && !self.is_full
    }

    fn push(&mut self, slot: Slot) {
        self.slots.push_back(slot);
        self.commands += 1;
    }

    /// Adds a command that asks the store, unless it has to wait for those before it.
    fn join(&mut self, spec: &Spec, request: &[Bytes], plan: Plan) -> bool {
        let Plan { range, ask, shape } = plan;
        if ask.takes_value() && !self.slots.is_empty() {
            return false;
        }
        let keys = spec.keys.of(request);
        let touches = keys.clone().map(|key| self.touched.by(key));
        let touch = match &ask {
            Ask::Write(_) => {
                if touches.into_iter().any(|touch| matches!(touch, Some(Touch::Read(_)))) {
                    return false;
                }
                Touch::Write
            }
            // None has come late yet.
            Ask::Read(query) | Ask::LateRead(query) => {
                for touch in touches {
                    match touch {
                        None => {}
                        Some(Touch::Write) => return false,
                        Some(Touch::Read(request)) => {
                            let asked = &mut self.asked[request];
                            if !matches!(&asked.ask, Ask::Read(other) if other == query) {
                                return false;
                            }
                            asked.readers += 1;
                            self.push(Slot::Asked { request, shape });
                            return true;
                        }
                    }
                }
                Touch::Read(self.asked.len())
            }
        };
        for key in keys {
            self.touched.note(key, touch);
        }
        // A value of any size takes the place of many small replies.
        self.is_full = ask.takes_value();
        self.push(Slot::Asked { request: self.asked.len(), shape });
        let (answer, readers) = (None, 1);
        self.asked.push(Asked { range, ask, answer, waits: false, readers, is_counted: false });
        true
    }

    /// What has to be asked next, if anything. Without it, the next reply is known, or waits for
    /// what was asked before.
    pub fn next_round(&mut self, server: &ServerState) -> Option<Vec<StoreRequest>> {
        if self.missing > 0 || self.has_begun && !self.next_is_open() {
            return None;
        }
        if std::mem::replace(&mut self.has_begun, true) {
            self.round.clear();
            self.want_withheld(&server.memory);
        } else {
            self.round.extend(0..self.asked.len());
            self.limit_values(&server.memory);
        }
        self.missing = self.round.len();
        let leave = |&at: &usize| self.asked[at].leave(self.database);
        (self.missing > 0).then(|| self.round.iter().map(leave).collect())
    }

    /// Whether the next reply has a value that was too long, or has to be asked for by the time.
    fn next_is_open(&self) -> bool {
        let Some(Slot::Asked { request, .. }) = self.slots.front() else { return false };
        self.asked[*request].is_open()
    }

    /// Sets how long the values of the first round may be.
    fn limit_values(&mut self, memory: &Arc<ClientMemory>) {
        let count = self.asked.iter().filter(|asked| asked.ask.reads_value()).count();
        if count <= 1 {
            return;
        }
        let bytes = count * LEAST_VALUE_BYTES;
        if bytes > UNCOUNTED_BYTES {
            self.memory = memory.reserve(bytes - UNCOUNTED_BYTES);
        }
        let is_free = bytes <= UNCOUNTED_BYTES || self.memory.is_some();
        let least = if is_free { LEAST_VALUE_BYTES } else { 0 };
        let limit = (UNCOUNTED_BYTES / count).max(least);
        self.asked.iter_mut().for_each(|asked| asked.ask.limit_value(limit));
    }

    /// Asks for the first values that were too long, as many as there is room for. If there is none
    /// for the first of them, its command fails.
    fn want_withheld(&mut self, memory: &Arc<ClientMemory>) {
        self.memory = None;
        let mut total = 0;
        for slot in &self.slots {
            let Slot::Asked { request, .. } = *slot else { continue };
            let asked = &mut self.asked[request];
            if let Some(Ok(Answer::Late)) = asked.answer {
                asked.answer = None;
                asked.ask.come_late();
                self.round.push(request);
                continue;
            }
            let Some(Ok(Answer::Withheld { bytes })) = asked.answer else { continue };
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            if total > 0 && bytes.saturating_add(total) > ROUND_BYTES {
                break;
            }
            let has_room = match &mut self.memory {
                None => {
                    self.memory = memory.reserve(bytes);
                    self.memory.is_some()
                }
                Some(memory) => memory.grow(bytes),
            };
            if has_room {
                total += bytes;
                asked.ask.limit_value(bytes);
                asked.answer = None;
                asked.is_counted = true;
                self.round.push(request);
            } else {
                if total == 0 {
                    asked.answer = Some(Err(CommandError::NoMemory));
                }
                break;
            }
        }
    }

    /// Takes in answers of the store.
    pub fn answered(&mut self, answers: Vec<StoreAnswer>) {
        for (place, answer) in answers {
            let asked = &mut self.asked[self.round[place]];
            if std::mem::take(&mut asked.waits) {
                asked.answer = Some(match answer {
                    Ok(answer) => understood(&answer),
                    Err(error) => Err(error.into()),
                });
                self.missing -= 1;
            }
        }
    }

    /// Nothing more comes of this round.
    pub fn abandoned(&mut self) {
        let unknown = |place| (place, Err(BackendError::OutcomeUnknown));
        self.answered((0..self.round.len()).map(unknown).collect());
    }

    /// The next reply, if it is known.
    pub fn next_reply(&mut self, server: &ServerState) -> Option<Reply> {
        let outcome = match self.slots.front()? {
            Slot::Known(_) => match self.slots.pop_front()? {
                Slot::Known(outcome) => outcome,
                Slot::Asked { .. } => return None,
            },
            Slot::Asked { request, shape } => {
                let (asked, shape) = (&mut self.asked[*request], *shape);
                if asked.answer.is_none() || asked.is_open() {
                    return None;
                }
                asked.readers -= 1;
                let answer =
                    if asked.readers == 0 { asked.answer.take() } else { asked.answer.clone() };
                let is_read = asked.ask.is_read();
                let is_bounded = is_read && !asked.is_counted;
                self.slots.pop_front();
                let outcome = answer?.and_then(shape);
                outcome.and_then(|reply| match is_bounded {
                    true => bounded(server, reply),
                    false => Ok(reply),
                })
            }
        };
        self.errors += u64::from(outcome.is_err());
        Some(outcome.unwrap_or_else(|error| Reply::Error(error.to_string())))
    }

    /// Counts its commands, once all have their replies.
    pub fn count(&self, server: &ServerState) {
        server.stats.count_commands(self.commands, self.errors);
    }
}

impl Asked {
    /// Whether it has to be asked again.
    const fn is_open(&self) -> bool {
        matches!(self.answer, Some(Ok(Answer::Withheld { .. } | Answer::Late)))
    }

    /// The request as it leaves for the store.
    fn leave(&mut self, database: u8) -> StoreRequest {
        self.waits = true;
        let (access, body) = self.ask.encode(database);
        StoreRequest { range: self.range, access, body }
    }
}

/// The plan of a command that asks the store; none for one that runs alone. Fails with the outcome
/// of a command whose reply is known.
fn plan<B: Backend>(
    context: &mut Context<'_, B>,
    spec: &Spec,
    request: &[Bytes],
) -> Result<Option<Plan>, Outcome> {
    let plan = match begin(context, spec, request).map_err(Err)? {
        Step::Store(plan) => plan,
        Step::Reply(outcome) => return Err(outcome),
        Step::Alone(_) => return Ok(None),
    };
    context.check_memory(plan.ask.command()).map_err(Err)?;
    Ok(Some(plan))
}

/// Refuses a large reply for which there is no memory.
fn bounded(server: &ServerState, reply: Reply) -> Outcome {
    match server.memory.has_room_for(reply.encoded_bytes_at_most()) {
        true => Ok(reply),
        false => Err(CommandError::NoMemory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::execute_alone;
    use crate::kv::DataMemory;
    use crate::layout::Partition;
    use crate::limits::Limits;
    use crate::memory::MemoryBackend;
    use crate::server_state::Facts;
    use crate::session::{Registration, Session, Socket};
    use crate::settings::Settings;

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
                    match pipeline.add(&mut context, &request) {
                        Added::Here => {}
                        Added::Later => break,
                        Added::Alone if !pipeline.is_empty() => break,
                        Added::Alone => {
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
                replies.extend(std::iter::from_fn(|| pipeline.next_reply(&self.server)));
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
        assert_eq!(fixture.server.stats.errors.value(), 0, "not counted before the end");
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
        assert_eq!(both, [refused, Reply::Integer(0)]);
        assert_eq!(fixture.run(&["STRLEN a"]).await, [Reply::Integer(100_000)]);
        // A command that has taken effect gets its reply.
        assert_eq!(fixture.run(&["GETDEL a"]).await, [value(100_000)]);
        assert_eq!(fixture.run(&["SET a @100000"]).await, [Reply::OK]);
        drop(unread);
        assert_eq!(fixture.run(&["GET a"]).await, [value(100_000)]);
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
}
