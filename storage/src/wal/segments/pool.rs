//! Preallocates segments, and recycles those that the log needs no more.
//!
//! A segment has its full size, written with zeros, before the log uses it (see `Disk::create` for
//! why `fallocate` is not enough). A recycled file is full of written blocks already, so it takes
//! no more than a new header.

use super::segment::Segment;
use crate::wal::disk::{BLOCK_BYTES, Disk, SegmentFile, aligned};
use crate::wal::format::{SegmentHeader, segment_name};
use crate::wal::options::WalOptions;
use rustix::io::Errno;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Old segments that are kept to be used again, even when the log is over its budget.
const LEAST_SPARES: usize = 2;
/// A segment that is being zero-filled. It is no segment before it has its name.
const FILLING: &str = "filling.tmp";
const SPARE: &str = "spare-";

/// Whether a file of this name is one that a crash may leave behind.
pub(crate) fn is_temporary(name: &str) -> bool {
    name == FILLING || name.starts_with(SPARE)
}

/// Whether an error says that there is no room, which passes, and not that something is broken.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Whether an error says that something has run out that comes back (room, descriptors, memory), or
/// that a call was cut short. It says nothing about the file. Who makes a segment then has written
/// nothing that counts, and can try again; so can a reader.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let descriptors = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    let passes = [ErrorKind::OutOfMemory, ErrorKind::Interrupted, ErrorKind::WouldBlock];
    is_full(error)
        || passes.contains(&error.kind())
        || error.raw_os_error().is_some_and(|errno| descriptors.contains(&errno))
}

/// Makes segments, from old ones where it can: those need no zero-filling.
///
/// A crash at any moment leaves one of two things: a file under a temporary name, which the next
/// start takes or removes, or a complete segment whose header is durable.
#[derive(Debug)]
pub struct SegmentPool<D> {
    disk: Arc<D>,
    segment_bytes: u64,
    /// So many segments are in the log's budget, those that wait to be used again included. A log
    /// that had so many segments will have them again, since snapshots free them by the dozen.
    /// Removing them and making others would keep the disk busier than the log does.
    max_segments: usize,
    spares: Vec<String>,
}

impl<D: Disk> SegmentPool<D> {
    /// The pool of a disk.
    pub(crate) fn new(disk: Arc<D>, options: &WalOptions) -> Self {
        let max_segments = options.max_bytes / options.segment_bytes;
        Self {
            disk,
            segment_bytes: options.segment_bytes,
            max_segments: usize::try_from(max_segments).unwrap_or(usize::MAX),
            spares: Vec::new(),
        }
    }

    /// Takes over a file that an earlier process left under a temporary name, beside a log of
    /// `in_use` segments. Returns whether the file is such a segment.
    pub(crate) fn adopt(&mut self, name: &str, in_use: usize) -> io::Result<bool> {
        if name.starts_with(SPARE) && self.wants_spare(in_use) {
            self.spares.push(name.to_owned());
        } else if is_temporary(name) {
            self.disk.remove(name)?;
        }
        Ok(is_temporary(name))
    }

    /// Makes segment `id` of at least `bytes` bytes, in place of an unused one of this id.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`] or [`ErrorKind::QuotaExceeded`] when there is no room, and those
    /// that say that descriptors or memory are short; nothing has changed then. Others of the
    /// operating system.
    pub fn prepare(&mut self, id: u32, bytes: u64) -> io::Result<Segment<D::File>> {
        let bytes = bytes.max(self.segment_bytes);
        let (name, file) = self.preallocate(bytes)?;
        let header = SegmentHeader { segment: id, salt: self.disk.salt(), bytes };
        let (header_block, first) = aligned(&header.encode(), 0);
        file.write_at(0, &header_block[first..])?;
        file.sync()?;
        // Zeros that were written through the cache left large folios there. A small write would
        // dirty such a folio as a whole. Nothing has to be read back: the log writes whole blocks.
        file.drop_cache()?;
        file.freeze(BLOCK_BYTES);
        self.disk.rename(&name, &segment_name(id))?;
        self.disk.sync_directory()?;
        Ok(Segment { id, salt: header.salt, file: Arc::new(file) })
    }

