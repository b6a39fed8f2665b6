//! What a replica has in every role: term and vote, the log, how far it is committed and applied,
//! and the order of its writes.

use crate::follower_reads::FollowerReads;
use crate::log::Log;
use crate::{
    Config, Entries, Fortification, HardState, Index, LoadFor, LogId, LogWrite, Message, NodeId,
    Output, Payload, Persist, Restored, Support, Term, Time, WriteSeq, quorum,
};
use alloc::vec::Vec;
use core::time::Duration;

#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) config: Config,
    /// The time of the current step.
    pub(crate) now: Time,
    pub(crate) term: Term,
    pub(crate) vote: Option<NodeId>,
    /// The bond with a leader's node; holds while this node supports that one at its epoch.
    pub(crate) fortified: Option<Fortification>,
    /// The last entry known to be committed. It may be ahead of what is durable here.
    pub(crate) commit: Index,
    /// The last entry handed out to the state machine.
    pub(crate) applied: Index,
    pub(crate) log: Log,
    /// The hard state in the newest write that had one.
    written: HardState,
    /// The write that made the current term and vote durable.
    hard_state_seq: WriteSeq,
    /// The newest write.
    newest: WriteSeq,
    /// The newest durable write.
    durable: WriteSeq,
    /// The requests for entries on disk that were not answered yet.
    loads: Vec<LoadFor>,
    /// Reads here for which a leader elsewhere was asked.
    pub(crate) follower_reads: FollowerReads,
    /// The state of the generator of election timeouts.
    random: u64,
}

impl Replica {
    pub(crate) fn new(config: Config, restored: Restored, now: Time) -> Self {
        assert!(
            config.voters.is_sorted_by(|a, b| a < b) && config.voters.contains(&config.node),
            "the voters are sorted, without doubles, and this node is among them"
        );
        assert!(config.voters.contains(&config.preferred), "the preferred voter is one");
        let hard_state = restored.hard_state;
        let log = Log::new(restored.snapshot, restored.last, restored.runs);
        let mut replica = Self {
            random: config.seed,
            config,
            now,
            term: hard_state.term,
            vote: hard_state.vote,
            fortified: hard_state.fortified,
            commit: hard_state.commit.min(log.last()).max(log.snapshot().index),
            applied: log.snapshot().index,
            log,
            written: hard_state,
            hard_state_seq: WriteSeq(0),
            newest: WriteSeq(0),
            durable: WriteSeq(0),
            loads: Vec::new(),
            follower_reads: FollowerReads::default(),
        };
        // A snapshot becomes durable before the term in which it was received.
        let last_term = replica.log.last_id().term;
        if last_term > replica.term {
            replica.enter_term(last_term);
        }
        replica
    }

    pub(crate) fn node(&self) -> NodeId {
        self.config.node
    }

    /// The other voters.
    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> {
        let node = self.config.node;
        self.config.voters.iter().copied().filter(move |&voter| voter != node)
    }

    pub(crate) fn election_timeout(&self) -> Duration {
        self.config.tuning.election_timeout
    }

    /// The node that this replica is bound to: it grants no other a vote, and does not campaign.
    pub(crate) fn bound_to(&self, support: &Support) -> Option<NodeId> {
        let bond = self.fortified?;
        (support.support_for(bond.leader) == Some(bond.epoch)).then_some(bond.leader)
    }

    /// Whether a majority of the voters' nodes, this one included, supports this node: without them it
    /// could not be elected, or not stay so.
    pub(crate) fn has_quorum(&self, support: &Support) -> bool {
        let supporters = self.peers().filter(|peer| support.support_from(*peer).is_some()).count();
        supporters + 1 >= quorum::majority(self.config.voters.len())
    }

    /// A moment between one and two election timeouts from now.
    pub(crate) fn draw_deadline(&mut self) -> Time {
        let timeout = self.election_timeout();
        self.now + timeout + self.draw(timeout)
    }

    /// When to campaign after a start: at once for the preferred voter, and for one that has nobody to
    /// wait for.
    pub(crate) fn first_deadline(&mut self) -> Time {
        let first = self.config.preferred == self.node() || self.peers().next().is_none();
        if first { self.now } else { self.draw_deadline() }
    }

