//! Files that are being written and have no name that lasts.

use super::disk::{SnapshotDisk, SnapshotFile};
use super::error::SnapshotError;
use super::file::{COPY_BYTES, Header};
use super::shared::{Known, Shared};
use logboat_raft::GroupId;
use std::io::{BufWriter, Seek, Write};
use std::sync::Arc;

/// A file under a temporary name, removed when it has not got another by the end.
#[derive(Debug)]
pub(super) struct Temporary<D: SnapshotDisk> {
    pub(super) shared: Arc<Shared<D>>,
    pub(super) file: BufWriter<D::File>,
    pub(super) name: String,
    group: GroupId,
    number: u64,
}

impl<D: SnapshotDisk> Temporary<D> {
    /// An empty file.
    pub(super) fn create(shared: &Arc<Shared<D>>, group: GroupId) -> Result<Self, SnapshotError> {
        let (name, number) = shared.temporary_name(group);
        let file = shared.disk.create(&name).map_err(|e| shared.failure(&name, e))?;
        shared.known.lock().unfinished.insert((group, number));
        Ok(Self {
            shared: Arc::clone(shared),
            file: BufWriter::with_capacity(COPY_BYTES, file),
            name,
            group,
            number,
        })
    }

    /// Checks that the replica for which the file is has not gone meanwhile.
    pub(super) fn check(&self, known: &Known) -> Result<(), SnapshotError> {
        let is_wanted = known.unfinished.contains(&(self.group, self.number));
        if is_wanted { Ok(()) } else { Err(SnapshotError::Removed(self.group)) }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let written = self.file.write_all(bytes);
        written.map_err(|e| self.shared.failure(&self.name, e))
    }

    /// Writes out what is buffered, then the header, and makes it all durable.
    pub(super) fn complete(&mut self, header: Option<&Header>) -> Result<(), SnapshotError> {
        let mut complete = || {
            self.file.flush()?;
            let file = self.file.get_mut();
            if let Some(header) = header {
                file.rewind()?;
                file.write_all(&header.encode())?;
            }
            file.sync()
        };
        complete().map_err(|e| self.shared.failure(&self.name, e))
    }
}

impl<D: SnapshotDisk> Drop for Temporary<D> {
    fn drop(&mut self) {
        self.shared.known.lock().unfinished.remove(&(self.group, self.number));
        // After a rename there is nothing of this name, and a file that stays goes at the next
        // start.
        let _ = self.shared.disk.remove(&self.name);
    }
}
