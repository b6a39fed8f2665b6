//! What a node and each of its peers know of each other: the file `PEERS`.
//!
//! It says of each peer its data directory, which start on it was let in here, and how far its log
//! was durable, and whether it was given up. And it says how this node is known to the peer: which
//! start of this node the peer let in last, and where this node's log ended at the first start
//! after that.
//!
//! A line for each peer follows the format's version, and a checksum of all lines. The first
//! incarnation of a peer stays: a node that comes back with another one has lost its disk, and with
//! it what it promised.

use crate::files::{log_position, number, of_another_build, read_checked, write_checked};
use logboat_raft::{
    BootCount, BootNonce, Incarnation, Introduction, LogPosition, NodeId, Remembered, Start,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) const PEERS: &str = "PEERS";

/// What the file begins with.
const VERSION: &str = "logboat peers 2";

/// The file `PEERS` of a directory. Methods may be called from any thread; each change is durable
/// when the method returns.
#[derive(Debug)]
pub struct KnownPeers {
    directory: PathBuf,
    table: Mutex<PeerTable>,
}

impl KnownPeers {
    /// Reads what a data directory says of them.
    ///
    /// # Errors
    /// When the file can't be read, or is not what was written.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let text = read_checked(&directory.join(PEERS))?;
        let table = text.map_or_else(|| Ok(PeerTable::default()), |text| PeerTable::parse(&text));
        let table = table.map_err(of_another_build)?;
        Ok(Self { directory: directory.to_owned(), table: Mutex::new(table) })
    }

    /// Notes that the node starts: see [`PeerTable::begin`].
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn begin(&self, log_end: LogPosition) -> io::Result<()> {
        self.change(|table| {
            table.begin(log_end);
            Ok(())
        })
    }

    /// What is remembered of `peer`.
    #[must_use]
    pub fn get(&self, peer: NodeId) -> Option<Remembered> {
        self.table.lock().get(peer)
    }

    /// The peers of which something is remembered.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.table.lock().0.keys().copied().collect()
    }

    /// Remembers this of `peer`: see [`PeerTable::remember`].
    ///
    /// # Errors
    /// When it can't be recorded; the peer is known as before then.
    pub fn remember(&self, peer: NodeId, remembered: Remembered) -> io::Result<()> {
        self.change(|table| table.remember(peer, remembered))
    }

    /// How this node introduces itself to `peer`: see [`PeerTable::introduction`].
    #[must_use]
    pub fn introduction(&self, peer: NodeId, own: Introduction) -> Introduction {
        self.table.lock().introduction(peer, own)
    }

    /// Notes that `peer` let in this `start` of the node: see [`PeerTable::let_in_by`].
    ///
    /// # Errors
    /// When it can't be noted.
    pub fn let_in_by(&self, peer: NodeId, start: Start) -> io::Result<()> {
        self.change(|table| table.let_in_by(peer, start))
    }

    /// Gives up a peer: see [`PeerTable::fence`].
    ///
    /// # Errors
    /// When it can't be recorded.
    pub fn fence(&self, peer: NodeId) -> io::Result<()> {
        self.change(|table| {
            table.fence(peer);
            Ok(())
        })
    }

    /// Changes what is known, and the file if that makes a difference.
    fn change(&self, change: impl FnOnce(&mut PeerTable) -> io::Result<()>) -> io::Result<()> {
        let mut table = self.table.lock();
        let mut changed = table.clone();
        change(&mut changed)?;
        if changed != *table {
            write_checked(&self.directory, PEERS, &changed.text())?;
            *table = changed;
        }
        Ok(())
    }
}

/// The peers that a node knows, and how they know it: what the file `PEERS` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerTable(BTreeMap<NodeId, KnownPeer>);

/// A peer, and how it knows this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownPeer {
    remembered: Remembered,
    /// The start of this node that the peer last let in.
    let_in: Option<Start>,
    /// Where the log ended at the first start after that. Nothing before that start.
    log_end: Option<LogPosition>,
}

impl PeerTable {
    /// The node starts with a log that ends at `log_end`, and has not written to it yet. To a peer
    /// that let in none of the starts since, the position of the first one stays.
    pub fn begin(&mut self, log_end: LogPosition) {
        for peer in self.0.values_mut().filter(|peer| peer.log_end.is_none()) {
            peer.log_end = Some(log_end);
        }
    }

    /// What is remembered of `peer`.
    #[must_use]
    pub fn get(&self, peer: NodeId) -> Option<Remembered> {
        self.0.get(&peer).map(|peer| peer.remembered)
    }

