//! A follower: takes what the leader of its term sends, binds itself to the leader's node, and waits
//! for a leader when there is none.

use crate::replica::Replica;
use crate::{
    Entries, Entry, Epoch, Fortification, Index, LogId, NodeId, Output, Payload, Support, Time,
};
use alloc::vec::Vec;

#[derive(Debug)]
pub(crate) struct Follower {
    /// The leader of the term, once it was heard; after a restart, whom the replica is bound to.
    pub(crate) leader: Option<NodeId>,
    /// When the leader was last heard, in this run.
    pub(crate) heard: Option<Time>,
    /// When to campaign, unless the replica is bound to its leader.
    pub(crate) deadline: Time,
    /// How many campaigns have failed since there was a leader.
    pub(crate) failures: u8,
}

impl Follower {
    /// A follower that knows no leader, and campaigns at `deadline` if none appears.
    pub(crate) const fn waiting(deadline: Time, failures: u8) -> Self {
        Self { leader: None, heard: None, deadline, failures }
    }

    /// The follower that a replica is after a restart: of whom it was bound to then. It has to look at
    /// once whether it still is.
    pub(crate) fn restored(replica: &mut Replica) -> Self {
        let leader = replica.fortified.map(|bond| bond.leader);
        let deadline = match leader {
            Some(_) => replica.now,
            None => replica.first_deadline(),
        };
        Self { leader, ..Self::waiting(deadline, 0) }
    }

    /// A follower that has just heard from its leader.
    pub(crate) fn of(leader: NodeId, replica: &mut Replica) -> Self {
        let deadline = replica.draw_deadline();
        Self { leader: Some(leader), heard: Some(replica.now), deadline, failures: 0 }
    }

    /// Whether a leader was heard so recently that nobody should be elected in its place.
    pub(crate) fn hears_leader(&self, replica: &Replica) -> bool {
        self.heard.is_some_and(|heard| replica.now.since(heard) < replica.election_timeout())
    }

    /// Whether the replica is bound to the leader that it follows and has heard it, and so has nothing
    /// to wait for.
    pub(crate) fn rests(&self, replica: &Replica, support: &Support) -> bool {
        self.heard.is_some() && self.is_bound(replica, support)
    }

    /// A replica that restarted and is bound does not campaign. It knows no more of what is committed
    /// than its disk did, and the leader thinks that it does: it says how far it is until it is heard.
    /// Returns whether the replica is to go on waiting; without the bond, it forgets the leader.
    pub(crate) fn present(
        &mut self,
        replica: &mut Replica,
        support: &Support,
        out: &mut Vec<Output>,
    ) -> bool {
        let (Some(leader), None) = (self.leader, self.heard) else {
            return false;
        };
        if self.is_bound(replica, support) {
            self.deadline = replica.now + replica.config.tuning.retransmit_timeout;
            let epoch = replica.fortified.map(|bond| bond.epoch);
            Self::tell_bond(replica, leader, epoch, out);
            return true;
        }
        *self = Self::waiting(replica.first_deadline(), 0);
        self.deadline > replica.now
    }

    /// Whether the replica is bound to the leader that it follows.
    pub(crate) fn is_bound(&self, replica: &Replica, support: &Support) -> bool {
        self.leader.is_some() && replica.bound_to(support) == self.leader
    }

    /// The leader of the term was heard: binds the replica to its node, if this node supports that. A
    /// bond with the leader of an earlier term ends, since the new one could only be elected after a
    /// majority was free to do so. Returns the epoch if the leader does not know of it yet.
    ///
    /// Who binds itself has voted. Otherwise a request for votes of this very term, which may come late
    /// and on behalf of an earlier leader's transfer, would end the bond behind the new leader's back.
    fn bind(replica: &mut Replica, leader: NodeId, support: &Support) -> Option<Epoch> {
        let Some(epoch) = support.support_for(leader) else {
            replica.fortified = replica.fortified.filter(|bond| bond.leader == leader);
            return None;
        };
        let bond = Some(Fortification { leader, epoch });
        if bond == replica.fortified && replica.vote.is_some() {
            return None; // Made in this term, and told.
        }
        replica.fortified = bond;
        replica.vote.get_or_insert(leader);
        Some(epoch)
    }

    /// Binds the replica to the leader's node, does what the leader says, and tells it of the bond if that
    /// is news, by the same write.
    pub(crate) fn bound(
        replica: &mut Replica,
        leader: NodeId,
        support: &Support,
        out: &mut Vec<Output>,
        obey: impl FnOnce(&mut Replica, &mut Vec<Output>),
    ) {
        let news = Self::bind(replica, leader, support);
        obey(replica, out);
        if news.is_some() {
            Self::tell_bond(replica, leader, news, out);
        }
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
        let held = entries.iter().take_while(is_held).count();
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
    /// the log. Its answer tells of what is applied by then.
    pub(crate) fn on_fortify(
        replica: &mut Replica,
        leader: NodeId,
        commit: Index,
        support: &Support,
        out: &mut Vec<Output>,
    ) {
        Self::bind(replica, leader, support);
        replica.commit_to(commit.min(replica.log.last()));
        replica.apply(out);
        let bound = replica.bound_to(support) == Some(leader);
        let epoch = replica.fortified.filter(|_| bound).map(|bond| bond.epoch);
        Self::tell_bond(replica, leader, epoch, out);
    }

    /// Tells the leader at which epoch the replica is bound to it, when that is durable.
    fn tell_bond(
        replica: &mut Replica,
        leader: NodeId,
        epoch: Option<Epoch>,
        out: &mut Vec<Output>,
    ) {
        let applied = replica.applied;
        replica.send_in_term(leader, Payload::Fortified { epoch, applied }, out);
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
