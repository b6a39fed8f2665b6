//! Garbage collection: which segments go, and what is moved out of them first.
//!
//! Segments go from the oldest on, so what recovery finds is always the end of the log's history. A
//! record that truncates or compacts never goes before the records that it concerns. A segment goes
//! in three steps. First, nothing in it is needed any more. Then a batch whose header says so is
//! durable. Then its file is recycled.
//!
//! What is still needed in the oldest segment is moved when that is cheap: when it is a quarter of
//! the segment or less. With the log over its budget, it is also moved when it is half of the
//! segment, or when half of the whole log is dead. When more is needed, only snapshots can help,
//! and the groups that need it are named. The latest grant of each peer is moved too: though given
//! long ago, it may still bind the node. So is the tombstone of a group that has no replica here.
//! Whatever the sizes, no more is moved than was written since (and one segment after a start). So
//! the log at most doubles what it writes, and an idle log rests. While the next segment can't be
//! made, the log counts as over its budget, and half of the room that the active segment has left
//! may be used.
//!
//! Entries that are to be moved may be damaged. That costs the replicas whose entries they are, as
//! at a start: in their place comes a tombstone, so the segment goes all the same, and whatever the
//! group writes from then on is refused. The replica fails when it is told.
//!
//! Moved entries are written as rewrite records. Such a record puts entries in the place of equal
//! ones and changes nothing else. So a crash at any moment leaves the old copy, or both.

use super::{Log, Retiring};
use crate::wal::disk::{BLOCK_BYTES, Disk, SegmentFile};
use crate::wal::error::{ReadError, Refusal, WriteError};
use crate::wal::index::{GroupLog, Piece};
use crate::wal::segments::{LiveGroups, Segment};
use logboat_raft::{Configuration, GroupId, HardState, Index, ReplicaId, SnapshotMeta};
use std::sync::Arc;

impl<D: Disk> Log<D> {
    /// Takes out the segments that nobody needs, for
    /// [`SegmentPool::recycle`](crate::wal::SegmentPool::recycle).
    pub fn retire(&mut self) -> Vec<Segment<D::File>> {
        while self.oldest < self.active.segment.id && self.accounts.live(self.oldest).pins == 0 {
            self.retiring.push_back(Retiring { segment: self.oldest, recorded: None });
            self.accounts.forget(self.oldest);
            self.oldest += 1;
        }
        let mut retired = Vec::new();
        while let Some(retiring) = self.retiring.front()
            && retiring.recorded.is_some_and(|end| end <= self.durable.get())
        {
            retired.extend(self.store.segments.write().remove(&retiring.segment));
            self.retiring.pop_front();
        }
        retired
    }

    /// The segment that [`Log::collect`] would begin with.
    pub(crate) fn collectable(&self) -> Option<Segment<D::File>> {
        let begins = self.collection.is_none() && self.is_worth_collecting();
        begins.then(|| self.store.segments.read().get(&self.oldest).cloned()).flatten()
    }

    /// Goes on with what [`Store::live_groups`](crate::wal::segments::Store::live_groups) found,
    /// which [`Log::collect`] makes itself otherwise. What has been written since needs no old
    /// segment, so nobody is missing.
    pub(crate) fn begin_collection(&mut self, collection: LiveGroups) {
        if self.collection.is_none() && collection.segment == self.oldest {
            self.collection = Some(collection);
        }
    }

    /// Moves about `max_bytes` out of the oldest segment, if that is worth it. Returns the bytes
    /// written; zero when there is nothing to do.
    ///
    /// # Errors
    /// [`WriteError`]. After [`WriteError::Full`], nothing has changed.
    pub fn collect(&mut self, max_bytes: u64) -> Result<u64, WriteError> {
        if self.collectable().is_some() {
            self.collection = Some(self.store.live_groups(self.oldest));
        }
        let Some(mut collection) = self.collection.take() else {
            return Ok(0);
        };
        // Without descriptors or memory to read with, it is put off.
        let Ok(left) = self.encode_some(&collection, max_bytes) else { return Ok(0) };
        let written = self.put_records().inspect(|written| {
            self.credit = self.credit.saturating_sub(*written);
            collection.groups.truncate(left);
        });
        if written.is_err() || !collection.groups.is_empty() {
            self.collection = Some(collection);
        }
        written
    }

    /// The groups whose replicas were given up since this was asked last.
    pub(crate) fn take_lost(&mut self) -> Vec<GroupId> {
        std::mem::take(&mut self.lost)
    }

    /// Gives up replicas of groups whose data are damaged: no replica before these may live.
    ///
    /// # Errors
    /// [`WriteError`].
    pub(crate) fn give_up(&mut self, lost: &[(GroupId, ReplicaId)]) -> Result<(), WriteError> {
        self.begin_batch();
        for (group, floor) in lost {
            self.encoder.tombstone(*group, *floor, true);
        }
        self.put_records().map(drop)
    }

