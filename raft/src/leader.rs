//! A leader: takes proposals and reads, binds the followers, replicates, and rests when all is said.

use crate::progress::{Mode, Progress};
use crate::reads::{Reader, Reads};
use crate::replica::Replica;
use crate::{
    Commands, Confirmation, Conflict, Entries, Entry, EntryKind, Epoch, Index, Lease, LoadFor,
    LogId, NodeId, Output, Payload, ReadToken, Refusal, Round, Support, Time, quorum,
};
use alloc::vec::Vec;
use bytes::Bytes;
use core::iter;
use smallvec::smallvec;

#[derive(Debug)]
pub(crate) struct Leader {
    /// The other voters, in their order.
    pub(crate) peers: Vec<Progress>,
    /// The no-op, the first entry of the term: once it is committed, so is all before it.
    first: Index,
    /// Payload bytes of the uncommitted entries.
    uncommitted_bytes: usize,
    transfer: Option<Transfer>,
    reads: Reads,
}

/// Leadership is being handed over.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    to: NodeId,
    /// When to give up.
    deadline: Time,
    /// Whether the successor was told to campaign. From then on others may vote for it although they
    /// are bound to this node, so nothing can be confirmed by that any more.
    abdicated: bool,
}

impl Leader {
    /// The leader of a term that begins: knows nothing of the others' logs, and writes the no-op
    /// without which it could not commit what earlier terms left (Raft paper, section 5.4.2 and
    /// section 8).
    pub(crate) fn new(replica: &mut Replica, out: &mut Vec<Output>) -> Self {
        let first = replica.log.last().next();
        let now = replica.now;
        let mut leader = Self {
            peers: replica.peers().map(|node| Progress::new(node, first, now)).collect(),
            first,
            uncommitted_bytes: replica.log.payload_bytes(replica.commit, replica.log.last()),
            transfer: None,
            reads: Reads::default(),
        };
        let id = LogId::new(replica.term, first);
        let noop = Entry::new(replica.config.group, id, EntryKind::Noop, Bytes::new());
        replica.append(smallvec![noop], out);
        leader.replicate_to_all(replica, out);
        leader
    }

    /// Sends what has waited too long for an answer, or for something to go along with. Returns
    /// false when the leadership is over, because a successor that was told to campaign has not won.
    pub(crate) fn on_tick(
        &mut self,
        replica: &mut Replica,
        support: &Support,
        out: &mut Vec<Output>,
    ) -> bool {
        if let Some(transfer) = self.transfer.filter(|transfer| transfer.deadline <= replica.now) {
            if transfer.abdicated {
                return false;
            }
            self.transfer = None;
        }
        let (now, commit) = (replica.now, replica.commit);
        let is_due = |deadline: Option<Time>| deadline.is_some_and(|time| time <= now);
        for peer in &mut self.peers {
            let Some(epoch) = support.support_from(peer.node) else { continue };
            if is_due(peer.deadline(replica.config.tuning.retransmit_timeout)) {
                retry(peer, replica, out);
                replicate(peer, replica, out);
            }
            if is_due(peer.word_deadline(epoch, commit, &replica.config.tuning)) {
                fortify(peer, replica, out);
            }
        }
        true
    }

    /// When a tick will have something to do. Nothing is repeated to a node that does not support
    /// this one: when it does again, [`Self::on_support_changed`] tells it all.
    pub(crate) fn next_deadline(&self, replica: &Replica, support: &Support) -> Option<Time> {
        let tuning = &replica.config.tuning;
        let peers = self.peers.iter().filter_map(|peer| {
            let epoch = support.support_from(peer.node)?;
            let retransmit = peer.deadline(tuning.retransmit_timeout);
            let word = peer.word_deadline(epoch, replica.commit, tuning);
            [retransmit, word].into_iter().flatten().min()
        });
        peers.chain(self.transfer.map(|transfer| transfer.deadline)).min()
    }

