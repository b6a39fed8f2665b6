//! What the log holds of one group, while it runs.

use super::Store;
use crate::wal::disk::Disk;
use crate::wal::error::{Damage, ReadError};
use crate::wal::index::GroupLog;
use logboat_raft::{GroupId, Restored, TermRun};

/// How much is read at a time.
const PIECE_BYTES: usize = 1 << 20;

impl<D: Disk> Store<D> {
    /// What a replica of the group starts from. Nobody may write to the group meanwhile.
    pub(crate) fn restored(&self, group: GroupId) -> Result<Restored, ReadError> {
        let mut restored = self.index.with(group, GroupLog::restored);
        let mut next = restored.snapshot.index.next();
        while next <= restored.last {
            let entries = self.read(group, next, restored.last, PIECE_BYTES)?;
            let Some(last) = entries.last() else {
                return Err(ReadError::Corrupt(Damage {
                    file: self.disk.path(""),
                    offset: 0,
                    what: format!("entry {next} of the group is nowhere in it"),
                    groups: vec![group],
                }));
            };
            next = last.index.next();
            for entry in &entries {
                if restored.runs.last().is_none_or(|run| run.term != entry.term) {
                    restored.runs.push(TermRun { term: entry.term, first: entry.index });
                }
            }
        }
        Ok(restored)
    }
}
