//! When a leader hands over to the preferred replica, and whether this one leads by a handover.
//!
//! That one may be unable to lead, although its node and the leader's reach each other: it may
//! reach nobody else. The leader learns this only by trying, and each attempt costs the group an
//! election timeout. So attempts that fail come ever more rarely.

use logboat_raft::Time;
use std::time::Duration;

/// How many election timeouts pass before the second attempt.
const FIRST_WAIT: u32 = 8;

/// How often the time between two attempts doubles.
const MOST_DOUBLINGS: u32 = 6;

/// The attempts since another replica led.
#[derive(Default)]
pub(super) struct Handovers {
    failed: u32,
    next: Time,
    /// The leader has called this replica to succeed it, and none has led since.
    is_called: bool,
}

impl Handovers {
    /// Whether to try at `now`. If so, the attempt counts as failed until another replica leads.
    pub(super) fn begin(&mut self, now: Time, election_timeout: Duration) -> bool {
        let is_due = self.next <= now;
        if is_due {
            let doubled = 1 << self.failed.min(MOST_DOUBLINGS);
            self.failed = self.failed.saturating_add(1);
            self.next = now + election_timeout * FIRST_WAIT * doubled;
        }
        is_due
    }

    /// The leader calls this replica to succeed it.
    pub(super) fn called(&mut self) {
        self.is_called = true;
    }

    /// Whether a replica that leads now was called to.
    pub(super) fn take_call(&mut self) -> bool {
        std::mem::take(&mut self.is_called)
    }

    /// Another replica leads.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_ever_more_rarely_until_it_succeeds() {
        let second = Duration::from_secs(1);
        let mut handovers = Handovers::default();
        let mut attempts = Vec::new();
        for seconds in 0..1_000 {
            if handovers.begin(Time(0) + second * seconds, second) {
                attempts.push(seconds);
            }
        }
        assert_eq!(attempts, [0, 8, 24, 56, 120, 248, 504]);
        handovers.succeeded();
        assert!(handovers.begin(Time(0) + second * 1_000, second));
    }
}
