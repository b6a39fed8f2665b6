//! Snapshot files: one a group, switched by a rename.
//!
//! `<group>.snap` is the current snapshot. A new snapshot is written under a temporary name,
//! synced, and renamed over the current one. So a crash leaves the one or the other. A snapshot
//! from a peer has a name of its own, `<group>-<index>-<term>.received`, once it is whole, verified
//! and durable, until it is adopted or discarded. So a second one may arrive before the replica has
//! adopted the first.
//!
//! ```text
//! file = magic, version, group, term, index, content length, CRC-32 of the content, length of the
//!        configuration, CRC-32 of all before and of the configuration; configuration; content
//! ```

mod check;
mod disk;
mod error;
mod file;
mod reader;
mod receiver;
mod shared;
mod store;
mod temporary;
mod writer;

pub use check::SnapshotCheck;
pub use disk::{FileSnapshotDisk, SimSnapshotDisk, SimSnapshotFile, SnapshotDisk, SnapshotFile};
pub use error::SnapshotError;
pub use file::SnapshotInfo;
pub use reader::SnapshotReader;
pub use receiver::SnapshotReceiver;
pub use store::{OpenSnapshot, SnapshotStore};
pub use writer::{SnapshotTicket, SnapshotWriter};
