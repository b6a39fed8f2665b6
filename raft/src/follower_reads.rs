//! Linearizable reads of a follower: it asks the leader how far it must have applied the log, and
//! serves them when it has (Raft thesis, section 6.4).

use crate::replica::Replica;
use crate::{Index, NodeId, Output, Payload, ReadToken, Refusal, Time};
use alloc::vec::Vec;

/// The reads of a follower.
#[derive(Debug, Default)]
pub(crate) struct FollowerReads {
    reads: Vec<FollowerRead>,
    /// When the oldest question that waits for an answer was asked, or all of them again.
    since: Time,
}

#[derive(Clone, Copy, Debug)]
struct FollowerRead {
    token: ReadToken,
    lease: bool,
    /// How far to apply, once the leader has said.
    index: Option<Index>,
}

impl Replica {
    /// Asks the leader on behalf of a read.
    pub(crate) fn ask(
        &mut self,
        leader: NodeId,
        token: ReadToken,
        lease: bool,
        out: &mut Vec<Output>,
    ) {
        if self.asked_deadline().is_none() {
            self.follower_reads.since = self.now;
        }
        self.follower_reads.reads.push(FollowerRead { token, lease, index: None });
        self.send_in_term(leader, Payload::ReadIndex { token, lease }, out);
    }

    /// When silence of the leader means that a question or its answer was lost.
    pub(crate) fn asked_deadline(&self) -> Option<Time> {
        let waits = self.follower_reads.reads.iter().any(|read| read.index.is_none());
        waits.then(|| self.follower_reads.since + self.config.tuning.retransmit_timeout)
    }

    /// Asks the leader again what it did not answer in time.
    pub(crate) fn ask_again(&mut self, leader: NodeId, out: &mut Vec<Output>) {
        if self.asked_deadline().is_none_or(|deadline| deadline > self.now) {
            return;
        }
        self.follower_reads.since = self.now;
        for at in 0..self.follower_reads.reads.len() {
            let FollowerRead { token, lease, index } = self.follower_reads.reads[at];
            if index.is_none() {
                self.send_in_term(leader, Payload::ReadIndex { token, lease }, out);
            }
        }
    }

    /// Takes the leader's answer. It also tells what is committed of what is here.
    pub(crate) fn learn_index(
        &mut self,
        token: ReadToken,
        index: Option<Index>,
        commit: Index,
        out: &mut Vec<Output>,
    ) {
        let asked = |read: &FollowerRead| read.token == token && read.index.is_none();
        let Some(at) = self.follower_reads.reads.iter().position(asked) else {
            return;
        };
        if index.is_some() {
            self.follower_reads.reads[at].index = index;
            self.commit_to(commit.min(self.log.last()));
            self.apply(out);
        } else {
            self.follower_reads.reads.swap_remove(at);
            let reason = Refusal::NotLeader { leader: None };
            out.push(Output::ReadRefused { token, reason });
        }
    }

    /// Refuses the reads that the leader did not answer, because another leads now.
    pub(crate) fn forget_asked(&mut self, leader: Option<NodeId>, out: &mut Vec<Output>) {
        let reason = Refusal::NotLeader { leader };
        for read in self.follower_reads.reads.extract_if(.., |read| read.index.is_none()) {
            out.push(Output::ReadRefused { token: read.token, reason });
        }
    }

    /// Serves the reads for which enough is applied.
    pub(crate) fn serve_asked(&mut self, out: &mut Vec<Output>) {
        let applied = self.applied;
        let ready = |read: &mut FollowerRead| read.index.is_some_and(|index| index <= applied);
        out.extend(
            self.follower_reads
                .reads
                .extract_if(.., ready)
                .map(|read| Output::ReadReady { token: read.token }),
        );
    }
}
