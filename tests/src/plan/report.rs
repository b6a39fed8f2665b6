//! What is told of a plan that was run.

use super::replica::ReplicaId;
use super::tally::Tally;
use super::voters::Place;
use super::worker::Worker;
use super::world::World;
use logboat_raft::Time;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// How finely the curve of a failover is drawn.
const CURVE_STEP_MS: u64 = 5;

/// What a cluster does at rest and in failovers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Nodes.
    pub nodes: usize,
    /// Groups, of three replicas each.
    pub groups: usize,
    /// What all chance was drawn from.
    pub seed: u64,
    /// The cluster at rest.
    pub rest: Rest,
    /// What nodes that die bring about.
    pub failovers: Vec<Failover>,
}

/// A second of a cluster that has nothing to do, all nodes together unless said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rest {
    /// Messages between nodes.
    pub messages_per_s: f64,
    /// Those that one node sends.
    pub messages_per_s_and_node: f64,
    /// Their bytes with the headers of their frames, without what TCP adds. Nodes that have run for
    /// days take a few more, since they count their requests.
    pub bytes_per_s: f64,
    /// Syncs of logs.
    pub syncs_per_s: f64,
}

/// What happened after nodes died at once. Times are milliseconds from then on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failover {
    /// How many nodes died.
    pub deaths: usize,
    /// Groups that lost their leader and have a majority.
    pub affected: usize,
    /// Groups that have lost two or three of their replicas; they are not among the affected.
    pub without_majority: usize,
    /// When the first survivor withdrew its support from a dead node, and when the last one.
    pub first_detected_ms: f64,
    /// See [`Self::first_detected_ms`].
    pub last_detected_ms: f64,
    /// Until half of the affected groups had a leader that has committed the first entry of its
    /// term, so that it takes writes.
    pub p50_ms: f64,
    /// The same for 99 of 100.
    pub p99_ms: f64,
    /// The same for all that got one.
    pub all_ms: f64,
    /// Affected groups that got none.
    pub unled: usize,
    /// Pre-votes that were held until then.
    pub pre_votes: u64,
    /// Votes that were held until then: elections that were tried.
    pub elections: u64,
    /// Messages of groups.
    pub messages: u64,
    /// Syncs of logs that made something of a group durable.
    pub syncs: u64,
    /// How many groups are led by the survivor that leads the fewest, and how many by the one that
    /// leads the most.
    pub fewest_leaders: usize,
    /// See [`Self::fewest_leaders`].
    pub most_leaders: usize,
    /// Milliseconds, and the share of the affected groups that had a leader by then.
    pub curve: Vec<(u64, f64)>,
}

impl Rest {
    /// What was counted in a time.
    pub(super) fn between(before: &Tally, after: &Tally, time: Duration, nodes: usize) -> Self {
        let rate = |count: u64| whole(count) / time.as_secs_f64();
        let messages_per_s = rate(
            after.liveness_messages + after.group_messages
                - before.liveness_messages
                - before.group_messages,
        );
        Self {
            messages_per_s,
            messages_per_s_and_node: messages_per_s / whole(nodes as u64),
            bytes_per_s: rate(after.liveness_bytes - before.liveness_bytes),
            syncs_per_s: rate(after.syncs - before.syncs),
        }
    }
}

/// A failover while it goes on.
pub(super) struct Loss {
    deaths: usize,
    began: Time,
    before: Tally,
    /// By group, whether it waits for a leader.
    waits: Vec<bool>,
    without_majority: usize,
    affected: usize,
    /// When each of the affected groups got a leader, in the order of time.
    led: Vec<Duration>,
    /// How much of the tally is taken in.
    seen: usize,
}

impl Loss {
    /// The loss of so many nodes, just now.
    pub(super) fn of(world: &World, deaths: usize) -> Self {
        let mut waits = vec![false; world.groups.voters.len()];
        let mut without_majority = 0;
        for (voters, waits) in world.groups.voters.iter().zip(&mut waits) {
            let lost = voters.nodes().filter(|node| !world.lives(*node)).count();
            if lost > Place::ALL.len() / 2 {
                without_majority += 1;
            } else {
                *waits = !world.lives(voters.node(Place::PREFERRED));
            }
        }
        Self {
            deaths,
            began: world.now,
            before: world.tally.clone(),
            affected: waits.iter().filter(|waits| **waits).count(),
            waits,
            without_majority,
            led: Vec::new(),
            seen: world.tally.leading.len(),
        }
    }

