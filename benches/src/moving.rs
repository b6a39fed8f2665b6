//! `logboat-bench moving`: what clients notice while all groups move to other nodes.

use crate::membership::{self, FOUNDERS, RETRY_INTERVAL, change};
use crate::open_loop::{Figures, OpenLoop, Write};
use crate::report::Place;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream;
use logboat::{Bytes, Change, GroupHandle, GroupId, Node, NodeId, SnapshotWriter, StateMachine};
use logboat_bench::Failure;
use logboat_bench::allocator::live_bytes;
use logboat_bench::cluster::{Cluster, leading};
use logboat_bench::process::resident_bytes;
use serde::Serialize;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long the clients write before and after the move.
const CALM: Duration = Duration::from_secs(5);

/// Groups with replicas on three of six nodes move to the other three, some at a time, under
/// clients that write to all of them. In the end each group's history is checked: the answers count
/// its writes, so that they tell the order in which they took effect, and a read tells how many
/// did.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many groups move.
    #[arg(long, default_value_t = 1_000)]
    groups: usize,
    /// How many of them at a time.
    #[arg(long, default_value_t = 16)]
    at_a_time: usize,
    /// How many writes are due in a second.
    #[arg(long, default_value_t = 2_000)]
    writes_per_s: u32,
    /// How many clients make them.
    #[arg(long, default_value_t = 64)]
    clients: u32,
    /// The size of a command in bytes.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    #[command(flatten)]
    place: Place,
}

/// The figures of a run.
#[derive(Serialize)]
struct Report {
    moved_s: f64,
    before_p50_us: u64,
    before_p99_us: u64,
    before_longest_pause_ms: f64,
    during_p50_us: u64,
    during_p99_us: u64,
    during_longest_pause_ms: f64,
    after_p99_us: u64,
    /// What the process had resident before the move, and after it: parts of the logs, too, which
    /// it has mapped.
    before_mib: u64,
    after_mib: u64,
    /// What it had allocated, but for the records of the clients.
    before_allocated_kib: i64,
    after_allocated_kib: i64,
    /// The segments of all logs, before the move and after it.
    before_segments: i64,
    after_segments: i64,
    writes: usize,
    errors: usize,
    /// Groups whose histories are not linearizable.
    inconsistent_groups: usize,
}

/// Runs the bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    membership::run(6, &options.place, async |cluster| measure(options, cluster).await)
}

async fn measure(options: &Options, cluster: &Cluster) -> Result<Report, Failure> {
    let start = |number: usize| {
        let group = GroupId(number as u64 + 1);
        membership::start(cluster, group, number % FOUNDERS, || Box::<Tally>::default())
    };
    let groups: Vec<_> = (0..options.groups).map(start).collect::<Result<_, _>>()?;
    await_leaders(&groups).await?;
    let (count, payload) = (options.groups as u64, options.payload);
    let command = move |number: u64| ((number % count) as usize, Bytes::from(vec![7; payload]));
    let load =
        OpenLoop::start(groups.clone(), options.clients, options.writes_per_s, Box::new(command));
    sleep(CALM).await;
    let begin = Instant::now();
    sleep(CALM).await;
    let allocated_kib = || (live_bytes() - load.held_bytes() as i64) >> 10;
    let (before_mib, before_segments) = (resident_bytes()? >> 20, cluster.counts().segments);
    let before_allocated_kib = allocated_kib();
    let moving = Instant::now();
    let mut moves = stream::iter(&groups)
        .map(|replicas| move_group(replicas, cluster.nodes()))
        .buffer_unordered(options.at_a_time);
    while let Some(moved) = moves.next().await {
        moved?;
    }
    let moved = Instant::now();
    sleep(CALM).await;
    let end = Instant::now();
    let (after_mib, after_segments) = (resident_bytes()? >> 20, cluster.counts().segments);
    let after_allocated_kib = allocated_kib();
    let writes = load.end().await?;
    let counts = read_all(&groups).await?;
    let before = Figures::of(&writes, begin, moving);
    let during = Figures::of(&writes, moving, moved);
    Ok(Report {
        moved_s: (moved - moving).as_secs_f64(),
        before_p50_us: before.p50_us,
        before_p99_us: before.p99_us,
        before_longest_pause_ms: before.longest_pause_ms,
        during_p50_us: during.p50_us,
        during_p99_us: during.p99_us,
        during_longest_pause_ms: during.longest_pause_ms,
        after_p99_us: Figures::of(&writes, moved, end).p99_us,
        before_mib,
        after_mib,
        before_allocated_kib,
        after_allocated_kib,
        before_segments,
        after_segments,
        errors: writes.iter().filter(|write| write.answer.is_err()).count(),
        inconsistent_groups: inconsistent(&writes, &counts),
        writes: writes.len(),
    })
}

