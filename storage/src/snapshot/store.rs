//! The snapshots of all groups of a node.

use super::check::SnapshotCheck;
use super::disk::{FileSnapshotDisk, SnapshotDisk};
use super::error::{SnapshotError, failure};
use super::file::{SnapshotInfo, open_header};
use super::reader::SnapshotReader;
use super::receiver::SnapshotReceiver;
use super::shared::{Shared, current_name, received_name};
use super::writer::{SnapshotTicket, SnapshotWriter};
use logboat_raft::{GroupId, LogId, SnapshotMeta};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The snapshots of all groups of a node. A cheap handle, whose clones are the same store. Methods
/// may be called from any thread. All but [`Self::latest`] and [`Self::received`] block on the
/// disk.
#[derive(Debug)]
pub struct SnapshotStore<D = FileSnapshotDisk> {
    shared: Arc<Shared<D>>,
}

/// What a snapshot is of, and its content.
type Opened<D> = (SnapshotMeta, SnapshotReader<<D as SnapshotDisk>::File>);

/// The whole file of a snapshot, header included.
#[derive(Debug)]
pub struct OpenSnapshot<F> {
    /// What the snapshot is of.
    pub meta: SnapshotMeta,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The file, at its beginning.
    pub file: F,
}

impl<D> Clone for SnapshotStore<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl SnapshotStore {
    /// Opens the store in a directory, making it if need be. Removes what a crash left unfinished
    /// and reads headers; contents are checked when they are read. A file that is torn, or whose
    /// header is damaged, is logged as an error and otherwise ignored.
    ///
    /// # Errors
    /// When the directory can't be made or read; when descriptors or memory are short.
    pub fn open(directory: &Path) -> Result<Self, SnapshotError> {
        let disk = FileSnapshotDisk::new(directory);
        Self::open_on(disk.map_err(|e| failure(directory.to_owned(), e))?)
    }
}

impl<D: SnapshotDisk> SnapshotStore<D> {
    /// Opens the store on a disk, as [`SnapshotStore::open`] does in a directory.
    ///
    /// # Errors
    /// When the disk can't be read.
    pub fn open_on(disk: D) -> Result<Self, SnapshotError> {
        let directory = disk.path("");
        let shared = Shared::open(disk).map_err(|e| failure(directory, e))?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The group's current snapshot.
    #[must_use]
    pub fn latest(&self, group: GroupId) -> Option<SnapshotInfo> {
        self.shared.known.lock().current.get(&group).copied()
    }

    /// The snapshot up to `last` that was received for the group and neither adopted nor discarded.
    #[must_use]
    pub fn received(&self, group: GroupId, last: LogId) -> Option<SnapshotInfo> {
        self.shared.known.lock().received.get(&(group, last)).map(|received| received.info)
    }

    /// Begins a snapshot of this node's own state.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn create(
        &self,
        group: GroupId,
        meta: SnapshotMeta,
    ) -> Result<SnapshotWriter<D>, SnapshotError> {
        self.ticket(group).create(meta)
    }

    /// The right to begin a snapshot of this node's own state later, if the replica that the group
    /// has now is not removed before.
    #[must_use]
    pub fn ticket(&self, group: GroupId) -> SnapshotTicket<D> {
        SnapshotTicket::new(&self.shared, group)
    }

    /// Verifies all of the group's current snapshot and opens its content.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when it is not what was written.
    pub fn read(&self, group: GroupId) -> Result<Option<Opened<D>>, SnapshotError> {
        let Some(info) = self.latest(group) else {
            return Ok(None);
        };
        let (meta, reader) =
            SnapshotReader::open(&self.shared.disk, &current_name(group), group, |_| {})?;
        debug_assert!(meta.last.index >= info.last.index, "it only goes forward");
        Ok(Some((meta, reader)))
    }

    /// Opens the group's current snapshot to check it piece by piece.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when its header is not what was written; when it can't be opened.
    pub fn check(&self, group: GroupId) -> Result<Option<SnapshotCheck<D::File>>, SnapshotError> {
        if self.latest(group).is_none() {
            return Ok(None);
        }
        SnapshotCheck::open(&self.shared.disk, &current_name(group), group).map(Some)
    }

    /// Where the group's current snapshot is, if there is one.
    #[must_use]
    pub fn current_path(&self, group: GroupId) -> PathBuf {
        self.shared.disk.path(&current_name(group))
    }

