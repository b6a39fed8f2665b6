//! A plan of large clusters: thousands of pairs of nodes and millions of groups, more than any
//! machine at hand can run. They are simulated in virtual time, in one thread, and from one seed.
//!
//! The liveness of nodes and the wait lists of workers are the engine's own, with the defaults of
//! `NodeConfig`. A replica is reduced to what an election needs (`replica.rs`): it follows the
//! rules of `logboat-raft` for a group of three whose logs are equal. The network, the log's syncs
//! and the workers' time are replaced by the figures in `cost.rs`. What no failover waits for is
//! left out: the rebalancing of leaders, repeated messages (nothing is lost between nodes that
//! live), and when a leader was last heard (a follower that hears one has fortified it).

mod cost;
mod node;
mod picture;
mod queue;
mod replica;
mod report;
mod tally;
mod voters;
mod worker;
mod world;

use logboat_raft::NodeId;
pub use picture::draw;
use report::Loss;
pub use report::{Failover, Report, Rest};
use std::time::Duration;
use world::World;

/// How long a cluster is watched at rest.
const REST: Duration = Duration::from_secs(10);

/// After so long without a leader a group is taken never to get one.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether all groups have leaders.
const GLANCE: Duration = Duration::from_millis(10);

/// A cluster, and what happens to it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes, from three to 2^16 - 1.
    pub nodes: usize,
    /// Groups, each with three replicas on different nodes.
    pub groups: usize,
    /// What all chance is drawn from.
    pub seed: u64,
    /// How many nodes die at once, one number a failover. Each must be smaller than
    /// [`Self::nodes`].
    pub deaths: Vec<usize>,
}

/// Watches the cluster at rest, and then through each failover, which begins at rest again.
///
/// # Panics
/// When the plan's numbers are out of bounds; when two replicas lead one term.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    assert!(plan.nodes >= 3, "a group has replicas on three nodes");
    assert!(plan.deaths.iter().all(|deaths| *deaths < plan.nodes), "some node survives");
    Report {
        nodes: plan.nodes,
        groups: plan.groups,
        seed: plan.seed,
        rest: watch_at_rest(plan),
        failovers: plan.deaths.iter().map(|deaths| fail_over(plan, *deaths)).collect(),
    }
}

fn watch_at_rest(plan: &Plan) -> Rest {
    let mut world = World::at_rest(plan.nodes, plan.groups, plan.seed);
    let before = world.tally.clone();
    world.run(world.now + REST);
    Rest::between(&before, &world.tally, REST, plan.nodes)
}

fn fail_over(plan: &Plan, deaths: usize) -> Failover {
    let mut world = World::at_rest(plan.nodes, plan.groups, plan.seed);
    let pause = world.draw_pause();
    world.run(world.now + pause);
    let killed: Vec<NodeId> = world.draw_nodes(deaths);
    world.kill(&killed);
    let mut loss = Loss::of(&world, killed.len());
    let end = world.now + PATIENCE;
    while !loss.is_over() && world.now < end {
        world.run(world.now + GLANCE);
        loss.follow(&world);
    }
    loss.report(&world)
}
