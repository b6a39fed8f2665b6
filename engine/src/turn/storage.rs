//! The snapshot storage that a replica uses while it runs, as an interface that a simulator can
//! replace.

use logboat_raft::{GroupId, LogId};
use logboat_storage::SnapshotStore;
use std::io;

/// Adopts a snapshot that a leader sent.
pub trait Storage: Send + Sync {
    /// Makes the received snapshot that covers the log up to `last` the group's current one,
    /// durably, and opens it.
    ///
    /// # Errors
    /// When it is missing, damaged or can't be renamed.
    fn adopt_snapshot(&self, group: GroupId, last: LogId) -> io::Result<Box<dyn io::Read>>;

    /// Drops the received snapshot up to `last`, which the group has no use for.
    fn discard_snapshot(&self, group: GroupId, last: LogId);
}

impl Storage for SnapshotStore {
    fn adopt_snapshot(&self, group: GroupId, last: LogId) -> io::Result<Box<dyn io::Read>> {
        self.adopt(group, last).map_err(io::Error::other)?;
        match self.read(group).map_err(io::Error::other)? {
            Some((found, reader)) if found == last => Ok(Box::new(reader)),
            Some(_) | None => Err(io::Error::other("the adopted snapshot is not there")),
        }
    }

    fn discard_snapshot(&self, group: GroupId, last: LogId) {
        if let Err(error) = self.discard(group, last) {
            // The next start removes it at the latest.
            tracing::warn!(group = group.0, "removing a snapshot that is not needed: {error}");
        }
    }
}
