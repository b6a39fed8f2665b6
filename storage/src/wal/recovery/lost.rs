//! Stretches of a batch that can't be read. The batch's second list says whose records were there.

use super::scan::{Flaw, batch_at};
use crate::wal::format::{
    BATCH_HEADER_BYTES, BatchHeader, Contents, ContentsPlace, Named, Record, SegmentHeader,
};
use logboat_raft::{GroupId, LogPosition};
use std::ops::Range;

/// A stretch that can't be read, of which it is known whose records it held.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    /// Where in the file: a whole batch, or some of its records.
    pub(crate) stretch: Range<u64>,
    /// How many records, if it is not the whole batch.
    pub(crate) records: u32,
    pub(crate) what: String,
    /// The groups that may have lost something. Others have not.
    pub(crate) groups: Vec<Named>,
    /// Whether something may be lost that the node granted its peers.
    pub(crate) has_grants: bool,
}

impl Lost {
    /// The same as a flaw of the file.
    pub(crate) fn flaw(&self) -> Flaw {
        let groups = self.groups.iter().map(|named| named.group).collect();
        let what = match self.has_grants {
            true => format!("{}, which held what the node granted its peers", self.what),
            false => self.what.clone(),
        };
        Flaw { offset: self.stretch.start, what, groups }
    }

    /// The batch at `begin`, whose header is damaged, if its second list ends at `end`. Returns the
    /// durable mark as well, if it was the first batch of its segment.
    pub(super) fn batch(
        file: &[u8],
        segment: SegmentHeader,
        begin: u64,
        end: u64,
    ) -> Option<(Self, Option<LogPosition>)> {
        let place = ContentsPlace::find(file, segment.salt, begin, end)?;
        let Contents { grants, durable, groups } = place.read(file)?;
        let what = "a batch header fails its checksum".to_owned();
        let has_grants = grants > 0;
        Some((Self { stretch: begin..end, records: 0, what, groups, has_grants }, durable))
    }

    /// What is lost of the batch at `offset`, whose list stands in `place`, when `flaw` is wrong
    /// with its record `number` at `at`. The records before that one can be read.
    pub(super) fn records(
        file: &[u8],
        segment: SegmentHeader,
        (offset, place): (u64, &ContentsPlace),
        (number, at): (u32, usize),
        flaw: &Flaw,
    ) -> Option<Self> {
        let header = batch_at(file, segment, offset)?;
        let Contents { grants, groups, .. } = place.read(file)?;
        let salt = segment.salt;
        let before = Sequence::of(&file[..at], salt, offset as usize + BATCH_HEADER_BYTES);
        let (end, after) = go_on(file, salt, at + 1..place.start(), &header, number);
        let records = header.records - number - after.records;
        Some(Self {
            stretch: at as u64..end as u64,
            records,
            what: flaw.what.clone(),
            groups: between(groups, &before, &after, records),
            has_grants: grants > before.grants + after.grants,
        })
    }
}

/// Records that stand one behind the other.
#[derive(Debug, Default)]
struct Sequence {
    records: u32,
    grants: u64,
    /// The groups in their order, each once for all of its records that follow each other.
    groups: Vec<GroupId>,
    /// Where the last of them ends.
    end: usize,
}

impl Sequence {
    /// The records from `start` on, as far as they can be read.
    fn of(file: &[u8], salt: u64, start: usize) -> Self {
        let mut sequence = Self { end: start, ..Self::default() };
        while let Some(record) = Record::decode(&file[sequence.end..], salt) {
            sequence.records += 1;
            sequence.end += record.bytes;
            match record.group() {
                None => sequence.grants += 1,
                group if sequence.groups.last() == group.as_ref() => {}
                group => sequence.groups.extend(group),
            }
        }
        sequence
    }
}

/// Where the records of a batch go on within `places` so that they end where its list begins, and
/// those records. They are at most as many as are left behind record `number`.
fn go_on(
    file: &[u8],
    salt: u64,
    places: Range<usize>,
    header: &BatchHeader,
    number: u32,
) -> (usize, Sequence) {
    let end = places.end;
    for start in places {
        let sequence = Sequence::of(&file[..end], salt, start);
        let is_padding = file[sequence.end..end].iter().all(|byte| *byte == 0);
        let is_end = is_padding && end - sequence.end < 8;
        if sequence.records > 0 && is_end && sequence.records < header.records - number {
            return (start, sequence);
        }
    }
    (end, Sequence { end, ..Sequence::default() })
}

/// The groups whose records may stand between two sequences, given all of the batch's and how many
/// records are lost.
fn between(groups: Vec<Named>, before: &Sequence, after: &Sequence, lost: u32) -> Vec<Named> {
    let (first, count) = (before.groups.len(), groups.len());
    let Some(last) = count.checked_sub(after.groups.len()) else { return groups };
    let is_prefix = groups.iter().map(|named| named.group).zip(&before.groups);
    let is_suffix = groups.iter().skip(last).map(|named| named.group).zip(&after.groups);
    let mut known = is_prefix.chain(is_suffix);
    if first > count || !known.all(|(named, group)| named == *group) {
        return groups;
    }
    // If each lost record is of a group of its own, none is of the neighbours.
    if first < last && last - first == lost as usize {
        return groups[first..last].to_vec();
    }
    let neighbours = first.saturating_sub(1)..(last + 1).min(count);
    groups.get(neighbours).map_or_else(|| groups.clone(), <[Named]>::to_vec)
}
