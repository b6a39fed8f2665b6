//! How often each command was carried out, and how long it took.

use super::histogram::Histogram;
use super::{Counter, microseconds};
use crate::commands::table::{self, NUMBERS, Spec};
use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The most shards. Threads beyond it share them.
const MAX_SHARDS: usize = 64;

/// Counters of commands and of bytes. Each thread adds to a shard of its own, whose memory no other
/// thread writes to. So counting is a few additions without contention. Whoever asks adds up the
/// shards.
pub struct CommandCounts {
    shards: Box<[OnceLock<Box<Shard>>]>,
}

/// What one thread has counted. Far enough from those of others to share no cache line.
#[repr(align(128))]
struct Shard {
    commands: Box<[OfCommand]>,
    received: Counter,
    sent: Counter,
    hits: Counter,
    misses: Counter,
}

#[derive(Default)]
struct OfCommand {
    calls: Counter,
    us: Counter,
    rejected: Counter,
    failed: Counter,
    latencies: OnceLock<Box<Histogram>>,
}

/// Commands of one kind that were finished at the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// What they are.
    pub spec: &'static Spec,
    /// How many were carried out.
    pub calls: u64,
    /// How many of these were answered with an error.
    pub failed: u64,
    /// How many were refused before they began, beside those that were carried out.
    pub rejected: u64,
}

/// What was counted of one command.
#[derive(Debug)]
pub struct CommandTotal {
    /// The command.
    pub spec: &'static Spec,
    /// How often it was carried out.
    pub calls: u64,
    /// How long that took, in microseconds: from when a command's turn came until its reply.
    pub us: u64,
    /// How often it was refused before it began.
    pub rejected: u64,
    /// How often it was answered with an error, once it had begun.
    pub failed: u64,
    /// How long it took each time.
    pub latencies: Histogram,
}

/// What was counted of all commands together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Commands carried out.
    pub calls: u64,
    /// Bytes received from clients.
    pub received: u64,
    /// Bytes sent to clients.
    pub sent: u64,
    /// Keys that were read and found.
    pub hits: u64,
    /// Keys that were to be read and not found.
    pub misses: u64,
}

impl CommandCounts {
    /// Counts commands that are finished, each of which took so long.
    pub fn finished(&self, finished: Finished, took: Duration) {
        let Finished { spec, calls, failed, rejected } = finished;
        let command = &self.shard().commands[usize::from(spec.number)];
        if calls > 0 {
            let us = microseconds(took);
            command.calls.add(calls);
            command.us.add(us.saturating_mul(calls));
            command.latencies.get_or_init(Box::default).record(us, calls);
        }
        if failed > 0 {
            command.failed.add(failed);
        }
        if rejected > 0 {
            command.rejected.add(rejected);
        }
    }

    /// Counts bytes from clients.
    pub fn received(&self, bytes: usize) {
        self.shard().received.add(bytes as u64);
    }

    /// Counts bytes to clients.
    pub fn sent(&self, bytes: usize) {
        self.shard().sent.add(bytes as u64);
    }

    /// Counts keys that were read, as far as they were found.
    pub fn looked_up(&self, hits: u64, misses: u64) {
        let shard = self.shard();
        if hits > 0 {
            shard.hits.add(hits);
        }
        if misses > 0 {
            shard.misses.add(misses);
        }
    }

    /// What was counted of all commands together.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in self.all() {
            totals.calls += shard.commands.iter().map(|command| command.calls.value()).sum::<u64>();
            totals.received += shard.received.value();
            totals.sent += shard.sent.value();
            totals.hits += shard.hits.value();
            totals.misses += shard.misses.value();
        }
        totals
    }

    /// What was counted of each command that came at all, in the order of the table.
    #[must_use]
    pub fn by_command(&self) -> Vec<CommandTotal> {
        let totals = table::all().map(|spec| self.of(spec));
        totals.filter(|total| total.calls + total.rejected + total.failed > 0).collect()
    }

    /// What was counted of a command.
    #[must_use]
    pub fn of(&self, spec: &'static Spec) -> CommandTotal {
        let latencies = Histogram::default();
        let mut total = CommandTotal { spec, calls: 0, us: 0, rejected: 0, failed: 0, latencies };
        for shard in self.all() {
            let command = &shard.commands[usize::from(spec.number)];
            total.calls += command.calls.value();
            total.us = total.us.saturating_add(command.us.value());
            total.rejected += command.rejected.value();
            total.failed += command.failed.value();
            if let Some(latencies) = command.latencies.get() {
                total.latencies.add(latencies);
            }
        }
        total
    }

    /// Sets all to zero. What is counted meanwhile may be lost.
    pub(super) fn reset(&self) {
        for shard in self.all() {
            for command in &shard.commands {
                let OfCommand { calls, us, rejected, failed, latencies } = command;
                [calls, us, rejected, failed].into_iter().for_each(Counter::reset);
                if let Some(latencies) = latencies.get() {
                    latencies.reset();
                }
            }
            let Shard { received, sent, hits, misses, .. } = shard;
            [received, sent, hits, misses].into_iter().for_each(Counter::reset);
        }
    }

    fn all(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter_map(|shard| shard.get()).map(|shard| &**shard)
    }

    /// The shard of this thread.
    fn shard(&self) -> &Shard {
        self.shards[thread_number() % MAX_SHARDS].get_or_init(Box::default)
    }
}

/// The number of this thread among those that have asked.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            commands: (0..NUMBERS).map(|_| OfCommand::default()).collect(),
            received: Counter::default(),
            sent: Counter::default(),
            hits: Counter::default(),
            misses: Counter::default(),
        }
    }
}

impl Default for CommandCounts {
    fn default() -> Self {
        Self { shards: (0..MAX_SHARDS).map(|_| OnceLock::new()).collect() }
    }
}

impl fmt::Debug for CommandCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CommandCounts").field(&self.totals()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn what_threads_count_adds_up_and_is_reset() {
        let counts = CommandCounts::default();
        let spec = table::find(b"get").unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let finished = Finished { spec, calls: 3, failed: 1, rejected: 2 };
                    counts.finished(finished, Duration::from_micros(100));
                    counts.looked_up(2, 1);
                    counts.received(10);
                });
            }
        });
        let total = counts.of(spec);
        assert_eq!((total.calls, total.failed, total.rejected, total.us), (24, 8, 16, 2_400));
        assert_eq!(total.latencies.count(), 24);
        let totals = Totals { calls: 24, received: 80, sent: 0, hits: 16, misses: 8 };
        assert_eq!(counts.totals(), totals);
        assert_eq!(counts.by_command().len(), 1);
        counts.reset();
        assert_eq!(counts.totals(), Totals::default());
        assert!(counts.by_command().is_empty());
    }
}
