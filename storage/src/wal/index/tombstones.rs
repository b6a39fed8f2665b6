//! The tombstones: for each group of which a replica was here and none is, the smallest id that one
//! may still have. There can be a million of them, so an entry takes no more than it must.

use super::accounts::{Accounts, POINT_BYTES};
use logboat_raft::{GroupId, ReplicaId};
use std::collections::BTreeMap;

/// The tombstones of groups that have no replica here. A later replica takes the place of its
/// group's: that its log is here says more.
#[derive(Debug, Default)]
pub(super) struct Tombstones(BTreeMap<GroupId, Tombstone>);

#[derive(Clone, Copy, Debug)]
struct Tombstone {
    floor: ReplicaId,
    /// The segment of the record that holds it.
    segment: u32,
    /// Whether the replica was given up, and not removed.
    lost: bool,
}

impl Tombstones {
    /// The smallest id that a replica of the group may have.
    pub(super) fn floor(&self, group: GroupId) -> Option<ReplicaId> {
        self.0.get(&group).map(|tombstone| tombstone.floor)
    }

    /// A record in `segment` says that `floor` is the smallest id, and whether the replica before
    /// it is `lost`. The id only ever grows.
    pub(super) fn raise(
        &mut self,
        group: GroupId,
        (floor, lost): (ReplicaId, bool),
        segment: u32,
        accounts: &mut Accounts,
    ) {
        let known = self.0.entry(group).or_insert(Tombstone { floor, segment: 0, lost });
        if floor >= known.floor {
            accounts.release(known.segment, POINT_BYTES);
            accounts.pin(segment, POINT_BYTES);
            *known = Tombstone { floor, segment, lost };
        }
    }

    /// Whether the replica of the group was given up, and not removed since.
    pub(super) fn is_lost(&self, group: GroupId) -> bool {
        self.0.get(&group).is_some_and(|tombstone| tombstone.lost)
    }

    /// The groups whose replicas were given up, and not removed since.
    pub(super) fn lost(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.0.iter().filter(|(_, tombstone)| tombstone.lost).map(|(group, _)| *group)
    }

    /// A replica with this id lives. Returns whether it may.
    pub(super) fn admit(
        &mut self,
        group: GroupId,
        replica: ReplicaId,
        accounts: &mut Accounts,
    ) -> bool {
        let Some(tombstone) = self.0.get(&group) else { return true };
        let may = replica >= tombstone.floor;
        if may {
            accounts.release(tombstone.segment, POINT_BYTES);
            self.0.remove(&group);
        }
        may
    }

    /// The tombstone of a group, if its record lies in this segment, and whether it is of a replica
    /// that was given up.
    pub(super) fn floor_in(&self, group: GroupId, segment: u32) -> Option<(ReplicaId, bool)> {
        let within = self.0.get(&group).filter(|tombstone| tombstone.segment == segment);
        within.map(|tombstone| (tombstone.floor, tombstone.lost))
    }

    /// All of them, by group.
    pub(super) fn iter(&self) -> impl Iterator<Item = (GroupId, ReplicaId)> + '_ {
        self.0.iter().map(|(group, tombstone)| (*group, tombstone.floor))
    }

    /// The groups whose records lie in this segment.
    pub(super) fn groups_in(&self, segment: u32) -> impl Iterator<Item = GroupId> + '_ {
        let within = self.0.iter().filter(move |(_, tombstone)| tombstone.segment == segment);
        within.map(|(group, _)| *group)
    }
}
