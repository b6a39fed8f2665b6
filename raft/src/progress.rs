//! The progress of one follower, as its leader sees it (etcd's `Progress` with its states probe,
//! replicate and snapshot). It finds where the logs meet (fast backup), and bounds what is sent
//! ahead of the answers (pipelining, flow control).

use crate::log::Log;
use crate::replica::Replica;
use crate::{
    Conflict, Epoch, Index, LogId, Member, MemberRole, NodeId, ReplicaAddress, ReplicaId, Time,
    Tuning, reserve_one,
};
use alloc::collections::VecDeque;
use core::time::Duration;

/// How entries go to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is not known where the follower's log parts from the leader's: one append at a time.
    Probe {
        /// An append is out and its answer is not.
        waiting: bool,
    },
    /// The logs are equal up to `next`, as far as it was sent: appends are pipelined.
    Replicate,
    /// The follower needs entries that this log no longer has.
    Snapshot {
        /// Where the log began when the snapshot was asked for. The snapshot covers at least that.
        last: LogId,
        /// From this moment on, a refusal of the follower means that the snapshot was lost, and
        /// starts another one. `None` while the snapshot is on its way.
        retry_at: Option<Time>,
    },
}

/// A follower as its leader sees it.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The follower's node.
    pub(crate) node: NodeId,
    /// Which replica there it is. What another one says does not count.
    pub(crate) replica: ReplicaId,
    /// Where it counts.
    pub(crate) role: MemberRole,
    /// Up to here the follower's log is durable and equal to the leader's (matchIndex, Raft paper,
    /// figure 2). It only grows.
    pub(crate) matched: Index,
    /// The next entry to send (nextIndex). Always above `matched`, at most one past the log's end.
    pub(crate) next: Index,
    /// How entries go to the follower.
    pub(crate) mode: Mode,
    /// The last entry that the follower has applied, once it said so. Falls when it restarts.
    pub(crate) applied: Option<Index>,
    /// The epoch at which the follower fortifies this leader, once it said so in this term. It only
    /// grows: epochs ascend, and a message with an older one is late.
    pub(crate) fortified: Option<Epoch>,
    /// The follower holds what the leader's log held at this moment, or what it holds now. `None`
    /// until that is known.
    abreast_of: Option<Time>,
    /// Where the leader's log ended at a later moment, and that moment.
    mark: (Index, Time),
    /// The commit index in the last message that had one.
    commit_sent: Index,
    /// When that message was sent.
    commit_sent_at: Time,
    /// When the follower was last asked to fortify this leader and to say so.
    fortify_sent_at: Time,
    /// Since when the oldest unanswered append or snapshot waits for progress.
    waiting_since: Time,
    /// The appends in flight, oldest first. Empty unless the mode is [`Mode::Replicate`].
    inflight: VecDeque<InFlight>,
    /// The sum of their payload bytes.
    inflight_bytes: usize,
}

/// An append that was sent and not acknowledged.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    /// Its last entry; above `matched`, below `next`, ascending from one append to the next.
    last: Index,
    /// Its payload bytes.
    bytes: usize,
}

impl Progress {
    /// A follower of which nothing is known, of a leader whose next entry is `next`.
    pub(crate) const fn new(member: &Member, next: Index, now: Time) -> Self {
        Self {
            node: member.node,
            replica: member.replica,
            role: member.role,
            abreast_of: None,
            mark: (next.prev(), now),
            matched: Index(0),
            applied: None,
            next,
            mode: Mode::Probe { waiting: false },
            fortified: None,
            commit_sent: Index(0),
            commit_sent_at: now,
            fortify_sent_at: now,
            waiting_since: now,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
        }
    }

    /// The follower.
    pub(crate) const fn address(&self) -> ReplicaAddress {
        ReplicaAddress::new(self.node, self.replica)
    }

    /// How many appends are in flight.
    pub(crate) fn inflight_messages(&self) -> usize {
        self.inflight.len()
    }

    /// Their payload bytes.
    pub(crate) const fn inflight_bytes(&self) -> usize {
        self.inflight_bytes
    }

