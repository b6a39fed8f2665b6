//! What a replica has in every role: term, vote and fortification, the log, how far it is committed
//! and applied, and the order of its writes.
//!
//! It decides and counts; [`Step`](crate::step::Step) turns that into outputs.

mod parting;
mod timing;

use crate::configuration::InForce;
use crate::follower_reads::FollowerReads;
use crate::log::Log;
use crate::plausible::TermCredit;
use crate::{
    Config, Configuration, Epoch, Fortification, HardState, Index, LogReadTarget, LogWrite,
    MAX_COUNT, Member, MemberRole, NodeId, Persist, ReplicaAddress, ReplicaId, Restored,
    SnapshotMeta, Support, Term, Time, VotersDigest, WriteSeq,
};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;
pub(crate) use parting::Parting;

/// The state of a replica that does not depend on its role.
#[derive(Debug)]
pub(crate) struct Replica {
    /// Who the replica is, and the limits that it keeps to.
    pub(crate) config: Config,
    /// Whether the committed configuration may be without this replica: not looked at yet.
    may_be_gone: bool,
    /// The configuration before the one that was committed in this step, if one was.
    superseded: Option<Arc<Configuration>>,
    /// Who belongs to the group.
    configurations: InForce,
    /// The voters that the group was founded with, as messages name them. `None` as long as this
    /// replica, which was added later, knows of no configuration.
    pub(crate) founders: Option<VotersDigest>,
    /// The time of the current step. It never goes back, even if the caller's does.
    pub(crate) now: Time,
    /// The latest term that the replica has seen (currentTerm, Raft paper, figure 2). It only
    /// grows, and is never behind the term of the last entry.
    pub(crate) term: Term,
    /// How far messages may still raise the term.
    term_credit: TermCredit,
    /// For whom the replica voted in `term`, or whom it fortified as that term's leader (votedFor).
    vote: Option<ReplicaAddress>,
    /// The fortification of a leader on another node. It stands while this node supports
    /// that node at its epoch, and outlives the term in which it was made.
    fortified: Option<Fortification>,
    /// The last entry known to be committed (commitIndex). It never exceeds the last entry here,
    /// but may be ahead of what is durable here.
    pub(crate) commit: Index,
    /// The last entry handed out to the state machine (lastApplied). Never ahead of `commit`, nor
    /// of what was durable when it was handed out; never behind the snapshot.
    pub(crate) applied: Index,
    /// The log.
    pub(crate) log: Log,
    /// Whether id, term, vote or fortification have changed since they were last written.
    is_unwritten: bool,
    /// The term and the commit index that were last written, durable or not.
    written: (Term, Index),
    /// The write that holds the current term, vote and fortification, once they are written. What
    /// others are told of them waits for it.
    hard_state_seq: WriteSeq,
    /// The newest write.
    newest: WriteSeq,
    /// The newest durable write; all before it are durable as well.
    durable: WriteSeq,
    /// The latest term that is certainly durable.
    durable_term: Term,
    /// The requests for entries on disk that were not answered yet, at most one a target.
    log_reads: Vec<LogReadTarget>,
    /// Reads here that wait for the answer of a leader elsewhere, or to be applied up to it.
    pub(crate) follower_reads: FollowerReads,
    /// Whether the replica may lead, see [`Input::MayLead`](crate::Input::MayLead).
    pub(crate) may_lead: bool,
    /// Whether a replica that lacks what is here has asked this one, which is no voter by its own
    /// log, for its vote. See [`Self::is_electable`].
    pub(crate) taken_for_voter: bool,
    /// What it has to say until that is answered.
    pub(crate) parting: Parting,
    /// Whether the caller was not told yet that the configuration in force has changed, or is
    /// known to be committed.
    is_configuration_news: bool,
}

