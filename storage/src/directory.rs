//! The data directory of a node: who may use it, and whose it is.
//!
//! `LOCK` is held by an advisory lock for as long as the process lives and names its pid.
//! `IDENTITY` says in plain text which node of which cluster the data belong to; its last line is a
//! checksum of those before. It is written once, last of what a directory is made of, and never
//! changed. So its spare says the same, and is taken where the file is damaged. `CLUSTER` holds the
//! id that was drawn for the cluster. `BOOT` says how often the node has started and how far its
//! log had come. `PEERS` says what the node and its peers know of each other.

mod error;

pub use self::error::DirectoryError;
use self::error::{list, unreadable};
use crate::boot::{BOOT, BootFile};
use crate::cluster::{CLUSTER, ClusterFile};
use crate::files::{
    TextFields, lock_file, make_directory, number, read_checked, spare_of, write_checked,
};
use crate::known_peers::{KnownPeers, PEERS};
use logboat_raft::{BootCount, ClusterId, Incarnation, NodeId};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const LOCK: &str = "LOCK";
pub(crate) const IDENTITY: &str = "IDENTITY";
pub(crate) const WAL: &str = "wal";
pub(crate) const SNAPSHOTS: &str = "snapshots";

/// The file that says that a directory is about to become another node's: what is there belongs to
/// nobody then.
pub const REJOIN: &str = "REJOIN";

/// Whose data a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster as its nodes know each other.
    pub cluster: ClusterId,
    /// The cluster's name, one line.
    pub name: String,
    /// The node.
    pub node: NodeId,
    /// The nodes of the cluster, this one among them; the order does not matter.
    pub members: Vec<NodeId>,
    /// Drawn when the directory is made: what tells it from one that was lost.
    pub incarnation: Incarnation,
}

/// A data directory, locked against other processes for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    boot: Arc<BootFile>,
    cluster: Arc<ClusterFile>,
    /// Closing it releases the lock.
    _lock: File,
}

impl DataDir {
    /// Locks a data directory, makes it if need be, and checks that it is this node's. A fresh one
    /// gets the identity. Returns the identity as it is stored.
    ///
    /// # Errors
    /// [`DirectoryError`] when it is in use, damaged or somebody else's.
    pub fn open(path: &Path, identity: &Identity) -> Result<(Self, Identity), DirectoryError> {
        let failed = |source| DirectoryError::Io { path: path.to_owned(), source };
        make_directory(path).map_err(failed)?;
        let lock = lock(path)?;
        refuse_rejoining(path)?;
        let stored = match Identity::stored(path)? {
            Some(stored) => {
                stored.mend(path);
                stored
            }
            None => {
                refuse_orphans(path)?;
                identity.found(path).map_err(failed)?;
                identity.clone()
            }
        };
        stored.compare(identity, path)?;
        Self::locked(path, lock, stored)
    }

    /// Locks a data directory that a node has used, whosever it is. Makes nothing. Returns the
    /// identity as it is stored.
    ///
    /// # Errors
    /// [`DirectoryError`] when it is in use or damaged, or no node's.
    pub fn open_stored(path: &Path) -> Result<(Self, Identity), DirectoryError> {
        let nobodys = || DirectoryError::Missing {
            file: path.join(IDENTITY),
            what: "it is missing: this is no data directory of a node".to_owned(),
        };
        refuse_rejoining(path)?;
        // Nothing is locked, and so nothing made, in what is no data directory.
        Identity::stored(path)?.ok_or_else(nobodys)?;
        let lock = lock(path)?;
        refuse_rejoining(path)?;
        let stored = Identity::stored(path)?.ok_or_else(nobodys)?;
        Self::locked(path, lock, stored)
    }

    /// A directory whose identity is known, if nothing is missing of it.
    fn locked(
        path: &Path,
        lock: File,
        stored: Identity,
    ) -> Result<(Self, Identity), DirectoryError> {
        refuse_remains(path)?;
        let boot = BootFile::open(path).map_err(|error| unreadable(&path.join(BOOT), error))?;
        let boot = boot.ok_or_else(|| DirectoryError::Missing {
            file: path.join(BOOT),
            what: "it is missing, though the node has an identity: it was deleted, or an earlier \
                   build of Logboat made the directory"
                .to_owned(),
        })?;
        let cluster = ClusterFile::open(path);
        let cluster = cluster.map_err(|error| unreadable(&path.join(CLUSTER), error))?;
        let (boot, cluster) = (Arc::new(boot), Arc::new(cluster));
        let directory = Self { path: path.to_owned(), boot, cluster, _lock: lock };
        Ok((directory, stored))
    }

