//! `logboat-bench plan`: placement for a large cluster, simulated.

use crate::report;
use clap::Args;
use logboat::{GroupId, NodeId};
use logboat_bench::Failure;
use logboat_router::placement::simulation::{Done, Simulation, Speeds};
use logboat_router::placement::{Need, Settings};
use serde::Serialize;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// How far from the mean a node may be in the end.
const TOLERATED_SHARE: f64 = 0.02;

/// How many times what bandwidth allows a task may take.
const TOLERATED_TIME: f64 = 1.5;

/// A simulated cluster: it loses a node, and then nodes join. Placement is the real one. What it
/// takes is compared with what bandwidth allows.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many nodes there are, spread evenly over the zones.
    #[arg(long, default_value_t = 100)]
    nodes: u64,
    /// How many groups, of three replicas each.
    #[arg(long, default_value_t = 1_000_000)]
    groups: u64,
    /// How many nodes join.
    #[arg(long, default_value_t = 10)]
    joining: u64,
    /// How many zones there are.
    #[arg(long, default_value_t = 5)]
    zones: u64,
    /// The size of a group in MiB.
    #[arg(long, default_value_t = 64)]
    group_mib: u64,
    /// How many MiB a second a node receives, and as many it sends.
    #[arg(long, default_value_t = 150)]
    mib_per_s: u32,
    /// The time from one round of placement to the next, in milliseconds.
    #[arg(long, default_value_t = 200)]
    round_ms: u64,
    /// The most steps of a round.
    #[arg(long, default_value_t = 500)]
    steps: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What a task took.
#[derive(Serialize)]
struct Task {
    /// The copies that arrived.
    copies: u64,
    /// The time that the copies take if the nodes concerned send and receive all the time.
    bandwidth_allows_s: f64,
    /// The time that they may take.
    bound_s: f64,
    /// The time that it took until every group was whole, and the nodes even.
    took_s: f64,
    /// The steps in all, and a second of the cluster's time.
    steps: u64,
    mean_steps_per_s: f64,
    most_steps_per_s: f64,
    steps_per_s_bound: f64,
    /// How far replicas and leaders of the node that is farthest are from the mean, as a share.
    replicas_off: f64,
    leaders_off: f64,
    /// The share that they may be off.
    off_bound: f64,
    /// What thinking cost on this machine.
    mean_round_us: f64,
    longest_round_ms: f64,
    is_within_bounds: bool,
}

/// The figures of a run.
#[derive(Serialize)]
struct Report {
    nodes: u64,
    groups: u64,
    /// To tell placement all groups.
    index_s: f64,
    one_node_lost: Task,
    nodes_join: Task,
}

/// Runs the simulation and prints its report.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    if options.nodes < 4 || options.zones == 0 || options.joining == 0 {
        return Err("there must be four nodes, a zone, and a node that joins".into());
    }
    let begin = Instant::now();
    let mut world = World::found(options);
    let index_s = begin.elapsed().as_secs_f64();
    world.settle()?;
    let one_node_lost = world.lose()?;
    let nodes_join = world.grow()?;
    let (nodes, groups) = (options.nodes, options.groups);
    let report = Report { nodes, groups, index_s, one_node_lost, nodes_join };
    let within = report.one_node_lost.is_within_bounds && report.nodes_join.is_within_bounds;
    if options.json {
        report::print(&report, true)?;
    } else {
        println!("{nodes} nodes, {groups} groups, known to placement after {index_s:.1} s");
        for (name, task) in
            [("one node lost", &report.one_node_lost), ("nodes join", &report.nodes_join)]
        {
            println!("\n{name}");
            report::print(task, false)?;
        }
    }
    if within { Ok(()) } else { Err("a figure is out of its bound".into()) }
}

impl Options {
    /// The nodes of a group, the leader first: at random, and in different zones if there are
    /// enough.
    fn voters(&self, group: u64) -> Vec<NodeId> {
        let mut voters: Vec<u64> = Vec::new();
        let spread = self.zones.min(3);
        for draw in 0_u64.. {
            let mut hasher = DefaultHasher::new();
            (group, draw).hash(&mut hasher);
            let node = hasher.finish() % self.nodes;
            let zones = voters.iter().filter(|voter| *voter % self.zones == node % self.zones);
            let fits = !voters.contains(&node) && (spread < 3 || zones.count() == 0);
            if fits {
                voters.push(node);
            }
            if voters.len() == 3 {
                break;
            }
        }
        voters.into_iter().map(|node| NodeId(node + 1)).collect()
    }
}

struct World<'a> {
    options: &'a Options,
    simulation: Simulation,
    /// The nodes that belong to the cluster.
    nodes: Vec<NodeId>,
    /// How many nodes there ever were.
    joined: u64,
}

