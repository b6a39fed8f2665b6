//! `logboat-bench idle`: what idle groups cost, and how long the first write to one takes.

use crate::report::Place;
use bytes::Bytes;
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use logboat::GroupHandle;
use logboat_bench::Failure;
use logboat_bench::cluster::{Cluster, Shape, leading, with_nodes};
use logboat_bench::process::{cpu_time, resident_bytes};
use logboat_server::latency::{Latencies, per_second};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many groups take their first write at a time.
const CLIENTS: usize = 256;

/// How many idle groups are woken, and how many writes the busy one takes.
const WRITES: usize = 200;

/// The size of a command in bytes. Each replica's state machine keeps one command, which counts as
/// its memory.
const PAYLOAD_BYTES: usize = 16;

/// How long to wait for a group to take a write, and for all groups to be at rest.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster over loopback TCP whose groups have been written to once and are at rest.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many groups.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    groups: u64,
    /// How long to measure.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How many nodes; every group has a replica on each.
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    #[command(flatten)]
    place: Place,
}

/// The figures of a run. Counts are of all nodes together.
#[derive(Serialize)]
struct Report {
    groups: u64,
    replicas: u64,
    /// Until every group had a leader.
    start_s: f64,
    /// From the last of the groups' first writes until nothing but heartbeats was sent.
    rest_s: f64,
    cpu_percent_of_core: f64,
    rss_bytes: u64,
    /// How much the resident memory has grown since before the groups were started.
    rss_bytes_per_replica: u64,
    messages_per_s: f64,
    network_bytes_per_s: f64,
    syncs_per_s: f64,
    /// The median of the first writes to idle groups, one after the other.
    wake_first_write_us: u64,
    /// The median of writes to one group, one after the other.
    busy_write_us: u64,
}

/// Runs the bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    options.place.print(&measure(options)?)
}

fn measure(options: &Options) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shape = Shape { groups: options.groups, nodes: options.nodes, ..Shape::default() };
    with_nodes(shape, options.place.data_dir(), |cluster| {
        let (rss_before, start) = (resident_bytes()?, Instant::now());
        cluster.start_groups(options.groups)?;
        let start_s = start.elapsed().as_secs_f64();
        runtime.block_on(write_to_each(cluster))?;
        let rest_s = runtime.block_on(rest(cluster))?.as_secs_f64();
        let (counts, sent, cpu, start) =
            (cluster.counts(), cluster.sent()?, cpu_time(), Instant::now());
        std::thread::sleep(Duration::from_secs(options.seconds));
        let (cpu, elapsed) = (cpu_time().saturating_sub(cpu), start.elapsed());
        let (counts_after, sent_after, rss_bytes) =
            (cluster.counts(), cluster.sent()?, resident_bytes()?);
        let replicas = options.groups * options.nodes;
        Ok(Report {
            groups: options.groups,
            replicas,
            start_s,
            rest_s,
            cpu_percent_of_core: 100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64(),
            rss_bytes,
            rss_bytes_per_replica: rss_bytes.saturating_sub(rss_before) / replicas,
            messages_per_s: per_second(sent_after.messages - sent.messages, elapsed),
            network_bytes_per_s: per_second(sent_after.bytes - sent.bytes, elapsed),
            syncs_per_s: per_second(counts_after.syncs - counts.syncs, elapsed),
            wake_first_write_us: runtime.block_on(wake(cluster))?.quantile_us(0.5),
            busy_write_us: runtime.block_on(keep_busy(cluster))?.quantile_us(0.5),
        })
    })
}

/// Gives each group an entry, so that it is like a group that was used.
async fn write_to_each(cluster: &Cluster) -> Result<(), Failure> {
    let writes = stream::iter(&cluster.groups).map(write);
    writes.buffer_unordered(CLIENTS).try_for_each(|_| async { Ok(()) }).await
}

/// Waits for a second in which the nodes send nothing but heartbeats and the answers to them.
async fn rest(cluster: &Cluster) -> Result<Duration, Failure> {
    const SECOND: Duration = Duration::from_secs(1);
    let nodes = cluster.groups[0].len() as u64;
    let intervals = SECOND.as_nanos().div_ceil(cluster.heartbeat_interval.as_nanos()) + 1;
    let heartbeats = 2 * nodes * (nodes - 1) * u64::try_from(intervals)?;
    let start = Instant::now();
    loop {
        let before = cluster.sent()?.messages;
        tokio::time::sleep(SECOND).await;
        let sent = cluster.sent()?.messages - before;
        if sent <= heartbeats {
            return Ok(start.elapsed().saturating_sub(SECOND));
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("the groups do not come to rest: {sent} messages a second").into());
        }
    }
}

/// Latencies of the first writes to idle groups, evenly chosen from all.
async fn wake(cluster: &Cluster) -> Result<Latencies, Failure> {
    let mut latencies = Latencies::default();
    for replicas in cluster.groups.iter().step_by(cluster.groups.len().div_ceil(WRITES)) {
        latencies.record(write(replicas).await?);
    }
    Ok(latencies)
}

/// Latencies of the writes of a single client to a single group.
async fn keep_busy(cluster: &Cluster) -> Result<Latencies, Failure> {
    let mut latencies = Latencies::default();
    for _ in 0..WRITES {
        latencies.record(write(&cluster.groups[0]).await?);
    }
    Ok(latencies)
}

/// Writes to a group as soon as it takes a write, and returns how long that write took.
async fn write(replicas: &Arc<[GroupHandle]>) -> Result<Duration, Failure> {
    let command = Bytes::from_static(&[b'x'; PAYLOAD_BYTES]);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let start = Instant::now();
        if let Some(leader) = leading(replicas)
            && leader.propose(command.clone()).await.is_ok()
        {
            return Ok(start.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err(format!("group {} takes no writes", replicas[0].group()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_groups_send_heartbeats_alone() {
        let few = Options { groups: 5, seconds: 1, nodes: 3, place: Place::default() };
        let report = measure(&few).unwrap();
        assert_eq!(report.replicas, 15);
        assert!(report.messages_per_s > 0.0 && report.syncs_per_s > 0.0);
        assert!(report.wake_first_write_us > 0 && report.busy_write_us > 0);
    }
}
