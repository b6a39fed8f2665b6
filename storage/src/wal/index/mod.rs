//! The log's index in memory. It has the record of each entry, the latest grant to each peer, and
//! how much of each segment is needed.

use crate::wal::format::{Change, Effect};
use accounts::POINT_BYTES;
use logboat_raft::{Configuration, Grant, GroupId, LogId, LogPosition, NodeId, ReplicaId};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tombstones::Tombstones;

mod accounts;
mod group_log;
mod later;
mod packed_state;
mod runs;
mod tombstones;

pub(crate) use accounts::Accounts;
pub(crate) use group_log::{GroupLog, Piece};
pub(crate) use runs::MAX_ENTRIES;

const SHARDS: usize = 64;

/// What the node granted a peer last.
#[derive(Clone, Copy, Debug, Default)]
struct Granted {
    grant: Grant,
    /// The segment of the record that holds it; zero when there is none.
    segment: u32,
}

/// The index of all groups and grants. The log's own thread changes it, any thread reads it.
#[derive(Debug)]
pub(crate) struct LogIndex {
    shards: Vec<RwLock<FxHashMap<GroupId, GroupLog>>>,
    grants: RwLock<BTreeMap<NodeId, Granted>>,
    tombstones: RwLock<Tombstones>,
    /// Founding configurations, each once however many groups have it.
    founding: Mutex<BTreeSet<Arc<Configuration>>>,
}

impl LogIndex {
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self {
            shards,
            grants: RwLock::default(),
            tombstones: RwLock::default(),
            founding: Mutex::default(),
        }
    }

    /// Follows one record, `bytes` long, at `place`. Returns whether it counts: not if it comes
    /// after a tombstone, and before any that says that a later replica lives.
    pub(crate) fn apply(
        &self,
        effect: Effect,
        place: LogPosition,
        bytes: u32,
        accounts: &mut Accounts,
    ) -> bool {
        match effect {
            Effect::Group(group, Change::Tombstone { floor, lost }) => {
                let gone = self.shard(group).write().remove(&group);
                if let Some(log) = gone {
                    log.release(accounts);
                }
                self.tombstones.write().raise(group, (floor, lost), place.segment, accounts);
            }
            Effect::Group(group, change) => {
                let change = self.shared(change);
                let mut shard = self.shard(group).write();
                let log = match shard.entry(group) {
                    Entry::Occupied(log) => log.into_mut(),
                    // The first that a replica writes after another is which one it is.
                    Entry::Vacant(log) if self.may_live(group, &change, accounts) => {
                        log.insert(GroupLog::default())
                    }
                    Entry::Vacant(_) => return false,
                };
                log.apply(change, place, bytes, accounts);
            }
            Effect::Grant(peer, grant) => {
                let mut grants = self.grants.write();
                let granted = grants.entry(peer).or_default();
                accounts.release(granted.segment, POINT_BYTES);
                accounts.pin(place.segment, POINT_BYTES);
                *granted = Granted { grant, segment: place.segment };
            }
        }
        true
    }

    /// Looks at a group; one that was never written is empty.
    pub(crate) fn with<T>(&self, group: GroupId, look: impl FnOnce(&GroupLog) -> T) -> T {
        match self.shard(group).read().get(&group) {
            Some(log) => look(log),
            None => look(&GroupLog::default()),
        }
    }

    /// Looks at a group, if anything was written of it that counts.
    pub(crate) fn get<T>(&self, group: GroupId, look: impl FnOnce(&GroupLog) -> T) -> Option<T> {
        self.shard(group).read().get(&group).map(look)
    }

    /// The smallest id that a replica of the group may have, if one is gone from here and no other
    /// took its place.
    pub(crate) fn tombstone(&self, group: GroupId) -> Option<ReplicaId> {
        self.tombstones.read().floor(group)
    }

    /// Whether that one was given up, since data of it were damaged, and not removed since.
    pub(crate) fn is_lost(&self, group: GroupId) -> bool {
        self.tombstones.read().is_lost(group)
    }

    /// The groups of which that is so.
    pub(crate) fn lost(&self) -> Vec<GroupId> {
        self.tombstones.read().lost().collect()
    }

    /// The tombstone of a group, if the record that says so lies in this segment, and whether it is
    /// of a replica that was given up.
    pub(crate) fn tombstone_in(&self, group: GroupId, segment: u32) -> Option<(ReplicaId, bool)> {
        self.tombstones.read().floor_in(group, segment)
    }

    /// All tombstones.
    pub(crate) fn tombstones(&self) -> BTreeMap<GroupId, ReplicaId> {
        self.tombstones.read().iter().collect()
    }

    /// The groups whose tombstones lie in this segment.
    pub(crate) fn buried_in(&self, segment: u32) -> Vec<GroupId> {
        self.tombstones.read().groups_in(segment).collect()
    }

    /// Looks at every group, in no order.
    pub(crate) fn each(&self, mut look: impl FnMut(GroupId, &GroupLog)) {
        for shard in &self.shards {
            for (group, log) in &*shard.read() {
                look(*group, log);
            }
        }
    }

    /// What the node granted each peer last.
    pub(crate) fn grants(&self) -> BTreeMap<NodeId, Grant> {
        let grants = self.grants.read();
        grants.iter().map(|(peer, granted)| (*peer, granted.grant)).collect()
    }

    /// Those of the grants whose records lie in this segment.
    pub(crate) fn grants_in(&self, segment: u32) -> Vec<(NodeId, Grant)> {
        let grants = self.grants.read();
        let within = grants.iter().filter(|(_, granted)| granted.segment == segment);
        within.map(|(peer, granted)| (*peer, granted.grant)).collect()
    }

    /// Whether a replica of which the index has nothing may write this.
    fn may_live(&self, group: GroupId, change: &Change, accounts: &mut Accounts) -> bool {
        let mut tombstones = self.tombstones.write();
        match change {
            Change::HardState(state) => tombstones.admit(group, state.replica, accounts),
            _ => tombstones.floor(group).is_none(),
        }
    }

    /// A change with the founding configuration that all groups share which have it.
    fn shared(&self, mut change: Change) -> Change {
        let configuration = match &mut change {
            Change::Founding(founding) => founding,
            Change::Compact(meta) | Change::Reset(meta) => &mut meta.configuration,
            Change::HardState(_)
            | Change::Append { .. }
            | Change::Rewrite { .. }
            | Change::Tombstone { .. } => return change,
        };
        if configuration.id() == LogId::default() {
            let mut known = self.founding.lock();
            match known.get(&**configuration) {
                Some(shared) => *configuration = Arc::clone(shared),
                None => {
                    known.insert(Arc::clone(configuration));
                }
            }
        }
        change
    }

    fn shard(&self, group: GroupId) -> &RwLock<FxHashMap<GroupId, GroupLog>> {
        &self.shards[group.0 as usize % SHARDS]
    }
}
