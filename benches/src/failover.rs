//! `logboat-bench failover`: how long groups take no writes when the process that leads them is
//! killed, and what the other groups notice.

use crate::placement::{Placement, leaders};
use crate::report::print;
use crate::servers::{Client, Server, Servers, until_stopped};
use clap::Args;
use logboat_bench::Failure;
use logboat_server::latency::Latencies;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The place of the node that is killed. That node also leads the group that holds the map.
const VICTIM: usize = 0;

/// How many clients write to groups that the killed node did not lead.
const WRITERS: usize = 16;

/// How long each of these clients waits between two writes, so that they add no load to speak of.
const WRITERS_PAUSE: Duration = Duration::from_millis(10);

/// How long these clients write before the node is killed.
const BEFORE: Duration = Duration::from_secs(5);

/// How often the survivors are asked whether they noticed.
const LOOK: Duration = Duration::from_millis(20);

/// How long the cluster may take to start, and all groups to take writes again.
const PATIENCE: Duration = Duration::from_secs(120);

/// Three `logboat serve` processes. One is killed while clients write to groups that the others
/// lead. From then on a client for each group of the killed node waits for a write.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many groups.
    #[arg(long, default_value_t = 1_000)]
    groups: usize,
    /// The election timeout: how long a silent node keeps its support.
    #[arg(long, value_name = "MS", default_value_t = 2_500)]
    election_timeout_ms: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The figures of a run. Times are since the kill.
#[derive(Serialize)]
struct Report {
    groups: usize,
    election_timeout_ms: u64,
    /// Groups that the killed node led.
    groups_lost: usize,
    /// Until a survivor reported that it leads more groups than before, or that a group has no
    /// leader.
    detected_ms: u64,
    /// Until the first of the lost groups took a write, then half of them, then the last.
    first_group_ms: u64,
    p50_group_ms: u64,
    last_group_ms: u64,
    /// Writes to lost groups that were answered with an error, and tried again.
    retries: u64,
    /// Writes to groups led elsewhere that failed until the last group was back.
    writes_failed: u64,
    /// Of the writes to groups led elsewhere, until the kill and from then until the last was back.
    p99_before_us: u64,
    p99_during_us: u64,
    /// How many groups each of the survivors leads when all are back.
    leaders_after: String,
}

/// Runs the bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(until_stopped(measure(options)))?;
    print(&report, options.json)
}

async fn measure(options: &Options) -> Result<Report, Failure> {
    let placement = Placement::of(options.groups)?;
    let (lost, others) = placement.led_by(VICTIM);
    let timeout = ["--election-timeout-ms".to_owned(), options.election_timeout_ms.to_string()];
    let count = ["--groups".to_owned(), options.groups.to_string()];
    let mut servers = Servers::start(&[count, timeout].concat())?;
    placement.await_leaders(&mut servers, PATIENCE).await?;
    let mut victim = servers.nodes.remove(VICTIM);
    let survivors = &mut servers.nodes;

    let (killed, kill) = watch::channel(None);
    let mut probes = Probes::start(survivors, &lost, kill).await?;
    let writers = Writers::start(survivors, &others).await?;
    tokio::time::sleep(BEFORE).await;
    let before = writers.take();
    let leaders_before = leaders(survivors)?;

    let start = Instant::now();
    victim.kill()?;
    killed.send_replace(Some(start));
    let detected = detect(survivors, &leaders_before).await?.duration_since(start);
    let outages = probes.end().await?;
    let during = writers.take();
    writers.end().await?;
    let leaders_after: Vec<_> = leaders(survivors)?.iter().map(ToString::to_string).collect();
    write_to_each(survivors, [&*lost, &*others].concat()).await?;

    Ok(Report {
        groups: options.groups,
        election_timeout_ms: options.election_timeout_ms,
        groups_lost: lost.len(),
        detected_ms: millis(detected),
        first_group_ms: millis(outages[0]),
        p50_group_ms: millis(outages[outages.len() / 2]),
        last_group_ms: millis(outages[outages.len() - 1]),
        retries: probes.retries.load(Ordering::Relaxed),
        writes_failed: during.errors,
        p99_before_us: before.latencies.quantile_us(0.99),
        p99_during_us: during.latencies.quantile_us(0.99),
        leaders_after: leaders_after.join(" / "),
    })
}