    /// Opens the whole file of the group's current snapshot, header and checksum included. A peer
    /// takes these bytes in [`Self::receive`]. The peer verifies it. The file stays readable when a
    /// newer snapshot takes its place.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn file(&self, group: GroupId) -> Result<Option<OpenSnapshot<D::File>>, SnapshotError> {
        if self.latest(group).is_none() {
            return Ok(None);
        }
        let (header, file) = open_header(&self.shared.disk, &current_name(group), group)?;
        let bytes = header.info().bytes;
        Ok(Some(OpenSnapshot { meta: header.meta, bytes, file }))
    }

    /// Begins to receive the whole file, `total_bytes` long, of a peer's snapshot up to `last`.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn receive(
        &self,
        group: GroupId,
        last: LogId,
        total_bytes: u64,
    ) -> Result<SnapshotReceiver<D>, SnapshotError> {
        SnapshotReceiver::create(&self.shared, group, last, total_bytes)
    }

    /// Verifies all of the received snapshot that this is of, or of the current one if that is it,
    /// and opens its content.
    ///
    /// # Errors
    /// [`SnapshotError::NotReceived`] when no such snapshot was received;
    /// [`SnapshotError::Damaged`] when it is not what was written.
    pub fn read_received(
        &self,
        group: GroupId,
        meta: &SnapshotMeta,
    ) -> Result<SnapshotReader<D::File>, SnapshotError> {
        self.read_received_at(group, meta, |_| {})
    }

    /// Like [`Self::read_received`], as fast as the caller allows: it is told of each piece that
    /// was verified, in bytes, and may rest then.
    ///
    /// # Errors
    /// As above.
    pub fn read_received_at(
        &self,
        group: GroupId,
        meta: &SnapshotMeta,
        has_read: impl FnMut(usize),
    ) -> Result<SnapshotReader<D::File>, SnapshotError> {
        let last = meta.last;
        let is_current = self.latest(group).is_some_and(|current| current.last == last);
        let name = if is_current {
            current_name(group)
        } else if self.received(group, last).is_some() {
            received_name(group, last)
        } else {
            return Err(SnapshotError::NotReceived { group, last });
        };
        let (found, reader) = SnapshotReader::open(&self.shared.disk, &name, group, has_read)?;
        if found != *meta {
            let of = |it: &SnapshotMeta| format!("{} with {}", it.last, it.configuration);
            let what = format!("it is of {}, and not of {}", of(&found), of(meta));
            return Err(SnapshotError::Damaged { file: self.shared.disk.path(&name), what });
        }
        Ok(reader)
    }

    /// Makes the received snapshot the current one, atomically. Done already is done, so that it
    /// can be repeated after a crash.
    ///
    /// # Errors
    /// [`SnapshotError::NotReceived`] when no snapshot up to `last` was received;
    /// [`SnapshotError::Superseded`] when the current one covers more.
    pub fn adopt(&self, group: GroupId, last: LogId) -> Result<SnapshotInfo, SnapshotError> {
        let mut known = self.shared.known.lock();
        let current = known.current.get(&group).copied();
        if let Some(current) = current.filter(|current| current.last == last) {
            return Ok(current);
        }
        let info = known.received.get(&(group, last)).map(|received| received.info);
        let info = info.ok_or(SnapshotError::NotReceived { group, last })?;
        self.shared.make_current(&mut known, group, info, &received_name(group, last))?;
        known.received.remove(&(group, last));
        Ok(info)
    }

    /// Removes all that there is of a group, whose replica is gone: its current snapshot, what was
    /// received for it, and what is being written or received, or is to be, which then fails. The
    /// tombstone of the replica is durable by now, so a crash in between leaves what the next start
    /// removes.
    ///
    /// # Errors
    /// When a file can't be removed. To be repeated then.
    pub fn remove(&self, group: GroupId) -> Result<(), SnapshotError> {
        let mut known = self.shared.known.lock();
        known.unfinished.retain(|(of, _)| *of != group);
        let received = known.received.keys().filter(|(of, _)| *of == group);
        let received: Vec<LogId> = received.map(|(_, last)| *last).collect();
        for last in received {
            known.received.remove(&(group, last));
            let name = received_name(group, last);
            self.shared.disk.remove(&name).map_err(|e| self.shared.failure(&name, e))?;
        }
        if known.current.contains_key(&group) {
            let name = current_name(group);
            self.shared.disk.remove(&name).map_err(|e| self.shared.failure(&name, e))?;
            let synced = self.shared.disk.sync_directory();
            synced.map_err(|e| self.shared.failure(&name, e))?;
            known.current.remove(&group);
        }
        Ok(())
    }

    /// The groups that have a snapshot.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared.known.lock().current.keys().copied().collect()
    }

    /// Removes the snapshot up to `last` that was received for the group and not adopted, if it is
    /// there. If it was received several times, it goes when it is discarded for the last time:
    /// each time is another offer to the replica, which may take one and leave the others.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub fn discard(&self, group: GroupId, last: LogId) -> Result<(), SnapshotError> {
        let mut known = self.shared.known.lock();
        let Some(received) = known.received.get_mut(&(group, last)) else {
            return Ok(());
        };
        received.times -= 1;
        if received.times > 0 {
            return Ok(());
        }
        known.received.remove(&(group, last));
        let name = received_name(group, last);
        self.shared.disk.remove(&name).map_err(|e| self.shared.failure(&name, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::{Configuration, Index, NodeId, Term};
    use std::fs;
    use std::io::{self, Write};

    fn id(index: u64) -> LogId {
        LogId::new(Term(1), Index(index))
    }

    fn store(directory: &Path) -> SnapshotStore {
        SnapshotStore::open(directory).unwrap()
    }

    /// Streams a snapshot up to `index` from one store to another.
    fn stream(from: &SnapshotStore, to: &SnapshotStore, index: u64) {
        let configuration = Configuration::founding(&[NodeId(1)], None).into();
        let meta = SnapshotMeta { last: id(index), configuration };
        let mut writer = from.create(GroupId(1), meta).unwrap();
        writer.write_all(&[7; 100]).unwrap();
        writer.finish().unwrap();
        let OpenSnapshot { meta, bytes, mut file } = from.file(GroupId(1)).unwrap().unwrap();
        let mut receiver = to.receive(GroupId(1), meta.last, bytes).unwrap();
        io::copy(&mut file, &mut receiver).unwrap();
        receiver.finish().unwrap();
    }

    #[test]
    fn a_second_snapshot_leaves_the_first_one_that_waits_alone() {
        let (leader, follower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (leader, follower) = (store(leader.path()), store(follower.path()));
        stream(&leader, &follower, 13);
        stream(&leader, &follower, 26);
        assert_eq!(follower.adopt(GroupId(1), id(13)).unwrap().last, id(13));
        assert_eq!(follower.adopt(GroupId(1), id(26)).unwrap().last, id(26));
    }

    #[test]
    fn all_of_a_group_goes_and_what_is_being_written_does_not_come_back() {
        let (leader, follower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (leader, directory) = (store(leader.path()), follower.path());
        let follower = store(directory);
        stream(&leader, &follower, 13);
        follower.adopt(GroupId(1), id(13)).unwrap();
        stream(&leader, &follower, 26);
        let configuration = Arc::new(Configuration::founding(&[NodeId(1)], None));
        let meta = SnapshotMeta { last: id(20), configuration };
        let mut written = follower.create(GroupId(1), meta.clone()).unwrap();
        written.write_all(&[7; 100]).unwrap();
        let waits = follower.ticket(GroupId(1));
        let of_other = follower.create(GroupId(2), meta.clone()).unwrap();
        follower.remove(GroupId(1)).unwrap();
        let refusal = written.finish();
        assert!(matches!(refusal, Err(SnapshotError::Removed(GroupId(1)))), "{refusal:?}");
        let refusal = waits.create(meta.clone());
        assert!(matches!(refusal, Err(SnapshotError::Removed(GroupId(1)))), "{refusal:?}");
        assert!(of_other.finish().is_ok());
        assert_eq!(follower.groups(), [GroupId(2)]);
        let left = fs::read_dir(directory).unwrap().count();
        assert_eq!(left, 1, "what is of the other group");
        follower.remove(GroupId(1)).unwrap();
        // The next replica begins with its own.
        let mut written = follower.create(GroupId(1), meta).unwrap();
        written.write_all(&[8; 100]).unwrap();
        assert_eq!(written.finish().unwrap().last, id(20));
    }

    #[test]
    fn what_was_received_twice_is_there_until_it_is_discarded_twice() {
        let follower = tempfile::tempdir().unwrap();
        let to = store(follower.path());
        let receive = || stream(&store(tempfile::tempdir().unwrap().path()), &to, 13);
        for times in [2, 1] {
            (0..times).for_each(|_| receive());
            to.discard(GroupId(1), id(13)).unwrap();
            assert_eq!(to.received(GroupId(1), id(13)).is_some(), times == 2);
            to.discard(GroupId(1), id(13)).unwrap();
            assert_eq!(to.received(GroupId(1), id(13)), None);
            assert!(fs::read_dir(follower.path()).unwrap().next().is_none());
        }
        (0..2).for_each(|_| receive());
        to.discard(GroupId(1), id(13)).unwrap();
        to.adopt(GroupId(1), id(13)).unwrap();
        to.discard(GroupId(1), id(13)).unwrap();
        assert_eq!(to.latest(GroupId(1)).unwrap().last, id(13));
    }

    #[test]
    fn what_was_received_and_not_adopted_goes_at_the_next_start() {
        let (leader, follower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        stream(&store(leader.path()), &store(follower.path()), 13);
        assert!(fs::read_dir(follower.path()).unwrap().next().is_some());
        let restarted = store(follower.path());
        assert!(fs::read_dir(follower.path()).unwrap().next().is_none());
        assert!(restarted.adopt(GroupId(1), id(13)).is_err());
    }
}
