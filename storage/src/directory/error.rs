//! Why a data directory can't be used.

use logboat_raft::{ClusterId, NodeId};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process uses it.
    #[error("the data directory {} is in use by {}", .path.display(), holder(.pid.as_ref()))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other process, if it can be told.
        pid: Option<u32>,
    },
    /// It is another node's.
    #[error("the data directory {} belongs to node {stored}, not to node {given}", .path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// The node that it belongs to.
        stored: NodeId,
        /// The node that was to use it.
        given: NodeId,
    },
    /// It is another cluster's.
    #[error(
        "the data directory {} belongs to cluster {stored:?}, not to {given:?}",
        .path.display()
    )]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// The name of the cluster that it belongs to.
        stored: String,
        /// The name of the cluster that was to use it.
        given: String,
    },
    /// It is of another cluster with the same name.
    #[error(
        "the data directory {} belongs to cluster {stored}, not to cluster {given}, which has the \
         same name",
        .path.display()
    )]
    OtherDrawnCluster {
        /// The directory.
        path: PathBuf,
        /// The id that was drawn for the cluster that it belongs to.
        stored: ClusterId,
        /// The id that was drawn for the cluster that was to use it.
        given: ClusterId,
    },
    /// Its node has given up its id, and is about to join again as a new one.
    #[error(
        "{}: its node is about to join again as a new one, and belongs to nobody until it has",
        .path.display()
    )]
    JoinsAgain {
        /// The directory.
        path: PathBuf,
    },
    /// The cluster has other members.
    #[error(
        "the data directory {} belongs to a cluster of the nodes {}, not {}",
        .path.display(), list(.stored), list(.given)
    )]
    OtherMembers {
        /// The directory.
        path: PathBuf,
        /// The members as stored.
        stored: Vec<NodeId>,
        /// The members as given.
        given: Vec<NodeId>,
    },
    /// A file is not what was written.
    #[error("{}: {what}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A part of it is not there. It may come back, as where a disk was not mounted.
    #[error("{}: {what}", .file.display())]
    Missing {
        /// The file or directory.
        file: PathBuf,
        /// Why it should be there.
        what: String,
    },
    /// What it holds is elsewhere, so it can't be set aside with the directory.
    #[error(
        "{} is a link, or another disk is mounted there: what a node has left can't be set aside \
         by itself then; empty the data directory, and have the node join as a new one",
        .path.display()
    )]
    Elsewhere {
        /// The link, or where the disk is mounted.
        path: PathBuf,
    },
    /// A file is what was written, but this build of Logboat can't read it.
    #[error("{}: {what}", .file.display())]
    OtherVersion {
        /// The file.
        file: PathBuf,
        /// What this build does not know.
        what: String,
    },
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}

/// Why one of the small files can't be used; the error names it.
pub(super) fn unreadable(file: &Path, error: io::Error) -> DirectoryError {
    match error.kind() {
        ErrorKind::InvalidData => {
            DirectoryError::Damaged { file: file.to_owned(), what: error.to_string() }
        }
        ErrorKind::Unsupported => {
            DirectoryError::OtherVersion { file: file.to_owned(), what: error.to_string() }
        }
        _ => DirectoryError::Io { path: file.to_owned(), source: error },
    }
}

pub(super) fn list(nodes: &[NodeId]) -> String {
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    nodes.join(",")
}

fn holder(pid: Option<&u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
