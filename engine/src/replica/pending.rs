//! Proposals and reads of a replica that wait for their outcome.

use crate::error::RequestError;
use crate::replica::request::Responder;
use crate::turn::Turn;
use bytes::Bytes;
use logboat_raft::{Index, LogId, ReadToken, Time};
use std::collections::VecDeque;

/// A proposal whose entry is in the log but not yet applied.
struct Proposal {
    id: LogId,
    deadline: Time,
    responder: Responder,
}

/// Proposals in the order of their indexes, which is also that of their deadlines.
#[derive(Default)]
pub(crate) struct Proposals(VecDeque<Proposal>);

impl Proposals {
    /// Notes that the command of `responder` became entry `id`.
    pub(crate) fn add(&mut self, turn: &mut Turn, id: LogId, deadline: Time, responder: Responder) {
        // An index is used again only after a change of leader cut the log there. This replica
        // can't know whether the older entry survives on another one.
        while let Some(older) = self.0.pop_back_if(|older| older.id.index >= id.index) {
            older.responder.answer(turn, Err(RequestError::TimedOut));
        }
        if self.0.capacity() == 0 {
            // An idle leader keeps this memory, so it is mostly room for one.
            self.0.reserve_exact(1);
        }
        self.0.push_back(Proposal { id, deadline, responder });
    }

    /// The proposal that the applied entry `id` answers, if it was proposed here. A proposal whose
    /// index went to another term's entry is certainly lost, and its caller gets that answer.
    pub(crate) fn applied(&mut self, turn: &mut Turn, id: LogId) -> Option<Responder> {
        let proposal = self.0.pop_front_if(|first| first.id.index <= id.index)?;
        if proposal.id == id {
            return Some(proposal.responder);
        }
        proposal.responder.answer(turn, Err(RequestError::NotLeader { leader: None }));
        None
    }

    /// Gives up on proposals up to `index`, whose outcome a snapshot hides.
    pub(crate) fn covered(&mut self, turn: &mut Turn, index: Index) {
        while let Some(proposal) = self.0.pop_front_if(|first| first.id.index <= index) {
            proposal.responder.answer(turn, Err(RequestError::TimedOut));
        }
    }

    /// Gives up on proposals whose time is over.
    pub(crate) fn expire(&mut self, turn: &mut Turn) {
        let now = turn.now;
        while let Some(proposal) = self.0.pop_front_if(|first| first.deadline <= now) {
            proposal.responder.answer(turn, Err(RequestError::TimedOut));
        }
    }

    /// Gives up on all: the replica stops.
    pub(crate) fn abandon(&mut self, turn: &mut Turn) {
        for proposal in self.0.drain(..) {
            proposal.responder.answer(turn, Err(RequestError::TimedOut));
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.0.front().map(|first| first.deadline)
    }
}

/// A query that waits until it may be answered.
pub(crate) struct Read {
    pub(crate) query: Bytes,
    pub(crate) responder: Responder,
}

/// Reads by the token under which the core confirms them; few at a time, oldest first.
#[derive(Default)]
pub(crate) struct Reads {
    batches: VecDeque<(ReadToken, Vec<Read>)>,
}

impl Reads {
    /// Adds `reads` under `token`, which no other reads have.
    pub(crate) fn add(&mut self, token: ReadToken, reads: Vec<Read>) {
        self.batches.push_back((token, reads));
    }

    /// Takes out the reads of `token`.
    pub(crate) fn take(&mut self, token: ReadToken) -> Vec<Read> {
        let found = self.batches.iter().position(|(batch, _)| *batch == token);
        found.and_then(|at| self.batches.remove(at)).map(|(_, reads)| reads).unwrap_or_default()
    }

    /// Refuses all: the replica stops.
    pub(crate) fn abandon(&mut self, turn: &mut Turn) {
        for read in self.batches.drain(..).flat_map(|(_, reads)| reads) {
            read.responder.answer(turn, Err(RequestError::Stopped));
        }
    }
}
