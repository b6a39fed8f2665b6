//! Whether the disk has room for what a flush or a merge writes, and the process has descriptors.
//!
//! Neither is tried without it: an error in the midst of a structural change is final, and a
//! shortage passes.

use crate::wal::is_shortage;
use rustix::fs::statvfs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How many files a flush or a merge may open at once, about.
const FILES: usize = 8;

/// How long a reader waits before it looks whether there are descriptors again.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads, and reads again while descriptors or memory are short: that says nothing about the
/// tables, and no other error does that passes by itself.
pub(super) fn read_patiently<T>(read: impl Fn() -> lsm_tree::Result<T>) -> lsm_tree::Result<T> {
    loop {
        match read() {
            Err(lsm_tree::Error::Io(error)) if is_shortage(&error) => thread::sleep(PAUSE),
            read => return read,
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use std::cell::Cell;

    #[test]
    fn a_read_waits_for_descriptors_and_not_for_a_broken_disk() {
        let left = Cell::new(2);
        let read = read_patiently(|| {
            left.set(left.get() - 1);
            if left.get() >= 0 { Err(io::Error::from(Errno::MFILE).into()) } else { Ok(7) }
        });
        assert!(matches!(read, Ok(7)));
        let read =
            read_patiently(|| -> lsm_tree::Result<()> { Err(io::Error::from(Errno::IO).into()) });
        assert!(matches!(read, Err(lsm_tree::Error::Io(_))));
    }
}
