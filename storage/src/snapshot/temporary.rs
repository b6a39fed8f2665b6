//! Files that are being written and have no name that lasts.

use super::error::{SnapshotError, failure};
use super::file::{COPY_BYTES, Header};
use super::shared::Shared;
use crate::files::new_file;
use logboat_raft::GroupId;
use rustix::fs::fdatasync;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// A file under a temporary name, removed when it has not got another by the end.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) shared: Arc<Shared>,
    pub(super) file: BufWriter<File>,
    pub(super) path: PathBuf,
}

impl Temporary {
    /// An empty file.
    pub(super) fn create(shared: &Arc<Shared>, group: GroupId) -> Result<Self, SnapshotError> {
        let path = shared.temporary_path(group);
        let file = new_file().read(true).open(&path).map_err(|e| failure(&path, e))?;
        Ok(Self {
            shared: Arc::clone(shared),
            file: BufWriter::with_capacity(COPY_BYTES, file),
            path,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let written = self.file.write_all(bytes);
        written.map_err(|e| failure(&self.path, e))
    }

    /// Writes out what is buffered, then the header, and makes it all durable.
    pub(super) fn complete(&mut self, header: Option<&Header>) -> Result<(), SnapshotError> {
        let mut complete = || {
            self.file.flush()?;
            let file = self.file.get_ref();
            if let Some(header) = header {
                file.write_all_at(&header.encode(), 0)?;
            }
            Ok(fdatasync(file)?)
        };
        complete().map_err(|e| failure(&self.path, e))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing of this name, and a file that stays goes at the next
        // start.
        let _ = fs::remove_file(&self.path);
    }
}