/// When a survivor first reports other numbers than `before`.
async fn detect(survivors: &mut [Server], before: &[usize]) -> Result<Instant, Failure> {
    loop {
        for (server, before) in survivors.iter_mut().zip(before) {
            let page = server.status()?.ok_or("a survivor does not answer")?;
            if page.groups_without_leader > 0 || page.leaders > *before {
                return Ok(Instant::now());
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A client for each lost group, which waits for the kill, then for its write.
struct Probes {
    clients: JoinSet<Result<Duration, Failure>>,
    retries: Arc<AtomicU64>,
}

impl Probes {
    /// Connects the clients to the survivors in turn.
    async fn start(
        survivors: &[Server],
        keys: &[String],
        kill: watch::Receiver<Option<Instant>>,
    ) -> Result<Self, Failure> {
        let retries = Arc::<AtomicU64>::default();
        let mut clients = JoinSet::new();
        for (key, server) in keys.iter().zip(survivors.iter().cycle()) {
            let client = Client::connect(&server.clients).await?;
            clients.spawn(probe(client, key.clone(), kill.clone(), Arc::clone(&retries)));
        }
        Ok(Self { clients, retries })
    }

    /// How long each group took, in ascending order.
    async fn end(&mut self) -> Result<Vec<Duration>, Failure> {
        let mut outages = Vec::new();
        let all = async {
            while let Some(outage) = self.clients.join_next().await {
                outages.push(outage??);
            }
            Ok::<_, Failure>(())
        };
        match tokio::time::timeout(PATIENCE, all).await {
            Ok(ended) => ended?,
            Err(_) => return Err("some groups take no writes".into()),
        }
        outages.sort_unstable();
        Ok(outages)
    }
}

async fn probe(
    mut client: Client,
    key: String,
    mut kill: watch::Receiver<Option<Instant>>,
    retries: Arc<AtomicU64>,
) -> Result<Duration, Failure> {
    let killed = kill.wait_for(Option::is_some).await?.ok_or("there is a time of the kill")?;
    while client.set(&key, "probe").await?.is_err() {
        retries.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(killed.elapsed())
}

/// Clients of groups that the killed node did not lead. They write all the time.
struct Writers {
    clients: JoinSet<Result<(), Failure>>,
    outcome: Arc<Mutex<Outcome>>,
    stopping: Arc<AtomicBool>,
}

/// What the writers saw.
#[derive(Default)]
struct Outcome {
    latencies: Latencies,
    errors: u64,
}

impl Writers {
    /// Connects them to the survivors in turn.
    async fn start(survivors: &[Server], keys: &[String]) -> Result<Self, Failure> {
        let outcome = Arc::<Mutex<Outcome>>::default();
        let stopping = Arc::<AtomicBool>::default();
        let mut clients = JoinSet::new();
        for (number, server) in (0..WRITERS).zip(survivors.iter().cycle()) {
            let keys: Vec<_> = keys.iter().skip(number).step_by(WRITERS).cloned().collect();
            let client = Client::connect(&server.clients).await?;
            clients.spawn(write_until_stopped(
                client,
                keys,
                Arc::clone(&outcome),
                Arc::clone(&stopping),
            ));
        }
        Ok(Self { clients, outcome, stopping })
    }

    /// What the writers saw since the last call.
    fn take(&self) -> Outcome {
        std::mem::take(&mut self.outcome.lock())
    }

    async fn end(mut self) -> Result<(), Failure> {
        self.stopping.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn write_until_stopped(
    mut client: Client,
    keys: Vec<String>,
    outcome: Arc<Mutex<Outcome>>,
    stopping: Arc<AtomicBool>,
) -> Result<(), Failure> {
    for key in keys.iter().cycle() {
        if stopping.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        match client.set(key, "write").await? {
            Ok(()) => outcome.lock().latencies.record(start.elapsed()),
            Err(_) => outcome.lock().errors += 1,
        }
        tokio::time::sleep(WRITERS_PAUSE).await;
    }
    Ok(())
}

/// Writes to every group once. Each group must take the write.
async fn write_to_each(survivors: &[Server], keys: Vec<String>) -> Result<(), Failure> {
    let keys = Arc::new(keys);
    let mut clients = JoinSet::new();
    for (number, server) in (0..WRITERS).zip(survivors.iter().cycle()) {
        let (mut client, keys) = (Client::connect(&server.clients).await?, Arc::clone(&keys));
        clients.spawn(async move {
            for key in keys.iter().skip(number).step_by(WRITERS) {
                client.set(key, "last").await??;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
