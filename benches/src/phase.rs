//! The phases that clients run through.

use std::sync::atomic::{AtomicU8, Ordering};

/// What clients are doing. Only answers that arrive while they measure count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The load is there, and nothing counts yet.
    WarmingUp,
    /// Answers count.
    Measuring,
    /// Clients end at their next answer.
    Stopping,
}

/// The phase of clients on many threads.
#[derive(Debug, Default)]
pub struct SharedPhase(AtomicU8);

impl SharedPhase {
    /// The phase now. It begins with [`Phase::WarmingUp`].
    #[must_use]
    pub fn now(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            WARMING_UP => Phase::WarmingUp,
            MEASURING => Phase::Measuring,
            _ => Phase::Stopping,
        }
    }

    /// Moves all clients to a phase.
    pub fn enter(&self, phase: Phase) {
        let number = match phase {
            Phase::WarmingUp => WARMING_UP,
            Phase::Measuring => MEASURING,
            Phase::Stopping => STOPPING,
        };
        self.0.store(number, Ordering::Relaxed);
    }
}

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const STOPPING: u8 = 2;
