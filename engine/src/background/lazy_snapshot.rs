//! A snapshot file that is opened when its turn to be sent comes, and read at the node's pace.

use crate::background::pace::{Copying, Pace};
use logboat_raft::{GroupId, LogId};
use logboat_storage::SnapshotStore;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The file of a group's snapshot. A peer is sent one at a time, and thousands may wait for that:
/// only those that are being sent hold a descriptor.
pub(crate) struct LazySnapshot {
    store: SnapshotStore,
    group: GroupId,
    /// What was promised to the peer.
    last: LogId,
    /// The peer has refused it since.
    is_refused: Arc<AtomicBool>,
    file: Option<BufReader<File>>,
    copying: Copying,
}

impl LazySnapshot {
    /// The current snapshot of `group`, which covers all up to `last`. It can't be read any more
    /// when the peer has refused it.
    pub(crate) fn new(
        store: SnapshotStore,
        group: GroupId,
        last: LogId,
        is_refused: Arc<AtomicBool>,
        pace: &Arc<Pace>,
    ) -> Self {
        let copying = Copying::counted(pace);
        Self { store, group, last, is_refused, file: None, copying }
    }

    /// # Errors
    /// When the file can't be opened, or a newer snapshot has taken its place.
    fn open(&self) -> io::Result<BufReader<File>> {
        let found = self.store.file(self.group).map_err(io::Error::other)?;
        match found {
            Some(found) if found.meta.last == self.last => Ok(BufReader::new(found.file)),
            _ => Err(io::Error::other("a newer snapshot has taken its place")),
        }
    }
}

impl Read for LazySnapshot {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_refused.load(Ordering::Relaxed) {
            return Err(io::Error::other("the peer has refused it"));
        }
        self.copying.begin();
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(self.open()?),
        };
        let read = file.read(buffer)?;
        self.copying.moved(read, true);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::background::pace::Paces;
    use logboat_raft::{Configuration, Index, NodeId, SnapshotMeta, Term};
    use std::io::Write;

    #[test]
    fn a_snapshot_is_opened_when_its_turn_comes() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let store = SnapshotStore::open(directory.path())?;
        let (group, last) = (GroupId(1), |index| LogId::new(Term(1), Index(index)));
        let write = |index| {
            let configuration = Configuration::founding(&[NodeId(1)], None).into();
            let meta = SnapshotMeta { last: last(index), configuration };
            let mut writer = store.create(group, meta).map_err(io::Error::other)?;
            writer.write_all(b"state").map(|()| writer.finish())
        };
        let info = write(1)??;
        let is_refused = Arc::<AtomicBool>::default();
        let pace = Paces::new(u64::MAX).leaving;
        let refused = || Arc::clone(&is_refused);
        let lazy = || LazySnapshot::new(store.clone(), group, last(1), refused(), &pace);
        let (mut first, mut second) = (lazy(), lazy());
        let mut content = Vec::new();
        assert_eq!(first.read_to_end(&mut content)? as u64, info.bytes);
        let mut refused = lazy();
        assert_eq!(refused.read(&mut [0])?, 1);
        is_refused.store(true, Ordering::Relaxed);
        assert!(refused.read(&mut [0]).is_err(), "the peer does not want what is left");
        is_refused.store(false, Ordering::Relaxed);
        write(2)??;
        assert!(second.read(&mut [0]).is_err(), "it is not what the peer was promised");
        Ok(())
    }
}
