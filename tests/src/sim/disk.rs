//! What a simulated node keeps: the real log on a simulated disk, and snapshot files in memory that
//! are switched as atomically as a rename.

use bytes::Bytes;
use logboat::storage::Storage;
use logboat_raft::{Entry, GroupId, Index, LogId};
use logboat_storage::ReadError;
use logboat_storage::simulation::{InlineWal, SimDisk};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The snapshots of a node, which survive its crashes.
#[derive(Debug, Default)]
pub(super) struct SnapshotFiles {
    current: BTreeMap<GroupId, (LogId, Bytes)>,
    received: BTreeMap<GroupId, (LogId, Bytes)>,
}

impl SnapshotFiles {
    pub(super) fn current(&self, group: GroupId) -> Option<(LogId, Bytes)> {
        self.current.get(&group).cloned()
    }

    /// Switches to this snapshot, unless the current one covers as much.
    pub(super) fn make_current(&mut self, group: GroupId, last: LogId, content: Bytes) {
        if self.current.get(&group).is_none_or(|(current, _)| current.index < last.index) {
            self.current.insert(group, (last, content));
        }
    }

    pub(super) fn receive(&mut self, group: GroupId, last: LogId, content: Bytes) {
        self.received.insert(group, (last, content));
    }
}

/// The log and the snapshots of a node that runs.
pub(super) struct HostStorage {
    pub(super) wal: Mutex<InlineWal<SimDisk>>,
    pub(super) snapshots: Arc<Mutex<SnapshotFiles>>,
    /// A snapshot was adopted since this was last asked.
    adopted: AtomicBool,
}

impl HostStorage {
    pub(super) fn new(wal: InlineWal<SimDisk>, snapshots: Arc<Mutex<SnapshotFiles>>) -> Self {
        Self { wal: Mutex::new(wal), snapshots, adopted: AtomicBool::new(false) }
    }

    /// Whether a snapshot was adopted since the last call.
    pub(super) fn take_adopted(&self) -> bool {
        self.adopted.swap(false, Ordering::Relaxed)
    }
}

impl Storage for HostStorage {
    fn read(
        &self,
        group: GroupId,
        first: Index,
        last: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.wal.lock().read(group, first, last, max_bytes)
    }

    fn adopt_snapshot(&self, group: GroupId, last: LogId) -> io::Result<Box<dyn io::Read>> {
        let mut files = self.snapshots.lock();
        match files.received.remove(&group) {
            Some((found, content)) if found == last => {
                files.make_current(group, last, content.clone());
                self.adopted.store(true, Ordering::Relaxed);
                Ok(Box::new(Cursor::new(content)))
            }
            Some(_) | None => Err(io::Error::other("no such snapshot was received")),
        }
    }

    fn discard_snapshot(&self, group: GroupId) {
        self.snapshots.lock().received.remove(&group);
    }
}