    /// What the directory says of the node's starts.
    #[must_use]
    pub const fn boot(&self) -> &Arc<BootFile> {
        &self.boot
    }

    /// The cluster that it belongs to.
    #[must_use]
    pub const fn cluster(&self) -> &Arc<ClusterFile> {
        &self.cluster
    }

    /// Notes durably that it belongs to this cluster, if it does not know of one.
    ///
    /// # Errors
    /// [`DirectoryError`] when it belongs to another one, or that can't be written.
    pub fn adopt(&self, given: ClusterId) -> Result<(), DirectoryError> {
        let path = self.path.clone();
        match self.cluster.id() {
            Some(stored) if stored != given => {
                Err(DirectoryError::OtherDrawnCluster { path, stored, given })
            }
            _ => self.cluster.adopt(given).map_err(|source| DirectoryError::Io { path, source }),
        }
    }

    /// The peers that this node knows.
    ///
    /// # Errors
    /// [`DirectoryError`] when the file that names them can't be read or is damaged.
    pub fn known_peers(&self) -> Result<KnownPeers, DirectoryError> {
        KnownPeers::open(&self.path).map_err(|error| unreadable(&self.path.join(PEERS), error))
    }

    /// Where the write-ahead log lives.
    #[must_use]
    pub fn wal(&self) -> PathBuf {
        self.path.join(WAL)
    }

    /// Where the snapshots live.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.path.join(SNAPSHOTS)
    }
}

pub(crate) fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK);
    let locked =
        lock_file(&path).map_err(|source| DirectoryError::Io { path: path.clone(), source })?;
    locked.map_err(|text| DirectoryError::InUse {
        path: directory.to_owned(),
        pid: text.trim().parse().ok(),
    })
}

/// What is there belongs to nobody, and is about to be set aside.
fn refuse_rejoining(directory: &Path) -> Result<(), DirectoryError> {
    let file = directory.join(REJOIN);
    match fs::symlink_metadata(&file) {
        Ok(_) => Err(DirectoryError::JoinsAgain { path: directory.to_owned() }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unreadable(&file, error)),
    }
}

/// Data without an identity are somebody's who lost it, and must not become this node's.
fn refuse_orphans(directory: &Path) -> Result<(), DirectoryError> {
    let missing = |what: String| DirectoryError::Missing {
        file: directory.join(IDENTITY),
        what: format!("it is missing, though {what}"),
    };
    for name in [WAL, SNAPSHOTS] {
        let path = directory.join(name);
        match fs::read_dir(&path).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return Err(missing(format!("there are files in {}", path.display()))),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(unreadable(&path, error));
            }
            _ => {}
        }
    }
    // A crash while the directory was made leaves a `BOOT` that counts no start.
    match BootFile::open(directory) {
        Ok(Some(boot)) if boot.record().count > BootCount(0) => {
            Err(missing("the node has started here before".to_owned()))
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(missing(format!("there is a damaged {BOOT}")))
        }
        Err(error) => Err(unreadable(&directory.join(BOOT), error)),
        Ok(_) => Ok(()),
    }
}

/// An identity without data is a node that forgot what it promised, and must not go on as if it
/// had promised nothing.
fn refuse_remains(directory: &Path) -> Result<(), DirectoryError> {
    for file in [WAL, SNAPSHOTS].map(|name| directory.join(name)) {
        match fs::metadata(&file) {
            Ok(found) if found.is_dir() => {}
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(unreadable(&file, error));
            }
            _ => {
                let what = "it is missing, though the node has an identity".to_owned();
                return Err(DirectoryError::Missing { file, what });
            }
        }
    }
    Ok(())
}

