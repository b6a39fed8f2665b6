//! Reductions: what the model leaves out, since it makes no difference to what can go wrong. A
//! message is forgotten when it can't do anything any more, wherever it arrives.

use super::log::{Log, Member};
use super::message::Message;
use super::mistake::Mistake;
use super::model::Membership;
use super::state::{Node, Role, State};
use crate::ids::{NodeId, Term};

impl<const N: usize> Membership<N> {
    /// Whether `message` may reach `node` and do something there. Answers are not received: what
    /// rests on them looks for them in the network.
    pub(super) fn reaches(&self, state: &State<N>, message: &Message, node: NodeId) -> bool {
        let replica = state.nodes[node].replica.as_ref();
        let is_new = |term: Term| replica.is_none_or(|replica| replica.term <= term);
        match *message {
            Message::RequestVote { from, log, term, .. } => {
                let asked = log.configuration().electorate().has(node) || self.asks_anybody();
                asked && from.node != node && is_new(term)
            }
            Message::Append { from, log, term } => {
                log.member(node).is_some() && from.node != node && is_new(term)
            }
            Message::TimeoutNow { from, term } => replica.is_some_and(|replica| {
                from.node != node
                    && replica.term <= term
                    && term.0 < self.bounds.terms
                    && self.may_campaign(state, node)
            }),
            Message::Resign { from, term } => replica.is_some_and(|replica| {
                let bond = replica.bond.is_some_and(|bond| bond.leader.node == from.node);
                let own = Member { node, id: replica.id };
                let answered = Message::Resigned { term, from: own, to: from };
                from != own && (bond || replica.term <= term || !state.sent.has(&answered))
            }),
            Message::Vote { .. }
            | Message::Appended { .. }
            | Message::Fortified { .. }
            | Message::Resigned { .. } => false,
        }
    }

    /// Whether it can matter that the replica of `node` resigns: somebody is or may be bound to it.
    pub(super) fn resignation_matters(&self, state: &State<N>, node: NodeId) -> bool {
        let Some(member) = state.member(node) else {
            return false;
        };
        may_bind(state, member, Term(u8::MAX))
    }

    /// Takes out what nobody will take notice of any more.
    pub(super) fn reduce(&self, state: &mut State<N>) {
        for node in state.nodes.iter_mut() {
            let bound = node.bound();
            if let Some(replica) = &mut node.replica {
                replica.bond = bound;
            }
        }
        let seen = state.clone();
        state.sent.retain(|message| self.matters(&seen, message));
    }

    fn matters(&self, state: &State<N>, message: &Message) -> bool {
        let leads = |term: Term| {
            let mut leaders = state.replicas().filter(|(_, replica)| replica.leads());
            leaders.find(|(_, replica)| replica.term == term).map(|(leader, _)| leader)
        };
        match *message {
            Message::RequestVote { .. } | Message::Append { .. } => {
                State::<N>::ids().any(|node| self.may_change_at(state, message, node))
            }
            Message::Vote { .. } if self.has(Mistake::VoteNamesNode) => true,
            // A vote counts while its candidate stands.
            Message::Vote { term, to, .. } => state.nodes[to.node]
                .replica
                .is_some_and(|it| it.id == to.id && it.term == term && it.role == Role::Candidate),
            // What a leader has been told counts while it leads, unless it knows more.
            Message::Appended { term, from, index } => {
                let known = state.history.committed_in(term).map_or(0, Log::len);
                let more = state.sent.iter().any(|other| match other {
                    Message::Appended { term: of, from: by, index: upto } => {
                        (of, by) == (term, from) && upto > index
                    }
                    _ => false,
                });
                leads(term).is_some() && index > known && !more
            }
            Message::Fortified { term, from } => {
                leads(term).is_some_and(|leader| state.nodes[from.node].supports.has(leader.node))
            }
            Message::TimeoutNow { term, .. } => {
                leads(term).is_some() || state.replicas().any(|(_, it)| it.term <= term)
            }
            // A resignation counts where somebody is or may be bound, and so does an answer.
            Message::Resign { term, from } => {
                may_bind(state, from, term) || self.has(Mistake::ResignOfFormerEndsBond)
            }
            Message::Resigned { term, to, .. } => may_bind(state, to, term),
        }
    }

    /// Whether a request or an append may change anything at `node`, now or later.
    fn may_change_at(&self, state: &State<N>, message: &Message, node: NodeId) -> bool {
        let (Message::RequestVote { term, from, log, .. } | Message::Append { term, from, log }) =
            *message
        else {
            return false;
        };
        let Node { least, replica, .. } = state.nodes[node];
        let asks = matches!(message, Message::RequestVote { .. });
        if from.node == node {
            return false;
        }
        if asks && self.asks_anybody() {
            return replica.is_some_and(|replica| replica.term <= term && replica.vote.is_none());
        }
        let asked = !asks || log.configuration().electorate().has(node);
        let Some(name) = log.member(node).filter(|_| asked) else {
            return false;
        };
        let Some(replica) = replica.filter(|it| it.id >= name.id) else {
            return name.id >= least;
        };
        if replica.id > name.id || replica.term > term {
            return self.has(Mistake::TombstoneRegresses);
        }
        if asks {
            let bound = replica.bond.is_some_and(|bond| bond.leader == from && bond.term < term);
            let again = self.has(Mistake::VoteNamesNode);
            return replica.term < term || replica.vote.is_none() || bound || again;
        }
        let fortified = !state.nodes[node].supports.has(from.node)
            || replica.bond.is_some_and(|bond| bond.leader == from && bond.term == term);
        replica.term < term || !replica.log.starts_with(&log) || !fortified
    }
}

/// Whether a bond to `leader` of a term up to `term` is or may be at another replica.
pub(super) fn may_bind<const N: usize>(state: &State<N>, leader: Member, term: Term) -> bool {
    let bound = |node: &Node| {
        let bond = node.bound().filter(|bond| bond.leader == leader && bond.term <= term);
        bond.is_some()
    };
    state.nodes.iter().any(bound)
        || state.sent.iter().any(|message| match message {
            Message::Append { term: of, from, .. } => from == leader && of <= term,
            _ => false,
        })
}
