//! What the contests of the logs ask of a log, and the work that they give it.

use crate::testbed::Testbed;
use bytes::Bytes;
use logboat_bench::Failure;
use logboat_bench::process::{cpu_time, device_bytes};
use logboat_server::latency::{per_second, ratio};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

/// How many groups share a log.
pub(crate) const GROUPS: u64 = 1_000;

/// A log that many groups share.
pub(crate) trait SharedLog: Sized + Sync {
    /// How it takes the most from writers that have batches of 64 groups.
    const BEST: Load;

    type Writer<'a>: Writer
    where
        Self: 'a;

    /// Opens it in a directory that exists. With `prefilled` it is to write into files that have
    /// been written before, as it would after some time of use.
    fn open(dir: &Path, prefilled: bool) -> Result<Self, Failure>;

    fn writer(&self) -> Self::Writer<'_>;

    /// Reads consecutive entries of a group and returns how many there were.
    fn read(&self, group: u64, first: u64, count: u64) -> Result<usize, Failure>;

    fn close(self) -> Result<(), Failure>;
}

/// A thread's way into a log.
pub(crate) trait Writer: Send {
    /// Begins to write a batch. A log on which writers block returns when it is durable.
    fn begin(&mut self, batch: Vec<Append>) -> Result<(), Failure>;

    /// Waits until another batch is durable, in any order.
    fn finish(&mut self) -> Result<(), Failure>;
}

/// Consecutive entries of one group.
pub(crate) struct Append {
    pub(crate) group: u64,
    pub(crate) first: u64,
    pub(crate) data: Vec<Bytes>,
    /// Entries up to this one are not needed any more.
    pub(crate) compact: Option<u64>,
}

/// How threads write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Threads, each with groups of its own.
    pub(crate) writers: usize,
    /// How many groups a batch has entries of, one each.
    pub(crate) batch: usize,
    /// How many batches a thread begins before it waits for one.
    pub(crate) in_flight: usize,
}

/// A group keeps at most so many entries, and then half as many, as one with snapshots would.
const KEPT_ENTRIES: u64 = 512;

/// Groups that grow in turn.
pub(crate) struct Growth {
    groups: Vec<Tail>,
    next: usize,
    data: Data,
    compacts: bool,
}

struct Tail {
    group: u64,
    last: u64,
    compacted: u64,
}

impl Growth {
    /// Groups that are empty, and drop old entries if they are to.
    pub(crate) fn new(payload_bytes: usize, compacts: bool) -> Self {
        let tail = |group| Tail { group, last: 0, compacted: 0 };
        let groups = (1..=GROUPS).map(tail).collect();
        Self { groups, next: 0, data: Data::new(payload_bytes), compacts }
    }

    /// The next `groups` groups with `entries` more entries each.
    pub(crate) fn batch(&mut self, groups: usize, entries: u64) -> Vec<Append> {
        (0..groups).map(|_| self.append(entries)).collect()
    }

    fn append(&mut self, entries: u64) -> Append {
        let at = self.next % self.groups.len();
        self.next += 1;
        let tail = &mut self.groups[at];
        let first = tail.last + 1;
        tail.last += entries;
        let compact = (self.compacts && tail.last - tail.compacted > KEPT_ENTRIES)
            .then(|| tail.last - KEPT_ENTRIES / 2);
        tail.compacted = compact.unwrap_or(tail.compacted);
        let data = (0..entries).map(|_| self.data.next()).collect();
        Append { group: tail.group, first, data, compact }
    }

    /// Deals the groups out.
    fn split(self, parts: usize) -> Vec<Self> {
        let mut dealt: Vec<Vec<Tail>> = (0..parts).map(|_| Vec::new()).collect();
        for (at, tail) in self.groups.into_iter().enumerate() {
            dealt[at % parts].push(tail);
        }
        let (data, compacts) = (self.data, self.compacts);
        let part = |groups| Self { groups, next: 0, data: data.clone(), compacts };
        dealt.into_iter().map(part).collect()
    }
}

/// Commands that don't compress: slices of random bytes, each from another place.
#[derive(Clone)]
pub(crate) struct Data {
    pool: Bytes,
    size: usize,
    at: usize,
}

impl Data {
    pub(crate) fn new(size: usize) -> Self {
        // The generator xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self { pool: words.take(8 << 10).flatten().collect(), size, at: 0 }
    }

