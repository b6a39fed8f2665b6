//! Which failures to accept a client are worth a line of the log.

use std::time::{Duration, Instant};

/// While clients can't be accepted, the log says so this often.
const INTERVAL: Duration = Duration::from_secs(10);

/// Counts the failures to accept a client. They come in bursts, since one is tried again at once.
#[derive(Debug, Default)]
pub(super) struct AcceptFailures {
    /// When the log last spoke of one.
    told: Option<Instant>,
    untold: u64,
}

impl AcceptFailures {
    /// Another failure. Returns how many there were before it of which the log has not told, if it
    /// is to tell of this one.
    pub(super) fn failed(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now.duration_since(told) < INTERVAL) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_failures_is_one_line() {
        let (mut failures, begin) = (AcceptFailures::default(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        let lines: Vec<_> =
            (0..250).filter_map(|number| failures.failed(at(50 * number))).collect();
        assert_eq!(lines, [0, 199]);
    }
}
