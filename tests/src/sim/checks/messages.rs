//! Nothing leaves a node that rests on what its disk does not hold.

use super::search::Search;
use super::{Checks, Replica, node_id, place_of};
use crate::sim::model::ReplicaModel;
use logboat_raft::{
    Fortification, Grant, Message, NodeId, Payload, ReplicaAddress, SupportMessage,
};

impl Checks {
    /// A message arrived: what it promises must be on its sender's disk.
    pub(in crate::sim) fn promised(
        &mut self,
        (from, to): (usize, usize),
        group: usize,
        message: &Message,
        (now_us, retransmit_us): (u64, u64),
    ) {
        self.is_supported((node_id(from), node_id(to)), message);
        let grant = self.grants.get(&(node_id(from), node_id(to))).copied().unwrap_or_default();
        let Some(group) = self.groups.get_mut(group) else { return };
        group.heard(from, to, message);
        let Replica { model, search, .. } = &mut group.replicas[from];
        if model.is_of_another(message) {
            return;
        }
        has_let_go(model, grant, node_id(to), message);
        let (term, last) = model.survives();
        let vote = model.durable.hard_state.vote;
        let voted_for = vote.map(|vote| place_of(vote.node));
        let names_term = match &message.payload {
            Payload::PreVote { .. } => {
                let is_durable = term.next() >= message.term;
                assert!(is_durable, "a pre-vote of a term that is not durable");
                false
            }
            Payload::PreVoteReply { granted: true } => false,
            Payload::AppendEntries { .. } | Payload::Snapshot { .. } => false,
            Payload::Vote { .. } => {
                assert!(
                    term > message.term || voted_for == Some(from),
                    "a candidate asked for votes before its own was durable"
                );
                true
            }
            Payload::VoteReply { granted: true } => {
                assert!(
                    term > message.term || voted_for == Some(to),
                    "a vote was given before it was durable"
                );
                true
            }
            Payload::Appended { through, .. } => {
                assert!(
                    term > message.term || last >= *through,
                    "entries up to {through} were acknowledged before they were durable"
                );
                *search = Search::default();
                true
            }
            Payload::Rejected { .. } => {
                search.rejected(message.term, now_us, retransmit_us);
                true
            }
            Payload::PreVoteReply { granted: false }
            | Payload::VoteReply { granted: false }
            | Payload::Fortify { .. }
            | Payload::Fortified { epoch: None, .. }
            | Payload::ReadIndex { .. }
            | Payload::Gone { .. }
            | Payload::Resign { .. }
            | Payload::TimeoutNow => true,
            Payload::Resigned { .. } | Payload::Left | Payload::ReadIndexReply { .. } => false,
            Payload::Fortified { epoch: Some(epoch), .. } => {
                let leader = NodeId(to as u64 + 1);
                let (replica, term) = (message.to, message.term);
                let bond = Fortification { leader, replica, epoch: *epoch, term };
                assert!(
                    model.bonds.contains(&bond),
                    "{bond:?} was announced before it was durable"
                );
                true
            }
        };
        assert!(!names_term || term >= message.term, "a message of a term that is not durable");
    }

    /// A node's word that it supports another arrived: it must be on its disk.
    pub(in crate::sim) fn supports(&self, (from, to): (NodeId, NodeId), message: &SupportMessage) {
        let SupportMessage::Granted { epoch, .. } = *message else { return };
        let known = self.grants.get(&(from, to)).copied().unwrap_or_default();
        assert!(epoch <= known.epoch, "support at {epoch} was announced before it was durable");
    }
}

/// Who answers a resignation has no bond with its sender that stands and that it should end.
fn has_let_go(model: &ReplicaModel, grant: Grant, leader: NodeId, message: &Message) {
    let Payload::Resigned { term } = message.payload else { return };
    let leader = ReplicaAddress::new(leader, message.to);
    let bond = model.durable.hard_state.fortified;
    let bond = bond.filter(|bond| grant.live && bond.epoch == grant.epoch);
    assert!(
        !bond.is_some_and(|bond| bond.address() == leader && bond.term <= term),
        "a resignation from {term} is answered, and {bond:?} stands"
    );
}