    /// How many payload bytes the next append may have; `None` when the window is full. An empty
    /// window takes an entry of any size.
    pub(crate) fn room(&self, tuning: &Tuning) -> Option<usize> {
        if self.inflight.is_empty() {
            return Some(usize::MAX);
        }
        let left = tuning.max_inflight_bytes.checked_sub(self.inflight_bytes)?;
        (self.inflight.len() < tuning.max_inflight_messages && left > 0).then_some(left)
    }

    /// Notes an append in the pipeline that ends at `last`.
    pub(crate) fn append_sent(&mut self, last: Index, bytes: usize, now: Time) {
        if self.inflight.is_empty() {
            self.waiting_since = now;
        }
        reserve_one::push_back(&mut self.inflight, InFlight { last, bytes });
        self.inflight_bytes += bytes;
        self.next = last.next();
    }

    /// Notes that a probe is out; nothing more goes to the follower before its answer.
    pub(crate) fn probed(&mut self, now: Time) {
        self.mode = Mode::Probe { waiting: true };
        self.waiting_since = now;
    }

    /// Notes that a snapshot which covers at least `last` was asked for.
    pub(crate) fn snapshot_begun(&mut self, last: LogId, now: Time) {
        self.clear_inflight();
        self.mode = Mode::Snapshot { last, retry_at: None };
        self.waiting_since = now;
    }

    /// Notes that the snapshot has left. Only the follower can say whether it arrived, and may take
    /// until `retry_at` to have it on its disk.
    pub(crate) fn snapshot_left(&mut self, retry_at: Time) {
        if let Mode::Snapshot { last, retry_at: None } = self.mode {
            self.mode = Mode::Snapshot { last, retry_at: Some(retry_at) };
        }
    }

    /// Notes that the follower was asked whether it has the snapshot.
    pub(crate) const fn snapshot_probed(&mut self, now: Time) {
        self.waiting_since = now;
    }

    /// How long ago the leader's log held no more than the follower holds now (Raft thesis, section
    /// 4.2.1). It is an upper bound: as many round trips as it took to send what was missing.
    pub(crate) fn lag(&self, last: Index, now: Time) -> Duration {
        match self.abreast_of {
            _ if self.matched == last => Duration::ZERO,
            Some(moment) => now.since(moment),
            None => Duration::MAX,
        }
    }

    /// Looks whether the follower has got as far as the mark, and sets the next one.
    pub(crate) fn measure(&mut self, last: Index, now: Time) {
        let (index, at) = self.mark;
        if self.matched >= index {
            self.abreast_of = Some(at);
            self.mark = (last, now);
        }
    }

    /// Notes what the follower says it has applied. The message may be old.
    pub(crate) fn note_applied(&mut self, applied: Index) {
        self.applied = self.applied.max(Some(applied));
    }

    /// Takes an acknowledgement up to `through`. An old one is still true, since it was durable.
    /// Returns whether it is news.
    pub(crate) fn acknowledged(&mut self, through: Index, now: Time) -> bool {
        let news = through > self.matched;
        self.matched = self.matched.max(through);
        while let Some(&InFlight { last, bytes }) = self.inflight.front()
            && last <= self.matched
        {
            self.inflight.pop_front();
            self.inflight_bytes -= bytes;
        }
        if news {
            self.waiting_since = now;
        }
        self.next = self.next.max(self.matched.next());
        match self.mode {
            Mode::Replicate => {}
            Mode::Snapshot { last, .. } if through < last.index => {}
            Mode::Probe { .. } | Mode::Snapshot { .. } => {
                self.mode = Mode::Replicate;
                self.next = self.matched.next();
            }
        }
        news
    }

    /// Takes the refusal of the append after `prev`, and goes back to where the logs may meet by
    /// `conflict` (fast backup). Returns false when the refusal is old.
    pub(crate) fn rejected(
        &mut self,
        prev: Index,
        conflict: Conflict,
        log: &Log,
        now: Time,
    ) -> bool {
        match self.mode {
            Mode::Probe { waiting } if !waiting || prev != self.next.prev() => return false,
            Mode::Replicate if prev <= self.matched || prev >= self.next => return false,
            Mode::Snapshot { last, retry_at } => {
                return retry_at.is_some_and(|time| time <= now) && prev == last.index;
            }
            Mode::Probe { .. } | Mode::Replicate => {}
        }
        let meet = match conflict.x_term {
            None => conflict.x_len,
            Some(term) => log.last_of_term(term).map_or(conflict.x_index, Index::next),
        };
        // Two logs that share a term share its first index. So `meet` lies at or before `prev`,
        // unless the answer is nonsense. Going back at least one place keeps the search finite.
        self.next = meet.min(prev).max(self.matched.next());
        self.mode = Mode::Probe { waiting: false };
        self.clear_inflight();
        true
    }

