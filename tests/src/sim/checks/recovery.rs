//! What a start would find after a power cut.

use super::Checks;
use crate::sim::disk::FoundSnapshot;
use crate::sim::process::group_id;
use logboat_raft::{LogId, ReplicaId, Restored};
use logboat_storage::Recovered;

impl Checks {
    /// If the power of a node went now, a restart would find this on its disk, and for each group
    /// go on from what `agree` makes of it, of the group's snapshot, and of its state on disk. It
    /// returns the snapshot, what the state holds, whether the log had to follow the snapshot, and
    /// the log.
    pub(in crate::sim) fn would_recover(
        &self,
        node: usize,
        found: &Recovered,
        tombstone: impl Fn(usize) -> Option<ReplicaId>,
        mut agree: impl FnMut(usize, Restored) -> (Option<FoundSnapshot>, LogId, bool, Restored),
    ) {
        self.finds_grants(node, &found.grants);
        for (number, group) in self.groups.iter().enumerate() {
            if group.hosts.contains(&node) {
                let restored = found.groups.get(&group_id(number)).cloned().unwrap_or_default();
                let mut model = group.replicas[node].model.clone();
                model.recovered(&restored, tombstone(number));
                let (snapshot, state_holds, follows, agreed) = agree(number, restored);
                let meta = snapshot.map(|(meta, _)| meta);
                let last = meta.as_ref().map(|meta| meta.last).unwrap_or_default();
                let is_ahead = state_holds.index > last.index;
                model.snapshot_found(if is_ahead { state_holds } else { last });
                model.reconciled(meta.as_ref().filter(|_| follows), &agreed);
            }
        }
    }
}