    /// Binds the followers whose nodes support this one anew, and resumes what was interrupted.
    pub(crate) fn on_support_changed(
        &mut self,
        replica: &mut Replica,
        support: &Support,
        out: &mut Vec<Output>,
    ) {
        for peer in &mut self.peers {
            let epoch = support.support_from(peer.node);
            if epoch.is_none() || epoch == peer.fortified {
                continue;
            }
            if peer.is_unanswered() {
                retry(peer, replica, out);
            }
            replicate(peer, replica, out);
            fortify(peer, replica, out);
        }
    }

    /// Appends the commands to the log and sends them on.
    pub(crate) fn on_propose(
        &mut self,
        replica: &mut Replica,
        commands: Commands,
        out: &mut Vec<Output>,
    ) {
        if let Some(transfer) = &self.transfer {
            let reason = Refusal::NotLeader { leader: Some(transfer.to) };
            return out.push(Output::Refused { reason });
        }
        let bytes: usize = commands.iter().map(Bytes::len).sum();
        let limit = replica.config.tuning.max_uncommitted_bytes;
        let full = self.uncommitted_bytes > 0 && self.uncommitted_bytes + bytes > limit;
        if full || self.outruns_replicas(replica) {
            let reason = Refusal::Busy;
            return out.push(Output::Refused { reason });
        }
        let term = replica.term;
        let first = replica.log.last().next();
        let make = |(command, index)| {
            let id = LogId::new(term, Index(index));
            Entry::new(replica.config.group, id, EntryKind::Command, command)
        };
        let entries: Entries = commands.into_iter().zip(first.0..).map(make).collect();
        let first = LogId::new(term, first);
        out.push(Output::Proposed { first });
        if entries.is_empty() {
            return;
        }
        self.uncommitted_bytes += bytes;
        replica.append(entries, out);
        self.replicate_to_all(replica, out);
    }

    /// Takes a read of a reader here, or of a follower.
    pub(crate) fn on_read(
        &mut self,
        replica: &Replica,
        reader: Reader,
        lease: bool,
        out: &mut Vec<Output>,
    ) {
        match self.transfer.filter(|transfer| transfer.abdicated) {
            Some(Transfer { to, .. }) => refuse_read(replica, reader, Some(to), out),
            None => self.reads.push(reader, lease),
        }
    }

    /// Entries became durable here, or there: commits what a majority has, if that reaches into
    /// the own term (Raft paper, figure 8 shows why an older term's entry must not be counted).
    pub(crate) fn advance_commit(&mut self, replica: &mut Replica) {
        let own = iter::once(replica.log.durable());
        let held = quorum::reached(self.peers.iter().map(|peer| peer.matched).chain(own));
        if held >= self.first && held > replica.commit {
            self.uncommitted_bytes -= replica.log.payload_bytes(replica.commit, held);
            replica.commit_to(held);
        }
    }

    /// Whether a majority of the replicas is so far behind in applying that more commands would only
    /// make it fall behind further. A single slow replica holds nobody up: it catches up from the log.
    fn outruns_replicas(&self, replica: &Replica) -> bool {
        let last = replica.log.last();
        let peers = self.peers.iter().map(|peer| peer.applied.unwrap_or(last));
        let applied = quorum::reached(peers.chain(iter::once(replica.applied)));
        last.0 - applied.0.min(last.0) >= replica.config.tuning.max_unapplied_entries
    }

    pub(crate) fn on_appended(
        &mut self,
        replica: &mut Replica,
        from: NodeId,
        through: Index,
        applied: Index,
        out: &mut Vec<Output>,
    ) {
        if through > replica.log.last() {
            return; // No follower of this term can have said so.
        }
        let now = replica.now;
        let Some(peer) = self.peer_mut(from) else {
            return;
        };
        peer.applied(applied);
        // Commits first, so that what is sent next tells of it.
        if peer.acknowledged(through, now) {
            self.advance_commit(replica);
            self.finish_transfer(replica, out);
        }
        if let Some(peer) = self.peer_mut(from) {
            replicate(peer, replica, out);
        }
    }

