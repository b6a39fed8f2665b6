//! Decides which part of the segment files is the log: where it ends, what is a torn tail and what
//! is damaged.

use super::scan::{Flaw, Scan, Scanned};
use crate::wal::error::{Damage, WalError};
use crate::wal::format::{position, segment_name};
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
    /// Why it is not all there: [`WalError::Corrupt`] and [`WalError::Missing`].
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
        let mut valid = scans.range(..=last).rev().filter_map(|(_, scan)| scan.last);
        let mut extent = Self {
            oldest: valid.next().map_or(1, |header| header.oldest),
            last,
            ends: BTreeMap::new(),
            problems: Vec::new(),
        };
        let mark = scans.values().map(|scan| scan.mark).max();
        let mut expected = extent.oldest;
        for (&id, scanned) in segments.range(extent.oldest..) {
            if id > expected {
                // A stray file of a large number leaves a gap of billions: only its first is named.
                extent.problems.push(WalError::Missing(path(&segment_name(expected))));
            }
            expected = id + 1;
            let path = path(&segment_name(id));
            match scanned {
                Err(what) => {
                    let flaw = Flaw { what: what.clone(), ..Flaw::default() };
                    extent.problems.push(corrupt(path, &flaw));
                }
                Ok((_, scan)) if id <= last => {
                    let next = scans.get(&expected).copied();
                    extent.judge(id, scan, next, mark.unwrap_or_default(), path);
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
        mark: LogPosition,
        path: PathBuf,
    ) {
        let (end, acknowledged) = if id < self.last {
            // Something follows, so this segment was durable up to where the next one says. If
            // that can't say, its first batch is damaged, which is found when it is judged.
            let end = next.and_then(|next| next.previous_end);
            let end = end.unwrap_or(scan.end);
            (end, end)
        } else if mark.segment == id {
            (scan.end, u64::from(mark.offset))
        } else {
            (scan.end, 0)
        };
        self.ends.insert(id, end);
        let damaged = scan.flaws.iter();
        let damaged = damaged.filter(|flaw| flaw.offset < acknowledged);
        self.problems.extend(damaged.map(|flaw| corrupt(path.clone(), flaw)));
    }
}

fn corrupt(file: PathBuf, flaw: &Flaw) -> WalError {
    WalError::Corrupt(Damage {
        file,
        offset: flaw.offset,
        what: flaw.what.clone(),
        groups: flaw.groups.clone(),
    })
}
