//! The configurations that a group has had, and until when each of them could count.

use super::{Checks, GroupChecks, place_of};
use logboat_raft::{Configuration, LogId, Member, NodeId, ReplicaAddress, ReplicaId, Term};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Members {
    /// The newest one that a leader called committed.
    committed: Arc<Configuration>,
    /// All that any replica has had.
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    configuration: Arc<Configuration>,
    /// When a later one was committed, in microseconds.
    over_us: Option<u64>,
}

impl Checks {
    /// The former replicas on other nodes in whose place a replica knows another one.
    pub(in crate::sim) fn formers(&self, group: usize, place: usize) -> Vec<(NodeId, ReplicaId)> {
        let GroupChecks { replicas, .. } = &self.groups[group];
        let view = &replicas[place].model.view;
        let Some(configuration) = view.configuration_at(view.last().index) else {
            return Vec::new();
        };
        let others = configuration.members().iter().filter(|it| place_of(it.node) != place);
        let former = |member: &Member| {
            let former = replicas[place_of(member.node)].model.former?;
            (former < member.replica).then_some((member.node, former))
        };
        others.filter_map(former).collect()
    }
}

impl Checks {
    /// Which replica the disk of a node says that it holds.
    pub(in crate::sim) fn replica_on(&self, group: usize, place: usize) -> ReplicaId {
        self.groups[group].replicas[place].model.durable.hard_state.replica
    }

    /// A replica is destroyed: its group is without it for good. Either that is committed, or the
    /// entry that added the replica can't be any more.
    ///
    /// # Panics
    /// When that is not so.
    pub(in crate::sim) fn destroyed(&self, group: usize, address: ReplicaAddress) {
        let committed = &self.groups[group].committed;
        let LogId { term, index } = address.replica.0;
        let newest = committed.last().map_or(Term(0), |(newest, _)| *newest);
        let there = committed.get(index.0 as usize - 1).map(|(there, _)| *there);
        let is_lost = there.map_or(newest > term, |there| there != term);
        assert!(
            (is_lost && address.replica != ReplicaId::FOUNDER) || self.is_gone(group, address),
            "{address:?} is destroyed, and may be a member yet"
        );
    }

    /// Whether a group is without a replica for good, by what is committed.
    pub(in crate::sim) fn is_gone(&self, group: usize, address: ReplicaAddress) -> bool {
        self.groups[group].members.committed().floor_without(address).is_some()
    }
}

impl Members {
    pub(super) fn new(founding: Configuration) -> Self {
        let founding = Arc::new(founding);
        let known = vec![Known { configuration: Arc::clone(&founding), over_us: None }];
        Self { committed: founding, known }
    }

    /// The newest configuration that is committed.
    pub(super) const fn committed(&self) -> &Arc<Configuration> {
        &self.committed
    }

    /// The configuration that an entry holds, if any replica has had it.
    pub(super) fn known(&self, id: LogId) -> Option<&Arc<Configuration>> {
        let known = self.known.iter().find(|known| known.configuration.id() == id);
        known.map(|known| &known.configuration)
    }

    /// A replica appends a configuration.
    pub(super) fn appended(&mut self, configuration: Configuration) {
        if self.known.iter().all(|known| known.configuration.id() != configuration.id()) {
            let configuration = Arc::new(configuration);
            self.known.push(Known { configuration, over_us: None });
        }
    }

    /// This entry is committed, and with it the configuration that it holds, if any.
    pub(super) fn committed_entry(&mut self, id: LogId, now_us: u64) {
        let Some(at) = self.known.iter().position(|known| known.configuration.id() == id) else {
            return;
        };
        self.committed = Arc::clone(&self.known[at].configuration);
        for known in &mut self.known {
            if known.configuration.id().index < id.index {
                known.over_us.get_or_insert(now_us);
            }
        }
    }

    /// Whether those that `holds` is true for are a majority of each half of a configuration that
    /// could count after `since_us`.
    pub(super) fn had_quorum(&self, since_us: u64, holds: impl Fn(NodeId) -> bool) -> bool {
        let counted = |known: &&Known| known.over_us.is_none_or(|over| over >= since_us);
        self.known.iter().filter(counted).any(|known| known.configuration.is_quorum(&holds))
    }
}
