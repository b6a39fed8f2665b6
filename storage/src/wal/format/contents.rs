//! The second list of a batch: whose records it holds. It has a checksum of its own and stands at
//! the end of the batch, so that damage to the header or to a record costs only those who are
//! named.
//!
//! ```text
//! list   = grants, durable mark (the first batch of a segment alone), floors, groups
//! floors = count, then for each: which of the groups, the smallest id that a replica may have
//! groups = differences of the groups' numbers (ZigZag), in the order of their records
//! footer = length of the batch in units of 8 bytes, length of the list, CRC-32
//! ```
//! Numbers in the list are LEB128 varints, but for the mark, which has eight bytes. Those of the
//! footer have four. The CRC covers the segment's salt, the batch's offset, list and lengths.
//!
//! A list names a replica's id where a record does that says which replica lives: if all that is
//! known of a replica is lost, the node must still not take the same one for another.

use super::bits::{salted_crc, u32_at, u64_at};
use super::effect::{Change, Effect};
use super::header::{BATCH_ALIGN, BATCH_HEADER_BYTES, BATCH_MAGIC};
use crate::wal::disk::BLOCK_BYTES;
use logboat_raft::{GroupId, Index, LogId, LogPosition, ReplicaId, Term};
use logboat_varint::put;
use std::ops::Range;

/// Bytes of the footer, which ends a batch.
const FOOTER_BYTES: usize = 12;
/// The most bytes that a batch without records takes.
pub(crate) const MARK_BYTES: u64 = 56;

/// What a batch holds, as its second list says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// How many grants. They come before all else.
    pub(crate) grants: u64,
    /// In the first batch of a segment, the durable mark that its header carries.
    pub(crate) durable: Option<LogPosition>,
    /// The groups, in the order of their records.
    pub(crate) groups: Vec<Named>,
}

/// A group whose records a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) group: GroupId,
    /// The smallest id that a replica may have if the one that wrote this lives no more. None for
    /// a founder, and if the records do not say which replica it is.
    pub(crate) floor: Option<ReplicaId>,
}

/// Collects the second list of a batch that is being encoded.
#[derive(Debug, Default)]
pub(crate) struct ContentsEncoder {
    grants: u64,
    groups: Vec<u8>,
    count: u64,
    last: GroupId,
    floors: Vec<u8>,
    floor_count: u64,
    is_first: bool,
}

impl ContentsEncoder {
    /// Begins the list of a batch at this offset of a segment.
    pub(crate) fn begin(&mut self, offset: u64) {
        self.groups.clear();
        self.floors.clear();
        (self.grants, self.count, self.floor_count) = (0, 0, 0);
        self.last = GroupId(0);
        self.is_first = offset == BLOCK_BYTES;
    }

    /// A record follows.
    pub(crate) fn add(&mut self, effect: &Effect) {
        let Effect::Group(group, change) = effect else {
            self.grants += 1;
            return;
        };
        if self.count == 0 || *group != self.last {
            let difference = group.0.wrapping_sub(self.last.0).cast_signed();
            put(&mut self.groups, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
            self.last = *group;
            self.count += 1;
        }
        let floor = match change {
            Change::HardState(state) if state.replica != ReplicaId::FOUNDER => state.replica.next(),
            Change::Tombstone { floor, .. } => *floor,
            _ => return,
        };
        self.floor_count += 1;
        put(&mut self.floors, self.count - 1);
        put(&mut self.floors, floor.0.term.0);
        put(&mut self.floors, floor.0.index.0);
    }

    /// Bytes of list and footer.
    pub(crate) fn bytes(&self) -> usize {
        let counts = [self.grants, self.floor_count].map(logboat_varint::bytes);
        let mark = if self.is_first { size_of::<u64>() } else { 0 };
        counts.iter().sum::<usize>() + mark + self.floors.len() + self.groups.len() + FOOTER_BYTES
    }

    /// Appends list and footer to the batch that begins at `start` of the buffer, and at `offset`
    /// of its segment.
    pub(crate) fn finish(
        &self,
        buffer: &mut Vec<u8>,
        start: usize,
        (salt, offset): (u64, u64),
        durable: LogPosition,
    ) {
        let list = buffer.len();
        put(buffer, self.grants);
        if self.is_first {
            buffer.extend(durable.pack().to_le_bytes());
        }
        put(buffer, self.floor_count);
        buffer.extend_from_slice(&self.floors);
        buffer.extend_from_slice(&self.groups);
        let list_bytes = buffer.len() - list;
        let units = (buffer.len() - start + FOOTER_BYTES) / BATCH_ALIGN;
        buffer.extend((units as u32).to_le_bytes());
        buffer.extend((list_bytes as u32).to_le_bytes());
        let crc = checksum(salt, offset, &buffer[list..]);
        buffer.extend(crc.to_le_bytes());
    }
}

/// Where the second list of a batch stands in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentsPlace {
    /// Where the batch begins.
    begin: u64,
    list: Range<usize>,
}

