//! Clients of a cluster that grows and shrinks: some fill it, and some write at a steady rate.

use crate::servers::Client;
use logboat_bench::Failure;
use logboat_server::latency::Latencies;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

/// How many clients fill the cluster, and how many write at a steady rate.
const CLIENTS: u64 = 64;

/// How long a client waits before it tries again what was refused.
const RETRY: Duration = Duration::from_millis(5);

/// How long a write may take, all attempts together.
const PATIENCE: Duration = Duration::from_secs(30);

/// The size of a value in bytes.
pub(super) const VALUE_BYTES: u64 = 1_024;

/// The keys are numbers from zero on.
fn key(number: u64) -> String {
    format!("key-{number}")
}

/// Writes all keys once.
pub(super) async fn fill(addresses: &[String], keys: u64) -> Result<(), Failure> {
    let value: Arc<str> = "v".repeat(usize::try_from(VALUE_BYTES)?).into();
    let mut clients = JoinSet::new();
    for (first, address) in (0..CLIENTS).zip(addresses.iter().cycle()) {
        let (mut client, value) = (Client::connect(address).await?, Arc::clone(&value));
        clients.spawn(async move {
            for number in (first..keys).step_by(CLIENTS as usize) {
                while client.set(&key(number), &value).await?.is_err() {
                    sleep(RETRY).await;
                }
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}

/// Clients that overwrite keys, so many a second together, whatever the answers take (open loop):
/// the time of a write counts from the moment at which it was due.
pub(super) struct Load {
    clients: JoinSet<Result<(), Failure>>,
    shared: Arc<Shared>,
}

struct Shared {
    /// Where the nodes are that serve clients.
    addresses: Mutex<Vec<String>>,
    seen: Mutex<Seen>,
    next: AtomicU64,
    stop: AtomicBool,
    value: String,
    keys: u64,
}

/// What the clients have seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) latencies: Latencies,
    /// Answers with an error, and connections that broke, but for those to a node that was killed.
    pub(super) errors: u64,
    /// The longest that a write has taken.
    pub(super) longest: Duration,
}

impl Load {
    pub(super) fn start(addresses: Vec<String>, keys: u64, writes_per_s: u32) -> Self {
        let shared = Arc::new(Shared {
            addresses: Mutex::new(addresses),
            seen: Mutex::default(),
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            value: "w".repeat(VALUE_BYTES as usize),
            keys,
        });
        let start = Instant::now();
        let interval = Duration::from_secs(1) / writes_per_s;
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let shared = Arc::clone(&shared);
            clients.spawn(async move { shared.write(number, start, interval).await });
        }
        Self { clients, shared }
    }

    /// Has clients talk to these nodes from now on.
    pub(super) fn talk_to(&self, addresses: Vec<String>) {
        *self.shared.addresses.lock() = addresses;
    }

    /// What was seen since the last call.
    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut *self.shared.seen.lock())
    }

    pub(super) async fn end(mut self) -> Result<(), Failure> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended??;
        }
        Ok(())
    }
}

impl Shared {
    async fn write(&self, number: u64, start: Instant, interval: Duration) -> Result<(), Failure> {
        let mut connection: Option<(String, Client)> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let due = start + interval * u32::try_from(turn)?;
            sleep_until(due.into()).await;
            // A stride that meets all keys, in no order that groups have.
            let key = key(turn.wrapping_mul(7_919) % self.keys);
            loop {
                match self.attempt(number, &mut connection, &key).await {
                    Ok(Ok(())) => break,
                    Ok(Err(_)) => self.seen.lock().errors += 1,
                    Err(_) => {
                        let to = connection.take().map(|(address, _)| address);
                        let is_there = to.is_some_and(|it| self.addresses.lock().contains(&it));
                        self.seen.lock().errors += u64::from(is_there);
                    }
                }
                if due.elapsed() > PATIENCE {
                    return Err(format!("{key} can't be written").into());
                }
                sleep(RETRY).await;
            }
            let mut seen = self.seen.lock();
            seen.latencies.record(due.elapsed());
            seen.longest = seen.longest.max(due.elapsed());
        }
        Ok(())
    }

    async fn attempt(
        &self,
        number: u64,
        connection: &mut Option<(String, Client)>,
        key: &str,
    ) -> std::io::Result<Result<(), String>> {
        let address = {
            let addresses = self.addresses.lock();
            addresses[number as usize % addresses.len()].clone()
        };
        if connection.as_ref().is_some_and(|(to, _)| *to != address) {
            *connection = None;
        }
        let (_, client) = match connection {
            Some(connection) => connection,
            none => none.insert((address.clone(), Client::connect(&address).await?)),
        };
        client.set(key, &self.value).await
    }
}
