//! The snapshot storage that a replica uses while it runs, as an interface that a simulator can
//! replace.

use crate::background::shortage::read_patiently;
use logboat_raft::{GroupId, LogId, SnapshotMeta};
use logboat_storage::simulation::SnapshotDisk;
use logboat_storage::{SnapshotError, SnapshotInfo, SnapshotStore};
use std::io;
#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// The group's current snapshot, if there is one. All groups share a lock for that.
    fn current_snapshot(&self, group: GroupId) -> Option<SnapshotInfo>;
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

    fn current_snapshot(&self, group: GroupId) -> Option<SnapshotInfo> {
        self.latest(group)
    }
}

/// Storage of replicas that have nothing to do with snapshots, whatever the size of theirs.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct NoStorage {
    pub(crate) snapshot_bytes: u64,
    /// How often it was asked about one.
    pub(crate) questions: Arc<AtomicUsize>,
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

    fn current_snapshot(&self, _: GroupId) -> Option<SnapshotInfo> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        Some(SnapshotInfo { last: LogId::default(), bytes: self.snapshot_bytes })
    }
}
