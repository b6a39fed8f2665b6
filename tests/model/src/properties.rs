//! What must hold in every state, and what must be seen in some.

use crate::model::Liveness;
use crate::network::Message;
use crate::state::{NODES, Read, State, peers};
use logboat_raft::{NodeId, Term};
use stateright::Property;

/// Election safety (Raft paper, figure 3).
pub const ONE_LEADER: &str = "a term has one leader";
/// Leader completeness (Raft paper, figure 3).
pub const COMPLETE: &str = "a leader has every committed write of an earlier term";
/// Linearizability: the read knows every write that was acknowledged before it began. It knows
/// those of its leader's term and, by [`COMPLETE`], of all before.
pub const NO_WRITE_MISSED: &str = "a read that can be answered misses no write";
/// What the one above rests on, and stricter than it.
pub const NOT_OVERTAKEN: &str = "no later leader was elected before a read that can be answered";
/// What "I support you at this epoch" is worth.
pub const NO_EPOCH_TWICE: &str = "support that has ended does not come back";
/// What a bond is worth.
pub const BOND_KEPT: &str = "a bound replica has voted for nobody else";

/// A read is confirmed.
pub const READ: &str = "a read can be answered";
/// A leader that is none any more, and doesn't know, begins a read.
pub const OVERTAKEN_READ: &str = "a read begins when a later leader was elected";
/// Failover as it is meant to be.
pub const FAILOVER: &str = "a leader is elected by a replica whose bond has ended";
/// Transfer as it is meant to be.
pub const TRANSFER: &str = "a leader is elected by a replica that is bound to the one before";
/// Support that was lost is regained.
pub const LATER_EPOCH: &str = "an epoch above one is fortified";

pub(crate) fn all() -> Vec<Property<Liveness>> {
    vec![
        Property::always(ONE_LEADER, |_, state| one_leader(state)),
        Property::always(COMPLETE, |_, state| complete(state)),
        Property::always(NO_WRITE_MISSED, |model, state| {
            answerable(model, state).all(|(term, read)| read.committed <= term)
        }),
        Property::always(NOT_OVERTAKEN, |model, state| {
            answerable(model, state).all(|(term, read)| read.elected <= term)
        }),
        Property::always(NO_EPOCH_TWICE, |_, state: &State| {
            let mut grants = state.nodes.iter().flat_map(|node| node.grants.iter());
            grants.all(|grant| !grant.live || grant.epoch > grant.ended)
        }),
        Property::always(BOND_KEPT, |_, state| {
            NODES.into_iter().all(|node| bond_kept(state, node))
        }),
        Property::sometimes(READ, |model, state| answerable(model, state).next().is_some()),
        Property::sometimes(OVERTAKEN_READ, |_, state| {
            reads(state).any(|(term, read)| read.elected > term)
        }),
        Property::sometimes(FAILOVER, |_, state| {
            elected_over_bond(state, |state, voter| state.bound(voter).is_none())
        }),
        Property::sometimes(TRANSFER, |_, state| {
            elected_over_bond(state, |state, voter| state.bound(voter).is_some())
        }),
        Property::sometimes(LATER_EPOCH, |_, state: &State| {
            let later =
                |message| matches!(message, Message::Fortified { epoch, .. } if epoch.0 > 1);
            state.network.iter().any(later)
        }),
    ]
}

fn one_leader(state: &State) -> bool {
    let leaders = state.network.elected();
    leaders.clone().all(|(term, leader, _)| {
        leaders.clone().all(|(of, other, _)| of != term || other == leader)
    })
}

fn complete(state: &State) -> bool {
    let mut committed = state.network.committed();
    committed.all(|term| state.network.elected().all(|(of, _, log)| of <= term || log.has(term)))
}

fn answerable(model: &Liveness, state: &State) -> impl Iterator<Item = (Term, Read)> {
    NODES.into_iter().filter_map(|node| model.answerable(state, node))
}

fn reads(state: &State) -> impl Iterator<Item = (Term, Read)> {
    state.nodes.iter().filter_map(|node| Some((node.replica.term, node.replica.role.read()?)))
}

/// Whether the replica of `node`, if it is bound, has voted for nobody but its leader since, unless
/// a leader had asked for it.
fn bond_kept(state: &State, node: NodeId) -> bool {
    state.bound(node).is_none_or(|bond| {
        state.network.iter().all(|message| match message {
            Message::Vote { term, from, to } => {
                from != node
                    || term <= bond.term
                    || to == bond.leader
                    || state.network.transfers(to, term)
            }
            _ => true,
        })
    })
}

/// Whether somebody was elected by a replica with a bond to another leader, such a one as `voter`
/// says.
fn elected_over_bond(state: &State, voter: fn(&State, NodeId) -> bool) -> bool {
    state.network.elected().any(|(term, leader, _)| {
        peers(leader).any(|peer| {
            let bond = state.nodes[peer].replica.bond;
            let voted = state.network.has(&Message::Vote { term, from: peer, to: leader });
            bond.is_some_and(|bond| bond.leader != leader && bond.term < term)
                && voted
                && voter(state, peer)
        })
    })
}
