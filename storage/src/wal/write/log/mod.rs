//! The log without threads: where a batch goes, what is durable, and which segments may go.
//!
//! Three rules hold whatever the owner does, and recovery relies on them:
//! 1. Batches stand one behind the other without a gap, and a batch is never written over.
//! 2. A segment is durable as a whole before the next one is begun.
//! 3. The durable mark in a batch header never claims more than was synced.

use super::durable::DurableEnd;
use super::refusals::Refusals;
use crate::wal::disk::{BLOCK_BYTES, Disk, SegmentFile};
use crate::wal::error::{ReadError, Refusal, WriteError};
use crate::wal::format::{BatchHeader, Encoder, MARK_BYTES, MAX_SEGMENT_BYTES, appended, position};
use crate::wal::index::{Accounts, GroupLog, MAX_ENTRIES};
use crate::wal::options::WalOptions;
use crate::wal::segments::{LiveGroups, Segment, Store};
use logboat_raft::{
    Configuration, Entry, EntryKind, Grant, GroupId, Index, LogPosition, LogWrite, NodeId, Persist,
    ReplicaId,
};
use rustc_hash::FxHashMap;
use std::collections::{VecDeque, hash_map};
use std::io;
use std::sync::Arc;

mod collect;

/// Room at the end of each segment that only marks use: the one of an idle moment and the one of
/// closing.
const MARK_ROOM: u64 = 2 * MARK_BYTES;

/// The log of all groups of a node. Its owner writes, syncs what [`Log::unsynced`] names, and
/// acknowledges nothing before that.
pub struct Log<D: Disk> {
    pub(crate) options: WalOptions,
    pub(crate) store: Arc<Store<D>>,
    pub(crate) active: Active<D::File>,
    pub(crate) accounts: Accounts,
    /// How far it is durable. Who syncs a segment of the log advances it.
    pub(crate) durable: DurableEnd,
    /// Where it ended when it was opened.
    pub(crate) found_end: LogPosition,
    /// The highest durable mark that a batch carries.
    pub(crate) marked: LogPosition,
    /// The end of the last batch that holds records.
    pub(crate) data_end: LogPosition,
    /// Segments before this one are not needed.
    pub(crate) oldest: u32,
    pub(crate) retiring: VecDeque<Retiring>,
    pub(crate) collection: Option<LiveGroups>,
    /// Bytes that garbage collection may move.
    pub(crate) credit: u64,
    /// Whether there is no segment to go on in when the active one is full.
    pub(crate) short: bool,
    /// Whether the last quarter of the active segment is kept back, since it is not known yet
    /// whether there will be another.
    pub(crate) guarded: bool,
    pub(crate) encoder: Encoder,
    /// The groups whose writes are refused.
    pub(crate) refusals: Arc<Refusals>,
    /// The groups whose replicas were given up, and that were not told.
    pub(crate) lost: Vec<GroupId>,
    /// The most bytes of a segment.
    largest_segment: u64,
    /// Where the log of each group ends that the batch being encoded touches.
    pub(crate) tails: FxHashMap<GroupId, Tail>,
}

/// The end of a group's log, while a batch is encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    /// The last entry.
    last: Index,
    /// The tombstone of the group, unless a later replica has written something.
    tombstone: Option<ReplicaId>,
}

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct Active<F> {
    pub(crate) segment: Segment<F>,
    /// Where the next batch begins.
    pub(crate) end: u64,
    /// Where batches must end. Equals `end` in a segment that recovery found and nobody may
    /// continue.
    pub(crate) limit: u64,
    /// What the block that `end` lies in holds before it: the next batch is written with it.
    pub(crate) begun: Vec<u8>,
}

/// A segment that nobody needs, and goes when a batch that says so is durable.
#[derive(Debug)]
pub(crate) struct Retiring {
    pub(crate) segment: u32,
    pub(crate) recorded: Option<LogPosition>,
}

/// Something that was written and is not durable.
#[derive(Debug)]
pub struct Unsynced<F> {
    /// The file to sync.
    pub(in crate::wal) file: Arc<F>,
    /// The end of the log that is durable then.
    pub(in crate::wal) end: LogPosition,
}

