//! Writes a snapshot of the node's own state.

use super::disk::{FileSnapshotDisk, SnapshotDisk};
use super::error::SnapshotError;
use super::file::{Header, SnapshotInfo};
use super::shared::Shared;
use super::temporary::Temporary;
use logboat_raft::{GroupId, SnapshotMeta};
use std::io::{self, Write};
use std::sync::Arc;

/// A snapshot being written; its content goes in by [`Write`]. Dropped unfinished, it leaves
/// nothing.
#[derive(Debug)]
pub struct SnapshotWriter<D: SnapshotDisk = FileSnapshotDisk> {
    temporary: Temporary<D>,
    header: Header,
    crc: crc32fast::Hasher,
}

impl<D: SnapshotDisk> SnapshotWriter<D> {
    pub(super) fn create(
        shared: &Arc<Shared<D>>,
        group: GroupId,
        meta: SnapshotMeta,
    ) -> Result<Self, SnapshotError> {
        let mut temporary = Temporary::create(shared, group)?;
        let header = Header { group, meta, content_bytes: 0, crc: 0 };
        // The header comes last, when length and checksum are known.
        temporary.write(&vec![0; header.bytes()])?;
        Ok(Self { temporary, header, crc: crc32fast::Hasher::new() })
    }

    /// Makes the snapshot durable and the group's current one.
    ///
    /// # Errors
    /// [`SnapshotError::Superseded`] when there is one as new by now; when the disk refuses. The
    /// previous snapshot stays.
    pub fn finish(self) -> Result<SnapshotInfo, SnapshotError> {
        let header = Header { crc: self.crc.finalize(), ..self.header };
        let mut temporary = self.temporary;
        temporary.complete(Some(&header))?;
        let shared = &temporary.shared;
        let mut known = shared.known.lock();
        temporary.check(&known)?;
        shared.make_current(&mut known, header.group, header.info(), &temporary.name)?;
        Ok(header.info())
    }
}

impl<D: SnapshotDisk> Write for SnapshotWriter<D> {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let written = self.temporary.file.write(content)?;
        self.crc.update(&content[..written]);
        self.header.content_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.file.flush()
    }
}
