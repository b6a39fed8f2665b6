//! Closed-loop clients: each has one write under way at a time.

use crate::Failure;
use crate::process::cpu_time;
use bytes::Bytes;
use logboat_server::latency::per_second;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// What clients write to.
pub(super) trait Target: Send + Sync + 'static {
    /// Writes to a group; whether that was acknowledged.
    fn write(&self, group: usize, command: Bytes) -> impl Future<Output = bool> + Send;
}

/// How many clients write what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) groups: u64,
    pub(super) clients_a_group: u64,
    pub(super) payload_bytes: usize,
}

/// Clients run through these phases; only what is answered in the second counts.
const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const STOPPING: u8 = 2;

#[derive(Default)]
struct Counts {
    phase: AtomicU8,
    writes: AtomicU64,
    refused: AtomicU64,
}

/// Writes a second, and the processor time of the whole process for each, in microseconds.
pub(super) fn drive(
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
        counts.phase.store(MEASURING, Ordering::Relaxed);
        tokio::time::sleep(time).await;
        counts.phase.store(STOPPING, Ordering::Relaxed);
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
        match counts.phase.load(Ordering::Relaxed) {
            WARMING => {}
            MEASURING => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            _ => return,
        }
        if !acknowledged {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
