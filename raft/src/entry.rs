//! The log's entry and the checksum that travels with it from the leader to every disk.

use crate::{GroupId, Index, LogId, Term};
use bytes::Bytes;
use smallvec::SmallVec;

/// What an entry is for. The discriminant is what stands on the wire and on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A new leader's first entry: commits what earlier terms left, changes nothing.
    Noop = 0,
    /// A command for the state machine.
    Command = 1,
    /// The group's [`Configuration`](crate::Configuration) from this entry on.
    Configuration = 2,
}

impl EntryKind {
    /// The kind with this discriminant, if there is one.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Noop),
            1 => Some(Self::Command),
            2 => Some(Self::Configuration),
            _ => None,
        }
    }
}

/// Consecutive entries. Mostly there is one, which then needs no allocation.
pub type Entries = SmallVec<[Entry; 1]>;

/// Commands of one proposal, likewise.
pub type Commands = SmallVec<[Bytes; 1]>;

/// One entry of a group's log. The leader that makes the entry computes the checksum, once. It is
/// verified wherever the entry arrives, from the wire or from disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that made it.
    pub term: Term,
    /// Its position in the group's log.
    pub index: Index,
    /// What it is for.
    pub kind: EntryKind,
    /// The command, or the encoded configuration; empty for [`EntryKind::Noop`].
    pub data: Bytes,
    /// CRC-32 (IEEE) over group, term and index (each eight bytes, little-endian), the kind's byte
    /// and `data`.
    pub checksum: u32,
}

impl Entry {
    /// A new entry with its checksum.
    #[must_use]
    pub fn new(group: GroupId, id: LogId, kind: EntryKind, data: Bytes) -> Self {
        let checksum = checksum(group, id, kind, &data);
        Self { term: id.term, index: id.index, kind, data, checksum }
    }

    /// The identity of the entry.
    #[must_use]
    pub const fn id(&self) -> LogId {
        LogId::new(self.term, self.index)
    }

    /// Checks that the entry is what its leader made, and made for this group.
    ///
    /// # Errors
    /// [`ChecksumMismatch`] when any of its fields, or the group, is not the leader's.
    pub fn verify(&self, group: GroupId) -> Result<(), ChecksumMismatch> {
        let found = checksum(group, self.id(), self.kind, &self.data);
        if found == self.checksum {
            return Ok(());
        }
        Err(ChecksumMismatch { group, index: self.index, expected: self.checksum, found })
    }
}

/// An entry is not what its leader made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} of group {group}: checksum {found:#010x}, expected {expected:#010x}")]
pub struct ChecksumMismatch {
    /// The group whose entry it should be.
    pub group: GroupId,
    /// The entry's position.
    pub index: Index,
    /// The checksum that came with the entry.
    pub expected: u32,
    /// The checksum of what was found.
    pub found: u32,
}

/// The checksum of the entry with this identity, kind and data.
#[must_use]
pub fn checksum(group: GroupId, id: LogId, kind: EntryKind, data: &[u8]) -> u32 {
    let mut header = [0; 25];
    header[..8].copy_from_slice(&group.0.to_le_bytes());
    header[8..16].copy_from_slice(&id.term.0.to_le_bytes());
    header[16..24].copy_from_slice(&id.index.0.to_le_bytes());
    header[24] = kind as u8;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header);
    hasher.update(data);
    hasher.finalize()
}
