//! How fast copies of groups travel. Placement says how many bytes of them begin to move in a
//! second; the node keeps to the same rate while they do.

use crate::router::Inner;
use std::sync::Arc;

/// What has begun to move gets on at this rate at least, however little may begin: what takes too
/// long is given up. So does a follower that needs a snapshot.
const LEAST_MIB_PER_S: u64 = 16;

/// Has the node go by the settings of the cluster, for as long as the router runs.
pub(super) async fn keep(inner: Arc<Inner>) {
    let mut tables = inner.feed.watch();
    loop {
        let mib_per_s = tables.borrow_and_update().settings().move_mib_per_s;
        let mib_per_s = mib_per_s.max(LEAST_MIB_PER_S);
        inner.node.pace_snapshots(mib_per_s.saturating_mul(1 << 20));
        if tables.changed().await.is_err() {
            return;
        }
    }
}
