//! The write-ahead log that all groups of a node share.

use logboat_raft::{Entry, GroupId, Index, Persist, Restored};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

mod metrics;

pub use metrics::WalMetrics;

/// What happens when a batch is durable. Called on a thread of the log, so it must not block.
pub trait Completion: Send + 'static {
    /// `Ok` when all of the batch is durable, `Err` when it never will be acknowledged.
    fn complete(self, result: Result<(), Poisoned>);
}

/// Writes of many groups that become durable together.
#[derive(Debug)]
pub struct Batch<C> {
    /// The writes, in order.
    pub writes: Vec<(GroupId, Persist)>,
    /// Told when they are durable.
    pub completion: C,
}

/// The log's sizes and limits.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Size of a segment file in bytes.
    pub segment_bytes: u64,
    /// Above this many bytes of segments, live entries are moved out of the oldest ones and the
    /// groups that pin them are named to the pressure callback.
    pub max_bytes: u64,
    /// After so long without a write, the durable mark of the last one is recorded.
    pub mark_delay: Duration,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            max_bytes: 2 << 30,
            mark_delay: Duration::from_millis(100),
        }
    }
}

/// The log accepts no writes any more: a write or sync failed, or it was closed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the write-ahead log takes no more writes: {reason}")]
pub struct Poisoned {
    reason: Arc<str>,
}

/// Why the log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum WalError {}

/// Why entries can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {}

/// A handle of the log; clones share it.
pub struct Wal<C: Completion> {
    shared: Arc<std::marker::PhantomData<fn(C)>>,
}

impl<C: Completion> Clone for Wal<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<C: Completion> Wal<C> {
    /// Opens the log in `dir`, making it if need be, and recovers what it holds. `pressure` is
    /// called, on a thread of the log, with groups whose snapshots would let old segments go.
    ///
    /// # Errors
    /// [`WalError`].
    pub fn open(
        dir: &Path,
        options: WalOptions,
        pressure: impl Fn(&[GroupId]) + Send + Sync + 'static,
    ) -> Result<(Self, BTreeMap<GroupId, Restored>), WalError> {
        let _ = (dir, options, pressure);
        todo!()
    }

    /// Hands a batch to the log; never blocks.
    pub fn submit(&self, batch: Batch<C>) {
        let _ = batch;
        todo!()
    }

    /// Entries of a group from `first` to `last`, about `max_bytes` of payload but at least one;
    /// empty when the log does not hold `first`.
    ///
    /// # Errors
    /// [`ReadError`] when what the disk holds is not what was written.
    pub fn read(
        &self,
        group: GroupId,
        first: Index,
        last: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let _ = (group, first, last, max_bytes);
        todo!()
    }

    /// Bytes submitted and not completed.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        todo!()
    }

    /// Whether writes wait for disk space. Reads go on.
    #[must_use]
    pub fn stalled(&self) -> bool {
        todo!()
    }

    /// Why the log takes no more writes, if so.
    #[must_use]
    pub fn poisoned(&self) -> Option<Poisoned> {
        todo!()
    }

    /// What the log counts.
    #[must_use]
    pub fn metrics(&self) -> &WalMetrics {
        todo!()
    }

    /// Writes and syncs what was submitted, then stops the threads. Later submissions are refused.
    pub fn close(self) {
        todo!()
    }
}