    /// Whether all affected groups have a leader.
    pub(super) const fn is_over(&self) -> bool {
        self.led.len() == self.affected
    }

    /// Takes in who has begun to lead.
    pub(super) fn follow(&mut self, world: &World) {
        for (id, at) in &world.tally.leading[self.seen..] {
            if std::mem::take(&mut self.waits[id.group()]) {
                self.led.push(at.since(self.began));
            }
        }
        self.seen = world.tally.leading.len();
    }

    /// What is to be told of it.
    pub(super) fn report(self, world: &World) -> Failover {
        let (before, after) = (&self.before, &world.tally);
        let detected = after.detected[before.detected.len()..].iter();
        let mut detected = detected.map(|at| millis(at.since(self.began)));
        let first_detected_ms = detected.next().unwrap_or_default();
        let leaders = leaders(world);
        Failover {
            deaths: self.deaths,
            affected: self.affected,
            without_majority: self.without_majority,
            first_detected_ms,
            last_detected_ms: detected.next_back().unwrap_or(first_detected_ms),
            p50_ms: self.quantile(50),
            p99_ms: self.quantile(99),
            all_ms: self.quantile(100),
            unled: self.affected - self.led.len(),
            pre_votes: after.pre_campaigns - before.pre_campaigns,
            elections: after.campaigns - before.campaigns,
            messages: after.group_messages - before.group_messages,
            syncs: after.group_syncs - before.group_syncs,
            fewest_leaders: leaders.iter().min().copied().unwrap_or_default(),
            most_leaders: leaders.iter().max().copied().unwrap_or_default(),
            curve: self.curve(),
        }
    }

    /// When so many of a hundred affected groups had a leader, if as many ever had.
    fn quantile(&self, percent: usize) -> f64 {
        let rank = (self.affected * percent).div_ceil(100).min(self.led.len());
        rank.checked_sub(1).map_or(0.0, |at| millis(self.led[at]))
    }

    fn curve(&self) -> Vec<(u64, f64)> {
        let last = self.led.last().map_or(0, |last| last.as_millis() as u64 + 1);
        let steps = 0..=last.div_ceil(CURVE_STEP_MS);
        let share = |ms| {
            let led = self.led.partition_point(|it| *it <= Duration::from_millis(ms));
            whole(led as u64) / whole(self.affected.max(1) as u64)
        };
        steps.map(|step| step * CURVE_STEP_MS).map(|ms| (ms, share(ms))).collect()
    }
}

/// By survivor, how many groups it leads.
fn leaders(world: &World) -> Vec<usize> {
    let leads = |id: &&ReplicaId| world.groups.replicas[id.index()].leads();
    let live = world.nodes.iter().filter(|node| node.lives);
    live.map(|node| {
        let replicas = node.workers.iter().flat_map(Worker::replicas);
        replicas.filter(leads).count()
    })
    .collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, groups, seed, rest, failovers } = self;
        writeln!(f, "{nodes} nodes, {groups} groups of three replicas, seed {seed}")?;
        writeln!(
            f,
            "at rest: {:.0} messages/s ({:.0} a node), {:.0} bytes/s, {:.0} syncs/s",
            rest.messages_per_s, rest.messages_per_s_and_node, rest.bytes_per_s, rest.syncs_per_s
        )?;
        failovers.iter().try_for_each(|failover| failover.fmt(f))
    }
}

impl fmt::Display for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let died = if self.deaths == 1 { "node dies" } else { "nodes die" };
        writeln!(
            f,
            "{} {died}: {} groups lose their leader, {} their majority\n  \
             detected after {:.0} to {:.0} ms; a leader that takes writes: 50 % {:.0} ms, \
             99 % {:.0} ms, all {:.0} ms",
            self.deaths,
            self.affected,
            self.without_majority,
            self.first_detected_ms,
            self.last_detected_ms,
            self.p50_ms,
            self.p99_ms,
            self.all_ms,
        )?;
        if self.unled > 0 {
            writeln!(f, "  {} groups got no leader", self.unled)?;
        }
        writeln!(
            f,
            "  {} pre-votes, {} elections, {} messages, {} syncs; a node leads {} to {} groups",
            self.pre_votes,
            self.elections,
            self.messages,
            self.syncs,
            self.fewest_leaders,
            self.most_leaders,
        )
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
const fn whole(number: u64) -> f64 {
    number as f64
}
