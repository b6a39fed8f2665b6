//! What a leader knows of one follower's log, and how much it has sent ahead of the answers.

use crate::{Conflict, Epoch, Index, LogId, NodeId, Time, Tuning, log::Log, reserve_one};
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
        /// The least that the snapshot covers.
        sent: LogId,
        /// From when on the follower's word that it still lacks the snapshot starts another. `None`
        /// while it is on its way.
        again: Option<Time>,
    },
}

/// A follower as its leader sees it.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) node: NodeId,
    /// Up to here the follower's log is durable and equal to the leader's (matchIndex).
    pub(crate) matched: Index,
    /// The next entry to send (nextIndex). Always above `matched`.
    pub(crate) next: Index,
    pub(crate) mode: Mode,
    /// The last entry that it applied, once it said so.
    pub(crate) applied: Option<Index>,
    /// The epoch at which it is bound to this leader's node, once it said so in this term.
    pub(crate) fortified: Option<Epoch>,
    /// The commit index that it was told of last.
    told: Index,
    /// When it was last sent anything that tells of one.
    said: Time,
    /// When it was last asked to say at which epoch it is bound.
    asked_bond: Time,
    /// Since when the oldest unanswered append or snapshot waits for progress.
    since: Time,
    /// Last index and payload bytes of each append in flight, oldest first.
    inflight: VecDeque<(Index, usize)>,
    inflight_bytes: usize,
}

impl Progress {
    /// A follower of a leader that was just elected and has `next` yet to write.
    pub(crate) const fn new(node: NodeId, next: Index, now: Time) -> Self {
        Self {
            node,
            matched: Index(0),
            applied: None,
            next,
            mode: Mode::Probe { waiting: false },
            fortified: None,
            told: Index(0),
            said: now,
            asked_bond: now,
            since: now,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
        }
    }

    pub(crate) fn inflight_messages(&self) -> usize {
        self.inflight.len()
    }

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
    pub(crate) fn sent(&mut self, last: Index, bytes: usize, now: Time) {
        if self.inflight.is_empty() {
            self.since = now;
        }
        reserve_one::push_back(&mut self.inflight, (last, bytes));
        self.inflight_bytes += bytes;
        self.next = last.next();
    }

    /// Notes that a probe is out; nothing more goes to the follower before its answer.
    pub(crate) fn probed(&mut self, now: Time) {
        self.mode = Mode::Probe { waiting: true };
        self.since = now;
    }

    /// Notes that a snapshot which covers at least `sent` was asked for.
    pub(crate) fn snapshot_sent(&mut self, sent: LogId, now: Time) {
        self.clear_inflight();
        self.mode = Mode::Snapshot { sent, again: None };
        self.since = now;
    }

    /// Notes that the snapshot has left. Nobody says whether it arrived but the follower, which may
    /// take until `again` to have it on its disk.
    pub(crate) fn snapshot_left(&mut self, again: Time) {
        if let Mode::Snapshot { sent, again: None } = self.mode {
            let again = Some(again);
            self.mode = Mode::Snapshot { sent, again };
        }
    }

    /// Notes that another question about a snapshot is out.
    pub(crate) const fn asked(&mut self, now: Time) {
        self.since = now;
    }

    /// Takes the follower's word on what it applied, which may be old.
    pub(crate) fn applied(&mut self, applied: Index) {
        self.applied = self.applied.max(Some(applied));
    }

    /// Takes an acknowledgement up to `through`, which may be old: it stays true for ever, since
    /// it was durable. Returns whether it is news.
    pub(crate) fn acknowledged(&mut self, through: Index, now: Time) -> bool {
        let news = through > self.matched;
        self.matched = self.matched.max(through);
        while let Some(&(last, bytes)) = self.inflight.front()
            && last <= self.matched
        {
            self.inflight.pop_front();
            self.inflight_bytes -= bytes;
        }
        if news {
            self.since = now;
        }
        self.next = self.next.max(self.matched.next());
        match self.mode {
            Mode::Replicate => {}
            Mode::Snapshot { sent, .. } if through < sent.index => {}
            Mode::Probe { .. } | Mode::Snapshot { .. } => {
                self.mode = Mode::Replicate;
                self.next = self.matched.next();
            }
        }
        news
    }

