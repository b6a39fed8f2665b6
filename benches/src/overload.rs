//! `logboat-bench overload`: a cluster that is offered many times what it takes.
//!
//! First, closed-loop clients find the best throughput of the cluster. Then an open loop begins a
//! multiple of that each second (or a part of it), whatever comes back. Its threads run without an
//! executor, so a proposal that is refused at once costs them one poll.

use crate::closed_loop::{ClosedLoop, Work};
use crate::report::Place;
use crate::throughput::WARM_UP;
use bytes::Bytes;
use clap::Args;
use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use logboat::{GroupHandle, RequestError};
use logboat_bench::Failure;
use logboat_bench::cluster::{Cluster, Shape, leading, with_cluster};
use logboat_bench::process::{forget_peak, peak_resident_bytes, resident_bytes, thread_cpu_time};
use logboat_server::latency::{Latencies, per_second};
use serde::Serialize;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A cluster over loopback TCP under its best load, and then under many times that.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many groups.
    #[arg(long, default_value_t = 1_000)]
    groups: u64,
    /// The size of a command in bytes.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// How many closed-loop clients, over all groups, find the best throughput.
    #[arg(long, default_value_t = 8_000)]
    clients: u64,
    /// How long to measure each of the two loads, after two seconds of it that don't count.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many times the best throughput is offered; 0.5 for half of it.
    #[arg(long, default_value_t = 10.0, value_parser = times)]
    times: f64,
    /// How many threads offer that.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    generators: u32,
    /// The memory budget of each node, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    memory_budget: usize,
    #[command(flatten)]
    place: Place,
}

fn times(argument: &str) -> Result<f64, String> {
    let times: f64 = argument.parse().map_err(|error| format!("{error}"))?;
    if times > 0.0 && times <= 1e3 { Ok(times) } else { Err("not within 0 and 1,000".to_owned()) }
}

/// The figures of a run.
#[derive(Serialize)]
struct Report {
    groups: u64,
    payload_bytes: usize,
    best_writes_per_s: f64,
    best_p99_us: u64,
    /// The rate that the generator should have begun, and the one that it reached.
    wanted_per_s: f64,
    offered_per_s: f64,
    writes_per_s: f64,
    writes_of_best: f64,
    busy_per_s: f64,
    /// Answers other than the two: leaders that changed, and time that ran out.
    other_errors: u64,
    busy_p99_us: u64,
    busy_max_us: u64,
    write_p50_us: u64,
    write_p99_us: u64,
    write_max_us: u64,
    /// The share of the machine's cores that the generators took.
    generator_cpu_cores: f64,
    rss_before_bytes: u64,
    peak_rss_bytes: u64,
    /// Of all nodes, which are in this process.
    memory_budget_bytes: usize,
    elections: u64,
}

/// Runs the bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let shape = Shape {
        groups: options.groups,
        memory_budget_bytes: Some(options.memory_budget),
        ..Shape::default()
    };
    let data_dir = options.place.data_dir();
    let report = with_cluster(shape, data_dir, |cluster| measure(options, cluster))?;
    options.place.print(&report)
}

fn measure(options: &Options, cluster: &Cluster) -> Result<Report, Failure> {
    let (best_writes_per_s, best_p99_us) = best(options, cluster)?;
    let elections = cluster.counts().elections;
    let rss_before_bytes = resident_bytes()?;
    forget_peak()?;
    let wanted_per_s = best_writes_per_s * options.times;
    let outcome = offer(options, cluster, wanted_per_s)?;
    let Outcome { begun, writes, ref busy, ref accepted, .. } = outcome;
    let writes_per_s = per_second(writes, outcome.measured);
    Ok(Report {
        groups: options.groups,
        payload_bytes: options.payload,
        best_writes_per_s,
        best_p99_us,
        wanted_per_s,
        offered_per_s: per_second(begun, outcome.measured),
        writes_per_s,
        writes_of_best: writes_per_s / best_writes_per_s,
        busy_per_s: per_second(busy.count(), outcome.measured),
        other_errors: outcome.other_errors,
        busy_p99_us: busy.quantile_us(0.99),
        busy_max_us: busy.quantile_us(1.0),
        write_p50_us: accepted.quantile_us(0.5),
        write_p99_us: accepted.quantile_us(0.99),
        write_max_us: accepted.quantile_us(1.0),
        generator_cpu_cores: outcome.cpu.as_secs_f64() / outcome.measured.as_secs_f64(),
        rss_before_bytes,
        peak_rss_bytes: peak_resident_bytes()?,
        memory_budget_bytes: cluster.memory_budget_bytes,
        elections: cluster.counts().elections - elections,
    })
}

/// Writes a second under closed-loop clients, and their latency.
fn best(options: &Options, cluster: &Cluster) -> Result<(f64, u64), Failure> {
    let Options { clients, payload, .. } = *options;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let work = Work { clients, payload, read_percent: 0, batch: 1 };
        let mut load = ClosedLoop::start(&cluster.groups, work);
        tokio::time::sleep(WARM_UP).await;
        load.measure();
        let start = Instant::now();
        tokio::time::sleep(Duration::from_secs(options.seconds)).await;
        load.stop();
        let elapsed = start.elapsed();
        load.end().await?;
        let outcome = load.take();
        let writes_per_s = per_second(outcome.writes(), elapsed);
        Ok((writes_per_s, outcome.latencies.quantile_us(0.99)))
    })
}