    pub(crate) fn on_rejected(
        &mut self,
        replica: &mut Replica,
        from: NodeId,
        prev: Index,
        conflict: Conflict,
        out: &mut Vec<Output>,
    ) {
        let Some(peer) = self.peer_mut(from) else {
            return;
        };
        if !peer.rejected(prev, conflict, &replica.log, replica.now) {
            return;
        }
        match peer.mode {
            Mode::Snapshot { .. } => send_snapshot(peer, replica, out),
            Mode::Probe { .. } | Mode::Replicate => replicate(peer, replica, out),
        }
    }

    /// Notes that a follower is bound, and resumes what waited for it to be reachable again. One that has
    /// applied less than it had was started anew, and does not know what is committed.
    pub(crate) fn on_fortified(
        &mut self,
        replica: &mut Replica,
        from: NodeId,
        epoch: Option<Epoch>,
        applied: Index,
        out: &mut Vec<Output>,
    ) {
        if let Some(peer) = self.peer_mut(from) {
            let started_anew = peer.applied > Some(applied);
            peer.applied = Some(applied);
            peer.fortified = peer.fortified.max(epoch);
            replicate(peer, replica, out);
            if started_anew {
                fortify(peer, replica, out);
            }
        }
    }

    /// A replica campaigns, so it may not know that this one leads, or be in a later term and need to
    /// say so. It gets something that it must answer.
    pub(crate) fn on_rival(&mut self, replica: &Replica, from: NodeId, out: &mut Vec<Output>) {
        if let Some(peer) = self.peer_mut(from) {
            fortify(peer, replica, out);
        }
    }

    /// Sends on what was read from the disk for a follower, if that is still what it needs.
    pub(crate) fn on_loaded(
        &mut self,
        replica: &mut Replica,
        node: NodeId,
        entries: Entries,
        out: &mut Vec<Output>,
    ) {
        let Some(peer) = self.peer_mut(node) else {
            return;
        };
        let log = &replica.log;
        if peer.mode == Mode::Replicate && peer.next > log.snapshot().index {
            let follows = entries.first().is_some_and(|first| first.index == peer.next);
            let holds = |last: &Entry| log.term_at(last.index) == Some(last.term);
            if follows && entries.last().is_some_and(holds) {
                send_append(peer, replica, entries, out);
            } else if entries.is_empty() {
                // The disk lacks what the log should have: asking again at once would not help.
                peer.lost();
                peer.probed(replica.now);
            }
        }
        replicate(peer, replica, out);
    }

    pub(crate) fn on_unreachable(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_mut(node) {
            peer.lost();
        }
    }

    /// Offers the snapshot, whose bytes have left. The follower gets an election timeout to
    /// acknowledge it. If it then still answers that it lacks the snapshot, that one was lost.
    pub(crate) fn on_snapshot_sent(
        &mut self,
        replica: &Replica,
        node: NodeId,
        last: LogId,
        out: &mut Vec<Output>,
    ) {
        replica.send(node, Payload::Snapshot { last }, out);
        if let Some(peer) = self.peer_mut(node) {
            peer.snapshot_left(replica.now + replica.election_timeout());
        }
    }

    pub(crate) fn on_snapshot_failed(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_mut(node)
            && matches!(peer.mode, Mode::Snapshot { .. })
        {
            peer.lost();
        }
    }

    /// Hands leadership to a voter as soon as that has the whole log; takes no proposals meanwhile
    /// (Raft thesis, section 3.10).
    pub(crate) fn on_transfer(&mut self, replica: &mut Replica, to: NodeId, out: &mut Vec<Output>) {
        if self.peer_mut(to).is_none() {
            return;
        }
        if self.transfer.is_some_and(|transfer| transfer.abdicated) {
            return;
        }
        let deadline = replica.now + replica.election_timeout();
        self.transfer = Some(Transfer { to, deadline, abdicated: false });
        self.finish_transfer(replica, out);
    }

    /// Whether a follower has the whole log.
    pub(crate) fn is_caught_up(&self, replica: &Replica, node: NodeId) -> bool {
        let last = replica.log.last();
        self.peers.iter().any(|peer| peer.node == node && peer.matched == last)
    }

