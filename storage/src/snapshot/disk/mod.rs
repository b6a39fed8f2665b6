//! The interface of the snapshots to a disk, so that the same code runs on files and in simulation.

use std::fmt::Debug;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;

mod file;
mod sim;

pub use file::FileSnapshotDisk;
pub use sim::{SimSnapshotDisk, SimSnapshotFile};

/// A directory of snapshot files.
pub trait SnapshotDisk: Debug + Send + Sync + 'static {
    /// An open file.
    type File: SnapshotFile;

    /// Where `name` lies, for people to find it.
    fn path(&self, name: &str) -> PathBuf;

    /// The names of all files, in no order.
    ///
    /// # Errors
    /// Those of the operating system.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file that can be read and written, in the place of another of the name. Its
    /// name is durable after [`SnapshotDisk::sync_directory`] only.
    ///
    /// # Errors
    /// Those of the operating system.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file for reading. What is open stays readable when its name goes.
    ///
    /// # Errors
    /// Those of the operating system.
    fn open(&self, name: &str) -> io::Result<Self::File>;

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
}

/// An open snapshot file.
pub trait SnapshotFile: Read + Write + Seek + Debug + Send + 'static {
    /// Its size.
    ///
    /// # Errors
    /// Those of the operating system.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Makes everything written so far durable. After an error a second call says nothing.
    ///
    /// # Errors
    /// Those of the operating system.
    fn sync(&self) -> io::Result<()>;
}
