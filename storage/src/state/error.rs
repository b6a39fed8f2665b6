//! What can go wrong with a state engine.

use crate::state::batch::{MAX_KEY_BYTES, Namespace};
use crate::wal::is_shortage;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a state engine can't do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StateError {
    /// Too much waits to be written to the disk. The batch had no effect; try again later.
    #[error("the tables can't be written as fast as they fill")]
    Busy,
    /// The disk has no room for more tables, or the process no descriptors. Nothing has changed;
    /// try again later.
    #[error("{} has no room for more tables", .0.display())]
    NoRoom(PathBuf),
    /// The namespace was deleted, or never was.
    #[error("there is no namespace {0}")]
    NoNamespace(Namespace),
    /// The namespace has been written to already.
    #[error("namespace {0} is not empty")]
    NotFresh(Namespace),
    /// A key is too long.
    #[error("a key of {0} bytes; at most {MAX_KEY_BYTES} are allowed")]
    KeyTooLong(usize),
    /// Keys are not in ascending order.
    #[error("the keys to be taken in are not in ascending order")]
    Unordered,
    /// Where the data to be taken in came from failed.
    #[error("reading what was to be taken in: {0}")]
    Source(Arc<io::Error>),
    /// Another process uses the directory.
    #[error("{} is in use by {}", .path.display(), .holder)]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who uses it.
        holder: String,
    },
    /// A file is not what was written.
    #[error("{}: {what}", .path.display())]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The tables are what was written, but for another node, or by another build of Logboat.
    #[error("{}: {what}", .path.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its reason.
        source: Arc<io::Error>,
    },
    /// The engine has failed before, for this reason, and takes no more writes until it is opened
    /// anew. What was not durable then may be lost.
    #[error("the state engine has failed: {0}")]
    Poisoned(Arc<str>),
}

impl StateError {
    /// Whether the same may succeed another time, since descriptors or memory were short: then the
    /// error says nothing about the tables.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_shortage(source))
    }

    pub(super) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), source: Arc::new(source) }
    }

    pub(super) fn foreign(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Foreign { path: path.into(), what: what.into() }
    }

    pub(super) fn damaged(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), what: what.into() }
    }
}