impl Identity {
    /// Whose data a directory holds, without locking it. None if it holds nobody's.
    ///
    /// # Errors
    /// [`DirectoryError`] when it can't be read or is damaged.
    pub fn stored(directory: &Path) -> Result<Option<Self>, DirectoryError> {
        let file = directory.join(IDENTITY);
        let text = match read_checked(&file) {
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                let spare = read_checked(&spare_of(&file)).ok().flatten();
                Some(spare.ok_or_else(|| unreadable(&file, error))?)
            }
            text => text.map_err(|error| unreadable(&file, error))?,
        };
        let parsed = text.map(|text| Self::parse(&text)).transpose();
        parsed.map_err(|what| DirectoryError::OtherVersion { file, what })
    }

    /// Makes what a node's directory consists of, this file last.
    fn found(&self, directory: &Path) -> io::Result<()> {
        make_directory(&directory.join(WAL))?;
        make_directory(&directory.join(SNAPSHOTS))?;
        BootFile::create(directory)?;
        write_checked(directory, IDENTITY, &self.text())
    }

    /// Writes the file and its spare anew if one of them is damaged or missing. It can wait if that
    /// fails: the other one says the same.
    fn mend(&self, directory: &Path) {
        let file = directory.join(IDENTITY);
        let is_sound = |path: &Path| matches!(read_checked(path), Ok(Some(_)));
        if is_sound(&file) && is_sound(&spare_of(&file)) {
            return;
        }
        // What was the file is the spare after the first time.
        let write = || write_checked(directory, IDENTITY, &self.text());
        match write().and_then(|()| write()) {
            Ok(()) => tracing::warn!("{} or its spare was damaged, and was mended", file.display()),
            Err(error) => tracing::warn!("{} can't be mended: {error}", file.display()),
        }
    }

    fn text(&self) -> String {
        format!(
            "logboat 1\ncluster {}\nname {}\nnode {}\nmembers {}\nincarnation {:016x}\n",
            self.cluster,
            self.name,
            self.node,
            list(&self.members),
            self.incarnation.0
        )
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut fields = TextFields::of(text, "logboat 1")?;
        let cluster = ClusterId(fields.number("cluster", 16)?);
        let name = fields.text("name")?.to_owned();
        let node = NodeId(fields.number("node", 10)?);
        let members = fields.text("members")?.split(',');
        let members = members.map(|member| number(member, 10).map(NodeId));
        let members = members.collect::<Result<_, _>>()?;
        let incarnation = Incarnation(fields.number("incarnation", 16)?);
        Ok(Self { cluster, name, node, members, incarnation })
    }

    /// Checks that a directory of this identity may be used under the other. The cluster's id says
    /// no more than what it is made of, the name and the members.
    fn compare(&self, given: &Self, path: &Path) -> Result<(), DirectoryError> {
        let path = path.to_owned();
        if self.name != given.name {
            return Err(DirectoryError::OtherCluster {
                path,
                stored: self.name.clone(),
                given: given.name.clone(),
            });
        }
        if self.node != given.node {
            return Err(DirectoryError::OtherNode { path, stored: self.node, given: given.node });
        }
        let sorted = |members: &[NodeId]| {
            let mut members = members.to_vec();
            members.sort_unstable();
            members
        };
        if sorted(&self.members) != sorted(&given.members) {
            return Err(DirectoryError::OtherMembers {
                path,
                stored: self.members.clone(),
                given: given.members.clone(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::SnapshotStore;
    use crate::wal::{Disk, FileDisk};
    use logboat_raft::{
        BootNonce, Configuration, GroupId, Index, LogId, LogPosition, Remembered, SnapshotMeta,
        Term,
    };
    use std::os::unix::fs::PermissionsExt;

    fn identity() -> Identity {
        Identity {
            cluster: ClusterId(0xabc),
            name: "first".to_owned(),
            node: NodeId(2),
            members: vec![NodeId(1), NodeId(2), NodeId(3)],
            incarnation: Incarnation(0xdef),
        }
    }

    #[test]
    fn a_directory_keeps_its_identity_over_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let (first, stored) = DataDir::open(directory.path(), &identity()).unwrap();
        assert_eq!(stored, identity());
        assert_eq!(first.wal(), directory.path().join("wal"));
        drop(first);
        let mut shuffled = identity();
        shuffled.members.reverse();
        let (_second, stored) = DataDir::open(directory.path(), &shuffled).unwrap();
        assert_eq!(stored, identity());
    }

    #[test]
    fn a_second_opener_is_told_who_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let (_first, _) = DataDir::open(directory.path(), &identity()).unwrap();
        let error = DataDir::open(directory.path(), &identity()).unwrap_err();
        let pid = std::process::id();
        assert!(matches!(error, DirectoryError::InUse { pid: Some(p), .. } if p == pid));
        assert!(error.to_string().contains(&format!("process {pid}")));
    }

    #[test]
    fn another_node_cluster_or_membership_is_refused_with_both_named() {
        let directory = tempfile::tempdir().unwrap();
        drop(DataDir::open(directory.path(), &identity()).unwrap());
        let refuse = |given: Identity| {
            let error = DataDir::open(directory.path(), &given).unwrap_err();
            error.to_string()
        };
        let node = refuse(Identity { node: NodeId(3), ..identity() });
        assert!(node.contains("belongs to node 2, not to node 3"), "{node}");
        let cluster = refuse(Identity { name: "second".to_owned(), ..identity() });
        assert!(cluster.contains(r#"cluster "first", not to "second""#), "{cluster}");
        let members = refuse(Identity { members: vec![NodeId(2), NodeId(4)], ..identity() });
        assert!(members.contains("1,2,3, not 2,4"), "{members}");
    }

    #[test]
    fn any_flipped_byte_of_the_identity_is_mended_from_its_spare_or_noticed() {
        let directory = tempfile::tempdir().unwrap();
        drop(DataDir::open(directory.path(), &identity()).unwrap());
        let path = directory.path().join(IDENTITY);
        let content = fs::read(&path).unwrap();
        for at in 0..content.len() {
            let mut damaged = content.clone();
            damaged[at] ^= 1;
            for one in [&path, &spare_of(&path)] {
                fs::write(one, &damaged).unwrap();
                let (opened, stored) = DataDir::open(directory.path(), &identity()).unwrap();
                assert_eq!(stored, identity(), "byte {at}");
                drop(opened);
                for mended in [&path, &spare_of(&path)] {
                    assert_eq!(fs::read(mended).unwrap(), content, "byte {at}");
                }
            }
            for both in [&path, &spare_of(&path)] {
                fs::write(both, &damaged).unwrap();
            }
            let error = DataDir::open(directory.path(), &identity()).unwrap_err();
            assert!(matches!(error, DirectoryError::Damaged { .. }), "byte {at}: {error}");
            for both in [&path, &spare_of(&path)] {
                fs::write(both, &content).unwrap();
            }
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (opened, _) = DataDir::open(directory.path(), &identity()).unwrap();
        let peers = directory.path().join(PEERS);
        fs::write(&peers, "2 7\n").unwrap();
        let error = opened.known_peers().unwrap_err().to_string();
        assert_eq!(error, format!("{}: it has no checksum", peers.display()));
        write_checked(directory.path(), PEERS, "logboat peers 2\ntwo 7\n").unwrap();
        let error = opened.known_peers().unwrap_err().to_string();
        assert_eq!(error, format!("{}: it has a line that names no peer", peers.display()));
        drop(opened);
        // Neither can be read as a file.
        for name in [PEERS, IDENTITY] {
            let file = directory.path().join(name);
            fs::remove_file(&file).unwrap();
            fs::create_dir(&file).unwrap();
            let opened = DataDir::open(directory.path(), &identity());
            let error = opened.and_then(|(opened, _)| opened.known_peers()).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(&format!("{}: ", file.display())), "{error}");
        }
    }

    #[test]
    fn nobody_else_may_read_what_is_made() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let (opened, _) = DataDir::open(&path, &identity()).unwrap();
        let known = opened.known_peers().unwrap();
        known.remember(NodeId(2), Remembered::default()).unwrap();
        let disk = FileDisk::open(&opened.wal()).unwrap();
        disk.create("0000000001.wal", 8192).unwrap();
        let snapshots = SnapshotStore::open(&opened.snapshots()).unwrap();
        let last = LogId::new(Term(1), Index(1));
        let configuration = Configuration::founding(&[NodeId(1)], None).into();
        let meta = SnapshotMeta { last, configuration };
        snapshots.create(GroupId(1), meta).unwrap().finish().unwrap();
        let mut waiting = vec![path];
        let mut seen = 0;
        while let Some(path) = waiting.pop() {
            let metadata = fs::metadata(&path).unwrap();
            let allowed = if metadata.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(metadata.permissions().mode() & 0o777, allowed, "{}", path.display());
            seen += 1;
            if metadata.is_dir() {
                let entries = fs::read_dir(&path).unwrap();
                waiting.extend(entries.map(|entry| entry.unwrap().path()));
            }
        }
        let what = "directories, LOCK, IDENTITY, BOOT and PEERS with spares, a segment, a snapshot";
        assert_eq!(seen, 12, "{what}");
    }

    #[test]
    fn what_another_build_has_written_is_not_damaged() {
        for (name, text) in [
            (IDENTITY, "logboat 2\n"),
            (IDENTITY, "logboat 1\ncluster 7\nregion 3\n"),
            (BOOT, "logboat boot 2\n"),
            (PEERS, "logboat peers 3\n"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            drop(DataDir::open(directory.path(), &identity()).unwrap());
            write_checked(directory.path(), name, text).unwrap();
            let opened = DataDir::open(directory.path(), &identity());
            let error = opened.and_then(|(opened, _)| opened.known_peers()).unwrap_err();
            assert!(matches!(error, DirectoryError::OtherVersion { .. }), "{name}: {error}");
            if name == BOOT {
                fs::remove_file(directory.path().join(IDENTITY)).unwrap();
                let error = DataDir::open(directory.path(), &identity()).unwrap_err();
                assert!(matches!(error, DirectoryError::OtherVersion { .. }), "{error}");
            }
        }
    }

    #[test]
    fn data_without_an_identity_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (opened, _) = DataDir::open(directory.path(), &identity()).unwrap();
        fs::write(opened.wal().join("0000000001.wal"), "data").unwrap();
        fs::remove_file(directory.path().join(IDENTITY)).unwrap();
        drop(opened);
        let error = DataDir::open(directory.path(), &identity()).unwrap_err();
        assert!(matches!(error, DirectoryError::Missing { .. }), "{error}");
    }

    #[test]
    fn a_directory_that_was_used_is_refused_without_its_identity() {
        let directory = tempfile::tempdir().unwrap();
        let (opened, _) = DataDir::open(directory.path(), &identity()).unwrap();
        opened.boot().begin(BootNonce(1), LogPosition::default()).unwrap();
        fs::remove_file(directory.path().join(IDENTITY)).unwrap();
        drop(opened);
        let error = DataDir::open(directory.path(), &identity()).unwrap_err();
        assert!(error.to_string().contains("has started here before"), "{error}");
    }

    #[test]
    fn a_directory_that_is_about_to_be_another_nodes_is_nobodys() {
        let directory = tempfile::tempdir().unwrap();
        drop(DataDir::open(directory.path(), &identity()).unwrap());
        fs::write(directory.path().join(REJOIN), "").unwrap();
        // What is there is set aside, its identity first, and may be cut short at any step.
        for name in [LOCK, IDENTITY, "IDENTITY.tmp", BOOT, PEERS, WAL, SNAPSHOTS] {
            let opened = DataDir::open(directory.path(), &identity());
            let stored = DataDir::open_stored(directory.path());
            for error in [opened.unwrap_err(), stored.unwrap_err()] {
                assert!(matches!(error, DirectoryError::JoinsAgain { .. }), "{error}");
            }
            let path = directory.path().join(name);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
    }

    #[test]
    fn a_directory_whose_making_was_cut_short_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        drop(DataDir::open(directory.path(), &identity()).unwrap());
        fs::remove_file(directory.path().join(IDENTITY)).unwrap();
        let (opened, _) = DataDir::open(directory.path(), &identity()).unwrap();
        assert_eq!(opened.boot().record().count, BootCount(0));
    }

    #[test]
    fn an_identity_without_a_boot_record_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        drop(DataDir::open(directory.path(), &identity()).unwrap());
        fs::remove_file(directory.path().join(BOOT)).unwrap();
        let error = DataDir::open(directory.path(), &identity()).unwrap_err();
        assert!(error.to_string().contains("an earlier build"), "{error}");
    }

    #[test]
    fn an_identity_without_its_data_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (opened, _) = DataDir::open(directory.path(), &identity()).unwrap();
        fs::remove_dir(opened.wal()).unwrap();
        drop(opened);
        let error = DataDir::open(directory.path(), &identity()).unwrap_err();
        assert!(matches!(error, DirectoryError::Missing { .. }), "{error}");
    }
}
