//! Snapshot files in a directory of the operating system.

use super::{SnapshotDisk, SnapshotFile};
use crate::files::{make_directory, new_file};
use rustix::fs::fdatasync;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A directory of the operating system.
#[derive(Debug)]
pub struct FileSnapshotDisk {
    directory: PathBuf,
    /// Open all the time, so that what is renamed can be made durable when descriptors are short.
    handle: File,
}

impl FileSnapshotDisk {
    /// The directory, made durably if need be.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        make_directory(directory)?;
        Ok(Self { directory: directory.to_owned(), handle: File::open(directory)? })
    }
}

impl SnapshotDisk for FileSnapshotDisk {
    type File = File;

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        new_file().read(true).open(self.path(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name))
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
}

impl SnapshotFile for File {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(self)?)
    }
}
