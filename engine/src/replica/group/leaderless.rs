//! How long a replica has heard no leader, and when it says so.

use crate::events::NodeEvent;
use crate::replica::group::Group;
use crate::replica::run_context::RunContext;
use logboat_raft::{Support, Time};

/// After how many election timeouts without a leader a replica says that it is orphaned. Elections
/// that fail for once, or a few times, are over by then.
const PATIENCE: u32 = 10;

/// Whether a replica hears a leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Leaderless {
    /// It does, or has stopped.
    #[default]
    No,
    /// It does not. At this time it says so.
    Until(Time),
    /// It has said so.
    Said,
}

impl Leaderless {
    /// When there is something to say.
    pub(super) const fn deadline(self) -> Option<Time> {
        match self {
            Self::Until(deadline) => Some(deadline),
            Self::No | Self::Said => None,
        }
    }
}

impl Group {
    /// Says that the replica is orphaned if it has heard no leader for long. Without a majority of
    /// the group's nodes there can't be a leader, and nobody is orphaned.
    pub(super) fn watch_leader(&mut self, run: &RunContext<'_>) {
        if self.halted || self.raft.leader().is_some() {
            self.leaderless = Leaderless::No;
            return;
        }
        let now = run.turn.now;
        let deadline = now + self.raft.election_timeout() * PATIENCE;
        match self.leaderless {
            Leaderless::No => self.leaderless = Leaderless::Until(deadline),
            Leaderless::Until(due) if due <= now => {
                self.leaderless = Leaderless::Until(deadline);
                if self.others_are_there(&run.turn.support) {
                    self.leaderless = Leaderless::Said;
                    let group = self.id;
                    tracing::warn!(group = group.0, "this replica has heard no leader for long");
                    self.shared.events.publish(|| NodeEvent::Orphaned { group });
                }
            }
            Leaderless::Until(_) | Leaderless::Said => {}
        }
    }

    /// Whether a majority of the group is there. A replica that was just added knows nobody.
    fn others_are_there(&self, support: &Support) -> bool {
        let members = self.raft.configuration();
        let is_other = |node| self.raft.peers().any(|peer| peer == node);
        let is_there = |node| !is_other(node) || support.of(node).support_from.is_some();
        members.members().is_empty() || members.is_quorum(is_there)
    }
}