impl<'a> World<'a> {
    /// The cluster, with replicas and leaders at random.
    fn found(options: &'a Options) -> Self {
        let settings = Settings {
            lost_after: Duration::from_secs(10),
            copies_in: 4,
            copies_out: 4,
            copy_bytes: 256 << 20,
            steps: options.steps,
            ..Settings::default()
        };
        let speeds = Speeds {
            bytes_per_s: f64::from(options.mib_per_s) * f64::from(1 << 20),
            change: Duration::from_millis(20),
            round: Duration::from_millis(options.round_ms),
        };
        let simulation = Simulation::new(settings, speeds);
        let mut world = Self { options, simulation, nodes: Vec::new(), joined: 0 };
        (0..options.nodes).for_each(|_| world.join());
        for group in 0..options.groups {
            let voters = options.voters(group);
            world.simulation.found(GroupId(group + 1), &voters, options.group_mib << 20);
        }
        world
    }

    fn join(&mut self) {
        let zone = self.joined % self.options.zones;
        self.joined += 1;
        self.simulation.join(NodeId(self.joined), &format!("zone-{zone}"));
        self.nodes.push(NodeId(self.joined));
    }

    /// Rounds until nothing is left to do. Returns when the last one with steps was.
    fn settle(&mut self) -> Result<Duration, Failure> {
        let mut last = self.simulation.now();
        for _ in 0..10_000_000_u64 {
            let steps = self.simulation.round();
            if steps > 0 || !self.simulation.is_quiet() {
                last = self.simulation.now();
            } else if self.simulation.now() - last > Duration::from_secs(2) {
                return Ok(last);
            }
        }
        Err("placement does not come to an end".into())
    }

    /// A node is lost. The time counts from the moment at which it counts as lost.
    fn lose(&mut self) -> Result<Task, Failure> {
        let node = self.nodes.remove(self.nodes.len() / 2);
        let bytes =
            self.simulation.cluster.replicas_on(node) as u64 * (self.options.group_mib << 20);
        self.simulation.kill(node);
        while self.simulation.cluster.count_needing(Need::CriticalCopy) == 0 {
            self.simulation.round();
        }
        let receivers = self.nodes.len();
        self.task(bytes, receivers)
    }

    /// Nodes join, and get their share.
    fn grow(&mut self) -> Result<Task, Failure> {
        (0..self.options.joining).for_each(|_| self.join());
        let joining = usize::try_from(self.options.joining)?;
        let replicas = self.options.groups * 3;
        let share = replicas * self.options.joining / self.nodes.len() as u64;
        self.task(share * (self.options.group_mib << 20), joining)
    }

    /// Lets placement work, and compares that with receiving so many bytes on so many nodes.
    fn task(&mut self, bytes: u64, receivers: usize) -> Result<Task, Failure> {
        self.simulation.done = Done::default();
        let begin = self.simulation.now();
        let took_s = (self.settle()? - begin).as_secs_f64();
        let rate = f64::from(self.options.mib_per_s) * f64::from(1 << 20);
        let bandwidth_allows_s = bytes as f64 / receivers as f64 / rate;
        let bound_s = bandwidth_allows_s * TOLERATED_TIME;
        let cluster = &self.simulation.cluster;
        let replicas_off = off(self.nodes.iter().map(|node| cluster.replicas_on(*node)));
        let leaders_off = off(self.nodes.iter().map(|node| cluster.leaders_on(*node)));
        let done = &self.simulation.done;
        let rounds_per_s = 1e3 / self.options.round_ms as f64;
        Ok(Task {
            copies: done.copies,
            bandwidth_allows_s,
            bound_s,
            took_s,
            steps: done.steps,
            mean_steps_per_s: done.steps as f64 / took_s,
            most_steps_per_s: done.most_steps as f64 * rounds_per_s,
            steps_per_s_bound: self.options.steps as f64 * rounds_per_s,
            replicas_off,
            leaders_off,
            off_bound: TOLERATED_SHARE,
            mean_round_us: done.thinking.as_secs_f64() * 1e6 / done.rounds as f64,
            longest_round_ms: done.longest_round.as_secs_f64() * 1e3,
            is_within_bounds: took_s <= bound_s
                && replicas_off <= TOLERATED_SHARE
                && leaders_off <= TOLERATED_SHARE
                && done.most_steps <= self.options.steps
                && self.simulation.is_whole(),
        })
    }
}

/// The largest distance from the mean, as a share of the mean.
fn off(counts: impl Iterator<Item = usize> + Clone) -> f64 {
    let mean = counts.clone().sum::<usize>() as f64 / counts.clone().count() as f64;
    counts.map(|count| (count as f64 - mean).abs() / mean).fold(0.0, f64::max)
}
