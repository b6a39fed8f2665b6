//! Which snapshots a store has, and under which names.

use super::error::{SnapshotError, failure};
use super::file::{SnapshotInfo, open_header};
use crate::files::{make_directory, sync_directory};
use logboat_raft::{GroupId, LogId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

const CURRENT: &str = "snap";
const RECEIVED: &str = "received";
const TEMPORARY: &str = "tmp";

/// What the handles of a store share, and the files on their way into it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) directory: PathBuf,
    pub(super) known: Mutex<Known>,
    /// Makes temporary names differ.
    next: AtomicU64,
}

/// The files that are complete.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) current: HashMap<GroupId, SnapshotInfo>,
    pub(super) received: HashMap<(GroupId, LogId), SnapshotInfo>,
}

impl Shared {
    /// Opens the store in a directory: removes what is unfinished and learns what is there.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        make_directory(directory)?;
        let mut known = Known::default();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            let group = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            match (group.map(GroupId), extension) {
                // What an earlier process received is offered again.
                (_, Some(TEMPORARY | RECEIVED)) => fs::remove_file(&path)?,
                (Some(group), Some(CURRENT)) => match open_header(&path, group) {
                    Ok((header, _)) => {
                        known.current.insert(group, header.info());
                    }
                    Err(error) => tracing::error!("a snapshot is ignored: {error}"),
                },
                _ => {}
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            known: Mutex::new(known),
            next: AtomicU64::new(0),
        })
    }

    pub(super) fn current_path(&self, group: GroupId) -> PathBuf {
        self.directory.join(format!("{group}.{CURRENT}"))
    }

    pub(super) fn received_path(&self, group: GroupId, last: LogId) -> PathBuf {
        let LogId { term, index } = last;
        self.directory.join(format!("{group}-{index}-{term}.{RECEIVED}"))
    }

    /// A path that was not handed out before.
    pub(super) fn temporary_path(&self, group: GroupId) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!("{group}-{number}.{TEMPORARY}"))
    }

    /// Renames a durable file over the group's current one, unless that is as new.
    pub(super) fn make_current(
        &self,
        known: &mut Known,
        group: GroupId,
        info: SnapshotInfo,
        from: &Path,
    ) -> Result<(), SnapshotError> {
        if let Some(current) = known.current.get(&group).map(|current| current.last)
            && current.index >= info.last.index
        {
            return Err(SnapshotError::Superseded { group, current });
        }
        let path = self.current_path(group);
        self.rename(from, &path).map_err(|e| failure(&path, e))?;
        known.current.insert(group, info);
        Ok(())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        sync_directory(&self.directory)
    }
}
