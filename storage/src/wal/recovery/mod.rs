//! Opens a log after a stop or a crash: finds what is valid, cuts the torn tail, refuses damage.
//!
//! 1. Every segment is synced and then dropped from the page cache. A killed process leaves writes
//!    in the cache that are not on the disk yet. A failed sync leaves pages there that never
//!    reached the disk and pass for clean.
//! 2. Every segment is read by system calls. So a medium error is an error with file and offset,
//!    where a mapped read would end the process.
//! 3. Every segment is scanned from its beginning to the first batch that does not verify. Behind
//!    that batch, the scan looks for more valid headers.
//! 4. The log ends in the last segment that has a valid batch header. What does not verify there is
//!    a torn tail if it lies at or above the highest durable mark in any header. Below the mark it
//!    is damage to acknowledged data. It is the matter of the replicas that it concerns, if these
//!    are known: those that need entries whose data are not what was written, and those that the
//!    second list of a batch names when headers in it can't be read. They are given up, and the
//!    others go on. If the second list is damaged too, or if what the node granted its peers may be
//!    lost, the log is refused. So is one that is [not whole](strays) though every checksum fits:
//!    nobody knows what else is missing.
//! 5. Each segment before that one was durable up to its end. The first batch of the next segment
//!    says where that end was. What does not verify before the end is damage.
//! 6. The records up to these ends are followed in order.
//! 7. A log that ends before a position that it is known to have reached is refused.
//! 8. The log goes on in a new segment, unless it was closed. The bytes behind a cut are never
//!    written over by a batch, so nothing that is written later completes a torn batch. If there is
//!    no room for a new segment, all that lies behind the cut is replaced by zeros first, durably,
//!    and the log goes on there. So a node with a full disk can still write what frees space.

use super::disk::{BLOCK_BYTES, Disk, SegmentFile, Unreadable, aligned};
use super::error::{Damage, WalError};
use super::format::{
    Change, Effect, MAX_SEGMENT_BYTES, Record, position, segment_name, segment_of,
};
use super::index::{Accounts, LogIndex};
use super::options::WalOptions;
use super::segments::{Segment, SegmentPool, Store, is_full, is_shortage};
use super::write::{Active, Log};
use bytes::Bytes;
use logboat_raft::{Grant, GroupId, Index, LogPosition, NodeId, ReplicaId, Restored};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::{io, thread};
use suspects::Suspects;
use terms::Terms;

mod extent;
mod lost;
mod scan;
mod strays;
mod suspects;
mod terms;

pub(crate) use extent::Extent;
pub(crate) use scan::{Kept, Replayed, Scanned, replay, scan};
pub(crate) use strays::{Strays, gap};

/// What a log holds when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// What the replica of each group starts from.
    pub groups: BTreeMap<GroupId, Restored>,
    /// What the node granted each peer last.
    pub grants: BTreeMap<NodeId, Grant>,
    /// The groups that lost data here, which were damaged, now or earlier. Nothing else of them is
    /// here any more, and the log has a tombstone of each: the replica that was here is gone. One
    /// is forgotten when another replica has come, or when somebody has removed what is left.
    pub damaged: BTreeMap<GroupId, Damage>,
}

/// A log, where its segments come from, and what it holds.
pub(crate) type Opened<D> = (Log<D>, SegmentPool<D>, Recovered);

/// Less than this is read sooner than a thread is there to help.
const PARALLEL_BYTES: u64 = 32 << 20;

/// The end of a segment is cleared in pieces of this size, whole blocks each.
const CLEAR_BYTES: u64 = 1 << 20;

/// The most segments that are in memory at once to be scanned.
const MAX_SCANS: usize = 4;

