//! The records in a batch.
//!
//! ```text
//! record          = header, CRC-32 of salt and header, data
//! header          = kind, group, fields of the kind
//! hard state      : term, flags (1: has a vote, 2: is fortified; 4, 8, 16: this replica, the one
//!                   that got the vote, the leader is no founder), who got the vote, commit; if it
//!                   is fortified: the leader's node, epoch, term; then the ids of those of the
//!                   three that are no founders
//! compact, reset  : term, index, and the configuration there
//! append, rewrite : term, first index, count, then for each entry: length, kind (a byte), its
//!                   own CRC-32; the entries' data follow the header's CRC, one after the other
//! founding        : the configuration that the group was founded with
//! tombstone, lost : the smallest id that a replica may still have; lost: since the one here was
//!                   given up, data of which were damaged
//! grant           : epoch, boot count, flags (1: the support stands, 2: leases are promised);
//!                   if they are: the longest, in microseconds; how far the peer's log was
//!                   durable, segment and offset in a number; a peer stands in the place of the
//!                   group
//! ```
//! Kinds are a byte, numbers LEB128 varints, CRCs four bytes little-endian. A configuration is its
//! length and its encoding, the id of a replica a term and an index.
//!
//! The data of entries are covered by the checksums that their leader computed, and by nothing
//! else: nothing is summed twice. These checksums and the lengths stand in the header, so the salt
//! covers them.

use super::bits::{salted_crc, u32_at};
use super::effect::{Change, Effect};
use bytes::Bytes;
use logboat_raft::{
    BootCount, ChecksumMismatch, Configuration, Entry, EntryKind, Epoch, Fortification, Grant,
    GroupId, HardState, Index, LogId, LogPosition, NodeId, ReplicaAddress, ReplicaId, SnapshotMeta,
    Term, checksum,
};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const HARD_STATE: u8 = 1;
pub(crate) const APPEND: u8 = 2;
pub(crate) const COMPACT: u8 = 3;
pub(crate) const RESET: u8 = 4;
pub(crate) const REWRITE: u8 = 5;
pub(crate) const GRANT: u8 = 6;
pub(crate) const FOUNDING: u8 = 7;
pub(crate) const TOMBSTONE: u8 = 8;
pub(crate) const LOST: u8 = 9;

/// Flags of a hard state.
pub(crate) const HAS_VOTE: u8 = 1;
pub(crate) const IS_FORTIFIED: u8 = 2;
pub(crate) const WAS_ADDED: u8 = 4;
pub(crate) const VOTE_WAS_ADDED: u8 = 8;
pub(crate) const LEADER_WAS_ADDED: u8 = 16;
/// Flags of a grant.
pub(crate) const IS_LIVE: u8 = 1;
pub(crate) const HAS_LEASE: u8 = 2;

const CRC_BYTES: usize = 4;

/// The fewest bytes that an entry takes in a header.
const LEAST_ENTRY_BYTES: usize = 6;

/// A record whose header verified.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) effect: Effect,
    /// Bytes of the record, the entries' data included.
    pub(crate) bytes: usize,
    /// The term of its entries; zero for other kinds.
    pub(crate) term: Term,
    /// Whether each configuration that its entries hold can be read, and is of that entry.
    pub(crate) is_readable: bool,
    /// Where the entries' fields begin.
    fields: usize,
    /// Where the entries' data begin.
    data: usize,
}

impl Record {
    /// Reads the record at the beginning of `bytes`, which may go on behind it. `None` when its
    /// header does not verify or the record does not fit into `bytes`.
    pub(crate) fn decode(bytes: &[u8], salt: u64) -> Option<Self> {
        let record = Self::parse(bytes)?;
        let header = record.data - CRC_BYTES;
        (salted_crc(salt, &[], &bytes[..header]) == u32_at(bytes, header)).then_some(record)
    }

