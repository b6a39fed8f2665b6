//! Latencies in buckets, counted without locks.

use super::Counter;
use std::array;

/// Latencies below this have a bucket each.
const EXACT: u64 = 16;

/// Above, each power of two has so many buckets. So a latency is known to an eighth of itself.
const BUCKETS_A_POWER: usize = 8;

/// The latencies of the last bucket begin at half of 2 to the power of this: half an hour.
const POWERS: u32 = 32;

const BUCKETS: usize = EXACT as usize + (POWERS - EXACT.ilog2()) as usize * BUCKETS_A_POWER;

/// How many latencies lie in which bucket.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: array::from_fn(|_| Counter::default()) }
    }
}

impl Histogram {
    /// Adds so many latencies that are the same, in microseconds.
    pub fn record(&self, us: u64, count: u64) {
        self.buckets[bucket_of(us)].add(count);
    }

    /// Adds those of `other`.
    pub fn add(&self, other: &Self) {
        for (mine, theirs) in self.buckets.iter().zip(&other.buckets) {
            mine.add(theirs.value());
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::value).sum()
    }

    /// The latency in microseconds that so many percent don't exceed, to an eighth of itself; zero
    /// if there is none.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a position among latencies that are known in part only"
    )]
    pub fn percentile_us(&self, percent: f64) -> u64 {
        let count = self.count();
        let wanted = ((count as f64 * percent / 100.0).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let found = self.buckets.iter().position(|bucket| {
            seen += bucket.value();
            seen >= wanted
        });
        found.map_or(0, last_of)
    }

    /// How many latencies are below each power of two, up to the first that is above all of them:
    /// pairs of microseconds and a number that grows.
    #[must_use]
    pub fn below_powers(&self) -> Vec<(u64, u64)> {
        let all = self.count();
        let mut powers = Vec::new();
        let (mut seen, mut buckets) = (0, self.buckets.iter().enumerate().peekable());
        for power in 0..=POWERS {
            let bound = 1 << power;
            let before = seen;
            while let Some((_, bucket)) = buckets.next_if(|(at, _)| last_of(*at) < bound) {
                seen += bucket.value();
            }
            if seen > before {
                powers.push((bound, seen));
            }
            if seen == all {
                break;
            }
        }
        powers
    }

    /// Forgets all of them.
    pub(super) fn reset(&self) {
        self.buckets.iter().for_each(Counter::reset);
    }
}

fn bucket_of(us: u64) -> usize {
    if us < EXACT {
        return us as usize;
    }
    let power = us.ilog2();
    let within = (us >> (power - BUCKETS_A_POWER.ilog2())) as usize % BUCKETS_A_POWER;
    let bucket = EXACT as usize + (power - EXACT.ilog2()) as usize * BUCKETS_A_POWER + within;
    bucket.min(BUCKETS - 1)
}

/// The longest latency of a bucket.
const fn last_of(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(EXACT as usize) else { return bucket as u64 };
    let power = EXACT.ilog2() + (above / BUCKETS_A_POWER) as u32;
    let within = (above % BUCKETS_A_POWER) as u64;
    let step = 1_u64 << (power - BUCKETS_A_POWER.ilog2());
    (1 << power) + (within + 1) * step - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_lies_in_its_bucket_and_is_known_to_an_eighth() {
        for us in (0..10_000).chain([1 << 20, (1 << 31) + 5, (1 << 32) - 1]) {
            let bucket = bucket_of(us);
            let last = last_of(bucket);
            assert!(us <= last && last - us <= us / 8, "{us} is in a bucket up to {last}");
            assert!(bucket == 0 || last_of(bucket - 1) < us, "{us}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_and_powers_count_all() {
        let histogram = Histogram::default();
        assert_eq!((histogram.percentile_us(50.0), histogram.below_powers()), (0, vec![]));
        histogram.record(3, 90);
        histogram.record(1_000, 9);
        histogram.record(1 << 40, 1);
        assert_eq!(histogram.percentile_us(50.0), 3);
        assert_eq!(histogram.percentile_us(90.0), 3);
        assert!((1_000..1_125).contains(&histogram.percentile_us(99.0)));
        assert!(histogram.percentile_us(100.0) >= (1 << 32) - 1);
        assert_eq!(histogram.below_powers(), [(4, 90), (1_024, 99), (1 << 32, 100)]);
    }
}