/// What a call of [`Log::write`] wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes, header and alignment included.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of the entries' data.
    pub payload_bytes: u64,
}

impl<F: SegmentFile> Active<F> {
    /// A segment that holds nothing but its header.
    pub(crate) fn new(segment: Segment<F>) -> Self {
        let limit = segment.file.bytes();
        Self { segment, end: BLOCK_BYTES, limit, begun: Vec::new() }
    }
}

impl<F> Active<F> {
    pub(crate) const fn position(&self) -> LogPosition {
        position(self.segment.id, self.end)
    }
}

impl<D: Disk> Log<D> {
    pub(crate) fn new(
        options: WalOptions,
        store: Store<D>,
        active: Active<D::File>,
        oldest: u32,
        accounts: Accounts,
    ) -> Self {
        let end = active.position();
        Self {
            credit: options.segment_bytes,
            short: false,
            guarded: false,
            options,
            store: Arc::new(store),
            active,
            accounts,
            durable: DurableEnd::new(end),
            found_end: LogPosition::default(),
            marked: end,
            data_end: end,
            oldest,
            retiring: VecDeque::new(),
            collection: None,
            encoder: Encoder::default(),
            refusals: Arc::default(),
            lost: Vec::new(),
            largest_segment: MAX_SEGMENT_BYTES,
            tails: FxHashMap::default(),
        }
    }

