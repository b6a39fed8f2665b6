//! A leader: takes proposals and reads, replicates, commits, has its followers fortify it, and
//! rests when they know all that it knows. It hands leadership over on request (leader transfer),
//! and steps down when no majority supports its node (check-quorum).

mod membership;
mod reads;
mod replication;

use crate::progress::{Mode, Progress};
use crate::read_queue::ReadQueue;
use crate::replica::Replica;
use crate::step::Step;
use crate::{
    Commands, Conflict, Entries, Entry, EntryKind, Epoch, Index, LogId, Member, MemberRole, NodeId,
    Output, Payload, Refusal, ReplicaAddress, SnapshotMeta, Support, Time, quorum,
};
use alloc::vec::Vec;
use bytes::Bytes;
use core::iter;
use replication::{replicate, retry, send_append, send_fortify, send_heartbeat, send_snapshot};
use smallvec::smallvec;

/// A replica that leads.
#[derive(Debug)]
pub(crate) struct Leader {
    /// The other members, learners too, in their order.
    pub(crate) peers: Vec<Progress>,
    /// Where this replica counts itself.
    own: MemberRole,
    /// Whether both halves count.
    is_joint: bool,
    /// Whether this replica, which votes no more after the change under way, has tried to hand
    /// over.
    has_handed_over: bool,
    /// The no-op, which is the first entry of the term. Once it is committed, so is all before it,
    /// and the leader knows what is committed.
    first: Index,
    /// Payload bytes of the uncommitted entries, which are all in memory.
    uncommitted_bytes: usize,
    /// The transfer of leadership under way.
    transfer: Option<Transfer>,
    /// Reads that wait to be confirmed or applied.
    reads: ReadQueue,
}

/// Leadership is being handed over.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    /// The successor.
    to: NodeId,
    /// When to give up.
    deadline: Time,
    /// Whether the successor was told to campaign. From then on others may vote for it although
    /// they fortify this node, so their fortifications prove nothing about this leadership any
    /// more.
    abdicated: bool,
}

impl Leader {
    /// The leader of a term that begins. It knows nothing of the others' logs, and writes the no-op
    /// without which it could not commit what earlier terms left (Raft paper, sections 5.4.2 and
    /// 8).
    pub(crate) fn new(step: &mut Step<'_>) -> Self {
        let replica = &*step.replica;
        let first = replica.log.last().next();
        let mut leader = Self {
            peers: Vec::new(),
            own: MemberRole::Learner,
            is_joint: false,
            has_handed_over: false,
            first,
            uncommitted_bytes: replica.log.payload_bytes(replica.commit, replica.log.last()),
            transfer: None,
            reads: ReadQueue::default(),
        };
        let id = LogId::new(replica.term, first);
        let noop = Entry::new(replica.config.group, id, EntryKind::Noop, Bytes::new());
        leader.count_members(replica);
        step.append(smallvec![noop], None);
        leader.replicate_to_all(step);
        leader
    }

    /// Repeats what was not answered in time, and sends what has waited too long for something to
    /// go along with. Returns false when the leadership is over: a successor that was told to
    /// campaign has not won, but this replica can't know whether others have voted for it.
    pub(crate) fn on_tick(&mut self, step: &mut Step<'_>) -> bool {
        let now = step.now();
        if let Some(transfer) = self.transfer.filter(|transfer| transfer.deadline <= now) {
            if transfer.abdicated {
                return false;
            }
            self.transfer = None;
        }
        let commit = step.replica.commit;
        let is_due = |deadline: Option<Time>| deadline.is_some_and(|time| time <= now);
        for peer in &mut self.peers {
            let Some(epoch) = step.support.support_from(peer.node) else { continue };
            if is_due(peer.retransmit_deadline(&step.replica.config.tuning)) {
                retry(peer, step);
                replicate(peer, step);
            }
            if is_due(peer.fortify_deadline(epoch, commit, &step.replica.config.tuning)) {
                send_fortify(peer, step);
            }
        }
        true
    }