/// Opens the log on a disk, if it does not end before `known_end`. Tells `found` where it ends,
/// before anything is written.
pub(crate) fn recover<D: Disk>(
    disk: D,
    options: WalOptions,
    known_end: LogPosition,
    found: impl FnOnce(LogPosition) -> io::Result<()>,
) -> Result<Opened<D>, WalError> {
    let bytes = options.segment_bytes;
    if !(2 * BLOCK_BYTES..=MAX_SEGMENT_BYTES).contains(&bytes) || !bytes.is_multiple_of(BLOCK_BYTES)
    {
        return Err(WalError::Options(options));
    }
    let disk = Arc::new(disk);
    let mut pool = SegmentPool::new(Arc::clone(&disk), &options);
    let (mut files, scans) = list(&*disk, &mut pool)?;
    let mut extent = Extent::of(&scans, |name| disk.path(name));
    if !extent.problems.is_empty() {
        // What another build has written must not pass for damage by what it makes of the rest.
        let is_of_another = |problem: &WalError| matches!(problem, WalError::OtherVersion { .. });
        let gravest = extent.problems.iter().position(is_of_another).unwrap_or(0);
        return Err(extent.problems.swap_remove(gravest));
    }
    let end = extent.end();
    if end < known_end {
        return Err(WalError::Short { directory: disk.path(""), end, known_end });
    }
    found(end).map_err(WalError::Unnoted)?;
    let unneeded = |id: &u32| *id < extent.oldest || *id > extent.last;
    let unneeded: Vec<u32> = files.keys().copied().filter(unneeded).collect();
    // From the newest on, so that a crash in between leaves no hole in the middle.
    for id in unneeded.into_iter().rev() {
        let reusable = files.remove(&id).is_some_and(|file| file.bytes() == bytes);
        let reclaimed = pool.reclaim(id, reusable, files.len());
        reclaimed.map_err(|source| failure(&*disk, &segment_name(id), source))?;
    }
    if files.is_empty() {
        let mut log = begin(disk, options, &mut pool)?;
        start_writing(&mut log, &mut pool, &[])?;
        return Ok((log, pool, Recovered::default()));
    }
    for damage in extent.lost.iter().chain(extent.spoiled.iter().map(|(_, damage)| damage)) {
        tracing::error!("{damage}");
    }
    let (mut log, followed) = rebuild(disk, options, files, &scans, &extent)?;
    let mut groups = restore(&log, &followed).map_err(WalError::Corrupt)?;
    let suspects = followed.suspects;
    let mut damaged = damaged(&log.store.index, extent.spoiled);
    for (group, damage) in suspects.damaged(&log.store.index) {
        damaged.entry(group).or_insert_with(|| damage.clone());
    }
    for group in log.store.index.lost() {
        damaged.entry(group).or_insert_with(|| Damage {
            file: log.store.disk.path(""),
            offset: 0,
            what: "data of the group were, and its replica was given up".to_owned(),
            groups: vec![group],
        });
    }
    groups.retain(|group, _| !damaged.contains_key(group));
    let burials: Vec<_> =
        damaged.keys().filter_map(|group| burial(&log, *group, &suspects)).collect();
    let recovered = Recovered { groups, grants: log.store.index.grants(), damaged };
    log.found_end = end;
    start_writing(&mut log, &mut pool, &burials)?;
    Ok((log, pool, recovered))
}

/// The segment files as they were found.
type Found<F> = BTreeMap<u32, Arc<F>>;

type Listed<F> = (Found<F>, BTreeMap<u32, Scanned>);

fn list<D: Disk>(disk: &D, pool: &mut SegmentPool<D>) -> Result<Listed<D::File>, WalError> {
    let mut found = BTreeMap::new();
    let mut names = disk.list().map_err(|e| failure(disk, "", e))?;
    names.sort();
    for name in names {
        let Some(id) = segment_of(&name) else {
            let adopted = pool.adopt(&name, found.len());
            if !adopted.map_err(|source| failure(disk, &name, source))? {
                return Err(WalError::Foreign(disk.path(&name)));
            }
            continue;
        };
        let file = load(disk, &name).map_err(|source| failure(disk, &name, source))?;
        found.insert(id, file);
    }
    let scans = scan_all(disk, &found)?;
    Ok((found, scans))
}

