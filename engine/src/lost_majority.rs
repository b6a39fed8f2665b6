//! Groups that have lost their majority for good, and how they go on from what is left of them.
//!
//! Nothing of this is ever done by itself. A person says which nodes are lost, has the directories
//! of all others at hand, none of them in use, and decides on what [`Survivors::plan`] shows.
//! [`Survivors::apply`] then makes the survivor that holds the most the start of each such group.
//! The lost nodes are given up: no survivor ever lets them in again. docs/recovery.md has the
//! argument, and what may be lost.

mod apply;
mod plan;
#[cfg(test)]
mod tests;

use logboat_raft::{
    ClusterId, Configuration, GroupId, Index, LogId, NodeId, ReplicaAddress, ReplicaId, Term,
};
use logboat_storage::{
    DataDir, DirectoryError, Identity, KnownPeers, SnapshotError, SnapshotStore, WalReport, inspect,
};
pub use plan::{CopySnapshot, GroupCopy, GroupPlan, RecoverOptions, RecoverPlan, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

/// The data directories of all nodes of a cluster that are left, locked for as long as this lives.
pub struct Survivors {
    nodes: BTreeMap<NodeId, Survivor>,
}

/// A directory of a node that is left.
struct Survivor {
    node: NodeId,
    path: PathBuf,
    data_dir: DataDir,
    known_peers: KnownPeers,
    members: Vec<NodeId>,
    log: WalReport,
    /// The last entry of each snapshot, or what is damaged of it.
    snapshots: BTreeMap<GroupId, Result<LogId, String>>,
}

/// Why groups can't be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A directory can't be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The snapshots of a directory can't be read.
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    /// A directory can't be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// The log of a directory is damaged.
    #[error(
        "{}: the log is damaged: {damage}; if the node starts with it, start it once, and stop \
         it: it gives up the replicas concerned, and the others can be used",
        .path.display()
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// The first thing that is wrong.
        damage: String,
    },
    /// Two directories are of different clusters.
    #[error("{} and {} belong to different clusters", .first.display(), .second.display())]
    OtherCluster {
        /// One of them.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
    /// Two directories are of the same node: one of them is a copy.
    #[error("{} and {} both belong to node {node}", .first.display(), .second.display())]
    Twice {
        /// The node.
        node: NodeId,
        /// One of them.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
    /// Another survivor has given up the node of a directory, and never lets it in.
    #[error(
        "node {by} has given up node {node} when groups had lost their majority: {} can't be used",
        .path.display()
    )]
    GivenUp {
        /// The node.
        node: NodeId,
        /// Its directory.
        path: PathBuf,
        /// Who has given it up.
        by: NodeId,
    },
    /// The node of a directory has given up its id, and sets aside what it has at its next start.
    #[error(
        "{}: its node is about to join again as a new one: start it once, and stop it; what it had \
         is in former-ID there then",
        .path.display()
    )]
    JoinsAgain {
        /// The directory.
        path: PathBuf,
    },
    /// No directory was given.
    #[error("there is no directory of a survivor")]
    Nobody,
    /// No node was named as lost.
    #[error("no node is named as lost")]
    NothingLost,
    /// A node is called lost, and its directory is here.
    #[error("node {node} is named as lost, and {} is its directory", .path.display())]
    NotLost {
        /// The node.
        node: NodeId,
        /// Its directory.
        path: PathBuf,
    },
    /// A node is called lost that no directory knows.
    #[error("no directory knows node {0}, which is named as lost")]
    Unknown(NodeId),
    /// Nodes are neither lost nor here. They could come back, with a majority or with more than
    /// the survivors have, and would go on speaking to the lost nodes.
    #[error(
        "{} neither named as lost nor here: with {} a majority may come back; bring {} \
         director{}, or force it, which gives {} up",
        are(.0), them(.0), their(.0), ies(.0), them(.0)
    )]
    Absent(Vec<NodeId>),
    /// A copy of a group can't be written.
    #[error("group {group} on node {node}: {what}")]
    Unusable {
        /// The group.
        group: GroupId,
        /// The node.
        node: NodeId,
        /// Why not.
        what: String,
    },
}

fn are(nodes: &[NodeId]) -> String {
    let list: Vec<_> = nodes.iter().map(ToString::to_string).collect();
    match nodes {
        [one] => format!("node {one} is"),
        _ => format!("nodes {} are", list.join(", ")),
    }
}

const fn them(nodes: &[NodeId]) -> &'static str {
    if nodes.len() == 1 { "it" } else { "them" }
}

const fn their(nodes: &[NodeId]) -> &'static str {
    if nodes.len() == 1 { "its" } else { "their" }
}

const fn ies(nodes: &[NodeId]) -> &'static str {
    if nodes.len() == 1 { "y" } else { "ies" }
}

