//! The groups with a replica on this node, as the inbound traffic needs to know them.

use logboat_raft::GroupId;
use parking_lot::RwLock;
use rustc_hash::FxHashSet;

/// The groups with a replica on this node.
#[derive(Default)]
pub(crate) struct HostedGroups(RwLock<FxHashSet<GroupId>>);

impl HostedGroups {
    /// A replica of `group` is about to run here.
    pub(crate) fn add(&self, group: GroupId) {
        self.0.write().insert(group);
    }

    /// Whether a replica of `group` runs here.
    pub(crate) fn contains(&self, group: GroupId) -> bool {
        self.0.read().contains(&group)
    }
}