/// Scans the segments, several at a time if they are large: checksums take longer than the disk.
fn scan_all<D: Disk>(disk: &D, found: &Found<D::File>) -> Result<BTreeMap<u32, Scanned>, WalError> {
    let next = Mutex::new(found.iter());
    let scan_next = || {
        let (id, file) = next.lock().next()?;
        file.read_ahead();
        let content = read(disk, *id, file.bytes());
        Some(content.map(|content| (*id, scan(&content, *id))))
    };
    let scan_some = || std::iter::from_fn(scan_next).collect::<Vec<_>>();
    let bytes: u64 = found.values().map(|file| file.bytes()).sum();
    let threads = if bytes < PARALLEL_BYTES {
        1
    } else {
        thread::available_parallelism().map_or(1, usize::from).min(found.len()).min(MAX_SCANS)
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(scan_some)).collect();
        let own = scan_some();
        let others = others.into_iter().flat_map(|other| other.join().expect("scans don't panic"));
        own.into_iter().chain(others).collect()
    })
}

/// Opens a segment file so that reads return what is on the disk, not what a cache holds.
fn load<D: Disk>(disk: &D, name: &str) -> io::Result<Arc<D::File>> {
    let file = disk.open(name, None)?;
    file.sync()?;
    file.drop_cache()?;
    Ok(Arc::new(file))
}

/// The first `bytes` bytes of a segment. They are read and not mapped: a block that the device has
/// lost must be named, and not end the process.
fn read<D: Disk>(disk: &D, id: u32, bytes: u64) -> Result<Bytes, WalError> {
    let name = segment_name(id);
    disk.read(&name, 0..bytes).map_err(|unreadable| match unreadable.source {
        source if is_shortage(&source) => failure(disk, &name, source),
        source => WalError::Unreadable {
            file: disk.path(&name),
            source: Unreadable { source, ..unreadable },
        },
    })
}

/// The log of an empty directory.
fn begin<D: Disk>(
    disk: Arc<D>,
    options: WalOptions,
    pool: &mut SegmentPool<D>,
) -> Result<Log<D>, WalError> {
    let segment = pool.prepare(1, 0).map_err(|source| {
        if is_full(&source) {
            return WalError::DiskFull { directory: disk.path(""), bytes: options.segment_bytes };
        }
        failure(&*disk, &segment_name(1), source)
    })?;
    let active = Active::new(segment.clone());
    let store = Store::new(disk, LogIndex::new(), BTreeMap::from([(1, segment)]));
    Ok(Log::new(options, store, active, 1, Accounts::default()))
}

