//! Linearizable reads of a leader (ReadIndex: Raft thesis, section 6.4), confirmed by the node's
//! rounds rather than by the group's own heartbeats. A lease read leaves the round out.
//!
//! A read may be answered from the state at the commit index of a moment after it arrived, if the
//! replica was certainly the leader at that moment. The node proves that for all of its groups at
//! once: it opens a *round*, and its peers answer at which epoch they support it. While a peer
//! supports the node at the epoch at which a follower there fortifies this leader, that follower
//! has voted for nobody else. With a majority of such followers, no other leader had been elected
//! when the round was opened. A read waits for a round that is opened after it arrived.
//!
//! Majorities are those of the newest configuration in the leader's log, both halves of a joint
//! one, and are counted anew each time. So nothing that was proven outlives a change of members.

use super::{Leader, Transfer};
use crate::progress::Progress;
use crate::read_queue::Reader;
use crate::replica::Replica;
use crate::step::Step;
use crate::{
    Confirmation, Index, Lease, NodeId, Output, Payload, ReadToken, ReplicaAddress, Round, Support,
    Time,
};

impl Leader {
    /// Takes a read of a reader here, or of a follower. A leader that has told its successor to
    /// campaign can't prove any more that it leads.
    pub(crate) fn on_read(&mut self, step: &mut Step<'_>, reader: Reader, lease: bool) {
        if let Some(Transfer { to, .. }) = self.transfer.filter(|transfer| transfer.abdicated) {
            refuse(step, reader, Some(to));
        } else if !self.reads.push(reader, lease) {
            refuse(step, reader, None);
        }
    }

    /// The newest round of confirmations that reads wait for.
    pub(crate) fn awaited_round(&self) -> Option<Round> {
        self.reads.awaited_round()
    }

    /// Has new reads wait for a round, and answers those that are confirmed and applied.
    ///
    /// Until the no-op is committed, the leader does not know what earlier leaders have committed
    /// (Raft paper, section 8). Reads wait for that first.
    pub(crate) fn serve_reads(&mut self, step: &mut Step<'_>) {
        let commit = step.replica.commit;
        if commit >= self.first {
            let is_leased = self.holds_lease(step.replica, step.support);
            for (peer, token) in self.reads.admit(step.support.next_round, commit, is_leased) {
                self.answer(step, peer, token, commit);
            }
        }
        if self.reads.awaited_round().is_some() {
            let round = self.confirmed_round(step.support);
            let answers = round.map(|round| self.reads.confirm(round));
            for (peer, token, index) in answers.into_iter().flatten() {
                self.answer(step, peer, token, index);
            }
        }
        while let Some(token) = self.reads.take_ready(step.replica.applied) {
            step.out.push(Output::ReadReady { token });
        }
    }

    /// Refuses all reads, since the leadership is over: none can be confirmed any more.
    pub(crate) fn refuse_reads(mut self, step: &mut Step<'_>, new_leader: Option<NodeId>) {
        for token in self.reads.take_confirmed() {
            refuse(step, Reader::Here(token), new_leader);
        }
        self.refuse_unconfirmed_reads(step, new_leader);
    }

    /// Refuses the reads that no round has confirmed yet.
    pub(super) fn refuse_unconfirmed_reads(
        &mut self,
        step: &mut Step<'_>,
        new_leader: Option<NodeId>,
    ) {
        for reader in self.reads.take_unconfirmed() {
            refuse(step, reader, new_leader);
        }
    }

    /// The newest round in which a majority proved to fortify this leader: each of its peers
    /// answered with the epoch of the follower's fortification. The leader itself counts for every
    /// round.
    fn confirmed_round(&self, support: &Support) -> Option<Round> {
        let proven = |peer: &Progress| {
            let Confirmation { round, epoch } = support.of(peer.node).confirmed;
            let stands = epoch.is_some() && epoch == peer.fortified;
            stands.then_some(round)
        };
        let own = Some(Round(u64::MAX));
        self.reached(proven, own)
    }

    /// Whether no majority can be free to elect another leader yet, by this node's clock.
    fn holds_lease(&self, replica: &Replica, support: &Support) -> bool {
        let lease = |peer: &Progress| {
            let Lease { epoch, until } = support.of(peer.node).lease;
            if peer.fortified == Some(epoch) { until } else { Time(0) }
        };
        self.reached(lease, Time(u64::MAX)) > replica.now
    }

    /// Tells a follower the index to read at, and what is committed of what it holds.
    fn answer(&self, step: &mut Step<'_>, to: ReplicaAddress, token: ReadToken, index: Index) {
        let matched = self.peers.iter().find(|peer| peer.address() == to).map(|peer| peer.matched);
        let commit = step.replica.commit.min(matched.unwrap_or_default());
        step.send(to, Payload::ReadIndexReply { token, index: Some(index), commit });
    }
}

fn refuse(step: &mut Step<'_>, reader: Reader, leader: Option<NodeId>) {
    match reader {
        Reader::Here(token) => step.refuse_read(token, leader),
        Reader::Follower(peer, token) => step.send(peer, Payload::refused_read(token)),
    }
}
