//! The segments and the index as readers use them, from any thread.

use super::pool::is_shortage;
use super::segment::Segment;
use crate::wal::disk::{Disk, SegmentFile, Unreadable};
use crate::wal::error::{Damage, ReadError};
use crate::wal::format::{Record, segment_name};
use crate::wal::index::{LogIndex, Piece};
use bytes::Bytes;
use logboat_raft::{Entry, GroupId, Index, LogPosition};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

mod live;
mod restore;

pub(crate) use live::LiveGroups;

const RECORD_FLAW: &str = "a record header fails its checksum";

/// What the thread that writes shares with those that read.
pub(crate) struct Store<D: Disk> {
    pub(crate) disk: Arc<D>,
    pub(crate) index: LogIndex,
    pub(crate) segments: RwLock<BTreeMap<u32, Segment<D::File>>>,
    /// Whether the device has reported an error. From then on nothing is read through a mapping.
    distrusted: AtomicBool,
}

impl<D: Disk> Store<D> {
    pub(crate) const fn new(
        disk: Arc<D>,
        index: LogIndex,
        segments: BTreeMap<u32, Segment<D::File>>,
    ) -> Self {
        Self { disk, index, segments: RwLock::new(segments), distrusted: AtomicBool::new(false) }
    }

    /// Has everything read by system calls from now on, because the device has reported an error.
    /// The next such error must name what can't be read rather than end the process.
    pub(crate) fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }

    /// Entries from `first` to `last`, about `max_bytes` of payload but at least one; none when
    /// the log does not hold `first`. Their checksums and those of their records are verified.
    pub(crate) fn read(
        &self,
        group: GroupId,
        first: Index,
        last: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let mut before = Vec::new();
        loop {
            let pieces = self.index.with(group, |log| log.find(first, last, max_bytes));
            if let Some(entries) = self.load(group, &pieces, max_bytes)? {
                return Ok(entries);
            }
            // Between the two looks a segment was collected: the index has new places by now, or
            // what is needed is lost.
            let segments = self.segments.read();
            let is_gone = |place: &LogPosition| !segments.contains_key(&place.segment);
            let lost = pieces.iter().map(|piece| piece.run.place).find(is_gone);
            if let Some(place) = lost.filter(|_| pieces == before) {
                return Err(self.damage(group, place, "the segment is gone".to_owned()));
            }
            before = pieces;
        }
    }

    /// The entries of the pieces; `None` when a segment of theirs is gone.
    fn load(
        &self,
        group: GroupId,
        pieces: &[Piece],
        max_bytes: usize,
    ) -> Result<Option<Vec<Entry>>, ReadError> {
        let mut loaded = Loaded::default();
        let segment_of = |piece: &Piece| piece.run.place.segment;
        for pieces in pieces.chunk_by(|a, b| segment_of(a) == segment_of(b)) {
            let Some(segment) = self.segments.read().get(&segment_of(&pieces[0])).cloned() else {
                return Ok(None);
            };
            if !self.load_from(&segment, group, pieces, max_bytes, &mut loaded)? {
                return Ok(None);
            }
            if loaded.full {
                break;
            }
        }
        Ok(Some(loaded.entries))
    }

    /// Adds the entries of pieces that lie in one segment, until there are `max_bytes`. They share
    /// one view, since each takes an allocation. Returns whether the segment is there.
    fn load_from(
        &self,
        segment: &Segment<D::File>,
        group: GroupId,
        pieces: &[Piece],
        max_bytes: usize,
        loaded: &mut Loaded,
    ) -> Result<bool, ReadError> {
        let begins = || pieces.iter().map(|piece| u64::from(piece.run.place.offset));
        let ends = begins().zip(pieces).map(|(begin, piece)| begin + u64::from(piece.run.bytes));
        let start = begins().min().unwrap_or_default();
        let range = start..ends.max().unwrap_or_default();
        let Some(view) = self.bytes(segment, group, range)? else { return Ok(false) };
        for piece in pieces {
            let place = piece.run.place;
            let begin = (u64::from(place.offset) - start) as usize;
            let bytes = view.slice(begin..begin + piece.run.bytes as usize);
            let record = Record::decode(&bytes, segment.salt)
                .filter(|record| record.group() == Some(group))
                .ok_or_else(|| self.damage(group, place, RECORD_FLAW.to_owned()))?;
            let wanted = record
                .entries(&bytes)
                .skip_while(|entry| entry.index < piece.first)
                .take_while(|entry| entry.index <= piece.last);
            for entry in wanted {
                loaded.bytes += entry.data.len();
                loaded.full = loaded.bytes > max_bytes && !loaded.entries.is_empty();
                if loaded.full {
                    return Ok(true);
                }
                entry
                    .verify(group)
                    .map_err(|mismatch| self.damage(group, place, mismatch.to_string()))?;
                loaded.entries.push(entry);
            }
        }
        Ok(true)
    }

    /// The bytes of a range; `None` when the segment is gone.
    fn bytes(
        &self,
        segment: &Segment<D::File>,
        group: GroupId,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, ReadError> {
        if !self.distrusted.load(Ordering::Relaxed) {
            return Ok(Some(segment.file.view(range)));
        }
        let name = segment_name(segment.id);
        match self.disk.read(&name, range) {
            Ok(bytes) => Ok(Some(bytes)),
            // Its file may have been recycled since it was looked up.
            Err(_) if !self.segments.read().contains_key(&segment.id) => Ok(None),
            Err(Unreadable { offset, source }) => Err(ReadError::Unreadable {
                group,
                file: self.disk.path(&name),
                offset,
                reason: source.to_string(),
                passes: is_shortage(&source),
            }),
        }
    }

    fn damage(&self, group: GroupId, place: LogPosition, what: String) -> ReadError {
        ReadError::Corrupt(Damage {
            file: self.disk.path(&segment_name(place.segment)),
            offset: u64::from(place.offset),
            what,
            groups: vec![group],
        })
    }
}

/// What a read has found so far.
#[derive(Default)]
struct Loaded {
    entries: Vec<Entry>,
    /// Of the entries' data, that which was too much among them.
    bytes: usize,
    full: bool,
}