impl Survivors {
    /// Locks and reads the directories of all nodes that are left. Changes nothing of what they
    /// hold.
    ///
    /// # Errors
    /// [`RecoverError`] when one is in use, damaged, of another cluster, there twice, given up by
    /// the node of another one, or about to be a new node's.
    pub fn open(directories: &[PathBuf]) -> Result<Self, RecoverError> {
        let mut nodes: BTreeMap<NodeId, Survivor> = BTreeMap::new();
        let mut cluster: Option<(String, PathBuf)> = None;
        let mut drawn: Option<(ClusterId, PathBuf)> = None;
        for path in directories {
            let opened = DataDir::open_stored(path).map_err(|error| match error {
                DirectoryError::JoinsAgain { path } => RecoverError::JoinsAgain { path },
                error => error.into(),
            });
            let (data_dir, identity) = opened?;
            let drawn_here = data_dir.cluster().id();
            let (name, first) =
                cluster.get_or_insert_with(|| (identity.name.clone(), path.clone()));
            if let Some(id) = drawn_here {
                drawn.get_or_insert_with(|| (id, path.clone()));
            }
            let other = drawn.as_ref().filter(|(id, _)| drawn_here.is_some_and(|it| it != *id));
            let other = other.map(|(_, path)| path);
            if let Some(first) = other.or_else(|| (*name != identity.name).then_some(first)) {
                let (first, second) = (first.clone(), path.clone());
                return Err(RecoverError::OtherCluster { first, second });
            }
            let survivor = Survivor::read(path.clone(), data_dir, &identity)?;
            if let Some(other) = nodes.insert(identity.node, survivor) {
                let (node, first, second) = (identity.node, other.path, path.clone());
                return Err(RecoverError::Twice { node, first, second });
            }
        }
        if nodes.is_empty() {
            return Err(RecoverError::Nobody);
        }
        let survivors = Self { nodes };
        survivors.nodes.values().try_for_each(|survivor| survivors.check_place(survivor))?;
        Ok(survivors)
    }

    /// The nodes whose directories these are.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.keys().copied()
    }

    /// Checks that nobody here has given up this one.
    fn check_place(&self, survivor: &Survivor) -> Result<(), RecoverError> {
        let (node, path) = (survivor.node, survivor.path.clone());
        match self.nodes.values().find(|other| other.has_given_up(node)) {
            Some(other) => Err(RecoverError::GivenUp { node, path, by: other.node }),
            None => Ok(()),
        }
    }

    /// Every node that a directory knows.
    fn known(&self) -> BTreeSet<NodeId> {
        let mut known = BTreeSet::new();
        for survivor in self.nodes.values() {
            known.extend(&survivor.members);
            known.extend(survivor.known_peers.nodes());
            let groups = survivor.log.groups.values();
            let members = groups.filter_map(|group| group.configuration.as_ref());
            known.extend(members.flat_map(|it| it.members().iter().map(|member| member.node)));
        }
        known
    }

    /// Whether all survivors have given up a node.
    fn is_given_up(&self, node: NodeId) -> bool {
        self.nodes.values().all(|survivor| survivor.has_given_up(node))
    }
}

impl Survivor {
    fn read(path: PathBuf, data_dir: DataDir, identity: &Identity) -> Result<Self, RecoverError> {
        let known_peers = data_dir.known_peers()?;
        let wal = data_dir.wal();
        let log = inspect(&wal).map_err(|source| RecoverError::Io { path: wal, source })?;
        if !log.is_whole() {
            let damage = log.damage.first().map(ToString::to_string);
            let missing = log.missing.first().map(|file| format!("{} is missing", file.display()));
            let damage = damage.or(missing).unwrap_or_else(|| "a foreign file".to_owned());
            return Err(RecoverError::Damaged { path, damage });
        }
        let (end, known_end) = (log.end, data_dir.boot().record().log_end);
        if end < known_end {
            let damage = format!("it ends at {end}, and had been durable up to {known_end}");
            return Err(RecoverError::Damaged { path, damage });
        }
        let store = SnapshotStore::open(&data_dir.snapshots())?;
        let mut snapshots = BTreeMap::new();
        for group in store.groups() {
            let last = match store.read(group) {
                Ok(Some((meta, _))) => Ok(meta.last),
                Ok(None) => continue,
                Err(error) => Err(error.to_string()),
            };
            snapshots.insert(group, last);
        }
        let (node, members) = (identity.node, identity.members.clone());
        Ok(Self { node, path, data_dir, known_peers, members, log, snapshots })
    }

    fn has_given_up(&self, node: NodeId) -> bool {
        self.known_peers.get(node).is_some_and(|remembered| remembered.fenced)
    }

    /// What this directory has of a group, if it is a member by its own account.
    fn copy_of(&self, node: NodeId, group: GroupId) -> Option<GroupCopy> {
        let log = self.log.groups.get(&group)?;
        let configuration = log.configuration.clone()?;
        let replica = log.hard_state.replica;
        configuration.member_at(ReplicaAddress::new(node, replica))?;
        let snapshot = self.snapshots.get(&group).cloned().unwrap_or(Ok(LogId::default()));
        let covered = snapshot.as_ref().map_or(Index(0), |last| last.index);
        Some(GroupCopy {
            node,
            replica,
            term: log.hard_state.term,
            known_committed: log.hard_state.commit.max(log.snapshot.index).max(covered),
            begins_after: log.snapshot.index,
            last: log.last_id(),
            snapshot: CopySnapshot::of(log, snapshot),
            configuration,
        })
    }

    /// Whether a replica may start here that has written nothing yet.
    fn may_begin(&self, group: GroupId, replica: ReplicaId) -> bool {
        let floor = self.log.tombstones.get(&group);
        !self.log.groups.contains_key(&group) && floor.is_none_or(|floor| *floor <= replica)
    }
}

/// How far the term goes up in which a group starts over. The lost nodes may have been in later
/// terms than the survivors have heard of.
const TERM_STEP: u64 = 1 << 20;

/// The first term of the group's new life, after everything that is known of it.
const fn later_term(newest: Term) -> Term {
    Term(newest.0 + TERM_STEP)
}

/// The configuration by which a group starts over from a copy, in the entry after its last one.
fn start_over(copy: &GroupCopy, term: Term, learners: &[NodeId]) -> Option<Configuration> {
    let id = LogId::new(term, copy.last.index.next());
    copy.configuration.start_over(id, copy.node, learners)
}
