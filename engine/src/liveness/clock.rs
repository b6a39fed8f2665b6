//! The clock of a node.

use logboat_raft::Time;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// A clock that never goes backwards, and goes on while the machine is suspended. A node that wakes
/// up would otherwise take leases for valid that ended while it slept: its peers' clocks went on.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Duration,
}

impl Clock {
    /// A clock that begins with zero now.
    pub(crate) fn start() -> Self {
        Self { origin: since_boot() }
    }

    /// The time.
    pub(crate) fn now(&self) -> Time {
        Time::default() + since_boot().saturating_sub(self.origin)
    }
}

/// What counts suspension: on Linux the monotonic clock does not, so neither does
/// [`std::time::Instant`].
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

fn since_boot() -> Duration {
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn suspension_counts_as_in_the_uptime_of_the_machine() {
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            let seconds = text.split(' ').next().unwrap().parse().unwrap();
            Duration::from_secs_f64(seconds)
        };
        let (before, clock, after) = (uptime(), since_boot(), uptime());
        // The file counts hundredths.
        let granularity = Duration::from_millis(10);
        assert!(before <= clock + granularity, "{before:?}, {clock:?}");
        assert!(clock <= after + granularity, "{clock:?}, {after:?}");
    }
}
