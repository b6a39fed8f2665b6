//! What a simulated node keeps: the real log and the real snapshot files, on simulated disks.

use logboat::internals::Storage;
use logboat_raft::{GroupId, LogId, SnapshotMeta};
use logboat_storage::simulation::{InlineWal, SimDisk, SimSnapshotDisk};
use logboat_storage::{SnapshotError, SnapshotInfo, SnapshotStore};
use parking_lot::Mutex;
use std::io::{self, Read};

/// The snapshots of a node.
pub(super) type Snapshots = SnapshotStore<SimSnapshotDisk>;

/// The snapshot that a start finds: what it is of, and its content.
pub(super) type FoundSnapshot = (SnapshotMeta, Vec<u8>);

/// Reads the current snapshot of a group.
pub(super) fn read_snapshot(
    snapshots: &Snapshots,
    group: GroupId,
) -> Result<Option<FoundSnapshot>, SnapshotError> {
    let Some((meta, mut reader)) = snapshots.read(group)? else {
        return Ok(None);
    };
    let mut content = Vec::new();
    reader.read_to_end(&mut content).expect("a verified snapshot can be read");
    Ok(Some((meta, content)))
}

/// The log and the snapshots of a node that runs.
pub(super) struct HostStorage {
    pub(super) wal: Mutex<InlineWal<SimDisk>>,
    pub(super) snapshots: Snapshots,
    /// The snapshots that were adopted since this was last asked.
    adopted: Mutex<Vec<(GroupId, LogId)>>,
}

impl HostStorage {
    pub(super) fn new(wal: InlineWal<SimDisk>, snapshots: Snapshots) -> Self {
        Self { wal: Mutex::new(wal), snapshots, adopted: Mutex::default() }
    }

    /// The snapshots that were adopted since the last call.
    pub(super) fn take_adopted(&self) -> Vec<(GroupId, LogId)> {
        std::mem::take(&mut *self.adopted.lock())
    }
}

impl Storage for HostStorage {
    fn open_received(&self, group: GroupId, meta: &SnapshotMeta) -> io::Result<Box<dyn Read>> {
        self.snapshots.open_received(group, meta)
    }

    fn adopt_snapshot(&self, group: GroupId, last: LogId) -> io::Result<()> {
        self.snapshots.adopt_snapshot(group, last)?;
        self.adopted.lock().push((group, last));
        Ok(())
    }

    fn discard_snapshot(&self, group: GroupId, last: LogId) {
        self.snapshots.discard_snapshot(group, last);
    }

    /// None is so large that it keeps a replica from making the next one: there are to be many.
    fn current_snapshot(&self, group: GroupId) -> Option<SnapshotInfo> {
        let current = self.snapshots.current_snapshot(group)?;
        Some(SnapshotInfo { bytes: 0, ..current })
    }
}
