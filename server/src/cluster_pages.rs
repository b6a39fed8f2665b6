//! The admin pages about the cluster: its nodes, its groups, its history, and what changes them.

use crate::admin::Admin;
use crate::options::GivenSettings;
use axum::Json;
use axum::Router as Pages;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use logboat::{GroupId, NodeId};
use logboat_router::{ClusterError, META_GROUP, Members, Router, Table};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// `/nodes`. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodesPage {
    /// How many changes the table has had that this is of.
    pub version: u64,
    /// All nodes, by id.
    pub nodes: Vec<NodePage>,
}

/// A node in `/nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePage {
    /// Its id.
    pub id: u64,
    /// What the cluster wants of it: `joining`, `up`, `draining`, `leaving` or `lost`.
    pub state: String,
    /// Whether the node that was asked reaches it.
    pub is_reached: bool,
    /// Its zone; empty if it names none.
    pub zone: String,
    /// Where its peers reach it.
    pub peers: String,
    /// Where clients reach it; empty if it has not said so.
    pub clients: String,
    /// Where its admin pages are; empty if it has none.
    pub admin: String,
    /// The version of its binary; empty if it has not said so.
    pub version: String,
    /// How many replicas it has.
    pub replicas: usize,
    /// How many groups it leads.
    pub leaders: usize,
}

/// `/groups`. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupsPage {
    /// How many changes the table has had that this is of.
    pub version: u64,
    /// All groups, by id. Group 0 holds the table itself.
    pub groups: Vec<GroupPage>,
}

/// A group in `/groups`, and `/groups/ID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPage {
    /// Its id.
    pub id: u64,
    /// The first key of its range, in hexadecimal digits; empty for the first range, and for group
    /// 0.
    pub start: String,
    /// The node that leads it, if one is known.
    pub leader: Option<u64>,
    /// The nodes that vote, the preferred leader first.
    pub voters: Vec<u64>,
    /// The nodes that learn.
    pub learners: Vec<u64>,
    /// The term and the index of the entry since which it has these members.
    pub since: (u64, u64),
    /// From which node to which one a replica moves, if somebody has asked for it.
    pub moving: Option<(u64, u64)>,
    /// Why that waits, if it does.
    #[serde(default)]
    pub waits: Option<String>,
}

/// An entry of `/history`, which has the newest last. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    /// The version of the table by it.
    pub version: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What was done.
    pub what: String,
    /// Why.
    pub why: String,
}

/// `/settings`: what placement goes by. Fields are only ever added. What is posted there changes
/// those that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsPage {
    /// After how many milliseconds a node that is silent counts as lost; none if nothing moves by
    /// itself.
    #[serde(default)]
    pub lost_after_ms: Option<u64>,
    /// How many MiB of groups a node receives in a second, and sends, for replicas that move.
    #[serde(default)]
    pub move_mib_per_s: Option<u64>,
}

/// What is posted to `/nodes/decommission`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodesToLeave {
    /// The nodes.
    pub nodes: Vec<u64>,
}

/// What is posted to `/groups/ID/move`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MoveOrder {
    /// The node that has the replica.
    pub from: u64,
    /// The node that is to have it.
    pub to: u64,
}

/// What is posted to `/groups/ID/transfer`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TransferOrder {
    /// The node that is to lead.
    pub to: u64,
}

/// Why something was not done: the code, and a sentence.
pub(crate) type Refusal = (StatusCode, String);

/// The pages.
pub(crate) fn pages() -> Pages<Admin> {
    Pages::new()
        .route("/nodes", get(nodes))
        .route("/nodes/decommission", post(decommission))
        .route("/nodes/{id}/{order}", post(order))
        .route("/groups", get(groups))
        .route("/groups/{id}", get(group))
        .route("/groups/{id}/move", post(move_replica))
        .route("/groups/{id}/cancel-move", post(cancel_move))
        .route("/groups/{id}/transfer", post(transfer))
        .route("/history", get(history))
        .route("/settings", get(settings).post(set_settings))
}

async fn nodes(State(admin): State<Admin>) -> Result<Json<NodesPage>, Refusal> {
    let router = router(&admin)?;
    let (table, leaders) = (router.table(), router.leaders().await);
    let mut replicas = BTreeMap::<NodeId, usize>::new();
    for (_, members) in groups_of(&table) {
        members.all().for_each(|node| *replicas.entry(node).or_default() += 1);
    }
    let here = router.node();
    let page = |(node, record): (NodeId, &logboat_router::NodeRecord)| NodePage {
        id: node.0,
        state: record.state.to_string(),
        is_reached: node == here.id() || here.reaches(node),
        zone: record.card.zone.clone(),
        peers: record.card.peers.clone(),
        clients: record.card.clients.clone(),
        admin: record.card.admin.clone(),
        version: record.card.version.clone(),
        replicas: replicas.get(&node).copied().unwrap_or_default(),
        leaders: leaders.values().filter(|leader| **leader == node).count(),
    };
    let nodes = table.nodes().map(page).collect();
    Ok(Json(NodesPage { version: table.version(), nodes }))
}

async fn groups(State(admin): State<Admin>) -> Result<Json<GroupsPage>, Refusal> {
    let router = router(&admin)?;
    let (table, leaders) = (router.table(), router.leaders().await);
    let full = full_nodes(router, &table).await;
    let page = |(group, members): (GroupId, &Members)| {
        group_page(&table, (&leaders, &full), group, members)
    };
    let groups = groups_of(&table).map(page).collect();
    Ok(Json(GroupsPage { version: table.version(), groups }))
}

