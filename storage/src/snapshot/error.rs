//! What can go wrong with a snapshot.

use crate::wal::is_shortage;
use logboat_raft::{GroupId, LogId};
use std::io;
use std::path::PathBuf;

/// Why a snapshot can't be written, read or taken over.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is not what was written.
    #[error("{}: {what}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The group has a snapshot that covers as much or more.
    #[error("group {group} already has a snapshot up to {current}")]
    Superseded {
        /// The group.
        group: GroupId,
        /// The last entry of the current snapshot.
        current: LogId,
    },
    /// Nothing of the kind was received.
    #[error("no snapshot of group {group} up to {last} was received")]
    NotReceived {
        /// The group.
        group: GroupId,
        /// The last entry that it should cover.
        last: LogId,
    },
    /// The group's replica went while its snapshot was written or received.
    #[error("group {0}: its replica is gone")]
    Removed(GroupId),
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}

impl SnapshotError {
    /// Whether the same may succeed another time, since descriptors or memory were short: then the
    /// error says nothing about the file.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_shortage(source))
    }
}

pub(super) const fn failure(path: PathBuf, source: io::Error) -> SnapshotError {
    SnapshotError::Io { path, source }
}
