//! What the replicas of the group do: elections, bonds, and the log.

use crate::model::{Liveness, Mistake};
use crate::network::Message;
use crate::state::{Bond, Log, Replica, Role, State};
use logboat_raft::{NodeId, Term};

impl Liveness {
    /// A replica campaigns because it has heard no leader for long.
    pub(crate) fn campaign(&self, state: &mut State, node: NodeId) {
        if state.bound(node).is_some() && !self.has(Mistake::CampaignWhileBound) {
            return;
        }
        let term = state.nodes[node].replica.term;
        let transfer =
            self.has(Mistake::TransferOutlivesTerm) && state.network.transfers(node, term);
        self.ask_for_votes(state, node, term.next(), transfer);
    }

    /// A leader asks a follower, whoever hears it, to campaign.
    pub(crate) fn abdicate(state: &mut State, node: NodeId) {
        let term = state.nodes[node].replica.term;
        state.network.send(Message::TimeoutNow { term, from: node });
    }

    /// A replica enters a later term than its own. Its bond outlives that.
    pub(crate) fn enter_term(&self, replica: &mut Replica, term: Term) {
        replica.term = term;
        replica.vote = None;
        replica.role = Role::Follower;
        if self.has(Mistake::BondEndsWithTerm) {
            replica.bond = None;
        }
    }

    /// A message arrives at `node`.
    pub(crate) fn receive(&self, state: &mut State, node: NodeId, message: Message) {
        match message {
            Message::RequestVote { .. } => self.vote(state, node, message),
            Message::Append { term, from, log } => self.append(state, node, from, term, log),
            Message::Fortify { term, from } => self.hear(state, node, from, term),
            Message::TimeoutNow { term, .. } => {
                self.ask_for_votes(state, node, term.next(), true);
            }
            Message::Confirm { from, run, round } => Self::confirm(state, node, from, run, round),
            Message::Vote { .. }
            | Message::Appended { .. }
            | Message::Fortified { .. }
            | Message::Confirmed { .. } => {}
        }
    }

    /// A request for a vote arrives, and the candidate learns at once that it is elected. Returns
    /// false if it is not.
    pub(crate) fn elect(&self, state: &mut State, voter: NodeId, request: Message) -> bool {
        let Message::RequestVote { term, from: candidate, .. } = request else {
            return false;
        };
        self.vote(state, voter, request);
        let replica = &mut state.nodes[candidate].replica;
        let stands = replica.term == term && replica.role == Role::Candidate;
        if !stands || !state.network.elects(candidate, term) {
            return false;
        }
        replica.role = Role::Leader { read: None };
        replica.bond = None;
        replica.log = replica.log.with(term);
        let log = replica.log;
        state.network.send(Message::Append { term, from: candidate, log });
        state.network.send(Message::Fortify { term, from: candidate });
        state.network.send(Message::Appended { term, from: candidate });
        true
    }

    fn ask_for_votes(&self, state: &mut State, node: NodeId, term: Term, transfer: bool) {
        let replica = &mut state.nodes[node].replica;
        self.enter_term(replica, term);
        replica.vote = Some(node);
        replica.role = Role::Candidate;
        let last = replica.log.last();
        state.network.send(Message::RequestVote { term, from: node, last, transfer });
        state.network.send(Message::Vote { term, from: node, to: node });
    }

    /// A replica that is bound refuses without as much as entering the term, unless the candidate
    /// is the one that it is bound to, or was asked to campaign by a leader that reads no more.
    fn vote(&self, state: &mut State, voter: NodeId, request: Message) {
        let Message::RequestVote { term, from, last, transfer } = request else {
            return;
        };
        let bound = state.bound(voter).is_some_and(|bond| bond.leader != from);
        let replica = &mut state.nodes[voter].replica;
        let refused = bound && !transfer && !self.has(Mistake::VoteWhileBound);
        if refused || term < replica.term {
            return;
        }
        if term > replica.term {
            self.enter_term(replica, term);
        }
        let free = replica.vote.is_none_or(|vote| vote == from);
        let current = last >= replica.log.last() || self.has(Mistake::VoteForShorterLog);
        if free && current {
            replica.vote = Some(from);
            state.network.send(Message::Vote { term, from: voter, to: from });
        }
    }

    fn append(&self, state: &mut State, follower: NodeId, leader: NodeId, term: Term, log: Log) {
        if term >= state.nodes[follower].replica.term {
            self.hear(state, follower, leader, term);
            state.nodes[follower].replica.log = log;
            state.network.send(Message::Appended { term, from: follower });
        }
    }

    /// A replica hears a leader: it enters its term, and binds itself to it if its node supports
    /// the leader's. Otherwise it gives up a bond to a leader of an earlier term.
    fn hear(&self, state: &mut State, follower: NodeId, leader: NodeId, term: Term) {
        let node = &mut state.nodes[follower];
        if term < node.replica.term {
            return;
        }
        if term > node.replica.term {
            self.enter_term(&mut node.replica, term);
        }
        node.replica.role = Role::Follower;
        let grant = node.grants[leader];
        if grant.live {
            let epoch = grant.epoch;
            node.replica.bond = Some(Bond { leader, epoch, term });
            state.network.send(Message::Fortified { term, from: follower, epoch });
        } else if node.replica.bond.is_some_and(|bond| bond.term < term) {
            node.replica.bond = None;
        }
    }
}
