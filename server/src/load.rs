//! A mixed load on a cluster, and what it measured.

use crate::backend::{Backend, BackendError, RangeId};
use crate::kv::{Command, Condition, Lifetime, Query};
use crate::latency::Latencies;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::{JoinError, JoinSet};

/// How many keys the load touches.
const KEYS: u64 = 100_000;

/// The size of a value in bytes.
const VALUE_BYTES: usize = 128;

/// Callers at work, each with one operation at a time.
pub(crate) struct Load {
    callers: JoinSet<Report>,
    stopping: Arc<AtomicBool>,
    operations: Arc<AtomicU64>,
}

impl Load {
    /// Starts `clients` callers, spread over the backends; half of what they do is writes.
    pub(crate) fn start<'a, B: Backend>(
        backends: impl Iterator<Item = &'a B>,
        clients: usize,
    ) -> Self {
        let backends: Vec<_> = backends.cloned().collect();
        let stopping = Arc::new(AtomicBool::new(false));
        let operations = Arc::new(AtomicU64::new(0));
        let callers = (0..clients).map(|number| {
            let caller = Caller {
                backend: backends[number % backends.len()].clone(),
                random: number as u64,
                stopping: Arc::clone(&stopping),
                operations: Arc::clone(&operations),
            };
            caller.run()
        });
        Self { callers: callers.collect(), stopping, operations }
    }

    /// Operations done so far.
    pub(crate) fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Ends the callers and adds up what they measured.
    pub(crate) async fn stop(mut self) -> Result<Report, JoinError> {
        self.stopping.store(true, Ordering::Relaxed);
        let mut total = Report::default();
        while let Some(report) = self.callers.join_next().await {
            total.add(&report?);
        }
        Ok(total)
    }
}

/// What a load did.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) writes: Latencies,
    pub(crate) reads: Latencies,
    pub(crate) errors: u64,
}

impl Report {
    fn add(&mut self, other: &Self) {
        self.writes.add(&other.writes);
        self.reads.add(&other.reads);
        self.errors += other.errors;
    }
}

struct Caller<B> {
    backend: B,
    random: u64,
    stopping: Arc<AtomicBool>,
    operations: Arc<AtomicU64>,
}

impl<B: Backend> Caller<B> {
    async fn run(mut self) -> Report {
        let mut report = Report::default();
        let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
        while !self.stopping.load(Ordering::Relaxed) {
            let random = self.next_random();
            let key = format!("key:{}", (random >> 1) % KEYS);
            let stored = self.backend.partition().stored(key.as_bytes());
            let range = self.backend.range_of(&stored);
            let writes = random & 1 == 0;
            let start = Instant::now();
            let result = match writes {
                true => self.write(range, stored, value.clone()).await,
                false => self.read(range, stored).await,
            };
            let latencies = if writes { &mut report.writes } else { &mut report.reads };
            match result {
                Ok(_) => latencies.record(start.elapsed()),
                Err(_) => report.errors += 1,
            }
            self.operations.fetch_add(1, Ordering::Relaxed);
        }
        report
    }

    async fn write(&self, range: RangeId, key: Bytes, value: Bytes) -> Result<Bytes, BackendError> {
        let command = Command::Set {
            key,
            value,
            condition: Condition::Always,
            want_old: None,
            lifetime: Lifetime::Endless,
        };
        self.backend.propose(range, command.encode()).await
    }

    async fn read(&self, range: RangeId, key: Bytes) -> Result<Bytes, BackendError> {
        self.backend.read(range, Query::Get { key, limit_bytes: u64::MAX }.encode()).await
    }

    /// The next number of a `splitmix64` sequence.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
