//! How much happened in a second, lately.

use super::command_counts::Totals;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A rate is that between now and the oldest sample, and there are so many.
const SAMPLES: usize = 4;

/// Samples of what was counted, taken at [`INTERVAL`](Rates::INTERVAL)s.
#[derive(Debug, Default)]
pub struct Rates {
    samples: Mutex<VecDeque<(Instant, Totals)>>,
}

/// How much there was in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Commands.
    pub calls: f64,
    /// Bytes received.
    pub received: f64,
    /// Bytes sent.
    pub sent: f64,
}

impl Rates {
    /// How often a sample is to be taken.
    pub const INTERVAL: Duration = Duration::from_millis(500);

    /// Takes a sample.
    pub fn sample(&self, totals: Totals) {
        let mut samples = self.samples.lock();
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back((Instant::now(), totals));
    }

    /// The rates of the last two seconds, about.
    #[must_use]
    pub fn now(&self) -> Rate {
        let samples = self.samples.lock();
        let (Some((from, before)), Some((until, after))) = (samples.front(), samples.back()) else {
            return Rate::default();
        };
        let elapsed = until.duration_since(*from);
        Rate {
            calls: a_second(before.calls, after.calls, elapsed),
            received: a_second(before.received, after.received, elapsed),
            sent: a_second(before.sent, after.sent, elapsed),
        }
    }

    pub(super) fn reset(&self) {
        self.samples.lock().clear();
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
fn a_second(before: u64, after: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { after.saturating_sub(before) as f64 / seconds } else { 0.0 }
}
