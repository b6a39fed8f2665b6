//! `logboat-bench restarts`: how long groups take no writes when the nodes are restarted as
//! planned, one after the other.

use crate::placement::{Placement, leaders};
use crate::report::print;
use crate::servers::{Client, NODES, Servers, until_stopped};
use clap::Args;
use logboat_bench::Failure;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long the cluster may take to start, and each node to end and to lead again what it should.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the clients write before the first restart, and between two.
const QUIET: Duration = Duration::from_secs(2);

/// How long a client waits before it tries again what was refused, or to connect.
const RETRY: Duration = Duration::from_millis(5);

/// Three `logboat serve` processes, and a client for each group that writes all the time. The nodes
/// in turn are asked to end (SIGTERM), and started again as soon as they have. A restart is over
/// when the node leads again what it should.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many groups.
    #[arg(long, default_value_t = 1_000)]
    groups: usize,
    /// How many restarts.
    #[arg(long, default_value_t = 20)]
    restarts: usize,
    /// How long each client waits between two writes.
    #[arg(long, value_name = "MS", default_value_t = 100)]
    interval_ms: u64,
    /// Fail when a restart costs a group more than this.
    #[arg(long, value_name = "MS")]
    limit_ms: Option<u64>,
    /// Print one JSON object a restart.
    #[arg(long)]
    json: bool,
}

/// What a restart cost. A group's pause is the longest that a write to it took meanwhile, all
/// attempts and new connections counted.
#[derive(Serialize)]
struct Restart {
    number: usize,
    node: usize,
    /// How many groups the node led.
    groups_led: usize,
    /// From the signal until the process had ended.
    stop_ms: u64,
    /// From the start until the node led again what it should.
    start_ms: u64,
    median_pause_ms: u64,
    p99_pause_ms: u64,
    longest_pause_ms: u64,
    /// When the longest pause began, since the signal.
    longest_pause_at_ms: u64,
    /// Writes that were answered with an error, and tried again.
    retries: u64,
}

/// All restarts.
#[derive(Serialize)]
struct Report {
    groups: usize,
    restarts: usize,
    writes: u64,
    /// The median of the restarts, and the worst of them.
    longest_pause_median_ms: u64,
    longest_pause_worst_ms: u64,
}

/// Runs the bench and prints a report a restart, then one of all.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(until_stopped(measure(options)))?;
    print(&report, options.json)?;
    match options.limit_ms {
        Some(limit) if report.longest_pause_worst_ms > limit => {
            Err(format!("a restart cost a group more than {limit} ms").into())
        }
        _ => Ok(()),
    }
}

async fn measure(options: &Options) -> Result<Report, Failure> {
    let placement = Placement::of(options.groups)?;
    let mut servers = Servers::start(&["--groups".to_owned(), options.groups.to_string()])?;
    placement.await_leaders(&mut servers, PATIENCE).await?;
    let addresses = servers.nodes.iter().map(|server| server.clients.clone()).collect();
    let interval = Duration::from_millis(options.interval_ms);
    let mut writers = Writers::start(addresses, placement.keys(), interval);
    let mut longest = Vec::new();
    for (number, node) in (1..=options.restarts).zip((0..usize::try_from(NODES)?).cycle()) {
        tokio::time::sleep(QUIET).await;
        let seen = Arc::clone(&writers.seen);
        let restart = tokio::select! {
            restart = restart(&mut servers, &placement, &seen, node) => restart?,
            failure = writers.failed() => return Err(failure),
        };
        longest.push(restart.longest_pause_ms);
        print(&Restart { number, ..restart }, options.json)?;
    }
    longest.sort_unstable();
    Ok(Report {
        groups: options.groups,
        restarts: longest.len(),
        writes: writers.end().await?,
        longest_pause_median_ms: longest.get(longest.len() / 2).copied().unwrap_or_default(),
        longest_pause_worst_ms: longest.last().copied().unwrap_or_default(),
    })
}

