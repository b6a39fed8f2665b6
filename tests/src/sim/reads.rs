//! The books on reads: which rounds of confirmations there were when a read came to a replica, and
//! which had been answered when it was served.

use super::checks::Checks;
use super::machine::QueryId;
use logboat_raft::{Configuration, NodeId, Round, Support, Term};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The reads that came to a node, none of which a lease may serve.
#[derive(Debug, Default)]
pub(super) struct ReadBook {
    /// Those that came since the replica ran.
    posted: HashMap<QueryId, Arrival>,
    /// Those that a leader took.
    taken: HashMap<QueryId, Taken>,
    /// Those that came to a replica that did not lead, or not for long enough.
    followed: HashMap<QueryId, Arrival>,
    /// Those that came to a leader that had handed over.
    late: HashSet<QueryId>,
    /// When each leader last named an index to read at.
    answers: BTreeMap<NodeId, u64>,
}

/// What there was when a read came.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    /// The first round that is opened after it.
    next_round: Round,
    /// The moment, in microseconds.
    at: u64,
}

/// A read that a leader took.
#[derive(Clone, Copy, Debug)]
struct Taken {
    came: Arrival,
    /// The leader's term.
    term: Term,
    /// Whether a majority of the configuration that was in force has answered a round for it. That
    /// counts, though the members may have changed when the state machine answers.
    is_confirmed: bool,
}

/// A replica that has run: it led all the time in the term `leads`, if in any. The configurations
/// are those in force before and after.
pub(super) struct Reader<'a> {
    pub(super) node: NodeId,
    pub(super) group: usize,
    pub(super) leads: Option<Term>,
    pub(super) configurations: [Arc<Configuration>; 2],
    pub(super) support: &'a Support,
}

impl ReadBook {
    /// A read came, at the moment `at`. `next_round` is the first round that is opened after it.
    pub(super) fn came(&mut self, id: QueryId, next_round: Round, at: u64) {
        self.posted.insert(id, Arrival { next_round, at });
    }

    /// A read came to a leader that has told another replica to campaign: it must not serve it.
    pub(super) fn came_late(&mut self, id: QueryId) {
        self.late.insert(id);
    }

    /// The leader on node `from` names an index to read at.
    pub(super) fn answered(&mut self, from: NodeId, at: u64) {
        self.answers.insert(from, at);
    }

    /// The replica has run, and served these reads. Those that it took as a leader are confirmed by
    /// a round that was opened after each came: of its peers' nodes, enough have answered such a
    /// round. And whichever leader confirmed a read, a majority stood by that leader since the read
    /// came.
    ///
    /// # Panics
    /// When that is not so.
    pub(super) fn ran(&mut self, reader: &Reader<'_>, served: &[QueryId], checks: &Checks) {
        let Reader { node, group, leads, ref configurations, support } = *reader;
        let posted = std::mem::take(&mut self.posted);
        match leads {
            Some(term) => {
                let taken = |came| Taken { came, term, is_confirmed: false };
                self.taken.extend(posted.into_iter().map(|(id, came)| (id, taken(came))));
                for Taken { came, is_confirmed, .. } in self.taken.values_mut() {
                    let round = came.next_round;
                    let answers = |it| it == node || support.of(it).confirmed.round >= round;
                    let mut configurations = configurations.iter();
                    *is_confirmed |= configurations.any(|it| it.is_quorum(answers));
                }
            }
            None => self.followed.extend(posted),
        }
        for id in served {
            let is_late = leads.is_some() && self.late.contains(id);
            assert!(!is_late, "a leader that had handed over served a read that came afterwards");
            if let Some(came) = self.followed.remove(id) {
                let since = self.answers.iter().filter(|(_, at)| **at >= came.at);
                let leaders: Vec<NodeId> = since.map(|(leader, _)| *leader).chain([node]).collect();
                checks.read_served(group, &leaders, came.at);
            }
            let Some(taken) = self.taken.remove(id) else { continue };
            checks.read_served(group, &[node], taken.came.at);
            assert!(
                taken.is_confirmed || leads != Some(taken.term),
                "a read that came before round {} was served without a majority that had \
                 answered that or a later one: {configurations:?}",
                taken.came.next_round
            );
        }
        // Those that are refused never come up again.
        if leads.is_none() {
            self.taken.clear();
            self.late.clear();
        }
    }
}
