//! What the standard library lacks for files that must survive a crash.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes a directory, and those above it, durably.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_directory(parent)?;
    fs::create_dir_all(path)?;
    sync_directory(parent)
}

/// Makes what was created, renamed and removed in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
