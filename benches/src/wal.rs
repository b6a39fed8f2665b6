//! `logboat-bench wal`: the write-ahead log alone.

use crate::report::Place;
use bytes::Bytes;
use clap::Args;
use logboat_bench::Failure;
use logboat_bench::process::{cpu_time, resident_bytes};
use logboat_raft::{
    Configuration, Entry, EntryKind, GroupId, Index, LogId, LogWrite, NodeId, Persist,
    SnapshotMeta, Term, WriteSeq,
};
use logboat_server::latency::{Latencies, per_second, ratio};
use logboat_storage::{Batch, Poisoned, Refusals, Wal, WalOptions};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Writers that append to groups of their own, each batch synced before it counts.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many groups, over all writers.
    #[arg(long, default_value_t = 1_000)]
    groups: u64,
    /// The size of an entry in bytes.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// How many threads write.
    #[arg(long, default_value_t = 64)]
    writers: u64,
    /// How many entries a batch has, one a group.
    #[arg(long, default_value_t = 1)]
    batch: u64,
    /// How many batches a writer has under way: with one it blocks until each is durable.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[command(flatten)]
    place: Place,
}

/// The figures of a run.
#[derive(Serialize)]
struct Report {
    groups: u64,
    payload_bytes: usize,
    writers: u64,
    batch: u64,
    entries_per_s: f64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    cpu_us_per_entry: f64,
    rss_bytes: u64,
    syncs_per_s: f64,
    entries_per_sync: f64,
    wal_bytes_per_payload_byte: f64,
}

/// Runs the bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    if options.writers == 0 || options.groups < options.writers {
        return Err("each writer needs a group of its own".into());
    }
    let temporary = tempfile::Builder::new().prefix("logboat-bench-").tempdir()?;
    let dir = options.place.data_dir().unwrap_or(temporary.path()).join("wal");
    let (wal, _) = Wal::open(&dir, WalOptions::default(), |_| {})?;
    let stopping = AtomicBool::new(false);
    let (cpu, start) = (cpu_time(), Instant::now());
    let (latencies, elapsed, cpu) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..options.writers)
            .map(|number| {
                let writer = Writer::new(options, number, wal.clone());
                scope.spawn(|| writer.run(&stopping))
            })
            .collect();
        std::thread::sleep(Duration::from_secs(options.seconds));
        stopping.store(true, Ordering::Relaxed);
        let (elapsed, cpu) = (start.elapsed(), cpu_time().saturating_sub(cpu));
        let mut total = Latencies::default();
        for writer in writers {
            total.add(&writer.join().map_err(|_| "a writer panicked")??);
        }
        Ok::<_, Failure>((total, elapsed, cpu))
    })?;
    let metrics = wal.metrics();
    let entries = latencies.count() * options.batch;
    let report = Report {
        groups: options.groups,
        payload_bytes: options.payload,
        writers: options.writers,
        batch: options.batch,
        entries_per_s: per_second(entries, elapsed),
        p50_us: latencies.quantile_us(0.5),
        p99_us: latencies.quantile_us(0.99),
        p999_us: latencies.quantile_us(0.999),
        cpu_us_per_entry: ratio(u64::try_from(cpu.as_micros())?, entries),
        rss_bytes: resident_bytes()?,
        syncs_per_s: per_second(metrics.syncs.get(), elapsed),
        entries_per_sync: ratio(metrics.entries.get(), metrics.syncs.get()),
        wal_bytes_per_payload_byte: ratio(metrics.written_bytes.get(), metrics.payload_bytes.get()),
    };
    wal.close();
    options.place.print(&report)
}

/// One writer and its groups.
struct Writer<'a> {
    options: &'a Options,
    wal: Wal,
    groups: Vec<(GroupId, Index)>,
    next: usize,
    payload: Bytes,
    /// The members of all groups.
    configuration: Arc<Configuration>,
    seq: u64,
}

/// A group compacts its log after so many entries, and keeps half of them, as after a snapshot.
const KEPT_ENTRIES: u64 = 10_000;

impl<'a> Writer<'a> {
    fn new(options: &'a Options, number: u64, wal: Wal) -> Self {
        let groups =
            (number..options.groups).step_by(usize::try_from(options.writers).unwrap_or(1));
        Self {
            options,
            wal,
            groups: groups.map(|group| (GroupId(group), Index(0))).collect(),
            next: 0,
            payload: Bytes::from(vec![b'x'; options.payload]),
            configuration: Configuration::founding(&[1, 2, 3].map(NodeId), None).into(),
            seq: 0,
        }
    }

    fn run(mut self, stopping: &AtomicBool) -> Result<Latencies, Poisoned> {
        let mut latencies = Latencies::default();
        let (done, completed): (_, Receiver<Result<Duration, Poisoned>>) = channel();
        let mut under_way = 0;
        loop {
            while under_way < self.options.in_flight && !stopping.load(Ordering::Relaxed) {
                let writes = (0..self.options.batch).flat_map(|_| self.append()).collect();
                let (submitted, done) = (Instant::now(), done.clone());
                let completion = Box::new(move |result: Result<&Refusals, Poisoned>| {
                    // A writer that has stopped does not wait for its last batches.
                    let _ = done.send(result.map(|_| submitted.elapsed()));
                });
                self.wal.submit(Batch { grants: Vec::new(), writes, completion });
                under_way += 1;
            }
            if under_way == 0 {
                return Ok(latencies);
            }
            let Ok(result) = completed.recv() else { return Ok(latencies) };
            latencies.record(result?);
            under_way -= 1;
        }
    }

    /// The next entry of the next group.
    fn append(&mut self) -> Vec<(GroupId, Persist)> {
        let at = self.next % self.groups.len();
        self.next += 1;
        let (group, index) = &mut self.groups[at];
        *index = index.next();
        let id = LogId::new(Term(1), *index);
        let entry = Entry::new(*group, id, EntryKind::Command, self.payload.clone());
        let mut changes = vec![LogWrite::Append([entry].into())];
        if index.0.is_multiple_of(KEPT_ENTRIES) {
            let last = Index(index.0.saturating_sub(KEPT_ENTRIES / 2));
            let configuration = Arc::clone(&self.configuration);
            let last = LogId::new(Term(1), last);
            changes.push(LogWrite::Compact(SnapshotMeta { last, configuration }));
        }
        let (group, seq) = (*group, &mut self.seq);
        let persist = |log| {
            *seq += 1;
            (group, Persist { seq: WriteSeq(*seq), hard_state: None, log })
        };
        changes.into_iter().map(persist).collect()
    }
}
