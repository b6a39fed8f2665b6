//! The queue of a leader's reads: taken, waiting for a round, confirmed, applied.

use crate::{Index, ReadToken, ReplicaAddress, Round};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

/// Where the index to read at goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// To readers here, which wait for the state machine as well.
    Here(ReadToken),
    /// To a follower, whose readers wait for its own state machine.
    Follower(ReplicaAddress, ReadToken),
}

/// How many questions of one follower may wait. A follower batches its reads, so it asks far fewer
/// within the time that an answer takes.
const MAX_OF_A_FOLLOWER: usize = 1_024;

/// The reads that a leader has not answered yet.
#[derive(Debug, Default)]
pub(crate) struct ReadQueue {
    /// Reads that wait for no round yet, and whether each may be served on a lease. They came in
    /// this step, or before the leader knew what is committed.
    new: Vec<(Reader, bool)>,
    /// Reads that wait for a round, oldest first: rounds ascend, and so do their indexes.
    waiting: VecDeque<Batch>,
    /// What followers ask in both of them, each question once however often it is repeated.
    questions: BTreeMap<ReplicaAddress, BTreeSet<ReadToken>>,
    /// Confirmed reads that wait for the state machine to reach their index, oldest first.
    confirmed: VecDeque<(Index, ReadToken)>,
}

/// The reads that wait for the same round. Never empty.
#[derive(Debug)]
struct Batch {
    /// The round, which was opened after the last of them came.
    round: Round,
    /// The commit index when the last of them came. The earlier ones may use it, too.
    index: Index,
    /// Where the index goes for each of them.
    readers: Vec<Reader>,
}

impl ReadQueue {
    /// Takes a read, which may be served on a lease. Returns whether there is room for it.
    pub(crate) fn push(&mut self, reader: Reader, lease: bool) -> bool {
        if let Reader::Follower(peer, token) = reader {
            let questions = self.questions.entry(peer).or_default();
            if questions.contains(&token) {
                return true;
            }
            if questions.len() == MAX_OF_A_FOLLOWER {
                return false;
            }
            questions.insert(token);
        }
        self.new.push((reader, lease));
        true
    }

    /// Has the new reads wait for the round that is opened next, at the leader's `commit`. Those
    /// that may be served on a lease need not wait if it holds (`is_leased`). Returns the followers
    /// among the latter.
    pub(crate) fn admit(
        &mut self,
        next_round: Round,
        commit: Index,
        is_leased: bool,
    ) -> Vec<(ReplicaAddress, ReadToken)> {
        let mut answers = Vec::new();
        for (reader, lease) in core::mem::take(&mut self.new) {
            match (reader, lease && is_leased) {
                (Reader::Here(token), true) => self.confirmed.push_back((commit, token)),
                (Reader::Follower(peer, token), true) => {
                    self.answered(peer, token);
                    answers.push((peer, token));
                }
                (reader, false) => self.join(next_round, commit, reader),
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
    pub(crate) fn awaited_round(&self) -> Option<Round> {
        self.waiting.back().map(|batch| batch.round)
    }

    /// A majority confirmed the rounds up to this one. Returns the followers that can be answered,
    /// and with which index.
    pub(crate) fn confirm(&mut self, round: Round) -> Vec<(ReplicaAddress, ReadToken, Index)> {
        let mut answers = Vec::new();
        while let Some(batch) = self.waiting.pop_front_if(|batch| batch.round <= round) {
            for reader in batch.readers {
                match reader {
                    Reader::Here(token) => self.confirmed.push_back((batch.index, token)),
                    Reader::Follower(peer, token) => {
                        self.answered(peer, token);
                        answers.push((peer, token, batch.index));
                    }
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
        let new = core::mem::take(&mut self.new);
        self.questions.clear();
        let new = new.into_iter().map(|(reader, _)| reader);
        waiting.into_iter().flat_map(|batch| batch.readers).chain(new)
    }

    /// Takes the confirmed reads that wait for the state machine.
    pub(crate) fn take_confirmed(&mut self) -> impl Iterator<Item = ReadToken> + use<> {
        core::mem::take(&mut self.confirmed).into_iter().map(|(_, token)| token)
    }

    fn answered(&mut self, peer: ReplicaAddress, token: ReadToken) {
        if let Some(questions) = self.questions.get_mut(&peer) {
            questions.remove(&token);
            if questions.is_empty() {
                self.questions.remove(&peer);
            }
        }
    }

    /// Panics when the fields contradict each other.
    pub(crate) fn invariants(&self) {
        let waiting = self.waiting.iter().flat_map(|batch| &batch.readers);
        let new = self.new.iter().map(|(reader, _)| reader);
        let followers = waiting.chain(new).filter(|it| matches!(it, Reader::Follower(..))).count();
        assert_eq!(self.questions.values().map(BTreeSet::len).sum::<usize>(), followers);
        assert!(self.waiting.iter().all(|batch| !batch.readers.is_empty()));
        assert!(self.waiting.iter().is_sorted_by(|a, b| a.round < b.round));
        assert!(self.waiting.iter().is_sorted_by_key(|batch| batch.index));
    }
}
