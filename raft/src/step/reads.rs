//! How a follower serves linearizable reads: it asks its leader for a read index (Raft thesis,
//! section 6.4), applies the log up to there, and answers.

use super::Step;
use crate::plausible::is_index_plausible;
use crate::{Index, NodeId, Output, Payload, ReadToken, Refusal, ReplicaAddress, Violation};
use alloc::vec::Vec;

/// For how many election timeouts a follower's read waits. Who reads does better elsewhere then.
const PATIENCE: u32 = 4;

impl Step<'_> {
    /// Asks the leader for the index to read at.
    pub(crate) fn ask_leader(&mut self, leader: ReplicaAddress, token: ReadToken, lease: bool) {
        let (now, patience) = (self.now(), self.replica.election_timeout() * PATIENCE);
        self.replica.follower_reads.push(token, lease, now, patience);
        self.send_in_term(leader, Payload::ReadIndex { token, lease });
    }

    /// Asks the leader again for what it did not answer in time.
    pub(crate) fn ask_leader_again(&mut self, leader: ReplicaAddress) {
        let (now, timeout) = (self.now(), self.replica.config.tuning.retransmit_timeout);
        if !self.replica.follower_reads.repeat(now, timeout) {
            return;
        }
        let unanswered: Vec<_> = self.replica.follower_reads.unanswered().collect();
        for (token, lease) in unanswered {
            self.send_in_term(leader, Payload::ReadIndex { token, lease });
        }
    }

    /// Takes the leader's answer: an index to read at, or a refusal. `commit` is what the leader
    /// knows to be committed of what this replica holds.
    pub(crate) fn on_read_index(
        &mut self,
        leader: ReplicaAddress,
        token: ReadToken,
        named: Option<Index>,
        commit: Index,
    ) {
        let last = self.replica.log.last();
        let index = named.filter(|index| is_index_plausible(last, *index));
        if !self.replica.follower_reads.answer(token, index) {
            return; // Answered before, or refused when the leader changed.
        }
        if let Some(index) = named
            && !is_index_plausible(last, index)
        {
            self.violated(leader.node, Violation::ImplausibleIndex { index, known: last });
        }
        if index.is_some() {
            self.replica.commit_to(commit.min(last));
            self.apply();
        } else {
            self.refuse_read(token, None);
        }
    }

    /// Refuses the reads that the leader did not answer, because another leads now.
    pub(crate) fn refuse_unanswered_reads(&mut self, leader: Option<NodeId>) {
        let reason = Refusal::NotLeader { leader };
        for token in self.replica.follower_reads.take_unanswered() {
            self.out.push(Output::ReadRefused { token, reason });
        }
    }

    /// Serves the reads for which enough is applied. A leader's answer stays true when the leader
    /// is deposed: the read began before the leader gave it.
    pub(crate) fn serve_follower_reads(&mut self) {
        let ready = self.replica.follower_reads.take_ready(self.replica.applied);
        self.out.extend(ready.map(|token| Output::ReadReady { token }));
    }

    /// Refuses the reads that have waited for too long, be it for an answer or for what it names.
    pub(crate) fn refuse_late_reads(&mut self, leader: Option<NodeId>) {
        let (now, reason) = (self.now(), Refusal::NotLeader { leader });
        for token in self.replica.follower_reads.take_late(now) {
            self.out.push(Output::ReadRefused { token, reason });
        }
    }

    /// Refuses a read of a reader here.
    pub(crate) fn refuse_read(&mut self, token: ReadToken, leader: Option<NodeId>) {
        let reason = Refusal::NotLeader { leader };
        self.out.push(Output::ReadRefused { token, reason });
    }
}
