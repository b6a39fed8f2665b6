//! A node that nobody lets in asks whether it is still part of the cluster.
//!
//! Nodes that have left, or were lost and have been replaced, are peers of nobody any more, so the
//! table does not reach them. Whoever has one of their addresses may be a node of another cluster.
//! So the question bears the incarnation of the directory, and only a cluster that knows it
//! answers. Ids are never given again, so an answer never becomes wrong.

use super::operate;
use super::service::{Question, encode};
use crate::router::Inner;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often a node looks whether it reaches anybody.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// At so many looks in a row it must have reached nobody.
const PATIENCE: u32 = 3;

/// Asks whenever nobody is reached, for as long as the router runs.
pub(super) async fn watch(inner: Arc<Inner>) {
    let mut alone = 0;
    while inner.expelled.borrow().is_none() {
        sleep(LOOK_INTERVAL).await;
        alone = if inner.reaches_anybody() { 0 } else { alone + 1 };
        if alone >= PATIENCE
            && let Some(reason) = inner.ask_for_expulsion().await
        {
            inner.expelled.send_replace(Some(reason));
        }
    }
}

impl Inner {
    fn reaches_anybody(&self) -> bool {
        let members = self.node.members();
        members.len() == 1 || members.iter().any(|node| self.node.reaches(*node))
    }

    /// Why this node is not part of the cluster any more, if another node says so.
    async fn ask_for_expulsion(&self) -> Option<String> {
        let me = self.node.id();
        let incarnation = self.node.incarnation().0;
        let question = encode(&Question::Standing { node: me.0, incarnation });
        let visit = self.node.visit();
        for (_, address) in self.node.addresses().into_iter().filter(|(node, _)| *node != me) {
            let answer = visit.ask(&address, &question).await.ok();
            let reason = answer.and_then(|answer| serde_json::from_slice(&answer).ok());
            if let Some(Some(reason)) = reason {
                return Some(reason);
            }
        }
        None
    }

    /// Why a node is not part of the cluster any more, by the table that is known here.
    pub(super) fn standing(&self, node: u64, incarnation: u64) -> Option<String> {
        operate::standing(&self.feed.newest(), logboat::NodeId(node), incarnation)
    }
}
