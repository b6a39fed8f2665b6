//! Checks a snapshot piece by piece.

use super::disk::SnapshotDisk;
use super::error::{SnapshotError, failure};
use super::file::{COPY_BYTES, Header, open_header};
use logboat_raft::GroupId;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// A snapshot that is being read to find whether it is what was written, as fast as the caller
/// asks for pieces.
#[derive(Debug)]
pub struct SnapshotCheck<F = File> {
    header: Header,
    file: F,
    path: PathBuf,
    crc: crc32fast::Hasher,
    buffer: Vec<u8>,
}

impl<F: Read + Seek> SnapshotCheck<F> {
    /// Opens a file and checks its header.
    pub(super) fn open<D: SnapshotDisk<File = F>>(
        disk: &D,
        name: &str,
        group: GroupId,
    ) -> Result<Self, SnapshotError> {
        let (header, file) = open_header(disk, name, group)?;
        Self::of(header, file, disk.path(name))
    }

    /// Of an open file that has this header.
    pub(super) fn of(header: Header, mut file: F, path: PathBuf) -> Result<Self, SnapshotError> {
        let content = SeekFrom::Start(header.bytes() as u64);
        file.seek(content).map_err(|e| failure(path.clone(), e))?;
        let (crc, buffer) = (crc32fast::Hasher::new(), vec![0; COPY_BYTES]);
        Ok(Self { header, file, path, crc, buffer })
    }

    /// Reads the next piece, of 64 KiB at the most. Returns its length in bytes, and `None` when
    /// all has been read and is what was written.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when it is not, and when the disk can't be read.
    pub fn next_piece(&mut self) -> Result<Option<usize>, SnapshotError> {
        let read = loop {
            match self.file.read(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.map_err(|e: io::Error| failure(self.path.clone(), e))?,
            }
        };
        if read > 0 {
            self.crc.update(&self.buffer[..read]);
            return Ok(Some(read));
        }
        if self.crc.clone().finalize() != self.header.crc {
            let what = "the content fails its checksum".to_owned();
            return Err(SnapshotError::Damaged { file: self.path.clone(), what });
        }
        Ok(None)
    }

    /// Reads all that is left, and says of each piece how long it was. Returns the header, and the
    /// file at any place.
    pub(super) fn finish(
        mut self,
        mut has_read: impl FnMut(usize),
    ) -> Result<(Header, F), SnapshotError> {
        while let Some(bytes) = self.next_piece()? {
            has_read(bytes);
        }
        Ok((self.header, self.file))
    }
}
