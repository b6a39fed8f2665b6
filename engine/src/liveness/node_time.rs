//! The time since 1970, for whoever uses a node.

use crate::liveness::clock::Clock;
use logboat_raft::Time;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The clock of a node, in milliseconds since 1970. Nobody sets it while the node runs, and it goes
/// on while the machine is suspended (`CLOCK_BOOTTIME` on Linux).
///
/// Nodes hand their clock on to each other. A node that starts settles on the clock of the peers
/// that run, whatever its wall clock shows. Only when none of them has a clock, since all of them
/// have just started, the wall clocks count, and among these the lower one in the middle. Until a
/// node has settled, which takes an election timeout at the most once it reaches a majority, what
/// it shows may change, also backwards. The clocks of two nodes differ by what messages take, and
/// by what the nodes' oscillators do.
#[derive(Clone, Debug)]
pub struct NodeTime(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    /// What the time since 1970 was when `clock` began.
    origin_ms: AtomicI64,
}

impl NodeTime {
    pub(crate) fn new(clock: Clock) -> Self {
        Self(Arc::new(Shared { clock, origin_ms: AtomicI64::new(0) }))
    }

    /// How long the node has been running.
    pub(crate) fn now(&self) -> Time {
        self.0.clock.now()
    }

    pub(crate) fn set_origin(&self, origin_ms: i64) {
        self.0.origin_ms.store(origin_ms, Ordering::Relaxed);
    }

    /// The time since 1970, in milliseconds.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        self.running_ms().saturating_add_signed(self.0.origin_ms.load(Ordering::Relaxed))
    }

    /// How long the node has been running, in milliseconds. This never goes back.
    #[must_use]
    pub fn running_ms(&self) -> u64 {
        self.now().0 / 1_000
    }
}
