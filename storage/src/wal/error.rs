//! The errors of the log.

use super::disk::Unreadable;
use super::options::WalOptions;
use logboat_raft::{GroupId, Index, LogPosition, ReplicaId};
use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, io};

/// Bytes on the disk that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in the file the damaged header, record or batch begins, in bytes.
    pub offset: u64,
    /// What does not fit.
    pub what: String,
    /// The groups whose data it is, as far as that can still be read.
    pub groups: Vec<GroupId>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, offset, what) = (self.file.display(), self.offset, &self.what);
        write!(f, "{file} is damaged at offset {offset}: {what}; ")?;
        let Some((first, rest)) = self.groups.split_first() else {
            return write!(f, "which groups it held can't be read");
        };
        write!(f, "it held data of group {first}")?;
        rest.iter().try_for_each(|group| write!(f, ", {group}"))
    }
}

/// Why the log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Data that was acknowledged is damaged. The replica must be repaired from its peers.
    #[error("{0}")]
    Corrupt(Damage),
    /// A segment that is needed is not there.
    #[error("{} is missing, though the log needs it", .0.display())]
    Missing(PathBuf),
    /// A segment is of another version of the format: another build of Logboat wrote it.
    #[error("{}: {what}: another build of Logboat wrote it", .file.display())]
    OtherVersion {
        /// The file.
        file: PathBuf,
        /// Which version it is of.
        what: String,
    },
    /// A file that the log did not make lies among its own.
    #[error("{} is no file of a Logboat log", .0.display())]
    Foreign(PathBuf),
    /// The log ends before a position that it is known to have reached.
    #[error(
        "the log in {} ends at {end}, but it was durable up to {known_end}: segment files were \
         removed, or replaced by older ones",
        .directory.display()
    )]
    Short {
        /// Where the log is.
        directory: PathBuf,
        /// Where it ends; the default if there is nothing of it.
        end: LogPosition,
        /// The position that it had reached.
        known_end: LogPosition,
    },
    /// There is no room for the first segment.
    #[error("the disk is full: no room for a segment of {bytes} bytes in {}", .directory.display())]
    DiskFull {
        /// Where it should be.
        directory: PathBuf,
        /// The size of a segment.
        bytes: u64,
    },
    /// The options contradict themselves.
    #[error(
        "segments of {} bytes: a multiple of 4096 from 8192 to 2147483648 is needed",
        .0.segment_bytes
    )]
    Options(WalOptions),
    /// A part of a segment can't be read, since the device has lost it.
    #[error("{}: {source}", .file.display())]
    Unreadable {
        /// The segment file.
        file: PathBuf,
        /// Where in it, and why.
        source: Unreadable,
    },
    /// Where it ends can't be noted.
    #[error("noting where the log ends: {0}")]
    Unnoted(#[source] io::Error),
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}

/// Why entries can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// What the disk holds is not what was written.
    #[error("{0}")]
    Corrupt(Damage),
    /// The device can't read it.
    #[error("group {group}: {}: offset {offset} can't be read: {reason}", .file.display())]
    Unreadable {
        /// The group.
        group: GroupId,
        /// The segment file.
        file: PathBuf,
        /// The first block that can't be read, in bytes.
        offset: u64,
        /// The reason of the operating system.
        reason: String,
        /// Whether it passes: there were no descriptors, or no memory.
        passes: bool,
    },
}

impl ReadError {
    /// Whether the same may be read another time.
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Unreadable { passes: true, .. })
    }
}

/// Why [`Log`](super::write::Log) did not write. But for [`WriteError::Full`], it must not be used
/// again.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The active segment has no room; nothing was written. A new one of at least this many bytes
    /// must be installed first.
    #[error("a segment of {bytes} bytes is needed")]
    Full {
        /// The size of the segment, a multiple of 4,096.
        bytes: u64,
    },
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The grants of a batch are larger than any segment.
    #[error("a batch of {bytes} bytes is larger than any segment can be")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
}

/// Why the log refuses the writes of a group. That costs the group's replica alone: see
/// [`Refusals`](super::write::Refusals). But for [`Refusal::Lost`], each is a mistake of the
/// caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Entries were submitted that don't continue the group's log.
    #[error("group {group}: entry {found} was submitted where at most {expected} could follow")]
    Gap {
        /// The group.
        group: GroupId,
        /// The index after the group's last entry.
        expected: Index,
        /// The index that came.
        found: Index,
    },
    /// An entry was submitted that should hold its configuration.
    #[error("group {group}: entry {index} holds no configuration of this entry")]
    Configuration {
        /// The group.
        group: GroupId,
        /// The entry.
        index: Index,
    },
    /// A replica wrote that is below its group's tombstone.
    #[error("group {group}: a replica before {floor} wrote, though it is gone")]
    Gone {
        /// The group.
        group: GroupId,
        /// The smallest id that a replica may have.
        floor: ReplicaId,
    },
    /// A tombstone was submitted that is not above the replica that lives. It was not written.
    #[error("group {group}: the tombstone {floor} goes back")]
    Regresses {
        /// The group.
        group: GroupId,
        /// The tombstone.
        floor: ReplicaId,
    },
    /// The group's part of a batch makes it larger than any segment.
    #[error("group {group}: a batch of {bytes} bytes is larger than any segment can be")]
    TooLarge {
        /// The group.
        group: GroupId,
        /// The size of the batch.
        bytes: u64,
    },
    /// The group has so many entries that are not compacted that the index can't hold more.
    #[error("group {group} must be compacted: the log holds {entries} entries of it")]
    TooLong {
        /// The group.
        group: GroupId,
        /// Its entries.
        entries: u64,
    },
    /// Entries of the group are damaged. Its replica was given up: the log has its tombstone, and
    /// nothing else of the group.
    #[error("{error}")]
    Lost {
        /// The group.
        group: GroupId,
        /// What was found.
        error: ReadError,
    },
}

impl Refusal {
    /// The group that is refused.
    #[must_use]
    pub const fn group(&self) -> GroupId {
        match *self {
            Self::Gap { group, .. }
            | Self::Configuration { group, .. }
            | Self::Gone { group, .. }
            | Self::Regresses { group, .. }
            | Self::TooLarge { group, .. }
            | Self::TooLong { group, .. }
            | Self::Lost { group, .. } => group,
        }
    }

    /// Whether it is a tombstone that was refused. Those of groups that were refused for another
    /// reason are written.
    #[must_use]
    pub const fn is_of_tombstone(&self) -> bool {
        matches!(self, Self::Regresses { .. })
    }
}

/// The log accepts no writes any more: a write or a sync failed, which is final, or it was closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the write-ahead log takes no more writes: {reason}")]
pub struct Poisoned {
    reason: Arc<str>,
}

impl Poisoned {
    pub(crate) fn new(reason: &str) -> Self {
        Self { reason: reason.into() }
    }

    pub(crate) fn closed() -> Self {
        Self::new("it was closed")
    }
}
