//! Decides which part of the segment files is the log: where it ends, what is a torn tail and what
//! is damaged.

use super::scan::{Flaw, Kept, Scan, Scanned};
use crate::wal::error::{Damage, WalError};
use crate::wal::format::{BadHeader, position, segment_name};
use logboat_raft::LogPosition;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Which part of the files is the log.
#[derive(Debug)]
pub(crate) struct Extent {
    /// The first segment that is needed.
    pub(crate) oldest: u32,
    /// The segment in which the log ends; zero when nothing was ever written.
    pub(crate) last: u32,
    /// Where the valid batches of each needed segment end.
    pub(crate) ends: BTreeMap<u32, u64>,
    /// The last segment's part of the log.
    pub(crate) tail: Option<Kept>,
    /// The records whose headers are valid, but not the data of their entries. Each is one group's
    /// matter, if the group needs it.
    pub(crate) spoiled: Vec<(LogPosition, Damage)>,
    /// What can't be read, though it is known whose it was.
    pub(crate) lost: Vec<Damage>,
    /// Why it is not all there: [`WalError::Corrupt`], [`WalError::Missing`] and
    /// [`WalError::OtherVersion`].
    pub(crate) problems: Vec<WalError>,
}

impl Extent {
    /// Tells what is valid, what is a torn tail and what is damaged.
    pub(crate) fn of(segments: &BTreeMap<u32, Scanned>, path: impl Fn(&str) -> PathBuf) -> Self {
        let scans: BTreeMap<u32, &Scan> = segments
            .iter()
            .filter_map(|(id, scanned)| Some((*id, &scanned.as_ref().ok()?.1)))
            .collect();
        let used = scans.iter().filter(|(_, scan)| scan.is_used());
        let last = used.map(|(id, _)| *id).next_back().unwrap_or(0);
        let mark = scans.values().map(|scan| scan.mark).max().unwrap_or_default();
        let acknowledged = if mark.segment == last { u64::from(mark.offset) } else { 0 };
        let tail = scans.get(&last).map(|scan| scan.kept(acknowledged));
        let before = scans.range(..last).rev().filter_map(|(_, scan)| scan.last);
        let mut valid = tail.and_then(|tail| tail.last).into_iter().chain(before);
        let mut extent = Self {
            oldest: valid.next().map_or(1, |header| header.oldest),
            last,
            ends: BTreeMap::new(),
            tail,
            spoiled: Vec::new(),
            lost: Vec::new(),
            problems: Vec::new(),
        };
        let mut expected = extent.oldest;
        for (&id, scanned) in segments.range(extent.oldest..) {
            if id > expected {
                // A stray file of a large number leaves a gap of billions: only its first is named.
                extent.problems.push(WalError::Missing(path(&segment_name(expected))));
            }
            expected = id + 1;
            let path = path(&segment_name(id));
            match scanned {
                Err(bad @ BadHeader::OtherVersion(_)) => {
                    let what = bad.to_string();
                    extent.problems.push(WalError::OtherVersion { file: path, what });
                }
                Err(BadHeader::Damaged(what)) => {
                    let flaw = Flaw { what: what.clone(), ..Flaw::default() };
                    extent.problems.push(corrupt(path, &flaw));
                }
                Ok((_, scan)) if id <= last => {
                    let next = scans.get(&expected).copied();
                    extent.judge(id, scan, next, acknowledged, path);
                }
                Ok(_) => {}
            }
        }
        extent
    }

    /// Where the log ends; before any position when nothing was ever written.
    pub(crate) fn end(&self) -> LogPosition {
        let end = self.ends.get(&self.last);
        end.map_or_else(LogPosition::default, |end| position(self.last, *end))
    }

    /// Finds where the valid part of a segment ends, and what is damaged before that.
    fn judge(
        &mut self,
        id: u32,
        scan: &Scan,
        next: Option<&Scan>,
        acknowledged: u64,
        path: PathBuf,
    ) {
        let (end, acknowledged) = if id < self.last {
            // Something follows, so this segment was durable up to where the next one says. If
            // that can't say, its first batch is damaged, which is found when it is judged.
            let end = next.and_then(|next| next.previous_end);
            let end = end.unwrap_or(scan.end);
            (end, end)
        } else {
            (self.tail.map_or(scan.end, |tail| tail.end), acknowledged)
        };
        self.ends.insert(id, end);
        let defects = || scan.defects.iter().filter(|defect| defect.batch < end);
        for lost in defects().filter_map(|defect| defect.lost.as_ref()) {
            if lost.has_grants {
                self.problems.push(corrupt(path.clone(), &lost.flaw()));
            } else {
                self.lost.push(damage(path.clone(), &lost.flaw()));
            }
        }
        let spoiled = defects().flat_map(|defect| &defect.flaws);
        let spoiled = spoiled.filter(|flaw| flaw.offset < end);
        let place = |flaw: &Flaw| position(id, flaw.offset);
        self.spoiled.extend(spoiled.map(|flaw| (place(flaw), damage(path.clone(), flaw))));
        let damaged = scan.flaws.iter();
        let damaged = damaged.filter(|flaw| flaw.offset < acknowledged);
        self.problems.extend(damaged.map(|flaw| corrupt(path.clone(), flaw)));
    }
}

fn corrupt(file: PathBuf, flaw: &Flaw) -> WalError {
    WalError::Corrupt(damage(file, flaw))
}

fn damage(file: PathBuf, flaw: &Flaw) -> Damage {
    Damage { file, offset: flaw.offset, what: flaw.what.clone(), groups: flaw.groups.clone() }
}