    /// When to campaign after the leader was lost: the first of the voters that are left at once, the
    /// next one stagger later. Their order differs from group to group, but for the preferred one.
    pub(crate) fn succession_deadline(&mut self, support: &Support) -> Time {
        let Config { group, preferred, ref tuning, .. } = self.config;
        let order = |node: NodeId| {
            let mut hash = group.0.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ node.0;
            (node != preferred, splitmix64(&mut hash), node)
        };
        let own = order(self.node());
        let lives = |node: &NodeId| support.support_for(*node).is_some();
        let ahead = self.peers().filter(lives).filter(|peer| order(*peer) < own).count();
        let stagger = tuning.campaign_stagger;
        if ahead == 0 {
            return self.now;
        }
        self.now + stagger * u32::try_from(ahead).unwrap_or(u32::MAX) + self.draw(stagger)
    }

    /// When to campaign again after so many failures: ever later, up to an election timeout. The first
    /// time comes before the next in line has its turn, since those who refused may have learnt a
    /// moment later than this node that the leader is lost.
    pub(crate) fn retry_deadline(&mut self, failures: u8) -> Time {
        self.backoff(self.config.tuning.campaign_stagger / 4, failures)
    }

    /// How long a campaign waits for answers after so many failures. They may take their time, since
    /// the votes of many groups are asked for at once.
    pub(crate) fn answer_deadline(&mut self, failures: u8) -> Time {
        self.backoff(self.config.tuning.campaign_stagger * 2, failures)
    }

    /// When to look again whether a campaign makes sense.
    pub(crate) fn look_deadline(&mut self) -> Time {
        self.backoff(self.config.tuning.campaign_stagger, 0)
    }

    /// A moment between one and two times `shortest` from now, doubled for each failure up to an
    /// election timeout.
    fn backoff(&mut self, shortest: Duration, failures: u8) -> Time {
        let wait = (shortest * (1 << failures.min(10))).min(self.election_timeout());
        self.now + wait + self.draw(wait)
    }

    /// Some time between none and `most`.
    fn draw(&mut self, most: Duration) -> Duration {
        let spread = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(splitmix64(&mut self.random) % spread)
    }

    /// Moves to a later term, in which the replica has not voted.
    pub(crate) fn enter_term(&mut self, term: Term) {
        assert!(term > self.term, "terms only grow");
        self.term = term;
        self.vote = None;
    }

    /// Appends entries to the log, in memory and on disk.
    pub(crate) fn append(&mut self, entries: Entries, out: &mut Vec<Output>) {
        self.log.append(&entries, self.newest.next());
        self.persist(LogWrite::Append(entries), out);
    }

    /// Drops the log up to `last`, which the state machine's durable snapshot covers.
    ///
    /// # Panics
    /// When `last` was not applied, or is not the entry that was.
    pub(crate) fn compact(&mut self, last: LogId, out: &mut Vec<Output>) {
        if last.index <= self.log.snapshot().index {
            return;
        }
        assert!(last.index <= self.applied, "a snapshot covers what was applied");
        assert!(self.log.holds(last), "a snapshot covers this log");
        self.log.compact(last);
        self.persist(LogWrite::Compact(last), out);
    }

    /// Replaces log and state machine by a snapshot of committed state.
    pub(crate) fn restore(&mut self, last: LogId, out: &mut Vec<Output>) {
        assert!(last.index > self.commit, "a snapshot never takes the state back");
        out.push(Output::RestoreSnapshot { last });
        self.log.reset(last, self.commit, self.newest.next());
        self.commit = last.index;
        self.applied = last.index;
        self.persist(LogWrite::Reset(last), out);
    }

