//! Small disks, to be filled and stopped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of limited size, mounted until this value goes.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts a file system of `bytes` in memory at `path`, which is made.
    ///
    /// # Errors
    /// When this process may not mount; only root may.
    pub fn mount(path: &Path, bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let size = format!("size={bytes}");
        run("mount", ["-t", "tmpfs", "-o", &size, "tmpfs"].map(OsStr::new), path)?;
        Ok(Self(path.to_owned()))
    }

    /// Mounts an ext4 file system of `bytes` at `path`, which is made; its image is a file beside
    /// it. Unlike one in memory it can be [frozen](Self::freeze).
    ///
    /// # Errors
    /// When this process may not mount, or there is no `mkfs.ext4`.
    pub fn mount_image(path: &Path, bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let image = path.with_extension("image");
        File::create(&image)?.set_len(bytes)?;
        run("mkfs.ext4", ["-q"].map(OsStr::new), &image)?;
        run("mount", [OsStr::new("-o"), OsStr::new("loop"), image.as_os_str()], path)?;
        // The node's data directory must not hold what it did not make.
        fs::remove_dir(path.join("lost+found"))?;
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
        let mut bytes = vec![0; 1 << 20];
        // Ever smaller pieces, down to the last block.
        while !bytes.is_empty() {
            match file.write_all(&bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    bytes.truncate(if bytes.len() > 4096 { bytes.len() / 16 } else { 0 });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Has every write and sync wait until the [thaw](Self::thaw).
    ///
    /// # Errors
    /// When the file system can't do that.
    pub fn freeze(&self) -> io::Result<()> {
        run("fsfreeze", ["--freeze"].map(OsStr::new), &self.0)
    }

    /// Lets the disk go on.
    ///
    /// # Errors
    /// When it is not frozen.
    pub fn thaw(&self) -> io::Result<()> {
        run("fsfreeze", ["--unfreeze"].map(OsStr::new), &self.0)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Processes that wait for a frozen disk could not even be killed. Mostly it is not frozen.
        let _ = self.thaw();
        // Lazily: processes may still hold files of it, and keep it until they end.
        if let Err(error) = run("umount", ["--lazy"].map(OsStr::new), &self.0) {
            eprintln!("{} stays mounted: {error}", self.0.display());
        }
    }
}

/// Runs a program of the system with these arguments and a path behind them.
fn run<const N: usize>(program: &str, arguments: [&OsStr; N], path: &Path) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{program}: {error}"));
    let output = Command::new(program).args(arguments).arg(path).output().map_err(named)?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program}: {}", reason.trim())))
}
