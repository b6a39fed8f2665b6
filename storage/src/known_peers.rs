//! The peers that a node knows, and the incarnation of each.
//!
//! The file `PEERS` holds a line for each peer, and a checksum of all lines. The first incarnation
//! of a peer stays: a node that comes back with another one has lost its disk, and with it what it
//! promised.

use crate::files::{read_checked, write_checked};
use logboat_raft::{Incarnation, NodeId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The name of the file.
pub(crate) const PEERS: &str = "PEERS";

/// The peers that a node knows. Methods may be called from any thread.
#[derive(Debug)]
pub struct KnownPeers {
    directory: PathBuf,
    known: Mutex<BTreeMap<NodeId, Incarnation>>,
}

impl KnownPeers {
    /// Reads what a data directory says of them.
    ///
    /// # Errors
    /// When the file can't be read, or is not what was written.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let text = read_checked(&directory.join(PEERS))?.unwrap_or_default();
        let known = text.lines().map(parse_line).collect::<Option<_>>();
        let known = known.ok_or_else(|| invalid("it has a line that names no peer"))?;
        Ok(Self { directory: directory.to_owned(), known: Mutex::new(known) })
    }

    /// Whether `peer` is known under `incarnation`. The first incarnation of a peer that this is
    /// asked about is recorded, durably, before this returns.
    ///
    /// # Errors
    /// When it can't be recorded; the peer is as unknown as before then.
    pub fn verify(&self, peer: NodeId, incarnation: Incarnation) -> io::Result<bool> {
        let mut known = self.known.lock();
        if let Some(first) = known.get(&peer) {
            return Ok(*first == incarnation);
        }
        let mut grown = known.clone();
        grown.insert(peer, incarnation);
        let lines =
            grown.iter().map(|(peer, incarnation)| format!("{peer} {:016x}\n", incarnation.0));
        write_checked(&self.directory, PEERS, &lines.collect::<String>())?;
        *known = grown;
        Ok(true)
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn parse_line(line: &str) -> Option<(NodeId, Incarnation)> {
    let (peer, incarnation) = line.split_once(' ')?;
    let incarnation = u64::from_str_radix(incarnation, 16).ok()?;
    Some((NodeId(peer.parse().ok()?), Incarnation(incarnation)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_first_incarnation_of_a_peer_stays() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let known = KnownPeers::open(directory.path()).unwrap();
            assert!(known.verify(NodeId(2), Incarnation(7)).unwrap());
            assert!(known.verify(NodeId(3), Incarnation(8)).unwrap());
            assert!(!known.verify(NodeId(2), Incarnation(8)).unwrap());
            assert!(known.verify(NodeId(2), Incarnation(7)).unwrap());
        }
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let known = KnownPeers::open(directory.path()).unwrap();
        known.verify(NodeId(2), Incarnation(7)).unwrap();
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
        assert!(known.verify(NodeId(2), Incarnation(7)).is_err());
        fs::create_dir(directory.path()).unwrap();
        assert!(known.verify(NodeId(2), Incarnation(8)).unwrap());
    }
}