    /// The newest round of confirmations that reads wait for.
    pub(crate) fn awaited_round(&self) -> Option<Round> {
        self.reads.round()
    }

    /// Has new reads wait for a round, and answers those that are confirmed and applied.
    pub(crate) fn settle(
        &mut self,
        replica: &mut Replica,
        support: &Support,
        out: &mut Vec<Output>,
    ) {
        if replica.commit >= self.first {
            let leased = self.holds_lease(replica, support);
            let answers = self.reads.wait(support.next_round, replica.commit, leased);
            for (node, token) in answers {
                self.answer_read(replica, node, token, replica.commit, out);
            }
        }
        if self.reads.round().is_some() {
            let answers = self.confirmed_round(support).map(|round| self.reads.confirm(round));
            for (node, token, index) in answers.into_iter().flatten() {
                self.answer_read(replica, node, token, index, out);
            }
        }
        while let Some(token) = self.reads.take_ready(replica.applied) {
            out.push(Output::ReadReady { token });
        }
    }

    /// Ends the leadership: no read can be confirmed any more.
    pub(crate) fn resign(
        mut self,
        replica: &Replica,
        new_leader: Option<NodeId>,
        out: &mut Vec<Output>,
    ) {
        let confirmed = self.reads.take_confirmed().map(Reader::Here);
        for reader in confirmed.chain(self.reads.take_unconfirmed()) {
            refuse_read(replica, reader, new_leader, out);
        }
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
        self.reads.invariants();
    }

    fn peer_mut(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|peer| peer.node == node)
    }

    /// The newest round in which a majority proved to be bound to this leader: it answered at the
    /// epoch of the bond.
    fn confirmed_round(&self, support: &Support) -> Option<Round> {
        let proven = |peer: &Progress| {
            let Confirmation { round, epoch } = support.of(peer.node).confirmed;
            let bound = epoch.is_some() && epoch == peer.fortified;
            bound.then_some(round)
        };
        let own = iter::once(Some(Round(u64::MAX)));
        quorum::reached(self.peers.iter().map(proven).chain(own))
    }

    /// Whether no majority can be free to elect another leader yet, by this node's clock.
    fn holds_lease(&self, replica: &Replica, support: &Support) -> bool {
        let lease = |peer: &Progress| {
            let Lease { epoch, until } = support.of(peer.node).lease;
            if peer.fortified == Some(epoch) { until } else { Time(0) }
        };
        let latest = Time(u64::MAX);
        quorum::reached(self.peers.iter().map(lease).chain(iter::once(latest))) > replica.now
    }

    fn answer_read(
        &self,
        replica: &Replica,
        to: NodeId,
        token: ReadToken,
        index: Index,
        out: &mut Vec<Output>,
    ) {
        let matched = self.peers.iter().find(|peer| peer.node == to).map(|peer| peer.matched);
        let commit = replica.commit.min(matched.unwrap_or_default());
        let index = Some(index);
        replica.send(to, Payload::ReadIndexReply { token, index, commit }, out);
    }

    fn replicate_to_all(&mut self, replica: &mut Replica, out: &mut Vec<Output>) {
        for peer in &mut self.peers {
            replicate(peer, replica, out);
        }
    }

    /// Tells the successor to campaign if it has the whole log. That ends this leadership in all but
    /// name: reads that are not confirmed yet can't be any more.
    fn finish_transfer(&mut self, replica: &Replica, out: &mut Vec<Output>) {
        let Some(Transfer { to, .. }) = self.transfer else {
            return;
        };
        if self.is_caught_up(replica, to) {
            replica.send(to, Payload::TimeoutNow, out);
            if let Some(transfer) = &mut self.transfer {
                transfer.abdicated = true;
            }
            for reader in self.reads.take_unconfirmed() {
                refuse_read(replica, reader, Some(to), out);
            }
        }
    }
}

fn refuse_read(replica: &Replica, reader: Reader, leader: Option<NodeId>, out: &mut Vec<Output>) {
    match reader {
        Reader::Here(token) => {
            let reason = Refusal::NotLeader { leader };
            out.push(Output::ReadRefused { token, reason });
        }
        Reader::Follower(node, token) => {
            let commit = Index(0);
            replica.send(node, Payload::ReadIndexReply { token, index: None, commit }, out);
        }
    }
}

