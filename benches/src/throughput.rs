//! `logboat-bench throughput`: a cluster in one process under closed-loop clients.

use crate::Failure;
use crate::machine::Counter;
use crate::process::{cpu_time, resident_bytes};
use crate::report::print;
use bytes::Bytes;
use clap::Args;
use logboat::{
    GroupHandle, GroupId, GroupSpec, Node, NodeConfig, NodeId, RequestError, RoleKind, WalStatus,
};
use logboat_server::latency::{Latencies, per_second, ratio};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
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
    let cluster = Cluster::start(options, data_dir)?;
    let report = runtime.block_on(measure(options, &cluster))?;
    cluster.stop();
    print(&report, options.json)
}

/// The nodes, and each group's replicas in the order of the nodes.
struct Cluster {
    nodes: Vec<Node>,
    groups: Vec<Arc<[GroupHandle]>>,
}

impl Cluster {
    fn start(options: &Options, data_dir: &Path) -> Result<Self, Failure> {
        let members = free_addresses(options.nodes)?;
        let nodes = members
            .keys()
            .map(|id| {
                let dir = data_dir.join(format!("node-{id}"));
                let mut config = NodeConfig::new(*id, members.clone(), dir)?;
                config.workers = options.workers.unwrap_or(config.workers);
                Ok(Node::start(config)?)
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let replicas: Vec<_> = members.keys().copied().collect();
        let groups = (1..=options.groups).map(|group| {
            let preferred = Some(replicas[usize::try_from(group)? % replicas.len()]);
            let start = |node: &Node| {
                node.start_group(GroupSpec {
                    group: GroupId(group),
                    replicas: replicas.clone(),
                    preferred,
                    machine: Box::new(Counter::default()),
                })
            };
            Ok(nodes.iter().map(start).collect::<Result<Arc<[_]>, _>>()?)
        });
        let groups = groups.collect::<Result<_, Failure>>()?;
        let cluster = Self { nodes, groups };
        cluster.await_leaders()?;
        Ok(cluster)
    }

    fn await_leaders(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let led = |replicas: &Arc<[GroupHandle]>| leading(replicas).is_some();
        while !self.groups.iter().all(led) {
            if Instant::now() > deadline {
                return Err("some groups have no leader after 60 s".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The logs' counts and elections, over all nodes.
    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for node in &self.nodes {
            let WalStatus { syncs, entries, written_bytes, payload_bytes, .. } = node.status().wal;
            counts.syncs += syncs;
            counts.entries += entries;
            counts.written_bytes += written_bytes;
            counts.payload_bytes += payload_bytes;
            counts.elections += node.metrics().elections_won.get();
        }
        counts
    }

    fn stop(&self) {
        std::thread::scope(|scope| {
            for node in &self.nodes {
                scope.spawn(|| node.stop());
            }
        });
    }
}

#[derive(Clone, Copy, Default)]
struct Counts {
    syncs: u64,
    entries: u64,
    written_bytes: u64,
    payload_bytes: u64,
    elections: u64,
}

fn leading(replicas: &[GroupHandle]) -> Option<&GroupHandle> {
    replicas.iter().find(|replica| replica.view().role() == RoleKind::Leader)
}

/// Addresses on loopback that were free a moment ago.
fn free_addresses(nodes: u64) -> Result<BTreeMap<NodeId, String>, Failure> {
    let listeners: Vec<_> =
        (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
    let members = (1..).map(NodeId).zip(&listeners);
    members.map(|(id, listener)| Ok((id, address(listener)?))).collect()
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
    phase.store(MEASURING, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    phase.store(STOPPING, Ordering::Relaxed);
    let (after, cpu, elapsed) = (cluster.counts(), cpu_time().saturating_sub(cpu), start.elapsed());
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
