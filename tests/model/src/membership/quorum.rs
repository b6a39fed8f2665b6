//! Who counts: for votes, for commits, and for reads.

use super::configuration::{Configuration, Nodes, is_majority};
use super::log::{Log, Member};
use super::message::Message;
use super::mistake::Mistake;
use super::model::Membership;
use super::state::{Replica, State};
use crate::ids::NodeId;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    Votes,
    Acknowledgements,
    Confirmations,
}

impl<const N: usize> Membership<N> {
    /// The log whose newest configuration is in force for the elections of a replica.
    pub(super) fn in_force(&self, replica: &Replica) -> Log {
        let change = replica.log.last_change().index;
        if self.has(Mistake::ActiveOnCommit) && change > 1 {
            return replica.log.prefix(change - 1);
        }
        replica.reverted.unwrap_or(replica.log)
    }

    fn is_quorum(&self, count: Count, configuration: Configuration, nodes: Nodes) -> bool {
        let (half, learner) = match count {
            Count::Votes => (Mistake::HalfElects, Some(Mistake::LearnerVoteCounts)),
            Count::Acknowledgements => {
                (Mistake::HalfCommits, Some(Mistake::LearnerAcknowledgementCounts))
            }
            Count::Confirmations => (Mistake::HalfConfirms, None),
        };
        let Configuration { voters, learners, .. } = configuration;
        if self.has(half) {
            return is_majority(voters, nodes);
        }
        // As many as make a majority of voters, whoever they are.
        let as_many = |of: Nodes| configuration.halves().all(|half| of.len() > half.len() / 2);
        if learner.is_some_and(|mistake| self.has(mistake)) {
            return as_many(Nodes::filter(nodes.iter(), |node| {
                configuration.electorate().and(learners).has(node)
            }));
        }
        if count == Count::Votes && self.has(Mistake::RemovedVoteCounts) {
            return as_many(nodes);
        }
        configuration.is_quorum(nodes)
    }

    /// Whether the votes that `candidate` has got in its term elect it.
    pub(super) fn is_elected(&self, state: &State<N>, candidate: Member) -> bool {
        let Some(replica) = &state.nodes[candidate.node].replica else {
            return false;
        };
        let log = self.in_force(replica);
        let voters = state.sent.iter().filter_map(|message| match message {
            Message::Vote { term, from, to } if term == replica.term => {
                let asked = log.member(from.node) == Some(from)
                    || self.has(Mistake::FormerVoteCounts)
                    || self.has(Mistake::RemovedVoteCounts);
                let own = to == candidate
                    || self.has(Mistake::VoteNamesNode) && to.node == candidate.node;
                (asked && own).then_some(from.node)
            }
            _ => None,
        });
        let voters = voters.fold(Nodes::default(), Nodes::with);
        self.is_quorum(Count::Votes, log.configuration(), voters)
    }

    /// Whether a quorum holds the entry at `index` of the log of the leader on `node`.
    pub(super) fn is_replicated(&self, state: &State<N>, node: NodeId, index: u8) -> bool {
        let Some(leader) = &state.nodes[node].replica else {
            return false;
        };
        let holders = state.sent.iter().filter_map(|message| match message {
            Message::Appended { term, from, index: upto } => {
                let named = leader.log.member(from.node) == Some(from)
                    || self.has(Mistake::FormerAcknowledgementCounts);
                (term == leader.term && upto >= index && named).then_some(from.node)
            }
            _ => None,
        });
        let holders = holders.fold(Nodes::default().with(node), Nodes::with);
        let configuration = leader.log.configuration();
        if self.has(Mistake::OutsiderCountsItself) {
            let is_majority = |half: Nodes| {
                let others = half.without(Nodes::default().with(node));
                others.len() - others.without(holders).len() + 1 > half.len() / 2
            };
            return configuration.halves().all(is_majority);
        }
        self.is_quorum(Count::Acknowledgements, configuration, holders)
    }

    /// Whether the leader on `node` may answer a read that begins now and for which all peers'
    /// nodes answer its round now.
    pub fn may_serve(&self, state: &State<N>, node: NodeId) -> bool {
        let Some(leader) = state.nodes[node].replica.filter(Replica::leads) else {
            return false;
        };
        if state.history.committed_in(leader.term).is_none() || state.has_abdicated(node) {
            return false;
        }
        let elected = state.history.elected.iter().find(|(term, ..)| *term == leader.term);
        let log = match elected {
            Some((.., log)) if self.has(Mistake::EarlierConfigurationConfirms) => log,
            _ => &leader.log,
        };
        let confirms = |peer: NodeId| {
            peer == node
                || state.nodes[peer].supports.has(node)
                    && state.sent.iter().any(|message| match message {
                        Message::Fortified { term, from } => {
                            term == leader.term
                                && from.node == peer
                                && (log.member(peer) == Some(from)
                                    || self.has(Mistake::FormerBondCounts))
                        }
                        _ => false,
                    })
        };
        let confirming = Nodes::filter(State::<N>::ids(), confirms);
        self.is_quorum(Count::Confirmations, log.configuration(), confirming)
    }
}
