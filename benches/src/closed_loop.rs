//! Closed-loop clients: each has one request under way at a time. What they counted.

use bytes::Bytes;
use logboat::{GroupHandle, RequestError};
use logboat_bench::Failure;
use logboat_bench::cluster::leading;
use logboat_bench::phase::{Phase, SharedPhase};
use logboat_server::latency::Latencies;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How many outcomes the clients share. With one for each client, the bench would measure the
/// memory of thousands of histograms. With one for all, it would measure how the clients wait for
/// it.
const SHARES: usize = 16;

/// The load of closed-loop clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// How many clients, spread over all groups.
    pub(crate) clients: u64,
    /// The size of a command in bytes.
    pub(crate) payload: usize,
    /// How many of 100 requests are linearizable reads.
    pub(crate) read_percent: u64,
    /// How many commands are proposed together.
    pub(crate) batch: u64,
}

/// The counts of clients while they were measured.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Latencies of all answers.
    pub(crate) latencies: Latencies,
    /// How many of the answers are to reads.
    pub(crate) reads: u64,
    pub(crate) errors: u64,
}

impl Outcome {
    /// Adds another outcome.
    pub(crate) fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies);
        self.reads += other.reads;
        self.errors += other.errors;
    }

    /// Writes that were answered.
    pub(crate) fn writes(&self) -> u64 {
        self.latencies.count() - self.reads
    }
}

/// Running clients.
pub(crate) struct ClosedLoop {
    phase: Arc<SharedPhase>,
    outcomes: Arc<[Mutex<Outcome>]>,
    clients: JoinSet<()>,
}

impl ClosedLoop {
    /// Starts clients of `groups`. They don't count anything yet.
    pub(crate) fn start(groups: &[Arc<[GroupHandle]>], work: Work) -> Self {
        let phase = Arc::new(SharedPhase::default());
        let outcomes: Arc<[Mutex<Outcome>]> = (0..SHARES).map(|_| Mutex::default()).collect();
        let numbers = 0..usize::try_from(work.clients).expect("clients fit in memory");
        let clients = numbers.zip(groups.iter().cycle()).map(|(number, replicas)| {
            let client = Client {
                replicas: Arc::clone(replicas),
                payload: Bytes::from(vec![b'x'; work.payload]),
                read_percent: work.read_percent,
                batch: work.batch,
                phase: Arc::clone(&phase),
                outcomes: Arc::clone(&outcomes),
                share: number % SHARES,
            };
            client.run()
        });
        let clients = clients.collect();
        Self { phase, outcomes, clients }
    }

    /// From now on, answers count.
    pub(crate) fn measure(&self) {
        self.phase.enter(Phase::Measuring);
    }

    /// From now on, answers don't count, and each client ends at its next answer.
    pub(crate) fn stop(&self) {
        self.phase.enter(Phase::Stopping);
    }

    /// What was counted since the last time.
    pub(crate) fn take(&self) -> Outcome {
        let mut total = Outcome::default();
        for share in &*self.outcomes {
            let share = std::mem::take(&mut *share.lock());
            total.add(&share);
        }
        total
    }

    /// Waits until all clients have ended.
    ///
    /// # Errors
    /// When one panicked.
    pub(crate) async fn end(&mut self) -> Result<(), Failure> {
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        Ok(())
    }
}

struct Client {
    replicas: Arc<[GroupHandle]>,
    payload: Bytes,
    read_percent: u64,
    batch: u64,
    phase: Arc<SharedPhase>,
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
            match self.phase.now() {
                Phase::WarmingUp => {}
                Phase::Measuring => self.count(start, reads, result),
                Phase::Stopping => return,
            }
        }
    }

    fn count(&self, start: Instant, reads: bool, result: Result<u64, RequestError>) {
        let mut outcome = self.outcomes[self.share].lock();
        match result {
            Ok(answers) => {
                outcome.latencies.record_all(start.elapsed(), answers);
                outcome.reads += u64::from(reads) * answers;
            }
            Err(_) => outcome.errors += 1,
        }
    }

    /// Makes a request; returns how many answers came.
    async fn request(&self, reads: bool) -> Result<u64, RequestError> {
        let Some(leader) = leading(&self.replicas) else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            return Err(RequestError::NotLeader { leader: None });
        };
        let result = match (reads, self.batch) {
            (true, _) => leader.read(Bytes::new()).await.map(|_| 1),
            (false, 1) => leader.propose(self.payload.clone()).await.map(|_| 1),
            (false, batch) => {
                let answers = leader
                    .propose_all(&vec![&self.payload; usize::try_from(batch).unwrap_or(1)])
                    .await;
                answers.and_then(|answers| {
                    let count = answers.len() as u64;
                    answers.into_iter().collect::<Result<Vec<_>, _>>().map(|_| count)
                })
            }
        };
        if result.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        result
    }
}
