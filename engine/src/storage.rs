//! What a replica needs from its node's disk besides writing, as an interface that a simulator can
//! stand in for.

use logboat_raft::{Entry, GroupId, Index, LogId};
use logboat_storage::{Completion, ReadError, SnapshotStore, Wal};
use std::io;

/// Reads of the log, and the switch to a snapshot that a leader sent.
pub trait Storage: Send + Sync {
    /// Consecutive entries from `first` on, at most up to `last` and about `max_bytes`, at least
    /// one; none when the log no longer has `first`.
    ///
    /// # Errors
    /// When the log is damaged there.
    fn read(
        &self,
        group: GroupId,
        first: Index,
        last: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError>;

    /// Makes the received snapshot that covers the log up to `last` the group's current one, durably,
    /// and opens it.
    ///
    /// # Errors
    /// When it isn't there, is damaged or can't be renamed.
    fn adopt_snapshot(&self, group: GroupId, last: LogId) -> io::Result<Box<dyn io::Read>>;

    /// Drops the received snapshot up to `last`, which the group has no use for.
    fn discard_snapshot(&self, group: GroupId, last: LogId);
}

/// The node's log and snapshot files.
pub(crate) struct NodeStorage<C: Completion> {
    pub(crate) wal: Wal<C>,
    pub(crate) snapshots: SnapshotStore,
}

impl<C: Completion> Storage for NodeStorage<C> {
    fn read(
        &self,
        group: GroupId,
        first: Index,
        last: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.wal.read(group, first, last, max_bytes)
    }

    fn adopt_snapshot(&self, group: GroupId, last: LogId) -> io::Result<Box<dyn io::Read>> {
        self.snapshots.adopt(group, last).map_err(io::Error::other)?;
        match self.snapshots.read(group).map_err(io::Error::other)? {
            Some((found, reader)) if found == last => Ok(Box::new(reader)),
            Some(_) | None => Err(io::Error::other("the adopted snapshot is not there")),
        }
    }

    fn discard_snapshot(&self, group: GroupId, last: LogId) {
        if let Err(error) = self.snapshots.discard(group, last) {
            // It is removed at the next start at the latest.
            tracing::warn!(group = group.0, "removing a snapshot that is not needed: {error}");
        }
    }
}
