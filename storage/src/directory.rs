//! The data directory of a node: who may use it, and whose it is.

use logboat_raft::NodeId;
use std::fmt;
use std::path::{Path, PathBuf};

/// A cluster: what its nodes were founded as, so that two clusters never mix their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Whose data a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The nodes of the cluster, this one among them.
    pub members: Vec<NodeId>,
}

/// A data directory, locked against other processes for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
}

impl DataDir {
    /// Opens and locks a data directory; a fresh one gets this identity.
    ///
    /// # Errors
    /// [`DirectoryError`] when it is in use, damaged or somebody else's.
    pub fn open(path: &Path, identity: &Identity) -> Result<(Self, Identity), DirectoryError> {
        let _ = (path, identity);
        todo!()
    }

    /// Where the write-ahead log lives.
    #[must_use]
    pub fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    /// Where the snapshots live.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }
}

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {}