    /// Remembers this of `peer`, whose data directory stays the same.
    ///
    /// # Errors
    /// When the peer is known by another directory.
    pub fn remember(&mut self, peer: NodeId, remembered: Remembered) -> io::Result<()> {
        let new = KnownPeer { remembered, let_in: None, log_end: None };
        let entry = self.0.entry(peer).or_insert(new);
        if entry.remembered.fenced && !remembered.fenced {
            return Err(io::Error::other("the peer was given up"));
        }
        if entry.remembered.incarnation != remembered.incarnation {
            return Err(io::Error::other("the peer is known by another data directory"));
        }
        entry.remembered = remembered;
        Ok(())
    }

    /// Gives up a peer: it is never let in again, whatever directory it comes on. One that was
    /// never met is known from then on, by a directory that none has.
    pub fn fence(&mut self, peer: NodeId) {
        let new = KnownPeer { remembered: Remembered::default(), let_in: None, log_end: None };
        self.0.entry(peer).or_insert(new).remembered.fenced = true;
    }

    /// How this node introduces itself to `peer`, if it would introduce itself as `own` to a peer
    /// that never let it in.
    #[must_use]
    pub fn introduction(&self, peer: NodeId, own: Introduction) -> Introduction {
        let Some(KnownPeer { let_in, log_end, .. }) = self.0.get(&peer).copied() else {
            return own;
        };
        Introduction { let_in, log_end: log_end.unwrap_or(own.log_end), ..own }
    }

    /// Notes that `peer` let in this `start` of the node.
    ///
    /// # Errors
    /// When nothing is recorded of the peer.
    pub fn let_in_by(&mut self, peer: NodeId, start: Start) -> io::Result<()> {
        let peer = self.0.get_mut(&peer);
        let peer = peer.ok_or_else(|| io::Error::other("the peer is not recorded"))?;
        if peer.let_in != Some(start) {
            (peer.let_in, peer.log_end) = (Some(start), None);
        }
        Ok(())
    }

    fn text(&self) -> String {
        let start = |start: Option<Start>| {
            let Start { count, nonce } = start.unwrap_or_default();
            format!("{count} {nonce}")
        };
        let lines = self.0.iter().map(|(peer, known)| {
            let Remembered { incarnation, let_in, welcomed, heard, fenced } = known.remembered;
            let [let_in, welcomed, let_in_by] = [let_in, welcomed, known.let_in].map(start);
            let log_end = known.log_end.map_or_else(|| "-".to_owned(), |end| end.to_string());
            let incarnation = incarnation.0;
            let fenced = if fenced { " fenced" } else { "" };
            let starts = format!("{let_in} {welcomed} {heard} {let_in_by}");
            format!("{peer} {incarnation:016x} {starts} {log_end}{fenced}\n")
        });
        format!("{VERSION}\n{}", lines.collect::<String>())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(VERSION) {
            return Err("it is of another version".to_owned());
        }
        let known = lines.map(parse_line).collect::<Option<_>>();
        known.map(Self).ok_or_else(|| "it has a line that names no peer".to_owned())
    }
}

fn parse_line(line: &str) -> Option<(NodeId, KnownPeer)> {
    let (line, fenced) = line.strip_suffix(" fenced").map_or((line, false), |line| (line, true));
    let fields: Vec<&str> = line.split(' ').collect();
    let [peer, incarnation, starts @ .., log_end] = &fields[..] else { return None };
    let [let_in, nonce, welcomed, its_nonce, heard, let_in_by, own_nonce] = starts else {
        return None;
    };
    let remembered = Remembered {
        incarnation: Incarnation(number(incarnation, 16).ok()?),
        let_in: parse_start(let_in, nonce)?,
        welcomed: parse_start(welcomed, its_nonce)?,
        heard: log_position(heard).ok()?,
        fenced,
    };
    let log_end = match *log_end {
        "-" => None,
        position => Some(log_position(position).ok()?),
    };
    let known = KnownPeer { remembered, let_in: parse_start(let_in_by, own_nonce)?, log_end };
    Some((NodeId(number(peer, 10).ok()?), known))
}

