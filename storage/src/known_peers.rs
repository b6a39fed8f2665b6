//! The peers that a node knows: the data directory of each, the newest start on it, and where its
//! log ended then.
//!
//! The file `PEERS` holds a line for each peer, and a checksum of all lines. The first incarnation
//! of a peer stays: a node that comes back with another one has lost its disk, and with it what it
//! promised.

use crate::files::{log_position, number, read_checked, write_checked};
use logboat_raft::{BootCount, BootNonce, Incarnation, NodeBoot, NodeId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

pub(crate) const PEERS: &str = "PEERS";

/// The peers that a node knows. Methods may be called from any thread.
#[derive(Debug)]
pub struct KnownPeers {
    directory: PathBuf,
    known: Mutex<BTreeMap<NodeId, NodeBoot>>,
}

impl KnownPeers {
    /// Reads what a data directory says of them.
    ///
    /// # Errors
    /// When the file can't be read, or is not what was written.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let text = read_checked(&directory.join(PEERS))?.unwrap_or_default();
        let known = text.lines().map(parse_line).collect::<Option<_>>();
        let known = known.ok_or_else(|| {
            io::Error::new(ErrorKind::InvalidData, "it has a line that names no peer")
        })?;
        Ok(Self { directory: directory.to_owned(), known: Mutex::new(known) })
    }

    /// The newest start of `peer` that is recorded.
    #[must_use]
    pub fn get(&self, peer: NodeId) -> Option<NodeBoot> {
        self.known.lock().get(&peer).copied()
    }

    /// Records a start of `peer` durably, in the place of an earlier one on the same directory.
    ///
    /// # Errors
    /// When it can't be recorded, or the peer is known by another directory; it is known as before
    /// then.
    pub fn record(&self, peer: NodeId, boot: NodeBoot) -> io::Result<()> {
        let mut known = self.known.lock();
        if known.get(&peer).is_some_and(|first| first.incarnation != boot.incarnation) {
            return Err(io::Error::other("the peer is known by another data directory"));
        }
        let mut grown = known.clone();
        grown.insert(peer, boot);
        let lines = grown.iter().map(|(peer, boot)| {
            let NodeBoot { incarnation, count, nonce, log_end } = boot;
            format!("{peer} {:016x} {count} {nonce} {log_end}\n", incarnation.0)
        });
        write_checked(&self.directory, PEERS, &lines.collect::<String>())?;
        *known = grown;
        Ok(())
    }
}

fn parse_line(line: &str) -> Option<(NodeId, NodeBoot)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [peer, incarnation, count, nonce, log_end] = fields[..] else { return None };
    let boot = NodeBoot {
        incarnation: Incarnation(number(incarnation, 16).ok()?),
        count: BootCount(number(count, 10).ok()?),
        nonce: BootNonce(number(nonce, 16).ok()?),
        log_end: log_position(log_end).ok()?,
    };
    Some((NodeId(number(peer, 10).ok()?), boot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::LogPosition;
    use std::fs;

    fn boot(incarnation: u64, count: u64) -> NodeBoot {
        NodeBoot {
            incarnation: Incarnation(incarnation),
            count: BootCount(count),
            nonce: BootNonce(count << 40),
            log_end: LogPosition { segment: 3, offset: 4096 },
        }
    }

    #[test]
    fn the_first_directory_of_a_peer_stays_and_the_newest_start_on_it_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let known = KnownPeers::open(directory.path()).unwrap();
        assert_eq!(known.get(NodeId(2)), None);
        known.record(NodeId(2), boot(7, 1)).unwrap();
        known.record(NodeId(3), boot(8, 4)).unwrap();
        known.record(NodeId(2), boot(7, 2)).unwrap();
        assert!(known.record(NodeId(2), boot(8, 3)).is_err());
        for known in [&known, &KnownPeers::open(directory.path()).unwrap()] {
            assert_eq!(known.get(NodeId(2)), Some(boot(7, 2)));
            assert_eq!(known.get(NodeId(3)), Some(boot(8, 4)));
        }
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let known = KnownPeers::open(directory.path()).unwrap();
        known.record(NodeId(2), boot(7, 1)).unwrap();
        let path = directory.path().join(PEERS);
        let content = fs::read(&path).unwrap();
        for at in 0..content.len() {
            let mut damaged = content.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert!(KnownPeers::open(directory.path()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_could_not_be_recorded_is_not_known() {
        let directory = tempfile::tempdir().unwrap();
        let known = KnownPeers::open(directory.path()).unwrap();
        fs::remove_dir_all(directory.path()).unwrap();
        assert!(known.record(NodeId(2), boot(7, 1)).is_err());
        fs::create_dir(directory.path()).unwrap();
        assert_eq!(known.get(NodeId(2)), None);
        known.record(NodeId(2), boot(8, 1)).unwrap();
    }
}
