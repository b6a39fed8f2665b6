//! Closed-loop clients: each has one write under way at a time.

use bytes::Bytes;
use logboat_bench::Failure;
use logboat_bench::phase::{Phase, SharedPhase};
use logboat_bench::process::cpu_time;
use logboat_server::latency::per_second;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// What clients write to.
pub(crate) trait Target: Send + Sync + 'static {
    /// Writes to a group, and returns whether the write was acknowledged.
    fn write(&self, group: usize, command: Bytes) -> impl Future<Output = bool> + Send;
}

/// How many clients write what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) groups: u64,
    pub(crate) clients_a_group: u64,
    pub(crate) payload_bytes: usize,
}

#[derive(Default)]
struct Counts {
    phase: SharedPhase,
    writes: AtomicU64,
    refused: AtomicU64,
}

/// Writes a second, and the processor time of the whole process for each, in microseconds.
pub(crate) fn drive(
    runtime: &Runtime,
    target: &Arc<impl Target>,
    load: Load,
    time: Duration,
) -> Result<Vec<f64>, Failure> {
    runtime.block_on(async {
        let counts = Arc::new(Counts::default());
        let command = Bytes::from(vec![b'x'; load.payload_bytes]);
        let groups = usize::try_from(load.groups)?;
        let mut clients = JoinSet::new();
        for group in (0..load.clients_a_group).flat_map(|_| 0..groups) {
            let client = write(Arc::clone(target), group, command.clone(), Arc::clone(&counts));
            clients.spawn(client);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (cpu, start) = (cpu_time(), Instant::now());
        counts.phase.enter(Phase::Measuring);
        tokio::time::sleep(time).await;
        counts.phase.enter(Phase::Stopping);
        let (cpu, elapsed) = (cpu_time().saturating_sub(cpu), start.elapsed());
        while let Some(ended) = clients.join_next().await {
            ended?;
        }
        let writes = counts.writes.load(Ordering::Relaxed);
        let refused = counts.refused.load(Ordering::Relaxed);
        if writes == 0 || refused > writes / 1_000 {
            return Err(format!("{refused} writes were refused, {writes} done").into());
        }
        let writes_per_s = per_second(writes, elapsed);
        Ok(vec![writes_per_s, cpu.as_secs_f64() / elapsed.as_secs_f64() * 1e6 / writes_per_s])
    })
}

async fn write(target: Arc<impl Target>, group: usize, command: Bytes, counts: Arc<Counts>) {
    loop {
        let acknowledged = target.write(group, command.clone()).await;
        let count = if acknowledged { &counts.writes } else { &counts.refused };
        match counts.phase.now() {
            Phase::WarmingUp => {}
            Phase::Measuring => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Phase::Stopping => return,
        }
        if !acknowledged {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
