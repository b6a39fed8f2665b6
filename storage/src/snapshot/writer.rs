//! Writes a snapshot of the node's own state.

use super::disk::{FileSnapshotDisk, SnapshotDisk};
use super::error::SnapshotError;
use super::file::{Header, SnapshotInfo};
use super::shared::Shared;
use super::temporary::{Place, Temporary};
use logboat_raft::{GroupId, SnapshotMeta};
use std::io::{self, Write};
use std::sync::Arc;

/// The right to write a snapshot of the replica that a group had when it was given out, which ends
/// when that replica is removed.
#[derive(Debug)]
pub struct SnapshotTicket<D = FileSnapshotDisk>(Place<D>);

impl<D: SnapshotDisk> SnapshotTicket<D> {
    pub(super) fn new(shared: &Arc<Shared<D>>, group: GroupId) -> Self {
        Self(Place::take(shared, group))
    }

    /// Begins the snapshot.
    ///
    /// # Errors
    /// [`SnapshotError::Removed`] when the replica is gone by now; when the file can't be made.
    pub fn create(self, meta: SnapshotMeta) -> Result<SnapshotWriter<D>, SnapshotError> {
        let group = self.0.group();
        let mut temporary = Temporary::create(self.0)?;
        let header = Header { group, meta, content_bytes: 0, crc: 0 };
        // The header comes last, when length and checksum are known.
        temporary.write(&vec![0; header.bytes()])?;
        Ok(SnapshotWriter { temporary, header, crc: crc32fast::Hasher::new() })
    }
}

/// A snapshot being written; its content goes in by [`Write`]. Dropped unfinished, it leaves
/// nothing.
#[derive(Debug)]
pub struct SnapshotWriter<D: SnapshotDisk = FileSnapshotDisk> {
    temporary: Temporary<D>,
    header: Header,
    crc: crc32fast::Hasher,
}

impl<D: SnapshotDisk> SnapshotWriter<D> {
    /// Makes the snapshot durable and the group's current one.
    ///
    /// # Errors
    /// [`SnapshotError::Superseded`] when there is one as new by now; when the disk refuses. The
    /// previous snapshot stays.
    pub fn finish(self) -> Result<SnapshotInfo, SnapshotError> {
        let header = Header { crc: self.crc.finalize(), ..self.header };
        let mut temporary = self.temporary;
        temporary.complete(Some(&header))?;
        let shared = &temporary.place.shared;
        let mut known = shared.known.lock();
        temporary.place.check(&known)?;
        shared.make_current(&mut known, header.group, header.info(), &temporary.name)?;
        Ok(header.info())
    }
}

impl<D: SnapshotDisk> Write for SnapshotWriter<D> {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let written = self.temporary.put(content)?;
        self.crc.update(&content[..written]);
        self.header.content_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.file.flush()
    }
}