/// A start, or none if it is counted as the start zero.
fn parse_start(count: &str, nonce: &str) -> Option<Option<Start>> {
    let start = Start {
        count: BootCount(number(count, 10).ok()?),
        nonce: BootNonce(number(nonce, 16).ok()?),
    };
    Some((start.count > BootCount(0)).then_some(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const PEER: NodeId = NodeId(2);

    const fn start(count: u64) -> Start {
        Start { count: BootCount(count), nonce: BootNonce(count << 40) }
    }

    const fn end(segment: u32) -> LogPosition {
        LogPosition { segment, offset: 4096 }
    }

    fn directory(incarnation: u64, welcomed: u64) -> Remembered {
        Remembered {
            incarnation: Incarnation(incarnation),
            let_in: None,
            welcomed: Some(start(welcomed)),
            heard: end(3),
            fenced: false,
        }
    }

    /// How the start of that count would introduce itself to a stranger.
    fn stranger(count: u64, log_end: LogPosition) -> Introduction {
        Introduction {
            incarnation: Incarnation(5),
            newest: start(count),
            let_in: None,
            log_end,
            cluster: None,
        }
    }

    #[test]
    fn the_first_directory_of_a_peer_stays_and_what_is_remembered_last_of_it_is_kept() {
        let directory_of = tempfile::tempdir().unwrap();
        let known = KnownPeers::open(directory_of.path()).unwrap();
        assert_eq!(known.get(PEER), None);
        known.remember(PEER, directory(7, 1)).unwrap();
        known.remember(NodeId(3), directory(8, 4).confirmed()).unwrap();
        known.remember(PEER, directory(7, 2)).unwrap();
        assert!(known.remember(PEER, directory(8, 3)).is_err());
        for known in [&known, &KnownPeers::open(directory_of.path()).unwrap()] {
            assert_eq!(known.get(PEER), Some(directory(7, 2)));
            assert_eq!(known.get(NodeId(3)), Some(directory(8, 4).confirmed()));
        }
    }

    #[test]
    fn a_start_that_was_not_let_in_changes_nothing_of_the_introduction_but_its_own_number() {
        let directory_of = tempfile::tempdir().unwrap();
        let open = || KnownPeers::open(directory_of.path()).unwrap();
        let known = open();
        assert!(known.let_in_by(PEER, start(1)).is_err(), "a peer that is not recorded");
        known.begin(end(1)).unwrap();
        assert_eq!(known.introduction(PEER, stranger(1, end(1))), stranger(1, end(1)));
        known.remember(PEER, directory(7, 1)).unwrap();
        known.let_in_by(PEER, start(1)).unwrap();
        let let_in = Some(start(1));
        let of_start_1 = Introduction { let_in, ..stranger(1, end(1)) };
        assert_eq!(known.introduction(PEER, stranger(1, end(1))), of_start_1);
        // Starts 2 to 4 are refused, and write to the log meanwhile.
        for (count, log_end) in [(2, end(2)), (3, end(5)), (4, end(9))] {
            let known = open();
            known.begin(log_end).unwrap();
            let told = Introduction { let_in, ..stranger(count, end(2)) };
            assert_eq!(known.introduction(PEER, stranger(count, log_end)), told);
        }
        let known = open();
        known.let_in_by(PEER, start(4)).unwrap();
        known.begin(end(11)).unwrap();
        let told = Introduction { let_in: Some(start(4)), ..stranger(5, end(11)) };
        assert_eq!(known.introduction(PEER, stranger(5, end(11))), told);
        // A connection that is made anew within a start changes nothing.
        known.let_in_by(PEER, start(4)).unwrap();
        assert_eq!(open().introduction(PEER, stranger(6, end(20))).log_end, end(11));
    }

    #[test]
    fn a_peer_that_was_given_up_stays_so() {
        let directory_of = tempfile::tempdir().unwrap();
        let known = KnownPeers::open(directory_of.path()).unwrap();
        known.remember(PEER, directory(7, 1)).unwrap();
        [PEER, NodeId(3), PEER].into_iter().for_each(|peer| known.fence(peer).unwrap());
        assert!(known.remember(PEER, directory(7, 2)).is_err());
        for known in [&known, &KnownPeers::open(directory_of.path()).unwrap()] {
            let fenced = true;
            assert_eq!(known.get(PEER), Some(Remembered { fenced, ..directory(7, 1) }));
            assert_eq!(known.get(NodeId(3)), Some(Remembered { fenced, ..Remembered::default() }));
        }
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let directory_of = tempfile::tempdir().unwrap();
        let known = KnownPeers::open(directory_of.path()).unwrap();
        known.remember(PEER, directory(7, 1)).unwrap();
        let path = directory_of.path().join(PEERS);
        let content = fs::read(&path).unwrap();
        for at in 0..content.len() {
            let mut damaged = content.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert!(KnownPeers::open(directory_of.path()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_file_of_another_version_is_refused() {
        let directory_of = tempfile::tempdir().unwrap();
        let old = "2 0000000000000007 1 0000010000000000 3:4096\n";
        write_checked(directory_of.path(), PEERS, old).unwrap();
        let error = KnownPeers::open(directory_of.path()).unwrap_err().to_string();
        assert_eq!(error, "it is of another version");
    }

    #[test]
    fn what_could_not_be_recorded_is_not_known() {
        let directory_of = tempfile::tempdir().unwrap();
        let known = KnownPeers::open(directory_of.path()).unwrap();
        fs::remove_dir_all(directory_of.path()).unwrap();
        assert!(known.remember(PEER, directory(7, 1)).is_err());
        fs::create_dir(directory_of.path()).unwrap();
        assert_eq!(known.get(PEER), None);
        known.remember(PEER, directory(8, 1)).unwrap();
    }
}
