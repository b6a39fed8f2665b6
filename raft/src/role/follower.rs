//! A follower: takes what the leader of its term sends, fortifies the leader's node, and waits for
//! a leader when there is none.

use crate::plausible::is_index_plausible;
use crate::replica::Replica;
use crate::step::Step;
use crate::{
    Configuration, Entries, Entry, EntryKind, Epoch, Fortification, Index, LogId, Payload,
    ReplicaAddress, SnapshotMeta, Support, Time, Violation,
};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A replica that follows a leader, or waits for one.
#[derive(Debug)]
pub(crate) struct Follower {
    /// The leader of the term, once it was heard. After a restart it is the one that the replica
    /// fortifies, until it is heard or the fortification turns out to be over.
    pub(crate) leader: Option<ReplicaAddress>,
    /// When the leader was last heard. `None` until it was, since this replica started.
    pub(crate) heard: Option<Time>,
    /// When to campaign, unless the replica fortifies its leader by then.
    pub(crate) deadline: Time,
    /// How many campaigns have failed since there was a leader.
    pub(crate) failures: u8,
}

impl Follower {
    /// A follower that knows no leader, and campaigns at `deadline` if none appears.
    pub(crate) const fn waiting(deadline: Time, failures: u8) -> Self {
        Self { leader: None, heard: None, deadline, failures }
    }

    /// The follower that a replica is after a restart: of the leader that it fortified. Its
    /// deadline passes at once, so that it looks whether the fortification still stands.
    pub(crate) fn after_restart(replica: &mut Replica) -> Self {
        let leader = replica.fortified().map(|bond| bond.address());
        let deadline = match leader {
            Some(_) => replica.now,
            None => replica.first_deadline(),
        };
        Self { leader, ..Self::waiting(deadline, 0) }
    }

    /// A follower that has just heard from its leader.
    pub(crate) fn of(leader: ReplicaAddress, replica: &mut Replica) -> Self {
        let deadline = replica.election_deadline();
        Self { leader: Some(leader), heard: Some(replica.now), deadline, failures: 0 }
    }

    /// Whether a leader was heard so recently that nobody should be elected in its place.
    pub(crate) fn hears_leader(&self, replica: &Replica) -> bool {
        self.heard.is_some_and(|heard| replica.now.since(heard) < replica.election_timeout())
    }

    /// Whether the replica has nothing to wait for: it fortifies its leader and has heard it.
    pub(crate) fn is_at_rest(&self, replica: &Replica, support: &Support) -> bool {
        self.heard.is_some() && self.fortifies_leader(replica, support)
    }

    /// Whether the replica fortifies the leader that it follows.
    pub(crate) fn fortifies_leader(&self, replica: &Replica, support: &Support) -> bool {
        self.leader.is_some() && replica.fortified_leader(support) == self.leader
    }

    /// After a restart: tells the leader that this replica fortifies, until the leader is heard.
    ///
    /// The replica knows no more of what is committed than its disk did, while the leader believes
    /// that it knows everything and sends nothing. What the replica says it has applied shows the
    /// leader that it restarted. It tells the epoch only in the term of the fortification. Returns
    /// whether the replica is to go on waiting. Without a
    /// fortification that stands, it forgets the leader.
    pub(crate) fn announce(&mut self, step: &mut Step<'_>) -> bool {
        let (Some(leader), None) = (self.leader, self.heard) else {
            return false;
        };
        if self.fortifies_leader(step.replica, step.support) {
            self.deadline = step.now() + step.replica.config.tuning.retransmit_timeout;
            let epoch = step.replica.epoch_in_term(step.support);
            report_fortification(step, leader, epoch);
            return true;
        }
        *self = Self::waiting(step.replica.first_deadline(), 0);
        self.deadline > step.now()
    }

    /// AppendEntries (Raft paper, figure 2), which fortifies the leader as well, by the same write.
    pub(crate) fn on_append(
        step: &mut Step<'_>,
        leader: ReplicaAddress,
        prev: LogId,
        entries: Entries,
        commit: Index,
    ) {
        let news = fortify(step, leader);
        append(step, leader, prev, entries, commit);
        if news.is_some() {
            report_fortification(step, leader, news);
        }
    }

