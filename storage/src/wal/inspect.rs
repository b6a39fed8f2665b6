//! Reads a log from outside, without opening, locking or changing it.

use super::disk::read_file;
use super::error::{Damage, WalError};
use super::format::{position, segment_name, segment_of};
use super::index::{Accounts, GroupLog, LogIndex};
use super::recovery::{Extent, Replayed, Scanned, Strays, gap, replay, scan};
use super::segments::is_temporary;
use bytes::Bytes;
use logboat_raft::{
    Configuration, Grant, GroupId, HardState, Index, LogId, LogPosition, NodeId, ReplicaId, Term,
    TermRun,
};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a log's directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalReport {
    /// The segment files, from the oldest on.
    pub segments: Vec<SegmentReport>,
    /// Where the valid part of the log ends.
    pub end: LogPosition,
    /// What the valid part of the log says of each group.
    pub groups: BTreeMap<GroupId, GroupReport>,
    /// What it says that the node granted each peer last.
    pub grants: BTreeMap<NodeId, Grant>,
    /// The groups of which a replica was here and none is, with the smallest id that one may have.
    pub tombstones: BTreeMap<GroupId, ReplicaId>,
    /// What is damaged of what was acknowledged. If it is known whose that is, the log opens
    /// without these replicas.
    pub damage: Vec<Damage>,
    /// Segment files that should be there: the first of each gap.
    pub missing: Vec<PathBuf>,
    /// Files that the log did not make.
    pub foreign: Vec<PathBuf>,
}

/// What a segment file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file.
    pub file: PathBuf,
    /// The segment's number.
    pub segment: u32,
    /// The number that tells this use of the file from earlier ones; zero if the header is damaged.
    pub salt: u64,
    /// The size of the file.
    pub bytes: u64,
    /// Where its valid batches end.
    pub end: u64,
    /// The number of valid batches.
    pub batches: u64,
    /// The highest durable mark in it: segment and offset, see [`LogPosition`].
    pub durable: LogPosition,
    /// What it is to the log.
    pub state: SegmentState,
}

/// What a segment is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// Nobody needs it; it goes at the next start.
    Obsolete,
    /// Full, or left behind by a restart.
    Sealed,
    /// The log ends in it.
    Active,
    /// Made ahead and not used yet.
    Prepared,
    /// Its header can't be believed.
    Unreadable,
}

/// What the log holds of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReport {
    /// Term, vote, commit hint and bond to a leader.
    pub hard_state: HardState,
    /// The last entry that a snapshot covers; the log begins after it.
    pub snapshot: LogId,
    /// The last entry; that of the snapshot when there is none.
    pub last: Index,
    /// Where the entries of each term begin, behind the snapshot.
    pub runs: Vec<TermRun>,
    /// The members, by the last entry that says so, or by the snapshot or the founding. None if the
    /// replica waits for its leader.
    pub configuration: Option<Arc<Configuration>>,
    /// The records that hold its entries.
    pub records: usize,
    /// The bytes of these records.
    pub bytes: u64,
}

impl GroupReport {
    /// The last entry; that of the snapshot when there is none.
    #[must_use]
    pub fn last_id(&self) -> LogId {
        LogId::new(self.runs.last().map_or(self.snapshot.term, |run| run.term), self.last)
    }

    /// Whether the log begins after this entry, or holds it.
    #[must_use]
    pub fn holds(&self, id: LogId) -> bool {
        let run = self.runs.iter().rev().find(|run| run.first <= id.index);
        id == self.snapshot || id.index <= self.last && run.is_some_and(|run| run.term == id.term)
    }
}

/// Reads all of a log and checks every checksum in it. A log that is in use may be inspected.
///
/// # Errors
/// When the directory or a file in it can't be read.
pub fn inspect(directory: &Path) -> io::Result<WalReport> {
    let mut report = attempt(directory)?;
    if !report.is_whole() {
        // A log in use moves on while it is read, so that something may seem to be missing. Real
        // damage is found a second time.
        let first = std::mem::replace(&mut report, attempt(directory)?);
        report.damage.retain(|damage| first.damage.contains(damage));
        report.missing.retain(|file| first.missing.contains(file));
    }
    Ok(report)
}

impl WalReport {
    /// Whether the log would open: nothing is damaged, missing or foreign.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.damage.is_empty() && self.missing.is_empty() && self.foreign.is_empty()
    }
}