impl Replica {
    /// A replica as it is found on disk.
    ///
    /// # Panics
    /// When `restored` describes no log.
    pub(crate) fn new(config: Config, restored: Restored, now: Time) -> Self {
        let hard_state = restored.hard_state;
        let id = hard_state.replica.max(config.replica);
        let is_founder = id == ReplicaId::FOUNDER;
        let unknown = || Arc::new(Configuration::unknown());
        let founding = if is_founder { Arc::clone(&config.founding) } else { unknown() };
        let base = restored.base(&founding);
        let is_later = |it: &Arc<Configuration>| it.id().index > restored.snapshot.index;
        let later = restored.configurations.into_iter().filter(is_later);
        let log = Log::new(restored.snapshot, restored.last, restored.runs);
        let (mut configurations, proven) = InForce::new(base, later);
        let commit = hard_state.commit.min(log.last()).max(log.snapshot().index).max(proven);
        configurations.commit(commit);
        let founders = founders(configurations.newest());
        let has_own_vote = hard_state.vote == Some(ReplicaAddress::new(config.node, id));
        // An earlier replica of the same run of the node may have led.
        let led = if has_own_vote { hard_state.term } else { hard_state.term.prev() };
        let config = Config { replica: id, ..config };
        let mut replica = Self {
            configurations,
            founders,
            config,
            may_be_gone: true,
            superseded: None,
            now,
            term: hard_state.term,
            term_credit: TermCredit::new(now),
            vote: hard_state.vote,
            fortified: hard_state.fortified,
            commit,
            applied: log.snapshot().index,
            log,
            // The id of one that waits to be added is written along with the first term.
            is_unwritten: false,
            written: (hard_state.term, hard_state.commit),
            hard_state_seq: WriteSeq(0),
            newest: WriteSeq(0),
            durable: WriteSeq(0),
            durable_term: hard_state.term,
            log_reads: Vec::new(),
            follower_reads: FollowerReads::default(),
            may_lead: true,
            taken_for_voter: false,
            parting: Parting::new(led),
            is_configuration_news: false,
        };
        // A snapshot becomes durable before the term in which it was received.
        let last_term = replica.log.last_id().term;
        if last_term > replica.term {
            replica.enter_term(last_term);
        }
        replica
    }

    /// The node of this replica.
    pub(crate) fn node(&self) -> NodeId {
        self.config.node
    }

    /// Which replica of the group on this node it is. It never goes back.
    pub(crate) const fn id(&self) -> ReplicaId {
        self.config.replica
    }

    /// A leader calls this replica, which had no true id yet, by its id.
    pub(crate) fn set_id(&mut self, id: ReplicaId) {
        assert!(id > self.id(), "ids only grow");
        self.config.replica = id;
        self.is_unwritten = true;
    }

    /// This replica, as others know it.
    pub(crate) fn address(&self) -> ReplicaAddress {
        ReplicaAddress::new(self.node(), self.id())
    }

    /// For whom the replica voted in the current term, or whom it fortified as that term's leader.
    pub(crate) const fn vote(&self) -> Option<ReplicaAddress> {
        self.vote
    }

    /// Votes.
    pub(crate) fn set_vote(&mut self, vote: Option<ReplicaAddress>) {
        self.is_unwritten |= vote != self.vote;
        self.vote = vote;
    }

    /// The fortification of a leader, whether it stands or not.
    pub(crate) const fn fortified(&self) -> Option<Fortification> {
        self.fortified
    }

    /// Fortifies a leader, or no longer.
    pub(crate) fn set_fortified(&mut self, fortified: Option<Fortification>) {
        self.is_unwritten |= fortified != self.fortified;
        self.fortified = fortified;
    }

    /// Whether the group is without this replica for good.
    pub(crate) fn is_gone(&self) -> bool {
        self.parting.is_gone()
    }

    /// Whether this replica was never a member of anything, as far as it knows, and has no log: it
    /// waits for a leader that calls it by its id.
    pub(crate) fn is_blank(&self) -> bool {
        self.configuration().members().is_empty() && self.log.last() == Index(0)
    }