async fn await_leaders(groups: &[Arc<[GroupHandle]>]) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !groups.iter().all(|replicas| leading(replicas).is_some()) {
        if Instant::now() > deadline {
            return Err("some groups have no leader after 60 s".into());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn move_group(replicas: &[GroupHandle], nodes: &[Node]) -> Result<(), Failure> {
    let ids: Vec<_> = nodes.iter().map(Node::id).collect();
    let (old, new) = ids.split_at(FOUNDERS);
    let each = |nodes: &[NodeId], change: fn(NodeId) -> Change| -> Vec<Change> {
        nodes.iter().copied().map(change).collect()
    };
    change(replicas, &each(new, Change::AddLearner)).await?;
    let mut swap = each(new, Change::Promote);
    swap.extend(each(old, Change::Demote));
    let group = replicas[0].group();
    swap.push(Change::Prefer(new[group.0 as usize % new.len()]));
    change(replicas, &swap).await?;
    change(replicas, &each(old, Change::Remove)).await?;
    // The old replicas remove themselves.
    while nodes[..FOUNDERS].iter().any(|node| node.group(group).is_some()) {
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Reads how many writes each group has applied.
async fn read_all(groups: &[Arc<[GroupHandle]>]) -> Result<Vec<u64>, Failure> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut counts = Vec::new();
    for replicas in groups {
        let count = loop {
            if let Some(leader) = leading(replicas)
                && let Ok(answer) = leader.read(Bytes::new()).await
            {
                break answer;
            }
            if Instant::now() > deadline {
                return Err("a group can't be read after 60 s".into());
            }
            sleep(RETRY_INTERVAL).await;
        };
        counts.push(count.first_chunk().map_or(0, |count| u64::from_le_bytes(*count)));
    }
    Ok(counts)
}

/// How many groups' histories are not linearizable. `counts` is what each group had applied in the
/// end.
fn inconsistent(writes: &[Write], counts: &[u64]) -> usize {
    let mut by_group: Vec<Vec<&Write>> = vec![Vec::new(); counts.len()];
    writes.iter().for_each(|write| by_group[write.group].push(write));
    let histories = by_group.iter().zip(counts);
    histories.filter(|(writes, count)| !is_linearizable(writes, **count)).count()
}

/// Whether the writes of a counter can have taken effect one after the other, each between its
/// begin and its end. Each answer is the number of writes up to it. So none is given twice, a write
/// that began after another had ended has a later one, and those without an answer fill the gaps:
/// at most so many are missing, and the last count is no more than all.
fn is_linearizable(writes: &[&Write], count: u64) -> bool {
    let answer = |write: &&Write| write.answer.as_ref().ok()?.first_chunk().copied();
    let answered = writes.iter().filter_map(|write| Some((answer(write)?, *write)));
    let mut answered: Vec<_> =
        answered.map(|(answer, write)| (u64::from_le_bytes(answer), write)).collect();
    answered.sort_unstable_by_key(|(number, _)| *number);
    let is_doubled = answered.windows(2).any(|pair| pair[0].0 == pair[1].0);
    let mut latest: Option<Instant> = None;
    let is_late = answered.iter().any(|(_, write)| {
        let began_later = latest.is_some_and(|latest| write.end < latest);
        latest = latest.max(Some(write.begin));
        began_later
    });
    let last = answered.last().map_or(0, |(number, _)| *number);
    !is_doubled && !is_late && (last..=writes.len() as u64).contains(&count)
}

/// Counts commands, and answers with the count.
#[derive(Default)]
struct Tally(u64);

impl StateMachine for Tally {
    fn apply(&mut self, _command: Bytes) -> Bytes {
        self.0 += 1;
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }

    fn query(&self, _query: Bytes) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }

    fn snapshot(&self) -> SnapshotWriter {
        let count = self.0;
        Box::new(move |writer| writer.write_all(&count.to_le_bytes()))
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut count = [0; 8];
        reader.read_exact(&mut count)?;
        self.0 = u64::from_le_bytes(count);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat::RequestError;

    /// A write from one millisecond to another, and its answer.
    fn write(begin: u64, end: u64, answer: Option<u64>) -> Write {
        let start = *START.get_or_init(Instant::now);
        let at = |ms| start + Duration::from_millis(ms);
        let answer = answer.map(|count| Bytes::copy_from_slice(&count.to_le_bytes()));
        let answer = answer.ok_or(RequestError::TimedOut);
        Write { group: 0, due: at(begin), begin: at(begin), end: at(end), answer }
    }

    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

    #[test]
    fn what_no_counter_can_have_answered_is_found() {
        for (writes, count, expected) in [
            (vec![(0, 2, Some(2)), (1, 3, Some(1))], 2, true),
            // The same count twice, one that goes back, and one that was lost or made twice.
            (vec![(0, 2, Some(1)), (1, 3, Some(1))], 2, false),
            (vec![(0, 2, Some(2)), (3, 4, Some(1))], 2, false),
            (vec![(0, 2, Some(1)), (3, 4, Some(2))], 1, false),
            (vec![(0, 2, Some(1)), (3, 4, Some(2))], 3, false),
            // One without an answer may have taken effect or not.
            (vec![(0, 2, Some(1)), (1, 9, None), (3, 4, Some(3))], 3, true),
            (vec![(0, 2, Some(1)), (1, 9, None)], 2, true),
            (vec![(0, 2, Some(1)), (1, 9, None)], 1, true),
            (vec![(0, 2, Some(1)), (1, 9, None)], 3, false),
        ] {
            let writes: Vec<_> = writes.into_iter().map(|(a, b, c)| write(a, b, c)).collect();
            let history: Vec<_> = writes.iter().collect();
            assert_eq!(is_linearizable(&history, count), expected, "{writes:?}, {count}");
        }
    }
}
