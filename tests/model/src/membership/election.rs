//! Elections: who campaigns, who gives a vote, and who leads.

use super::log::Member;
use super::message::Message;
use super::mistake::Mistake;
use super::model::Membership;
use super::state::{Replica, Role, State};
use crate::ids::NodeId;

impl<const N: usize> Membership<N> {
    /// Whether the replica of `node` may campaign: it votes in the newest configuration that it
    /// has, in either half, or others take it for a voter and can't win against its log. By its own
    /// configuration it needs the votes of others then, and its own is none of them.
    pub(super) fn may_campaign(&self, state: &State<N>, node: NodeId) -> bool {
        let Some(replica) = &state.nodes[node].replica else {
            return false;
        };
        self.is_voter(node, replica)
            || !self.has(Mistake::LearnerNeverCampaigns)
                && state.replicas().any(|(other, asking)| {
                    let log = self.in_force(asking);
                    self.is_voter(other.node, asking)
                        && log.configuration().electorate().has(node)
                        && log.member(node) == Some(Member { node, id: replica.id })
                        && asking.log.last() < replica.log.last()
                })
    }

    /// Whether a replica votes in the newest configuration that it has.
    fn is_voter(&self, node: NodeId, replica: &Replica) -> bool {
        let log = self.in_force(replica);
        let configuration = log.configuration();
        let voters = if self.has(Mistake::OutgoingNeverCampaigns) {
            configuration.voters
        } else {
            configuration.electorate()
        };
        voters.has(node) && log.member(node) == Some(Member { node, id: replica.id })
    }

    /// A replica campaigns in the term after its own. It votes for itself.
    pub(super) fn ask_for_votes(&self, state: &mut State<N>, node: NodeId, transfer: bool) {
        let Some(replica) = &mut state.nodes[node].replica else {
            return;
        };
        let from = Member { node, id: replica.id };
        replica.enter(replica.term.next());
        (replica.vote, replica.bond, replica.role) = (Some(from), None, Role::Candidate);
        let (term, last) = (replica.term, replica.log.last());
        let log = self.in_force(replica);
        state.sent.send(Message::RequestVote { term, from, last, log, transfer });
        state.sent.send(Message::Vote { term, from, to: from });
        self.lead(state, from);
    }

    /// A request for a vote. A replica with a bond refuses without entering the term, unless it is
    /// bound to the candidate, or a leader that serves nothing any more asked that to campaign. A
    /// learner votes like anybody: it may be a voter and not know it yet.
    pub(super) fn vote(&self, state: &mut State<N>, voter: NodeId, request: Message) {
        let Message::RequestVote { term, from, last, log, transfer } = request else {
            return;
        };
        let name = match log.member(voter).filter(|_| log.configuration().electorate().has(voter)) {
            Some(member) => Some(member),
            None if self.asks_anybody() => log.member(voter).or(state.member(voter)),
            None => None,
        };
        let Some(Member { id, .. }) = name else {
            return;
        };
        if !self.admit(state, voter, id, self.has(Mistake::FormerVoteCounts)) {
            return;
        }
        let bound = state.nodes[voter].bound().is_some_and(|bond| bond.leader != from);
        let Some(replica) = &mut state.nodes[voter].replica else {
            return;
        };
        if bound && !transfer || term < replica.term {
            return;
        }
        replica.enter(term);
        replica.bond = replica.bond.filter(|bond| bond.leader != from || bond.term >= term);
        let configuration = replica.log.configuration();
        if self.has(Mistake::LearnerRefusesVote) && !configuration.electorate().has(voter) {
            return;
        }
        let by_name = Member { node: voter, id: replica.id };
        if replica.vote.is_none() && last >= replica.log.last() {
            (replica.vote, replica.bond, replica.role) = (Some(from), None, Role::Follower);
            state.sent.send(Message::Vote { term, from: by_name, to: from });
        } else if self.has(Mistake::VoteNamesNode)
            && replica.vote.is_some_and(|vote| vote.node == from.node)
        {
            state.sent.send(Message::Vote { term, from: by_name, to: from });
        }
    }

    /// Whether candidates ask others than voters.
    pub(super) fn asks_anybody(&self) -> bool {
        self.has(Mistake::LearnerVoteCounts) || self.has(Mistake::RemovedVoteCounts)
    }

    /// A request for a vote arrives, and the candidate learns at once that it is elected. Returns
    /// false if it is not.
    pub(super) fn elect(&self, state: &mut State<N>, voter: NodeId, request: Message) -> bool {
        self.vote(state, voter, request);
        match request {
            Message::RequestVote { term, from, .. } => {
                let standing = state.nodes[from.node].replica;
                standing.is_some_and(|it| it.id == from.id && it.term == term)
                    && self.lead(state, from)
            }
            _ => false,
        }
    }

    /// A candidate leads if it is elected, and says whether it is. Its first entry is its no-op.
    fn lead(&self, state: &mut State<N>, candidate: Member) -> bool {
        if !self.is_elected(state, candidate) {
            return false;
        }
        let Some(replica) =
            state.nodes[candidate.node].replica.as_mut().filter(|it| it.role == Role::Candidate)
        else {
            return false;
        };
        replica.role = Role::Leader;
        state.history.elect(replica.term, candidate, replica.log);
        let configuration = replica.log.configuration();
        Self::append(state, candidate.node, configuration);
        true
    }
}
