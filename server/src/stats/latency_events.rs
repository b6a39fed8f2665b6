//! When commands took long: LATENCY.

use crate::settings::Settings;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most samples of an event, as in Redis.
const MAX_SAMPLES: usize = 160;

/// The longest latency of a second in which something took long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencySample {
    /// The second, since 1970.
    pub at_secs: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// The samples of an event.
#[derive(Clone, Debug, Default)]
pub struct LatencySeries {
    /// The longest ever, in milliseconds.
    pub max_ms: u64,
    /// The last samples, the oldest first.
    pub samples: VecDeque<LatencySample>,
}

/// What took long, by events: `command`, and `fast-command` for what should never take long.
#[derive(Debug, Default)]
pub struct LatencyEvents {
    /// Zero for no events.
    threshold_ms: AtomicU64,
    series: Mutex<BTreeMap<&'static str, LatencySeries>>,
}

impl LatencyEvents {
    /// Goes by these settings, and returns from how many microseconds on something is noted.
    pub(super) fn apply(&self, settings: &Settings) -> u64 {
        let threshold_ms = settings.latency_threshold_ms;
        self.threshold_ms.store(threshold_ms, Ordering::Relaxed);
        if threshold_ms == 0 { u64::MAX } else { threshold_ms.saturating_mul(1_000) }
    }

    /// Notes what took so long, if that is long enough.
    pub(super) fn note(&self, event: impl FnOnce() -> &'static str, took_us: u64) {
        let (threshold_ms, took_ms) = (self.threshold_ms.load(Ordering::Relaxed), took_us / 1_000);
        if threshold_ms == 0 || took_ms < threshold_ms {
            return;
        }
        let at_secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut series = self.series.lock();
        let series = series.entry(event()).or_default();
        series.max_ms = series.max_ms.max(took_ms);
        match series.samples.back_mut().filter(|last| last.at_secs == at_secs) {
            Some(last) => last.took_ms = last.took_ms.max(took_ms),
            None => {
                if series.samples.len() == MAX_SAMPLES {
                    series.samples.pop_front();
                }
                series.samples.push_back(LatencySample { at_secs, took_ms });
            }
        }
    }

    /// All events that have samples.
    #[must_use]
    pub fn all(&self) -> BTreeMap<&'static str, LatencySeries> {
        self.series.lock().clone()
    }

    /// Forgets the samples of the events that `wanted` chooses, and returns how many events had
    /// any.
    pub fn forget(&self, wanted: impl Fn(&str) -> bool) -> usize {
        let mut series = self.series.lock();
        let before = series.len();
        series.retain(|event, _| !wanted(event));
        before - series.len()
    }
}
