//! Receives a snapshot that a peer sends.

use super::check::SnapshotCheck;
use super::disk::{FileSnapshotDisk, SnapshotDisk};
use super::error::SnapshotError;
use super::file::{SnapshotInfo, read_header};
use super::shared::{Received, Shared, received_name};
use super::temporary::{Place, Temporary};
use logboat_raft::{GroupId, LogId};
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

/// A peer's snapshot on its way in; the bytes of the whole file go in by [`Write`]. Dropped
/// unfinished, it leaves nothing.
#[derive(Debug)]
pub struct SnapshotReceiver<D: SnapshotDisk = FileSnapshotDisk> {
    temporary: Temporary<D>,
    group: GroupId,
    last: LogId,
    total_bytes: u64,
    left_bytes: u64,
}

impl<D: SnapshotDisk> SnapshotReceiver<D> {
    pub(super) fn create(
        shared: &Arc<Shared<D>>,
        group: GroupId,
        last: LogId,
        total_bytes: u64,
    ) -> Result<Self, SnapshotError> {
        let temporary = Temporary::create(Place::take(shared, group))?;
        Ok(Self { temporary, group, last, total_bytes, left_bytes: total_bytes })
    }

    /// Verifies the file from end to end and makes it durable.
    /// [`SnapshotStore::adopt`](super::SnapshotStore::adopt) makes the file current.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when it is not whole or not the one announced; when the disk
    /// refuses.
    pub fn finish(self) -> Result<SnapshotInfo, SnapshotError> {
        self.finish_at(|_| {})
    }

    /// Like [`Self::finish`], as fast as the caller allows: it is told of each piece that was
    /// verified, in bytes, and may rest then.
    ///
    /// # Errors
    /// As above.
    pub fn finish_at(self, has_read: impl FnMut(usize)) -> Result<SnapshotInfo, SnapshotError> {
        let mut temporary = self.temporary;
        temporary.complete(None)?;
        let path = temporary.place.shared.disk.path(&temporary.name);
        let damaged =
            |what: &str| SnapshotError::Damaged { file: path.clone(), what: what.to_owned() };
        if self.left_bytes > 0 {
            return Err(damaged("the peer sent less than it announced"));
        }
        // By the descriptor that is there: to open the file again might take one too many.
        let file = temporary.file.get_mut();
        let header = read_header(file, &path, self.group)?;
        let (header, _) = SnapshotCheck::of(header, file, path.clone())?.finish(has_read)?;
        let info = header.info();
        if info.last != self.last || info.bytes != self.total_bytes {
            return Err(damaged("the peer sent another snapshot than it announced"));
        }
        let shared = &temporary.place.shared;
        let mut known = shared.known.lock();
        temporary.place.check(&known)?;
        shared.rename(&temporary.name, &received_name(self.group, self.last))?;
        let received = known.received.entry((self.group, info.last));
        received.or_insert(Received { info, times: 0 }).times += 1;
        Ok(info)
    }
}

impl<D: SnapshotDisk> Write for SnapshotReceiver<D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left_bytes {
            let what = "the peer sent more of a snapshot than it announced";
            return Err(io::Error::new(ErrorKind::InvalidData, what));
        }
        let written = self.temporary.put(bytes)?;
        self.left_bytes -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.file.flush()
    }
}
