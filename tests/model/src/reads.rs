//! Linearizable reads: when a leader may begin one, and when it may answer it.

use crate::ids::{NodeId, Round, Term};
use crate::mistake::Mistake;
use crate::model::Liveness;
use crate::network::Message;
use crate::state::{Read, Role, State};

impl<const N: usize> Liveness<N> {
    /// Whether the replica of `node` may begin a read: it leads, has committed an entry of its
    /// term, and has not asked anybody else to lead.
    pub(crate) fn may_read(&self, state: &State<N>, node: NodeId) -> bool {
        let term = state.nodes[node].memory.term;
        state.nodes[node].role.leads()
            && state.has_committed(term)
            && (!has_abdicated(state, node) || self.has(Mistake::ReadAfterAbdication))
    }

    /// The leader on `node` begins a read that `round` is to confirm.
    pub(crate) fn begin_read(state: &mut State<N>, node: NodeId, round: Round) {
        let elected = state.network.newest_elected();
        let committed = state.committed().max().unwrap_or_default();
        state.nodes[node].role = Role::Leader { read: Some(Read { round, elected, committed }) };
    }

    /// The read that the leader on `node` may answer now, and the leader's term: with itself, a
    /// majority has confirmed it.
    pub(crate) fn answerable(&self, state: &State<N>, node: NodeId) -> Option<(Term, Read)> {
        let read = state.nodes[node].role.read()?;
        let confirming =
            State::<N>::peers(node).filter(|&peer| self.confirms(state, peer, node, read));
        let confirmed = 1 + confirming.count() >= State::<N>::MAJORITY;
        confirmed.then_some((state.nodes[node].memory.term, read))
    }

    /// Whether `peer` has answered the read's round with the epoch at which its replica had bound
    /// itself to this leader.
    fn confirms(&self, state: &State<N>, peer: NodeId, leader: NodeId, read: Read) -> bool {
        let term = state.nodes[leader].memory.term;
        let this_boot = state.nodes[leader].boot;
        state.network.iter().any(|message| match message {
            Message::Confirmed { from, to, boot, round, epoch } => {
                (from, to) == (peer, leader)
                    && (boot == this_boot || self.has(Mistake::EarlierBootConfirms))
                    && (round == read.round
                        || round < read.round && self.has(Mistake::EarlierRoundConfirms))
                    && (state.network.has(&Message::Fortified { term, from, epoch })
                        || self.has(Mistake::AnyEpochConfirms) && has_fortified(state, term, from))
            }
            _ => false,
        })
    }
}

/// Whether the leader on `node` has asked somebody to campaign.
pub(crate) fn has_abdicated<const N: usize>(state: &State<N>, node: NodeId) -> bool {
    let term = state.nodes[node].memory.term;
    state.network.has(&Message::TimeoutNow { term, from: node })
}

fn has_fortified<const N: usize>(state: &State<N>, term: Term, peer: NodeId) -> bool {
    state.network.iter().any(|message| match message {
        Message::Fortified { term: of, from, .. } => (of, from) == (term, peer),
        _ => false,
    })
}
