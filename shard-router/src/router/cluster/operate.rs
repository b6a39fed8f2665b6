//! What a person does to the cluster, from any node of it.

use super::service::Report;
use crate::error::ClusterError;
use crate::map::META_GROUP;
use crate::router::{Inner, Router};
use crate::table::{Change, ClusterSettings, NodeState, Outcome, Table};
use logboat::{GroupId, NodeId, TransferError};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;
use tokio::time::timeout;

/// How long to wait for the table here to know of a change.
const SEEN_LIMIT: Duration = Duration::from_secs(2);

/// How long a transfer of leadership may take.
const TRANSFER_LIMIT: Duration = Duration::from_secs(10);

impl Router {
    /// Empties a node: its leaders go, then its replicas. It stays part of the cluster. Returns
    /// when the table says so; [`Self::held_by`] tells how far it is.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn drain(&self, node: NodeId) -> Result<(), ClusterError> {
        self.inner().set_state(node, NodeState::Draining, "somebody drains it").await
    }

    /// Takes back [`Self::drain`], or [`Self::decommission`] while the node is still there.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn undrain(&self, node: NodeId) -> Result<(), ClusterError> {
        self.inner().set_state(node, NodeState::Up, "somebody wants it back").await
    }

    /// Has nodes leave the cluster: they are emptied, and then forgotten. Returns when the table
    /// says that they leave.
    ///
    /// # Errors
    /// See [`ClusterError`]; none leaves if fewer nodes would stay than a group has replicas.
    pub async fn decommission(&self, nodes: &[NodeId]) -> Result<(), ClusterError> {
        let inner = self.inner();
        let table = inner.feed.newest();
        may_leave(&table, nodes)?;
        for node in nodes {
            inner.set_state(*node, NodeState::Leaving, "somebody decommissions it").await?;
        }
        Ok(())
    }

    /// Says that a node is gone for good: its replicas are replaced, and it never comes back under
    /// its id.
    ///
    /// # Errors
    /// See [`ClusterError`]; a node that is there is refused.
    pub async fn remove_lost(&self, node: NodeId) -> Result<(), ClusterError> {
        let here = self.node();
        if node == here.id() || here.reaches(node) {
            let reason = format!("node {node} is there: decommission it");
            return Err(ClusterError::Refused(reason));
        }
        self.inner().set_state(node, NodeState::Lost, "somebody gave it up for lost").await
    }

    /// Has a replica of a group move from one node to another. Returns when the table says so; the
    /// move is done when the group is without the one node and has the other.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn move_replica(
        &self,
        group: GroupId,
        from: NodeId,
        to: NodeId,
    ) -> Result<(), ClusterError> {
        if self.inner().reports().await.get(&to).is_some_and(|report| report.is_full) {
            return Err(ClusterError::Refused(format!("the disk of node {to} is full")));
        }
        let change = Change::WantMove { group, from, to };
        self.inner().change_and_see(change, "somebody moves it").await
    }

    /// Takes back [`Self::move_replica`]. What has been copied already goes again, if replicas are
    /// placed by themselves.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn cancel_move(&self, group: GroupId) -> Result<(), ClusterError> {
        if self.table().wanted_move(group).is_none() {
            return Err(ClusterError::Refused(format!("group {group} does not move")));
        }
        let change = Change::EndMove { group };
        self.inner().change_and_see(change, "somebody has cancelled the move").await
    }

    /// Has a group led by another of its voters.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn transfer(&self, group: GroupId, to: NodeId) -> Result<(), ClusterError> {
        let inner = self.inner();
        let table = inner.feed.newest();
        let refused = |reason: String| Err(ClusterError::Refused(reason));
        let Some(members) = table.members(group) else {
            return refused(format!("there is no group {group}"));
        };
        if !members.voters.contains(&to) {
            return refused(format!("node {to} holds no voter of group {group}"));
        }
        let Some(leader) = self.leaders().await.get(&group).copied() else {
            return refused(format!("group {group} has no leader that is reached from here"));
        };
        if leader == to {
            return Ok(());
        }
        let transfer = inner.node.transfer(leader, group, to);
        match timeout(TRANSFER_LIMIT, transfer).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(TransferError::NotTaken { node, leader })) => {
                refused(format!("node {node} did not take over: node {leader} leads"))
            }
            Ok(Err(error)) => refused(error.to_string()),
            Err(_) => refused("no answer in time".to_owned()),
        }
    }

    /// Says what is wanted of placement from now on.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn set_settings(&self, settings: ClusterSettings) -> Result<(), ClusterError> {
        let inner = self.inner();
        let based_on = inner.feed.newest().settings_changed();
        let change = Change::SetSettings { based_on, settings };
        inner.change_and_see(change, "somebody has set them").await
    }

    /// The leaders of all groups, as far as the nodes say that are reached from here.
    pub async fn leaders(&self) -> BTreeMap<GroupId, NodeId> {
        let reports = self.inner().reports().await.into_iter();
        let led = |(node, report): (NodeId, Report)| {
            report.led.into_iter().map(move |(group, _)| (GroupId(group), node))
        };
        reports.flat_map(led).collect()
    }

    /// Whether each group in which this node votes has a majority of sound voters elsewhere, on
    /// nodes that are reached from here. Then the node may stop, and give up what it has.
    pub async fn is_dispensable(&self) -> bool {
        let inner = self.inner();
        let (table, reports, me) = (inner.feed.newest(), inner.reports().await, inner.node.id());
        let ranges = table.ranges().iter().map(|range| (range.group, &range.members));
        let mut groups = ranges.chain(table.meta().map(|meta| (META_GROUP, meta)));
        groups.all(|(group, members)| {
            let is_sound = |node: &&NodeId| {
                let report = reports.get(node).filter(|_| **node != me);
                report.is_some_and(|report| !report.failed.contains(&group.0))
            };
            let sound = members.voters.iter().filter(is_sound).count();
            !members.voters.contains(&me) || sound > members.voters.len() / 2
        })
    }

    /// The nodes that say that their disks are full, of those that are reached from here. A move to
    /// one of them waits.
    pub async fn full_nodes(&self) -> BTreeSet<NodeId> {
        let reports = self.inner().reports().await.into_iter();
        reports.filter(|(_, report)| report.is_full).map(|(node, _)| node).collect()
    }

    /// How many replicas a node has by the table, that of the meta group included.
    #[must_use]
    pub fn held_by(&self, node: NodeId) -> usize {
        let table = self.table();
        let ranges = table.ranges().iter().map(|range| range.group);
        let groups = ranges.chain([META_GROUP]);
        let holds = |group: &GroupId| table.members(*group).is_some_and(|it| it.contains(node));
        groups.filter(holds).count()
    }

    /// Resolves when the cluster has given up this node, with what the table says. It has to give
    /// up its replicas then, and to come back as another node if it is to come back.
    pub fn expelled(&self) -> impl Future<Output = String> + Send + 'static {
        let (mut tables, me) = (self.tables(), self.node().id());
        let mut told = self.inner().expelled.subscribe();
        async move {
            loop {
                let table = tables.borrow_and_update().clone();
                let told_before = told.borrow_and_update().clone();
                if let Some(reason) = told_before.or_else(|| expulsion(&table, me)) {
                    return reason;
                }
                let ended = tokio::select! {
                    changed = tables.changed() => changed.is_err(),
                    changed = told.changed() => changed.is_err(),
                };
                if ended {
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// Why a node is not part of the cluster any more. One that was given up for lost, and is there
/// again, is part of it until no group has a replica there: until then a group may need it for its
/// majority.
#[must_use]
pub fn expulsion(table: &Table, node: NodeId) -> Option<String> {
    if table.has_left(node) {
        return Some(format!("node {node} has left the cluster"));
    }
    let is_lost = table.node(node).is_some_and(|record| record.state == NodeState::Lost);
    (is_lost && table.is_empty(node))
        .then(|| format!("the cluster has given up node {node} for lost"))
}

/// Like [`expulsion`], as a node is told that asks with the incarnation of its directory. Another
/// cluster may have the same name and the same ids, and must not talk a node out of its own. So
/// nothing is told to directories that this cluster does not know.
pub(super) fn standing(table: &Table, node: NodeId, incarnation: u64) -> Option<String> {
    let is_known = table.incarnation(node) == Some(incarnation);
    is_known.then(|| expulsion(table, node)).flatten()
}

/// Whether these nodes may be decommissioned: enough others stay.
///
/// # Errors
/// See [`ClusterError`].
pub fn may_leave(table: &Table, nodes: &[NodeId]) -> Result<(), ClusterError> {
    for node in nodes {
        known(table, *node)?;
    }
    let stays = |(node, state): (NodeId, NodeState)| {
        !nodes.contains(&node) && matches!(state, NodeState::Up | NodeState::Draining)
    };
    let states = table.nodes().map(|(node, record)| (node, record.state));
    let (left, replicas) = (states.filter(|it| stays(*it)).count(), table.replicas());
    if left < replicas.min(table.nodes().count()) {
        let reason = format!("{left} nodes would stay, and a group has {replicas} replicas");
        return Err(ClusterError::Refused(reason));
    }
    Ok(())
}

fn known(table: &Table, node: NodeId) -> Result<u64, ClusterError> {
    let record = table.node(node);
    record.map(|record| record.changed).ok_or_else(|| {
        ClusterError::Refused(match table.has_left(node) {
            true => format!("node {node} has left the cluster"),
            false => format!("there is no node {node}"),
        })
    })
}

impl Inner {
    async fn set_state(
        &self,
        node: NodeId,
        state: NodeState,
        why: &str,
    ) -> Result<(), ClusterError> {
        let based_on = known(&self.feed.newest(), node)?;
        let change = Change::SetState { node, based_on, state };
        self.change_and_see(change, why).await
    }

    /// Makes a change, and waits a little for the table here to know of it: whoever has asked for
    /// it may look next.
    async fn change_and_see(&self, change: Change, why: &str) -> Result<(), ClusterError> {
        let made = match self.change_table(change, why).await? {
            Outcome::Done { version, .. } | Outcome::Unchanged { version, .. } => version,
            Outcome::Conflict | Outcome::Refused(_) => return Err(ClusterError::Conflict),
        };
        let mut tables = self.feed.watch();
        let _ = timeout(SEEN_LIMIT, tables.wait_for(|table| table.version() >= made)).await;
        Ok(())
    }
}