/// Follows the records of the valid batches, which say what is where and of which term.
fn rebuild<D: Disk>(
    disk: Arc<D>,
    options: WalOptions,
    found: Found<D::File>,
    scans: &BTreeMap<u32, Scanned>,
    extent: &Extent,
) -> Result<(Log<D>, Followed), WalError> {
    let mut segments = BTreeMap::new();
    let mut followed = Followed::default();
    let mut accounts = Accounts::default();
    let index = LogIndex::new();
    let mut active = None;
    for (id, file) in found {
        let (Some(Ok((header, scan))), Some(end)) = (scans.get(&id), extent.ends.get(&id)) else {
            unreachable!("a segment that is needed and no problem has a header and an end");
        };
        let end = *end;
        let content = read(&*disk, id, end)?;
        let path = disk.path(&segment_name(id));
        replay(&content, header.salt, end, &scan.defects, |replayed| match replayed {
            Replayed::Record(offset, record) => {
                let place = position(id, offset);
                followed.follow(&record);
                let (group, bytes) = (record.group(), record.bytes as u32);
                if !index.apply(record.effect, place, bytes, &mut accounts) {
                    followed.stray(group, place);
                }
            }
            Replayed::Lost(lost) => followed.suspects.lost(&path, lost),
        });
        let mut segment = Segment { id, salt: header.salt, file };
        let mut limit = end;
        let tail = extent.tail.filter(|_| id == extent.last);
        if tail.is_some_and(|tail| tail.is_cut) {
            tracing::warn!(
                file = %disk.path(&segment_name(id)).display(),
                offset = end,
                "cut off what a crash left unfinished"
            );
        }
        let is_closed = |tail: &Kept| tail.last.is_some_and(|batch| batch.closed) && !tail.is_cut;
        if tail.as_ref().is_some_and(is_closed) {
            let name = segment_name(id);
            let reopened = disk.open(&name, Some(end));
            segment.file = Arc::new(reopened.map_err(|e| failure(&*disk, &name, e))?);
            limit = header.bytes;
        }
        segments.insert(id, segment.clone());
        let block = (end / BLOCK_BYTES * BLOCK_BYTES) as usize;
        let begun = content[block..end as usize].to_vec();
        active = Some(Active { segment, end, limit, begun });
    }
    let active = active.expect("there is a segment to rebuild from");
    let store = Store::new(disk, index, segments);
    Ok((Log::new(options, store, active, extent.oldest, accounts), followed))
}

/// What recovery keeps of the records besides the index.
#[derive(Default)]
struct Followed {
    terms: FxHashMap<GroupId, Terms>,
    suspects: Suspects,
    strays: Strays,
}

impl Followed {
    fn follow(&mut self, record: &Record) {
        self.suspects.follow(record);
        self.strays.follow(record);
        let Effect::Group(group, change) = &record.effect else { return };
        let terms = self.terms.entry(*group).or_default();
        let last = |first: Index, count: u32| first.plus(u64::from(count) - 1);
        match *change {
            Change::Append { first, count, .. } => {
                terms.append(first, last(first, count), record.term);
            }
            Change::Rewrite { first, count, .. } => {
                terms.rewrite(first, last(first, count), record.term);
            }
            Change::Reset(_) | Change::Tombstone { .. } => terms.clear(),
            Change::HardState(_) | Change::Compact(_) | Change::Founding(_) => {}
        }
    }

    /// A record of this group does not count. What says which replica wrote it may be known to be
    /// lost: then that one is given up.
    fn stray(&mut self, group: Option<GroupId>, place: LogPosition) {
        let unexplained = group.filter(|group| self.suspects.floor(*group).is_none());
        if let Some(group) = unexplained {
            self.strays.add(group, place);
        }
    }
}

/// The groups that need one of these records, whose entries' data are not what was written, or that
/// were given up for it. Those of a group that went on without them do no harm, nor those of a
/// replica that was removed.
fn damaged(index: &LogIndex, spoiled: Vec<(LogPosition, Damage)>) -> BTreeMap<GroupId, Damage> {
    let mut damaged = BTreeMap::new();
    for (place, damage) in spoiled {
        let needs = |group: &&GroupId| {
            index.is_lost(**group) || index.with(**group, |log| log.holds(place))
        };
        if let Some(group) = damage.groups.iter().find(needs).copied() {
            damaged.entry(group).or_insert(damage);
        }
    }
    damaged
}

/// What each group holds, but for those that lost records.
///
/// # Errors
/// If records are missing, and nothing says which.
fn restore<D: Disk>(
    log: &Log<D>,
    followed: &Followed,
) -> Result<BTreeMap<GroupId, Restored>, Damage> {
    let disk = &log.store.disk;
    let Followed { terms, suspects, strays } = followed;
    let mut problems = strays.damage(|segment| disk.path(&segment_name(segment)));
    let none = Terms::default();
    let mut restored = BTreeMap::new();
    log.store.index.each(|group, state| {
        if suspects.floor(group).is_some() {
            return;
        }
        let runs = terms.get(&group).unwrap_or(&none).runs(state.snapshot, state.last);
        let what = match (state.gap(), runs) {
            (None, Ok(runs)) => {
                restored.insert(group, Restored { runs, ..state.restored() });
                return;
            }
            (Some(index), _) => gap(index),
            (None, Err(index)) => {
                format!("entry {index} of the group is of an earlier term than the one before")
            }
        };
        problems.push(Damage { file: disk.path(""), offset: 0, what, groups: vec![group] });
    });
    for damage in &problems {
        tracing::error!("{damage}; nobody knows what else is missing");
    }
    problems.into_iter().min_by_key(|damage| damage.groups.clone()).map_or(Ok(restored), Err)
}

