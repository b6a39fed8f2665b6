//! The log without threads: for simulations and tests, where the caller decides when it syncs.

use super::disk::{Disk, SimDisk, SimSegment};
use super::error::{ReadError, WalError, WriteError};
use super::options::WalOptions;
use super::recovery::{Recovered, recover};
use super::segments::SegmentPool;
use super::write::{Log, Unsynced, Written};
use logboat_raft::{Entry, Grant, GroupId, Index, LogPosition, NodeId, Persist};
use std::io;

/// The same log as [`Wal`](super::Wal), with the same files, driven by the caller's thread.
pub struct InlineWal<D: Disk> {
    log: Log<D>,
    pool: SegmentPool<D>,
}

impl<D: Disk> InlineWal<D> {
    /// Opens the log on a disk and recovers what it holds.
    ///
    /// # Errors
    /// [`WalError`].
    pub fn open(disk: D, options: WalOptions) -> Result<(Self, Recovered), WalError> {
        Self::open_past(disk, options, LogPosition::default(), |_| Ok(()))
    }

    /// Like [`Self::open`], but refuses a log that ends before `known_end`, and tells `found` where
    /// it ends, before anything is written.
    ///
    /// # Errors
    /// [`WalError`].
    pub fn open_past(
        disk: D,
        options: WalOptions,
        known_end: LogPosition,
        found: impl FnOnce(LogPosition) -> io::Result<()>,
    ) -> Result<(Self, Recovered), WalError> {
        let (log, pool, recovered) = recover(disk, options, known_end, found)?;
        Ok((Self { log, pool }, recovered))
    }

    /// Writes a batch, in a new segment if need be. Durable after [`Self::sync`].
    ///
    /// # Errors
    /// [`WriteError`]. A full disk is a [`WriteError::Io`] of kind
    /// [`StorageFull`](io::ErrorKind::StorageFull) without effect; the same batch may be tried
    /// again. After any other error the log must not be used.
    pub fn write(
        &mut self,
        grants: &[(NodeId, Grant)],
        writes: &[(GroupId, Persist)],
    ) -> Result<Written, WriteError> {
        loop {
            match self.log.write(grants.iter(), writes.iter()) {
                Err(WriteError::Full { bytes }) => self.extend(bytes)?,
                result => return result,
            }
        }
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// Those of the disk; the log must not be used after one.
    pub fn sync(&mut self) -> io::Result<()> {
        self.log.sync()
    }

    /// Records the durable mark, as an idle moment does, and syncs it.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn mark(&mut self) -> Result<(), WriteError> {
        self.log.sync()?;
        self.log.mark(false)?;
        Ok(self.log.sync()?)
    }

    /// Collects garbage: moves up to about `max_bytes` out of the oldest segment and recycles what
    /// nobody needs. Returns the bytes moved.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn maintain(&mut self, max_bytes: u64) -> Result<u64, WriteError> {
        let moved = loop {
            match self.log.collect(max_bytes) {
                Err(WriteError::Full { bytes }) => self.extend(bytes)?,
                result => break result?,
            }
        };
        for segment in self.log.retire() {
            self.pool.recycle(segment, self.log.segments())?;
        }
        Ok(moved)
    }

    /// Entries of a group, as [`Wal::read`](super::Wal::read) returns them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(
        &self,
        group: GroupId,
        first: Index,
        last: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.log.read(group, first, last, max_bytes)
    }

    /// The log itself.
    #[must_use]
    pub const fn log(&self) -> &Log<D> {
        &self.log
    }

    /// Syncs and marks the log as complete.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn close(mut self) -> Result<(), WriteError> {
        self.log.sync()?;
        self.log.mark(true)?;
        Ok(self.log.sync()?)
    }

    fn extend(&mut self, bytes: u64) -> io::Result<()> {
        self.log.sync()?;
        let segment = self.pool.prepare(self.log.next_segment(), bytes)?;
        self.log.install(segment);
        Ok(())
    }
}

impl InlineWal<SimDisk> {
    /// Begins a sync that takes its time, as the thread that syncs does. It covers nothing that is
    /// written later.
    #[must_use]
    pub fn begin_sync(&self) -> Option<Unsynced<SimSegment>> {
        let unsynced = self.log.unsynced()?;
        unsynced.file.begin_sync();
        Some(unsynced)
    }

    /// Ends a sync: what it covers is durable.
    ///
    /// # Errors
    /// Those of the disk; the log must not be used after one.
    pub fn finish_sync(&mut self, sync: &Unsynced<SimSegment>) -> io::Result<()> {
        sync.file.finish_sync()?;
        self.log.durable.advance(sync.end);
        Ok(())
    }
}