impl ContentsPlace {
    /// The list of the batch that reaches from `begin` to `end`, if one stands there that verifies.
    pub(crate) fn find(file: &[u8], salt: u64, begin: u64, end: u64) -> Option<Self> {
        let footer = (end as usize).checked_sub(FOOTER_BYTES)?;
        let bytes = file.get(footer..end as usize)?;
        // This is asked of many places that are no footers.
        if u64::from(u32_at(bytes, 0)) * BATCH_ALIGN as u64 != end.checked_sub(begin)? {
            return None;
        }
        let start = footer.checked_sub(u32_at(bytes, 4) as usize)?;
        if start < begin as usize + BATCH_HEADER_BYTES
            || checksum(salt, begin, &file[start..footer + 8]) != u32_at(bytes, 8)
        {
            return None;
        }
        Some(Self { begin, list: start..footer })
    }

    /// Where the list begins.
    pub(crate) const fn start(&self) -> usize {
        self.list.start
    }

    /// Reads the list; none that was written can't be read.
    pub(crate) fn read(&self, file: &[u8]) -> Option<Contents> {
        let mut rest = file.get(self.list.clone())?;
        let mut contents = Contents { grants: varint(&mut rest)?, ..Contents::default() };
        if self.begin == BLOCK_BYTES {
            let (mark, behind) = rest.split_at_checked(size_of::<u64>())?;
            contents.durable = Some(LogPosition::unpack(u64_at(mark, 0)));
            rest = behind;
        }
        let mut floors = Vec::new();
        for _ in 0..varint(&mut rest)? {
            let (at, term) = (varint(&mut rest)?, Term(varint(&mut rest)?));
            floors.push((at, ReplicaId(LogId::new(term, Index(varint(&mut rest)?)))));
        }
        let mut group = GroupId(0);
        while !rest.is_empty() {
            let number = varint(&mut rest)?;
            group = GroupId(group.0.wrapping_add((number >> 1) ^ (number & 1).wrapping_neg()));
            contents.groups.push(Named { group, floor: None });
        }
        for (at, floor) in floors {
            let named = contents.groups.get_mut(usize::try_from(at).ok()?)?;
            named.floor = named.floor.max(Some(floor));
        }
        Some(contents)
    }
}

/// Where behind `begin` a batch header may stand, or the second list of a batch that reaches from
/// `begin` to there: what stands there begins like a header, or ends like such a list.
///
/// A start looks through all that is left of a segment, most of which holds nothing. So this only
/// compares two halves of words, each of which is read once.
pub(crate) fn places(file: &[u8], begin: u64) -> impl Iterator<Item = u64> + '_ {
    let words = file.get(begin as usize..).unwrap_or_default().chunks_exact(BATCH_ALIGN);
    // Behind the last word, a list may end.
    let words = words.map(|word| u64_at(word, 0)).chain([0]);
    let magic = u32::from_le_bytes(BATCH_MAGIC);
    // The length that a footer says stands in the higher half of the word before the last.
    let mut lengths = [0; 2];
    words.enumerate().filter_map(move |(at, word)| {
        let is_place = word as u32 == magic || lengths[0] == at as u32;
        lengths = [lengths[1], (word >> 32) as u32];
        is_place.then_some(begin + (at * BATCH_ALIGN) as u64)
    })
}

// What `places` takes for granted.
const _: () = assert!(FOOTER_BYTES == BATCH_ALIGN + size_of::<u32>());

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let (number, bytes) = logboat_varint::decode(rest).ok()?;
    *rest = &rest[bytes..];
    Some(number)
}

/// Differs from that of a header at the same offset.
fn checksum(salt: u64, offset: u64, content: &[u8]) -> u32 {
    salted_crc(salt, &(!offset).to_le_bytes(), content)
}
