//! The interface of a state engine.

use crate::state::batch::{Namespace, StateBatch};
use crate::state::error::StateError;
use bytes::Bytes;
use logboat_raft::LogId;
use std::io;
use std::ops::Bound;
use std::time::{Duration, Instant};

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// The pairs of a range in the order of their keys, or the other way from its end.
pub type StateScan = Box<dyn DoubleEndedIterator<Item = Result<Pair, StateError>> + Send>;

/// Keeps the states of groups: see [the module](crate::state).
///
/// All methods may be called from any thread. Batches happen in the order in which
/// [`write`](Self::write) is called.
pub trait StateEngine: Send + Sync + 'static {
    /// Makes a namespace. Its number was never given before, and is not given again if the
    /// namespace holds anything durable, or did.
    ///
    /// # Errors
    /// [`StateError::Poisoned`].
    fn create(&self) -> Result<Namespace, StateError>;

    /// The namespaces that stand after some entry, in ascending order.
    fn namespaces(&self) -> Vec<Namespace>;

    /// Writes a batch to memory.
    ///
    /// # Errors
    /// [`StateError`]: the batch had no effect.
    fn write(&self, batch: &StateBatch) -> Result<(), StateError>;

    /// The value of a key now.
    ///
    /// # Errors
    /// [`StateError`], such as damage of the table that may hold the key.
    fn get(&self, namespace: Namespace, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.view()?.get(namespace, key)
    }

    /// The state of this moment, whatever is written later.
    ///
    /// # Errors
    /// [`StateError::Poisoned`].
    fn view(&self) -> Result<Box<dyn StateView>, StateError>;

    /// The entry after which a namespace stands. `None` if no batch has said so.
    fn applied(&self, namespace: Namespace) -> Option<LogId>;

    /// The entry after which a namespace stands if the machine crashes now.
    fn durable(&self, namespace: Namespace) -> Option<LogId>;

    /// Makes all durable that was written before. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`StateError::NoRoom`]: nothing has changed, and it may be tried again. Any other: the
    /// engine takes no more writes. It must be opened anew.
    fn flush(&self) -> Result<(), StateError>;

    /// Does what [`flush`](Self::flush) does if enough has gathered, or some of it is too old at
    /// `now`. Returns whether something became durable. Without room it waits for the next call.
    ///
    /// # Errors
    /// As for [`flush`](Self::flush).
    fn flush_if_due(&self, now: Instant) -> Result<bool, StateError>;

    /// Takes one step of putting tables in order, which frees what was overwritten and deleted.
    /// Returns whether there was something to do.
    ///
    /// # Errors
    /// [`StateError`]: damage of a table, or the engine takes no more writes.
    fn compact(&self) -> Result<bool, StateError>;

    /// Fills a namespace that [`create`](Self::create) has made, and that nothing was written to,
    /// with the state after the entry `applied`. All of it is durable at the return. After a crash
    /// before that there is all of it or nothing. Others go on meanwhile, but for a moment.
    ///
    /// # Errors
    /// [`StateError`]: nothing was taken in.
    fn ingest(
        &self,
        namespace: Namespace,
        applied: LogId,
        pairs: &mut dyn Iterator<Item = io::Result<Pair>>,
    ) -> Result<(), StateError>;

    /// How much the writers are ahead of the disk.
    fn pressure(&self) -> Pressure;

    /// What there is, for people.
    fn statistics(&self) -> StateStatistics;
}

/// The states of a moment. It holds on to what has been overwritten since, so it should not live
/// long; a scan that it began may.
pub trait StateView: Send {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StateError`], such as damage of the table that may hold the key.
    fn get(&self, namespace: Namespace, key: &[u8]) -> Result<Option<Bytes>, StateError>;

    /// The pairs of a range of keys. The scan may outlive the view.
    ///
    /// # Errors
    /// [`StateError`].
    fn scan(
        &self,
        namespace: Namespace,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Result<StateScan, StateError>;

    /// The entry after which the namespace stands in this view.
    ///
    /// # Errors
    /// [`StateError`].
    fn applied(&self, namespace: Namespace) -> Result<Option<LogId>, StateError>;
}

/// How much the writers of an engine are ahead of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// Not at all.
    None,
    /// So much that each should wait for this long before its next batch.
    Slow(Duration),
    /// So much that batches are refused.
    Full,
}

/// What a state engine has and does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateStatistics {
    /// Bytes of writes that are in memory.
    pub memtable_bytes: u64,
    /// Bytes of tables.
    pub table_bytes: u64,
    /// Tables.
    pub tables: u64,
    /// Sorted runs of tables that a read may have to look at in the first level.
    pub first_level_runs: u64,
    /// Flushes since the engine was opened.
    pub flushes: u64,
    /// Steps of putting tables in order since then.
    pub compactions: u64,
    /// Batches that were refused since then, since the disk was behind.
    pub refused: u64,
    /// Whether flushes and merges wait for room on the disk, or for descriptors.
    pub lacks_room: bool,
    /// Whether a merge has met a damaged table. There are no more merges then. When the first level
    /// is full, writes are refused, which names the table.
    pub is_damaged: bool,
}
