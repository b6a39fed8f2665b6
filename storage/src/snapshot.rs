//! Snapshot files: one a group.

use logboat_raft::{GroupId, LogId};
use std::io;
use std::path::Path;

/// Why a snapshot can't be written, read or taken over.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What is known of a snapshot without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The last entry that it covers.
    pub last: LogId,
    /// The size of the whole file in bytes, which is what a peer is sent.
    pub bytes: u64,
}

/// The snapshots of all groups of a node. Methods may be called from any thread.
#[derive(Debug)]
pub struct SnapshotStore {}

impl SnapshotStore {
    /// Opens the store.
    ///
    /// # Errors
    /// When the directory can't be made or read.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let _ = path;
        todo!()
    }

    /// The group's current snapshot.
    #[must_use]
    pub fn latest(&self, group: GroupId) -> Option<SnapshotInfo> {
        let _ = group;
        todo!()
    }

    /// Begins a snapshot of the group's own state machine.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn create(&self, group: GroupId, last: LogId) -> Result<SnapshotWriter, SnapshotError> {
        let _ = (group, last);
        todo!()
    }

    /// Opens the group's current snapshot after verifying all of it.
    ///
    /// # Errors
    /// When it can't be read or is damaged.
    pub fn read(&self, group: GroupId) -> Result<Option<(LogId, SnapshotReader)>, SnapshotError> {
        let _ = group;
        todo!()
    }

    /// The whole file of the group's current snapshot (header and checksum included), as a peer is
    /// sent it; pair of [`Self::receive`].
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn file(
        &self,
        group: GroupId,
    ) -> Result<Option<(SnapshotInfo, std::fs::File)>, SnapshotError> {
        let _ = group;
        todo!()
    }

    /// Begins to receive the whole file of a peer's snapshot.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn receive(
        &self,
        group: GroupId,
        last: LogId,
        total_bytes: u64,
    ) -> Result<SnapshotReceiver, SnapshotError> {
        let _ = (group, last, total_bytes);
        todo!()
    }

    /// Makes the received snapshot the current one, atomically.
    ///
    /// # Errors
    /// When no snapshot with this `last` was received.
    pub fn adopt(&self, group: GroupId, last: LogId) -> Result<SnapshotInfo, SnapshotError> {
        let _ = (group, last);
        todo!()
    }

    /// Removes what was received for the group and not adopted.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub fn discard(&self, group: GroupId) -> Result<(), SnapshotError> {
        let _ = group;
        todo!()
    }
}

/// A snapshot being written. Dropping it unfinished removes it.
#[derive(Debug)]
pub struct SnapshotWriter {}

impl SnapshotWriter {
    /// Makes the snapshot durable and the group's current one.
    ///
    /// # Errors
    /// When the disk refuses; the previous snapshot stays.
    pub fn finish(self) -> Result<SnapshotInfo, SnapshotError> {
        todo!()
    }
}

impl io::Write for SnapshotWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The content of a verified snapshot.
#[derive(Debug)]
pub struct SnapshotReader {}

impl io::Read for SnapshotReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let _ = buf;
        todo!()
    }
}

/// A peer's snapshot on its way in, an [`io::Write`]. Dropping it unfinished removes it.
#[derive(Debug)]
pub struct SnapshotReceiver {}

impl SnapshotReceiver {
    /// Verifies the file end to end and makes it durable; [`SnapshotStore::adopt`] makes it current.
    ///
    /// # Errors
    /// When it is not whole, not the one announced, or the disk refuses.
    pub fn finish(self) -> Result<SnapshotInfo, SnapshotError> {
        todo!()
    }
}

impl io::Write for SnapshotReceiver {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
