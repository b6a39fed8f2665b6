//! `logboat-bench throughput`: a cluster in one process under closed-loop clients.

use crate::closed_loop::{ClosedLoop, Outcome, Work};
use crate::report::Place;
use crate::timeline::Timeline;
use clap::Args;
use logboat_bench::Failure;
use logboat_bench::allocator::allocations;
use logboat_bench::cluster::{Cluster, Shape, with_cluster};
use logboat_bench::process::{cpu_time, resident_bytes};
use logboat_server::latency::{per_second, ratio};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long clients run before anything counts.
pub(crate) const WARM_UP: Duration = Duration::from_secs(2);

/// A cluster over loopback TCP, with its clients in the same process. Each client has one request
/// at a time, at the replica that leads its group.
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
    /// How many commands a client proposes together.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Worker threads a node; one a core if not given.
    #[arg(long)]
    workers: Option<usize>,
    /// Above which size of its log, in bytes, a node makes groups compact; the engine's default if
    /// not given.
    #[arg(long, value_name = "BYTES")]
    max_log_bytes: Option<u64>,
    /// Have the nodes speak TLS with each other.
    #[arg(long)]
    tls: bool,
    /// Draw writes, latency, memory and log, second by second.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// The figures of a run.
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
    /// Allocations of the whole process, clients included; only where nothing is read.
    allocations_per_write_and_replica: Option<f64>,
    rss_bytes: u64,
    syncs_per_s: f64,
    entries_per_sync: f64,
    wal_bytes_per_payload_byte: f64,
    snapshots: u64,
    segments: i64,
    elections: u64,
    errors: u64,
}

/// Runs the bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let Options { groups, nodes, workers, max_log_bytes, tls, .. } = *options;
    let shape = Shape { groups, nodes, workers, max_log_bytes, tls, ..Shape::default() };
    let report = with_cluster(shape, options.place.data_dir(), |cluster| {
        runtime.block_on(measure(options, cluster))
    })?;
    options.place.print(&report)
}

async fn measure(options: &Options, cluster: &Cluster) -> Result<Report, Failure> {
    let Options { clients, payload, read_percent, batch, .. } = *options;
    let mut load =
        ClosedLoop::start(&cluster.groups, Work { clients, payload, read_percent, batch });
    tokio::time::sleep(WARM_UP).await;
    let (before, cpu, start) = (cluster.counts(), cpu_time(), Instant::now());
    let allocated = allocations();
    load.measure();
    let mut total = Outcome::default();
    let mut timeline = Timeline::default();
    for second in 1..=options.seconds {
        tokio::time::sleep_until((start + Duration::from_secs(second)).into()).await;
        if options.plot.is_some() {
            let interval = load.take();
            timeline.add(start, &interval, cluster)?;
            total.add(&interval);
        }
    }
    load.stop();
    let (after, cpu, elapsed) = (cluster.counts(), cpu_time().saturating_sub(cpu), start.elapsed());
    let allocated = allocations() - allocated;
    let rss_bytes = resident_bytes()?;
    load.end().await?;
    total.add(&load.take());
    if let Some(file) = &options.plot {
        std::fs::write(file, timeline.draw())?;
    }
    let operations = total.latencies.count();
    let syncs = after.syncs - before.syncs;
    let cpu_us = u64::try_from(cpu.as_micros())?;
    Ok(Report {
        groups: options.groups,
        payload_bytes: options.payload,
        clients: options.clients,
        writes_per_s: per_second(total.writes(), elapsed),
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
        snapshots: after.snapshots - before.snapshots,
        segments: after.segments,
        elections: after.elections - before.elections,
        errors: total.errors,
    })
}
