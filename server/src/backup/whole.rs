//! Files that are there as a whole or not at all.

use crate::output::Failure;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What the names of files end with that are not whole yet.
const PART: &str = ".part";

/// A file that gets its name when it is whole.
pub(super) struct NewFile {
    path: PathBuf,
    part: PathBuf,
    pub(super) file: BufWriter<File>,
}

impl NewFile {
    /// Begins a file of this name, in place of one that was begun before. It is for nobody else to
    /// read.
    pub(super) fn create(directory: &Path, name: &str) -> Result<Self, Failure> {
        let (path, part) = (directory.join(name), directory.join(format!("{name}{PART}")));
        let mut options = File::options();
        let created = options.write(true).create(true).truncate(true).mode(0o600).open(&part);
        let file = created.map_err(|error| at(&part, &error))?;
        Ok(Self { path, part, file: BufWriter::with_capacity(256 << 10, file) })
    }

    /// What is written now, for those who name it.
    pub(super) fn part(&self) -> &Path {
        &self.part
    }

    /// Makes what was written durable, and gives it its name. The name is durable when the
    /// directory is.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let Self { path, part, mut file } = self;
        let written = file.flush().and_then(|()| file.get_ref().sync_all());
        written.map_err(|error| at(&part, &error))?;
        fs::rename(&part, &path).map_err(|error| at(&part, &error))
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), Failure> {
    let synced = File::open(directory).and_then(|opened| opened.sync_all());
    synced.map_err(|error| at(directory, &error))
}

/// An error with the path that it is about.
pub(super) fn at(path: &Path, error: &impl std::fmt::Display) -> Failure {
    format!("{}: {error}", path.display()).into()
}