    /// What is in flight may be lost, so start over after the last entry that the follower is known
    /// to hold. Where the logs meet is perhaps not known yet; then the same probe is sent again.
    pub(crate) fn lost(&mut self) {
        match self.mode {
            Mode::Probe { .. } => self.mode = Mode::Probe { waiting: false },
            Mode::Replicate if self.inflight.is_empty() => {}
            Mode::Replicate => {
                self.mode = Mode::Probe { waiting: false };
                self.next = self.matched.next();
                self.clear_inflight();
            }
            Mode::Snapshot { last, .. } => {
                self.mode = Mode::Snapshot { last, retry_at: Some(Time(0)) };
            }
        }
    }

    /// Notes that a message with a commit index was sent.
    pub(crate) fn commit_sent(&mut self, commit: Index, now: Time) {
        self.commit_sent = commit;
        self.commit_sent_at = now;
    }

    /// Notes that the follower was asked to fortify this leader and to say so.
    pub(crate) const fn fortify_sent(&mut self, now: Time) {
        self.fortify_sent_at = now;
    }

    /// When to send a [`Payload::Fortify`](crate::Payload::Fortify), if nothing else that is sent
    /// makes it needless. There are three reasons to send it. The follower may not know that
    /// entries which it holds are committed. It may not have applied them. It may not fortify this
    /// leader at `epoch`, at which its node supports the leader's. Appends have a follower fortify
    /// its leader as well, but don't tell the leader whether it did.
    pub(crate) fn fortify_deadline(
        &self,
        epoch: Epoch,
        commit: Index,
        tuning: &Tuning,
    ) -> Option<Time> {
        let due = commit.min(self.matched);
        let commit = if self.commit_sent < due {
            Some(self.commit_sent_at + tuning.commit_delay)
        } else {
            let lags = self.applied.is_none_or(|applied| applied < due);
            lags.then(|| self.commit_sent_at + tuning.retransmit_timeout)
        };
        let is_fortified = self.fortified == Some(epoch);
        let fortify = (!is_fortified).then(|| self.fortify_sent_at + tuning.retransmit_timeout);
        commit.into_iter().chain(fortify).min()
    }

    /// Whether the follower may lack some of what was sent.
    pub(crate) fn is_unanswered(&self) -> bool {
        match self.mode {
            Mode::Probe { .. } => true,
            Mode::Replicate => !self.inflight.is_empty(),
            Mode::Snapshot { .. } => true,
        }
    }

    /// Whether the leader has nothing to tell the follower or to ask it, as far as it knows, at the
    /// epoch at which the follower's node supports the leader's.
    pub(crate) fn is_at_rest(&self, epoch: Option<Epoch>, replica: &Replica) -> bool {
        let (log, tuning) = (&replica.log, &replica.config.tuning);
        let asks = |epoch| self.fortify_deadline(epoch, replica.commit, tuning).is_some();
        !self.is_unanswered() && self.matched == log.last() && !epoch.is_some_and(asks)
    }

    /// When silence means that something was lost; `None` when nothing is unanswered.
    pub(crate) fn retransmit_deadline(&self, tuning: &Tuning) -> Option<Time> {
        self.is_unanswered().then(|| self.waiting_since + tuning.retransmit_timeout)
    }

    /// Panics when the fields contradict each other or the leader's log.
    pub(crate) fn invariants(&self, log: &Log) {
        assert!(self.matched < self.next && self.next <= log.last().next());
        assert!(self.inflight.iter().is_sorted_by(|a, b| a.last < b.last));
        assert!(self.inflight.iter().all(|it| it.last > self.matched && it.last < self.next));
        assert_eq!(self.inflight_bytes, self.inflight.iter().map(|it| it.bytes).sum::<usize>());
        assert!(self.inflight.is_empty() || self.mode == Mode::Replicate);
    }

    fn clear_inflight(&mut self) {
        self.inflight.clear();
        self.inflight_bytes = 0;
    }
}
