//! The records in a batch.
//!
//! ```text
//! record     = header, CRC-32 of salt and header, data
//! header     = kind, group, fields of the kind
//! hard state : term, flags (1: has a vote, 2: is fortified), vote, commit; if it is fortified:
//!                   leader's node, epoch
//! compact, reset : term, index
//! append, rewrite : term, first index, count, then for each entry: length, kind (a byte), its
//!                   own CRC-32; the entries' data follow the header's CRC, one after the other
//! grant : epoch, run, flags (1: the support stands); a peer stands in the place of the group
//! ```
//! Kinds are a byte, numbers LEB128 varints, CRCs four bytes little-endian. The entries' data are
//! covered by the checksums that their leader computed and by nothing else; these checksums and
//! the lengths stand in the header, so they are covered by the salt. Nothing is summed twice.

use super::blocks::{aligned, unaligned_bytes};
use super::format::{
    BATCH_ALIGN, BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, salted_crc, u32_at,
};
use super::index::{Change, Effect};
use bytes::Bytes;
use logboat_raft::{
    ChecksumMismatch, Entry, EntryKind, Epoch, Fortification, Grant, GroupId, HardState, Index,
    LogId, LogWrite, NodeId, Persist, Run, Term, checksum,
};

const HARD_STATE: u8 = 1;
const APPEND: u8 = 2;
const COMPACT: u8 = 3;
const RESET: u8 = 4;
const REWRITE: u8 = 5;
const GRANT: u8 = 6;

/// Flags of a hard state.
const HAS_VOTE: u8 = 1;
const IS_FORTIFIED: u8 = 2;
/// A flag of a grant.
const IS_LIVE: u8 = 1;

const CRC_BYTES: usize = 4;

/// The fewest bytes that an entry takes in a header.
const LEAST_ENTRY_BYTES: usize = 6;

/// A record's place in its batch, and what it changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) effect: Effect,
    /// Offset from the beginning of the batch, its header included.
    pub(super) offset: u32,
    /// Bytes of the record.
    pub(super) bytes: u32,
}

/// Builds one batch at a time. Its buffers are kept from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// What makes the first block begin at a multiple of its size in memory, blocks.
    buffer: Vec<u8>,
    /// Where the batch begins in the buffer.
    start: usize,
    records: Vec<Placed>,
    salt: u64,
}

impl Encoder {
    /// Begins a batch in a segment with this salt, in a block that holds `begun` before it.
    pub(super) fn begin(&mut self, salt: u64, begun: &[u8]) {
        self.salt = salt;
        self.records.clear();
        self.buffer.clear();
        self.buffer.resize(unaligned_bytes(&self.buffer), 0);
        self.buffer.extend_from_slice(begun);
        self.start = self.buffer.len();
        self.buffer.resize(self.start + BATCH_HEADER_BYTES, 0);
    }

    /// Adds all that a write says.
    pub(super) fn persist(&mut self, group: GroupId, persist: &Persist) {
        if let Some(hard_state) = persist.hard_state {
            self.hard_state(group, hard_state);
        }
        match &persist.log {
            LogWrite::Keep => {}
            LogWrite::Append(entries) => self.entries(group, entries, false),
            LogWrite::Compact(last) => self.compact(group, *last),
            LogWrite::Reset(last) => self.point(group, RESET, *last, Change::Reset(*last)),
        }
    }

    /// Adds a hard state.
    pub(super) fn hard_state(&mut self, group: GroupId, state: HardState) {
        let effect = Effect::Group(group, Change::HardState(state));
        self.record(HARD_STATE, effect, &[], |header| {
            put(header, state.term.0);
            let has_vote = u8::from(state.vote.is_some()) * HAS_VOTE;
            let is_fortified = u8::from(state.fortified.is_some()) * IS_FORTIFIED;
            header.push(has_vote | is_fortified);
            put(header, state.vote.unwrap_or_default().0);
            put(header, state.commit.0);
            if let Some(fortification) = state.fortified {
                put(header, fortification.leader.0);
                put(header, fortification.epoch.0);
            }
        });
    }

    /// Adds what the node granted a peer.
    pub(super) fn grant(&mut self, peer: NodeId, grant: Grant) {
        self.record(GRANT, Effect::Grant(peer, grant), &[], |header| {
            put(header, grant.epoch.0);
            put(header, grant.run.0);
            header.push(u8::from(grant.live) * IS_LIVE);
        });
    }

    /// Adds a compaction point.
    pub(super) fn compact(&mut self, group: GroupId, last: LogId) {
        self.point(group, COMPACT, last, Change::Compact(last));
    }

