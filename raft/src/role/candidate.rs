//! A campaign, real or as a pre-vote: collects votes until they decide it or time runs out.

use crate::quorum::Outcome;
use crate::replica::Replica;
use crate::{NodeId, Support, Time};
use alloc::vec;
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
    /// A campaign that has the candidate's own vote.
    pub(crate) fn new(replica: &mut Replica, failures: u8) -> Self {
        Self {
            granted: vec![replica.node()],
            refused: Vec::new(),
            deadline: replica.answer_deadline(failures),
            failures,
        }
    }

    /// Counts the answer of a voter. Its first one stands, so that a doubled or late message counts
    /// for nothing. Nobody else was asked. Returns whether the answer counts.
    pub(crate) fn record(&mut self, replica: &Replica, from: NodeId, granted: bool) -> bool {
        if self.has_answered(from) || !replica.configuration().is_voter(from) {
            return false;
        }
        if granted {
            self.granted.push(from);
        } else {
            self.refused.push(from);
        }
        true
    }

    /// Whether no other answer is to be expected: all voters have answered whose nodes and this one
    /// support each other. Both directions count. This node may have withdrawn its support from a
    /// lost node before the support of that node for this one has lapsed.
    pub(crate) fn has_all_answers(&self, replica: &Replica, support: &Support) -> bool {
        let lives = |node: &NodeId| {
            support.support_from(*node).is_some() && support.support_for(*node).is_some()
        };
        replica.voters().filter(lives).all(|peer| self.has_answered(peer))
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
