//! `logboat-bench elastic`: how long it takes until nodes that join have their share, nodes that
//! leave are empty, and what a lost node held is there again, and what clients notice meanwhile.

mod load;

use self::load::{Load, Seen, VALUE_BYTES, fill};
use crate::report::print;
use crate::servers::{Server, Servers, until_stopped};
use clap::Args;
use logboat_bench::Failure;
use logboat_server::cluster_pages::{GroupsPage, NodesPage, NodesToLeave};
use rustix::fs::fdatasync;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long a phase may take.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// How often is looked whether a phase has ended.
const LOOK: Duration = Duration::from_millis(250);

/// How long clients write before the first phase.
const CALM: Duration = Duration::from_secs(10);

/// How much is written to find out what the disk takes.
const DISK_BYTES: usize = 512 << 20;

/// Three `logboat serve` processes with data, to which nodes come and from which nodes go: two
/// join, one is decommissioned, two at once are decommissioned, and one is killed and its directory
/// wiped. All of that without load, and again while clients write.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many groups.
    #[arg(long, default_value_t = 1_000)]
    groups: usize,
    /// How many MiB of values, each of 1 KiB.
    #[arg(long, default_value_t = 2_048)]
    mib: u64,
    /// How many writes are due in a second in the second half.
    #[arg(long, default_value_t = 5_000)]
    writes_per_s: u32,
    /// How many MiB of groups a node receives in a second, and sends.
    #[arg(long, default_value_t = 256)]
    move_mib_per_s: u64,
    /// Leave out the half without load.
    #[arg(long)]
    loaded_only: bool,
    /// Leave out the half under load.
    #[arg(long)]
    calm_only: bool,
    /// Print one JSON object a phase.
    #[arg(long)]
    json: bool,
}

/// What a phase took.
#[derive(Serialize)]
struct Phase {
    phase: &'static str,
    writes_per_s: u32,
    seconds: f64,
    /// What nodes have got that they had not before, and the node among them that got most of it.
    moved_mib: f64,
    mb_per_s_a_node: f64,
    /// Of what the disk takes when one file is written, in MB/s.
    disk_mb_per_s: f64,
    disk_ratio: f64,
    p50_before_us: u64,
    p50_during_us: u64,
    p99_before_us: u64,
    p99_during_us: u64,
    longest_pause_ms: u64,
    errors: u64,
    /// Elections that were won, and those among them for which the leader before had called.
    elections: u64,
    wanted_transfers: u64,
}

/// Runs the bench and prints a report a phase.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(until_stopped(measure(options)))
}

async fn measure(options: &Options) -> Result<(), Failure> {
    let groups = options.groups.to_string();
    let rate = options.move_mib_per_s.to_string();
    let settings = ["--groups", &groups, "--lost-after", "10s", "--move-mib-per-s", &rate];
    let mut servers = Servers::start(&settings.map(str::to_owned))?;
    let disk_mb_per_s = disk_rate(servers.directory())?;
    let keys = options.mib * (1 << 20) / VALUE_BYTES;
    let mut bench = Bench { options: options.clone(), disk_mb_per_s, keys, load: None };
    let first = &servers.nodes[0];
    await_even(first, 3, options.groups).await?;
    fill(&addresses(&servers), keys).await?;
    if !options.loaded_only {
        bench.all_phases(&mut servers).await?;
    }
    if !options.calm_only {
        bench.load = Some(Load::start(addresses(&servers), keys, options.writes_per_s));
        sleep(CALM).await;
        bench.all_phases(&mut servers).await?;
        if let Some(load) = bench.load {
            load.end().await?;
        }
    }
    Ok(())
}

struct Bench {
    options: Options,
    disk_mb_per_s: f64,
    keys: u64,
    load: Option<Load>,
}

