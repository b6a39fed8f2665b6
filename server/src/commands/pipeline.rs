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
use super::dispatch::{Rejected, begin, prepare};
use super::error::CommandError;
use super::plan::{Ask, Plan, Shape, Step};
use super::table::Spec;
use super::touched::{Touch, Touched};
use crate::backend::{Access, Backend, BackendError, RangeId, StoreAnswer, StoreRequest};
use crate::client_memory::{ClientMemory, Reservation, UNCOUNTED_BYTES};
use crate::kv::Answer;
use crate::resp::Reply;
use crate::server_state::ServerState;
use crate::session::Client;
use crate::stats::Finished;
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

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
    /// Whether reads are served by this node's replicas.
    reads_here: bool,
    /// The requests of this round, by the places of their answers.
    round: SmallVec<[usize; 2]>,
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
    /// The commands that have their replies and are not counted.
    finished: SmallVec<[Finished; 4]>,
    /// Keys that were read and found, and those that were not.
    looked_up: (u64, u64),
    /// Room for the values of this round.
    memory: Option<Reservation>,
}

/// A command that has no reply.
struct Slot {
    /// What it is, if there is such a command.
    spec: Option<&'static Spec>,
    /// Its name and its arguments.
    request: Vec<Bytes>,
    reply: Due,
}

/// Where the reply to a command comes from.
enum Due {
    /// It is known.
    Known(Outcome),
    /// It is known: the command was refused before it began.
    Rejected(CommandError),
    /// The answer to a request becomes the reply.
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
#[derive(Debug)]
pub enum Added {
    /// It is one of it.
    Here,
    /// It has to wait until the pipeline has been carried out.
    Later(Vec<Bytes>),
    /// The same, and until CLIENT PAUSE is over.
    Paused(Vec<Bytes>),
    /// It runs alone, by [`execute_alone`](super::execute_alone).
    Alone(Vec<Bytes>),
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
    pub fn add<B: Backend>(&mut self, context: &mut Context<'_, B>, request: Vec<Bytes>) -> Added {
        let bytes = request.iter().map(Bytes::len).sum::<usize>();
        if !self.has_room_for(bytes) {
            return Added::Later(request);
        }
        let spec = match prepare(context, &request) {
            Ok(spec) => spec,
            Err(Rejected { spec, error }) => {
                self.slots.push_back(Slot { spec, request, reply: Due::Rejected(error) });
                return Added::Here;
            }
        };
        if context.server.pause.holds_up(spec) {
            return Added::Paused(request);
        }
        self.database = context.session.database;
        self.reads_here = context.session.reads_anywhere;
        let reply = match plan(context, spec, &request) {
            Ok(Some(plan)) => match self.join(spec, &request, plan) {
                Some(reply) => reply,
                None => return Added::Later(request),
            },
            Ok(None) => return Added::Alone(request),
            Err(reply) => reply,
        };
        context.server.monitors.show(context.session, spec, &request);
        self.slots.push_back(Slot { spec: Some(spec), request, reply });
        self.bytes += bytes;
        self.last_command = spec.full_name;
        Added::Here
    }

    /// Adds a command that was refused before it was understood.
    pub fn add_refused(&mut self, reason: String) {
        let reply = Due::Rejected(CommandError::Refused(reason));
        self.slots.push_back(Slot { spec: None, request: Vec::new(), reply });
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        let has_room = self.slots.len() < MAX_COMMANDS && self.bytes + bytes <= MAX_BYTES;
        self.slots.is_empty() || has_room && !self.is_full
    }

