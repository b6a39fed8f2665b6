//! Elections: who asks for votes, who gives one, and who leads no more.

use crate::ids::{NodeId, Term};
use crate::mistake::Mistake;
use crate::model::Liveness;
use crate::network::Message;
use crate::state::{Role, State, Stored};

impl<const N: usize> Liveness<N> {
    /// A replica campaigns because it has heard no leader for long.
    pub(crate) fn campaign(&self, state: &mut State<N>, node: NodeId) {
        if state.bound(node).is_some() && !self.has(Mistake::CampaignWhileBound) {
            return;
        }
        let term = state.nodes[node].memory.term;
        let transfer =
            self.has(Mistake::TransferOutlivesTerm) && state.network.transfers(node, term);
        self.ask_for_votes(state, node, transfer);
    }

    /// A leader has asked this replica to campaign, bound or not.
    pub(crate) fn succeed(&self, state: &mut State<N>, node: NodeId, term: Term) {
        let replica = &mut state.nodes[node].memory;
        if term > replica.term {
            self.enter(replica, term);
        }
        self.ask_for_votes(state, node, true);
    }

    /// A replica asks for pre-votes. By that it says that it does not lead in its term, and has led
    /// in no later one.
    pub(crate) fn pre_campaign(&self, state: &mut State<N>, node: NodeId) {
        if !self.has(Mistake::PreVoteKeepsRole) {
            state.nodes[node].role = Role::Follower;
        }
        let term = state.nodes[node].memory.term.next();
        self.promise(state, node, Message::PreVote { term, from: node });
    }

    /// A leader asks a follower, whoever hears it, to campaign.
    pub(crate) fn abdicate(state: &mut State<N>, node: NodeId) {
        let term = state.nodes[node].memory.term;
        state.network.send(Message::TimeoutNow { term, from: node });
    }

    /// A replica gives up what it is in its term, and lets all followers go that may be bound to
    /// it.
    pub(crate) fn resign(&self, state: &mut State<N>, node: NodeId) {
        if !self.has(Mistake::ResignKeepsRole) {
            state.nodes[node].role = Role::Follower;
        }
        let (boot, term) = (state.nodes[node].boot, state.nodes[node].memory.term);
        for to in State::<N>::peers(node) {
            let grant = state.nodes[to].durable().grants[node];
            if grant.live && grant.boot == boot {
                let epoch = grant.epoch;
                self.promise(state, node, Message::Resign { term, from: node, to, epoch });
            }
        }
    }

    /// A replica enters a later term than its own. Its bond outlives that.
    pub(crate) fn enter(&self, replica: &mut Stored<N>, term: Term) {
        replica.enter(term);
        if self.has(Mistake::BondEndsWithTerm) {
            replica.bond = None;
        }
    }

    /// A request for a vote. A replica with a bond refuses without entering the term. There are two
    /// exceptions: the candidate is the one that it is bound to, or a leader that serves no more
    /// reads asked the candidate to campaign. A replica that votes has no bond any more.
    pub(crate) fn vote(&self, state: &mut State<N>, voter: NodeId, request: Message) {
        let Message::RequestVote { term, from, last, transfer } = request else {
            return;
        };
        let node = &mut state.nodes[voter];
        let replica = &mut node.memory;
        let bound = replica.bound().is_some_and(|bond| bond.leader != from);
        let refused = bound && !transfer && !self.has(Mistake::VoteWhileBound);
        if refused || term < replica.term {
            return;
        }
        if term > replica.term {
            self.enter(replica, term);
            node.role = Role::Follower;
        }
        replica.bond = replica.bond.filter(|bond| {
            let earlier = bond.term < term || self.has(Mistake::RequestEndsLaterBond);
            !(bond.leader == from && earlier)
        });
        let free = replica.vote.is_none();
        let current = last >= replica.log.last() || self.has(Mistake::VoteForShorterLog);
        if free && current {
            replica.vote = Some(from);
            replica.bond = None;
            node.role = Role::Follower;
            self.promise(state, voter, Message::Vote { term, from: voter, to: from });
        }
    }

    /// A request for a vote arrives, and the candidate learns at once that it is elected. Returns
    /// false if it is not.
    pub(crate) fn elect(&self, state: &mut State<N>, voter: NodeId, request: Message) -> bool {
        let Message::RequestVote { term, from: candidate, .. } = request else {
            return false;
        };
        self.vote(state, voter, request);
        Self::deliver(state, voter);
        state.nodes[candidate].memory.term == term && self.lead(state, candidate)
    }

    /// A candidate learns that it is elected, and leads. Returns false if it is not.
    pub(crate) fn lead(&self, state: &mut State<N>, candidate: NodeId) -> bool {
        let node = &mut state.nodes[candidate];
        let term = node.memory.term;
        let elected = state.network.votes(candidate, term) >= State::<N>::MAJORITY;
        if node.role != Role::Candidate || !elected {
            return false;
        }
        node.role = Role::Leader { read: None };
        node.memory.log = node.memory.log.with(term);
        let log = node.memory.log;
        state.network.send(Message::Append { term, from: candidate, log });
        state.network.send(Message::Fortify { term, from: candidate });
        self.promise(state, candidate, Message::Appended { term, from: candidate });
        true
    }

    fn ask_for_votes(&self, state: &mut State<N>, node: NodeId, transfer: bool) {
        let candidate = &mut state.nodes[node];
        let term = candidate.memory.term.next();
        self.enter(&mut candidate.memory, term);
        candidate.memory.vote = Some(node);
        candidate.memory.bond = None;
        candidate.role = Role::Candidate;
        let last = candidate.memory.log.last();
        self.promise(state, node, Message::RequestVote { term, from: node, last, transfer });
        self.promise(state, node, Message::Vote { term, from: node, to: node });
    }
}
