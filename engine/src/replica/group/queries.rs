//! Queries that a reader answers on other threads, beside the calls of the state machine.
//!
//! A query is handed out when all that it has to see is applied. Its answer comes as
//! [`GroupEvent::Queried`](crate::replica::event::GroupEvent::Queried), in whatever order.

use crate::error::RequestError;
use crate::replica::group::Group;
use crate::replica::group::calling::answer_all;
use crate::replica::request::Responder;
use crate::replica::run_context::RunContext;
use crate::request::administration::encode_local;
use crate::state_machine::StateReader;
use crate::turn::jobs::QueryJob;
use bytes::Bytes;
use logboat_raft::{Index, LogId};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// How many queries of a group are under way at once. A reader that hangs, or is slow, takes no
/// more threads from others.
const AT_ONCE: usize = 4;

/// How many more may wait for that. Beyond it the replica is busy.
const MOST_WAITING: usize = 4_096;

/// The queries of a state machine that has a reader.
pub(super) struct Queries {
    reader: Arc<dyn StateReader>,
    /// Those that may not be asked yet, in the order of what they wait for.
    waiting: VecDeque<Waiting>,
    /// Those that were handed out, by number.
    asked: FxHashMap<u64, Asked>,
    /// How many of them take too long.
    stuck: usize,
    next_number: u64,
}

/// A query that waits until its state is there.
struct Waiting {
    query: Bytes,
    responder: Responder,
    /// The last entry that its answer has to reflect.
    after: Index,
    /// Whether it wants to know from which state its answer is.
    is_local: bool,
}

/// A query that was handed out.
struct Asked {
    /// Nobody waits for the answer any more if there is none.
    responder: Option<Responder>,
    /// Which entry the state had then, for a query that wants to know.
    as_of: Option<LogId>,
    is_stuck: bool,
    /// Whether it went to the reader of a state that was replaced since.
    is_of_former: bool,
}

impl Queries {
    pub(super) fn of(reader: Arc<dyn StateReader>) -> Box<Self> {
        Box::new(Self {
            reader,
            waiting: VecDeque::new(),
            asked: FxHashMap::default(),
            stuck: 0,
            next_number: 0,
        })
    }
}

impl Group {
    /// The reader of the state, which was asked for when the state was opened.
    pub fn has_reader(&mut self, reader: Option<Arc<dyn StateReader>>) {
        self.queries = reader.map(Queries::of);
    }

    /// Has a query answered that reflects all that was handed to the state machine. Without a
    /// reader it is the next thing that the state machine does; otherwise
    /// [`Self::hand_out_queries`] has to follow.
    pub(super) fn query(&mut self, run: &mut RunContext<'_>, query: Bytes, responder: Responder) {
        match (responder, &self.queries) {
            (Responder::Capture(capture), _) => self.capture_for(run, capture),
            (responder, None) => run.scratch.tasks.query(query, responder),
            (responder, Some(_)) => self.wait_to_ask(run, query, responder, false),
        }
    }

    /// Has a query answered that wants to know from which state.
    pub(super) fn query_local(
        &mut self,
        run: &mut RunContext<'_>,
        query: Bytes,
        responder: Responder,
    ) {
        match self.queries {
            None => run.scratch.tasks.query_local(query, responder),
            Some(_) => {
                self.wait_to_ask(run, query, responder, true);
                self.hand_out_queries(run);
            }
        }
    }

    fn wait_to_ask(
        &mut self,
        run: &mut RunContext<'_>,
        query: Bytes,
        responder: Responder,
        is_local: bool,
    ) {
        let Some(queries) = &mut self.queries else { return };
        if queries.waiting.len() >= MOST_WAITING {
            return responder.answer(run.turn, Err(RequestError::Busy));
        }
        let after = self.handed.index;
        queries.waiting.push_back(Waiting { query, responder, after, is_local });
    }

