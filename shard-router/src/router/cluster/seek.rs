//! A node that has joined, and whose peers have all moved while it was down, looks for them anew
//! where a person said that nodes of the cluster are.

use super::join::{Joining, Unanswered};
use crate::map::META_GROUP;
use crate::router::Inner;
use logboat::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often to look whether the node is cut off.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long a node may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Looks for the others whenever the node is cut off, for as long as the router runs.
pub(super) async fn seek(inner: Arc<Inner>, joining: Joining) {
    let (node, drawn) = (&inner.node, inner.node.drawn_cluster());
    let question = joining.question(node.incarnation(), Some(node.id()), drawn);
    // One at a time: one that is cut off itself tells what is old.
    for asked in joining.nodes.iter().cycle() {
        loop {
            sleep(LOOK_INTERVAL).await;
            if inner.is_cut_off() {
                break;
            }
        }
        match timeout(ANSWER_LIMIT, joining.ask(asked, &question)).await {
            Ok(Ok(welcome)) => inner.meet(welcome.members),
            Ok(Err(Unanswered::Refused(reason))) => {
                tracing::error!("{asked} does not say where the other nodes are: {reason}");
            }
            Ok(Err(Unanswered::Failed(_))) | Err(_) => {}
        }
    }
}

impl Inner {
    /// Whether nobody can tell this node the table.
    fn is_cut_off(&self) -> bool {
        let hears_leader = |it: logboat::GroupHandle| it.view().leader().is_some();
        let table = self.feed.newest();
        let is_told = table.meta().is_none_or(|meta| meta.all().any(|it| self.node.reaches(it)));
        !is_told && !self.node.group(META_GROUP).is_some_and(hears_leader)
    }

    /// Dials nodes that are not reached at these addresses from now on. What the table says later
    /// counts for more.
    fn meet(&self, members: impl IntoIterator<Item = (u64, String)>) {
        let (table, dialled) = (self.feed.newest(), self.node.addresses());
        for (node, address) in members {
            let node = NodeId(node);
            let is_news = dialled.get(&node) != Some(&address) && !self.node.reaches(node);
            if node == self.node.id() || table.has_left(node) || !is_news {
                continue;
            }
            match self.node.add_peer(node, &address) {
                Ok(()) => tracing::info!("node {node} seems to be at {address} now"),
                Err(error) => tracing::error!("{error}"),
            }
        }
    }
}