    /// Adds what a command asks the store, unless it has to wait for those before it.
    fn join(&mut self, spec: &Spec, request: &[Bytes], plan: Plan) -> Option<Due> {
        let Plan { range, ask, shape } = plan;
        if ask.takes_value() && !self.slots.is_empty() {
            return None;
        }
        let keys = spec.keys.of(request);
        let touches = keys.clone().map(|key| self.touched.by(key));
        let touch = match &ask {
            Ask::Write(_) => {
                if touches.into_iter().any(|touch| matches!(touch, Some(Touch::Read(_)))) {
                    return None;
                }
                Touch::Write
            }
            // None has come late yet.
            Ask::Read(query) | Ask::LateRead(query) => {
                for touch in touches {
                    match touch {
                        None => {}
                        Some(Touch::Write) => return None,
                        Some(Touch::Read(request)) => {
                            let asked = &mut self.asked[request];
                            if !matches!(&asked.ask, Ask::Read(other) if other == query) {
                                return None;
                            }
                            asked.readers += 1;
                            return Some(Due::Asked { request, shape });
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
        let (answer, readers) = (None, 1);
        self.asked.push(Asked { range, ask, answer, waits: false, readers, is_counted: false });
        Some(Due::Asked { request: self.asked.len() - 1, shape })
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
        let leave = |&at: &usize| {
            let mut request = self.asked[at].leave(self.database);
            if self.reads_here && request.access == Access::Read {
                request.access = Access::ReadHere;
            }
            request
        };
        (self.missing > 0).then(|| self.round.iter().map(leave).collect())
    }

    /// The request that the next reply comes from, if it comes from one.
    fn next_request(&self) -> Option<&Asked> {
        match self.slots.front()?.reply {
            Due::Asked { request, .. } => Some(&self.asked[request]),
            Due::Known(_) | Due::Rejected(_) => None,
        }
    }

    /// Whether the next reply has a value that was too long, or has to be asked for by the time.
    fn next_is_open(&self) -> bool {
        self.next_request().is_some_and(Asked::is_open)
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
            let Due::Asked { request, .. } = slot.reply else { continue };
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

    /// Whether the next reply is known.
    #[must_use]
    pub fn knows_next(&self) -> bool {
        let is_known = |asked: &Asked| asked.answer.is_some() && !asked.is_open();
        !self.slots.is_empty() && self.next_request().is_none_or(is_known)
    }

    /// The next reply, if it is known. The commands of `client` took so long until now.
    pub fn next_reply(
        &mut self,
        server: &ServerState,
        client: &Client,
        took: Duration,
    ) -> Option<Reply> {
        if !self.knows_next() {
            return None;
        }
        let Slot { spec, request, reply } = self.slots.pop_front()?;
        let is_rejected = matches!(reply, Due::Rejected(_));
        let outcome = match reply {
            Due::Known(outcome) => outcome,
            Due::Rejected(error) => Err(error),
            Due::Asked { request, shape } => self.take_answer(server, request, shape)?,
        };
        if let Some(spec) = spec {
            self.note_finished(spec, is_rejected, outcome.is_err());
            if !is_rejected && server.stats.is_long(took) {
                server.stats.note_long(spec, &request, client, took);
            }
        }
        Some(outcome.unwrap_or_else(|error| {
            let text = error.to_string();
            server.stats.errors.count(&text);
            Reply::Error(text)
        }))
    }

    /// What the answer to a request makes of the next command.
    fn take_answer(
        &mut self,
        server: &ServerState,
        request: usize,
        shape: Shape,
    ) -> Option<Outcome> {
        let asked = &mut self.asked[request];
        asked.readers -= 1;
        let answer = if asked.readers == 0 { asked.answer.take() } else { asked.answer.clone() };
        let answer = answer?;
        if let (true, Ok(Answer::Value(value))) = (asked.ask.looks_up(), &answer) {
            let (hits, misses) = &mut self.looked_up;
            *if value.is_some() { hits } else { misses } += 1;
        }
        let is_bounded = asked.ask.is_read() && !asked.is_counted;
        let outcome = answer.and_then(shape);
        Some(outcome.and_then(|reply| match is_bounded {
            true => bounded(server, reply),
            false => Ok(reply),
        }))
    }

    fn note_finished(&mut self, spec: &'static Spec, is_rejected: bool, is_failed: bool) {
        let of_spec = |finished: &&mut Finished| finished.spec.number == spec.number;
        let finished = match self.finished.iter_mut().find(of_spec) {
            Some(finished) => finished,
            None => {
                self.finished.push(Finished { spec, calls: 0, failed: 0, rejected: 0 });
                let last = self.finished.len() - 1;
                &mut self.finished[last]
            }
        };
        finished.rejected += u64::from(is_rejected);
        finished.calls += u64::from(!is_rejected);
        finished.failed += u64::from(is_failed && !is_rejected);
    }

    /// Counts the commands that have had their replies since the last count, and that took so long.
    pub fn count(&mut self, server: &ServerState, took: Duration) {
        for finished in self.finished.drain(..) {
            server.stats.commands.finished(finished, took);
        }
        let (hits, misses) = std::mem::take(&mut self.looked_up);
        server.stats.commands.looked_up(hits, misses);
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

/// The plan of a command that asks the store; none for one that runs alone. Fails with the reply of
/// a command if that is known.
fn plan<B: Backend>(
    context: &mut Context<'_, B>,
    spec: &Spec,
    request: &[Bytes],
) -> Result<Option<Plan>, Due> {
    let plan = match begin(context, spec, request).map_err(|error| Due::Known(Err(error)))? {
        Step::Store(plan) => plan,
        Step::Reply(outcome) => return Err(Due::Known(outcome)),
        Step::Alone(_) => return Ok(None),
    };
    context.check_memory(plan.ask.command()).map_err(Due::Rejected)?;
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
mod tests;
