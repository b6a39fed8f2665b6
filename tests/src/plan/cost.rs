//! What things are taken to cost, where the model stands in for a machine.

use std::time::Duration;

/// The shortest way of a message from node to node. With [`JITTER`] it is half of the usual
/// estimate of a round trip within a data centre, 0.5 ms (J. Dean, "Numbers everyone should know",
/// 2009).
pub(super) const DELAY: Duration = Duration::from_micros(200);

/// How much longer the way may be; drawn evenly.
pub(super) const JITTER: Duration = Duration::from_micros(100);

/// A sync of the log, however much it writes: a disk across a network. The local one on which
/// Logboat was measured takes a sixth (6,500 syncs of 4 KiB a second).
pub(super) const SYNC: Duration = Duration::from_millis(1);

/// CPU of a replica's run. A write of 10,000 groups takes some 10 µs, over five runs, log and
/// network included (`logboat-bench throughput`). A run that campaigns or votes writes more often
/// than those.
pub(super) const RUN: Duration = Duration::from_micros(3);

/// From a message for an idle worker to the worker's turn: what waking a thread on an idle core of
/// a virtual machine takes.
pub(super) const WAKE_UP: Duration = Duration::from_micros(40);

/// Workers of a node, each with a core.
pub(super) const WORKERS: usize = 8;

/// After how many runs what they produced leaves: as `BURST` in `engine/src/worker.rs`.
pub(super) const BURST: usize = 1_024;

/// How many replicas of a worker learn in one turn of a change of support: as `CONCERNED_A_TURN` in
/// `engine/src/worker.rs`.
pub(super) const CONCERNED_A_TURN: usize = 128;

/// How often a node looks at the clock in an interval of heartbeats: as `LOOKS_AN_INTERVAL` in
/// `engine/src/runtime.rs`.
pub(super) const LOOKS_AN_INTERVAL: u32 = 10;