impl Bench {
    async fn all_phases(&mut self, servers: &mut Servers) -> Result<(), Failure> {
        self.phase("two nodes join", servers, 5, async |servers| {
            servers.join(&[])?;
            servers.join(&[])
        })
        .await?;
        self.phase("one is decommissioned", servers, 4, async |servers| leave(servers, 1)).await?;
        self.phase("one node joins", servers, 5, async |servers| servers.join(&[])).await?;
        self.phase("two are decommissioned", servers, 3, async |servers| leave(servers, 2)).await?;
        self.phase("one node joins", servers, 4, async |servers| servers.join(&[])).await?;
        self.phase("one is killed and wiped", servers, 3, async |servers| {
            let mut killed = servers.nodes.pop().ok_or("there are nodes")?;
            killed.kill()?;
            Ok(killed.wipe()?)
        })
        .await
    }

    /// Does something to the cluster, waits until it has so many nodes with as many replicas and
    /// leaders each, and tells what that took.
    async fn phase(
        &self,
        phase: &'static str,
        servers: &mut Servers,
        nodes: usize,
        act: impl AsyncFnOnce(&mut Servers) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let before = Standing::of(&servers.nodes[0])?;
        let elections = elections(servers);
        let calm = self.load.as_ref().map(Load::take).unwrap_or_default();
        let begin = Instant::now();
        act(servers).await?;
        self.talk_to(servers);
        await_even(&servers.nodes[0], nodes, self.options.groups).await?;
        let seconds = begin.elapsed().as_secs_f64();
        let seen = self.load.as_ref().map(Load::take).unwrap_or_default();
        let after = Standing::of(&servers.nodes[0])?;
        let [elections, wanted_transfers] = elections_since(servers, &elections);
        self.remove_left(servers, &after)?;
        let group_mib =
            self.keys as f64 * VALUE_BYTES as f64 / (1 << 20) as f64 / self.options.groups as f64;
        let gained = after.gained_since(&before);
        let most = gained.values().max().copied().unwrap_or_default() as f64 * group_mib;
        let mb_per_s_a_node = most * 1.048_576 / seconds;
        let at = |seen: &Seen, part| seen.latencies.quantile_us(part);
        let report = Phase {
            phase,
            writes_per_s: self.load.as_ref().map_or(0, |_| self.options.writes_per_s),
            seconds,
            moved_mib: gained.values().sum::<usize>() as f64 * group_mib,
            mb_per_s_a_node,
            disk_mb_per_s: self.disk_mb_per_s,
            disk_ratio: mb_per_s_a_node / self.disk_mb_per_s,
            p50_before_us: at(&calm, 0.5),
            p50_during_us: at(&seen, 0.5),
            p99_before_us: at(&calm, 0.99),
            p99_during_us: at(&seen, 0.99),
            longest_pause_ms: u64::try_from(seen.longest.as_millis())?,
            errors: seen.errors,
            elections,
            wanted_transfers,
        };
        print(&report, self.options.json)?;
        // What follows is compared with a cluster at rest.
        sleep(CALM.mul_f64(f64::from(u8::from(self.load.is_some())))).await;
        Ok(())
    }

    fn talk_to(&self, servers: &Servers) {
        if let Some(load) = &self.load {
            // The founders stay in all phases, so that clients lose no connection.
            load.talk_to(addresses(servers).into_iter().take(3).collect());
        }
    }

    /// Ends the processes of nodes that have left.
    fn remove_left(&self, servers: &mut Servers, standing: &Standing) -> Result<(), Failure> {
        let stays = |server: &Server| {
            let id = server.page::<logboat_server::admin::StatusPage>("status").ok()?.node_id;
            standing.0.contains_key(&id).then_some(())
        };
        servers.nodes.retain(|server| stays(server).is_some());
        self.talk_to(servers);
        Ok(())
    }
}

/// How many replicas each node has.
struct Standing(BTreeMap<u64, usize>);

