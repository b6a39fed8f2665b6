//! What is known here first gets into the table: the members of the groups that lead here, and
//! where this node is.

use super::RETRY;
use crate::error::ClusterError;
use crate::router::Inner;
use crate::table::{Change, Members, NodeCard};
use logboat::{GroupId, NodeEvent, NodeId, RoleKind};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// The most groups whose members get into the table by one command.
const MOST_AT_ONCE: usize = 256;

/// What happens within this time gets into the table together.
const TOGETHER: Duration = Duration::from_millis(10);

/// Keeps the members of the groups that lead here in the table, for as long as the router runs.
pub(super) async fn keep(inner: Arc<Inner>) {
    let me = inner.node.id();
    let mut events = inner.node.events();
    let mut waiting: BTreeSet<_> = inner.node.groups().into_iter().collect();
    loop {
        waiting = inner.publish_members(waiting).await;
        let event = if waiting.is_empty() {
            events.next().await
        } else {
            match timeout(RETRY, events.next()).await {
                Ok(event) => event,
                Err(_) => continue,
            }
        };
        // The node has ended, if there is none.
        let Some(event) = event else { return };
        waiting.extend(inner.concerned(me, event));
        let end = Instant::now() + TOGETHER;
        while let Ok(Some(event)) = timeout_at(end, events.next()).await {
            waiting.extend(inner.concerned(me, event));
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

    /// Has the table know the members of these groups, for all that can be told here. Returns those
    /// that are to be tried again.
    async fn publish_members(&self, groups: BTreeSet<GroupId>) -> BTreeSet<GroupId> {
        let table = self.feed.newest();
        let (mut news, mut uncommitted) = (Vec::new(), BTreeSet::new());
        for group in groups {
            let Some(replica) = self.node.group(group) else { continue };
            let view = replica.view();
            // In this order: what the leader has committed of its log is never another entry again.
            let membership = view.membership();
            let is_committed = view.commit().0 >= membership.entry().index.0;
            let is_news =
                table.members(group).is_some_and(|known| membership.entry() > known.entry);
            if view.role() != RoleKind::Leader || membership.is_joint() || !is_news {
                continue;
            } else if is_committed {
                news.push((group.0, Members::of(&membership)));
            } else {
                uncommitted.insert(group);
            }
        }
        for groups in news.chunks(MOST_AT_ONCE) {
            let change = Change::Members { groups: groups.to_vec() };
            // The history tells why when it tells of the steps that led there.
            match self.change_table(change, "").await {
                Ok(_) => {}
                Err(ClusterError::Refused(reason)) => {
                    tracing::error!("the table does not take the members of groups: {reason}");
                }
                Err(_) => uncommitted.extend(groups.iter().map(|(group, _)| GroupId(*group))),
            }
        }
        uncommitted
    }
}