async fn group(
    State(admin): State<Admin>,
    Path(id): Path<u64>,
) -> Result<Json<GroupPage>, Refusal> {
    let router = router(&admin)?;
    let (table, leaders) = (router.table(), router.leaders().await);
    let full = full_nodes(router, &table).await;
    match table.members(GroupId(id)) {
        Some(members) => Ok(Json(group_page(&table, (&leaders, &full), GroupId(id), members))),
        None => Err((StatusCode::NOT_FOUND, format!("there is no group {id}\n"))),
    }
}

async fn history(State(admin): State<Admin>) -> Result<Json<Vec<HistoryPage>>, Refusal> {
    let table = router(&admin)?.table();
    let page = |entry: &logboat_router::HistoryEntry| HistoryPage {
        version: entry.version,
        at_ms: entry.at_ms,
        what: entry.what.clone(),
        why: entry.why.clone(),
    };
    Ok(Json(table.history().map(page).collect()))
}

async fn settings(State(admin): State<Admin>) -> Result<Json<SettingsPage>, Refusal> {
    let table = router(&admin)?.table();
    let settings = table.settings();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(SettingsPage {
        lost_after_ms: settings.lost_after.map(millis),
        move_mib_per_s: Some(settings.move_mib_per_s),
    }))
}

async fn set_settings(
    State(admin): State<Admin>,
    Json(SettingsPage { lost_after_ms, move_mib_per_s }): Json<SettingsPage>,
) -> Result<(), Refusal> {
    if lost_after_ms == Some(0) || move_mib_per_s == Some(0) {
        return Err((StatusCode::BAD_REQUEST, "a setting can't be zero\n".to_owned()));
    }
    let router = router(&admin)?;
    let lost_after = lost_after_ms.map(Duration::from_millis);
    let given = GivenSettings { lost_after, move_mib_per_s };
    let settings = given.over(router.table().settings());
    router.set_settings(settings).await.map_err(refusal)
}

async fn decommission(
    State(admin): State<Admin>,
    Json(NodesToLeave { nodes }): Json<NodesToLeave>,
) -> Result<(), Refusal> {
    let nodes: Vec<_> = nodes.into_iter().map(NodeId).collect();
    router(&admin)?.decommission(&nodes).await.map_err(refusal)
}

async fn order(
    State(admin): State<Admin>,
    Path((id, order)): Path<(u64, String)>,
) -> Result<(), Refusal> {
    let (router, node) = (router(&admin)?, NodeId(id));
    let done = match &*order {
        "drain" => router.drain(node).await,
        "undrain" => router.undrain(node).await,
        "remove-lost" => router.remove_lost(node).await,
        _ => return Err((StatusCode::NOT_FOUND, format!("nodes are not told to {order}\n"))),
    };
    done.map_err(refusal)
}

async fn move_replica(
    State(admin): State<Admin>,
    Path(id): Path<u64>,
    Json(MoveOrder { from, to }): Json<MoveOrder>,
) -> Result<(), Refusal> {
    let moved = router(&admin)?.move_replica(GroupId(id), NodeId(from), NodeId(to)).await;
    moved.map_err(refusal)
}

async fn cancel_move(State(admin): State<Admin>, Path(id): Path<u64>) -> Result<(), Refusal> {
    router(&admin)?.cancel_move(GroupId(id)).await.map_err(refusal)
}

async fn transfer(
    State(admin): State<Admin>,
    Path(id): Path<u64>,
    Json(TransferOrder { to }): Json<TransferOrder>,
) -> Result<(), Refusal> {
    router(&admin)?.transfer(GroupId(id), NodeId(to)).await.map_err(refusal)
}

/// The cluster, once the node knows it.
pub(crate) fn router(admin: &Admin) -> Result<&Router, Refusal> {
    let not_yet = || (StatusCode::SERVICE_UNAVAILABLE, "the node knows no table yet\n".to_owned());
    admin.cluster().ok_or_else(not_yet)
}

/// What is answered for an error.
pub(crate) fn refusal(error: ClusterError) -> Refusal {
    let code = match error {
        ClusterError::Refused(_) => StatusCode::BAD_REQUEST,
        ClusterError::Conflict => StatusCode::CONFLICT,
        ClusterError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, format!("{error}\n"))
}

/// The nodes whose disks are full, if that matters to a move.
async fn full_nodes(router: &Router, table: &Table) -> BTreeSet<NodeId> {
    match table.wanted_moves().next() {
        Some(_) => router.full_nodes().await,
        None => BTreeSet::new(),
    }
}

/// All groups with their members, by id.
fn groups_of(table: &Table) -> impl Iterator<Item = (GroupId, &Members)> {
    let meta = table.meta().map(|members| (META_GROUP, members));
    let ranges = table.ranges().iter().map(|range| (range.group, &range.members));
    meta.into_iter().chain(ranges)
}

/// A key of a table of ranges, in hexadecimal digits.
pub(crate) fn hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn group_page(
    table: &Table,
    (leaders, full): (&BTreeMap<GroupId, NodeId>, &BTreeSet<NodeId>),
    group: GroupId,
    members: &Members,
) -> GroupPage {
    let start = table.range_of(group).map(|range| &range.start[..]).unwrap_or_default();
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    let wanted = table.wanted_move(group);
    let to = wanted.map(|wanted| wanted.to).filter(|to| full.contains(to));
    GroupPage {
        id: group.0,
        start: hex(start),
        leader: leaders.get(&group).map(|node| node.0),
        voters: ids(&members.voters),
        learners: ids(&members.learners),
        since: (members.entry.term.0, members.entry.index.0),
        moving: wanted.map(|wanted| (wanted.from.0, wanted.to.0)),
        waits: to.map(|to| format!("the disk of node {to} is full")),
    }
}
