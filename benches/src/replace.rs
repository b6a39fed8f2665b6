//! `logboat-bench replace`: what clients notice while a replica of their group is replaced.

use crate::membership::{self, FOUNDERS, RETRY_INTERVAL, change};
use crate::open_loop::{Figures, OpenLoop};
use crate::report::Place;
use clap::Args;
use logboat::{Bytes, Change, GroupHandle, GroupId, SnapshotWriter, StateMachine};
use logboat_bench::Failure;
use logboat_bench::cluster::{Cluster, leading};
use serde::Serialize;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const GROUP: GroupId = GroupId(1);

/// How many values one command of the filling holds.
const FILLED_AT_ONCE: usize = 64;

/// How many values a part of the table has. A capture shares the parts with the table, which copies
/// those that change.
const PART: usize = 256;

/// A group of three replicas that holds many values, under clients that write at a steady rate. One
/// replica is replaced: another node joins, gets a snapshot, votes instead, and the old one leaves.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many MiB of values the group holds.
    #[arg(long, default_value_t = 64)]
    state_mib: usize,
    /// The size of a value in bytes.
    #[arg(long, default_value_t = 1 << 10)]
    payload: usize,
    /// How many writes are due in a second.
    #[arg(long, default_value_t = 2_000)]
    writes_per_s: u32,
    /// How many clients make them.
    #[arg(long, default_value_t = 64)]
    clients: u32,
    /// How long to measure before the replacement, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Replace the leader rather than a follower.
    #[arg(long)]
    leader: bool,
    #[command(flatten)]
    place: Place,
}

/// The figures of a run.
#[derive(Serialize)]
struct Report {
    before_p50_us: u64,
    before_p99_us: u64,
    before_longest_pause_ms: f64,
    during_p50_us: u64,
    during_p99_us: u64,
    during_longest_pause_ms: f64,
    /// From the first change until the learner had caught up and voted.
    caught_up_ms: f64,
    /// From the first change until the last was committed.
    replaced_ms: f64,
    snapshots_sent: u64,
    writes: usize,
    errors: usize,
}

/// Runs the bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    membership::run(4, &options.place, async |cluster| measure(options, cluster).await)
}

async fn measure(options: &Options, cluster: &Cluster) -> Result<Report, Failure> {
    let (old, new) = cluster.nodes().split_at(FOUNDERS);
    let values = (options.state_mib << 20) / options.payload;
    let replicas = membership::start(cluster, GROUP, 0, || Box::new(Table::new(values)))?;
    fill(&replicas, values, options.payload).await?;

    let value = vec![7; options.payload];
    let command = move |number: u64| (0, put(number % values as u64, &value));
    let load = OpenLoop::start(
        vec![Arc::clone(&replicas)],
        options.clients,
        options.writes_per_s,
        Box::new(command),
    );
    sleep(Duration::from_secs(3)).await;
    let begin = Instant::now();
    sleep(Duration::from_secs(options.seconds)).await;
    let replacing = Instant::now();
    let (added, removed) = (new[0].id(), old[if options.leader { 0 } else { 2 }].id());
    change(&replicas, &[Change::AddLearner(added)]).await?;
    change(&replicas, &[Change::Promote(added), Change::Demote(removed)]).await?;
    let caught_up = replacing.elapsed();
    change(&replicas, &[Change::Remove(removed)]).await?;
    let replaced = Instant::now();
    sleep(Duration::from_secs(2)).await;
    let writes = load.end().await?;
    let before = Figures::of(&writes, begin, replacing);
    let during = Figures::of(&writes, replacing, replaced);
    Ok(Report {
        before_p50_us: before.p50_us,
        before_p99_us: before.p99_us,
        before_longest_pause_ms: before.longest_pause_ms,
        during_p50_us: during.p50_us,
        during_p99_us: during.p99_us,
        during_longest_pause_ms: during.longest_pause_ms,
        caught_up_ms: caught_up.as_secs_f64() * 1e3,
        replaced_ms: (replaced - replacing).as_secs_f64() * 1e3,
        snapshots_sent: old.iter().map(|node| node.metrics().snapshots_sent.get()).sum(),
        writes: writes.len(),
        errors: writes.iter().filter(|write| write.answer.is_err()).count(),
    })
}

/// Writes each value once, and has the replicas drop the log of that.
async fn fill(replicas: &[GroupHandle], values: usize, payload: usize) -> Result<(), Failure> {
    let value = vec![1; payload];
    let keys: Vec<_> = (0..values as u64).collect();
    for keys in keys.chunks(FILLED_AT_ONCE) {
        let commands: Vec<_> = keys.iter().map(|key| put(*key, &value)).collect();
        loop {
            if let Some(leader) = leading(replicas)
                && leader.propose_all(&commands).await.is_ok()
            {
                break;
            }
            sleep(RETRY_INTERVAL).await;
        }
    }
    replicas.iter().for_each(GroupHandle::compact);
    sleep(Duration::from_secs(2)).await;
    Ok(())
}

fn put(key: u64, value: &[u8]) -> Bytes {
    [&key.to_le_bytes(), value].concat().into()
}

/// Values by number, in parts that a capture shares.
struct Table(Vec<Arc<Vec<Bytes>>>);

impl Table {
    fn new(values: usize) -> Self {
        let part = || Arc::new(vec![Bytes::new(); PART]);
        Self((0..values.div_ceil(PART)).map(|_| part()).collect())
    }
}

impl StateMachine for Table {
    fn apply(&mut self, command: Bytes) -> Bytes {
        let Some((key, value)) = command.split_first_chunk() else {
            return Bytes::new();
        };
        let key = u64::from_le_bytes(*key) as usize;
        if let Some(part) = self.0.get_mut(key / PART) {
            // A copy: the command is a slice of a larger buffer.
            Arc::make_mut(part)[key % PART] = Bytes::copy_from_slice(value);
        }
        Bytes::new()
    }

    fn query(&self, _query: Bytes) -> Bytes {
        Bytes::new()
    }

    fn snapshot(&self) -> SnapshotWriter {
        let parts = self.0.clone();
        Box::new(move |writer| {
            for value in parts.iter().flat_map(|part| part.iter()) {
                writer.write_all(&(value.len() as u32).to_le_bytes())?;
                writer.write_all(value)?;
            }
            Ok(())
        })
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        for part in &mut self.0 {
            let mut values = Vec::with_capacity(PART);
            for _ in 0..PART {
                let mut bytes = [0; 4];
                reader.read_exact(&mut bytes)?;
                let mut value = vec![0; u32::from_le_bytes(bytes) as usize];
                reader.read_exact(&mut value)?;
                values.push(value.into());
            }
            *part = Arc::new(values);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_survives_its_snapshot() {
        let mut table = Table::new(1_000);
        table.apply(put(999, b"value"));
        let mut bytes = Vec::new();
        table.snapshot()(&mut bytes).unwrap();
        let mut restored = Table::new(1_000);
        restored.restore(&mut &bytes[..]).unwrap();
        assert_eq!(restored.0, table.0);
        assert_eq!(restored.0[999 / PART][999 % PART], &b"value"[..]);
    }
}
