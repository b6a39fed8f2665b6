//! Which groups still need a segment, and whose snapshots would free old segments.
//!
//! Both look at every run of every group, which takes tens of milliseconds when there are millions
//! of groups. So the segment worker asks, not the writer.

use super::Store;
use crate::wal::disk::{Disk, SegmentFile};
use logboat_raft::GroupId;
use std::cmp::Reverse;

/// The most groups that are named at once.
const MAX_PRESSED: usize = 64;

/// The groups that still need the oldest segment, being moved out of it, those that only have a
/// tombstone there too. Grants are few, so all that are left in it go with the first batch.
#[derive(Debug)]
pub(crate) struct LiveGroups {
    pub(crate) segment: u32,
    /// In descending order; the last one is next.
    pub(crate) groups: Vec<GroupId>,
}

/// Looks at the runs of all groups, which takes tens of milliseconds when there are millions.
impl<D: Disk> Store<D> {
    /// Who still needs a segment.
    pub(crate) fn live_groups(&self, segment: u32) -> LiveGroups {
        let mut groups = Vec::new();
        self.index.each(|group, log| {
            if log.needs(segment) {
                groups.push(group);
            }
        });
        groups.extend(self.index.buried_in(segment));
        groups.sort_unstable_by_key(|group| Reverse(*group));
        LiveGroups { segment, groups }
    }

    /// The groups whose snapshots would bring a log that begins with segment `oldest` under
    /// `max_bytes`, those that hold most first. None while the log is within that limit.
    pub(crate) fn pressing(&self, oldest: u32, max_bytes: u64) -> Vec<GroupId> {
        let mut excess = self.bytes_from(oldest).saturating_sub(max_bytes);
        let mut through = oldest;
        for (id, segment) in self.segments.read().range(oldest..) {
            if excess == 0 {
                break;
            }
            through = id + 1;
            excess = excess.saturating_sub(segment.file.bytes());
        }
        let mut holders = Vec::new();
        if through > oldest {
            self.index.each(|group, log| {
                let old = log.runs().filter(|run| run.place.segment < through);
                let bytes: u64 = old.map(|run| u64::from(run.bytes)).sum();
                if bytes > 0 {
                    holders.push((Reverse(bytes), group));
                }
            });
        }
        holders.sort_unstable();
        holders.truncate(MAX_PRESSED);
        holders.into_iter().map(|(_, group)| group).collect()
    }

    /// Bytes of the segments from `oldest` on.
    pub(crate) fn bytes_from(&self, oldest: u32) -> u64 {
        let segments = self.segments.read();
        segments.range(oldest..).map(|(_, segment)| segment.file.bytes()).sum()
    }
}
