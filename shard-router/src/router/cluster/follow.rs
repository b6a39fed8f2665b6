//! A node without a replica of the meta group follows the table elsewhere.

use super::service::{Question, ask};
use crate::map::META_GROUP;
use crate::router::Inner;
use logboat::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often a node with a replica of the meta group looks whether it still has it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait after a node that did not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// Follows the table for as long as the router runs.
pub(super) async fn follow(inner: Arc<Inner>) {
    for attempt in 0.. {
        while inner.has_meta() {
            sleep(LOOK_INTERVAL).await;
        }
        while let Some(target) = inner.tells(attempt) {
            let since = inner.feed.newest().version();
            // The answer comes when there is something new, or after a while.
            match ask(&inner.node, target, &Question::Follow { since }).await {
                Ok(news) => inner.feed.take(since, news),
                Err(_) => break,
            }
            // One that has nothing new may be cut off, or follow this node.
            let is_newer = inner.feed.newest().version() > since;
            if !is_newer || inner.has_meta() {
                break;
            }
        }
        sleep(PAUSE).await;
    }
}

impl Inner {
    /// Whether a replica of the meta group runs here, and hears of its leader. One that does not
    /// may have been removed.
    fn has_meta(&self) -> bool {
        let meta = self.node.group(META_GROUP);
        meta.is_some_and(|meta| meta.view().failure().is_none() && meta.view().leader().is_some())
    }

    /// A node that this node reaches and that can tell the news.
    fn tells(&self, attempt: usize) -> Option<NodeId> {
        let table = self.feed.newest();
        let meta: Vec<_> = table.meta().map(|meta| meta.all().collect()).unwrap_or_default();
        let members = self.node.members().into_iter();
        let reached = members.filter(|node| *node != self.node.id() && self.node.reaches(*node));
        in_turn(&meta, &reached.collect::<Vec<_>>(), attempt)
    }
}

/// Whom to follow at an attempt, of the nodes that are reached: those with a replica of the meta
/// group in turn, as long as one of them is reached, else all others.
fn in_turn(meta: &[NodeId], reached: &[NodeId], attempt: usize) -> Option<NodeId> {
    let first: Vec<_> = reached.iter().copied().filter(|node| meta.contains(node)).collect();
    let from = if first.is_empty() { reached } else { &first };
    from.get(attempt % from.len().max(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_with_the_table_are_followed_as_long_as_one_is_reached() {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let (meta, all) = (nodes(&[1, 2, 3]), nodes(&[2, 3, 4, 5]));
        let followed = |reached: &[NodeId]| -> Vec<u64> {
            (0..40).filter_map(|attempt| in_turn(&meta, reached, attempt)).map(|it| it.0).collect()
        };
        assert!(followed(&all).iter().all(|node| [2, 3].contains(node)));
        // Where none is, each has its turn, so that nobody follows one that follows back for ever.
        let others = nodes(&[4, 5, 6]);
        for node in &others {
            assert_eq!(followed(&others).iter().filter(|it| **it == node.0).count() / 13, 1);
        }
        assert!(followed(&[]).is_empty());
    }
}
