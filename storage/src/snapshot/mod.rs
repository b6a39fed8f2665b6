//! Snapshot files: one a group, switched by a rename.
//!
//! `<group>.snap` is the current snapshot. A new one is written under a temporary name, synced and
//! renamed over it, so a crash leaves the one or the other. What a peer sends is kept under a name
//! of its own, `<group>-<index>-<term>.received`, from the moment when it is whole, verified and
//! durable until it is adopted or discarded: a second one may arrive before the replica has come to
//! the first.
//!
//! ```text
//! file = magic, version, group, term, index, content length, CRC-32 of the content,
//!        CRC-32 of all before; content
//! ```

mod error;
mod file;
mod reader;
mod receiver;
mod shared;
mod store;
mod temporary;
mod writer;

pub use error::SnapshotError;
pub use file::SnapshotInfo;
pub use reader::SnapshotReader;
pub use receiver::SnapshotReceiver;
pub use store::SnapshotStore;
pub use writer::SnapshotWriter;
