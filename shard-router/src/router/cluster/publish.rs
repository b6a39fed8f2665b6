//! What is known here first gets into the table: the members of the groups that lead here, and
//! where this node is.

use super::RETRY;
use crate::error::ClusterError;
use crate::map::META_GROUP;
use crate::router::Inner;
use crate::table::{Change, Members, NodeCard};
use logboat::{GroupId, NodeEvent, NodeId, RoleKind};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::time::{sleep, timeout};

/// Keeps the members of the groups that lead here in the table, for as long as the router runs.
pub(super) async fn keep(inner: Arc<Inner>) {
    let me = inner.node.id();
    let mut events = inner.node.events();
    let mut waiting: BTreeSet<_> = inner.node.groups().into_iter().collect();
    loop {
        let mut unpublished = BTreeSet::new();
        for group in waiting {
            if !inner.publish_members(group).await {
                unpublished.insert(group);
            }
        }
        waiting = unpublished;
        let event = if waiting.is_empty() {
            events.next().await
        } else {
            match timeout(RETRY, events.next()).await {
                Ok(event) => event,
                Err(_) => continue,
            }
        };
        match event {
            Some(event) => waiting.extend(inner.concerned(me, event)),
            // The node has ended.
            None => return,
        }
    }
}

/// Has the others know where this node is. Tries until it has succeeded, or makes no sense.
pub(super) async fn announce(inner: Arc<Inner>, card: NodeCard) {
    let node = inner.node.id();
    let incarnation = inner.node.incarnation().0;
    loop {
        let table = inner.feed.newest();
        let is_known = table.node(node).is_some_and(|record| {
            record.incarnation == Some(incarnation)
                && record.card == card
                && record.state != crate::table::NodeState::Joining
        });
        if is_known {
            return;
        }
        let change = Change::Announce { node, incarnation, card: card.clone() };
        match inner.change_table(change, "it has started").await {
            Ok(_) => return,
            Err(ClusterError::Refused(reason)) => {
                return tracing::error!("the cluster does not take this node: {reason}");
            }
            Err(_) => sleep(RETRY).await,
        }
    }
}

impl Inner {
    /// The groups whose members may have to get into the table, by an event here.
    fn concerned(&self, me: NodeId, event: NodeEvent) -> Vec<GroupId> {
        match event {
            NodeEvent::LeaderChanged { group, leader, .. } if leader == Some(me) => vec![group],
            NodeEvent::MembersChanged { group, is_committed: true, .. } => vec![group],
            NodeEvent::Missed { .. } => self.node.groups(),
            _ => Vec::new(),
        }
    }

    /// Returns whether the table has the members of a group, for all that can be told here.
    async fn publish_members(&self, group: GroupId) -> bool {
        let Some(replica) = self.node.group(group) else { return true };
        let view = replica.view();
        // In this order: what the leader has committed of its log is never another entry again.
        let membership = view.membership();
        let is_committed = view.commit().0 >= membership.entry().index.0;
        if view.role() != RoleKind::Leader || membership.is_joint() {
            return true;
        } else if !is_committed {
            return false;
        }
        let table = self.feed.newest();
        let Some(known) = table.members(group) else { return true };
        if membership.entry() <= known.entry {
            return true;
        }
        let members = Members::of(&membership);
        // The history tells why when it tells of the steps that led there.
        let changed = self.change_table(Change::Members { group, members }, "").await;
        match changed {
            Ok(_) => true,
            Err(ClusterError::Refused(reason)) => {
                let what = if group == META_GROUP { "meta group" } else { "group" };
                tracing::error!("the table does not take the members of {what} {group}: {reason}");
                true
            }
            Err(_) => false,
        }
    }
}
