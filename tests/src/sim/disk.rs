//! What a simulated node keeps: the real log on a simulated disk, and snapshot files in memory that
//! are switched as atomically as a rename.

use bytes::Bytes;
use logboat::internals::Storage;
use logboat_raft::{GroupId, LogId};
use logboat_storage::simulation::{InlineWal, SimDisk};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::sync::Arc;

/// The snapshots of a node, which survive its crashes.
#[derive(Debug, Default)]
pub(super) struct SnapshotFiles {
    current: BTreeMap<GroupId, (LogId, Bytes)>,
    received: BTreeMap<(GroupId, LogId), Bytes>,
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
        self.received.insert((group, last), content);
    }
}

/// The log and the snapshots of a node that runs.
pub(super) struct HostStorage {
    pub(super) wal: Mutex<InlineWal<SimDisk>>,
    pub(super) snapshots: Arc<Mutex<SnapshotFiles>>,
    /// The snapshots that were adopted since this was last asked.
    adopted: Mutex<Vec<(GroupId, LogId)>>,
}

impl HostStorage {
    pub(super) fn new(wal: InlineWal<SimDisk>, snapshots: Arc<Mutex<SnapshotFiles>>) -> Self {
        Self { wal: Mutex::new(wal), snapshots, adopted: Mutex::default() }
    }

    /// The snapshots that were adopted since the last call.
    pub(super) fn take_adopted(&self) -> Vec<(GroupId, LogId)> {
        std::mem::take(&mut *self.adopted.lock())
    }
}

impl Storage for HostStorage {
    fn open_received(&self, group: GroupId, last: LogId) -> io::Result<Box<dyn io::Read>> {
        let files = self.snapshots.lock();
        let content = match files.current(group) {
            Some((current, content)) if current == last => content,
            _ => {
                let content = files.received.get(&(group, last)).cloned();
                content.ok_or_else(|| io::Error::other("no such snapshot was received"))?
            }
        };
        Ok(Box::new(Cursor::new(content)))
    }

    fn adopt_snapshot(&self, group: GroupId, last: LogId) -> io::Result<()> {
        let mut files = self.snapshots.lock();
        let content = match files.current(group) {
            Some((current, content)) if current == last => content,
            _ => {
                let content = files.received.remove(&(group, last));
                content.ok_or_else(|| io::Error::other("no such snapshot was received"))?
            }
        };
        files.make_current(group, last, content);
        self.adopted.lock().push((group, last));
        Ok(())
    }

    fn discard_snapshot(&self, group: GroupId, last: LogId) {
        self.snapshots.lock().received.remove(&(group, last));
    }
}
