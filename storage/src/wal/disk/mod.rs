//! The interface of the log to a disk, so that the same code runs on files and in simulation.

use bytes::Bytes;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

mod blocks;
mod file;
mod sim;

pub(crate) use blocks::{BLOCK_BYTES, aligned, unaligned_bytes};
pub(crate) use file::read_file;
pub use file::{FileDisk, FileSegment};
pub use sim::{SimDisk, SimSegment};

/// A directory of segment files. Every method but [`Disk::create`] is one system call or two.
pub trait Disk: Send + Sync + 'static {
    /// An open segment file.
    type File: SegmentFile;

    /// Where `name` lies, for people to find it.
    fn path(&self, name: &str) -> PathBuf;

    /// The names of all files, in no order.
    ///
    /// # Errors
    /// Those of the operating system.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a file of `bytes` zero bytes that are allocated and durable, so that no later write
    /// into it runs out of space. Its name is durable after [`Disk::sync_directory`] only.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when there is no room, and others of the operating system;
    /// nothing is left behind.
    fn create(&self, name: &str, bytes: u64) -> io::Result<()>;

    /// Opens a file whose first `frozen` bytes (all of it for `None`) are never written again.
    ///
    /// # Errors
    /// Those of the operating system.
    fn open(&self, name: &str, frozen: Option<u64>) -> io::Result<Self::File>;

    /// Reads a range of a file by system calls. A medium error comes back as an error here, while
    /// it ends the process in a [`SegmentFile::view`] (SIGBUS).
    ///
    /// # Errors
    /// [`Unreadable`], which names the first block that can't be read.
    fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Unreadable>;

    /// Renames a file, replacing another of the new name.
    ///
    /// # Errors
    /// Those of the operating system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the operating system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes renames, creations and removals durable.
    ///
    /// # Errors
    /// Those of the operating system.
    fn sync_directory(&self) -> io::Result<()>;

    /// A number that no segment had before, so far as chance allows.
    fn salt(&self) -> u64;
}

/// A part of a file that the operating system can't read.
#[derive(Debug, thiserror::Error)]
#[error("offset {offset} can't be read: {source}")]
pub struct Unreadable {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// The reason of the operating system.
    pub source: io::Error,
}

/// An open segment file. Its beginning is frozen: it can be viewed and never changes. What lies
/// behind can be written and not viewed. So nothing ever changes under a view.
pub trait SegmentFile: Send + Sync + 'static {
    /// Its size, which never changes.
    fn bytes(&self) -> u64;

    /// Where the frozen part ends.
    fn frozen(&self) -> u64;

    /// Writes whole blocks of 4,096 bytes, which `data` has to be aligned to in memory. They lie
    /// within the file and behind the frozen part. The first block may begin with the frozen bytes
    /// that it holds already.
    ///
    /// # Errors
    /// Those of the operating system; [`io::ErrorKind::InvalidInput`] for anything else.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Freezes everything before `end`.
    fn freeze(&self, end: u64);

    /// Makes everything written so far durable. An error is final: what was written may be lost
    /// although a second call succeeds.
    ///
    /// # Errors
    /// Those of the operating system.
    fn sync(&self) -> io::Result<()>;

    /// Forgets what memory caches of the file, so that it is read from the disk itself.
    ///
    /// # Errors
    /// Those of the operating system.
    fn drop_cache(&self) -> io::Result<()>;

    /// Has the operating system begin to read the frozen part into memory, for a caller that is
    /// going to read all of it. This is a hint.
    fn read_ahead(&self);

    /// The bytes of a frozen range, which are read when they are looked at. A medium error ends the
    /// process then, so whoever has reason to expect one uses [`Disk::read`].
    ///
    /// # Panics
    /// When the range is not frozen.
    fn view(self: &Arc<Self>, range: Range<u64>) -> Bytes;
}

/// Checks that [`SegmentFile::write_at`] takes a write: its blocks are whole and aligned, and lie
/// in the `open` part of the file or hold its beginning.
fn check_blocks(offset: u64, data: &[u8], open: Range<u64>) -> io::Result<()> {
    let blocks = offset / BLOCK_BYTES..(offset + data.len() as u64) / BLOCK_BYTES;
    let whole = offset.is_multiple_of(BLOCK_BYTES)
        && (data.len() as u64).is_multiple_of(BLOCK_BYTES)
        && unaligned_bytes(data) == 0;
    let within = open.start / BLOCK_BYTES <= blocks.start && blocks.end <= open.end / BLOCK_BYTES;
    if whole && within { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}