    pub(crate) fn next(&mut self) -> Bytes {
        self.at = (self.at + 61) % (self.pool.len() - self.size);
        self.pool.slice(self.at..self.at + self.size)
    }
}

/// What a run took.
pub(crate) struct Usage {
    entries: u64,
    elapsed: Duration,
    cpu: Duration,
    device_bytes: u64,
    payload_bytes: u64,
}

impl Usage {
    pub(crate) fn entries_per_s(&self) -> f64 {
        per_second(self.entries, self.elapsed)
    }

    pub(crate) fn cpu_us_per_entry(&self) -> f64 {
        ratio(u64::try_from(self.cpu.as_nanos()).unwrap_or(u64::MAX), self.entries) / 1e3
    }

    pub(crate) fn device_bytes_per_payload_byte(&self) -> f64 {
        ratio(self.device_bytes, self.payload_bytes)
    }
}

/// After so long, writers and log have found their pace.
const WARM_UP: Duration = Duration::from_millis(500);

/// Has threads write entries, each of which counts when it is durable.
pub(crate) fn drive<L: SharedLog>(
    testbed: &Testbed,
    payload_bytes: usize,
    load: Load,
    prefilled: bool,
) -> Result<Usage, Failure> {
    let dir = testbed.scratch()?;
    let log = L::open(dir.path(), prefilled)?;
    let mut growth = Growth::new(payload_bytes, true);
    turn_over(&log, &mut growth)?;
    let (entries, stopping) = (&AtomicU64::new(0), &AtomicBool::new(false));
    let usage = thread::scope(|scope| {
        let write = |mut growth: Growth| {
            let mut writer = log.writer();
            scope.spawn(move || {
                let written = write(&mut writer, load, &mut growth, entries, stopping);
                written.map_err(|error| error.to_string())
            })
        };
        let writers: Vec<_> = growth.split(load.writers).into_iter().map(write).collect();
        let usage = observe(testbed.time, payload_bytes, entries);
        stopping.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().map_err(|_| "a writer panicked")??;
        }
        Ok::<_, Failure>(usage?)
    })?;
    log.close()?;
    Ok(usage)
}

/// The counts of one moment.
struct Reading {
    at: Instant,
    entries: u64,
    cpu: Duration,
    device_bytes: u64,
}

impl Reading {
    fn now(entries: &AtomicU64) -> io::Result<Self> {
        let entries = entries.load(Ordering::Relaxed);
        Ok(Self { at: Instant::now(), entries, cpu: cpu_time(), device_bytes: device_bytes()? })
    }
}

fn observe(time: Duration, payload_bytes: usize, entries: &AtomicU64) -> io::Result<Usage> {
    thread::sleep(WARM_UP);
    let before = Reading::now(entries)?;
    thread::sleep(time);
    let after = Reading::now(entries)?;
    let entries = after.entries - before.entries;
    Ok(Usage {
        entries,
        elapsed: after.at - before.at,
        cpu: after.cpu.saturating_sub(before.cpu),
        device_bytes: after.device_bytes.saturating_sub(before.device_bytes),
        payload_bytes: entries * payload_bytes as u64,
    })
}

fn write(
    writer: &mut impl Writer,
    load: Load,
    growth: &mut Growth,
    entries: &AtomicU64,
    stopping: &AtomicBool,
) -> Result<(), Failure> {
    let mut under_way = 0;
    loop {
        while under_way < load.in_flight && !stopping.load(Ordering::Relaxed) {
            writer.begin(growth.batch(load.batch, 1))?;
            under_way += 1;
        }
        if under_way == 0 {
            return Ok(());
        }
        writer.finish()?;
        entries.fetch_add(load.batch as u64, Ordering::Relaxed);
        under_way -= 1;
    }
}

/// Writes so much that a log has gone on from its first files to recycled ones. All of it is
/// synced, so nothing of it is left to the run's syncs.
fn turn_over<L: SharedLog>(log: &L, growth: &mut Growth) -> Result<(), Failure> {
    const BYTES: usize = 256 << 20;
    let entries = 32;
    let rounds = BYTES / (GROUPS as usize * entries * growth.data.size);
    let mut writer = log.writer();
    for _ in 0..rounds {
        writer.begin(growth.batch(GROUPS as usize, entries as u64))?;
        writer.finish()?;
    }
    rustix::fs::sync();
    Ok(())
}
