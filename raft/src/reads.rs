//! Linearizable reads without a clock: ReadIndex (Raft thesis, section 6.4).
//!
//! A read may be answered from the state of the commit index at a moment after it arrived at which
//! the replica was certainly the leader. A *round* proves that: heartbeats with a new number go
//! out, and when a majority has answered one with that number, no later leader had been elected
//! when the round was opened. Reads that arrive while a round is open share the next one, since
//! the open one proves nothing about the time after it began.

use crate::{Index, ReadToken};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// The number of the newest round; zero before the first.
    newest: u64,
    /// Reads that no round covers yet.
    waiting: Vec<ReadToken>,
    /// The round that waits for its majority.
    open: Option<Batch>,
    /// Rounds that had their majority, and wait for the state machine, oldest first.
    confirmed: VecDeque<Batch>,
}

/// The reads of one round.
#[derive(Debug)]
struct Batch {
    /// The commit index when the round was opened.
    index: Index,
    tokens: Vec<ReadToken>,
}

impl Reads {
    /// The number of the newest round, which every heartbeat carries.
    pub(crate) const fn newest_round(&self) -> u64 {
        self.newest
    }

    pub(crate) fn push(&mut self, token: ReadToken) {
        self.waiting.push(token);
    }

    /// Opens a round for the waiting reads, if there are any and none is open, at the leader's
    /// `commit`. Returns whether it did; its heartbeats must then be sent.
    pub(crate) fn open_round(&mut self, commit: Index) -> bool {
        if self.open.is_some() || self.waiting.is_empty() {
            return false;
        }
        self.newest += 1;
        self.open = Some(Batch { index: commit, tokens: core::mem::take(&mut self.waiting) });
        true
    }

    /// Notes that a majority confirmed `round`. Only the open round, which is always the newest,
    /// can still need it.
    pub(crate) fn confirm(&mut self, round: u64) {
        if round == self.newest {
            self.confirmed.extend(self.open.take());
        }
    }

    /// Takes the reads of the oldest confirmed round if the state machine has applied enough.
    pub(crate) fn take_ready(&mut self, applied: Index) -> Option<Vec<ReadToken>> {
        if self.confirmed.front()?.index > applied {
            return None;
        }
        Some(self.confirmed.pop_front()?.tokens)
    }

    /// All reads that were not answered, oldest first.
    pub(crate) fn into_tokens(self) -> impl Iterator<Item = ReadToken> {
        let batches = self.confirmed.into_iter().chain(self.open);
        batches.flat_map(|batch| batch.tokens).chain(self.waiting)
    }

    /// Panics when the fields contradict each other.
    pub(crate) fn invariants(&self) {
        assert!(self.open.is_none() || self.newest > 0);
        let batches = self.confirmed.iter().chain(&self.open);
        assert!(batches.clone().all(|batch| !batch.tokens.is_empty()));
        assert!(batches.is_sorted_by_key(|batch| batch.index));
    }
}
