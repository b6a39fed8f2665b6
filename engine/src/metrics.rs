//! The metrics of the engine: what a node counts and measures.

use crate::request::kind::RequestKind;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Counters of all groups of a node.
#[derive(Debug)]
pub struct EngineMetrics {
    /// Commands handed to a core, here as leader or not.
    pub proposals: Counter,
    /// Entries that a replica here learnt to be committed.
    pub committed: Counter,
    /// Entries applied.
    pub applied: Counter,
    /// Reads answered.
    pub reads: Counter,
    /// Requests refused because the node held as much as it may.
    pub busy: Counter,
    /// Messages of peers dropped because the node held as much as it may.
    pub messages_dropped: Counter,
    /// Campaigns begun, pre-votes not counted.
    pub campaigns: Counter,
    /// Elections won.
    pub elections_won: Counter,
    /// Those among them for which the leader before had called: transfers of leadership.
    pub handovers_taken: Counter,
    /// Groups led by this node.
    pub leaders: Gauge,
    /// Replicas that stopped with an error.
    pub failed_replicas: Counter,
    /// Calls of user code that took too long.
    pub stuck_calls: Counter,
    /// Snapshots written.
    pub snapshots_written: Counter,
    /// Snapshots sent to peers.
    pub snapshots_sent: Counter,
    /// Seconds from a proposal to its answer, of those proposed and answered on this node; without
    /// those that were refused before anything was done for them.
    pub propose_seconds: Histogram,
    /// Seconds from a read to its answer, likewise.
    pub read_seconds: Histogram,
}

impl Default for EngineMetrics {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_1, 2.0, 18));
        Self {
            proposals: Counter::default(),
            committed: Counter::default(),
            applied: Counter::default(),
            reads: Counter::default(),
            busy: Counter::default(),
            messages_dropped: Counter::default(),
            campaigns: Counter::default(),
            elections_won: Counter::default(),
            handovers_taken: Counter::default(),
            leaders: Gauge::default(),
            failed_replicas: Counter::default(),
            stuck_calls: Counter::default(),
            snapshots_written: Counter::default(),
            snapshots_sent: Counter::default(),
            propose_seconds: seconds(),
            read_seconds: seconds(),
        }
    }
}

impl EngineMetrics {
    /// Notes how long a request of a caller here took. What concerns a group as a whole does not
    /// count.
    pub(crate) fn observe(&self, kind: RequestKind, seconds: f64) {
        match kind {
            RequestKind::Propose | RequestKind::ProposeAll => self.propose_seconds.observe(seconds),
            RequestKind::Read(_) | RequestKind::ReadLocal => self.read_seconds.observe(seconds),
            RequestKind::Change | RequestKind::Transfer => {}
        }
    }

    /// Adds all of them to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("proposals", "Commands proposed", &self.proposals),
            ("committed_entries", "Entries learnt to be committed", &self.committed),
            ("applied_entries", "Entries applied", &self.applied),
            ("reads", "Linearizable reads answered", &self.reads),
            ("busy", "Requests refused as busy", &self.busy),
            ("messages_dropped", "Peers' messages dropped as too many", &self.messages_dropped),
            ("campaigns", "Campaigns begun", &self.campaigns),
            ("elections_won", "Elections won", &self.elections_won),
            ("handovers_taken", "Elections won on a leader's call", &self.handovers_taken),
            ("failed_replicas", "Replicas stopped by an error", &self.failed_replicas),
            ("stuck_calls", "Calls of user code that took too long", &self.stuck_calls),
            ("snapshots_written", "Snapshots written", &self.snapshots_written),
            ("snapshots_sent", "Snapshots sent to peers", &self.snapshots_sent),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("leaders", "Groups led by this node", self.leaders.clone());
        let histograms = [
            ("propose_seconds", "Time to commit and apply", &self.propose_seconds),
            ("read_seconds", "Time to answer a read", &self.read_seconds),
        ];
        for (name, help, histogram) in histograms {
            registry.register(name, help, histogram.clone());
        }
    }
}
