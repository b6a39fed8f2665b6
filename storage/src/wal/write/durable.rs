//! How far the log is durable.

use logboat_raft::LogPosition;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The position up to which everything written is durable. Clones share it. The thread that synced
/// a segment advances it, and the log reads it when it writes the durable mark into the header of a
/// batch.
#[derive(Clone, Debug)]
pub(crate) struct DurableEnd(Arc<AtomicU64>);

impl DurableEnd {
    pub(super) fn new(end: LogPosition) -> Self {
        Self(Arc::new(AtomicU64::new(end.pack())))
    }

    pub(super) fn get(&self) -> LogPosition {
        LogPosition::unpack(self.0.load(Ordering::Acquire))
    }

    /// Everything up to `end` was synced. Syncs may end in any order, so an earlier end changes
    /// nothing.
    pub(in crate::wal) fn advance(&self, end: LogPosition) {
        self.0.fetch_max(end.pack(), Ordering::Release);
    }
}