    /// Hands those queries to the reader whose state is there by now, a few at once. While the
    /// state is being replaced, its reader may answer anything.
    pub(super) fn hand_out_queries(&mut self, run: &mut RunContext<'_>) {
        let Some(queries) = &mut self.queries else { return };
        if self.restoring.is_some() || queries.stuck > 0 {
            return;
        }
        let applied = self.applied;
        while queries.asked.len() < AT_ONCE
            && let Some(next) = queries.waiting.pop_front_if(|next| next.after <= applied.index)
        {
            let Waiting { query, responder, is_local, .. } = next;
            let number = queries.next_number;
            queries.next_number += 1;
            let (responder, as_of) = (Some(responder), is_local.then_some(applied));
            let asked = Asked { responder, as_of, is_stuck: false, is_of_former: false };
            queries.asked.insert(number, asked);
            let (group, slot, reader) = (self.id, self.slot, Arc::clone(&queries.reader));
            run.turn.queries.push(QueryJob { group, slot, number, query, reader });
        }
    }

    /// The state is about to be replaced. What its reader says from then on counts for nothing: a
    /// state in tables may be gone in the midst of a query.
    pub(super) fn forget_queries(&mut self, run: &mut RunContext<'_>) {
        let readers = self.take_readers();
        answer_all(run, readers, &RequestError::NotLeader { leader: None });
        if let Some(queries) = &mut self.queries {
            queries.asked.values_mut().for_each(|asked| asked.is_of_former = true);
        }
    }

    /// A query was answered, or could not be.
    pub(super) fn queried(
        &mut self,
        run: &mut RunContext<'_>,
        number: u64,
        answer: Result<Bytes, String>,
    ) {
        let Some(queries) = &mut self.queries else { return };
        let Some(asked) = queries.asked.remove(&number) else { return };
        let Asked { responder, as_of, is_stuck, is_of_former } = asked;
        queries.stuck -= usize::from(is_stuck);
        match answer {
            Ok(answer) => {
                self.shared.metrics.reads.inc();
                let answer = match as_of {
                    Some(as_of) => encode_local(as_of, &answer),
                    None => answer,
                };
                if let Some(responder) = responder {
                    responder.answer(run.turn, Ok(answer));
                }
            }
            // A state that is gone can't be read.
            Err(_) if is_of_former => {}
            Err(reason) => {
                // Whoever hears that the replica has stopped finds out why.
                self.fail(run, &reason);
                return answer_all(run, responder, &RequestError::Stopped);
            }
        }
        self.may_lead_again(run);
        self.hand_out_queries(run);
    }

    /// A query takes too long. Whoever reads here had better ask another replica, and one that has
    /// a disk which does not answer had better not lead. It goes on applying.
    pub(super) fn query_stuck(&mut self, run: &mut RunContext<'_>, number: u64) {
        let Some(queries) = &mut self.queries else { return };
        let Some(asked) = queries.asked.get_mut(&number) else { return };
        queries.stuck += usize::from(!std::mem::replace(&mut asked.is_stuck, true));
        self.may_lead_again(run);
        let readers = self.take_readers();
        answer_all(run, readers, &RequestError::NotLeader { leader: None });
    }

    /// Whether a query takes too long.
    pub(super) fn has_stuck_query(&self) -> bool {
        self.queries.as_ref().is_some_and(|queries| queries.stuck > 0)
    }

    /// Takes out those who wait for answers. Queries that do not run yet are forgotten.
    pub(super) fn take_readers(&mut self) -> Vec<Responder> {
        let Some(queries) = &mut self.queries else { return Vec::new() };
        let waiting = queries.waiting.drain(..).map(|waiting| waiting.responder);
        let asked = queries.asked.values_mut().filter_map(|asked| asked.responder.take());
        waiting.chain(asked).collect()
    }

    /// From now on, this answers queries.
    pub(super) fn read_by(
        &mut self,
        run: &mut RunContext<'_>,
        reader: Option<Arc<dyn StateReader>>,
    ) {
        let former = match (&mut self.queries, reader) {
            (Some(queries), Some(reader)) => Some(std::mem::replace(&mut queries.reader, reader)),
            (queries, reader) => {
                let former = std::mem::replace(queries, reader.map(Queries::of));
                former.map(|queries| queries.reader)
            }
        };
        former.into_iter().for_each(|reader| run.turn.discard(self.id, self.slot, reader));
    }
}
