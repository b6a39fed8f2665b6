//! Whether the disk has room for what a flush or a merge writes, and the process has descriptors.
//!
//! Neither is tried without it: an error in the midst of a structural change is final, and a
//! shortage passes.

use crate::wal::is_shortage;
use rustix::fs::statvfs;
use std::fs::File;
use std::io;
use std::path::Path;

/// How many files a flush or a merge may open at once, about.
const FILES: usize = 8;

/// Whether there is no room in a directory for so many bytes, or no descriptor. `probe` is a file
/// there. What can't be told is taken for no shortage.
pub(super) fn lacks(directory: &Path, bytes: u64, probe: &Path) -> bool {
    let free = statvfs(directory).map(|found| found.f_bavail.saturating_mul(found.f_frsize));
    if free.is_ok_and(|free| free < bytes) {
        return true;
    }
    let opened: io::Result<Vec<File>> = (0..FILES).map(|_| File::open(probe)).collect();
    opened.is_err_and(|error| is_shortage(&error))
}
