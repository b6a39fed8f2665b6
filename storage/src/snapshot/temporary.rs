//! Files that are being written and have no name that lasts.

use super::disk::{SnapshotDisk, SnapshotFile};
use super::error::SnapshotError;
use super::file::{COPY_BYTES, Header};
use super::shared::{Known, Shared, temporary_name};
use logboat_raft::GroupId;
use std::io::{self, BufWriter, ErrorKind, Seek, Write};
use std::sync::Arc;

/// How much is written between two syncs. All at once in the end, it would hold up the log, whose
/// syncs wait for whatever the disk has to write.
const SYNC_BYTES: usize = 2 << 20;

/// A place among what is being written for the replica of a group. It is lost when the replica
/// goes.
#[derive(Debug)]
pub(super) struct Place<D> {
    pub(super) shared: Arc<Shared<D>>,
    group: GroupId,
    number: u64,
}

impl<D> Place<D> {
    /// Takes a place for the replica that the group has now.
    pub(super) fn take(shared: &Arc<Shared<D>>, group: GroupId) -> Self {
        let number = shared.next_number();
        shared.known.lock().unfinished.insert((group, number));
        Self { shared: Arc::clone(shared), group, number }
    }

    /// Checks that the replica has not gone meanwhile.
    pub(super) fn check(&self, known: &Known) -> Result<(), SnapshotError> {
        let is_wanted = known.unfinished.contains(&(self.group, self.number));
        if is_wanted { Ok(()) } else { Err(SnapshotError::Removed(self.group)) }
    }

    pub(super) const fn group(&self) -> GroupId {
        self.group
    }
}

impl<D> Drop for Place<D> {
    fn drop(&mut self) {
        self.shared.known.lock().unfinished.remove(&(self.group, self.number));
    }
}

/// A file under a temporary name, removed when it has not got another by the end.
#[derive(Debug)]
pub(super) struct Temporary<D: SnapshotDisk> {
    pub(super) place: Place<D>,
    pub(super) file: BufWriter<D::File>,
    pub(super) name: String,
    /// What was written since the last sync.
    unsynced_bytes: usize,
    /// Why a sync failed. None that comes later tells whether all is durable.
    failed_sync: Option<ErrorKind>,
}

impl<D: SnapshotDisk> Temporary<D> {
    /// An empty file for the replica whose place this is.
    pub(super) fn create(place: Place<D>) -> Result<Self, SnapshotError> {
        let shared = &place.shared;
        place.check(&shared.known.lock())?;
        let name = temporary_name(place.group, place.number);
        let file = shared.disk.create(&name).map_err(|e| shared.failure(&name, e))?;
        let file = BufWriter::with_capacity(COPY_BYTES, file);
        Ok(Self { place, file, name, unsynced_bytes: 0, failed_sync: None })
    }

    /// Writes some of what is to follow, and makes it durable in pieces.
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced_bytes += written;
        if self.unsynced_bytes >= SYNC_BYTES {
            self.file.flush()?;
            self.sync()?;
            self.unsynced_bytes = 0;
        }
        Ok(written)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let written = self.file.write_all(bytes);
        written.map_err(|e| self.place.shared.failure(&self.name, e))
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
            self.sync()
        };
        complete().map_err(|e| self.place.shared.failure(&self.name, e))
    }
}

impl<D: SnapshotDisk> Temporary<D> {
    fn sync(&mut self) -> io::Result<()> {
        if let Some(kind) = self.failed_sync {
            return Err(io::Error::new(kind, "an earlier sync of the file failed"));
        }
        let synced = self.file.get_ref().sync();
        self.failed_sync = synced.as_ref().err().map(io::Error::kind);
        synced
    }
}

impl<D: SnapshotDisk> Drop for Temporary<D> {
    fn drop(&mut self) {
        // After a rename there is nothing of this name, and a file that stays goes at the next
        // start.
        let _ = self.place.shared.disk.remove(&self.name);
    }
}
