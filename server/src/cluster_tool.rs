//! `logboat node` and `logboat group`: the nodes and the groups of a cluster, and what is done to
//! them. Any node of the cluster may be asked.

use crate::admin_client::AdminClient;
use crate::cluster_pages::{
    GroupPage, GroupsPage, HistoryPage, MoveOrder, NodePage, NodesPage, NodesToLeave, SettingsPage,
    TransferOrder,
};
use crate::options::GivenSettings;
use crate::output::{Failure, print};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use std::thread::sleep;
use std::time::Duration;

/// How often is looked how far something is that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What is done with the nodes of a cluster.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Print all nodes.
    List(Shown),
    /// Move leaders and replicas off a node, which stays part of the cluster.
    Drain(NodeOrder),
    /// Have a node hold replicas again that was drained, or is about to leave.
    Undrain(NodeOrder),
    /// Move everything off some nodes, and have them leave the cluster for good.
    Decommission(Leaving),
    /// Give up a node that is gone for good. It never comes back under its id.
    RemoveLost(NodeOrder),
    /// Print what was done to the cluster lately, and why.
    History(Shown),
}

/// What is done with the groups of a cluster.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Print all groups.
    List(Shown),
    /// Print one group.
    Show(ShownGroup),
    /// Move a replica from one node to another.
    Move(Moving),
    /// Have another voter lead.
    Transfer(Transferring),
}

/// A page that is printed.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shown {
    #[command(flatten)]
    client: AdminClient,
    /// Print JSON. Fields are only ever added.
    #[arg(long)]
    json: bool,
}

/// The settings of the cluster, and those that are to be others.
#[derive(Clone, Debug, Args)]
pub(crate) struct SettingsOptions {
    /// After how long a node that is silent counts as lost, so that its replicas are replaced: 30s,
    /// 5min or 2h.
    #[arg(long, value_name = "TIME")]
    lost_after: Option<String>,
    /// How many MiB of groups a node receives in a second, and how many it sends, for replicas that
    /// move.
    #[arg(long, value_name = "MIB")]
    move_mib_per_s: Option<u64>,
    #[command(flatten)]
    shown: Shown,
}

/// An order to a node.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeOrder {
    /// The node's id.
    node: u64,
    #[command(flatten)]
    client: AdminClient,
    /// Wait until the node holds nothing any more.
    #[arg(long)]
    wait: bool,
}

/// Nodes that are to leave.
#[derive(Clone, Debug, Args)]
pub(crate) struct Leaving {
    /// The nodes' ids.
    #[arg(required = true)]
    nodes: Vec<u64>,
    #[command(flatten)]
    client: AdminClient,
    /// Wait until they have left.
    #[arg(long)]
    wait: bool,
}

/// A group that is printed.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShownGroup {
    /// The group's id.
    group: u64,
    #[command(flatten)]
    shown: Shown,
}

/// A replica that is to move.
#[derive(Clone, Debug, Args)]
pub(crate) struct Moving {
    /// The group's id.
    group: u64,
    /// The node that has the replica.
    #[arg(long, required_unless_present = "cancel")]
    from: Option<u64>,
    /// The node that is to have it.
    #[arg(long, required_unless_present = "cancel")]
    to: Option<u64>,
    /// Have it move no further.
    #[arg(long, conflicts_with_all = ["from", "to", "wait"])]
    cancel: bool,
    #[command(flatten)]
    client: AdminClient,
    /// Wait until it has moved.
    #[arg(long)]
    wait: bool,
}

/// A leadership that is to move.
#[derive(Clone, Debug, Args)]
pub(crate) struct Transferring {
    /// The group's id.
    group: u64,
    /// The node that is to lead.
    #[arg(long)]
    to: u64,
    #[command(flatten)]
    client: AdminClient,
}

