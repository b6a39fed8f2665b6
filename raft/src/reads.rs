//! Linearizable reads of a leader (ReadIndex: Raft thesis, section 6.4), confirmed by the node's
//! rounds rather than by the group's own heartbeats.
//!
//! A read may be answered from the state of the commit index at a moment after it arrived at which
//! the replica was certainly the leader. The node proves that for all of its groups at once: it
//! opens a *round*, and its peers answer at which epoch they support it. While a peer supports it at
//! the epoch at which a follower there is bound to this leader, that follower has voted for nobody
//! else; with a majority of such followers no other leader had been elected when the round was
//! opened. A read waits for a round that is opened after it arrived.

use crate::{Index, NodeId, ReadToken, Round};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Who asked for an index to read at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Readers here, who wait for the state machine as well.
    Here(ReadToken),
    /// A follower, which does so on its side.
    Follower(NodeId, ReadToken),
}

#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Reads that came before the leader knew what is committed.
    early: Vec<(Reader, bool)>,
    /// Reads that wait for a round, oldest first.
    waiting: VecDeque<Batch>,
    /// Confirmed reads that wait for the state machine, oldest first.
    confirmed: VecDeque<(Index, ReadToken)>,
}

/// The reads that wait for the same round.
#[derive(Debug)]
struct Batch {
    round: Round,
    /// The commit index when the last of them came.
    index: Index,
    readers: Vec<Reader>,
}

impl Reads {
    /// Takes a read, which may be served on a lease.
    pub(crate) fn push(&mut self, reader: Reader, lease: bool) {
        self.early.push((reader, lease));
    }

    /// Has the reads that came lately wait for the round that is opened next, at the leader's
    /// `commit`; those that may be served on a lease which holds need not wait. Returns the followers
    /// among the latter.
    pub(crate) fn wait(
        &mut self,
        round: Round,
        commit: Index,
        leased: bool,
    ) -> Vec<(NodeId, ReadToken)> {
        let mut answers = Vec::new();
        for (reader, lease) in core::mem::take(&mut self.early) {
            match (reader, lease && leased) {
                (Reader::Here(token), true) => self.confirmed.push_back((commit, token)),
                (Reader::Follower(node, token), true) => answers.push((node, token)),
                (reader, false) => self.join(round, commit, reader),
            }
        }
        answers
    }

    fn join(&mut self, round: Round, index: Index, reader: Reader) {
        match self.waiting.back_mut().filter(|batch| batch.round == round) {
            Some(batch) => {
                batch.index = index;
                batch.readers.push(reader);
            }
            None => self.waiting.push_back(Batch { round, index, readers: [reader].into() }),
        }
    }

    /// The newest round that reads wait for.
    pub(crate) fn round(&self) -> Option<Round> {
        self.waiting.back().map(|batch| batch.round)
    }

    /// A majority confirmed the rounds up to this one. Returns the followers that can be answered,
    /// and with which index.
    pub(crate) fn confirm(&mut self, round: Round) -> Vec<(NodeId, ReadToken, Index)> {
        let mut answers = Vec::new();
        while let Some(batch) = self.waiting.pop_front_if(|batch| batch.round <= round) {
            for reader in batch.readers {
                match reader {
                    Reader::Here(token) => self.confirmed.push_back((batch.index, token)),
                    Reader::Follower(node, token) => answers.push((node, token, batch.index)),
                }
            }
        }
        answers
    }

    /// Takes the oldest confirmed read if the state machine has applied enough.
    pub(crate) fn take_ready(&mut self, applied: Index) -> Option<ReadToken> {
        self.confirmed.pop_front_if(|(index, _)| *index <= applied).map(|(_, token)| token)
    }

    /// Takes all reads that no round has confirmed, oldest first.
    pub(crate) fn take_unconfirmed(&mut self) -> impl Iterator<Item = Reader> + use<> {
        let waiting = core::mem::take(&mut self.waiting);
        let early = core::mem::take(&mut self.early);
        let early = early.into_iter().map(|(reader, _)| reader);
        waiting.into_iter().flat_map(|batch| batch.readers).chain(early)
    }

    /// Takes the confirmed reads that wait for the state machine.
    pub(crate) fn take_confirmed(&mut self) -> impl Iterator<Item = ReadToken> + use<> {
        core::mem::take(&mut self.confirmed).into_iter().map(|(_, token)| token)
    }

    /// Panics when the fields contradict each other.
    pub(crate) fn invariants(&self) {
        assert!(self.waiting.iter().all(|batch| !batch.readers.is_empty()));
        assert!(self.waiting.iter().is_sorted_by(|a, b| a.round < b.round));
        assert!(self.waiting.iter().is_sorted_by_key(|batch| batch.index));
    }
}