/// Begins to write: in a new segment, unless the log was closed or there is no room for one, and
/// with a mark. All that was recovered counts as durable from now on, so it must lie below a mark.
/// The mark also tells a new log from one whose files are gone. Before that come the tombstones of
/// replicas that are given up.
fn start_writing<D: Disk>(
    log: &mut Log<D>,
    pool: &mut SegmentPool<D>,
    burials: &[(GroupId, ReplicaId)],
) -> Result<(), WalError> {
    let disk = Arc::clone(&log.store.disk);
    if log.active.end == log.active.limit {
        let id = log.next_segment();
        match pool.prepare(id, 0) {
            Ok(segment) => log.install(segment),
            Err(error) if is_shortage(&error) => {
                let name = segment_name(log.active.segment.id);
                tracing::error!("no segment can be made: {error}; the log goes on in {name}");
                clear_tail(log).map_err(|source| failure(&*disk, &name, source))?;
            }
            Err(source) => return Err(failure(&*disk, &segment_name(id), source)),
        }
    }
    let buried = match burials.is_empty() {
        true => Ok(()),
        false => log.give_up(burials),
    };
    buried
        .and_then(|()| log.mark(false))
        .map_err(io::Error::other)
        .and_then(|_| log.sync())
        .map_err(|source| failure(&*disk, &segment_name(log.active.segment.id), source))
}

/// The tombstone that gives up the replica of a group which lost something, unless that was done.
/// No replica of its id lives here again, nor one of which something may be lost, and nothing of
/// what is left is needed.
fn burial<D: Disk>(
    log: &Log<D>,
    group: GroupId,
    suspects: &Suspects,
) -> Option<(GroupId, ReplicaId)> {
    let (tombstone, lost) = (log.store.index.tombstone(group), suspects.floor(group));
    if tombstone.is_some() && lost.is_none() {
        return None;
    }
    let replica = log.store.index.with(group, |log| log.replica());
    let floors = [Some(replica.next()), tombstone, lost];
    Some((group, floors.into_iter().flatten().max()?))
}

/// Lets the log go on in its last segment, for want of a new one: all that lies behind the end is
/// zeros from then on, durably, as in a segment that is new. A crash meanwhile leaves the log where
/// it ends, since what is there behind the end did not verify, and zeros make nothing verify.
fn clear_tail<D: Disk>(log: &mut Log<D>) -> io::Result<()> {
    let Log { store, active, .. } = log;
    let name = segment_name(active.segment.id);
    let file = store.disk.open(&name, Some(active.end))?;
    let mut offset = active.end - active.begun.len() as u64;
    let mut piece = active.begun.clone();
    while offset < file.bytes() {
        let bytes = (file.bytes() - offset).min(CLEAR_BYTES);
        piece.resize(bytes as usize, 0);
        let (blocks, first) = aligned(&piece, 0);
        file.write_at(offset, &blocks[first..][..bytes as usize])?;
        offset += bytes;
        piece.clear();
    }
    file.sync()?;
    active.segment.file = Arc::new(file);
    active.limit = active.segment.file.bytes();
    store.segments.write().insert(active.segment.id, active.segment.clone());
    Ok(())
}

fn failure<D: Disk>(disk: &D, name: &str, source: io::Error) -> WalError {
    WalError::Io { path: disk.path(name), source }
}