    /// Takes back a segment that a log of `in_use` others does not need. A segment that a reader
    /// still borrows from is only removed from the directory, since its bytes must not change.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn recycle(&mut self, segment: Segment<D::File>, in_use: usize) -> io::Result<()> {
        let usual = segment.file.bytes() == self.segment_bytes;
        let unborrowed = Arc::into_inner(segment.file).is_some();
        self.reclaim(segment.id, usual && unborrowed, in_use)
    }

    /// Takes back the file of a segment that is not open. Its new name is durable before anything
    /// is written into it.
    pub(crate) fn reclaim(&mut self, id: u32, reusable: bool, in_use: usize) -> io::Result<()> {
        let name = segment_name(id);
        if reusable && self.wants_spare(in_use) {
            let spare = format!("{SPARE}{id:010}");
            self.disk.rename(&name, &spare)?;
            self.disk.sync_directory()?;
            // A number comes again after a crash that left its segment unused. The file under the
            // name of its first use is replaced then, and the name must not be handed out twice.
            if !self.spares.contains(&spare) {
                self.spares.push(spare);
            }
            return Ok(());
        }
        self.disk.remove(&name)?;
        self.disk.sync_directory()
    }

    fn wants_spare(&self, in_use: usize) -> bool {
        self.spares.len() < LEAST_SPARES.max(self.max_segments.saturating_sub(in_use))
    }

    /// A file to make a segment of this size from, and its name.
    fn preallocate(&mut self, bytes: u64) -> io::Result<(String, D::File)> {
        while bytes == self.segment_bytes
            && let Some(spare) = self.spares.pop()
        {
            let file = match self.disk.open(&spare, Some(0)) {
                Ok(file) => file,
                Err(error) => {
                    self.spares.push(spare);
                    return Err(error);
                }
            };
            if file.bytes() == bytes {
                return Ok((spare, file));
            }
            // The size of segments was changed by an option.
            self.disk.remove(&spare)?;
        }
        self.create(bytes)?;
        match self.disk.open(FILLING, Some(0)) {
            Ok(file) => Ok((FILLING.to_owned(), file)),
            Err(error) => {
                // It keeps room that others could use; the next attempt would replace it.
                let _ = self.disk.remove(FILLING);
                Err(error)
            }
        }
    }

    /// Fills a file with zeros. Spares, which are too small for it if there are any, make room.
    fn create(&mut self, bytes: u64) -> io::Result<()> {
        loop {
            let created = self.disk.create(FILLING, bytes);
            if !created.as_ref().is_err_and(is_full) {
                return created;
            }
            let Some(spare) = self.spares.pop() else { return created };
            self.disk.remove(&spare)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::disk::SimDisk;

    #[test]
    fn what_has_run_out_comes_back_and_what_is_broken_does_not() {
        let of = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOSPC, Errno::DQUOT];
        for errno in short.into_iter().chain([Errno::INTR, Errno::AGAIN]) {
            assert!(is_shortage(&of(errno)), "{errno}");
        }
        for errno in [Errno::IO, Errno::NOENT, Errno::ACCESS, Errno::ROFS, Errno::NODATA] {
            assert!(!is_shortage(&of(errno)), "{errno}");
        }
    }

    #[test]
    fn a_segment_number_that_comes_again_is_spared_once() -> io::Result<()> {
        let disk = Arc::new(SimDisk::default());
        let options = WalOptions { segment_bytes: 8 << 10, ..WalOptions::default() };
        let mut pool = SegmentPool::new(Arc::clone(&disk), &options);
        for segment in [pool.prepare(1, 0)?, pool.prepare(2, 0)?] {
            pool.recycle(segment, 1)?;
        }
        // As after a crash that left both unused.
        let mut pool = SegmentPool::new(Arc::clone(&disk), &options);
        for name in disk.list()? {
            assert!(pool.adopt(&name, 0)?);
        }
        let again = pool.prepare(1, 0)?;
        pool.recycle(again, 1)?;
        pool.prepare(3, 0)?;
        pool.prepare(4, 0)?;
        Ok(())
    }
}
