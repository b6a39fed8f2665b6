//! A campaign, real or as a pre-vote: collects votes until they decide it or time runs out.

use crate::quorum::{self, Outcome};
use crate::replica::Replica;
use crate::{NodeId, Support, Time};
use alloc::vec;
use alloc::vec::Vec;

#[derive(Debug)]
pub(crate) struct Candidate {
    granted: Vec<NodeId>,
    refused: Vec<NodeId>,
    /// When to start over.
    pub(crate) deadline: Time,
    /// How many campaigns failed before this one.
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

    /// Counts the answer of a voter. Its first one stands.
    pub(crate) fn record(&mut self, from: NodeId, granted: bool) {
        if self.granted.contains(&from) || self.refused.contains(&from) {
            return;
        }
        if granted {
            self.granted.push(from);
        } else {
            self.refused.push(from);
        }
    }

    /// Whether all voters have answered whose nodes and this one support each other: no other answer is
    /// to be expected. A node that was lost may be withdrawn from before its own support has lapsed.
    pub(crate) fn has_all_answers(&self, replica: &Replica, support: &Support) -> bool {
        let answered = |node: &NodeId| self.granted.contains(node) || self.refused.contains(node);
        let lives = |node: &NodeId| {
            support.support_from(*node).is_some() && support.support_for(*node).is_some()
        };
        replica.peers().filter(lives).all(|peer| answered(&peer))
    }

    pub(crate) fn outcome(&self, replica: &Replica) -> Outcome {
        let voters = replica.config.voters.len();
        quorum::tally(voters, self.granted.len(), self.refused.len())
    }
}