/// Carries out `logboat node`.
pub(crate) fn run_node(command: NodeCommand) -> Result<(), Failure> {
    match command {
        NodeCommand::List(shown) => shown.print("/nodes", nodes_table),
        NodeCommand::History(shown) => shown.print("/history", |page: &Vec<_>| history_table(page)),
        NodeCommand::Drain(order) => {
            order.post("drain")?;
            order.wait_until_empty()
        }
        NodeCommand::Undrain(order) => order.post("undrain"),
        NodeCommand::RemoveLost(order) => {
            order.post("remove-lost")?;
            order.wait_until_empty()
        }
        NodeCommand::Decommission(Leaving { nodes, client, wait }) => {
            client.post("/nodes/decommission", &NodesToLeave { nodes: nodes.clone() })?;
            if wait { wait_for(&client, "left", |page| left(page, &nodes, true)) } else { Ok(()) }
        }
    }
}

/// Carries out `logboat settings`: changes what is given, and prints all.
pub(crate) fn run_settings(options: SettingsOptions) -> Result<(), Failure> {
    let SettingsOptions { lost_after, move_mib_per_s, shown } = options;
    let given = GivenSettings::read(lost_after.as_deref(), move_mib_per_s)?;
    if given != GivenSettings::default() {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let lost_after_ms = given.lost_after.map(millis);
        let page = SettingsPage { lost_after_ms, move_mib_per_s: given.move_mib_per_s };
        shown.client.post("/settings", &page)?;
    }
    shown.print("/settings", settings_table)
}

fn settings_table(page: &SettingsPage) -> String {
    let SettingsPage { lost_after_ms, move_mib_per_s } = page;
    let lost_after =
        lost_after_ms.map_or_else(|| "never".to_owned(), |ms| format!("{} s", ms / 1_000));
    let rate = move_mib_per_s.unwrap_or_default();
    format!("lost after      {lost_after}\nmove at         {rate} MiB/s\n")
}

/// Carries out `logboat group`.
pub(crate) fn run_group(command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::List(shown) => shown.print("/groups", groups_table),
        GroupCommand::Show(ShownGroup { group, shown }) => {
            let table = |group: &GroupPage| {
                groups_table(&GroupsPage { version: 0, groups: vec![group.clone()] })
            };
            shown.print(&format!("/groups/{group}"), table)
        }
        GroupCommand::Move(Moving { group, client, cancel: true, .. }) => {
            client.post(&format!("/groups/{group}/cancel-move"), &json!({}))
        }
        GroupCommand::Move(Moving { group, from, to, client, wait, .. }) => {
            let (Some(from), Some(to)) = (from, to) else { return Ok(()) };
            client.post(&format!("/groups/{group}/move"), &MoveOrder { from, to })?;
            if wait { wait_for_move(&client, group, to) } else { Ok(()) }
        }
        GroupCommand::Transfer(Transferring { group, to, client }) => {
            client.post(&format!("/groups/{group}/transfer"), &TransferOrder { to })
        }
    }
}

impl Shown {
    fn print<T>(&self, path: &str, table: impl Fn(&T) -> String) -> Result<(), Failure>
    where
        T: serde::de::DeserializeOwned + Serialize,
    {
        if self.json {
            // As the node says it, also what a later version has added.
            let page: serde_json::Value = self.client.get(path)?;
            return print(&format!("{}\n", serde_json::to_string_pretty(&page)?));
        }
        print(&table(&self.client.get(path)?))
    }
}

impl NodeOrder {
    fn post(&self, order: &str) -> Result<(), Failure> {
        self.client.post(&format!("/nodes/{}/{order}", self.node), &json!({}))
    }

    fn wait_until_empty(&self) -> Result<(), Failure> {
        if !self.wait {
            return Ok(());
        }
        wait_for(&self.client, "empty", |page| left(page, &[self.node], false))
    }
}

/// Waits until the move of a group has ended, one way or the other.
fn wait_for_move(client: &AdminClient, group: u64, to: u64) -> Result<(), Failure> {
    let mut told = None;
    loop {
        let page: GroupPage = client.get(&format!("/groups/{group}"))?;
        if let Some(reason) = page.waits.clone().filter(|_| page.waits != told) {
            print(&format!("the move waits: {reason}\n"))?;
        }
        told.clone_from(&page.waits);
        match page.moving {
            Some(_) => sleep(LOOK_INTERVAL),
            None if page.voters.contains(&to) => return Ok(()),
            None => return Err(format!("the move has ended, and node {to} does not vote").into()),
        }
    }
}