    /// Reads a record like [`Self::decode`], whose header was verified before. No length is
    /// believed before it is checked against what there is.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor { bytes, at: 0 };
        let kind = cursor.byte()?;
        let subject = cursor.varint()?;
        let group = GroupId(subject);
        let mut term = Term(0);
        let (mut fields, mut data_bytes, mut is_readable) = (0, 0_usize, true);
        let effect = match kind {
            HARD_STATE => Effect::Group(group, Change::HardState(Box::new(cursor.hard_state()?))),
            COMPACT => Effect::Group(group, Change::Compact(cursor.cut()?)),
            RESET => Effect::Group(group, Change::Reset(cursor.cut()?)),
            APPEND | REWRITE => {
                term = Term(cursor.varint()?);
                let first = cursor.index()?;
                let count = cursor.varint()?;
                fields = cursor.at;
                if first == Index(0)
                    || count == 0
                    || count > (cursor.left() / LEAST_ENTRY_BYTES) as u64
                {
                    return None;
                }
                first.0.checked_add(count)?;
                let mut holders = Vec::new();
                for at in 0..count {
                    let entry = cursor.entry()?;
                    let end = data_bytes.checked_add(entry.bytes)?;
                    if entry.kind == EntryKind::Configuration {
                        holders.push((LogId::new(term, first.plus(at)), data_bytes..end));
                    }
                    data_bytes = end;
                }
                let count = count as u32;
                let data = bytes.get(cursor.at + CRC_BYTES..)?;
                let count_held = holders.len();
                let configuration = |(id, range)| {
                    let configuration = Configuration::decode(data.get(range)?).ok();
                    configuration.filter(|configuration| configuration.id() == id)
                };
                let found = holders.into_iter().filter_map(configuration).map(Arc::new);
                let configurations: Vec<_> = found.collect();
                is_readable = configurations.len() == count_held;
                let change = if kind == APPEND {
                    Change::Append { first, count, configurations }
                } else {
                    Change::Rewrite { first, count, configurations }
                };
                Effect::Group(group, change)
            }
            FOUNDING => {
                let founding = cursor.configuration()?;
                let is_held = founding.id() != LogId::default();
                Effect::Group(group, (!is_held).then_some(Change::Founding(founding))?)
            }
            TOMBSTONE | LOST => {
                let floor = ReplicaId(cursor.log_id()?);
                Effect::Group(group, Change::Tombstone { floor, lost: kind == LOST })
            }
            GRANT => Effect::Grant(NodeId(subject), cursor.grant()?),
            _ => return None,
        };
        cursor.u32()?;
        if data_bytes > cursor.left() {
            return None;
        }
        let (bytes, data) = (cursor.at + data_bytes, cursor.at);
        Some(Self { effect, bytes, term, fields, data, is_readable })
    }

    /// The group that it is about, if it is about one.
    pub(crate) const fn group(&self) -> Option<GroupId> {
        match self.effect {
            Effect::Group(group, _) => Some(group),
            Effect::Grant(..) => None,
        }
    }

    /// Verifies the entries of the record that begins `bytes`, the same ones that it was decoded
    /// from.
    pub(crate) fn verify(&self, bytes: &[u8]) -> Result<(), ChecksumMismatch> {
        let mut data = self.data;
        let mut cursor = Cursor { bytes, at: self.fields };
        let Some((group, first, count)) = self.range() else { return Ok(()) };
        for at in 0..count {
            let Some(entry) = cursor.entry() else { break };
            let (id, end) = (LogId::new(self.term, first.plus(at)), data + entry.bytes);
            let expected = entry.checksum;
            let found = checksum(group, id, entry.kind, &bytes[data..end]);
            if found != expected {
                return Err(ChecksumMismatch { group, index: id.index, expected, found });
            }
            data = end;
        }
        Ok(())
    }

    /// The group of its entries, the first of them, and how many there are; if it holds entries.
    const fn range(&self) -> Option<(GroupId, Index, u64)> {
        match self.effect {
            Effect::Group(
                group,
                Change::Append { first, count, .. } | Change::Rewrite { first, count, .. },
            ) => Some((group, first, count as u64)),
            Effect::Group(
                _,
                Change::HardState(_)
                | Change::Compact(_)
                | Change::Reset(_)
                | Change::Founding(_)
                | Change::Tombstone { .. },
            )
            | Effect::Grant(..) => None,
        }
    }

    /// The entries of the record that begins `bytes`, the same ones that it was decoded from;
    /// their checksums are not verified. Their data borrow `bytes`.
    pub(crate) fn entries<'a>(&self, bytes: &'a Bytes) -> impl Iterator<Item = Entry> + 'a {
        let (_, first, count) = self.range().unwrap_or_default();
        let term = self.term;
        let mut data = self.data;
        let mut cursor = Cursor { bytes, at: self.fields };
        (0..count).map_while(move |at| {
            let entry = cursor.entry()?;
            let start = data;
            data += entry.bytes;
            Some(Entry {
                term,
                index: first.plus(at),
                kind: entry.kind,
                data: bytes.slice(start..data),
                checksum: entry.checksum,
            })
        })
    }
}

