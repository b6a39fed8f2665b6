//! Elastic clusters: nodes join, are emptied and leave, and the real placement moves replicas.
//!
//! The last group of such a cluster is its meta group. Its state machine is the router's, which
//! holds the table of the cluster. Where the meta group leads, the router's driver runs: `Helm`
//! decides with the real placement, and its orders go to the leaders of the groups as requests, on
//! the condition that the members are those that the order was thought for.
//!
//! What is thin and replaced here is what the router does with tasks and sockets: the loop of the
//! driver, the publishing of members, the following of the table elsewhere, and the questions that
//! nodes ask each other (`office`, `driver`). A replica waits on every node for its group to add
//! it, where the router starts one when the table names it. All nodes know each other as peers. The
//! history of the table has no word of the driver's steps.
//!
//! `operator` does what people do to a cluster, `losses` takes nodes away and damages replicas, and
//! `oracle` says what must hold: no step leaves a group with fewer live voters, no live voter goes
//! while a lost one stays, no node is given up too soon, and one that has left leads nothing. When
//! the faults have ended, all groups are whole within [`PLACED_S`] seconds, on nodes that keep
//! replicas, and the others hold none.

mod driver;
mod losses;
mod machine;
mod office;
mod operator;
mod oracle;

use super::host::Host;
use super::options::{Fault, Plan};
use super::process::group_id;
use super::scene::Scene;
use logboat_raft::{ClusterId, GroupId, NodeId};
use logboat_router::internals::{Foundation, News, Reported};
use logboat_router::{ClusterSettings, META_GROUP, Table};
pub(super) use losses::{come_back, end_absences};
pub(super) use machine::machine_of;
pub(super) use office::{NODES, Office};
use operator::Wish;
pub(super) use operator::{OPERATOR, answered, ask};
use oracle::Oracle;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many nodes found an elastic cluster, and how many ids there are.
pub(super) const FOUNDERS: usize = 3;
pub(super) const MOST_NODES: usize = 7;

/// How long after the last fault every group may take until it is whole, in seconds.
pub const PLACED_S: u64 = 300;

/// What is known of the cluster as a whole.
#[derive(Debug, Default)]
pub(super) struct Elastic {
    /// The newest table that any node knows.
    pub(super) table: Arc<Table>,
    /// How many nodes have had a place, so that the next one gets the next id.
    pub(super) used: usize,
    /// The replicas whose data are damaged, by place and group, each since when, in microseconds,
    /// until nothing is left of them.
    pub(super) damaged: BTreeMap<(usize, GroupId), u64>,
    /// Who has given up whom in a recovery, by place.
    given_up: BTreeSet<(usize, usize)>,
    /// What people want that is not done.
    wishes: BTreeMap<u64, Wish>,
    /// Numbers wishes, and the commands of the table.
    next: u64,
    oracle: Oracle,
}

/// What a node asks another one, besides requests to groups.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// What has happened to the table since this version?
    Follow(u64),
    /// What do your replicas do?
    Report,
    /// Why is this node not part of the cluster any more?
    Standing(NodeId),
}

/// What it is told.
#[derive(Clone, Debug)]
pub(super) enum Told {
    News(u64, News),
    Report(Reported),
    Expelled(String),
}

/// Begins a fault of elastic clusters, at this node if it is one of a node. Returns whether there
/// is an occasion.
pub(super) fn strike(
    fault: Fault,
    (place, lasts): (usize, u64),
    hosts: &mut [Host],
    scene: &mut Scene,
) -> bool {
    match fault {
        Fault::Lose | Fault::Absence => losses::lose(fault, place, hosts, scene),
        Fault::GiveUp => losses::give_up(place, hosts, scene),
        Fault::Damage => losses::damage(place, hosts, scene),
        Fault::TwoDrivers => driver::double_drivers(hosts, lasts, scene),
        _ => operator::operate(fault, hosts, scene),
    }
}

impl Elastic {
    /// Whether a node (by place) has given up another one.
    pub(super) fn has_given_up(&self, by: usize, whom: usize) -> bool {
        self.given_up.contains(&(by, whom))
    }

    /// Whether a node (by place) has been given up by others, and is no part of the cluster.
    pub(super) fn is_given_up(&self, whom: usize) -> bool {
        self.given_up.iter().any(|(_, place)| *place == whom)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// What the driver calls a group of the simulation (by place).
fn group_of(plan: &Plan, group: usize) -> GroupId {
    if plan.is_meta(group) { META_GROUP } else { group_id(group) }
}

/// What the simulation calls a group of the driver.
fn simulated(plan: &Plan, group: GroupId) -> GroupId {
    if group == META_GROUP { plan.meta_group() } else { group }
}

/// The command that makes the cluster, with the ranges that the clients know.
fn foundation(scene: &Scene) -> Foundation {
    let starts = (1..scene.plan.data_groups()).map(|group| format!("{group:03}").into());
    let plan = logboat_router::Plan {
        layout: "range".to_owned(),
        keeps_layout: false,
        groups: None,
        edge_bits: 16,
        split_keys: Some(starts.collect()),
        replicas: scene.plan.replicas,
    };
    let lost_after = Some(scene.plan.lost_after);
    let settings = ClusterSettings { lost_after, ..ClusterSettings::default() };
    let nodes = (1..=FOUNDERS as u64).map(|node| (NodeId(node), format!("node{node}:1")));
    Foundation::new(ClusterId(7), &plan, &settings, nodes)
}
