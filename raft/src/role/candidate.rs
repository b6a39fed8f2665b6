//! A campaign, real or as a pre-vote: collects votes until they decide it or time runs out.

use crate::quorum::Outcome;
use crate::replica::Replica;
use crate::{NodeId, ReplicaAddress, Support, Time};
use alloc::vec::Vec;

/// A replica that asks the others for their votes.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// Who granted its vote: voters, and the candidate itself. Disjoint with `refused`.
    granted: Vec<NodeId>,
    /// Who refused it.
    refused: Vec<NodeId>,
    /// When to start over.
    pub(crate) deadline: Time,
    /// How many campaigns of this replica failed before this one, since it followed or led.
    pub(crate) failures: u8,
}

impl Candidate {
    /// A campaign that has the candidate's own vote, if it is this replica and not an earlier one
    /// on its node that has one.
    pub(crate) fn new(replica: &mut Replica, failures: u8) -> Self {
        let own = replica.configuration().member_at(replica.address());
        Self {
            granted: own.map(|member| member.node).into_iter().collect(),
            refused: Vec::new(),
            deadline: replica.answer_deadline(failures),
            failures,
        }
    }

    /// Counts the answer of a voter. Its first one stands, so that a doubled or late message counts
    /// for nothing. Nobody else was asked, in particular no former replica of its node. Returns
    /// whether the answer counts.
    pub(crate) fn record(
        &mut self,
        replica: &Replica,
        from: ReplicaAddress,
        granted: bool,
    ) -> bool {
        let asked = replica.configuration().member_at(from);
        if self.has_answered(from.node) || !asked.is_some_and(|member| member.role.is_voter()) {
            return false;
        }
        if granted {
            self.granted.push(from.node);
        } else {
            self.refused.push(from.node);
        }
        true
    }

    /// Whether no other answer is to be expected: all voters have answered whose nodes and this one
    /// support each other. Both directions count. This node may have withdrawn its support from a
    /// lost node before the support of that node for this one has lapsed.
    pub(crate) fn has_all_answers(&self, replica: &Replica, support: &Support) -> bool {
        let lives = |peer: &ReplicaAddress| {
            let node = peer.node;
            support.support_from(node).is_some() && support.support_for(node).is_some()
        };
        replica.voters().filter(lives).all(|peer| self.has_answered(peer.node))
    }

    /// Where the election stands.
    pub(crate) fn outcome(&self, replica: &Replica) -> Outcome {
        replica.configuration().outcome(|node| {
            let granted = self.granted.contains(&node);
            (granted || self.refused.contains(&node)).then_some(granted)
        })
    }

    fn has_answered(&self, node: NodeId) -> bool {
        self.granted.contains(&node) || self.refused.contains(&node)
    }
}