    /// Whether groups are being moved out of a segment.
    pub(crate) const fn is_collecting(&self) -> bool {
        self.collection.is_some()
    }

    /// The groups whose snapshots would bring the log back under its budget, those that hold most
    /// first; none while it is within.
    #[must_use]
    pub fn pressing(&self) -> Vec<GroupId> {
        self.store.pressing(self.oldest, self.options.max_bytes)
    }

    /// Bytes of the segments that hold the log, those on their way out not counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.store.bytes_from(self.oldest)
    }

    /// The number of segments that hold the log.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.store.segments.read().len()
    }

    fn is_worth_collecting(&self) -> bool {
        let live = self.accounts.live(self.oldest);
        if self.oldest >= self.active.segment.id || live.pins == 0 {
            return false;
        }
        let over = self.short || self.bytes() > self.options.max_bytes;
        let segments = self.store.segments.read();
        let sizes = segments.range(self.oldest..);
        let sizes = sizes.map(|(_, segment)| segment.file.bytes());
        let mut rooms = sizes.map(|bytes| bytes - BLOCK_BYTES).peekable();
        let room = rooms.peek().copied().unwrap_or(0);
        let total: u64 = rooms.sum();
        let cheap = live.bytes * 4 <= room;
        let worthwhile = live.bytes * 2 <= room || self.accounts.live_bytes() * 2 <= total;
        // Without a next segment, what is left of the active one is all that may be used.
        let allowed = match self.short {
            true => (self.active.limit - self.active.end) / 2,
            false => self.credit,
        };
        live.bytes <= allowed && (cheap || (over && worthwhile))
    }

    /// Encodes a batch of grants and of what groups still need; returns how many of the groups are
    /// left.
    fn encode_some(&mut self, collection: &LiveGroups, max_bytes: u64) -> Result<usize, ReadError> {
        self.begin_batch();
        for (peer, grant) in self.store.index.grants_in(collection.segment) {
            self.encoder.grant(peer, grant);
        }
        let mut left = collection.groups.len();
        while left > 0 && self.encoder.batch_bytes() < max_bytes {
            let group = collection.groups[left - 1];
            if !self.encode_live(group, collection.segment, max_bytes)? {
                break;
            }
            left -= 1;
        }
        Ok(left)
    }

    /// Encodes what a group still needs of a segment, as far as `max_bytes` goes; says whether
    /// that is all of it. Of a group whose entries are damaged nothing is left.
    fn encode_live(
        &mut self,
        group: GroupId,
        segment: u32,
        max_bytes: u64,
    ) -> Result<bool, ReadError> {
        let needs = self.store.index.with(group, |log| Needs::of(log, segment, max_bytes));
        if let Some((floor, lost)) = self.store.index.tombstone_in(group, segment) {
            self.encoder.tombstone(group, floor, lost);
        }
        if let Some(hard_state) = needs.hard_state {
            self.encoder.hard_state(group, hard_state);
        }
        if let Some(founding) = needs.founding {
            self.encoder.founding(group, &founding);
        }
        if let Some(snapshot) = needs.snapshot {
            self.encoder.compact(group, snapshot);
        }
        for (first, last) in needs.stretches {
            match self.store.read(group, first, last, usize::MAX) {
                Ok(entries) => self.encoder.entries(group, &entries, true),
                Err(error) if error.passes() => return Err(error),
                Err(error) => {
                    let replica = self.store.index.with(group, |log| log.replica());
                    self.encoder.tombstone(group, replica.next(), true);
                    self.refusals.refuse(Refusal::Lost { group, error });
                    self.lost.push(group);
                    return Ok(true);
                }
            }
        }
        Ok(needs.complete)
    }
}

/// What a group needs of a segment.
struct Needs {
    hard_state: Option<HardState>,
    snapshot: Option<SnapshotMeta>,
    founding: Option<Arc<Configuration>>,
    /// First and last index of consecutive entries. Whole pieces, so that each record that moves
    /// them takes the place of whole runs.
    stretches: Vec<(Index, Index)>,
    complete: bool,
}

impl Needs {
    fn of(log: &GroupLog, segment: u32, max_bytes: u64) -> Self {
        let mut needs = Self {
            hard_state: (log.hard_state_in() == segment).then(|| log.hard_state()),
            snapshot: log.snapshot_in(segment),
            founding: log.founding_in(segment).map(Arc::clone),
            stretches: Vec::new(),
            complete: true,
        };
        let mut bytes = 0;
        let in_segment = |piece: &Piece| piece.run.place.segment == segment;
        for piece in log.pieces().filter(in_segment) {
            if bytes >= max_bytes {
                needs.complete = false;
                break;
            }
            bytes += u64::from(piece.run.bytes);
            match needs.stretches.last_mut() {
                Some((_, last)) if last.next() == piece.first => *last = piece.last,
                _ => needs.stretches.push((piece.first, piece.last)),
            }
        }
        needs
    }
}
