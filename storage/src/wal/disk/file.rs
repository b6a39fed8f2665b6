//! Segments as files, written past the page cache (`O_DIRECT`) and read through a mapping. The only
//! file of the crate with `unsafe` code.
//!
//! Writes through the cache would copy every batch into pages that are fresh each time. Linux keeps
//! direct writes and mapped reads coherent: a direct write drops what the cache holds of the range,
//! before and after, and takes it out of all mappings, so a reader finds what is on the disk. A
//! file system without direct writes is written through the cache.

use super::blocks::aligned;
use super::{Disk, SegmentFile, check_blocks};
use crate::files::{make_directory, sync_directory};
use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;
use rustix::fs::{Advice, OFlags, fadvise, fdatasync};
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
/// What is read ahead is asked for in pieces of this size.
const READ_AHEAD_BYTES: u64 = 512 << 10;

/// A directory of memory-mapped segment files.
#[derive(Debug)]
pub struct FileDisk {
    directory: PathBuf,
}

impl FileDisk {
    /// The disk that keeps its files in `directory`, which is made if need be.
    ///
    /// # Errors
    /// When the directory can't be made.
    pub fn open(directory: &Path) -> io::Result<Self> {
        make_directory(directory)?;
        Ok(Self { directory: directory.to_owned() })
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
    /// written, and each sync of a first write into them would have to commit the file system's
    /// journal.
    fn create(&self, name: &str, bytes: u64) -> io::Result<()> {
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

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        sync_directory(&self.directory)
    }

    fn salt(&self) -> u64 {
        RandomState::new().hash_one(std::time::SystemTime::now())
    }
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
    let file = open_uncached(OpenOptions::new().write(true).create(true).truncate(true), path)?;
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
/// The descriptor stays open as long as the mapping, because an error of writing back is reported
/// once to each descriptor that was open when it happened.
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
        // `segment`. Frozen bytes don't change any more: not through this value (`write_at` refuses
        // all but the block that holds the end, whose frozen bytes are written as they are), not
        // through another (a file is reopened for writing only when no view is left) and not by
        // another process (the data directory is locked).
        unsafe { std::slice::from_raw_parts(self.segment.map.as_ptr().add(self.start), self.bytes) }
    }
}
