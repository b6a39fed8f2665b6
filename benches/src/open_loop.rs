//! Clients that write at a steady rate, whatever the answers take (open loop). So a pause of the
//! cluster counts for every write that was due in it.

use logboat::{Bytes, GroupHandle, RequestError};
use logboat_bench::Failure;
use logboat_bench::cluster::leading;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

/// How long a client waits before it looks again who leads.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// The command of a write by its number, and the group that takes it.
pub(crate) type Command = dyn Fn(u64) -> (usize, Bytes) + Send + Sync;

/// A write that has its outcome.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) group: usize,
    /// When it was due.
    pub(crate) due: Instant,
    /// When it was sent first.
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
    /// The answer, or an error after which nobody knows whether it had an effect.
    pub(crate) answer: Result<Bytes, RequestError>,
}

/// The writes that were due within some time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// The longest time without an answer to anybody.
    pub(crate) longest_pause_ms: f64,
}

/// The clients, which write until they are stopped.
pub(crate) struct OpenLoop {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

struct Shared {
    groups: Vec<Arc<[GroupHandle]>>,
    command: Box<Command>,
    stop: AtomicBool,
    writes: Mutex<Vec<Write>>,
}

impl OpenLoop {
    /// Starts clients that make `writes_per_s` together.
    pub(crate) fn start(
        groups: Vec<Arc<[GroupHandle]>>,
        clients: u32,
        writes_per_s: u32,
        command: Box<Command>,
    ) -> Self {
        let (stop, writes) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { groups, command, stop, writes });
        let interval = Duration::from_secs(1) * clients / writes_per_s;
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            let first = start + interval * client / clients;
            let writing = write_on(Arc::clone(&shared), client, clients, first, interval);
            tasks.spawn(writing);
        }
        Self { shared, clients: tasks }
    }

    /// About how much memory the writes take that were made, for those who measure the rest.
    pub(crate) fn held_bytes(&self) -> usize {
        let writes = self.shared.writes.lock();
        writes.capacity() * size_of::<Write>() + writes.len() * size_of::<u64>()
    }

    /// Stops the clients, and returns all writes.
    ///
    /// # Errors
    /// When a client panicked.
    pub(crate) async fn end(mut self) -> Result<Vec<Write>, Failure> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        Ok(std::mem::take(&mut *self.shared.writes.lock()))
    }
}

async fn write_on(
    shared: Arc<Shared>,
    client: u32,
    clients: u32,
    first: Instant,
    interval: Duration,
) {
    let mut due = first;
    for number in (u64::from(client)..).step_by(clients as usize) {
        sleep_until(due.into()).await;
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let (group, command) = (shared.command)(number);
        let begin = Instant::now();
        let answer = write(&shared.groups[group], command).await;
        let write = Write { group, due, begin, end: Instant::now(), answer };
        shared.writes.lock().push(write);
        due += interval;
    }
}

/// Writes at whichever replica leads. What certainly had no effect is tried again.
async fn write(replicas: &[GroupHandle], command: Bytes) -> Result<Bytes, RequestError> {
    loop {
        let Some(leader) = leading(replicas) else {
            sleep(RETRY_INTERVAL).await;
            continue;
        };
        match leader.propose(command.clone()).await {
            Err(
                RequestError::NotLeader { .. }
                | RequestError::Busy
                | RequestError::Stopped
                | RequestError::Unreachable(_),
            ) => sleep(RETRY_INTERVAL).await,
            outcome => return outcome,
        }
    }
}

impl Figures {
    /// The figures of the writes that were due from `begin` to `end`.
    pub(crate) fn of(writes: &[Write], begin: Instant, end: Instant) -> Self {
        let due: Vec<_> =
            writes.iter().filter(|write| begin <= write.due && write.due < end).collect();
        let mut latencies_us: Vec<_> = due
            .iter()
            .map(|write| u64::try_from((write.end - write.due).as_micros()).unwrap_or(u64::MAX))
            .collect();
        latencies_us.sort_unstable();
        let quantile = |of_hundred: usize| {
            let at = (latencies_us.len() * of_hundred / 100).min(latencies_us.len() - 1);
            latencies_us[at]
        };
        if latencies_us.is_empty() {
            return Self::default();
        }
        let mut ends: Vec<_> = writes.iter().map(|write| write.end).collect();
        ends.retain(|at| (begin..=end).contains(at));
        ends.extend([begin, end]);
        ends.sort_unstable();
        let pauses = ends.windows(2).map(|pair| pair[1] - pair[0]);
        Self {
            p50_us: quantile(50),
            p99_us: quantile(99),
            longest_pause_ms: pauses.max().unwrap_or_default().as_secs_f64() * 1e3,
        }
    }
}
