//! The context of one step: what every handler reads and writes besides the state of its role.
//!
//! [`Replica`] decides what a write or a promise is; the methods here turn that into [`Output`]s.
//! Handlers call nothing else to produce outputs, so the rules of durability stand in this file
//! and in `replica` alone.

mod reads;

use crate::replica::Replica;
use crate::{
    ChangeError, Configuration, Entries, Index, Input, LogReadTarget, LogWrite, Member, Message,
    NodeId, Output, Payload, Refusal, ReplicaAddress, Resignation, SnapshotMeta, Support, Term,
    Time, Violation, VotersDigest, WriteSeq,
};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What the handlers of one step share.
pub(crate) struct Step<'a> {
    /// The state that a replica has in every role.
    pub(crate) replica: &'a mut Replica,
    /// What this node knows of its peers' liveness at the time of the step.
    pub(crate) support: &'a Support,
    /// What follows from the step, in the order in which the caller is to carry it out.
    pub(crate) out: &'a mut Vec<Output>,
}

impl Step<'_> {
    /// The time of the step.
    pub(crate) const fn now(&self) -> Time {
        self.replica.now
    }

    /// The leader that this replica fortifies, see [`Replica::fortified_leader`].
    pub(crate) fn fortified_leader(&self) -> Option<ReplicaAddress> {
        self.replica.fortified_leader(self.support)
    }

    /// Whether a majority's nodes support this one, see [`Replica::has_quorum`].
    pub(crate) fn has_quorum(&self) -> bool {
        self.replica.has_quorum(self.support)
    }

    /// Whether a campaign makes sense: the replica may campaign and lead, and a majority's nodes
    /// support this one.
    pub(crate) fn can_win(&self) -> bool {
        self.replica.may_lead && self.replica.is_electable() && self.has_quorum()
    }

    /// The voters that the group was founded with, as messages name them.
    pub(crate) fn founders(&self) -> VotersDigest {
        self.replica.founders.unwrap_or_default()
    }

    /// The door of the replicas of a node that may promise nothing yet: what comes from peers,
    /// users and the clock is let in only when the node is founded. Until then users are refused,
    /// and peers ask in vain. What comes from the node's own disk promises nothing. Nothing is let
    /// in to a replica that is gone.
    pub(crate) fn admits(&mut self, input: &Input) -> bool {
        let is_gone = self.replica.is_gone();
        if self.support.founded && !is_gone {
            return true;
        }
        let reason = Refusal::NotLeader { leader: None };
        match *input {
            Input::Persisted { .. }
            | Input::LogRead { .. }
            | Input::Compact { .. }
            | Input::MayLead(_) => return !is_gone,
            Input::Propose { .. } => self.out.push(Output::Refused { reason }),
            Input::Change { .. } => self.refuse_change(ChangeError::NotLeader { leader: None }),
            Input::Read { token, .. } => self.out.push(Output::ReadRefused { token, reason }),
            Input::Tick
            | Input::Founded
            | Input::SupportChanged
            | Input::Confirmed
            | Input::Receive { .. }
            | Input::SnapshotSent { .. }
            | Input::SnapshotFailed { .. }
            | Input::Unreachable { .. }
            | Input::Transfer { .. }
            | Input::Campaign => {}
        }
        false
    }

    /// Sends a message at once, in parallel with any write. It must promise nothing: a leader's
    /// append may leave before the leader's own write of it (Raft thesis, section 10.2.1).
    pub(crate) fn send(&mut self, to: ReplicaAddress, payload: Payload) {
        let message = self.message(to, self.replica.term, payload);
        self.out.push(Output::Send { to: to.node, message });
    }

    /// Reports a message that breaks the protocol, which its handler drops.
    pub(crate) fn violated(&mut self, from: NodeId, violation: Violation) {
        self.out.push(Output::Violated { from, violation });
    }

    /// Sends a message when the current term, vote and fortification are durable. Whatever tells
    /// others of a new term has to: a replica that forgot the term could vote in it twice.
    pub(crate) fn send_in_term(&mut self, to: ReplicaAddress, payload: Payload) {
        self.send_when_durable(to, self.replica.term, payload);
    }

    /// Like [`Self::send_in_term`], for a message that names another term than the current one.
    pub(crate) fn send_when_durable(&mut self, to: ReplicaAddress, term: Term, payload: Payload) {
        self.persist_hard_state();
        self.send_after(self.replica.hard_state_seq(), to, term, payload);
    }

    /// Answers a message for a former replica on this node, which needs no answer by another.
    pub(crate) fn answer_for_former(&mut self, node: NodeId, message: &Message) {
        if let Some(message) = message.answer_for_former() {
            self.out.push(Output::Send { to: node, message });
        }
    }

    /// Says to all peers whose nodes support this one that this replica leads no more, in the last
    /// term in which it may have led or an earlier one. It is repeated until they have answered.
    /// Only a follower says so: it has to be true from now on.
    pub(crate) fn resign(&mut self) {
        let Replica { ref parting, term, .. } = *self.replica;
        if !parting.owes_resignation() {
            return;
        }
        let (id, peers) = (self.replica.id(), self.replica.others().map(Member::address));
        let resignation = Resignation::new(id, parting.led(), term, peers);
        let messages: Vec<_> = resignation.payloads(self.support).collect();
        self.replica.parting.resign(resignation);
        self.say(messages);
    }

    /// Repeats what this replica has to say until it is answered, if it is time.
    pub(crate) fn say_again(&mut self) {
        let (now, timeout) = (self.now(), self.replica.election_timeout());
        let due = self.replica.parting.due(self.support, now, timeout);
        due.into_iter().for_each(|(to, payload)| self.send_in_term(to, payload));
    }

    /// What every step ends with for replicas that go: a leader tells those that are removed by
    /// what was committed, and the caller is told if it is this one.
    pub(crate) fn part(&mut self, led: bool) {
        if let Some(before) = self.replica.look_at_committed().filter(|_| led) {
            let own = self.replica.node();
            let others = before.members().iter().map(Member::address).filter(|it| it.node != own);
            let founders = self.founders();
            let gone = |it| {
                let floor = self.replica.floor_in_place_of(it)?;
                Some((it, Payload::Gone { floor, founders }))
            };
            let removed: Vec<_> = others.filter_map(gone).collect();
            for (address, word) in removed.clone() {
                self.replica.parting.removed(address, word);
            }
            self.say(removed);
        }
        if let Some(floor) = self.replica.parting.tell_gone() {
            self.out.push(Output::Gone { floor });
        }
    }

    fn say(&mut self, messages: Vec<(ReplicaAddress, Payload)>) {
        let (now, timeout) = (self.now(), self.replica.election_timeout());
        if !messages.is_empty() {
            self.replica.parting.said(now, timeout);
        }
        messages.into_iter().for_each(|(to, payload)| self.send_in_term(to, payload));
    }

    fn message(&self, to: ReplicaAddress, term: Term, payload: Payload) -> Message {
        Message { from: self.replica.id(), to: to.replica, term, payload }
    }

    /// Acknowledges to the leader that the logs are equal up to `through`, when that is durable.
    pub(crate) fn acknowledge(&mut self, leader: ReplicaAddress, through: Index) {
        self.persist_hard_state();
        let after = self.replica.seq_of_log(through);
        let payload = Payload::Appended { through, applied: self.replica.applied };
        self.send_after(after, leader, self.replica.term, payload);
    }

    /// Appends entries to the log, in memory and on disk. They replace what the log held from the
    /// index of the first of them on. From now on it is the last of `configurations` that counts,
    /// which are those in the entries.
    pub(crate) fn append(
        &mut self,
        entries: Entries,
        configurations: impl IntoIterator<Item = Arc<Configuration>>,
    ) {
        let seq = self.replica.next_seq();
        if let Some(first) = entries.first() {
            self.replica.revert_configuration(first.index);
        }
        self.replica.log.append(&entries, seq);
        self.replica.configure(configurations.into_iter());
        self.persist(LogWrite::Append(entries));
    }

    /// Drops the log up to the last entry of the state machine's snapshot, which is durable.
    ///
    /// # Panics
    /// When that was not applied, or is not the entry that was, or when the snapshot names no
    /// members.
    pub(crate) fn compact(&mut self, meta: SnapshotMeta) {
        let last = meta.last;
        if last.index <= self.replica.log.snapshot().index {
            return; // A leader's snapshot went further meanwhile.
        }
        assert!(last.index <= self.replica.applied, "a snapshot covers what was applied");
        let is_known = !meta.configuration.members().is_empty();
        assert!(is_known, "a snapshot says who belongs to the group");
        assert!(self.replica.log.holds(last), "a snapshot covers this log");
        self.replica.log.compact(last);
        self.persist(LogWrite::Compact(meta));
    }

    /// Replaces log and state machine by a leader's snapshot.
    pub(crate) fn install_snapshot(&mut self, meta: SnapshotMeta) {
        let replica = &mut *self.replica;
        assert!(meta.last.index > replica.commit, "a snapshot never takes the state back");
        self.out.push(Output::RestoreSnapshot { meta: meta.clone() });
        let seq = replica.next_seq();
        replica.reset(&meta, seq);
        self.persist(LogWrite::Reset(meta));
    }

    /// Tells the caller if the configuration in force has changed or was committed.
    pub(crate) fn report_configuration(&mut self) {
        if let Some(configuration) = self.replica.take_configured() {
            let is_committed = self.replica.is_configuration_committed();
            self.out.push(Output::Configured { configuration, is_committed });
        }
    }

    /// Refuses changes of members.
    pub(crate) fn refuse_change(&mut self, error: ChangeError) {
        self.out.push(Output::ChangeRefused { error });
    }

    /// Writes the replica's id, term, vote and fortification, if they changed since they were last
    /// written.
    pub(crate) fn persist_hard_state(&mut self) {
        if self.replica.has_unwritten_promises() {
            self.persist(LogWrite::Keep);
        }
    }

    /// Hands out what is committed and durable and was not handed out before. Entries that are not
    /// in memory any more, which happens after a restart, are first read back from the disk.
    ///
    /// Waiting for the local disk is a choice: a majority without this replica would do. A state
    /// machine that is ahead of its own log would need a rule of its own at every restart.
    pub(crate) fn apply(&mut self) {
        let replica = &mut *self.replica;
        let through = replica.commit.min(replica.log.durable());
        if through <= replica.applied {
            return;
        }
        let first = replica.applied.next();
        let memory_start = replica.log.memory_start();
        if first < memory_start {
            let last = through.min(memory_start.prev());
            let max_bytes = replica.config.tuning.max_append_bytes;
            return self.read_log(LogReadTarget::Apply, first, last, max_bytes);
        }
        replica.applied = through;
        let entries = replica.log.take(through);
        self.out.push(Output::Apply { entries });
    }

    /// Hands out committed entries that were read back from the disk, unless a snapshot took their
    /// place while they were read.
    ///
    /// # Panics
    /// When the disk does not hold what was durable.
    pub(crate) fn apply_log_read(&mut self, entries: Entries) {
        let replica = &mut *self.replica;
        let wanted = replica.applied.next();
        if wanted >= replica.log.memory_start() {
            return;
        }
        let first = entries.first().map(|entry| entry.index);
        assert_eq!(first, Some(wanted), "what is durable can be read back");
        if let Some(last) = entries.last() {
            assert!(last.index <= replica.commit, "only committed entries were asked for");
            assert!(replica.log.holds(last.id()), "the log on disk is the log");
            replica.applied = last.index;
            self.out.push(Output::Apply { entries });
        }
    }

    /// Asks for entries on disk, unless a request for the same target is open.
    pub(crate) fn read_log(
        &mut self,
        target: LogReadTarget,
        first: Index,
        last: Index,
        max_bytes: usize,
    ) {
        if self.replica.open_log_read(target) {
            self.out.push(Output::ReadLog { target, first, last, max_bytes });
        }
    }

    /// Writes a change of the log, and the hard state along with it if that changed.
    fn persist(&mut self, log: LogWrite) {
        let persist = self.replica.write(log);
        self.out.push(Output::Persist(persist));
    }

    /// Sends a message when the write `after` is durable.
    fn send_after(&mut self, after: WriteSeq, to: ReplicaAddress, term: Term, payload: Payload) {
        let (message, to) = (self.message(to, term, payload), to.node);
        self.out.push(if self.replica.is_durable(after) {
            Output::Send { to, message }
        } else {
            Output::SendAfter { after, to, message }
        });
    }
}
