//! What a leader does: it appends entries, commits them, and gives up.

use super::configuration::Configuration;
use super::log::Member;
use super::message::Message;
use super::mistake::Mistake;
use super::model::Membership;
use super::state::{Replica, Role, State};
use crate::ids::NodeId;

impl<const N: usize> Membership<N> {
    /// Whether the leader on `node` may change the configuration. It has to have committed an entry
    /// of its term, and the change before. Who votes no more proposes nothing.
    pub(super) fn may_change(&self, state: &State<N>, node: NodeId) -> bool {
        let Some(leader) = &state.nodes[node].replica else {
            return false;
        };
        let change = leader.log.last_change().index;
        let own = state.history.committed_in(leader.term);
        let over = match own {
            Some(committed) => committed.len() >= change,
            None => {
                self.has(Mistake::ChangeBeforeOwnTermCommit)
                    && state.history.has_committed(&leader.log, change)
            }
        };
        let over = over || own.is_some() && self.has(Mistake::ChangeWhileUncommitted);
        over && leader.log.configuration().electorate().has(node)
    }

    /// The leader on `node` appends an entry, and sends it along.
    pub(super) fn append(state: &mut State<N>, node: NodeId, configuration: Configuration) {
        if let Some(leader) = &mut state.nodes[node].replica {
            let term = leader.term;
            leader.log = leader.log.with(term, configuration);
            let (from, log) = (Member { node, id: leader.id }, leader.log);
            state.sent.send(Message::Append { term, from, log });
        }
    }

    /// The leader on `node` notices what is committed: entries of its term by counting, and all
    /// before them.
    pub(super) fn commit(&self, state: &mut State<N>, node: NodeId) {
        let Some(Replica { term, log, .. }) = state.nodes[node].replica else {
            return;
        };
        let known = state.history.committed_in(term).map_or(0, |committed| committed.len());
        let own = (known + 1..=log.len()).rev().take_while(|&index| log.id_at(index).term == term);
        if let Some(index) = own.into_iter().find(|&it| self.is_replicated(state, node, it)) {
            state.history.commit(term, log.prefix(index));
        }
    }

    /// A leader asks a follower, whoever hears it, to campaign.
    pub(super) fn abdicate(state: &mut State<N>, node: NodeId) {
        if let (Some(from), Some(leader)) = (state.member(node), state.nodes[node].replica) {
            state.sent.send(Message::TimeoutNow { term: leader.term, from });
        }
    }

    /// A replica gives up what it is in its term, and lets all go that may be bound to it.
    pub(super) fn resign(state: &mut State<N>, node: NodeId) {
        let from = state.member(node);
        if let (Some(from), Some(replica)) = (from, &mut state.nodes[node].replica) {
            replica.role = Role::Follower;
            state.sent.send(Message::Resign { term: replica.term, from });
        }
    }
}
