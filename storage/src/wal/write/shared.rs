//! What the handles of the log share with its threads.

use super::durable::DurableEnd;
use super::log::{Log, Unsynced, Written};
use super::refusals::Refusals;
use crate::wal::batch::Completion;
use crate::wal::disk::{Disk, SegmentFile};
use crate::wal::error::Poisoned;
use crate::wal::metrics::WalMetrics;
use crate::wal::segments::{Store, is_full};
use logboat_raft::LogPosition;
use parking_lot::Mutex;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The state behind every handle.
pub(crate) struct Shared<D: Disk> {
    pub(crate) store: Arc<Store<D>>,
    pub(crate) metrics: WalMetrics,
    pub(crate) refusals: Arc<Refusals>,
    /// Bytes submitted and not completed.
    queued: AtomicUsize,
    durable: DurableEnd,
    /// Where the log ended when it was opened.
    pub(crate) found_end: LogPosition,
    stalled: Arc<AtomicBool>,
    /// Whether the log still takes what frees space, while it is stalled.
    relieves: AtomicBool,
    /// Why writes wait, while they do.
    stall_reason: Mutex<Option<String>>,
    closing: AtomicBool,
    poisoned: OnceLock<Poisoned>,
}

/// Who waits for a batch that was written.
pub(crate) struct Pending {
    pub(crate) completion: Completion,
    /// As counted in the queue.
    pub(crate) bytes: usize,
    pub(crate) entries: u64,
}

impl<D: Disk> Shared<D> {
    pub(crate) fn new(log: &Log<D>) -> Self {
        Self {
            store: Arc::clone(&log.store),
            metrics: WalMetrics::default(),
            refusals: Arc::clone(&log.refusals),
            queued: AtomicUsize::new(0),
            durable: log.durable.clone(),
            found_end: log.found_end,
            stalled: Arc::default(),
            relieves: AtomicBool::new(false),
            stall_reason: Mutex::default(),
            closing: AtomicBool::new(false),
            poisoned: OnceLock::new(),
        }
    }

    pub(crate) fn durable_end(&self) -> LogPosition {
        self.durable.get()
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    pub(crate) fn enqueue(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
        self.metrics.queued_bytes.inc_by(bytes as i64);
    }

    /// Syncs a segment and completes those who wait for it. What was written with an earlier
    /// failure behind it is never said to be durable.
    pub(crate) fn sync(&self, unsynced: &Unsynced<D::File>, pending: Vec<Pending>) {
        if self.poisoned().is_none() {
            let begin = Instant::now();
            match unsynced.file.sync() {
                Ok(()) => self.synced(unsynced.end, begin.elapsed(), &pending),
                Err(error) => self.poison(&format!("a sync failed: {error}")),
            }
        }
        let result = self.poisoned().map_or(Ok(()), Err);
        for pending in pending {
            self.complete(pending, result.clone());
        }
    }

    /// Tells who waits. A completion that panics does not end the others. But nobody knows what it
    /// left undone, so nothing more is written.
    pub(crate) fn complete(&self, pending: Pending, result: Result<(), Poisoned>) {
        self.queued.fetch_sub(pending.bytes, Ordering::Relaxed);
        self.metrics.queued_bytes.dec_by(pending.bytes as i64);
        let result = result.map(|()| &*self.refusals);
        let complete = AssertUnwindSafe(|| (pending.completion)(result));
        if catch_unwind(complete).is_err() {
            self.poison("a completion panicked");
        }
    }

    fn synced(&self, end: LogPosition, took: Duration, pending: &[Pending]) {
        self.durable.advance(end);
        self.metrics.syncs.inc();
        self.metrics.sync_seconds.observe(took.as_secs_f64());
        let entries: u64 = pending.iter().map(|pending| pending.entries).sum();
        if entries > 0 {
            self.metrics.entries_per_sync.observe(entries as f64);
        }
    }

    pub(crate) fn wrote(&self, written: Written) {
        self.metrics.entries.inc_by(written.entries);
        self.metrics.payload_bytes.inc_by(written.payload_bytes);
        self.metrics.written_bytes.inc_by(written.bytes);
    }

    pub(crate) fn poisoned(&self) -> Option<Poisoned> {
        self.poisoned.get().cloned()
    }

    /// Ends all writing. The first reason stays.
    pub(crate) fn poison(&self, reason: &str) {
        // Mostly the device is the reason.
        self.store.distrust();
        if self.poisoned.set(Poisoned::new(reason)).is_ok() {
            tracing::error!("the write-ahead log is poisoned: {reason}");
        }
    }

    /// Whether nothing more will be submitted.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// [`Self::stalled`] as it changes.
    pub(crate) const fn stalled_flag(&self) -> &Arc<AtomicBool> {
        &self.stalled
    }

    /// Whether the log still takes what frees space, while it is stalled.
    pub(crate) fn relieves(&self) -> bool {
        self.relieves.load(Ordering::Relaxed)
    }

    pub(crate) fn set_relieves(&self, relieves: bool) {
        self.relieves.store(relieves, Ordering::Relaxed);
    }

    /// Why writes wait, if they do.
    pub(crate) fn stall_reason(&self) -> Option<String> {
        self.stall_reason.lock().clone()
    }

    /// Writes wait, since the segment that they need, or soon will, can't be made.
    pub(crate) fn stall(&self, error: &io::Error) {
        if !self.stalled.swap(true, Ordering::Relaxed) {
            let reason = match is_full(error) {
                true => "the disk is full".to_owned(),
                false => format!("no segment of the log can be made: {error}"),
            };
            tracing::error!("{reason}: writes wait, reads go on");
            *self.stall_reason.lock() = Some(reason);
            self.metrics.stalled.set(1);
        }
    }

    /// There is a segment.
    pub(crate) fn end_stall(&self) {
        if self.stalled.swap(false, Ordering::Relaxed) {
            self.stall_reason.lock().take();
            self.metrics.stalled.set(0);
            tracing::error!("there is room for the log again: writes go on");
        }
    }
}
