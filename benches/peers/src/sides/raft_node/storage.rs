//! What raft-rs reads of a group's log: the newest entries from memory, the rest from raft-engine.

use crate::sides::raft_engine::Entries;
use logboat_bench::Failure;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use raft_engine::{Engine, LogBatch};
use std::collections::VecDeque;
use std::sync::Arc;

/// Applied entries are kept in memory up to so many, for followers that are a little behind.
const KEPT_ENTRIES: usize = 128;

/// Where TiKV keeps a region's local state too: under a key of the group.
const STATE_KEY: &[u8] = b"state";

/// The log of one replica that began empty.
pub(crate) struct GroupLog {
    group: u64,
    engine: Arc<Engine>,
    voters: ConfState,
    last: u64,
    /// The newest entries, without a gap, up to the last one.
    newest: VecDeque<Entry>,
}

impl GroupLog {
    pub(crate) fn new(group: u64, engine: Arc<Engine>, voters: Vec<u64>) -> Self {
        let voters = ConfState { voters, ..ConfState::default() };
        Self { group, engine, voters, last: 0, newest: VecDeque::new() }
    }

    /// Appends entries, here and in `batch`, in place of any from the first one's index on. `batch`
    /// must be written before raft-rs is told.
    pub(crate) fn append(
        &mut self,
        entries: Vec<Entry>,
        batch: &mut LogBatch,
    ) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        batch.add_entries::<Entries>(self.group, &entries)?;
        while self.newest.back().is_some_and(|entry| entry.index >= first.index) {
            self.newest.pop_back();
        }
        self.last = last.index;
        self.newest.extend(entries);
        Ok(())
    }

    /// Puts the state into `batch`.
    pub(crate) fn save(&self, state: &HardState, batch: &mut LogBatch) -> Result<(), Failure> {
        Ok(batch.put_message(self.group, STATE_KEY.to_vec(), state)?)
    }

    /// Forgets entries that were applied and are not among the newest.
    pub(crate) fn applied(&mut self, index: u64) {
        while self.newest.len() > KEPT_ENTRIES
            && self.newest.front().is_some_and(|entry| entry.index <= index)
        {
            self.newest.pop_front();
        }
    }

    /// The first index that is in memory.
    fn first_in_memory(&self) -> u64 {
        self.newest.front().map_or(self.last + 1, |entry| entry.index)
    }
}

fn failed(error: raft_engine::Error) -> raft::Error {
    raft::Error::Store(StorageError::Other(error.into()))
}

impl Storage for GroupLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: HardState::default(), conf_state: self.voters.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let max_size = max_size.into();
        let begin = self.first_in_memory();
        let mut entries = Vec::new();
        if low < begin {
            let limit = max_size.and_then(|bytes| usize::try_from(bytes).ok());
            let high = high.min(begin);
            self.engine
                .fetch_entries_to::<Entries>(self.group, low, high, limit, &mut entries)
                .map_err(failed)?;
        } else {
            let [from, to] = [low - begin, high - begin].map(|at| at as usize);
            entries.extend(self.newest.range(from..to).cloned());
        }
        raft::util::limit_size(&mut entries, max_size);
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == 0 {
            return Ok(0);
        }
        let begin = self.first_in_memory();
        if index >= begin {
            let entry = self.newest.get((index - begin) as usize);
            return entry.map(|entry| entry.term).ok_or_else(unavailable);
        }
        let entry = self.engine.get_entry::<Entries>(self.group, index).map_err(failed)?;
        entry.map(|entry| entry.term).ok_or_else(unavailable)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last)
    }

    /// The log is never compacted, so nobody needs one.
    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

fn unavailable() -> raft::Error {
    StorageError::Unavailable.into()
}