    /// Looks whether this replica is gone by what is known here to be committed. Returns the
    /// configuration before the one that was committed in this step, if one was.
    pub(crate) fn look_at_committed(&mut self) -> Option<Arc<Configuration>> {
        if mem::replace(&mut self.may_be_gone, false)
            && let Some(floor) = self.floor_in_place_of(self.address())
        {
            self.parting.go(floor);
        }
        self.superseded.take()
    }

    /// The smallest id that may live in the place of a replica, if that is gone by what is known
    /// here to be committed.
    pub(crate) fn floor_in_place_of(&self, address: ReplicaAddress) -> Option<ReplicaId> {
        self.configurations.committed().floor_without(address)
    }

    /// The configuration in force.
    pub(crate) fn configuration(&self) -> &Arc<Configuration> {
        self.configurations.newest()
    }

    /// Whether the configuration in force is known to be committed.
    pub(crate) const fn is_configuration_committed(&self) -> bool {
        self.configurations.is_committed()
    }

    /// The configuration in force, if the caller was not told of it yet or of its commit.
    pub(crate) fn take_configured(&mut self) -> Option<Arc<Configuration>> {
        let is_news = mem::replace(&mut self.is_configuration_news, false);
        is_news.then(|| Arc::clone(self.configuration()))
    }

    /// Where this replica counts. One that is no member counts as little as a learner, whatever an
    /// earlier one on this node was.
    pub(crate) fn role(&self) -> MemberRole {
        let member = self.configuration().member_at(self.address());
        member.map_or(MemberRole::Learner, |member| member.role)
    }

