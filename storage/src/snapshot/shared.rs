//! Which snapshots a store has, and under which names.

use super::disk::SnapshotDisk;
use super::error::{SnapshotError, failure};
use super::file::{SnapshotInfo, open_header};
use crate::wal::is_shortage;
use logboat_raft::{GroupId, LogId};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const CURRENT: &str = "snap";
const RECEIVED: &str = "received";
const TEMPORARY: &str = "tmp";

/// What the handles of a store share, and the files on their way into it.
#[derive(Debug)]
pub(super) struct Shared<D> {
    pub(super) disk: D,
    pub(super) known: Mutex<Known>,
    /// Makes temporary names differ.
    next: AtomicU64,
}

/// A file that was received. The same snapshot may come from several leaders, as one file.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) info: SnapshotInfo,
    /// How many times it came. It is discarded as many times.
    pub(super) times: usize,
}

/// The files that are complete.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) current: HashMap<GroupId, SnapshotInfo>,
    pub(super) received: HashMap<(GroupId, LogId), Received>,
    /// What is being written, or is to be, by group and number. What is missing here by the end was
    /// for a replica that is gone.
    pub(super) unfinished: BTreeSet<(GroupId, u64)>,
}

impl<D> Shared<D> {
    /// A number that was not handed out before.
    pub(super) fn next_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

impl<D: SnapshotDisk> Shared<D> {
    /// Opens the store on a disk: removes what is unfinished and learns what is there.
    pub(super) fn open(disk: D) -> io::Result<Self> {
        let mut known = Known::default();
        for name in disk.list()? {
            let path = Path::new(&name);
            let extension = path.extension().and_then(|extension| extension.to_str());
            let group = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            match (group.map(GroupId), extension) {
                // What an earlier process received is offered again.
                (_, Some(TEMPORARY | RECEIVED)) => disk.remove(&name)?,
                (Some(group), Some(CURRENT)) => match open_header(&disk, &name, group) {
                    Ok((header, _)) => {
                        known.current.insert(group, header.info());
                    }
                    // Its group would be taken for one that has lost its snapshot.
                    Err(SnapshotError::Io { source, .. }) if is_shortage(&source) => {
                        return Err(source);
                    }
                    Err(error) => tracing::error!("a snapshot is ignored: {error}"),
                },
                _ => {}
            }
        }
        Ok(Self { disk, known: Mutex::new(known), next: AtomicU64::new(0) })
    }

    /// Renames a durable file over the group's current one, unless that is as new.
    pub(super) fn make_current(
        &self,
        known: &mut Known,
        group: GroupId,
        info: SnapshotInfo,
        from: &str,
    ) -> Result<(), SnapshotError> {
        if let Some(current) = known.current.get(&group).map(|current| current.last)
            && current.index >= info.last.index
        {
            return Err(SnapshotError::Superseded { group, current });
        }
        self.rename(from, &current_name(group))?;
        known.current.insert(group, info);
        Ok(())
    }

    /// Renames a file, durably.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), SnapshotError> {
        let renamed = self.disk.rename(from, to).and_then(|()| self.disk.sync_directory());
        renamed.map_err(|e| self.failure(to, e))
    }

    pub(super) fn failure(&self, name: &str, source: io::Error) -> SnapshotError {
        failure(self.disk.path(name), source)
    }
}

/// The name of a file that is being written.
pub(super) fn temporary_name(group: GroupId, number: u64) -> String {
    format!("{group}-{number}.{TEMPORARY}")
}

/// The name of a group's current snapshot.
pub(super) fn current_name(group: GroupId) -> String {
    format!("{group}.{CURRENT}")
}

/// The name of a snapshot that was received and not adopted.
pub(super) fn received_name(group: GroupId, last: LogId) -> String {
    let LogId { term, index } = last;
    format!("{group}-{index}-{term}.{RECEIVED}")
}
