//! The snapshot storage that a replica uses while it runs, as an interface that a simulator can
//! replace.

use crate::background::shortage::read_patiently;
use logboat_raft::{GroupId, LogId, SnapshotMeta};
use logboat_storage::simulation::SnapshotDisk;
use logboat_storage::{SnapshotError, SnapshotStore};
use std::io;

/// Adopts a snapshot that a leader sent.
pub trait Storage: Send + Sync {
    /// Opens the received snapshot that this is of, or the current one if that is it. Waits while
    /// descriptors are short.
    ///
    /// # Errors
    /// When it is missing or damaged.
    fn open_received(&self, group: GroupId, meta: &SnapshotMeta) -> io::Result<Box<dyn io::Read>>;

    /// Makes the received snapshot that covers the log up to `last` the group's current one,
    /// durably.
    ///
    /// # Errors
    /// When it is missing or can't be renamed.
    fn adopt_snapshot(&self, group: GroupId, last: LogId) -> io::Result<()>;

    /// Drops the received snapshot up to `last`, which the group has no use for.
    fn discard_snapshot(&self, group: GroupId, last: LogId);

    /// The last entry that the group's current snapshot covers, if there is one.
    fn current_snapshot(&self, group: GroupId) -> Option<LogId>;

    /// The size of the file of the group's current snapshot; zero if there is none.
    fn current_snapshot_bytes(&self, group: GroupId) -> u64;
}

impl<D: SnapshotDisk> Storage for SnapshotStore<D> {
    fn open_received(&self, group: GroupId, meta: &SnapshotMeta) -> io::Result<Box<dyn io::Read>> {
        let read = || self.read_received(group, meta);
        let reader = read_patiently(group, read, SnapshotError::passes, || false);
        Ok(Box::new(reader.map_err(io::Error::other)?))
    }

    fn adopt_snapshot(&self, group: GroupId, last: LogId) -> io::Result<()> {
        self.adopt(group, last).map(drop).map_err(io::Error::other)
    }

    fn discard_snapshot(&self, group: GroupId, last: LogId) {
        if let Err(error) = self.discard(group, last) {
            // The next start removes it at the latest.
            tracing::warn!(group = group.0, "removing a snapshot that is not needed: {error}");
        }
    }

    fn current_snapshot(&self, group: GroupId) -> Option<LogId> {
        self.latest(group).map(|snapshot| snapshot.last)
    }

    fn current_snapshot_bytes(&self, group: GroupId) -> u64 {
        self.latest(group).map_or(0, |snapshot| snapshot.bytes)
    }
}

/// Storage of replicas that have nothing to do with snapshots, whatever the size of theirs.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct NoStorage {
    pub(crate) snapshot_bytes: u64,
}

#[cfg(test)]
impl Storage for NoStorage {
    fn open_received(&self, _: GroupId, _: &SnapshotMeta) -> io::Result<Box<dyn io::Read>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn adopt_snapshot(&self, _: GroupId, _: LogId) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn discard_snapshot(&self, _: GroupId, _: LogId) {}

    fn current_snapshot(&self, _: GroupId) -> Option<LogId> {
        None
    }

    fn current_snapshot_bytes(&self, _: GroupId) -> u64 {
        self.snapshot_bytes
    }
}