    /// Writes term, vote and bond, if they changed since they were last written.
    pub(crate) fn persist_hard_state(&mut self, out: &mut Vec<Output>) {
        if self.promises() != promises_of(&self.written) {
            self.persist(LogWrite::Keep, out);
        }
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
        }
    }

    /// Learns that everything up to `index` is committed.
    pub(crate) fn commit_to(&mut self, index: Index) {
        assert!(index <= self.log.last(), "only entries that are here are committed here");
        self.commit = self.commit.max(index);
    }

    /// Hands out what is committed and durable and was not handed out before; asks for it if it is
    /// not in memory.
    pub(crate) fn apply(&mut self, out: &mut Vec<Output>) {
        let through = self.commit.min(self.log.durable());
        if through <= self.applied {
            return;
        }
        let first = self.applied.next();
        let memory_start = self.log.memory_start();
        if first < memory_start {
            let last = through.min(memory_start.prev());
            let max_bytes = self.config.tuning.max_append_bytes;
            return self.load(LoadFor::Apply, first, last, max_bytes, out);
        }
        self.applied = through;
        let entries = self.log.take(through);
        out.push(Output::Apply { entries });
    }

    /// Hands out committed entries that came from the disk. They are not wanted any more when a
    /// snapshot took their place while they were read.
    ///
    /// # Panics
    /// When the disk does not hold what was durable.
    pub(crate) fn apply_loaded(&mut self, entries: Entries, out: &mut Vec<Output>) {
        let wanted = self.applied.next();
        if wanted >= self.log.memory_start() {
            return;
        }
        let first = entries.first().map(|entry| entry.index);
        assert_eq!(first, Some(wanted), "what is durable can be read back");
        if let Some(last) = entries.last() {
            assert!(last.index <= self.commit, "only committed entries were asked for");
            assert!(self.log.holds(last.id()), "the log on disk is the log");
            self.applied = last.index;
            out.push(Output::Apply { entries });
        }
    }

    /// Asks for entries on disk, unless a request for the same target is open.
    pub(crate) fn load(
        &mut self,
        target: LoadFor,
        first: Index,
        last: Index,
        max_bytes: usize,
        out: &mut Vec<Output>,
    ) {
        if self.loads.contains(&target) {
            return;
        }
        self.loads.push(target);
        out.push(Output::Load { target, first, last, max_bytes });
    }

    /// Notes the answer to a request. Returns false if there was none.
    pub(crate) fn loaded(&mut self, target: LoadFor) -> bool {
        let open = self.loads.iter().position(|&load| load == target);
        open.map(|at| self.loads.swap_remove(at)).is_some()
    }

    /// Sends a message that promises nothing.
    pub(crate) fn send(&self, to: NodeId, payload: Payload, out: &mut Vec<Output>) {
        let term = self.term;
        let message = Message { term, payload };
        out.push(Output::Send { to, message });
    }

    /// Sends a message that rests on the current term and vote being durable.
    pub(crate) fn send_in_term(&mut self, to: NodeId, payload: Payload, out: &mut Vec<Output>) {
        let term = self.term;
        self.send_when_durable(to, Message { term, payload }, out);
    }

    /// Like [`Self::send_in_term`], for a message that names another term than the current one.
    pub(crate) fn send_when_durable(
        &mut self,
        to: NodeId,
        message: Message,
        out: &mut Vec<Output>,
    ) {
        self.persist_hard_state(out);
        self.send_after(self.hard_state_seq, to, message, out);
    }

    /// Tells the leader that the logs are equal up to `through`, as soon as that is durable.
    pub(crate) fn acknowledge(&mut self, leader: NodeId, through: Index, out: &mut Vec<Output>) {
        self.persist_hard_state(out);
        let after = if through <= self.log.durable() { self.hard_state_seq } else { self.newest };
        let message = Message {
            term: self.term,
            payload: Payload::Appended { through, applied: self.applied },
        };
        self.send_after(after, leader, message, out);
    }

    /// Panics when the fields contradict each other.
    pub(crate) fn invariants(&self) {
        self.log.invariants();
        assert!(self.log.snapshot().index <= self.applied && self.applied <= self.commit);
        assert!(self.commit <= self.log.last());
        assert!(self.applied < self.log.memory_start());
        assert!(self.log.last_id().term <= self.term);
        assert!(self.hard_state_seq <= self.newest && self.durable <= self.newest);
        let itself = Some(self.node());
        assert_ne!(self.fortified.map(|bond| bond.leader), itself, "a bond is with another");
    }

    /// Panics unless the replica is nobody's follower, by vote or by bond.
    pub(crate) fn assert_free(&self) {
        assert_eq!(self.vote, Some(self.node()), "who campaigns or leads has its own vote");
        assert_eq!(self.fortified, None, "who campaigns or leads is bound to nobody");
    }

    const fn promises(&self) -> (Term, Option<NodeId>, Option<Fortification>) {
        (self.term, self.vote, self.fortified)
    }

    fn persist(&mut self, log: LogWrite, out: &mut Vec<Output>) {
        let (term, vote, fortified) = self.promises();
        let hard_state = HardState { term, vote, commit: self.commit, fortified };
        self.newest = self.newest.next();
        if self.promises() != promises_of(&self.written) {
            self.hard_state_seq = self.newest;
        }
        let changed = hard_state != self.written;
        self.written = hard_state;
        out.push(Output::Persist(Persist {
            seq: self.newest,
            hard_state: changed.then_some(hard_state),
            log,
        }));
    }

    fn send_after(&self, after: WriteSeq, to: NodeId, message: Message, out: &mut Vec<Output>) {
        out.push(if after <= self.durable {
            Output::Send { to, message }
        } else {
            Output::SendAfter { after, to, message }
        });
    }
}

/// What of a hard state others may rest on.
const fn promises_of(state: &HardState) -> (Term, Option<NodeId>, Option<Fortification>) {
    (state.term, state.vote, state.fortified)
}

/// The next number of the generator SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
const fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
