//! Small disks, to be filled.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of limited size in memory, mounted until this value goes.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts a file system of `bytes` at `path`, which is made.
    ///
    /// # Errors
    /// When this process may not mount; only root may.
    pub fn mount(path: &Path, bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let size = format!("size={bytes}");
        let mut command = Command::new("mount");
        let command = command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path);
        let output = command.output()?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("no small disk: {}", reason.trim())));
        }
        Ok(Self(path.to_owned()))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Fills the disk with a file at `path` until nothing more fits.
    ///
    /// # Errors
    /// When writing fails for another reason.
    pub fn fill(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        loop {
            match file.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a process that was killed may still hold files for a moment.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}
