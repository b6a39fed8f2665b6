//! What is left of replicas that are gone: a tombstone is written, and then the snapshots go.

use crate::turn::gone::Buried;
use crate::turn::jobs::{SnapshotJob, SnapshotQueue};
use logboat_raft::{GroupId, LogWrite, Persist, ReplicaId, WriteSeq};
use logboat_storage::{Batch, Poisoned, Refusals, SnapshotStore, Wal};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a removal that failed waits for the next attempt.
const RETRY: Duration = Duration::from_secs(1);

/// Writes the tombstone of a group whose replica is gone. When it is durable, the snapshots are
/// removed, and when they are, `buried` is told.
pub(crate) fn write_tombstone(
    wal: &Wal,
    snapshots: &SnapshotQueue,
    group: GroupId,
    floor: ReplicaId,
    buried: Buried,
) {
    let log = LogWrite::Tombstone(floor);
    let persist = Persist { seq: WriteSeq::default(), hard_state: None, log };
    let snapshots = snapshots.clone();
    let completion = Box::new(move |result: Result<&Refusals, Poisoned>| {
        // A tombstone that is refused is a mistake, of which the log has told. Nothing is removed.
        let is_refused = |refusals: &Refusals| {
            refusals.of(group).is_some_and(|refusal| refusal.is_of_tombstone())
        };
        if result.is_ok_and(|refusals| !is_refused(refusals)) {
            snapshots.submit(SnapshotJob::Remove { group, buried });
        }
    });
    wal.submit(Batch { grants: Vec::new(), writes: vec![(group, persist)], completion });
}

/// Tells `buried` when what [`write_tombstone`] was asked for before has been done. What follows a
/// tombstone through the log and its completion through the queue comes after it.
pub(crate) fn await_removal(wal: &Wal, snapshots: &SnapshotQueue, group: GroupId, buried: Buried) {
    let snapshots = snapshots.clone();
    let completion = Box::new(move |result: Result<&Refusals, Poisoned>| {
        if result.is_ok() {
            snapshots.submit(SnapshotJob::AwaitRemoval { group, buried });
        }
    });
    wal.submit(Batch { grants: Vec::new(), writes: Vec::new(), completion });
}

/// Removals that failed, and are tried again: no other replica of these groups comes before.
#[derive(Default)]
pub(super) struct Removals {
    failed: BTreeMap<GroupId, Vec<Buried>>,
    retry_at: Option<Instant>,
}

impl Removals {
    /// Removes the snapshots of a group.
    pub(super) fn remove(&mut self, store: &SnapshotStore, group: GroupId, buried: Buried) {
        self.failed.insert(group, vec![buried]);
        self.try_again(store, group);
    }

    /// Tells `buried` when the snapshots of a group are removed, as was asked for before.
    pub(super) fn when_removed(&mut self, group: GroupId, buried: Buried) {
        match self.failed.get_mut(&group) {
            Some(waiting) => waiting.push(buried),
            None => buried(),
        }
    }

    /// Tries again what failed, when it is time.
    pub(super) fn retry(&mut self, store: &SnapshotStore, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            for group in self.failed.keys().copied().collect::<Vec<_>>() {
                self.try_again(store, group);
            }
        }
    }

    /// When there is something to try again.
    pub(super) const fn next_retry(&self) -> Option<Instant> {
        self.retry_at
    }

    fn try_again(&mut self, store: &SnapshotStore, group: GroupId) {
        match store.remove(group) {
            Ok(()) => {
                let told = self.failed.remove(&group).into_iter().flatten();
                told.for_each(|buried| buried());
            }
            Err(error) => {
                tracing::error!(group = group.0, "removing its snapshot: {error}");
                self.retry_at.get_or_insert_with(|| Instant::now() + RETRY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::sync::mpsc::channel;

    #[test]
    fn what_can_not_be_removed_is_tried_again_and_all_who_wait_are_told() {
        use logboat_raft::{Configuration, Index, LogId, NodeId, SnapshotMeta, Term};
        let directory = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(directory.path()).unwrap();
        let configuration = Configuration::founding(&[NodeId(1)], None).into();
        let meta = SnapshotMeta { last: LogId::new(Term(1), Index(9)), configuration };
        let mut file = store.create(GroupId(1), meta).unwrap();
        file.write_all(b"content").unwrap();
        file.finish().unwrap();
        // No file can be removed here.
        let path = store.current_path(GroupId(1));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();

        let (told, heard) = channel();
        let buried = || {
            let told = told.clone();
            Box::new(move || told.send(()).unwrap())
        };
        let mut removals = Removals::default();
        removals.remove(&store, GroupId(1), buried());
        removals.when_removed(GroupId(1), buried());
        removals.retry(&store, removals.next_retry().unwrap());
        assert_eq!(heard.try_iter().count(), 0);

        fs::remove_dir(&path).unwrap();
        fs::write(&path, b"").unwrap();
        let due = removals.next_retry().unwrap();
        removals.retry(&store, due - RETRY);
        assert_eq!(heard.try_iter().count(), 0);
        removals.retry(&store, due);
        assert_eq!(heard.try_iter().count(), 2);
        assert_eq!(removals.next_retry(), None);
        removals.when_removed(GroupId(1), buried());
        assert_eq!(heard.try_iter().count(), 1);
    }
}
