//! `logboat-bench throughput`: a cluster in one process under closed-loop clients.

use crate::Failure;
use crate::allocator::allocations;
use crate::cluster::{Cluster, Shape, leading};
use crate::process::{cpu_time, resident_bytes};
use crate::report::print;
use bytes::Bytes;
use clap::Args;
use logboat::{GroupHandle, RequestError};
use logboat_server::latency::{Latencies, per_second, ratio};
use parking_lot::Mutex;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A cluster over loopback TCP, its groups' clients in the same process: each client has one
/// request at a time, at the replica that leads its group.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many groups.
    #[arg(long, default_value_t = 1_000)]
    groups: u64,
    /// The size of a command in bytes.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// How many clients, over all groups.
    #[arg(long, default_value_t = 256)]
    clients: u64,
    /// How long to measure, after two seconds of the same load that don't count.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many nodes; every group has a replica on each.
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    /// How many of 100 requests are linearizable reads.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100))]
    read_percent: u64,
    /// Threads that run groups, a node; one a core if not given.
    #[arg(long)]
    workers: Option<usize>,
    /// Where the data lives; a temporary directory if not given.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What came out.
#[derive(Serialize)]
struct Report {
    groups: u64,
    payload_bytes: usize,
    clients: u64,
    writes_per_s: f64,
    reads_per_s: f64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    cpu_cores: f64,
    cpu_us_per_operation: f64,
    /// Of the whole process, clients included; only where nothing is read.
    allocations_per_write_and_replica: Option<f64>,
    rss_bytes: u64,
    syncs_per_s: f64,
    entries_per_sync: f64,
    wal_bytes_per_payload_byte: f64,
    elections: u64,
    errors: u64,
}

/// Runs the bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let temporary = tempfile::Builder::new().prefix("logboat-bench-").tempdir()?;
    let data_dir = options.data_dir.as_deref().unwrap_or(temporary.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let Options { groups, nodes, workers, .. } = *options;
    let cluster = Cluster::start(Shape { groups, nodes, workers }, data_dir)?;
    let report = runtime.block_on(measure(options, &cluster))?;
    cluster.stop();
    print(&report, options.json)
}

/// Clients run through these phases; only what is answered in the second counts.
const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const STOPPING: u8 = 2;

async fn measure(options: &Options, cluster: &Cluster) -> Result<Report, Failure> {
    let phase = Arc::new(AtomicU8::new(WARMING));
    let outcomes: Arc<[Mutex<Outcome>]> = (0..SHARES).map(|_| Mutex::default()).collect();
    let clients = (0..options.clients).map(|number| {
        let group = usize::try_from(number % options.groups).expect("groups fit in memory");
        let client = Client {
            replicas: Arc::clone(&cluster.groups[group]),
            payload: Bytes::from(vec![b'x'; options.payload]),
            read_percent: options.read_percent,
            phase: Arc::clone(&phase),
            outcomes: Arc::clone(&outcomes),
            share: usize::try_from(number).expect("clients fit in memory") % SHARES,
        };
        client.run()
    });
    let mut clients: JoinSet<()> = clients.collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, cpu, start) = (cluster.counts(), cpu_time(), Instant::now());
    let allocated = allocations();
    phase.store(MEASURING, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    phase.store(STOPPING, Ordering::Relaxed);
    let (after, cpu, elapsed) = (cluster.counts(), cpu_time().saturating_sub(cpu), start.elapsed());
    let allocated = allocations() - allocated;
    let rss_bytes = resident_bytes()?;
    let mut total = Outcome::default();
    while let Some(ended) = clients.join_next().await {
        ended?;
    }
    outcomes.iter().for_each(|outcome| total.add(&outcome.lock()));
    let operations = total.latencies.count();
    let syncs = after.syncs - before.syncs;
    let cpu_us = u64::try_from(cpu.as_micros())?;
    Ok(Report {
        groups: options.groups,
        payload_bytes: options.payload,
        clients: options.clients,
        writes_per_s: per_second(operations - total.reads, elapsed),
        reads_per_s: per_second(total.reads, elapsed),
        p50_us: total.latencies.quantile_us(0.5),
        p99_us: total.latencies.quantile_us(0.99),
        p999_us: total.latencies.quantile_us(0.999),
        cpu_cores: cpu.as_secs_f64() / elapsed.as_secs_f64(),
        cpu_us_per_operation: ratio(cpu_us, operations),
        allocations_per_write_and_replica: (options.read_percent == 0)
            .then(|| ratio(allocated, operations * options.nodes)),
        rss_bytes,
        syncs_per_s: per_second(syncs, elapsed),
        entries_per_sync: ratio(after.entries - before.entries, syncs),
        wal_bytes_per_payload_byte: ratio(
            after.written_bytes - before.written_bytes,
            after.payload_bytes - before.payload_bytes,
        ),
        elections: after.elections - before.elections,
        errors: total.errors,
    })
}

/// How many clients' outcomes are counted apart. One for each client would measure the memory of
/// thousands of histograms, one for all how they wait for it.
const SHARES: usize = 16;

/// What clients counted while they were measured.
#[derive(Default)]
struct Outcome {
    latencies: Latencies,
    reads: u64,
    errors: u64,
}

impl Outcome {
    fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies);
        self.reads += other.reads;
        self.errors += other.errors;
    }
}

struct Client {
    replicas: Arc<[GroupHandle]>,
    payload: Bytes,
    read_percent: u64,
    phase: Arc<AtomicU8>,
    outcomes: Arc<[Mutex<Outcome>]>,
    share: usize,
}

impl Client {
    async fn run(self) {
        let mut sequence = 0;
        loop {
            // A full cycle of 37 modulo 100 mixes reads and writes evenly.
            sequence = (sequence + 37) % 100;
            let reads = sequence < self.read_percent;
            let start = Instant::now();
            let result = self.request(reads).await;
            match self.phase.load(Ordering::Relaxed) {
                WARMING => {}
                MEASURING => self.count(start, reads, result.is_ok()),
                _ => return,
            }
        }
    }

    fn count(&self, start: Instant, reads: bool, answered: bool) {
        let mut outcome = self.outcomes[self.share].lock();
        if answered {
            outcome.latencies.record(start.elapsed());
            outcome.reads += u64::from(reads);
        } else {
            outcome.errors += 1;
        }
    }

    async fn request(&self, reads: bool) -> Result<Bytes, RequestError> {
        let Some(leader) = leading(&self.replicas) else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            return Err(RequestError::NotLeader { leader: None });
        };
        let result = match reads {
            true => leader.read(Bytes::new()).await,
            false => leader.propose(self.payload.clone()).await,
        };
        if result.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        result
    }
}
