//! Segments as files, written past the page cache (`O_DIRECT`) and read through a mapping. The only
//! file of the crate with `unsafe` code.
//!
//! Writes through the cache would copy every batch into pages that are fresh each time. Linux keeps
//! direct writes and mapped reads coherent. A direct write drops the range from the cache, before
//! and after, and takes it out of all mappings. So a reader finds what is on the disk. A file
//! system without direct writes is written through the cache.

use super::blocks::{BLOCK_BYTES, aligned};
use super::{Disk, SegmentFile, Unreadable, check_blocks};
use crate::files::{make_directory, new_file};
use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;
use rustix::fs::{Advice, OFlags, fadvise, fdatasync, statvfs};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Zeros are written in pieces of this size.
const FILL_BYTES: usize = 1 << 20;
/// Of the size of a new file, this part stays free besides, for snapshots and what else is written
/// there.
const RESERVE: u64 = 4;
/// The size of one read by a system call.
const READ_BYTES: usize = 1 << 20;
/// The size of one request to read ahead.
const READ_AHEAD_BYTES: u64 = 512 << 10;

/// A directory of memory-mapped segment files.
#[derive(Debug)]
pub struct FileDisk {
    directory: PathBuf,
    /// Open all the time, so that what is renamed can be made durable when descriptors are short.
    handle: File,
}

impl FileDisk {
    /// The disk that keeps its files in `directory`, which is made if need be.
    ///
    /// # Errors
    /// When the directory can't be made.
    pub fn open(directory: &Path) -> io::Result<Self> {
        make_directory(directory)?;
        Ok(Self { directory: directory.to_owned(), handle: File::open(directory)? })
    }
}

impl Disk for FileDisk {
    type File = FileSegment;

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.directory)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    /// Preallocates by writing zeros. `fallocate` would only reserve blocks and mark them as not
    /// written. Each sync of a first write into them would then have to commit the file system's
    /// journal.
    ///
    /// What would leave too little room for others is not begun. Filling the disk to its last block
    /// and giving that back, over and over, would keep those from writing who free space.
    fn create(&self, name: &str, bytes: u64) -> io::Result<()> {
        if !self.list()?.is_empty() && free_bytes(&self.directory)? < bytes + bytes / RESERVE {
            return Err(ErrorKind::StorageFull.into());
        }
        let path = self.path(name);
        let filled = fill(&path, bytes);
        if filled.is_err() {
            // Half a file must not keep the room that others could use.
            let _ = fs::remove_file(&path);
        }
        filled
    }

    fn open(&self, name: &str, frozen: Option<u64>) -> io::Result<FileSegment> {
        let file = open_uncached(OpenOptions::new().read(true).write(true), &self.path(name))?;
        let bytes = file.metadata()?.len();
        let map = MmapOptions::new().map_raw_read_only(&file)?;
        Ok(FileSegment {
            file,
            map,
            bytes,
            frozen: AtomicU64::new(frozen.unwrap_or(bytes).min(bytes)),
            writing: Mutex::new(()),
        })
    }

    fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Unreadable> {
        let unreadable = |source| Unreadable { offset: range.start, source };
        let file = File::open(self.path(name)).map_err(unreadable)?;
        read_range(&file, range)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn salt(&self) -> u64 {
        RandomState::new().hash_one(std::time::SystemTime::now())
    }
}

/// How much room the file system of a directory has.
fn free_bytes(directory: &Path) -> io::Result<u64> {
    let disk = statvfs(directory)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Reads all of a file by system calls, as [`Disk::read`] does.
pub(crate) fn read_file(path: &Path) -> Result<Bytes, Unreadable> {
    let open = || {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok((file, bytes))
    };
    let (file, bytes) = open().map_err(|source| Unreadable { offset: 0, source })?;
    read_range(&file, 0..bytes)
}

/// Reads through the page cache, where a later reader finds what was read.
fn read_range(file: &File, range: Range<u64>) -> Result<Bytes, Unreadable> {
    let mut content = vec![0; (range.end - range.start) as usize];
    let mut offset = range.start;
    for piece in content.chunks_mut(READ_BYTES) {
        if let Err(source) = file.read_exact_at(piece, offset) {
            return Err(locate(file, piece, Unreadable { offset, source }));
        }
        offset += piece.len() as u64;
    }
    Ok(content.into())
}

/// Finds the first block of a piece that can't be read. If all of them can, this time, the error
/// stays that of the piece.
fn locate(file: &File, piece: &mut [u8], failed: Unreadable) -> Unreadable {
    let mut offset = failed.offset;
    for block in piece.chunks_mut(BLOCK_BYTES as usize) {
        if let Err(source) = file.read_exact_at(block, offset) {
            return Unreadable { offset, source };
        }
        offset += block.len() as u64;
    }
    failed
}

/// Opens a file to be written past the page cache, where that is possible.
fn open_uncached(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.custom_flags(OFlags::DIRECT.bits().cast_signed());
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::InvalidInput => options.custom_flags(0).open(path),
        result => result,
    }
}

fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    let file = open_uncached(&mut new_file(), path)?;
    let (zeros, first) = aligned(&vec![0; FILL_BYTES], 0);
    let mut filled = 0;
    while filled < bytes {
        let piece = (bytes - filled).min(FILL_BYTES as u64);
        file.write_all_at(&zeros[first..][..piece as usize], filled)?;
        filled += piece;
    }
    // The length is new, so the metadata that `fdatasync` includes is all there is.
    fdatasync(&file)?;
    Ok(())
}

/// A segment file: written through its descriptor, read through the mapping.
///
/// The descriptor stays open as long as the mapping. An error of writing back is reported once, to
/// each descriptor that was open when it happened.
#[derive(Debug)]
pub struct FileSegment {
    file: File,
    map: MmapRaw,
    bytes: u64,
    /// Everything before this doesn't change for the life of the value.
    frozen: AtomicU64,
    /// Held while writing and while freezing, so that no write is under way in what gets frozen.
    writing: Mutex<()>,
}

impl SegmentFile for FileSegment {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn frozen(&self) -> u64 {
        self.frozen.load(Ordering::Acquire)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let _writing = self.writing.lock();
        check_blocks(offset, data, self.frozen()..self.bytes)?;
        self.file.write_all_at(data, offset)
    }

    fn freeze(&self, end: u64) {
        let _writing = self.writing.lock();
        self.frozen.fetch_max(end.min(self.bytes), Ordering::Release);
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(&self.file)?)
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }

    /// In pieces, since Linux takes no more of one call than a device takes at once. Without it,
    /// looking at page after page reads 128 KiB at a time.
    fn read_ahead(&self) {
        let piece = NonZeroU64::new(READ_AHEAD_BYTES);
        for offset in (0..self.frozen()).step_by(READ_AHEAD_BYTES as usize) {
            if let Err(error) = fadvise(&self.file, offset, piece, Advice::WillNeed) {
                return tracing::warn!("a segment could not be read ahead: {error}");
            }
        }
    }

    fn view(self: &Arc<Self>, range: Range<u64>) -> Bytes {
        assert!(
            range.start <= range.end && range.end <= self.frozen(),
            "a view lies within the frozen part"
        );
        Bytes::from_owner(View {
            segment: Arc::clone(self),
            start: range.start as usize,
            bytes: (range.end - range.start) as usize,
        })
    }
}

/// A frozen range of a mapping, which it keeps alive.
struct View {
    segment: Arc<FileSegment>,
    start: usize,
    bytes: usize,
}

impl AsRef<[u8]> for View {
    #[expect(unsafe_code, reason = "a mapped range can't be had as a slice otherwise")]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `FileSegment::view`, the only place that makes a `View`, checked that the range
        // lies within the frozen part, which lies within the mapping. The mapping lives as long as
        // `segment`. Frozen bytes don't change any more. Not through this value: `write_at` refuses
        // all but the block that holds the end, whose frozen bytes are written as they are. Not
        // through another value: a file is reopened for writing only when no view is left. Not by
        // another process: the data directory is locked.
        unsafe { std::slice::from_raw_parts(self.segment.map.as_ptr().add(self.start), self.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_that_the_kernel_cant_read_is_named() {
        // Linux answers with EIO for addresses at which nothing is mapped, as a device does for a
        // sector that it has lost.
        let disk = FileDisk::open(Path::new("/proc/self")).unwrap();
        let error = disk.read("mem", 4096..12_288).unwrap_err();
        let io_error = io::Error::from(rustix::io::Errno::IO);
        assert_eq!(error.source.raw_os_error(), io_error.raw_os_error());
        assert_eq!(error.offset, 4096);
        assert!(error.to_string().contains("offset 4096"), "{error}");
    }

    #[test]
    fn ranges_and_whole_files_are_read_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..READ_BYTES + 4097).map(|at| (at % 251) as u8).collect();
        fs::write(directory.path().join("file"), &content).unwrap();
        let disk = FileDisk::open(directory.path()).unwrap();
        let end = content.len() as u64;
        assert_eq!(disk.read("file", 3..end - 1).unwrap(), content[3..content.len() - 1]);
        assert_eq!(read_file(&disk.path("file")).unwrap(), content);
        assert_eq!(disk.read("file", 0..end + 1).unwrap_err().offset, end / 4096 * 4096);
        assert_eq!(disk.read("none", 0..1).unwrap_err().source.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_file_that_would_leave_too_little_room_is_not_begun() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(directory.path()).unwrap();
        disk.create("first", BLOCK_BYTES).unwrap();
        let bytes = free_bytes(directory.path()).unwrap() / 8 * 7;
        assert_eq!(disk.create("second", bytes).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(disk.list().unwrap(), ["first"]);
    }
}