/// How many replicas are left on these nodes. None if nothing is to be waited for any more, where
/// nodes that `leave` have to be gone.
fn left(page: &NodesPage, nodes: &[u64], leave: bool) -> Option<usize> {
    let there: Vec<_> = page.nodes.iter().filter(|node| nodes.contains(&node.id)).collect();
    let replicas = there.iter().map(|node| node.replicas).sum();
    (replicas > 0 || (leave && !there.is_empty())).then_some(replicas)
}

/// Shows how far nodes are emptied, until they are.
fn wait_for(
    client: &AdminClient,
    what: &'static str,
    left: impl Fn(&NodesPage) -> Option<usize>,
) -> Result<(), Failure> {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len} replicas")?;
    let mut bar: Option<ProgressBar> = None;
    // The node that is asked may be one of those that leave, or be restarted.
    let mut failures = 0;
    loop {
        match client.get("/nodes") {
            Ok(page) => {
                failures = 0;
                let Some(replicas) = left(&page) else { break };
                let replicas = replicas as u64;
                let bar = bar.get_or_insert_with(|| {
                    ProgressBar::new(replicas).with_style(style.clone()).with_message("moved")
                });
                bar.set_length(bar.length().unwrap_or_default().max(replicas));
                bar.set_position(bar.length().unwrap_or_default() - replicas);
            }
            Err(error) => {
                failures += 1;
                if failures > 40 {
                    return Err(error);
                }
            }
        }
        sleep(LOOK_INTERVAL);
    }
    if let Some(bar) = bar {
        bar.finish_with_message(what);
    }
    Ok(())
}

fn nodes_table(page: &NodesPage) -> String {
    let row = |node: &NodePage| {
        let reached = if node.is_reached { "yes" } else { "no" };
        let NodePage { id, state, zone, replicas, leaders, peers, clients, admin, .. } = node;
        let (clients, admin, zone) = (dash(clients), dash(admin), dash(zone));
        format!(
            "{id:>4}  {state:<8}  {reached:<7}  {replicas:>8}  {leaders:>7}  {zone:<10}  \
             {peers:<21} {clients:<21} {admin}\n"
        )
    };
    let head = format!(
        "{:>4}  {:<8}  {:<7}  {:>8}  {:>7}  {:<10}  {:<21} {:<21} admin\n",
        "node", "state", "reached", "replicas", "leaders", "zone", "peers", "clients"
    );
    std::iter::once(head).chain(page.nodes.iter().map(row)).collect()
}

fn groups_table(page: &GroupsPage) -> String {
    let list = |nodes: &[u64]| {
        let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
        nodes.join(",")
    };
    let row = |group: &GroupPage| {
        let leader = group.leader.map_or_else(|| "-".to_owned(), |node| node.to_string());
        let (voters, learners) = (list(&group.voters), list(&group.learners));
        let waits = if group.waits.is_some() { ", waits" } else { "" };
        let moving = group.moving.map(|(from, to)| format!("{from} to {to}{waits}"));
        let moving = moving.unwrap_or_default();
        let (id, start) = (group.id, dash(&group.start));
        let (learners, moving) = (dash(&learners), dash(&moving));
        format!("{id:>6}  {leader:>6}  {voters:<14}  {learners:<10}  {moving:<10}  {start}\n")
    };
    let head = format!(
        "{:>6}  {:>6}  {:<14}  {:<10}  {:<10}  first key\n",
        "group", "leader", "voters", "learners", "moving"
    );
    std::iter::once(head).chain(page.groups.iter().map(row)).collect()
}

fn history_table(entries: &[HistoryPage]) -> String {
    let row = |entry: &HistoryPage| {
        let (secs, millis) = (entry.at_ms / 1_000, entry.at_ms % 1_000);
        let (hours, minutes, secs) = (secs / 3_600 % 24, secs / 60 % 60, secs % 60);
        let HistoryPage { version, what, why, .. } = entry;
        format!("{hours:02}:{minutes:02}:{secs:02}.{millis:03} UTC  {version:>6}  {what}: {why}\n")
    };
    entries.iter().map(row).collect()
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