    /// When a tick will have something to do. Nothing is repeated to a node that does not support
    /// this one: when it does again, [`Self::on_support_changed`] tells it everything.
    pub(crate) fn next_deadline(&self, replica: &Replica, support: &Support) -> Option<Time> {
        let tuning = &replica.config.tuning;
        let peers = self.peers.iter().filter_map(|peer| {
            let epoch = support.support_from(peer.node)?;
            let retransmit = peer.retransmit_deadline(tuning);
            let fortify = peer.fortify_deadline(epoch, replica.commit, tuning);
            [retransmit, fortify].into_iter().flatten().min()
        });
        peers.chain(self.transfer.map(|transfer| transfer.deadline)).min()
    }

    /// Has the followers whose nodes support this one anew fortify it anew, and resumes what was
    /// interrupted. A successor whose node supports this one no longer is not waited for. Returns
    /// false when the leadership is over, as [`Self::on_tick`] does.
    pub(crate) fn on_support_changed(&mut self, step: &mut Step<'_>) -> bool {
        if let Some(Transfer { to, abdicated, .. }) = self.transfer
            && step.support.support_from(to).is_none()
        {
            if abdicated {
                return false;
            }
            self.transfer = None;
        }
        for peer in &mut self.peers {
            let epoch = step.support.support_from(peer.node);
            if epoch.is_none() || epoch == peer.fortified {
                continue;
            }
            if peer.is_unanswered() {
                retry(peer, step);
            }
            replicate(peer, step);
            send_fortify(peer, step);
        }
        true
    }

    /// Appends the commands to the log and sends them on.
    pub(crate) fn on_propose(&mut self, step: &mut Step<'_>, commands: Commands) {
        let bytes: usize = commands.iter().map(Bytes::len).sum();
        if let Some(reason) = self.refusal(step.replica, bytes) {
            return step.out.push(Output::Refused { reason });
        }
        let replica = &*step.replica;
        let term = replica.term;
        let first = replica.log.last().next();
        let make = |(command, index)| {
            let id = LogId::new(term, Index(index));
            Entry::new(replica.config.group, id, EntryKind::Command, command)
        };
        let entries: Entries = commands.into_iter().zip(first.0..).map(make).collect();
        let first = LogId::new(term, first);
        step.out.push(Output::Proposed { first });
        if entries.is_empty() {
            return;
        }
        self.uncommitted_bytes += bytes;
        step.append(entries, None);
        self.replicate_to_all(step);
    }

    /// Entries became durable here, or there: commits what a majority has, if that reaches into the
    /// leader's own term. An entry of an older term must not be committed by counting, since a
    /// later leader might still replace it (Raft paper, section 5.4.2 and figure 8).
    ///
    /// The leader counts itself up to what is durable here, like any other.
    pub(crate) fn advance_commit(&mut self, replica: &mut Replica) {
        let own = replica.log.durable();
        let held = self.reached(|peer| peer.matched, own);
        if held >= self.first && held > replica.commit {
            self.uncommitted_bytes -= replica.log.payload_bytes(replica.commit, held);
            replica.commit_to(held);
        }
    }

    /// A follower acknowledged its log up to `through`.
    pub(crate) fn on_appended(
        &mut self,
        step: &mut Step<'_>,
        from: ReplicaAddress,
        through: Index,
        applied: Index,
    ) {
        if through > step.replica.log.last() {
            return; // No follower of this term can have said so.
        }
        let Some(peer) = self.peer_at(from) else {
            return;
        };
        peer.note_applied(applied);
        // Commits first, so that what is sent next tells of it.
        if peer.acknowledged(through, step.now()) {
            if peer.role == MemberRole::Learner {
                peer.measure(step.replica.log.last(), step.now());
            }
            self.advance_commit(step.replica);
            self.finish_transfer(step);
        }
        if let Some(peer) = self.peer_at(from) {
            replicate(peer, step);
        }
    }