    /// The members on other nodes, learners too.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Member> {
        let node = self.config.node;
        self.configuration().members().iter().filter(move |member| member.node != node)
    }

    /// The nodes of the other members, learners too.
    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.others().map(|member| member.node)
    }

    /// The other voters, of either half.
    pub(crate) fn voters(&self) -> impl Iterator<Item = ReplicaAddress> {
        self.others().filter(|member| member.role.is_voter()).map(Member::address)
    }

    /// Whether the replica may campaign: it votes, in either half, or others take it for a voter
    /// and can't win against its log.
    ///
    /// A learner that never campaigned could leave a group without a leader though all of its nodes
    /// live. A leader that is demoted may have the entry that makes it a learner, alone. The others
    /// then need its vote, and don't get it, since its log is longer. It goes by its own
    /// configuration, in which its own vote counts for nothing.
    pub(crate) fn is_electable(&self) -> bool {
        self.taken_for_voter || self.role().is_voter()
    }

    /// How long a leader may be silent before another may be elected, see [`crate::Tuning`].
    pub(crate) fn election_timeout(&self) -> Duration {
        self.config.tuning.election_timeout
    }

    /// The leader that this replica fortifies: while the fortification stands, the replica grants
    /// no other one a vote, and does not campaign.
    pub(crate) fn fortified_leader(&self, support: &Support) -> Option<ReplicaAddress> {
        let bond = self.fortified?;
        (support.support_for(bond.leader) == Some(bond.epoch)).then_some(bond.address())
    }

    /// The epoch at which this replica fortifies the leader of the current term, if that stands.
    ///
    /// A fortification of an earlier term is not told in this one. Its leader may come to lead
    /// again in this term and would count it, although it ends with the leader's request for votes.
    pub(crate) fn epoch_in_term(&self, support: &Support) -> Option<Epoch> {
        let bond = self.fortified.filter(|bond| bond.term == self.term)?;
        self.fortified_leader(support).map(|_| bond.epoch)
    }

    /// Whether the nodes of a majority of the voters support this one, which supports itself:
    /// without them it could not be elected, or not stay so.
    pub(crate) fn has_quorum(&self, support: &Support) -> bool {
        self.configuration().is_quorum(|node| self.lives(node, support))
    }

    /// Whether a node supports this one, or is this one.
    pub(crate) fn lives(&self, node: NodeId, support: &Support) -> bool {
        node == self.node() || support.support_from(node).is_some()
    }

    /// Moves to a later term, in which the replica has not voted. A fortification outlives the
    /// term: else any candidate of a later term could free this replica's vote while its leader
    /// still serves reads on the strength of it.
    pub(crate) fn enter_term(&mut self, term: Term) {
        assert!(term > self.term, "terms only grow");
        self.term = term;
        self.vote = None;
        self.is_unwritten = true;
    }

    /// Moves to a later term because of a message, which has to be believed first.
    pub(crate) fn raise_term(&mut self, term: Term) {
        let step = term.0.saturating_sub(self.term.0);
        self.term_credit.spend(self.now, step);
        self.enter_term(term);
    }

    /// Whether a message of this node may name this term.
    pub(crate) fn believes(&mut self, from: NodeId, term: Term) -> bool {
        let step = term.0.saturating_sub(self.term.0);
        let is_paid = term.0 <= MAX_COUNT && self.term_credit.covers(self.now, step);
        is_paid || self.term_credit.is_vouched_for(from, term)
    }

    /// Learns that everything up to `index` is committed.
    pub(crate) fn commit_to(&mut self, index: Index) {
        assert!(index <= self.log.last(), "only entries that are here are committed here");
        self.commit = self.commit.max(index);
        if let Some(before) = self.configurations.commit(self.commit) {
            self.superseded = Some(before);
            (self.is_configuration_news, self.may_be_gone) = (true, true);
        }
    }

    /// Entries that hold configurations were appended. Those that they name are in force.
    pub(crate) fn configure(&mut self, configurations: impl Iterator<Item = Arc<Configuration>>) {
        for configuration in configurations {
            if let Some(committed) = self.configurations.append(configuration) {
                self.commit_to(committed);
            }
            self.is_configuration_news = true;
            self.founders = founders(self.configuration());
        }
    }

    /// The entries from `first` on are about to be replaced, and the configuration with them that
    /// one of them holds. Members by that one alone may fortify this replica, if it proposed it.
    pub(crate) fn revert_configuration(&mut self, first: Index) {
        let Some(reverted) = self.configurations.truncate(first) else {
            return;
        };
        self.is_configuration_news = true;
        self.founders = founders(self.configuration());
        let addresses = reverted.members().iter().map(Member::address);
        let stays = |it: &ReplicaAddress| self.configuration().member_at(*it).is_some();
        let dropped = addresses.filter(|it| it.node != self.node() && !stays(it)).collect();
        self.parting.resign_to(self.id(), self.term, dropped);
    }

    /// A leader's snapshot took the place of the log.
    pub(crate) fn reset(&mut self, meta: &SnapshotMeta, seq: WriteSeq) {
        self.log.reset(meta.last, self.commit, seq);
        let is_known = self.configuration().id() == meta.configuration.id();
        self.is_configuration_news |= !is_known || !self.configurations.is_committed();
        self.configurations.reset(Arc::clone(&meta.configuration));
        self.may_be_gone = true;
        self.founders = founders(self.configuration());
        self.commit = meta.last.index;
        self.applied = meta.last.index;
    }

    /// Numbers a write of a change of the log. The hard state is part of it if it changed. The
    /// commit index alone is worth that only now and then.
    pub(crate) fn write(&mut self, log: LogWrite) -> Persist {
        self.newest = self.next_seq();
        if self.has_unwritten_promises() {
            self.hard_state_seq = self.newest;
        }
        let (term, commit) = self.written;
        let behind = self.commit.0.saturating_sub(commit.0);
        let is_due = behind > self.config.tuning.max_unwritten_commits;
        let changed = mem::take(&mut self.is_unwritten) || term != self.term || is_due;
        if !changed {
            return Persist { seq: self.newest, hard_state: None, log };
        }
        let hard_state = HardState {
            replica: self.id(),
            term: self.term,
            vote: self.vote,
            commit: self.commit,
            fortified: self.fortified,
        };
        self.written = (self.term, self.commit);
        Persist { seq: self.newest, hard_state: Some(Box::new(hard_state)), log }
    }

    /// The number of the next write.
    pub(crate) const fn next_seq(&self) -> WriteSeq {
        self.newest.next()
    }

    /// The write that holds the current term, vote and fortification, once they are written.
    pub(crate) const fn hard_state_seq(&self) -> WriteSeq {
        self.hard_state_seq
    }

    /// The write that makes the log durable up to `through`. Waiting for the newest one is simple
    /// and costs nothing: writes become durable in batches.
    pub(crate) fn seq_of_log(&self, through: Index) -> WriteSeq {
        if through <= self.log.durable() { self.hard_state_seq } else { self.newest }
    }

    /// The latest term that is certainly durable. A replica that leads does so in this one.
    pub(crate) const fn durable_term(&self) -> Term {
        self.durable_term
    }

    /// Whether a write is durable.
    pub(crate) fn is_durable(&self, seq: WriteSeq) -> bool {
        seq <= self.durable
    }

    /// Whether the current term and the vote in it are durable.
    pub(crate) fn has_durable_vote(&self) -> bool {
        !self.has_unwritten_promises() && self.is_durable(self.hard_state_seq)
    }

    /// Whether the replica's id, term, vote or fortification differ from what was last written. The
    /// commit index may: nobody rests on it, so it is written only along with something else.
    pub(crate) const fn has_unwritten_promises(&self) -> bool {
        self.is_unwritten
    }

    /// Notes that all writes up to `seq` are durable.
    ///
    /// # Panics
    /// When `seq` was never handed out.
    pub(crate) fn persisted(&mut self, seq: WriteSeq) {
        assert!(seq <= self.newest, "only what was handed out can be durable");
        if seq > self.durable {
            self.durable = seq;
            self.log.persisted(seq);
            if self.hard_state_seq <= seq {
                self.durable_term = self.written.0;
            }
        }
    }

    /// Notes a request for entries on disk. Returns false if one for the same target is open.
    pub(crate) fn open_log_read(&mut self, target: LogReadTarget) -> bool {
        let is_new = !self.log_reads.contains(&target);
        if is_new {
            self.log_reads.push(target);
        }
        is_new
    }

    /// Notes the answer to a request for entries. Returns false if there was no such request.
    pub(crate) fn close_log_read(&mut self, target: LogReadTarget) -> bool {
        let open = self.log_reads.iter().position(|&open| open == target);
        open.map(|at| self.log_reads.swap_remove(at)).is_some()
    }

    /// Panics when the fields contradict each other.
    pub(crate) fn invariants(&self) {
        self.log.invariants();
        self.configurations.invariants(self.commit);
        assert!(self.log.snapshot().index <= self.applied && self.applied <= self.commit);
        assert!(self.commit <= self.log.last());
        assert!(self.applied < self.log.memory_start());
        assert!(self.log.last_id().term <= self.term);
        assert!(self.hard_state_seq <= self.newest && self.durable <= self.newest);
        if let Some(bond) = self.fortified {
            assert_ne!(bond.leader, self.node(), "nobody fortifies itself");
            assert!(bond.term <= self.term, "a fortification is of a term that was entered");
            let voted = bond.term < self.term || self.vote.is_some();
            assert!(voted, "who fortifies a leader has voted in its term");
        }
        assert!(self.durable_term <= self.term);
    }

    /// Panics unless the replica is nobody's follower, by vote or by fortification.
    pub(crate) fn assert_unbound(&self) {
        assert_eq!(self.vote, Some(self.address()), "who campaigns or leads has its own vote");
        assert_eq!(self.fortified, None, "who campaigns or leads fortifies nobody");
    }
}

/// The founding voters of the group, unless the configuration says that they are unknown.
fn founders(configuration: &Configuration) -> Option<VotersDigest> {
    (!configuration.members().is_empty()).then(|| configuration.founders())
}
