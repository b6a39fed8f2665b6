//! A follower: takes what the leader of its term sends, and waits for one when there is none.

use crate::replica::Replica;
use crate::{Entries, Entry, Index, LogId, NodeId, Output, Payload, Time};
use alloc::vec::Vec;

#[derive(Debug)]
pub(crate) struct Follower {
    /// The leader of the term, once it was heard.
    pub(crate) leader: Option<NodeId>,
    /// When the leader was last heard; without one, of no meaning.
    pub(crate) heard: Time,
    /// When to campaign.
    pub(crate) deadline: Time,
}

impl Follower {
    /// A follower that knows no leader, and campaigns at `deadline` if none appears.
    pub(crate) const fn waiting(deadline: Time) -> Self {
        Self { leader: None, heard: Time(0), deadline }
    }

    /// A follower that has just heard from its leader.
    pub(crate) fn of(leader: NodeId, replica: &mut Replica) -> Self {
        Self { leader: Some(leader), heard: replica.now, deadline: replica.draw_deadline() }
    }

    /// Whether a leader was heard so recently that nobody should be elected in its place.
    pub(crate) fn hears_leader(&self, replica: &Replica) -> bool {
        self.leader.is_some() && replica.now.since(self.heard) < replica.election_timeout()
    }

    /// AppendEntries (Raft paper, figure 2). Entries that are held already are left alone, and so
    /// is what follows them: an old append must not undo a newer one.
    ///
    /// # Panics
    /// When the append would replace a committed entry, which no legitimate leader's does.
    pub(crate) fn on_append(
        replica: &mut Replica,
        leader: NodeId,
        prev: LogId,
        mut entries: Entries,
        commit: Index,
        out: &mut Vec<Output>,
    ) {
        if let Some(conflict) = replica.log.conflict_with(prev) {
            let prev = prev.index;
            return replica.send_in_term(leader, Payload::Rejected { prev, conflict }, out);
        }
        let through = prev.index.plus(entries.len() as u64);
        let is_held = |entry: &&Entry| replica.log.holds(entry.id());
        let held =
            entries.iter().take_while(|entry| !mutant!(TruncateOnStaleAppend) && is_held(entry));
        let held = held.count();
        entries.drain(..held);
        if let Some(first) = entries.first() {
            assert!(first.index > replica.commit, "a committed entry is never replaced");
            replica.append(entries, out);
        }
        replica.commit_to(commit.min(through));
        // The leader has all that is committed, so it may learn more than it asked for.
        replica.acknowledge(leader, through.max(replica.commit), out);
    }

    /// The leader cut `commit` to what it knows to be here, so it may be trusted without a look at
    /// the log.
    pub(crate) fn on_heartbeat(
        replica: &mut Replica,
        leader: NodeId,
        commit: Index,
        round: u64,
        out: &mut Vec<Output>,
    ) {
        replica.commit_to(commit.min(replica.log.last()));
        let applied = replica.applied;
        replica.send_in_term(leader, Payload::HeartbeatReply { round, applied }, out);
    }

    /// InstallSnapshot (Raft paper, figure 13), whose bytes are here already. A snapshot that ends
    /// at an entry which the log holds only tells that the entry is committed: nothing has to be
    /// restored, and what follows in the log stays.
    pub(crate) fn on_snapshot(
        replica: &mut Replica,
        leader: NodeId,
        last: LogId,
        out: &mut Vec<Output>,
    ) {
        if last.index > replica.commit {
            if replica.log.holds(last) {
                replica.commit_to(last.index);
            } else {
                replica.restore(last, out);
            }
        }
        replica.acknowledge(leader, last.index, out);
    }
}