    /// Adds consecutive entries, one record for each stretch of a term. `rewritten` entries are
    /// copies of live ones: they truncate nothing.
    pub(super) fn entries(&mut self, group: GroupId, entries: &[Entry], rewritten: bool) {
        for run in entries.chunk_by(|a, b| a.term == b.term) {
            let (first, count) = (run[0].index, run.len() as u32);
            let (kind, change) = if rewritten {
                (REWRITE, Change::Rewrite { first, count })
            } else {
                (APPEND, Change::Append { first, count })
            };
            self.record(kind, Effect::Group(group, change), run, |header| {
                put(header, run[0].term.0);
                put(header, first.0);
                put(header, u64::from(count));
                for entry in run {
                    put(header, entry.data.len() as u64);
                    header.push(entry.kind as u8);
                    header.extend(entry.checksum.to_le_bytes());
                }
            });
        }
    }

    /// The length that the batch has when it is finished.
    pub(super) fn batch_bytes(&self) -> u64 {
        (self.buffer.len() - self.start).next_multiple_of(BATCH_ALIGN) as u64
    }

    /// Completes the batch for this offset and returns the blocks to write, with zeros behind it,
    /// aligned in memory; and the records. `header` needs no lengths.
    pub(super) fn finish(&mut self, mut header: BatchHeader, offset: u64) -> (&[u8], &[Placed]) {
        let bytes = self.batch_bytes();
        header.body_bytes = (bytes as usize - BATCH_HEADER_BYTES) as u32;
        header.records = self.records.len() as u32;
        let header = header.encode(self.salt, offset);
        self.buffer[self.start..self.start + BATCH_HEADER_BYTES].copy_from_slice(&header);
        let block = BLOCK_BYTES as usize;
        let mut first = self.start - (offset % BLOCK_BYTES) as usize;
        let filled = (self.start - first + bytes as usize).next_multiple_of(block);
        self.buffer.resize(first + filled, 0);
        if unaligned_bytes(&self.buffer[first..]) > 0 {
            // The buffer has grown and moved. It keeps its size from now on.
            (self.buffer, first) = aligned(&self.buffer[first..], self.buffer.capacity());
        }
        (&self.buffer[first..], &self.records)
    }

    fn point(&mut self, group: GroupId, kind: u8, last: LogId, change: Change) {
        self.record(kind, Effect::Group(group, change), &[], |header| {
            put(header, last.term.0);
            put(header, last.index.0);
        });
    }

    fn record(
        &mut self,
        kind: u8,
        effect: Effect,
        entries: &[Entry],
        fields: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.buffer.len();
        self.buffer.push(kind);
        let subject = match effect {
            Effect::Group(group, _) => group.0,
            Effect::Grant(peer, _) => peer.0,
        };
        put(&mut self.buffer, subject);
        fields(&mut self.buffer);
        let crc = salted_crc(self.salt, &[], &self.buffer[start..]);
        self.buffer.extend(crc.to_le_bytes());
        for entry in entries {
            self.buffer.extend_from_slice(&entry.data);
        }
        self.records.push(Placed {
            effect,
            offset: (start - self.start) as u32,
            bytes: (self.buffer.len() - start) as u32,
        });
    }
}

/// The entries that a write appends.
pub(super) fn appended(write: &LogWrite) -> &[Entry] {
    match write {
        LogWrite::Append(entries) => entries,
        LogWrite::Keep | LogWrite::Compact(_) | LogWrite::Reset(_) => &[],
    }
}

/// A record whose header verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) effect: Effect,
    /// Bytes of the record, the entries' data included.
    pub(super) bytes: usize,
    /// The term of its entries; zero for other kinds.
    pub(super) term: Term,
    /// Where the entries' fields begin.
    fields: usize,
    /// Where the entries' data begin.
    data: usize,
}

impl Record {
    /// Reads the record at the beginning of `bytes`, which may go on behind it. `None` when its
    /// header does not verify or the record does not fit into `bytes`.
    pub(super) fn decode(bytes: &[u8], salt: u64) -> Option<Self> {
        let record = Self::parse(bytes)?;
        let header = record.data - CRC_BYTES;
        (salted_crc(salt, &[], &bytes[..header]) == u32_at(bytes, header)).then_some(record)
    }