impl Standing {
    fn of(server: &Server) -> Result<Self, Failure> {
        let page: NodesPage = server.page("nodes")?;
        Ok(Self(page.nodes.iter().map(|node| (node.id, node.replicas)).collect()))
    }

    fn gained_since(&self, before: &Self) -> BTreeMap<u64, usize> {
        let gained = |(node, replicas): (&u64, &usize)| {
            let had = before.0.get(node).copied().unwrap_or_default();
            (*node, replicas.saturating_sub(had))
        };
        self.0.iter().map(gained).collect()
    }
}

/// Has the newest nodes leave.
fn leave(servers: &Servers, count: usize) -> Result<(), Failure> {
    let page: NodesPage = servers.nodes[0].page("nodes")?;
    let nodes = page.nodes.iter().rev().take(count).map(|node| node.id).collect();
    servers.nodes[0].post("nodes/decommission", &NodesToLeave { nodes })
}

/// Waits until there are so many nodes, with about as many replicas and leaders each, every group
/// has its three voters and nothing is under way.
async fn await_even(server: &Server, nodes: usize, groups: usize) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !is_even(server, nodes, groups).unwrap_or(false) {
        if Instant::now() > deadline {
            let page: NodesPage = server.page("nodes")?;
            return Err(format!("not even after {PATIENCE:?}: {page:?}").into());
        }
        sleep(LOOK).await;
    }
    Ok(())
}

fn is_even(server: &Server, nodes: usize, groups: usize) -> Result<bool, Failure> {
    let page: NodesPage = server.page("nodes")?;
    let tolerated = |mean: usize| mean / 50 + 2;
    let (replicas, leaders) = (groups * 3 / nodes, groups / nodes);
    let is_even = |has: usize, mean: usize| has.abs_diff(mean) <= tolerated(mean);
    let all = page.nodes.iter().filter(|node| node.state == "up");
    if page.nodes.len() != nodes
        || all.clone().count() != nodes
        || !all.clone().all(|node| is_even(node.replicas, replicas))
        || !all.clone().all(|node| is_even(node.leaders, leaders))
    {
        return Ok(false);
    }
    let page: GroupsPage = server.page("groups")?;
    let ranges = page.groups.iter().filter(|group| group.id != 0);
    Ok(ranges.clone().count() == groups
        && ranges.clone().all(|group| group.voters.len() == 3 && group.learners.is_empty()))
}

/// How many elections each node has won since it started, and for how many of them the leader
/// before had called.
fn elections(servers: &Servers) -> BTreeMap<String, [u64; 2]> {
    let won = |server: &Server| {
        let names = ["logboat_elections_won_total", "logboat_handovers_taken_total"];
        let [Ok(won), Ok(called)] = names.map(|name| server.metric(name)) else { return None };
        Some((server.clients.clone(), [won, called]))
    };
    servers.nodes.iter().filter_map(won).collect()
}

fn elections_since(servers: &Servers, before: &BTreeMap<String, [u64; 2]>) -> [u64; 2] {
    elections(servers).into_iter().fold([0; 2], |[won, called], (node, now)| {
        let before = before.get(&node).copied().unwrap_or_default();
        [won + now[0] - before[0], called + now[1] - before[1]]
    })
}

fn addresses(servers: &Servers) -> Vec<String> {
    servers.nodes.iter().map(|server| server.clients.clone()).collect()
}

/// How many MB a second the disk takes of one file that is written from its beginning to its end,
/// and synced.
fn disk_rate(directory: &Path) -> Result<f64, Failure> {
    let path = directory.join("written");
    let (mut file, data) = (File::create(&path)?, vec![1; 1 << 20]);
    let begin = Instant::now();
    for _ in 0..DISK_BYTES / data.len() {
        file.write_all(&data)?;
    }
    fdatasync(&file)?;
    let elapsed = begin.elapsed();
    std::fs::remove_file(&path)?;
    Ok(DISK_BYTES as f64 / 1e6 / elapsed.as_secs_f64())
}
