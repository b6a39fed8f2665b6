//! Follower reads: the linearizable reads that a replica took as a follower, and the read indexes
//! that its leader named for them.

use crate::{Index, ReadToken, Time};
use alloc::vec::Vec;
use core::time::Duration;

/// The reads of a follower, each with the index that the leader named for it.
#[derive(Debug, Default)]
pub(crate) struct FollowerReads {
    /// In no particular order. Few: callers batch their reads.
    reads: Vec<FollowerRead>,
    /// When the leader was last asked, about the first unanswered read or about all of them again.
    /// Without meaning while every read is answered.
    asked_at: Time,
}

#[derive(Clone, Copy, Debug)]
struct FollowerRead {
    /// The caller's name for it.
    token: ReadToken,
    /// Whether the leader may answer on its lease.
    lease: bool,
    /// The read index: how far to apply the log before the read is served. `None` until the leader
    /// has named it.
    index: Option<Index>,
    /// When it is given up.
    until: Time,
}

impl FollowerReads {
    /// Adds a read about which the leader is asked now, and which waits for `patience` at most.
    pub(crate) fn push(&mut self, token: ReadToken, lease: bool, now: Time, patience: Duration) {
        if self.unanswered().next().is_none() {
            self.asked_at = now;
        }
        self.reads.push(FollowerRead { token, lease, index: None, until: now + patience });
    }

    /// When there is something to do: to ask the leader again, or to give a read up.
    pub(crate) fn deadline(&self, timeout: Duration) -> Option<Time> {
        let given_up = self.reads.iter().map(|read| read.until).min();
        self.repeat_at(timeout).into_iter().chain(given_up).min()
    }

    /// When the leader's silence means that a question or its answer was lost; `None` when every
    /// read is answered.
    fn repeat_at(&self, timeout: Duration) -> Option<Time> {
        self.unanswered().next().map(|_| self.asked_at + timeout)
    }

    /// Whether it is time to ask the leader again. If so, the time begins anew.
    pub(crate) fn repeat(&mut self, now: Time, timeout: Duration) -> bool {
        let is_due = self.repeat_at(timeout).is_some_and(|deadline| deadline <= now);
        if is_due {
            self.asked_at = now;
        }
        is_due
    }

    /// The reads that the leader has not answered, and whether each may be served on its lease.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = (ReadToken, bool)> {
        let unanswered = self.reads.iter().filter(|read| read.index.is_none());
        unanswered.map(|read| (read.token, read.lease))
    }

    /// Notes the leader's answer, and drops the read if the leader refused it. Returns false when
    /// no read waits for that answer.
    pub(crate) fn answer(&mut self, token: ReadToken, index: Option<Index>) -> bool {
        let waits = |read: &FollowerRead| read.token == token && read.index.is_none();
        let Some(at) = self.reads.iter().position(waits) else {
            return false;
        };
        if index.is_some() {
            self.reads[at].index = index;
        } else {
            self.reads.swap_remove(at);
        }
        true
    }

    /// Takes the reads that the leader has not answered.
    pub(crate) fn take_unanswered(&mut self) -> impl Iterator<Item = ReadToken> {
        self.reads.extract_if(.., |read| read.index.is_none()).map(|read| read.token)
    }

    /// Takes the reads that have waited for too long.
    pub(crate) fn take_late(&mut self, now: Time) -> impl Iterator<Item = ReadToken> {
        self.reads.extract_if(.., move |read| read.until <= now).map(|read| read.token)
    }

    /// Takes the reads that can be served by a state machine that has applied `applied`.
    pub(crate) fn take_ready(&mut self, applied: Index) -> impl Iterator<Item = ReadToken> {
        let ready = move |read: &mut FollowerRead| read.index.is_some_and(|index| index <= applied);
        self.reads.extract_if(.., ready).map(|read| read.token)
    }
}