fn attempt(directory: &Path) -> io::Result<WalReport> {
    let mut report = WalReport {
        segments: Vec::new(),
        end: LogPosition::default(),
        groups: BTreeMap::new(),
        grants: BTreeMap::new(),
        tombstones: BTreeMap::new(),
        damage: Vec::new(),
        missing: Vec::new(),
        foreign: Vec::new(),
    };
    let mut ids = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        match segment_of(&name) {
            Some(id) => ids.push(id),
            None if is_temporary(&name) => {}
            None => report.foreign.push(directory.join(name)),
        }
    }
    ids.sort_unstable();
    let mut scans: BTreeMap<u32, Scanned> = BTreeMap::new();
    let mut sizes = BTreeMap::new();
    // From the newest on: whatever its marks call durable is in the others when they are read.
    for id in ids.into_iter().rev() {
        if let Some(file) = read(directory, id)? {
            scans.insert(id, scan(&file, id));
            sizes.insert(id, file.len() as u64);
        }
    }
    let extent = Extent::of(&scans, |name| directory.join(name));
    report.end = extent.end();
    let (index, terms, strays) = follow(directory, &scans, &extent)?;
    report.groups = groups(&index, &terms);
    report.grants = index.grants();
    report.tombstones = index.tombstones();
    let segments = scans.iter().map(|(id, scanned)| {
        let bytes = sizes.get(id).copied().unwrap_or(0);
        segment(directory, *id, bytes, scanned, &extent)
    });
    report.segments = segments.collect();
    // Whether somebody needs what is damaged or not: a disk that flips bits should be known.
    report.damage.extend(extent.lost);
    report.damage.extend(extent.spoiled.into_iter().map(|(_, damage)| damage));
    for problem in extent.problems {
        match problem {
            WalError::Corrupt(damage) => report.damage.push(damage),
            WalError::Missing(file) => report.missing.push(file),
            WalError::OtherVersion { file, what } => {
                report.damage.push(Damage { file, offset: 0, what, groups: Vec::new() });
            }
            WalError::Foreign(_)
            | WalError::Short { .. }
            | WalError::DiskFull { .. }
            | WalError::Options(_)
            | WalError::Unreadable { .. }
            | WalError::Unnoted(_)
            | WalError::Io { .. } => unreachable!("the extent knows of damage and holes only"),
        }
    }
    add_holes(&mut report, directory, &index, &strays);
    report.damage.sort_unstable_by(|a, b| (&a.file, a.offset).cmp(&(&b.file, b.offset)));
    Ok(report)
}

/// Adds what is missing though every checksum fits, unless it is known to be damaged.
fn add_holes(report: &mut WalReport, directory: &Path, index: &LogIndex, strays: &Strays) {
    let mut holes = strays.damage(|segment| directory.join(segment_name(segment)));
    index.each(|group, log| {
        let damage =
            |what| Damage { file: directory.to_owned(), offset: 0, what, groups: vec![group] };
        holes.extend(log.gap().map(gap).map(damage));
    });
    let is_known =
        |hole: &Damage| report.damage.iter().any(|it| it.groups.contains(&hole.groups[0]));
    holes.retain(|hole| !is_known(hole));
    report.damage.extend(holes);
}

/// A segment file, read and not mapped, since it may change meanwhile; `None` when it is gone.
fn read(directory: &Path, id: u32) -> io::Result<Option<Bytes>> {
    let path = directory.join(segment_name(id));
    match read_file(&path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let what = format!("{}: {error}", path.display());
            Err(io::Error::new(error.source.kind(), what))
        }
    }
}

fn segment(
    directory: &Path,
    id: u32,
    bytes: u64,
    scanned: &Scanned,
    extent: &Extent,
) -> SegmentReport {
    let mut report = SegmentReport {
        file: directory.join(segment_name(id)),
        segment: id,
        salt: 0,
        bytes,
        end: 0,
        batches: 0,
        durable: LogPosition::default(),
        state: SegmentState::Unreadable,
    };
    if let Ok((header, scan)) = scanned {
        report.salt = header.salt;
        report.end = scan.end;
        report.batches = scan.batches;
        report.durable = scan.mark;
        report.state = if id < extent.oldest {
            SegmentState::Obsolete
        } else if id < extent.last {
            SegmentState::Sealed
        } else if id == extent.last {
            SegmentState::Active
        } else {
            SegmentState::Prepared
        };
    }
    report
}

/// The terms of records that hold entries, by where they are.
type Terms = HashMap<LogPosition, Term>;

/// Follows the records of the valid batches.
fn follow(
    directory: &Path,
    scans: &BTreeMap<u32, Scanned>,
    extent: &Extent,
) -> io::Result<(LogIndex, Terms, Strays)> {
    let (index, mut strays) = (LogIndex::new(), Strays::default());
    let mut terms = Terms::new();
    let mut accounts = Accounts::default();
    for (id, end) in &extent.ends {
        let (Some(Ok((header, scan))), Some(file)) = (scans.get(id), read(directory, *id)?) else {
            continue;
        };
        replay(&file, header.salt, *end, &scan.defects, |replayed| {
            if let Replayed::Record(offset, record) = replayed {
                let place = position(*id, offset);
                if record.term > Term(0) {
                    terms.insert(place, record.term);
                }
                strays.follow(&record);
                let (group, bytes) = (record.group(), record.bytes as u32);
                let counts = index.apply(record.effect, place, bytes, &mut accounts);
                if let Some(group) = group.filter(|_| !counts) {
                    strays.add(group, place);
                }
            }
        });
    }
    Ok((index, terms, strays))
}

fn groups(index: &LogIndex, terms: &Terms) -> BTreeMap<GroupId, GroupReport> {
    let mut reports = BTreeMap::new();
    index.each(|group, log| {
        let report = GroupReport {
            hard_state: log.hard_state(),
            snapshot: log.snapshot,
            last: log.last,
            runs: runs(log, terms),
            configuration: log.restored().configurations.pop(),
            records: log.pieces().count(),
            bytes: log.pieces().map(|piece| u64::from(piece.run.bytes)).sum(),
        };
        reports.insert(group, report);
    });
    reports
}

/// Where the entries of each term begin. A record holds entries of one term.
fn runs(log: &GroupLog, terms: &Terms) -> Vec<TermRun> {
    let mut runs: Vec<TermRun> = Vec::new();
    for piece in log.pieces() {
        let Some(&term) = terms.get(&piece.run.place) else { continue };
        if runs.last().is_none_or(|run| run.term != term) {
            runs.push(TermRun { term, first: piece.first });
        }
    }
    runs
}
