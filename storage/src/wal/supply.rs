//! Where new segments come from and where old ones go.

use super::blocks::aligned;
use super::disk::{Disk, SegmentFile};
use super::format::{BLOCK_BYTES, SegmentHeader, segment_name};
use super::store::Segment;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Old segments that are kept to be used again; more than one are freed together at times.
const MAX_SPARES: usize = 2;
/// A segment that is being zero-filled. It is no segment before it has its name.
const FILLING: &str = "filling.tmp";
const SPARE: &str = "spare-";

/// Whether a file of this name is one that a crash may leave behind.
pub(super) fn is_temporary(name: &str) -> bool {
    name == FILLING || name.starts_with(SPARE)
}

/// Whether an error says that there is no room, which passes, and not that something is broken.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Makes segments, from old ones where it can: those need no zero-filling.
///
/// A crash at any moment leaves a file under a temporary name, which the next start takes or
/// removes, or a complete segment whose header is durable.
#[derive(Debug)]
pub struct Supply<D> {
    disk: Arc<D>,
    segment_bytes: u64,
    spares: Vec<String>,
}

impl<D: Disk> Supply<D> {
    /// The supply of a disk whose segments usually have this size.
    pub(super) const fn new(disk: Arc<D>, segment_bytes: u64) -> Self {
        Self { disk, segment_bytes, spares: Vec::new() }
    }

    /// Takes over a file that an earlier process left under a temporary name; says whether it is
    /// one.
    pub(super) fn adopt(&mut self, name: &str) -> io::Result<bool> {
        if name.starts_with(SPARE) && self.spares.len() < MAX_SPARES {
            self.spares.push(name.to_owned());
        } else if is_temporary(name) {
            self.disk.remove(name)?;
        }
        Ok(is_temporary(name))
    }

    /// Makes segment `id` of at least `bytes` bytes, in place of an unused one of this id.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`] or [`ErrorKind::QuotaExceeded`] when there is no room; nothing
    /// has changed then. Others of the operating system.
    pub fn prepare(&mut self, id: u32, bytes: u64) -> io::Result<Segment<D::File>> {
        let bytes = bytes.max(self.segment_bytes);
        let (name, file) = self.blank(bytes)?;
        let header = SegmentHeader {
            segment: id,
            salt: if logboat_raft::mutant!(RecycledSalt) { 1 } else { self.disk.salt() },
            bytes,
        };
        let (header_block, first) = aligned(&header.encode(), 0);
        file.write_at(0, &header_block[first..])?;
        file.sync()?;
        // Where zeros were written through the cache, they left large folios there, each of which a
        // small write would dirty as a whole. Nothing has to be read back: the log writes whole blocks.
        file.drop_cache()?;
        file.freeze(BLOCK_BYTES);
        self.disk.rename(&name, &segment_name(id))?;
        self.disk.sync_directory()?;
        Ok(Segment { id, salt: header.salt, file: Arc::new(file) })
    }

    /// Takes back a segment that nobody needs. One that a reader still borrows from is removed
    /// from the directory only, since its bytes must not change.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn recycle(&mut self, segment: Segment<D::File>) -> io::Result<()> {
        let usual = segment.file.bytes() == self.segment_bytes;
        let unborrowed = Arc::into_inner(segment.file).is_some();
        self.reclaim(segment.id, usual && unborrowed)
    }

    /// Takes back the file of a segment that is not open. Its new name is durable before anything
    /// is written into it.
    pub(super) fn reclaim(&mut self, id: u32, reusable: bool) -> io::Result<()> {
        let name = segment_name(id);
        if reusable && self.spares.len() < MAX_SPARES {
            let spare = format!("{SPARE}{id:010}");
            self.disk.rename(&name, &spare)?;
            self.disk.sync_directory()?;
            // A number comes again after a crash that left its segment unused. The file under the name
            // of its first use is replaced then, and the name must not be handed out twice.
            if !self.spares.contains(&spare) {
                self.spares.push(spare);
            }
            return Ok(());
        }
        self.disk.remove(&name)?;
        self.disk.sync_directory()
    }

    /// A file to make a segment of this size from, and its name.
    fn blank(&mut self, bytes: u64) -> io::Result<(String, D::File)> {
        while bytes == self.segment_bytes
            && let Some(spare) = self.spares.pop()
        {
            let file = self.disk.open(&spare, Some(0))?;
            if file.bytes() == bytes {
                return Ok((spare, file));
            }
            // The size of segments was changed by an option.
            self.disk.remove(&spare)?;
        }
        self.disk.create(FILLING, bytes)?;
        Ok((FILLING.to_owned(), self.disk.open(FILLING, Some(0))?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::SimDisk;
    use super::*;

    #[test]
    fn a_segment_number_that_comes_again_is_spared_once() -> io::Result<()> {
        let disk = Arc::new(SimDisk::default());
        let mut supply = Supply::new(Arc::clone(&disk), 8 << 10);
        for segment in [supply.prepare(1, 0)?, supply.prepare(2, 0)?] {
            supply.recycle(segment)?;
        }
        // As after a crash that left both unused.
        let mut supply = Supply::new(Arc::clone(&disk), 8 << 10);
        for name in disk.list()? {
            assert!(supply.adopt(&name)?);
        }
        let again = supply.prepare(1, 0)?;
        supply.recycle(again)?;
        supply.prepare(3, 0)?;
        supply.prepare(4, 0)?;
        Ok(())
    }
}
