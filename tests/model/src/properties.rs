//! What must hold in every state, and what must be seen in some.

use crate::ids::{NodeId, Term};
use crate::model::Liveness;
use crate::network::Message;
use crate::reads::has_abdicated;
use crate::state::{Read, State};
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
pub const BOND_KEPT: &str = "a bound replica has voted for nobody else since";
/// What "I am bound to you at this epoch" is worth, until the leader is succeeded or abdicates.
pub const BOND_STANDS: &str = "a bond that a leader counts on stands at its follower";

/// A read is confirmed.
pub const READ: &str = "a read can be answered";
/// A leader that is none any more, and doesn't know, begins a read.
pub const OVERTAKEN_READ: &str = "a read begins when a later leader was elected";
/// Failover as it is meant to be.
pub const FAILOVER: &str = "a leader is elected beside one that serves";
/// Transfer as it is meant to be.
pub const TRANSFER: &str = "a leader is elected although a majority supports one that abdicated";
/// Support that was lost is regained.
pub const LATER_EPOCH: &str = "a leader is followed at an epoch above one";

pub(crate) fn all<const N: usize>() -> Vec<Property<Liveness<N>>> {
    vec![
        Property::always(ONE_LEADER, |_, state| one_leader(state)),
        Property::always(COMPLETE, |_, state| complete(state)),
        Property::always(NO_WRITE_MISSED, |model, state| {
            answerable(model, state).all(|(term, read)| read.committed <= term)
        }),
        Property::always(NOT_OVERTAKEN, |model, state| {
            answerable(model, state).all(|(term, read)| read.elected <= term)
        }),
        Property::always(NO_EPOCH_TWICE, |_, state: &State<N>| {
            let mut grants = state.nodes.iter().flat_map(|node| node.memory.grants.iter());
            grants.all(|grant| !grant.live || grant.epoch > grant.ended)
        }),
        Property::always(BOND_KEPT, |_, state| {
            State::<N>::ids().all(|node| bond_kept(state, node))
        }),
        Property::always(BOND_STANDS, |_, state| bonds_stand(state)),
        Property::sometimes(READ, |model, state| answerable(model, state).next().is_some()),
        Property::sometimes(OVERTAKEN_READ, |_, state| {
            reads(state).any(|(term, read)| read.elected > term)
        }),
        Property::sometimes(FAILOVER, |_, state| {
            overtaken(state).any(|node| !has_abdicated(state, node))
        }),
        Property::sometimes(TRANSFER, |_, state| {
            overtaken(state).any(|node| has_abdicated(state, node) && has_support(state, node))
        }),
        Property::sometimes(LATER_EPOCH, |_, state: &State<N>| {
            let later =
                |message| matches!(message, Message::Fortified { epoch, .. } if epoch.0 > 1);
            state.network.iter().any(later)
        }),
    ]
}

fn one_leader<const N: usize>(state: &State<N>) -> bool {
    let leaders = state.network.elected();
    leaders.clone().all(|(term, leader, _)| {
        leaders.clone().all(|(of, other, _)| of != term || other == leader)
    })
}

fn complete<const N: usize>(state: &State<N>) -> bool {
    let mut committed = state.committed();
    committed.all(|term| state.network.elected().all(|(of, _, log)| of <= term || log.has(term)))
}

fn answerable<const N: usize>(
    model: &Liveness<N>,
    state: &State<N>,
) -> impl Iterator<Item = (Term, Read)> {
    State::<N>::ids().filter_map(|node| model.answerable(state, node))
}

fn reads<const N: usize>(state: &State<N>) -> impl Iterator<Item = (Term, Read)> {
    state.nodes.iter().filter_map(|node| Some((node.memory.term, node.role.read()?)))
}

/// Whether the replica of `node`, if it is bound, has voted for nobody but its leader since.
fn bond_kept<const N: usize>(state: &State<N>, node: NodeId) -> bool {
    state.bound(node).is_none_or(|bond| {
        state.network.iter().all(|message| match message {
            Message::Vote { term, from, to } => {
                from != node || term <= bond.term || to == bond.leader
            }
            _ => true,
        })
    })
}

/// Whether each bond that a leader may count on is on the disk of its follower. This need not hold
/// if there is a later leader, or if the leader serves no reads any more.
fn bonds_stand<const N: usize>(state: &State<N>) -> bool {
    let newest = state.network.newest_elected();
    let serves = |&node: &NodeId| {
        let replica = &state.nodes[node];
        replica.role.leads() && replica.memory.term == newest && !has_abdicated(state, node)
    };
    State::<N>::ids().find(serves).is_none_or(|leader| {
        state.network.iter().all(|message| match message {
            Message::Fortified { term, from, epoch } if term == newest => {
                let follower = &state.nodes[from];
                let grant = follower.memory.grants[leader];
                let counts =
                    grant.live && grant.epoch == epoch && grant.boot == state.nodes[leader].boot;
                !counts
                    || follower.versions().all(|stored| {
                        stored.bond.is_some_and(|bond| (bond.leader, bond.epoch) == (leader, epoch))
                    })
            }
            _ => true,
        })
    })
}

/// The leaders that don't know that there is a later one.
fn overtaken<const N: usize>(state: &State<N>) -> impl Iterator<Item = NodeId> {
    let newest = state.network.newest_elected();
    State::<N>::ids().filter(move |&node| {
        let replica = &state.nodes[node];
        replica.role.leads() && replica.memory.term < newest
    })
}

/// Whether a majority of the nodes support `node` in its present boot.
fn has_support<const N: usize>(state: &State<N>, node: NodeId) -> bool {
    let boot = state.nodes[node].boot;
    let supporters = State::<N>::peers(node).filter(|&peer| {
        let grant = state.nodes[peer].memory.grants[node];
        grant.live && grant.boot == boot
    });
    1 + supporters.count() >= State::<N>::MAJORITY
}
