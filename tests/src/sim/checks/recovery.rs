//! What a start would find after a power cut.

use super::Checks;
use crate::sim::disk::FoundSnapshot;
use crate::sim::process::group_id;
use logboat_raft::{ReplicaId, Restored};
use logboat_storage::Recovered;

impl Checks {
    /// If the power of a node went now, a restart would find this on its disk, and for each group
    /// go on from what `agree` makes of it and of the group's snapshot.
    pub(in crate::sim) fn would_recover(
        &self,
        node: usize,
        found: &Recovered,
        tombstone: impl Fn(usize) -> Option<ReplicaId>,
        mut agree: impl FnMut(usize, Restored) -> (Option<FoundSnapshot>, Restored),
    ) {
        self.finds_grants(node, &found.grants);
        for (number, group) in self.groups.iter().enumerate() {
            if group.hosts.contains(&node) {
                let restored = found.groups.get(&group_id(number)).cloned().unwrap_or_default();
                let mut model = group.replicas[node].model.clone();
                model.recovered(&restored, tombstone(number));
                let (snapshot, agreed) = agree(number, restored);
                let meta = snapshot.map(|(meta, _)| meta);
                model.snapshot_found(meta.as_ref().map(|meta| meta.last).unwrap_or_default());
                model.reconciled(meta.as_ref(), &agreed);
            }
        }
    }
}
