//! `logboat-bench moving`: what clients notice while all groups move to other nodes.

use crate::open_loop::{Figures, OpenLoop, Write};
use crate::replace::change;
use crate::report::Place;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream;
use logboat::{
    Bytes, Change, GroupHandle, GroupId, GroupSpec, Node, NodeId, SnapshotWriter, StateMachine,
};
use logboat_bench::Failure;
use logboat_bench::cluster::{Cluster, Shape, leading, with_nodes};
use logboat_bench::process::resident_bytes;
use serde::Serialize;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long the clients write before and after the move.
const CALM: Duration = Duration::from_secs(5);

/// Groups with replicas on three of six nodes move to the other three, some at a time, under
/// clients that write to all of them. In the end each group's answers are checked: they count its
/// writes, so that they tell the order in which they took effect.
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
    /// What the process had resident before the move, and after it.
    before_mib: u64,
    after_mib: u64,
    /// The segments of all logs.
    before_segments: i64,
    after_segments: i64,
    writes: usize,
    errors: usize,
    /// Groups whose answers contradict each other.
    inconsistent_groups: usize,
}

/// Runs the bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shape = Shape { nodes: 6, ..Shape::default() };
    let report = with_nodes(shape, options.place.data_dir(), |cluster| {
        runtime.block_on(measure(options, cluster))
    })?;
    options.place.print(&report)
}

async fn measure(options: &Options, cluster: &Cluster) -> Result<Report, Failure> {
    let groups = start(options.groups, cluster)?;
    await_leaders(&groups).await?;
    let (count, payload) = (options.groups as u64, options.payload);
    let command = move |number: u64| ((number % count) as usize, Bytes::from(vec![7; payload]));
    let load =
        OpenLoop::start(groups.clone(), options.clients, options.writes_per_s, Box::new(command));
    sleep(CALM).await;
    let begin = Instant::now();
    sleep(CALM).await;
    let (before_mib, before_segments) = (resident_bytes()? >> 20, cluster.counts().segments);
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
    let writes = load.end().await?;
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
        before_segments,
        after_segments,
        errors: writes.iter().filter(|write| write.answer.is_err()).count(),
        inconsistent_groups: inconsistent(&writes, options.groups),
        writes: writes.len(),
    })
}

/// Founds the groups on the first three nodes, and has the others wait to be added to them.
fn start(groups: usize, cluster: &Cluster) -> Result<Vec<Arc<[GroupHandle]>>, Failure> {
    let founders: Vec<_> = cluster.nodes()[..3].iter().map(Node::id).collect();
    let start = |number: usize| -> Result<Arc<[GroupHandle]>, Failure> {
        let group = GroupId(number as u64 + 1);
        let mut replicas = Vec::new();
        for (at, node) in cluster.nodes().iter().enumerate() {
            let machine = Box::new(Tally::default());
            replicas.push(match at < 3 {
                true => node.create_group(GroupSpec {
                    group,
                    replicas: founders.clone(),
                    preferred: Some(founders[number % 3]),
                    machine,
                })?,
                false => node.join_group(group, machine)?,
            });
        }
        Ok(replicas.into())
    };
    (0..groups).map(start).collect()
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
    let (old, new) = ids.split_at(3);
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
    while nodes[..3].iter().any(|node| node.group(group).is_some()) {
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The groups whose answers contradict each other or the time: each is the number of writes up to
/// it, so none is given twice, and a write that began after another had ended has a later one.
fn inconsistent(writes: &[Write], groups: usize) -> usize {
    let mut by_group: Vec<Vec<(u64, &Write)>> = vec![Vec::new(); groups];
    for write in writes {
        if let Ok(answer) = &write.answer
            && let Some(count) = answer.first_chunk()
        {
            by_group[write.group].push((u64::from_le_bytes(*count), write));
        }
    }
    let contradicts = |answers: &mut Vec<(u64, &Write)>| {
        answers.sort_unstable_by_key(|(count, _)| *count);
        let is_doubled = answers.windows(2).any(|pair| pair[0].0 == pair[1].0);
        let mut latest: Option<Instant> = None;
        let is_late = answers.iter().any(|(_, write)| {
            let began_later = latest.is_some_and(|latest| write.end < latest);
            latest = latest.max(Some(write.begin));
            began_later
        });
        is_doubled || is_late
    };
    by_group.iter_mut().filter_map(|answers| contradicts(answers).then_some(())).count()
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
