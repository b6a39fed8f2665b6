//! The content of a snapshot.

use super::check::SnapshotCheck;
use super::disk::SnapshotDisk;
use super::error::{SnapshotError, failure};
use super::file::COPY_BYTES;
use logboat_raft::{GroupId, SnapshotMeta};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// The content of a snapshot that was verified.
#[derive(Debug)]
pub struct SnapshotReader<F = File> {
    content: BufReader<io::Take<F>>,
}

impl<F: Read + Seek> SnapshotReader<F> {
    /// Verifies all of a file, a piece after the other, and opens its content. Returns what it is
    /// of, too.
    pub(super) fn open<D: SnapshotDisk<File = F>>(
        disk: &D,
        name: &str,
        group: GroupId,
        has_read: impl FnMut(usize),
    ) -> Result<(SnapshotMeta, Self), SnapshotError> {
        let (header, mut file) = SnapshotCheck::open(disk, name, group)?.finish(has_read)?;
        let start = SeekFrom::Start(header.bytes() as u64);
        file.seek(start).map_err(|e| failure(disk.path(name), e))?;
        let content = BufReader::with_capacity(COPY_BYTES, file.take(header.content_bytes));
        Ok((header.meta, Self { content }))
    }
}

impl<F: Read> Read for SnapshotReader<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer)
    }
}
