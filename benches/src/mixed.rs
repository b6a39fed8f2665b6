//! `logboat-bench mixed`: whether small writes wait for large writes, with which they share the
//! log, the connections and the workers.

use crate::closed_loop::{ClosedLoop, Outcome, Work};
use crate::report::Place;
use crate::throughput::WARM_UP;
use clap::Args;
use logboat_bench::Failure;
use logboat_bench::cluster::{Cluster, Shape, with_cluster};
use logboat_server::latency::per_second;
use serde::Serialize;
use std::time::{Duration, Instant};

/// A cluster over loopback TCP under clients that write small values. They run alone first, then
/// beside a few clients that write large values to other groups.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many groups take small values.
    #[arg(long, default_value_t = 1_000)]
    groups: u64,
    /// The size of a small value in bytes.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// How many clients write small values.
    #[arg(long, default_value_t = 64)]
    clients: u64,
    /// The size of a large value in bytes.
    #[arg(long, default_value_t = 1 << 20)]
    large_bytes: usize,
    /// How many clients write large values, each to a group of its own.
    #[arg(long, default_value_t = 4)]
    large_clients: u64,
    /// How long to measure each load, after two seconds of it that don't count.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[command(flatten)]
    place: Place,
}

/// The figures of a run.
#[derive(Serialize)]
struct Report {
    small_alone_per_s: f64,
    small_alone_p50_us: u64,
    small_alone_p99_us: u64,
    /// A batch: the time between two syncs of a node's log, on average.
    batch_alone_us: f64,
    small_beside_per_s: f64,
    small_beside_p50_us: u64,
    small_beside_p99_us: u64,
    batch_beside_us: f64,
    /// The p99 of small writes, in batches.
    small_alone_p99_batches: f64,
    small_beside_p99_batches: f64,
    large_per_s: f64,
    large_p50_us: u64,
    large_p99_us: u64,
    errors: u64,
}

/// Runs the bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let groups = options.groups + options.large_clients;
    let shape = Shape { groups, ..Shape::default() };
    let report = with_cluster(shape, options.place.data_dir(), |cluster| {
        runtime.block_on(measure(options, cluster))
    })?;
    options.place.print(&report)
}

async fn measure(options: &Options, cluster: &Cluster) -> Result<Report, Failure> {
    let (small_groups, large_groups) = cluster.groups.split_at(usize::try_from(options.groups)?);
    let Options { clients, payload, large_clients, large_bytes, seconds, .. } = *options;
    let small_work = Work { clients, payload, read_percent: 0, batch: 1 };
    let large_work =
        Work { clients: large_clients, payload: large_bytes, read_percent: 0, batch: 1 };
    let time = Duration::from_secs(seconds);
    let alone = phase(cluster, vec![ClosedLoop::start(small_groups, small_work)], time).await?;
    let loads = vec![
        ClosedLoop::start(small_groups, small_work),
        ClosedLoop::start(large_groups, large_work),
    ];
    let beside = phase(cluster, loads, time).await?;
    let (small_alone, small, large) =
        (&alone.outcomes[0], &beside.outcomes[0], &beside.outcomes[1]);
    let p99_batches = |outcome: &Outcome, batch_us: f64| {
        let p99 = Duration::from_micros(outcome.latencies.quantile_us(0.99));
        p99.as_secs_f64() * 1e6 / batch_us
    };
    Ok(Report {
        small_alone_per_s: per_second(small_alone.writes(), alone.elapsed),
        small_alone_p50_us: small_alone.latencies.quantile_us(0.5),
        small_alone_p99_us: small_alone.latencies.quantile_us(0.99),
        batch_alone_us: alone.batch_us,
        small_beside_per_s: per_second(small.writes(), beside.elapsed),
        small_beside_p50_us: small.latencies.quantile_us(0.5),
        small_beside_p99_us: small.latencies.quantile_us(0.99),
        batch_beside_us: beside.batch_us,
        small_alone_p99_batches: p99_batches(small_alone, alone.batch_us),
        small_beside_p99_batches: p99_batches(small, beside.batch_us),
        large_per_s: per_second(large.writes(), beside.elapsed),
        large_p50_us: large.latencies.quantile_us(0.5),
        large_p99_us: large.latencies.quantile_us(0.99),
        errors: small_alone.errors + small.errors + large.errors,
    })
}

/// The outcomes of loads that ran side by side.
struct Phase {
    elapsed: Duration,
    batch_us: f64,
    outcomes: Vec<Outcome>,
}

async fn phase(
    cluster: &Cluster,
    mut loads: Vec<ClosedLoop>,
    time: Duration,
) -> Result<Phase, Failure> {
    tokio::time::sleep(WARM_UP).await;
    let (syncs, start) = (cluster.counts().syncs, Instant::now());
    loads.iter().for_each(ClosedLoop::measure);
    tokio::time::sleep(time).await;
    loads.iter().for_each(ClosedLoop::stop);
    let elapsed = start.elapsed();
    let syncs = cluster.counts().syncs - syncs;
    let nodes = f64::from(u32::try_from(cluster.groups[0].len())?);
    let mut outcomes = Vec::new();
    for load in &mut loads {
        load.end().await?;
        outcomes.push(load.take());
    }
    let batch_us = nodes * 1e6 / per_second(syncs, elapsed);
    Ok(Phase { elapsed, batch_us, outcomes })
}
