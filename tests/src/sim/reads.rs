//! The books on reads: which rounds of confirmations there were when a read came to its leader, and
//! which had been answered when it was served.

use super::machine::QueryId;
use logboat_raft::{NodeId, Round, Support, Term};
use std::collections::{HashMap, HashSet};

/// The reads that came to a node and were not served yet.
#[derive(Debug, Default)]
pub(super) struct ReadBook {
    /// Those that came since the replica ran.
    posted: HashMap<QueryId, Round>,
    /// Those that a leader took, with its term.
    taken: HashMap<QueryId, (Round, Term)>,
    /// Those that came to a leader that had handed over.
    late: HashSet<QueryId>,
}

impl ReadBook {
    /// A read came which no lease may serve. `next_round` is the first round that is opened after
    /// it.
    pub(super) fn came(&mut self, id: QueryId, next_round: Round) {
        self.posted.insert(id, next_round);
    }

    /// A read came to a leader that has told another replica to campaign: it must not serve it.
    pub(super) fn came_late(&mut self, id: QueryId) {
        self.late.insert(id);
    }

    /// The replica has run. It led all the time in the terms `leads`, if in any, and served these
    /// reads. Those that it took as a leader are confirmed by a round that was opened after each
    /// came: of the nodes of its `peers`, enough have answered such a round.
    ///
    /// # Panics
    /// When they are not.
    pub(super) fn ran(
        &mut self,
        leads: Option<Term>,
        served: &[QueryId],
        peers: impl Iterator<Item = NodeId> + Clone,
        support: &Support,
    ) {
        let posted = std::mem::take(&mut self.posted);
        if let Some(term) = leads {
            self.taken.extend(posted.into_iter().map(|(id, round)| (id, (round, term))));
        }
        for id in served {
            let is_late = leads.is_some() && self.late.contains(id);
            assert!(!is_late, "a leader that had handed over served a read that came afterwards");
            let Some((round, term)) = self.taken.remove(id) else { continue };
            if leads != Some(term) {
                continue;
            }
            let answers = |peer: &NodeId| support.of(*peer).confirmed.round >= round;
            let (answers, peers) = (peers.clone().filter(answers).count(), peers.clone().count());
            assert!(
                2 * (answers + 1) > peers + 1,
                "a read that came before round {round} was served when {answers} of {peers} peers \
                 had answered that or a later one"
            );
        }
        // Those that are refused never come up again.
        if leads.is_none() {
            self.taken.clear();
            self.late.clear();
        }
    }
}