    /// A follower's log has no entry equal to `prev` of an append: goes back to where the logs may
    /// meet.
    pub(crate) fn on_rejected(
        &mut self,
        step: &mut Step<'_>,
        from: ReplicaAddress,
        prev: Index,
        conflict: Conflict,
    ) {
        let Some(peer) = self.peer_at(from) else {
            return;
        };
        if !peer.rejected(prev, conflict, &step.replica.log, step.replica.now) {
            return;
        }
        match peer.mode {
            Mode::Snapshot { .. } => send_snapshot(peer, step),
            Mode::Probe { .. } | Mode::Replicate => replicate(peer, step),
        }
    }

    /// Whether a peer is being sent a snapshot, or needs one.
    pub(crate) fn sends_snapshot(&self) -> bool {
        self.peers.iter().any(|peer| matches!(peer.mode, Mode::Snapshot { .. }))
    }

    /// Notes at which epoch a follower fortifies this leader, and resumes what waited for it to be
    /// reachable again. A follower that has applied less than before has restarted, and does not
    /// know what is committed.
    ///
    /// One that restarted and had applied nothing that it lost says nothing new. It does not know
    /// that, and goes on saying it until it hears from its leader.
    pub(crate) fn on_fortified(
        &mut self,
        step: &mut Step<'_>,
        from: ReplicaAddress,
        epoch: Option<Epoch>,
        applied: Index,
    ) {
        let supported = step.support.support_from(from.node);
        if let Some(peer) = self.peer_at(from) {
            let was_asked = !peer.is_at_rest(supported, step.replica);
            let has_restarted = peer.applied > Some(applied);
            peer.applied = Some(applied);
            peer.fortified = peer.fortified.max(epoch);
            replicate(peer, step);
            if has_restarted {
                send_fortify(peer, step);
            } else if !was_asked {
                send_heartbeat(peer, step);
            }
        }
    }

    /// A replica campaigns. It may not know that this one leads, or it may be in a later term,
    /// which this leader has to learn. It gets something that it must answer.
    pub(crate) fn on_rival(&mut self, step: &mut Step<'_>, from: ReplicaAddress) {
        if let Some(peer) = self.peer_at(from) {
            send_fortify(peer, step);
        }
    }

    /// Sends on what was read from the disk for a follower, if that is still what it needs.
    pub(crate) fn on_log_read(&mut self, step: &mut Step<'_>, node: NodeId, entries: Entries) {
        let Some(peer) = self.peer_mut(node) else {
            return;
        };
        let log = &step.replica.log;
        if peer.mode == Mode::Replicate && peer.next > log.snapshot().index {
            let follows = entries.first().is_some_and(|first| first.index == peer.next);
            let holds = |last: &Entry| log.term_at(last.index) == Some(last.term);
            if follows && entries.last().is_some_and(holds) {
                send_append(peer, step, entries);
            } else if entries.is_empty() {
                // The disk lacks what the log should have: asking again at once would not help.
                peer.lost();
                peer.probed(step.now());
            }
        }
        replicate(peer, step);
    }

    /// The connection to a node broke: what was in flight to it may be lost.
    pub(crate) fn on_unreachable(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_mut(node) {
            peer.lost();
        }
    }

    /// Offers the snapshot, whose bytes have left. The follower gets an election timeout to
    /// acknowledge it. If it then still answers that it lacks the snapshot, that one was lost:
    /// perhaps the follower was not running yet, or ran out of space.
    pub(crate) fn on_snapshot_sent(
        &mut self,
        step: &mut Step<'_>,
        node: NodeId,
        meta: SnapshotMeta,
    ) {
        let retry_at = step.now() + step.replica.election_timeout();
        if let Some(peer) = self.peer_mut(node) {
            step.send(peer.address(), Payload::Snapshot { meta });
            peer.snapshot_left(retry_at);
        }
    }

    /// The snapshot can't be delivered now. When the follower says next that it lacks it, it gets
    /// another.
    pub(crate) fn on_snapshot_failed(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_mut(node)
            && matches!(peer.mode, Mode::Snapshot { .. })
        {
            peer.lost();
        }
    }

