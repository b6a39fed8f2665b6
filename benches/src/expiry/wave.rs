//! Many keys that expire in the same second, beside clients that write others.

use super::Options;
use crate::placement::Placement;
use crate::resp::Replies;
use crate::servers::{Client, Servers};
use logboat_bench::Failure;
use logboat_server::latency::{Latencies, ratio};
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long the cluster may take to start, and to free what has expired.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many commands go out together while keys are written.
const PIPELINE: u64 = 500;

/// Connections that write the keys.
const LOADERS: u64 = 6;

/// How often to look whether all is freed.
const LOOK: Duration = Duration::from_millis(50);

/// The figures of the processes.
#[derive(Serialize)]
pub(super) struct Report {
    expiring_keys: u64,
    groups: usize,
    /// How long it took to write the keys, and how long to give them their deadlines.
    write_s: f64,
    expire_s: f64,
    /// Of other writes, while the keys were there.
    quiet_p50_us: u64,
    quiet_p99_us: u64,
    /// Of other writes, from the second in which the keys expired until all were freed.
    freeing_p50_us: u64,
    freeing_p99_us: u64,
    p99_ratio: f64,
    /// From the deadlines until all keys were freed.
    freed_s: f64,
    other_writes: u64,
    errors: u64,
}

/// What is measured now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Nothing,
    Quiet,
    Freeing,
    Over,
}

/// What the clients share.
struct Load {
    phase: Phase,
    quiet: Latencies,
    freeing: Latencies,
    errors: u64,
}

impl Load {
    /// A write was answered. Says whether there are to be more.
    fn note(&mut self, latency: Duration, is_error: bool) -> bool {
        match self.phase {
            Phase::Nothing => {}
            Phase::Quiet => self.quiet.record(latency),
            Phase::Freeing => self.freeing.record(latency),
            Phase::Over => return false,
        }
        self.errors += u64::from(is_error);
        true
    }
}

pub(super) async fn measure(options: &Options) -> Result<Report, Failure> {
    let placement = Placement::of(options.groups)?;
    let groups = ["--groups".to_owned(), options.groups.to_string()];
    let store = ["--store".to_owned(), options.store.clone()];
    let mut servers = Servers::start(&[groups, store].concat())?;
    placement.await_leaders(&mut servers, PATIENCE).await?;
    let addresses: Vec<_> = servers.nodes.iter().map(|node| node.clients.clone()).collect();
    let value = "x".repeat(options.payload);
    let write = |key: String| command(&["SET", &key, &value]);
    let write_s = send_all(&addresses, options.expiring, write).await?;
    let load = Load {
        phase: Phase::Nothing,
        quiet: Latencies::default(),
        freeing: Latencies::default(),
        errors: 0,
    };
    let load = Arc::new(Mutex::new(load));
    let mut clients = start_clients(options, &addresses, &load).await?;
    // Twice as long as the writes took, and the time to measure what it is like before.
    let quiet = Duration::from_secs(options.seconds);
    let until = since_1970() + write_s * 2 + quiet + Duration::from_secs(2);
    let deadline = Duration::from_secs(until.as_secs() + 1);
    let expire = |key: String| command(&["EXPIREAT", &key, &deadline.as_secs().to_string()]);
    let expire_s = send_all(&addresses, options.expiring, expire).await?;
    if since_1970() + quiet > deadline {
        return Err("it takes too long to give the keys their deadlines".into());
    }
    sleep_until(deadline - quiet).await;
    load.lock().phase = Phase::Quiet;
    sleep_until(deadline).await;
    load.lock().phase = Phase::Freeing;
    let freed = await_freed(options, &addresses[0]).await?;
    load.lock().phase = Phase::Over;
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let load = load.lock();
    let (quiet_p99_us, freeing_p99_us) =
        (load.quiet.quantile_us(0.99), load.freeing.quantile_us(0.99));
    Ok(Report {
        expiring_keys: options.expiring,
        groups: options.groups,
        write_s: write_s.as_secs_f64(),
        expire_s: expire_s.as_secs_f64(),
        quiet_p50_us: load.quiet.quantile_us(0.5),
        quiet_p99_us,
        freeing_p50_us: load.freeing.quantile_us(0.5),
        freeing_p99_us,
        p99_ratio: ratio(freeing_p99_us, quiet_p99_us),
        freed_s: freed.as_secs_f64(),
        other_writes: load.quiet.count() + load.freeing.count(),
        errors: load.errors,
    })
}

/// Clients that write keys of their own, one after the other, until all is over.
async fn start_clients(
    options: &Options,
    addresses: &[String],
    load: &Arc<Mutex<Load>>,
) -> Result<JoinSet<Result<(), Failure>>, Failure> {
    let mut clients = JoinSet::new();
    let interval = Duration::from_millis(options.interval_ms);
    for (number, address) in (0..options.clients).zip(addresses.iter().cycle()) {
        let mut client = Client::connect(address).await?;
        let (load, value) = (Arc::clone(load), "x".repeat(options.payload));
        // Keys of many groups, of which there are as many as clients.
        let key = format!("other:{number}");
        client.set(&key, &value).await??;
        clients.spawn(async move {
            loop {
                let sent = Instant::now();
                let answer = client.set(&key, &value).await?;
                if !load.lock().note(sent.elapsed(), answer.is_err()) {
                    return Ok(());
                }
                tokio::time::sleep(interval).await;
            }
        });
    }
    Ok(clients)
}

/// Sends a command for each of so many keys, and returns how long that took.
async fn send_all(
    addresses: &[String],
    keys: u64,
    command: impl Fn(String) -> String,
) -> Result<Duration, Failure> {
    let start = Instant::now();
    let loader = async |number: u64, address: &str| -> Result<(), Failure> {
        let mut stream = TcpStream::connect(address).await?;
        let mut replies = Replies::default();
        let step = usize::try_from(LOADERS)?;
        let numbers: Vec<u64> = (number..keys).step_by(step).collect();
        for numbers in numbers.chunks(usize::try_from(PIPELINE)?) {
            let commands = numbers.iter().map(|number| command(format!("expiring:{number}")));
            stream.write_all(commands.collect::<String>().as_bytes()).await?;
            let mut missing = numbers.len() as u64;
            while missing > 0 {
                if stream.read_buf(&mut replies.bytes).await? == 0 {
                    return Err("a node has closed the connection".into());
                }
                let (came, errors) = replies.take();
                if errors > 0 {
                    return Err("a node refuses a key".into());
                }
                missing -= came;
            }
        }
        Ok(())
    };
    let loaders = (0..LOADERS).zip(addresses.iter().cycle());
    let loaders = loaders.map(|(number, address)| loader(number, address));
    futures_util::future::try_join_all(loaders).await?;
    Ok(start.elapsed())
}

/// Waits until none but the clients' keys are left, and returns how long that took.
async fn await_freed(options: &Options, address: &str) -> Result<Duration, Failure> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address).await?;
    loop {
        stream.write_all(command(&["DBSIZE"]).as_bytes()).await?;
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n") {
            if stream.read_buf(&mut reply).await? == 0 {
                return Err("a node has closed the connection".into());
            }
        }
        let reply = String::from_utf8(reply)?;
        let left: usize = reply.trim_start_matches(':').trim_end().parse()?;
        if left == options.clients {
            return Ok(start.elapsed());
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("{left} keys are left").into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A command as clients send it.
fn command(words: &[&str]) -> String {
    let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), words.collect::<String>())
}

/// What the wall clock shows.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Waits until the wall clock shows this.
async fn sleep_until(time: Duration) {
    tokio::time::sleep(time.saturating_sub(since_1970())).await;
}
