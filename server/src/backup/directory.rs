//! The directory that a backup is written to.

use super::manifest::MANIFEST;
use super::whole::{at, sync_directory};
use crate::output::Failure;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes the directory, which nobody else may look into, or takes one that is empty.
pub(super) fn make(directory: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| at(directory, &error))?;
    if let Some(parent) = directory.parent() {
        sync_directory(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
    }
    let mut names = fs::read_dir(directory).map_err(|error| at(directory, &error))?;
    let Some(first) = names.next() else { return Ok(()) };
    let first = first.map_err(|error| at(directory, &error))?.file_name();
    let reason = if directory.join(MANIFEST).exists() {
        "it holds a backup already: choose another directory".to_owned()
    } else {
        let first = first.display();
        format!("it is not empty, it holds {first}: choose another directory, or empty this one")
    };
    Err(at(directory, &reason))
}