    /// Takes the refusal of the append after `prev`: goes back to where `conflict` says that the
    /// logs may meet. Returns false when the refusal is old and says nothing new.
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
            Mode::Snapshot { sent, again } => {
                return again.is_some_and(|again| again <= now) && prev == sent.index;
            }
            Mode::Probe { .. } | Mode::Replicate => {}
        }
        let meet = match conflict.x_term {
            None => conflict.x_len,
            Some(term) => log.last_of_term(term).map_or(conflict.x_index, Index::next),
        };
        // Two logs that share a term share its first index, so `meet` lies at or before `prev`
        // unless the answer is nonsense; going back at least one place keeps the search finite.
        self.next = meet.min(prev).max(self.matched.next());
        self.mode = Mode::Probe { waiting: false };
        self.clear_inflight();
        true
    }

    /// What is in flight may be lost: start over after the last entry known to be there. Where
    /// that is not known yet, the same question is asked again.
    pub(crate) fn lost(&mut self) {
        match self.mode {
            Mode::Probe { .. } => self.mode = Mode::Probe { waiting: false },
            Mode::Replicate if self.inflight.is_empty() => {}
            Mode::Replicate => {
                self.mode = Mode::Probe { waiting: false };
                self.next = self.matched.next();
                self.clear_inflight();
            }
            Mode::Snapshot { sent, .. } => {
                let again = Some(Time(0));
                self.mode = Mode::Snapshot { sent, again };
            }
        }
    }

    /// Notes that it was told of the leader's commit index, cut to what it holds if need be.
    pub(crate) fn told(&mut self, commit: Index, now: Time) {
        self.told = commit;
        self.said = now;
    }

    /// Notes that it was asked to bind itself and to say so.
    pub(crate) const fn bond_asked(&mut self, now: Time) {
        self.asked_bond = now;
    }

    /// When to send it a word of its own: it may not know of everything that is committed and that it
    /// holds, or not have applied that, or not be bound at the epoch at which its node supports this
    /// one. Appends bind it as well, but are no reason to put off the question whether they did.
    pub(crate) fn word_deadline(
        &self,
        received: Epoch,
        commit: Index,
        tuning: &Tuning,
    ) -> Option<Time> {
        let due = commit.min(self.matched);
        let commit = if self.told < due {
            Some(self.said + tuning.commit_delay)
        } else {
            let lags = self.applied.is_none_or(|applied| applied < due);
            lags.then(|| self.said + tuning.retransmit_timeout)
        };
        let unbound = self.fortified != Some(received);
        let bond = unbound.then(|| self.asked_bond + tuning.retransmit_timeout);
        commit.into_iter().chain(bond).min()
    }

    /// Whether it is not known yet that the follower has all that was sent.
    pub(crate) fn is_unanswered(&self) -> bool {
        match self.mode {
            Mode::Probe { .. } => true,
            Mode::Replicate => !self.inflight.is_empty(),
            Mode::Snapshot { .. } => true,
        }
    }

    /// When silence means that something was lost; `None` when nothing is unanswered.
    pub(crate) fn deadline(&self, timeout: Duration) -> Option<Time> {
        self.is_unanswered().then(|| self.since + timeout)
    }

    /// Panics when the fields contradict each other or the leader's log.
    pub(crate) fn invariants(&self, log: &Log) {
        assert!(self.matched < self.next && self.next <= log.last().next());
        assert!(self.inflight.iter().is_sorted_by(|a, b| a.0 < b.0));
        assert!(self.inflight.iter().all(|&(last, _)| last > self.matched && last < self.next));
        assert_eq!(
            self.inflight_bytes,
            self.inflight.iter().map(|&(_, bytes)| bytes).sum::<usize>()
        );
        assert!(self.inflight.is_empty() || self.mode == Mode::Replicate);
    }

    fn clear_inflight(&mut self) {
        self.inflight.clear();
        self.inflight_bytes = 0;
    }
}
