//! The segments and the index as readers use them, from any thread.

use super::segment::Segment;
use crate::wal::disk::{Disk, SegmentFile};
use crate::wal::error::{Damage, ReadError};
use crate::wal::format::{Position, Record, segment_name};
use crate::wal::index::{LogIndex, Piece};
use logboat_raft::{Entry, GroupId, Index};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;

mod live;

pub(crate) use live::LiveGroups;

const RECORD_FLAW: &str = "a record header fails its checksum";

/// What the thread that writes shares with those that read.
pub(crate) struct Store<D: Disk> {
    pub(crate) disk: Arc<D>,
    pub(crate) index: LogIndex,
    pub(crate) segments: RwLock<BTreeMap<u32, Segment<D::File>>>,
}

impl<D: Disk> Store<D> {
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
            let is_gone = |place: &Position| !segments.contains_key(&place.segment);
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
            self.load_from(&segment, group, pieces, max_bytes, &mut loaded)?;
            if loaded.full {
                break;
            }
        }
        Ok(Some(loaded.entries))
    }

    /// Adds the entries of pieces that lie in one segment, until there are `max_bytes`. They share
    /// one view, since each takes an allocation.
    fn load_from(
        &self,
        segment: &Segment<D::File>,
        group: GroupId,
        pieces: &[Piece],
        max_bytes: usize,
        loaded: &mut Loaded,
    ) -> Result<(), ReadError> {
        let begins = || pieces.iter().map(|piece| u64::from(piece.run.place.offset));
        let ends = begins().zip(pieces).map(|(begin, piece)| begin + u64::from(piece.run.bytes));
        let start = begins().min().unwrap_or_default();
        let view = segment.file.view(start..ends.max().unwrap_or_default());
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
                    return Ok(());
                }
                entry
                    .verify(group)
                    .map_err(|mismatch| self.damage(group, place, mismatch.to_string()))?;
                loaded.entries.push(entry);
            }
        }
        Ok(())
    }

    fn damage(&self, group: GroupId, place: Position, what: String) -> ReadError {
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