    /// Writes a batch; all of it takes effect at recovery, or none. What a group writes from its
    /// first write on that is [refused](Self::refusals) is left out.
    ///
    /// # Errors
    /// [`WriteError`]. After [`WriteError::Full`], nothing has been written.
    pub fn write<'a>(
        &mut self,
        grants: impl Iterator<Item = &'a (NodeId, Grant)> + Clone,
        writes: impl Iterator<Item = &'a (GroupId, Persist)> + Clone,
    ) -> Result<Written, WriteError> {
        loop {
            let mut written = self.encode(grants.clone(), writes.clone());
            match self.put_records() {
                Ok(bytes) => {
                    written.bytes = bytes;
                    self.credit = (self.credit + bytes).min(self.options.max_bytes);
                    return Ok(written);
                }
                // Without the group that takes the most, others may fit.
                Err(WriteError::TooLarge { bytes }) if let Some(group) = self.encoder.largest() => {
                    self.refusals.refuse(Refusal::TooLarge { group, bytes });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Encodes a batch, without what is refused.
    fn encode<'a>(
        &mut self,
        grants: impl Iterator<Item = &'a (NodeId, Grant)>,
        writes: impl Iterator<Item = &'a (GroupId, Persist)>,
    ) -> Written {
        let mut written = Written::default();
        self.begin_batch();
        self.tails.clear();
        for (peer, grant) in grants {
            self.encoder.grant(*peer, *grant);
        }
        for (group, persist) in writes {
            if !self.takes(*group, persist) {
                continue;
            }
            let entries = appended(&persist.log);
            written.entries += entries.len() as u64;
            let payload = entries.iter().map(|entry| entry.data.len() as u64);
            written.payload_bytes += payload.sum::<u64>();
            self.encoder.persist(*group, persist);
        }
        written
    }

    /// Whether a write is taken. The first of a group that can't be has those that follow refused,
    /// but for its tombstone, which ends the group.
    fn takes(&mut self, group: GroupId, persist: &Persist) -> bool {
        let is_tombstone = matches!(persist.log, LogWrite::Tombstone(_));
        if !is_tombstone && self.refusals.of(group).is_some() {
            return false;
        }
        match self.check(group, persist) {
            Ok(is_news) => is_news,
            Err(refusal) => {
                self.refusals.refuse(refusal);
                false
            }
        }
    }

    /// Writes a batch without records, which carries the durable mark. `closed` says that the log
    /// is complete and may be continued in this segment. Returns the bytes written: none when the
    /// segment has no room left.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub fn mark(&mut self, closed: bool) -> Result<u64, WriteError> {
        self.begin_batch();
        if self.active.end + self.encoder.batch_bytes() > self.active.limit {
            return Ok(0);
        }
        self.put(closed)
    }

    /// Whether [`Log::mark`] would record something new.
    #[must_use]
    pub fn wants_mark(&self) -> bool {
        let unrecorded = self.retiring.iter().any(|r| r.recorded.is_none());
        let room = self.active.end + MARK_BYTES <= self.active.limit;
        room && (unrecorded || self.marked < self.data_end)
    }

    /// What to sync, if there is anything.
    #[must_use]
    pub fn unsynced(&self) -> Option<Unsynced<D::File>> {
        let end = self.active.position();
        let unsynced = end > self.durable.get() && self.active.end > BLOCK_BYTES;
        unsynced.then(|| Unsynced { file: Arc::clone(&self.active.segment.file), end })
    }

    /// Whether the active segment has room for small writes that free space, besides what
    /// snapshots and garbage collection write for that.
    pub(crate) const fn relieves(&self) -> bool {
        self.active.limit - self.active.end > self.active.limit / 8
    }

    /// Makes what was written durable, for drivers that wait for it.
    ///
    /// # Errors
    /// Those of the operating system; the log must not be used after one.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Some(Unsynced { file, end }) = self.unsynced() {
            file.sync()?;
            self.durable.advance(end);
        }
        Ok(())
    }

    /// Where the log ended when it was opened: never before what had been durable. The default if
    /// it was new.
    #[must_use]
    pub const fn found_end(&self) -> LogPosition {
        self.found_end
    }

    /// How far the log is durable.
    #[must_use]
    pub fn durable_end(&self) -> LogPosition {
        self.durable.get()
    }

    /// The smallest id that a replica of the group may have, if one is gone from here and no later
    /// one has written anything.
    #[must_use]
    pub fn tombstone(&self, group: GroupId) -> Option<ReplicaId> {
        self.store.index.tombstone(group)
    }

    /// The groups whose writes are refused, and why.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The id of the segment that is being written.
    #[must_use]
    pub const fn active_segment(&self) -> u32 {
        self.active.segment.id
    }

    /// The id of the segment to install when the active one is full. An active one that holds
    /// nothing, but is too small for what comes, is replaced by one of the same id.
    #[must_use]
    pub const fn next_segment(&self) -> u32 {
        let empty = self.active.end == BLOCK_BYTES && self.active.limit > BLOCK_BYTES;
        self.active.segment.id + !empty as u32
    }

    /// Goes on in a new segment, [`Log::next_segment`]. The mark of the first batch in there is
    /// the end of the segment before, which is how recovery knows it.
    ///
    /// # Panics
    /// When something written is not synced: recovery relies on a segment being durable before the
    /// next one is begun.
    pub fn install(&mut self, segment: Segment<D::File>) {
        assert!(
            self.unsynced().is_none() && segment.id == self.next_segment(),
            "all of a segment is durable before the one after it is begun"
        );
        self.store.segments.write().insert(segment.id, segment.clone());
        self.active = Active::new(segment);
    }

    /// Entries of a group, as [`Wal::read`](crate::wal::Wal::read) returns them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(
        &self,
        group: GroupId,
        first: Index,
        last: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.store.read(group, first, last, max_bytes)
    }

    /// Begins a batch behind what was written.
    pub(crate) fn begin_batch(&mut self) {
        let Active { segment, end, begun, .. } = &self.active;
        self.encoder.begin(segment.salt, *end, begun);
    }

    /// Writes the batch in the encoder, if it holds any record.
    pub(crate) fn put_records(&mut self) -> Result<u64, WriteError> {
        if self.encoder.is_empty() {
            return Ok(0);
        }
        let bytes = self.encoder.batch_bytes();
        let kept_back = if self.guarded { self.active.limit / 4 } else { MARK_ROOM };
        if self.active.end + bytes + kept_back > self.active.limit {
            let bytes = (BLOCK_BYTES + bytes + MARK_ROOM).next_multiple_of(BLOCK_BYTES);
            if bytes > self.largest_segment {
                return Err(WriteError::TooLarge { bytes });
            }
            return Err(WriteError::Full { bytes });
        }
        let bytes = self.put(false)?;
        self.data_end = self.active.position();
        Ok(bytes)
    }

    fn put(&mut self, closed: bool) -> Result<u64, WriteError> {
        let (segment, offset) = (&self.active.segment, self.active.end);
        // Read once: another thread may advance it while the batch is written.
        let durable = self.durable.get();
        let header =
            BatchHeader { body_bytes: 0, durable, oldest: self.oldest, records: 0, closed };
        let bytes = self.encoder.batch_bytes();
        let (blocks, records) = self.encoder.finish(header, offset);
        let start = offset - self.active.begun.len() as u64;
        segment.file.write_at(start, blocks)?;
        self.active.end += bytes;
        let written = &blocks[..(self.active.end - start) as usize];
        let whole = written.len() / BLOCK_BYTES as usize * BLOCK_BYTES as usize;
        self.active.begun.clear();
        self.active.begun.extend_from_slice(&written[whole..]);
        segment.file.freeze(self.active.end);
        for record in records {
            let place = position(segment.id, offset + u64::from(record.offset));
            self.store.index.apply(record.effect, place, record.bytes, &mut self.accounts);
        }
        self.marked = durable;
        for retiring in &mut self.retiring {
            retiring.recorded.get_or_insert(self.active.position());
        }
        Ok(bytes)
    }

    /// Checks that appended entries leave no gap, which recovery would have to take for damage,
    /// that their configurations can be read, that the index can hold them, and that no replica
    /// writes that is below its group's tombstone. Returns whether there is anything to write: not
    /// for a tombstone below the one that is there, which says as much.
    fn check(&mut self, group: GroupId, persist: &Persist) -> Result<bool, Refusal> {
        let tail = match self.tails.entry(group) {
            hash_map::Entry::Occupied(entry) => entry.into_mut(),
            hash_map::Entry::Vacant(entry) => {
                let found =
                    |log: &GroupLog| (log.last, log.last.0.saturating_sub(log.snapshot.index.0));
                let index = &self.store.index;
                let (tail, entries) = match index.get(group, found) {
                    Some((last, entries)) => (Tail { last, tombstone: None }, entries),
                    // Only a group without a replica here has one.
                    None => (Tail { last: Index(0), tombstone: index.tombstone(group) }, 0),
                };
                let appends = !appended(&persist.log).is_empty();
                if entries > MAX_ENTRIES && appends {
                    return Err(Refusal::TooLong { group, entries });
                }
                entry.insert(tail)
            }
        };
        let Tail { last, tombstone } = tail;
        let replica = persist.hard_state.as_ref().map(|state| state.replica);
        *tombstone = tombstone.filter(|floor| replica.is_none_or(|replica| replica < *floor));
        if let Some(floor) = *tombstone
            && !matches!(persist.log, LogWrite::Tombstone(_))
        {
            return Err(Refusal::Gone { group, floor });
        }
        match &persist.log {
            LogWrite::Keep | LogWrite::Founding(_) => {}
            LogWrite::Append(entries) => {
                let mut expected = last.next();
                for (at, entry) in entries.iter().enumerate() {
                    let found = entry.index;
                    if found > expected || (at > 0 && found < expected) || found == Index(0) {
                        return Err(Refusal::Gap { group, expected, found });
                    }
                    if entry.kind == EntryKind::Configuration {
                        let held = Configuration::decode(&entry.data);
                        if held.map(|configuration| configuration.id()) != Ok(entry.id()) {
                            return Err(Refusal::Configuration { group, index: found });
                        }
                    }
                    *last = found;
                    expected = found.next();
                }
            }
            LogWrite::Compact(meta) => *last = meta.last.index.max(*last),
            LogWrite::Reset(meta) => *last = meta.last.index,
            LogWrite::Tombstone(floor) => {
                let lives = |log: &GroupLog| log.hard_state_in() > 0 && log.replica() >= *floor;
                if tombstone.is_some_and(|known| known > *floor) {
                    return Ok(false);
                }
                if tombstone.is_none() && self.store.index.with(group, lives) {
                    return Err(Refusal::Regresses { group, floor: *floor });
                }
                (*last, *tombstone) = (Index(0), Some(*floor));
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
