//! The metrics of the log.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What the log counts. Each field may be read or registered at any time; they share their state
/// with the log.
#[derive(Debug)]
pub struct WalMetrics {
    /// Calls of `fdatasync` on segments.
    pub syncs: Counter,
    /// Batches written; each holds what was submitted meanwhile.
    pub batches: Counter,
    /// Entries written.
    pub entries: Counter,
    /// Bytes of the entries' data.
    pub payload_bytes: Counter,
    /// Bytes written to segments, headers, marks and rewritten entries included.
    pub written_bytes: Counter,
    /// Bytes that garbage collection wrote again.
    pub rewritten_bytes: Counter,
    /// Bytes submitted and not completed.
    pub queued_bytes: Gauge,
    /// Segment files that hold the log.
    pub segments: Gauge,
    /// One while writes wait for disk space.
    pub stalled: Gauge,
    /// Seconds a sync took.
    pub sync_seconds: Histogram,
    /// Entries that became durable by one sync.
    pub entries_per_sync: Histogram,
}

impl Default for WalMetrics {
    fn default() -> Self {
        Self {
            syncs: Counter::default(),
            batches: Counter::default(),
            entries: Counter::default(),
            payload_bytes: Counter::default(),
            written_bytes: Counter::default(),
            rewritten_bytes: Counter::default(),
            queued_bytes: Gauge::default(),
            segments: Gauge::default(),
            stalled: Gauge::default(),
            sync_seconds: Histogram::new(exponential_buckets(32e-6, 2.0, 18)),
            entries_per_sync: Histogram::new(exponential_buckets(1.0, 2.0, 15)),
        }
    }
}

impl WalMetrics {
    /// Registers every metric under the prefix `wal`.
    pub fn register(&self, registry: &mut Registry) {
        let wal = registry.sub_registry_with_prefix("wal");
        wal.register("syncs", "fdatasync calls", self.syncs.clone());
        wal.register("batches", "Batches written", self.batches.clone());
        wal.register("entries", "Entries written", self.entries.clone());
        wal.register("payload_bytes", "Entry data written", self.payload_bytes.clone());
        wal.register("written_bytes", "All bytes written", self.written_bytes.clone());
        wal.register(
            "rewritten_bytes",
            "Bytes written again by garbage collection",
            self.rewritten_bytes.clone(),
        );
        wal.register(
            "queued_bytes",
            "Bytes submitted and not completed",
            self.queued_bytes.clone(),
        );
        wal.register("segments", "Segment files", self.segments.clone());
        wal.register("stalled", "1 while writes wait for disk space", self.stalled.clone());
        wal.register_with_unit(
            "sync",
            "Duration of a sync",
            Unit::Seconds,
            self.sync_seconds.clone(),
        );
        wal.register(
            "entries_per_sync",
            "Entries that one sync made durable",
            self.entries_per_sync.clone(),
        );
    }
}