/// Tells a follower who leads, and what is committed of what it holds.
fn fortify(peer: &mut Progress, replica: &Replica, out: &mut Vec<Output>) {
    let commit = replica.commit.min(peer.matched);
    peer.told(commit, replica.now);
    peer.bond_asked(replica.now);
    replica.send(peer.node, Payload::Fortify { commit }, out);
}

/// Sends a follower all that its state allows.
fn replicate(peer: &mut Progress, replica: &mut Replica, out: &mut Vec<Output>) {
    match peer.mode {
        Mode::Probe { waiting: false } => probe(peer, replica, out),
        Mode::Replicate => stream(peer, replica, out),
        Mode::Probe { waiting: true } | Mode::Snapshot { .. } => {}
    }
}

/// Asks where the logs meet. A probe carries along what is in memory, but nothing is read from the
/// disk for a follower that may refuse it.
fn probe(peer: &mut Progress, replica: &Replica, out: &mut Vec<Output>) {
    let Some(prev) = replica.log.id_at(peer.next.prev()) else {
        return send_snapshot(peer, replica, out);
    };
    let max_bytes = replica.config.tuning.max_append_bytes;
    let entries = if peer.next >= replica.log.memory_start() {
        replica.log.read(peer.next, max_bytes, usize::MAX)
    } else {
        Entries::new()
    };
    let commit = replica.commit;
    let append = Payload::Append { prev, entries, commit };
    replica.send(peer.node, append, out);
    peer.probed(replica.now);
    peer.told(commit, replica.now);
}

/// Fills the follower's window, from memory or by a request to the disk.
fn stream(peer: &mut Progress, replica: &mut Replica, out: &mut Vec<Output>) {
    let max_bytes = replica.config.tuning.max_append_bytes;
    while peer.next <= replica.log.last() {
        if peer.next <= replica.log.snapshot().index {
            return send_snapshot(peer, replica, out);
        }
        let Some(room) = peer.room(&replica.config.tuning) else {
            return;
        };
        let memory_start = replica.log.memory_start();
        if peer.next < memory_start {
            let target = LoadFor::Peer(peer.node);
            let last = memory_start.prev();
            return replica.load(target, peer.next, last, max_bytes.min(room), out);
        }
        let entries = replica.log.read(peer.next, max_bytes, room);
        if entries.is_empty() {
            return;
        }
        send_append(peer, replica, entries, out);
    }
}

/// Sends entries from `next` on, ahead of the answers to what was sent before.
fn send_append(peer: &mut Progress, replica: &Replica, entries: Entries, out: &mut Vec<Output>) {
    let prev = replica.log.id_at(peer.next.prev());
    let prev = prev.expect("the entry before one of the log's is known, if only by the snapshot");
    let bytes = entries.iter().map(|entry| entry.data.len()).sum();
    peer.sent(prev.index.plus(entries.len() as u64), bytes, replica.now);
    let commit = replica.commit;
    peer.told(commit, replica.now);
    let append = Payload::Append { prev, entries, commit };
    replica.send(peer.node, append, out);
}

fn send_snapshot(peer: &mut Progress, replica: &Replica, out: &mut Vec<Output>) {
    peer.snapshot_sent(replica.log.snapshot(), replica.now);
    let to = peer.node;
    out.push(Output::SendSnapshot { to });
}

/// Acts on a follower's silence. One that is being sent a snapshot is asked whether it has it, in
/// case that its acknowledgement was lost.
fn retry(peer: &mut Progress, replica: &Replica, out: &mut Vec<Output>) {
    match peer.mode {
        Mode::Snapshot { sent, .. } => {
            peer.asked(replica.now);
            let commit = replica.commit;
            let entries = Entries::new();
            let prev = sent;
            let append = Payload::Append { prev, entries, commit };
            replica.send(peer.node, append, out);
        }
        Mode::Probe { .. } | Mode::Replicate => peer.lost(),
    }
}
