//! What must hold in every state, and what must be seen in some.

use super::configuration::Nodes;
use super::log::{Log, LogId, Member};
use super::message::Message;
use super::mistake::Mistake;
use super::model::Membership;
use super::state::{Replica, State};
use crate::ids::{NodeId, Term};
use stateright::Property;

/// Election safety (Raft paper, figure 3).
pub const ONE_LEADER: &str = "a term has one leader";
/// Leader completeness (Raft paper, figure 3).
pub const COMPLETE: &str = "a leader has what the leaders before it have committed";
/// State machine safety (Raft paper, figure 3).
pub const AGREED: &str = "all leaders commit the same";
/// Linearizability: a leader that reads has whatever was acknowledged before the read began.
pub const NOT_OVERTAKEN: &str = "no later leader was elected before a leader that may serve reads";
/// What a bond that a leader counts on is worth.
pub const BOND_STANDS: &str = "a bond that a leader counts on stands at its follower";
/// No bond lasts for ever.
pub const BOND_ENDS: &str = "whoever is bound to a replica that is gone is told so";
/// A group never gets stuck by a change.
pub const ELECTABLE: &str = "a majority of each half that lives can elect one of its own";

/// Both steps of a change.
pub const CHANGED: &str = "a change of voters is committed and left";
/// A leader's own removal.
pub const LEADER_REMOVED: &str = "a leader is demoted, and another one succeeds it";
/// A replica that went and came again, under another id.
pub const BORN_AGAIN: &str = "a replica that was added again is heard";
/// An appended configuration that comes to nothing.
pub const REVERTED: &str = "a configuration is appended that comes to nothing";
/// Why a learner votes.
pub const VOTED_UNKNOWING: &str = "a replica votes that knows of no configuration in which it may";
/// Reads go on while voters change.
pub const JOINT_READ: &str = "a leader may serve reads while its configuration is joint";

pub(super) fn all<const N: usize>() -> Vec<Property<Membership<N>>> {
    vec![
        Property::always(ONE_LEADER, |_, state| one_leader(state)),
        Property::always(COMPLETE, |_, state| complete(state)),
        Property::always(AGREED, |_, state| agreed(state)),
        Property::always(NOT_OVERTAKEN, |model, state: &State<N>| {
            let newest = state.history.newest_elected();
            served(model, state).all(|(_, leader)| leader.term == newest)
        }),
        Property::always(BOND_STANDS, |_, state| bonds_stand(state)),
        Property::always(BOND_ENDS, bonds_end),
        Property::always(ELECTABLE, electable),
        Property::sometimes(CHANGED, |_, state: &State<N>| {
            let mut committed = state.history.committed.iter();
            committed.any(|(_, log)| {
                let joint = log.changes().any(|(_, configuration)| configuration.is_joint());
                joint && !log.configuration().is_joint()
            })
        }),
        Property::sometimes(LEADER_REMOVED, |_, state| leader_removed(state)),
        Property::sometimes(BORN_AGAIN, |_, state: &State<N>| {
            let again = |from: Member| {
                let mut founders = state.replicas().map(|(_, replica)| &replica.log);
                from.id > LogId::FOUNDER
                    && founders.any(|log| {
                        let first = log.changes().next();
                        first.is_some_and(|(_, it)| it.members().has(from.node))
                    })
            };
            state.sent.iter().any(|message| match message {
                Message::Vote { from, .. } | Message::Appended { from, .. } => again(from),
                _ => false,
            })
        }),
        Property::sometimes(REVERTED, |_, state: &State<N>| {
            state.replicas().any(|(_, replica)| {
                let change = replica.log.prefix(replica.log.last_change().index);
                let mut committed = state.history.committed.iter();
                committed.any(|(_, log)| log.len() >= change.len() && !log.starts_with(&change))
            })
        }),
        Property::sometimes(VOTED_UNKNOWING, |_, state: &State<N>| {
            state.sent.iter().any(|message| match message {
                Message::Vote { from, .. } => state.nodes[from.node].replica.is_some_and(|it| {
                    it.id == from.id && !it.log.configuration().electorate().has(from.node)
                }),
                _ => false,
            })
        }),
        Property::sometimes(JOINT_READ, |model, state| {
            served(model, state).any(|(_, leader)| leader.log.configuration().is_joint())
        }),
    ]
}

fn one_leader<const N: usize>(state: &State<N>) -> bool {
    state.history.elected.windows(2).all(|pair| pair[0].0 != pair[1].0)
}

fn complete<const N: usize>(state: &State<N>) -> bool {
    let history = &state.history;
    history.elected.iter().all(|(term, _, log)| {
        let mut earlier = history.committed.iter().filter(|(of, _)| of < term);
        earlier.all(|(_, committed)| log.starts_with(committed))
    })
}

