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
            if inner.has_meta() {
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

    /// A node that this node reaches and that can tell the news: those with a replica of the meta
    /// group come first, and then all others.
    fn tells(&self, attempt: usize) -> Option<NodeId> {
        let table = self.feed.newest();
        let first: Vec<_> = table.meta().map(|meta| meta.all().collect()).unwrap_or_default();
        let others = self.node.members().into_iter().filter(|node| !first.contains(node));
        let reached = first.iter().copied().chain(others);
        let reached: Vec<_> =
            reached.filter(|node| *node != self.node.id() && self.node.reaches(*node)).collect();
        (!reached.is_empty()).then(|| reached[attempt % reached.len()])
    }
}