/// Restarts a node under the writers.
async fn restart(
    servers: &mut Servers,
    placement: &Placement,
    seen: &Seen,
    node: usize,
) -> Result<Restart, Failure> {
    let groups_led = leaders(&mut servers.nodes)?[node];
    seen.forget();
    let start = Instant::now();
    let server = &mut servers.nodes[node];
    server.terminate()?;
    while !server.has_ended()? {
        if start.elapsed() > PATIENCE {
            return Err(format!("node {} does not end", node + 1).into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let stopped = start.elapsed();
    server.start_again()?;
    placement.await_leaders(servers, PATIENCE).await?;
    let pauses = seen.pauses();
    let at = |part: f64| quantile(&pauses, part).map_or(0, |pause| millis(pause.length));
    let longest = pauses.last().map_or(start, |pause| pause.began);
    Ok(Restart {
        number: 0,
        node: node + 1,
        groups_led,
        stop_ms: millis(stopped),
        start_ms: millis(start.elapsed() - stopped),
        median_pause_ms: at(0.5),
        p99_pause_ms: at(0.99),
        longest_pause_ms: at(1.0),
        longest_pause_at_ms: millis(longest.saturating_duration_since(start)),
        retries: seen.retries.load(Ordering::Relaxed),
    })
}

/// A write, all attempts at it counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pause {
    length: Duration,
    began: Instant,
}

/// What the writers saw.
struct Seen {
    /// The longest pause of each group.
    longest: Vec<Mutex<Option<Pause>>>,
    writes: AtomicU64,
    retries: AtomicU64,
}

impl Seen {
    /// Lets the longest pauses begin anew.
    fn forget(&self) {
        for longest in &self.longest {
            *longest.lock() = None;
        }
        self.retries.store(0, Ordering::Relaxed);
    }

    fn write(&self, group: usize, pause: Pause) {
        let mut longest = self.longest[group].lock();
        *longest = (*longest).max(Some(pause));
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// The groups' longest pauses, in ascending order.
    fn pauses(&self) -> Vec<Pause> {
        let mut pauses: Vec<_> =
            self.longest.iter().filter_map(|longest| *longest.lock()).collect();
        pauses.sort_unstable();
        pauses
    }
}

/// A client for each group.
struct Writers {
    clients: JoinSet<Result<(), Failure>>,
    seen: Arc<Seen>,
    stopping: Arc<AtomicBool>,
}

impl Writers {
    /// Connects the clients to the nodes in turn.
    fn start<'a>(
        addresses: Arc<[String]>,
        keys: impl Iterator<Item = &'a str>,
        interval: Duration,
    ) -> Self {
        let keys: Vec<_> = keys.map(str::to_owned).collect();
        let seen = Arc::new(Seen {
            longest: keys.iter().map(|_| Mutex::default()).collect(),
            writes: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        });
        let stopping = Arc::<AtomicBool>::default();
        let mut clients = JoinSet::new();
        for (number, key) in keys.into_iter().enumerate() {
            let (seen, stopping) = (Arc::clone(&seen), Arc::clone(&stopping));
            let (next, step) = (number, 1 + number / addresses.len() % 2);
            let mut writer = Writer { addresses: Arc::clone(&addresses), next, step, client: None };
            clients.spawn(async move {
                while !stopping.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    writer.write(&key, &seen).await?;
                    seen.write(number, Pause { length: began.elapsed(), began });
                    tokio::time::sleep(interval).await;
                }
                Ok(())
            });
        }
        Self { clients, seen, stopping }
    }

    /// Resolves when a group takes no writes any more.
    async fn failed(&mut self) -> Failure {
        match self.clients.join_next().await {
            Some(Ok(Err(failure))) => failure,
            Some(Err(panicked)) => panicked.into(),
            Some(Ok(Ok(()))) | None => "a client has ended".into(),
        }
    }

    /// How many writes there were.
    async fn end(mut self) -> Result<u64, Failure> {
        self.stopping.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended??;
        }
        Ok(self.seen.writes.load(Ordering::Relaxed))
    }
}

/// A client that goes to the next node when its connection breaks.
struct Writer {
    addresses: Arc<[String]>,
    /// The node that was chosen last, which counts on over the end of the addresses.
    next: usize,
    /// How far it is to the next, so that the clients of a node that stops spread over the others.
    step: usize,
    client: Option<Client>,
}

impl Writer {
    /// Sets a key, however many attempts that takes.
    async fn write(&mut self, key: &str, seen: &Seen) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let refusal = match self.attempt(key).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(refusal)) => refusal,
                Err(error) => {
                    self.client = None;
                    self.next += self.step;
                    error.to_string()
                }
            };
            seen.retries.fetch_add(1, Ordering::Relaxed);
            if Instant::now() > deadline {
                return Err(format!("the group of {key} takes no writes: {refusal}").into());
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn attempt(&mut self, key: &str) -> std::io::Result<Result<(), String>> {
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                let address = &self.addresses[self.next % self.addresses.len()];
                none.insert(Client::connect(address).await?)
            }
        };
        client.set(key, "value").await
    }
}

/// The value below which a part of the values lies; they are in ascending order.
fn quantile<T: Copy>(sorted: &[T], part: f64) -> Option<T> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "there are far fewer than 2^52 values, and a part lies between 0 and 1"
    )]
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let at = |part| quantile(&[1, 2, 3, 4], part);
        assert_eq!([at(0.0), at(0.5), at(0.51), at(0.99), at(1.0)], [1, 2, 3, 4, 4].map(Some));
        assert_eq!(quantile::<u8>(&[], 0.5), None);
    }
}
