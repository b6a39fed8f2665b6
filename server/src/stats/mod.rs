//! What a node counts of its clients' commands, for INFO and for the admin pages.
//!
//! Counting costs no lock: see [`CommandCounts`]. What is rare has one, such as errors and commands
//! that took long.

mod command_counts;
mod errors;
mod histogram;
mod latency_events;
mod rates;
mod slow_log;

pub use self::command_counts::{CommandCounts, CommandTotal, Finished, Totals};
pub use self::errors::ErrorCounts;
pub use self::histogram::Histogram;
pub use self::latency_events::{LatencyEvents, LatencySample, LatencySeries};
pub use self::rates::Rates;
pub use self::slow_log::{Redaction, SlowEntry, SlowLog};
use crate::commands::table::Spec;
use crate::session::Client;
use crate::settings::Settings;
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What happened since the start, or since CONFIG RESETSTAT.
#[derive(Debug)]
pub struct Stats {
    /// Connections accepted.
    pub connections: Counter,
    /// Connections refused because there were too many.
    pub rejected: Counter,
    /// Connections refused in the TLS handshake, or because their address has too many that have
    /// not logged in.
    pub strangers: Counter,
    /// Logins that failed.
    pub failed_logins: Counter,
    /// Commands, by what they are, and bytes.
    pub commands: CommandCounts,
    /// Error replies, by their codes.
    pub errors: ErrorCounts,
    /// How much there was of some of this in a second.
    pub rates: Rates,
    /// Commands that took long (SLOWLOG). CONFIG RESETSTAT does not empty it.
    pub slow_log: SlowLog,
    /// When commands took long (LATENCY).
    pub latency: LatencyEvents,
    /// A command that takes so many microseconds goes into one of the two.
    attention_us: AtomicU64,
}

impl Stats {
    /// Nothing has happened.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let stats = Self {
            connections: Counter::default(),
            rejected: Counter::default(),
            strangers: Counter::default(),
            failed_logins: Counter::default(),
            commands: CommandCounts::default(),
            errors: ErrorCounts::default(),
            rates: Rates::default(),
            slow_log: SlowLog::default(),
            latency: LatencyEvents::default(),
            attention_us: AtomicU64::new(u64::MAX),
        };
        stats.apply(settings);
        stats
    }

    /// Goes by these settings from now on.
    pub fn apply(&self, settings: &Settings) {
        let slow_us = self.slow_log.apply(settings);
        let long_us = self.latency.apply(settings);
        self.attention_us.store(slow_us.min(long_us), Ordering::Relaxed);
    }

    /// Whether a command that took so long is to be noted by [`note_long`](Self::note_long).
    #[must_use]
    pub fn is_long(&self, took: Duration) -> bool {
        microseconds(took) >= self.attention_us.load(Ordering::Relaxed)
    }

    /// Notes a command that took long, with its request and its client.
    pub fn note_long(&self, spec: &Spec, request: &[Bytes], client: &Client, took: Duration) {
        let took_us = microseconds(took);
        if !spec.has_flag("skip_slowlog") {
            self.slow_log.note(request, client, took_us);
        }
        let event = || if spec.has_flag("fast") { "fast-command" } else { "command" };
        self.latency.note(event, took_us);
    }

    /// Sets all counters to zero.
    pub fn reset(&self) {
        let Self { connections, rejected, strangers, failed_logins, .. } = self;
        for counter in [connections, rejected, strangers, failed_logins] {
            counter.reset();
        }
        self.commands.reset();
        self.errors.reset();
        self.rates.reset();
    }
}

/// Whole microseconds.
fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A number that only grows, until it is reset.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes it back to zero.
    fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
