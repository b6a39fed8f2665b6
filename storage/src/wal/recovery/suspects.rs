//! The groups that lost records which can't be read, so that nobody knows what these said: votes,
//! entries, a tombstone. Their replicas are given up, unless a tombstone has followed.

use super::lost::Lost;
use crate::wal::error::Damage;
use crate::wal::format::{Change, Effect, Record};
use crate::wal::index::LogIndex;
use logboat_raft::{GroupId, ReplicaId};
use std::collections::BTreeMap;
use std::path::Path;

/// The groups that lost records, as recovery finds them from the oldest on.
#[derive(Debug, Default)]
pub(super) struct Suspects(BTreeMap<GroupId, Suspect>);

#[derive(Debug)]
struct Suspect {
    damage: Damage,
    /// No replica before this one may live: those before it may have said something that is lost.
    floor: ReplicaId,
    /// Whether a tombstone followed. What comes after it is of another replica, and all there.
    is_buried: bool,
}

impl Suspects {
    /// A stretch of this file is lost.
    pub(super) fn lost(&mut self, file: &Path, lost: &Lost) {
        for named in &lost.groups {
            let (offset, groups) = (lost.stretch.start, vec![named.group]);
            let damage = Damage { file: file.to_owned(), offset, what: lost.what.clone(), groups };
            let floor = named.floor.unwrap_or(ReplicaId::FOUNDER.next());
            let suspect = self.0.entry(named.group);
            let suspect = suspect.or_insert(Suspect { damage, floor, is_buried: false });
            suspect.floor = suspect.floor.max(floor);
            suspect.is_buried = false;
        }
    }

    /// A record follows.
    pub(super) fn follow(&mut self, record: &Record) {
        if self.0.is_empty() {
            return;
        }
        if let Effect::Group(group, Change::Tombstone { .. }) = record.effect
            && let Some(suspect) = self.0.get_mut(&group)
        {
            suspect.is_buried = true;
        }
    }

    /// Those whose replicas are given up, and those of which that is still known.
    pub(super) fn damaged(&self, index: &LogIndex) -> impl Iterator<Item = (GroupId, &Damage)> {
        let is_gone =
            |group: &GroupId, suspect: &Suspect| !suspect.is_buried || index.is_lost(*group);
        let gone = self.0.iter().filter(move |(group, suspect)| is_gone(group, suspect));
        gone.map(|(group, suspect)| (*group, &suspect.damage))
    }

    /// The smallest id that a replica may have, if a replica of the group has to be given up yet.
    pub(super) fn floor(&self, group: GroupId) -> Option<ReplicaId> {
        let suspect = self.0.get(&group).filter(|suspect| !suspect.is_buried);
        suspect.map(|suspect| suspect.floor)
    }
}