struct EntryFields {
    bytes: usize,
    kind: EntryKind,
    checksum: u32,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        let number = u32_at(self.bytes.get(self.at..self.at + 4)?, 0);
        self.at += 4;
        Some(number)
    }

    fn varint(&mut self) -> Option<u64> {
        let (number, bytes) = logboat_varint::decode(self.bytes.get(self.at..)?).ok()?;
        self.at += bytes;
        Some(number)
    }

    /// An index that has a next one.
    fn index(&mut self) -> Option<Index> {
        self.varint().filter(|index| *index < u64::MAX).map(Index)
    }

    fn hard_state(&mut self) -> Option<HardState> {
        let term = Term(self.varint()?);
        let flags = self.byte()?;
        let vote = NodeId(self.varint()?);
        let commit = Index(self.varint()?);
        let mut fortified = if flags & IS_FORTIFIED != 0 {
            let leader = NodeId(self.varint()?);
            let (epoch, term) = (Epoch(self.varint()?), Term(self.varint()?));
            Some(Fortification { leader, replica: ReplicaId::FOUNDER, epoch, term })
        } else {
            None
        };
        let replica = self.replica(flags & WAS_ADDED != 0)?;
        let voted_for = self.replica(flags & VOTE_WAS_ADDED != 0)?;
        let leader = self.replica(flags & LEADER_WAS_ADDED != 0)?;
        let vote = (flags & HAS_VOTE != 0).then_some(ReplicaAddress::new(vote, voted_for));
        if let Some(bond) = &mut fortified {
            bond.replica = leader;
        }
        Some(HardState { replica, term, vote, commit, fortified })
    }

    fn replica(&mut self, was_added: bool) -> Option<ReplicaId> {
        if was_added { self.log_id().map(ReplicaId) } else { Some(ReplicaId::FOUNDER) }
    }

    fn grant(&mut self) -> Option<Grant> {
        let (epoch, boot) = (Epoch(self.varint()?), BootCount(self.varint()?));
        let flags = self.byte()?;
        let lease_us = if flags & HAS_LEASE != 0 { self.varint()? } else { 0 };
        let lease = Duration::from_micros(lease_us);
        let log_end = LogPosition::unpack(self.varint()?);
        Some(Grant { epoch, boot, live: flags & IS_LIVE != 0, lease, log_end })
    }

    fn configuration(&mut self) -> Option<Arc<Configuration>> {
        let end = self.varint()?.checked_add(self.at as u64)?;
        let encoded = self.bytes.get(self.at..usize::try_from(end).ok()?)?;
        self.at += encoded.len();
        Configuration::decode(encoded).ok().map(Arc::new)
    }

    fn cut(&mut self) -> Option<SnapshotMeta> {
        let (last, configuration) = (self.log_id()?, self.configuration()?);
        let id = configuration.id();
        let is_before = id.term <= last.term && id.index <= last.index;
        is_before.then_some(SnapshotMeta { last, configuration })
    }

    fn log_id(&mut self) -> Option<LogId> {
        let term = Term(self.varint()?);
        Some(LogId::new(term, self.index()?))
    }

    fn entry(&mut self) -> Option<EntryFields> {
        Some(EntryFields {
            bytes: usize::try_from(self.varint()?).ok()?,
            kind: EntryKind::from_u8(self.byte()?)?,
            checksum: self.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_varint::put;

    #[test]
    fn an_absurd_count_or_length_is_refused_without_being_allocated() {
        for (count, length) in [(u64::MAX, 1), (1, u64::MAX), (2, u64::MAX / 2 + 1)] {
            let mut bytes = vec![APPEND, 1, 1, 1];
            put(&mut bytes, count);
            for _ in 0..2 {
                put(&mut bytes, length);
                bytes.extend([0; 5]);
            }
            let crc = salted_crc(7, &[], &bytes);
            bytes.extend(crc.to_le_bytes());
            assert!(Record::decode(&bytes, 7).is_none());
        }
    }
}