fn agreed<const N: usize>(state: &State<N>) -> bool {
    let committed = &state.history.committed;
    committed.iter().all(|(_, log)| {
        committed.iter().all(|(_, other)| log.starts_with(other) || other.starts_with(log))
    })
}

/// The leaders that may serve reads.
fn served<'a, const N: usize>(
    model: &'a Membership<N>,
    state: &'a State<N>,
) -> impl Iterator<Item = (Member, &'a Replica)> {
    state.replicas().filter(|(member, _)| model.may_serve(state, member.node))
}

fn leader_removed<const N: usize>(state: &State<N>) -> bool {
    state.history.elected.iter().any(|(term, leader, _)| {
        let demoted = state.history.committed_in(*term).is_some_and(|log| {
            let configuration = log.configuration();
            !configuration.electorate().has(leader.node)
        });
        demoted && state.history.elected.iter().any(|(later, ..)| later > term)
    })
}

/// Whether each bond that a leader may count on is at its follower. This need not hold if there is
/// a later leader, or if the leader serves no reads any more.
fn bonds_stand<const N: usize>(state: &State<N>) -> bool {
    let newest = state.history.newest_elected();
    let serves = |(member, replica): &(Member, &Replica)| {
        replica.leads() && replica.term == newest && !state.has_abdicated(member.node)
    };
    state.replicas().find(serves).is_none_or(|(leader, replica)| {
        state.sent.iter().all(|message| match message {
            Message::Fortified { term, from }
                if term == newest && replica.log.member(from.node) == Some(from) =>
            {
                let node = &state.nodes[from.node];
                let electorate = replica.log.configuration().electorate();
                !electorate.has(from.node)
                    || !node.supports.has(leader.node)
                    || node.bound().is_some_and(|bond| bond.leader == leader)
            }
            _ => true,
        })
    })
}

/// Whether each bond can end without an end of support: its leader lives and leads, or can say that
/// it does not, or its tombstone says so until it has an answer.
fn bonds_end<const N: usize>(model: &Membership<N>, state: &State<N>) -> bool {
    let bonds = State::<N>::ids()
        .filter_map(|node| Some((state.member(node)?, state.nodes[node].bound()?)));
    bonds.into_iter().all(|(own, bond)| {
        let lives = state.member(bond.leader.node) == Some(bond.leader);
        let answered = |of: Term| {
            state.sent.iter().any(|message| match message {
                Message::Resigned { term, from, to } => {
                    let former = model.has(Mistake::FormerResignedCounts);
                    let is_own = from == own || former && from.node == own.node;
                    (term, to) == (of, bond.leader) && is_own
                }
                _ => false,
            })
        };
        let goes_on = state.sent.iter().any(|message| match message {
            Message::Resign { term, from } => {
                from == bond.leader && term >= bond.term && !answered(term)
            }
            _ => false,
        });
        lives || goes_on
    })
}

/// Whether those of the nodes that live can elect a leader, whichever die, provided that they are
/// majorities of all configurations in force: that of what is committed, and those of all logs.
fn electable<const N: usize>(model: &Membership<N>, state: &State<N>) -> bool {
    let committed = state.history.committed.last().map(|(_, log)| log);
    let logs = committed.into_iter().chain(state.replicas().map(|(_, it)| &it.log));
    let needed: Vec<_> = logs.filter(|log| !log.is_empty()).map(Log::configuration).collect();
    Membership::<N>::everybody().subsets().all(|alive| {
        needed.iter().any(|configuration| !configuration.is_quorum(alive))
            || alive.iter().any(|node| wins(model, state, node, alive))
    })
}

/// Whether the replica of `candidate` can be elected by those that live, in some term.
fn wins<const N: usize>(
    model: &Membership<N>,
    state: &State<N>,
    candidate: NodeId,
    alive: Nodes,
) -> bool {
    let Some(replica) = state.nodes[candidate].replica.as_ref() else {
        return false;
    };
    let log = model.in_force(replica);
    let votes = Nodes::filter(alive.iter(), |node| grants(model, state, replica, &log, node));
    model.may_campaign(state, candidate) && log.configuration().is_quorum(votes)
}

/// Whether `node` would vote for a candidate, in a term that is new to it and without a bond.
fn grants<const N: usize>(
    model: &Membership<N>,
    state: &State<N>,
    candidate: &Replica,
    log: &Log,
    node: NodeId,
) -> bool {
    let here = &state.nodes[node];
    let Some(named) = log.member(node) else {
        return false;
    };
    let voter = here.replica.filter(|it| it.id == named.id);
    let own = voter.unwrap_or_default().log;
    let willing =
        own.configuration().electorate().has(node) || !model.has(Mistake::LearnerRefusesVote);
    named.id >= here.least && willing && candidate.log.last() >= own.last()
}