    /// InstallSnapshot (Raft paper, figure 13), whose bytes are here already. It fortifies the
    /// leader as well.
    ///
    /// A snapshot that ends at an entry which the log holds only tells that the entry is committed:
    /// nothing has to be restored, and what follows in the log stays.
    pub(crate) fn on_snapshot(step: &mut Step<'_>, leader: ReplicaAddress, meta: SnapshotMeta) {
        let last = meta.last;
        let (index, known) = (last.index, step.replica.log.last());
        if !is_index_plausible(known, index) {
            return step.violated(leader.node, Violation::ImplausibleIndex { index, known });
        }
        let news = fortify(step, leader);
        if last.index > step.replica.commit {
            if step.replica.log.holds(last) {
                step.replica.commit_to(last.index);
            } else {
                step.install_snapshot(meta);
            }
        }
        step.acknowledge(leader, last.index);
        if news.is_some() {
            report_fortification(step, leader, news);
        }
    }

    /// The leader asks to be fortified, and tells what is committed. It cut `commit` to what it
    /// knows this log to hold, so the log need not be compared. The answer leaves after what is
    /// committed was applied, so that it tells of that.
    pub(crate) fn on_fortify(step: &mut Step<'_>, leader: ReplicaAddress, commit: Index) {
        fortify(step, leader);
        let last = step.replica.log.last();
        step.replica.commit_to(commit.min(last));
        step.apply();
        let epoch = step.replica.epoch_in_term(step.support);
        report_fortification(step, leader, epoch);
    }
}

/// The leader of the term was heard: fortifies its node, if this node supports that one. Returns
/// the epoch if the leader does not know of it yet.
///
/// A fortification of an earlier leader ends: a majority was free to elect the new one.
///
/// Who fortifies a leader has voted in its term. Otherwise a request for votes of this very term
/// could come late, on behalf of an earlier leader's transfer, and would end the fortification
/// without the new leader knowing.
fn fortify(step: &mut Step<'_>, leader: ReplicaAddress) -> Option<Epoch> {
    let replica = &mut *step.replica;
    let ReplicaAddress { node, replica: id } = leader;
    let Some(epoch) = step.support.support_for(node) else {
        replica.set_fortified(replica.fortified().filter(|bond| bond.address() == leader));
        return None;
    };
    let bond = Some(Fortification { leader: node, replica: id, epoch, term: replica.term });
    if bond == replica.fortified() {
        return None; // Made in this term, and reported.
    }
    replica.set_fortified(bond);
    replica.set_vote(replica.vote().or(Some(leader)));
    Some(epoch)
}

/// Tells the leader at which epoch the replica fortifies it, when that is durable.
fn report_fortification(step: &mut Step<'_>, leader: ReplicaAddress, epoch: Option<Epoch>) {
    let applied = step.replica.applied;
    step.send_in_term(leader, Payload::Fortified { epoch, applied });
}

/// Takes the leader's entries if the log holds the one before them, and says where the logs part
/// otherwise. Entries that are held already are left alone, and so is what follows them: an old
/// append must not undo a newer one.
///
/// An append that would replace a committed entry is reported and dropped: no legitimate leader's
/// does.
fn append(
    step: &mut Step<'_>,
    leader: ReplicaAddress,
    prev: LogId,
    mut entries: Entries,
    commit: Index,
) {
    if let Some(conflict) = step.replica.log.conflict_with(prev) {
        let prev = prev.index;
        return step.send_in_term(leader, Payload::Rejected { prev, conflict });
    }
    let through = prev.index.plus(entries.len() as u64);
    let is_held = |entry: &&Entry| step.replica.log.holds(entry.id());
    let held = entries.iter().take_while(is_held).count();
    entries.drain(..held);
    if let Some(first) = entries.first() {
        let index = first.index;
        if index <= step.replica.commit {
            return step.violated(leader.node, Violation::CommittedEntry { index });
        }
        let configurations = match configurations(step.replica, &entries) {
            Ok(configurations) => configurations,
            Err(violation) => return step.violated(leader.node, violation),
        };
        step.append(entries, configurations);
    }
    // Only what this append has shown to be equal: what follows in the log may be another's.
    step.replica.commit_to(commit.min(through));
    // A leader has all that is committed, so the logs are equal up to there in any case.
    step.acknowledge(leader, through.max(step.replica.commit));
}

/// The configurations that the entries hold, each of its entry and of this group.
fn configurations(
    replica: &Replica,
    entries: &[Entry],
) -> Result<Vec<Arc<Configuration>>, Violation> {
    let holders = entries.iter().filter(|entry| entry.kind == EntryKind::Configuration);
    let configuration = |entry: &Entry| {
        let is_own = |it: &Configuration| {
            it.id() == entry.id() && replica.founders.is_none_or(|own| own == it.founders())
        };
        let configuration = Configuration::decode(&entry.data).ok().filter(is_own);
        configuration.map(Arc::new).ok_or(Violation::Configuration { index: entry.index })
    };
    holders.map(configuration).collect()
}
