//! Latencies, for the demo and the benches.

use hdrhistogram::Histogram;
use std::time::Duration;

/// The longest latency that is told from longer ones.
const HOUR_US: u64 = 3_600_000_000;

/// Latencies in microseconds, to three digits.
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let bounds = Histogram::new_with_bounds(1, HOUR_US, 3);
        Self(bounds.expect("an hour to three digits is within a histogram's range"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        self.record_all(latency, 1);
    }

    /// Adds so many that are the same.
    pub fn record_all(&mut self, latency: Duration, count: u64) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record_n(us, count);
    }

    /// Adds those of `other`.
    ///
    /// # Panics
    /// Never: both are of one kind.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("histograms of one kind add up");
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency in microseconds that `quantile` (from 0 to 1) of them don't exceed.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }
}

/// `part / whole`, zero when there is no whole.
#[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
#[must_use]
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How often something happened in a second.
#[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
#[must_use]
pub fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_from_a_microsecond_to_an_hour_are_told_apart() {
        let mut latencies = Latencies::default();
        for latency_us in [1, 2_048, 500_000, HOUR_US] {
            latencies.record(Duration::from_micros(latency_us));
        }
        for (quantile, expected) in [(0.25, 1), (0.5, 2_048), (0.75, 500_000), (1.0, HOUR_US)] {
            let found = latencies.quantile_us(quantile);
            assert!(found.abs_diff(expected) <= expected / 500, "{found} for {expected}");
        }
    }
}