    /// Hands leadership to a voter, which must not be on its way out, as soon as that has the whole
    /// log; takes no proposals meanwhile (Raft thesis, section 3.10).
    pub(crate) fn on_transfer(&mut self, step: &mut Step<'_>, to: NodeId) {
        let has_abdicated = self.transfer.is_some_and(|transfer| transfer.abdicated);
        let may_lead = self.peer_mut(to).is_some_and(|peer| peer.role.is_incoming());
        if !may_lead || has_abdicated {
            return;
        }
        let deadline = step.now() + step.replica.election_timeout();
        self.transfer = Some(Transfer { to, deadline, abdicated: false });
        self.finish_transfer(step);
    }

    /// Whether a follower has the whole log.
    pub(crate) fn is_caught_up(&self, replica: &Replica, node: NodeId) -> bool {
        let last = replica.log.last();
        self.peers.iter().any(|peer| peer.node == node && peer.matched == last)
    }

    /// Panics when the fields contradict each other.
    pub(crate) fn invariants(&self, replica: &Replica) {
        assert_eq!(
            replica.log.term_at(self.first.max(replica.log.snapshot().index)),
            Some(replica.term)
        );
        let uncommitted = replica.log.payload_bytes(replica.commit, replica.log.last());
        assert_eq!(self.uncommitted_bytes, uncommitted);
        for peer in &self.peers {
            peer.invariants(&replica.log);
        }
        let configuration = replica.configuration();
        let members = self.peers.iter().map(|peer| (peer.address(), peer.role));
        let expected = |member: &Member| (member.address(), member.role);
        assert!(members.eq(replica.others().map(expected)));
        assert_eq!((self.own, self.is_joint), (replica.role(), configuration.is_joint()));
        self.reads.invariants();
    }

    /// Why a proposal of so many bytes is not taken, if it is not.
    fn refusal(&self, replica: &Replica, bytes: usize) -> Option<Refusal> {
        if let Some(transfer) = &self.transfer {
            return Some(Refusal::NotLeader { leader: Some(transfer.to) });
        }
        let limit = replica.config.tuning.max_uncommitted_bytes;
        let is_full = self.uncommitted_bytes > 0 && self.uncommitted_bytes + bytes > limit;
        (is_full || self.outruns_replicas(replica)).then_some(Refusal::Busy)
    }

    /// Whether a majority of the replicas is so far behind in applying that more commands would
    /// only make it fall behind further. A single slow replica holds nobody up: it catches up from
    /// the log.
    fn outruns_replicas(&self, replica: &Replica) -> bool {
        let last = replica.log.last();
        let applied = self.reached(|peer| peer.applied.unwrap_or(last), replica.applied);
        last.0 - applied.0.min(last.0) >= replica.config.tuning.max_unapplied_entries
    }

    /// The largest value that a majority of each half has reached, this replica included where it
    /// votes.
    fn reached<T: Ord + Copy>(&self, value: impl Fn(&Progress) -> T + Clone, own: T) -> T {
        let peers = self.peers.iter().map(move |peer| (peer.role, value(peer)));
        quorum::jointly_reached(peers.chain(iter::once((self.own, own))), self.is_joint)
    }

    /// The follower on a node.
    fn peer_mut(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|peer| peer.node == node)
    }

    /// The follower that is this very replica. What another one on its node says does not count.
    fn peer_at(&mut self, address: ReplicaAddress) -> Option<&mut Progress> {
        self.peer_mut(address.node).filter(|peer| peer.replica == address.replica)
    }

    fn replicate_to_all(&mut self, step: &mut Step<'_>) {
        for peer in &mut self.peers {
            replicate(peer, step);
        }
    }

    /// Tells the successor to campaign if it has the whole log. That ends this leadership in all
    /// but name: reads that are not confirmed yet can't be any more.
    fn finish_transfer(&mut self, step: &mut Step<'_>) {
        let Some(Transfer { to, .. }) = self.transfer else {
            return;
        };
        let last = step.replica.log.last();
        if let Some(peer) = self.peer_mut(to).filter(|peer| peer.matched == last) {
            step.send(peer.address(), Payload::TimeoutNow);
            if let Some(transfer) = &mut self.transfer {
                transfer.abdicated = true;
            }
            self.refuse_unconfirmed_reads(step, Some(to));
        }
    }
}
