//! What the threads of the log and its handles share.

use super::Completion;
use super::disk::{Disk, SegmentFile};
use super::error::Poisoned;
use super::format::Position;
use super::log::{Log, Written};
use super::metrics::WalMetrics;
use super::store::Store;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The state behind every handle.
pub(super) struct Shared<D: Disk> {
    pub(super) store: Arc<Store<D>>,
    pub(super) metrics: WalMetrics,
    /// Bytes submitted and not completed.
    queued: AtomicUsize,
    /// The position up to which everything is durable.
    durable: AtomicU64,
    stalled: AtomicBool,
    closing: AtomicBool,
    poisoned: OnceLock<Poisoned>,
}

/// Who waits for a batch that was written.
pub(super) struct Pending<C> {
    pub(super) completion: C,
    /// As counted in the queue.
    pub(super) bytes: usize,
    pub(super) entries: u64,
}

impl<D: Disk> Shared<D> {
    pub(super) fn new(log: &Log<D>) -> Self {
        Self {
            store: Arc::clone(&log.store),
            metrics: WalMetrics::default(),
            queued: AtomicUsize::new(0),
            durable: AtomicU64::new(log.durable.pack()),
            stalled: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            poisoned: OnceLock::new(),
        }
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    pub(super) fn enqueue(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
        self.metrics.queued_bytes.inc_by(bytes as i64);
    }

    /// Syncs a segment and completes those who wait for it. What was written with an earlier
    /// failure behind it is never said to be durable.
    pub(super) fn sync<C: Completion>(
        &self,
        file: &D::File,
        end: Position,
        pending: Vec<Pending<C>>,
    ) {
        if self.poisoned().is_none() {
            let begin = Instant::now();
            match file.sync() {
                Ok(()) => self.synced(end, begin.elapsed(), &pending),
                Err(error) => self.poison(&format!("a sync failed: {error}")),
            }
        }
        let result = self.poisoned().map_or(Ok(()), Err);
        for pending in pending {
            self.complete(pending, result.clone());
        }
    }

    /// Tells who waits. A completion that panics does not take the others with it, but what it left
    /// undone can't be known, so nothing more is written.
    pub(super) fn complete<C: Completion>(
        &self,
        pending: Pending<C>,
        result: Result<(), Poisoned>,
    ) {
        self.queued.fetch_sub(pending.bytes, Ordering::Relaxed);
        self.metrics.queued_bytes.dec_by(pending.bytes as i64);
        let complete = AssertUnwindSafe(|| pending.completion.complete(result));
        if catch_unwind(complete).is_err() {
            self.poison("a completion panicked");
        }
    }

    pub(super) fn durable(&self) -> Position {
        Position::unpack(self.durable.load(Ordering::Acquire))
    }

    pub(super) fn synced<C>(&self, end: Position, took: Duration, pending: &[Pending<C>]) {
        self.durable.fetch_max(end.pack(), Ordering::Release);
        self.metrics.syncs.inc();
        self.metrics.sync_seconds.observe(took.as_secs_f64());
        let entries: u64 = pending.iter().map(|pending| pending.entries).sum();
        if entries > 0 {
            self.metrics.entries_per_sync.observe(entries as f64);
        }
    }

    pub(super) fn wrote(&self, written: Written) {
        self.metrics.entries.inc_by(written.entries);
        self.metrics.payload_bytes.inc_by(written.payload_bytes);
        self.metrics.written_bytes.inc_by(written.bytes);
    }

    pub(super) fn poisoned(&self) -> Option<Poisoned> {
        self.poisoned.get().cloned()
    }

    /// Ends all writing. The first reason stays.
    pub(super) fn poison(&self, reason: &str) {
        if self.poisoned.set(Poisoned::new(reason)).is_ok() {
            tracing::error!("the write-ahead log is poisoned: {reason}");
        }
    }

    /// Whether nothing more will be submitted.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(super) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    pub(super) fn stall(&self, stalled: bool) {
        if self.stalled.swap(stalled, Ordering::Relaxed) != stalled {
            self.metrics.stalled.set(i64::from(stalled));
            if stalled {
                tracing::error!("the disk is full: writes wait for space, reads go on");
            } else {
                tracing::error!("there is space on the disk again: writes go on");
            }
        }
    }
}
