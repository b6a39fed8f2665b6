//! What no log says, though every checksum fits: an entry is missing in the middle of a group, its
//! terms go back, or records follow its tombstone and none says which replica wrote them. The log
//! refuses to write such things, so other records are missing, and nothing tells which.
//!
//! That is not one replica's matter. What is missing may say which replica of the group was here
//! last: a tombstone, and the hard state of the next one. So what is left of an earlier one can't
//! be believed, nor can its configurations. A replica under an id that comes of them might be
//! called by the very id under which something was promised, and vote again. And what is missing
//! may be a vote of a group that shows no hole at all. So the log is refused like one with damage
//! that can't be pinned, and the node comes back as another one.

use crate::wal::error::Damage;
use crate::wal::format::{Change, Effect, Record};
use logboat_raft::{GroupId, Index, LogPosition};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The records that follow the tombstone of their group, and of which none says which replica wrote
/// them: the first of each group.
#[derive(Debug, Default)]
pub(crate) struct Strays(BTreeMap<GroupId, LogPosition>);

impl Strays {
    /// A record follows. After a later tombstone, none that wrote something before may live.
    pub(crate) fn follow(&mut self, record: &Record) {
        if let Effect::Group(group, Change::Tombstone { .. }) = record.effect {
            self.0.remove(&group);
        }
    }

    /// The record of this group at `place` is one.
    pub(crate) fn add(&mut self, group: GroupId, place: LogPosition) {
        self.0.entry(group).or_insert(place);
    }

    /// What that says of the log, whose segments have these files.
    pub(crate) fn damage(&self, file: impl Fn(u32) -> PathBuf) -> Vec<Damage> {
        let damage = self.0.iter().map(|(group, place)| Damage {
            file: file(place.segment),
            offset: u64::from(place.offset),
            what: "a replica wrote this behind a tombstone, and which one is nowhere in the log"
                .to_owned(),
            groups: vec![*group],
        });
        damage.collect()
    }
}

/// What is wrong with a group that should have this entry.
pub(crate) fn gap(index: Index) -> String {
    format!("entry {index} of the group is nowhere in it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::disk::SimDisk;
    use crate::wal::error::WalError;
    use crate::wal::format::Encoder;
    use crate::wal::options::WalOptions;
    use crate::wal::recovery::{Recovered, recover};
    use bytes::Bytes;
    use logboat_raft::{Entry, EntryKind, HardState, LogId, ReplicaId, Term};

    const GROUP: GroupId = GroupId(1);

    fn id(index: u64) -> ReplicaId {
        ReplicaId(LogId::new(Term(1), Index(index)))
    }

    fn lives(encoder: &mut Encoder, replica: ReplicaId) {
        encoder.hard_state(GROUP, HardState { term: Term(2), replica, ..HardState::default() });
    }

    fn entries(encoder: &mut Encoder, first: u64) {
        let id = |index| LogId::new(Term(2), Index(index));
        let entry = |index| Entry::new(GROUP, id(index), EntryKind::Command, Bytes::new());
        let entries: Vec<_> = (first..first + 3).map(entry).collect();
        encoder.entries(GROUP, &entries, false);
    }

    /// What a log is found to hold of which records are missing, as if nobody had noticed.
    fn recovered(
        batches: &[&dyn Fn(&mut Encoder)],
    ) -> Result<(Recovered, Option<ReplicaId>), String> {
        let disk = SimDisk::default();
        let open = || {
            let options = WalOptions { segment_bytes: 64 << 10, ..WalOptions::default() };
            recover(disk.clone(), options, LogPosition::default(), |_| Ok(()))
        };
        let (mut log, ..) = open().unwrap();
        for batch in batches {
            log.begin_batch();
            batch(&mut log.encoder);
            log.put_records().unwrap();
        }
        log.sync().unwrap();
        drop(log);
        match open() {
            Ok((log, _, recovered)) => Ok((recovered, log.tombstone(GROUP))),
            Err(WalError::Corrupt(damage)) => {
                assert_eq!(damage.groups, [GROUP]);
                Err(damage.what)
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_replica_that_nothing_names_any_more_can_not_be_called_again() {
        // Replica (1, 100) joined. What said so is missing, and so are its first entries.
        let hole = recovered(&[&|log| entries(log, 101)]);
        assert_eq!(hole.unwrap_err(), "entry 1 of the group is nowhere in it");
        // The same, where a founder was before it.
        let founder = |log: &mut Encoder| lives(log, ReplicaId::FOUNDER);
        let hole = recovered(&[&founder, &|log| entries(log, 1), &|log| entries(log, 101)]);
        assert_eq!(hole.unwrap_err(), "entry 4 of the group is nowhere in it");
        // The same, where the founder's tombstone is left.
        let tombstone = |floor| move |log: &mut Encoder| log.tombstone(GROUP, floor, false);
        let gone = tombstone(ReplicaId::FOUNDER.next());
        let stray = recovered(&[&founder, &gone, &|log| entries(log, 1)]);
        assert!(stray.unwrap_err().contains("behind a tombstone"));
        let stray = recovered(&[&founder, &gone, &founder]);
        assert!(stray.unwrap_err().contains("behind a tombstone"));
        let stray = recovered(&[&gone, &|log| entries(log, 1), &|log| lives(log, id(100))]);
        assert!(stray.is_err());
    }

    #[test]
    fn what_follows_a_tombstone_as_it_should_is_no_hole() {
        let tombstone = |floor| move |log: &mut Encoder| log.tombstone(GROUP, floor, false);
        let gone = tombstone(ReplicaId::FOUNDER.next());
        let joins = |log: &mut Encoder| {
            lives(log, id(100));
            entries(log, 1);
        };
        let (found, floor) = recovered(&[&gone, &joins]).unwrap();
        assert_eq!((found.groups[&GROUP].hard_state.replica, floor), (id(100), None));
        // Whatever was wrong with a replica, a later tombstone ends it.
        let removed = tombstone(id(100).next());
        let (found, floor) = recovered(&[&gone, &|log| entries(log, 1), &removed]).unwrap();
        assert_eq!((found, floor), (Recovered::default(), Some(id(100).next())));
    }
}
