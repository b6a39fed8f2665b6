//! The snapshot storage that a replica uses while it runs, as an interface that a simulator can
//! replace.

use crate::background::pace::{Copying, Pace, Paced};
use crate::background::shortage::read_patiently;
use logboat_raft::{GroupId, LogId, SnapshotMeta};
use logboat_storage::simulation::SnapshotDisk;
use logboat_storage::{SnapshotError, SnapshotInfo, SnapshotStore};
use std::io;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

/// Adopts a snapshot that a leader sent.
pub trait Storage: Send + Sync {
    /// Opens the received snapshot that this is of, or the current one if that is it.
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

/// The snapshots of a node, which are opened later while descriptors are short, until the node
/// stops. Those that were received are read at the node's pace.
pub(crate) struct PatientStorage<D: SnapshotDisk, F> {
    snapshots: SnapshotStore<D>,
    pace: Arc<Pace>,
    is_over: F,
}

impl<D: SnapshotDisk, F: Fn() -> bool> PatientStorage<D, F> {
    pub(crate) const fn new(snapshots: SnapshotStore<D>, pace: Arc<Pace>, is_over: F) -> Self {
        Self { snapshots, pace, is_over }
    }
}

impl<D: SnapshotDisk, F: Fn() -> bool + Send + Sync> Storage for PatientStorage<D, F> {
    fn open_received(&self, group: GroupId, meta: &SnapshotMeta) -> io::Result<Box<dyn io::Read>> {
        let mut copying = Copying::uncounted(&self.pace);
        let read = || {
            let has_read = |bytes| copying.moved(bytes, false);
            self.snapshots.read_received_at(group, meta, has_read)
        };
        let reader = read_patiently(group, read, SnapshotError::passes, &self.is_over);
        Ok(Box::new(Paced { reader: reader.map_err(io::Error::other)?, copying }))
    }

    fn adopt_snapshot(&self, group: GroupId, last: LogId) -> io::Result<()> {
        self.snapshots.adopt_snapshot(group, last)
    }

    fn discard_snapshot(&self, group: GroupId, last: LogId) {
        self.snapshots.discard_snapshot(group, last);
    }

    fn current_snapshot(&self, group: GroupId) -> Option<SnapshotInfo> {
        self.snapshots.current_snapshot(group)
    }
}

impl<D: SnapshotDisk> Storage for SnapshotStore<D> {
    fn open_received(&self, group: GroupId, meta: &SnapshotMeta) -> io::Result<Box<dyn io::Read>> {
        Ok(Box::new(self.read_received(group, meta).map_err(io::Error::other)?))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::background::pace::Paces;
    use logboat_raft::{Configuration, Index, NodeId, Term};
    use logboat_storage::simulation::SimSnapshotDisk;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn a_snapshot_for_which_descriptors_are_short_is_opened_later_unless_the_node_stops() {
        let disk = SimSnapshotDisk::default();
        let snapshots = SnapshotStore::open_on(disk.clone()).unwrap();
        let configuration = Configuration::founding(&[NodeId(1)], None).into();
        let meta = SnapshotMeta { last: LogId::new(Term(1), Index(7)), configuration };
        snapshots.create(GroupId(1), meta.clone()).unwrap().finish().unwrap();
        let asked = Arc::new(AtomicU64::new(0));
        for stops in [false, true] {
            disk.refuse_files(true);
            let (asked, disk) = (Arc::clone(&asked), disk.clone());
            // Whoever waits asks that before each new attempt.
            let is_over = move || {
                disk.refuse_files(stops);
                asked.fetch_add(1, Ordering::Relaxed);
                stops
            };
            let pace = Paces::new(u64::MAX).arriving;
            let storage = PatientStorage::new(snapshots.clone(), pace, is_over);
            assert_eq!(storage.open_received(GroupId(1), &meta).is_err(), stops);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
