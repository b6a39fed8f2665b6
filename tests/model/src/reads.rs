//! Linearizable reads: when a leader may begin one, and when it may answer it.

use crate::model::{Liveness, Mistake};
use crate::network::Message;
use crate::state::{MAJORITY, Read, Role, State, peers};
use logboat_raft::{NodeId, Term};

impl Liveness {
    /// Whether the replica of `node` may begin a read: it leads, has committed an entry of its
    /// term, and has not asked anybody else to lead.
    pub(crate) fn may_read(&self, state: &State, node: NodeId) -> bool {
        let replica = state.nodes[node].replica;
        let term = replica.term;
        let abdicated = state.network.has(&Message::TimeoutNow { term, from: node });
        matches!(replica.role, Role::Leader { .. })
            && state.network.has_committed(term)
            && (!abdicated || self.has(Mistake::ReadAfterAbdication))
    }

    /// The leader on `node` begins a read that `round` is to confirm.
    pub(crate) fn begin_read(state: &mut State, node: NodeId, round: u64) {
        let elected = state.network.elected().map(|(term, ..)| term).max();
        let committed = state.network.committed().max();
        state.nodes[node].replica.role = Role::Leader {
            read: Some(Read {
                round,
                elected: elected.unwrap_or_default(),
                committed: committed.unwrap_or_default(),
            }),
        };
    }

    /// The read that the leader on `node` may answer now, and the leader's term: with itself, a
    /// majority has confirmed it.
    pub(crate) fn answerable(&self, state: &State, node: NodeId) -> Option<(Term, Read)> {
        let replica = state.nodes[node].replica;
        let read = replica.role.read()?;
        let confirming = peers(node).filter(|&peer| self.confirms(state, peer, node, read));
        (1 + confirming.count() >= MAJORITY).then_some((replica.term, read))
    }

    /// Whether `peer` has answered the read's round with the epoch at which its replica had bound
    /// itself to this leader.
    fn confirms(&self, state: &State, peer: NodeId, leader: NodeId, read: Read) -> bool {
        let term = state.nodes[leader].replica.term;
        let this_run = state.nodes[leader].run;
        state.network.iter().any(|message| match message {
            Message::Confirmed { from, to, run, round, epoch } => {
                (from, to) == (peer, leader)
                    && (run == this_run || self.has(Mistake::EarlierRunConfirms))
                    && (round == read.round
                        || round < read.round && self.has(Mistake::EarlierRoundConfirms))
                    && (state.network.has(&Message::Fortified { term, from, epoch })
                        || self.has(Mistake::AnyEpochConfirms) && has_fortified(state, term, from))
            }
            _ => false,
        })
    }
}

fn has_fortified(state: &State, term: Term, peer: NodeId) -> bool {
    state.network.iter().any(|message| match message {
        Message::Fortified { term: of, from, .. } => (of, from) == (term, peer),
        _ => false,
    })
}
