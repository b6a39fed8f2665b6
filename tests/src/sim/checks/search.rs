//! Whether a leader that searches for where a follower's log parts from its own gets there.

use logboat_raft::Term;

/// A leader's search for where a follower's log parts from its own.
#[derive(Debug, Default)]
pub(super) struct Search {
    term: Term,
    began_us: u64,
    rejections: u64,
}

impl Search {
    /// Another rejection in `term`. Each names an earlier term of the follower's log, so there are
    /// no more of them than terms, but for those that the network doubles and those of appends that
    /// the leader had sent ahead or sends again after a while. More than that is a search without
    /// end, which the virtual time alone does not show soon.
    pub(super) fn rejected(&mut self, term: Term, now_us: u64, retransmit_us: u64) {
        if self.term != term {
            *self = Self { term, began_us: now_us, rejections: 0 };
        }
        self.rejections += 1;
        let again = (now_us - self.began_us) / retransmit_us;
        assert!(
            self.rejections <= 2 * (term.0 + again) + 100,
            "a leader searches for ever for where the logs part: {} rejections in term {term}",
            self.rejections
        );
    }
}