    /// Reads a record like [`Self::decode`], whose header was verified before. No length is believed
    /// before it is checked against what there is.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor { bytes, at: 0 };
        let kind = cursor.byte()?;
        let subject = cursor.varint()?;
        let group = GroupId(subject);
        let mut term = Term(0);
        let (mut fields, mut data_bytes) = (0, 0_usize);
        let effect = match kind {
            HARD_STATE => Effect::Group(group, Change::HardState(cursor.hard_state()?)),
            COMPACT => Effect::Group(group, Change::Compact(cursor.log_id()?)),
            RESET => Effect::Group(group, Change::Reset(cursor.log_id()?)),
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
                for _ in 0..count {
                    data_bytes = data_bytes.checked_add(cursor.entry()?.bytes)?;
                }
                let count = count as u32;
                let change = if kind == APPEND {
                    Change::Append { first, count }
                } else {
                    Change::Rewrite { first, count }
                };
                Effect::Group(group, change)
            }
            GRANT => Effect::Grant(NodeId(subject), cursor.grant()?),
            _ => return None,
        };
        cursor.u32()?;
        if data_bytes > cursor.left() {
            return None;
        }
        Some(Self { effect, bytes: cursor.at + data_bytes, term, fields, data: cursor.at })
    }

    /// The group that it is about, if it is about one.
    pub(super) const fn group(&self) -> Option<GroupId> {
        match self.effect {
            Effect::Group(group, _) => Some(group),
            Effect::Grant(..) => None,
        }
    }

    /// Verifies the entries of the record that begins `bytes`, the same ones that it was decoded from.
    pub(super) fn verify(&self, bytes: &[u8]) -> Result<(), ChecksumMismatch> {
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
                Change::Append { first, count } | Change::Rewrite { first, count },
            ) => Some((group, first, count as u64)),
            Effect::Group(_, Change::HardState(_) | Change::Compact(_) | Change::Reset(_))
            | Effect::Grant(..) => None,
        }
    }

    /// The entries of the record that begins `bytes`, the same ones that it was decoded from;
    /// their checksums are not verified. Their data borrow `bytes`.
    pub(super) fn entries<'a>(&self, bytes: &'a Bytes) -> impl Iterator<Item = Entry> + 'a {
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
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
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
        let fortified = if flags & IS_FORTIFIED != 0 {
            let leader = NodeId(self.varint()?);
            Some(Fortification { leader, epoch: Epoch(self.varint()?) })
        } else {
            None
        };
        let vote = (flags & HAS_VOTE != 0).then_some(vote);
        Some(HardState { term, vote, commit, fortified })
    }

    fn grant(&mut self) -> Option<Grant> {
        let (epoch, run) = (Epoch(self.varint()?), Run(self.varint()?));
        Some(Grant { epoch, run, live: self.byte()? & IS_LIVE != 0 })
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

fn put(buffer: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        buffer.push(number as u8 | 0x80);
        number >>= 7;
    }
    buffer.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_return_what_was_put_and_refuse_what_overflows() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            let mut cursor = Cursor { bytes: &bytes, at: 0 };
            assert_eq!(cursor.varint(), Some(number));
            assert_eq!(cursor.left(), 0);
        }
        for bytes in [[0xff; 10].as_slice(), &[0x80; 11], &[0x80]] {
            assert_eq!(Cursor { bytes, at: 0 }.varint(), None);
        }
    }

    #[test]
    fn hard_states_and_grants_are_read_as_they_were_written() {
        let fortified = Some(Fortification { leader: NodeId(300), epoch: Epoch(u64::MAX) });
        let vote = Some(NodeId(u64::MAX));
        let mut effects = Vec::new();
        for (vote, fortified) in [(None, None), (vote, None), (None, fortified), (vote, fortified)]
        {
            let state = HardState { term: Term(7), vote, commit: Index(u64::MAX), fortified };
            effects.push(Effect::Group(GroupId(u64::MAX), Change::HardState(state)));
        }
        for (epoch, live) in [(0, false), (0, true), (u64::MAX, false), (u64::MAX, true)] {
            let grant = Grant { epoch: Epoch(epoch), run: Run(128), live };
            effects.push(Effect::Grant(NodeId(epoch), grant));
        }
        let mut encoder = Encoder::default();
        encoder.begin(1, &[]);
        for effect in &effects {
            match *effect {
                Effect::Group(group, Change::HardState(state)) => encoder.hard_state(group, state),
                Effect::Grant(peer, grant) => encoder.grant(peer, grant),
                Effect::Group(..) => unreachable!("there are no others above"),
            }
        }
        let mut bytes = &encoder.buffer[encoder.start + BATCH_HEADER_BYTES..];
        for (effect, placed) in effects.iter().zip(&encoder.records) {
            let record = Record::decode(bytes, 1).unwrap();
            assert_eq!((record.effect, record.bytes), (*effect, placed.bytes as usize));
            assert_eq!(placed.effect, *effect);
            for end in 0..record.bytes {
                assert!(Record::decode(&bytes[..end], 1).is_none(), "{effect:?} cut at {end}");
            }
            bytes = &bytes[record.bytes..];
        }
        assert!(bytes.is_empty());
    }

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

    #[test]
    fn an_entry_of_128_bytes_costs_at_most_25_more() {
        let group = GroupId(999);
        let id = LogId::new(Term(3), Index(1_000_000));
        let entry = Entry::new(group, id, EntryKind::Command, Bytes::from(vec![7; 128]));
        let mut encoder = Encoder::default();
        encoder.begin(1, &[]);
        encoder.entries(group, &[entry], false);
        let record = encoder.buffer.len() - encoder.start - BATCH_HEADER_BYTES;
        assert!(record <= 128 + 25, "{record}");
    }
}