/// Has all generators offer their share, and adds up what they counted.
fn offer(options: &Options, cluster: &Cluster, rate_per_s: f64) -> Result<Outcome, Failure> {
    let time = Duration::from_secs(options.seconds);
    let share = rate_per_s / f64::from(options.generators);
    let mut total = Outcome::default();
    std::thread::scope(|scope| {
        let start = || scope.spawn(|| Generator::new(cluster, options.payload, share).run(time));
        let generators: Vec<_> = (0..options.generators).map(|_| start()).collect();
        for generator in generators {
            total.add(&generator.join().map_err(|_| "a generator panicked")?);
        }
        Ok(total)
    })
}

type Proposal<'a> = Pin<Box<dyn Future<Output = Answer> + 'a>>;

/// When a proposal was begun, and what became of it.
type Answer = (Instant, Result<Bytes, RequestError>);

/// How often the generator begins the proposals that are due and takes the answers that came back.
const TICK: Duration = Duration::from_millis(1);

/// How late a proposal may be begun. Later ones are left out.
const BEHIND: Duration = Duration::from_millis(250);

/// Begins proposals at a fixed rate.
struct Generator<'a> {
    groups: &'a [Arc<[GroupHandle]>],
    /// The group that is next.
    next: usize,
    payload: Bytes,
    rate_per_s: f64,
    pending: FuturesUnordered<Proposal<'a>>,
}

/// What a generator counted while it measured.
#[derive(Default)]
struct Outcome {
    measured: Duration,
    cpu: Duration,
    begun: u64,
    /// Acknowledged within the time.
    writes: u64,
    /// Of all that were begun within the time and refused.
    busy: Latencies,
    /// Of all that were begun within the time and acknowledged, then or later.
    accepted: Latencies,
    other_errors: u64,
}

impl<'a> Generator<'a> {
    fn new(cluster: &'a Cluster, payload: usize, rate_per_s: f64) -> Self {
        Self {
            groups: &cluster.groups,
            next: 0,
            payload: Bytes::from(vec![b'x'; payload]),
            rate_per_s,
            pending: FuturesUnordered::new(),
        }
    }

    /// Offers load, counts for `time` of it, and waits for what was let in.
    fn run(mut self, time: Duration) -> Outcome {
        self.offer(WARM_UP, &mut Outcome::default());
        let mut outcome = Outcome::default();
        let (start, cpu) = (Instant::now(), thread_cpu_time());
        self.offer(time, &mut outcome);
        outcome.measured = start.elapsed();
        outcome.cpu = thread_cpu_time().saturating_sub(cpu);
        outcome.writes = outcome.accepted.count();
        while !self.pending.is_empty() {
            self.gather(&mut outcome);
            std::thread::sleep(TICK);
        }
        outcome
    }

    /// Begins the proposals that are due, in every tick. Late ones follow as soon as the machine
    /// allows. Those later than [`BEHIND`] are left out.
    fn offer(&mut self, time: Duration, outcome: &mut Outcome) {
        let start = Instant::now();
        let mut due = 0.0;
        let mut last = start;
        while last - start < time {
            let now = Instant::now();
            let since_last = (now - last).min(BEHIND);
            last = now;
            due += since_last.as_secs_f64() * self.rate_per_s;
            while due >= 1.0 {
                due -= 1.0;
                self.begin(outcome);
            }
            self.gather(outcome);
            std::thread::sleep((now + TICK).saturating_duration_since(Instant::now()));
        }
    }

    /// Begins a proposal at the replica that leads the next group.
    fn begin(&mut self, outcome: &mut Outcome) {
        let groups = self.groups;
        let replicas = &groups[self.next];
        self.next = (self.next + 1) % groups.len();
        outcome.begun += 1;
        let begun = Instant::now();
        let Some(leader) = leading(replicas) else {
            outcome.other_errors += 1;
            return;
        };
        let payload = self.payload.clone();
        let mut proposal: Proposal<'a> =
            Box::pin(async move { (begun, leader.propose(payload).await) });
        match proposal.as_mut().now_or_never() {
            Some(answer) => outcome.count(answer),
            None => self.pending.push(proposal),
        }
    }

    /// Counts what came back.
    fn gather(&mut self, outcome: &mut Outcome) {
        while let Some(Some(answer)) = self.pending.next().now_or_never() {
            outcome.count(answer);
        }
    }
}

impl Outcome {
    fn add(&mut self, other: &Self) {
        self.measured = self.measured.max(other.measured);
        self.cpu += other.cpu;
        self.begun += other.begun;
        self.writes += other.writes;
        self.busy.add(&other.busy);
        self.accepted.add(&other.accepted);
        self.other_errors += other.other_errors;
    }

    fn count(&mut self, (begun, result): Answer) {
        match result {
            Ok(_) => self.accepted.record(begun.elapsed()),
            Err(RequestError::Busy) => self.busy.record(begun.elapsed()),
            Err(_) => self.other_errors += 1,
        }
    }
}
