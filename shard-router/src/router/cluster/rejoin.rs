//! A node that can't go on under its id joins again as a new one.
//!
//! Either what it had promised is damaged or gone, and nobody can tell which groups that concerns,
//! or the cluster has given it up while it was away. Both end in the same steps, in this order:
//!
//! 1. The cluster says that the node is given up. That is a change of the table, so the meta group
//!    has a majority without the node. It is said only while every group with a replica there is
//!    led elsewhere, which takes a majority without that replica: no last copy goes. And it is not
//!    said while the node runs elsewhere.
//! 2. The directory notes the incarnation of the node to be, in `REJOIN`.
//! 3. What the former node had is set aside, its identity first. No replica of it ever votes again.
//! 4. `JOIN` holds the new incarnation, and `REJOIN` becomes `FORMER`. The node joins like any
//!    other.
//! 5. When the former node has left the table, no group needs what it had, and it is deleted, if
//!    the node was given up as in step 1. One that was given up before stays: after a lost majority
//!    it may hold what nobody else has. So does any if a node knows of such a recovery by then.
//!
//! A crash before step 2 has the node ask again, and the cluster says the same. After that,
//! [`Joining::join`] goes on where it was.

use super::join::{self, JoinError, Joining, PAUSE, REPORT_INTERVAL};
use super::service::{Question, Report, encode};
use super::{RETRY, cache};
use crate::error::ClusterError;
use crate::map::META_GROUP;
use crate::router::Inner;
use crate::table::{Change, NodeState, Table};
use logboat::former::{
    BootRecord, ClusterFile, DirectoryError, REJOIN, check_set_aside, former_path, remove_former,
    set_aside,
};
use logboat::transport::{BootCount, BootNonce, Identity, Incarnation, Start, VisitError};
use logboat::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Says whose the directory was before, and why it is not any more.
const FORMER: &str = "FORMER";

/// How long a node waits before its disk is tried again.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the threads of a node that has stopped may go on to use its directory.
const CLOSING_LIMIT: Duration = Duration::from_secs(30);

/// The node that a directory belonged to before it joined again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerNode {
    /// Its id.
    pub node: u64,
    /// Why it did not go on.
    pub why: String,
    /// Whether its data are deleted when the cluster has forgotten it, since other nodes had a
    /// majority of each group when it was given up, and no group was recovered from less since.
    /// Otherwise they stay until somebody deletes them.
    pub is_redundant: bool,
}

/// What the nodes say of themselves.
type Reports = BTreeMap<NodeId, Report>;

/// What `REJOIN` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Rejoining {
    former: FormerNode,
    /// The incarnation of the node to be.
    incarnation: u64,
    /// What the former node's state machines have in the directory, by name.
    states: Vec<String>,
    /// Whose the directory was before the former node.
    #[serde(default)]
    before: Vec<FormerNode>,
}

impl Rejoining {
    /// All nodes that the directory belonged to.
    fn all(self) -> impl Iterator<Item = FormerNode> {
        self.before.into_iter().chain([self.former])
    }
}

/// What a node asks that can't go on under its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resignation {
    cluster: String,
    drawn_cluster: Option<u64>,
    node: u64,
    incarnation: u64,
    /// The newest start that its directory knows: count and nonce. None if that can't be read.
    start: Option<(u64, u64)>,
    why: String,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Resigned {
    /// The node is given up for good, and what it has may go if it is redundant.
    Done { is_redundant: bool },
    /// Not yet, for this reason.
    Waits(String),
    /// It will not be.
    Refused(String),
}

impl Joining {
    /// Has the node of this directory, which must not run, give up its id and what it has, so that
    /// [`Self::join`] makes it a new node. For a node that was
    /// [expelled](crate::Router::expelled), or whose start has found
    /// [damage](logboat::StartError::is_damage). `why` says which, for people. `states` names what
    /// its state machines keep in the directory, which is set aside as well: whatever else is there
    /// stays. Waits for a minute if the cluster can't give the node up without a risk, or does not
    /// answer; the log says so. Then the start is to be tried again: a disk may have come late, and
    /// where those of a majority have, nobody could give up anybody. Returns where the data of the
    /// former node are.
    ///
    /// ```no_run
    /// use logboat::Node;
    /// use logboat_router::{JoinError, Joining};
    ///
    /// # async fn start(
    /// #     joining: Joining,
    /// #     data_dir: &std::path::Path,
    /// # ) -> Result<Node, Box<dyn std::error::Error>> {
    /// loop {
    ///     let joined = joining.join(data_dir).await?;
    ///     match Node::start(joined.config(data_dir)?) {
    ///         Err(error) if error.is_damage() => {
    ///             match joining.rejoin(data_dir, &error.to_string(), &[]).await {
    ///                 Err(JoinError::Waits(_)) => {}
    ///                 rejoined => drop(rejoined?),
    ///             }
    ///         }
    ///         started => return Ok(started?),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`JoinError`]. Nothing has changed in the directory then, but for
    /// [`JoinError::Directory`]: then the next [`Self::join`] goes on.
    pub async fn rejoin(
        &self,
        data_dir: &Path,
        why: &str,
        states: &[&str],
    ) -> Result<PathBuf, JoinError> {
        if let Some(former) = go_on(data_dir).await? {
            return Ok(former);
        }
        self.may_rejoin(data_dir, states)?;
        let stored = Identity::stored(data_dir).map_err(directory)?;
        let nobodys = || JoinError::Directory(format!("{}: nobody's", data_dir.display()));
        let identity = stored.ok_or_else(nobodys)?;
        self.check_cluster(&identity)?;
        let is_redundant = self.resign(data_dir, &identity, why, PATIENCE).await?;
        let before = read(&data_dir.join(FORMER)).map_err(directory)?;
        let rejoining = Rejoining {
            before: before.into_iter().flat_map(Rejoining::all).collect(),
            former: FormerNode { node: identity.node.0, why: why.to_owned(), is_redundant },
            incarnation: join::draw().0,
            states: states.iter().map(ToString::to_string).collect(),
        };
        let text = serde_json::to_vec(&rejoining).map_err(directory)?;
        cache::replace(data_dir, REJOIN, &text).map_err(directory)?;
        go_on(data_dir).await?.ok_or_else(nobodys)
    }

    /// Whether the node of this directory could become another one ([`Self::rejoin`]), if the
    /// cluster gives it up: what it has can be set aside, and its certificate names no id.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub fn may_rejoin(&self, data_dir: &Path, states: &[&str]) -> Result<(), JoinError> {
        let tls = self.visit.tls.as_ref();
        if let Some(node) = tls.and_then(|port| port.tls.bound_to()) {
            return Err(JoinError::Certificate(node));
        }
        check_set_aside(data_dir, states).map_err(directory)
    }

    /// Asks the cluster to give the node up, until it has, or for this long. Returns whether its
    /// data are redundant.
    async fn resign(
        &self,
        data_dir: &Path,
        identity: &Identity,
        why: &str,
        patience: Duration,
    ) -> Result<bool, JoinError> {
        let nodes = self.nodes_to_ask(data_dir)?;
        let start = BootRecord::stored(data_dir).ok().flatten().map(|record| record.start());
        let drawn = ClusterFile::stored(data_dir).map_err(directory)?;
        let question = encode(&Question::Resign(Resignation {
            cluster: self.cluster_name.clone(),
            drawn_cluster: drawn.map(|cluster| cluster.0),
            node: identity.node.0,
            incarnation: identity.incarnation.0,
            start: start.map(|start| (start.count.0, start.nonce.0)),
            why: why.to_owned(),
        }));
        let mut next_report = Instant::now();
        let deadline = next_report + patience;
        loop {
            let mut failures = Vec::new();
            for node in &nodes {
                let answer = self.visit.ask(node, &question).await;
                let answer = answer.and_then(|answer| {
                    serde_json::from_slice(&answer).map_err(|_| VisitError::NoAnswer)
                });
                failures.push(match answer {
                    Ok(Resigned::Done { is_redundant }) => return Ok(is_redundant),
                    Ok(Resigned::Refused(reason)) => return Err(JoinError::Refused(reason)),
                    Ok(Resigned::Waits(reason)) => format!("{node}: {reason}"),
                    Err(error) => format!("{node}: {error}"),
                });
            }
            let failures = failures.join("; ");
            if Instant::now() >= deadline {
                return Err(JoinError::Waits(failures));
            }
            if Instant::now() >= next_report {
                let id = identity.node;
                tracing::warn!(
                    "node {id} can't go on under its id: {why}. It is to join again as a new node, \
                     and waits until the cluster gives it up: {failures}"
                );
                next_report = Instant::now() + REPORT_INTERVAL;
            }
            sleep(PAUSE).await;
        }
    }
}

/// Whether the node of a directory has joined its cluster, or is about to, so that it is started as
/// one that does, even if it was started as one that makes a cluster before. One that only asked to
/// join, and has no id, is not: the cluster may not be there without it.
#[must_use]
pub fn has_joined(data_dir: &Path) -> bool {
    let is_founders = |identity: Identity| identity.members.contains(&identity.node);
    [REJOIN, FORMER].iter().any(|name| data_dir.join(name).exists())
        || Identity::stored(data_dir).is_ok_and(|it| it.is_some_and(|it| !is_founders(it)))
}

/// The node that a directory belonged to before its node joined again.
///
/// # Errors
/// When that can't be read.
pub fn former_node(data_dir: &Path) -> io::Result<Option<FormerNode>> {
    Ok(read(&data_dir.join(FORMER))?.map(|rejoining| rejoining.former))
}

fn directory(error: impl ToString) -> JoinError {
    JoinError::Directory(error.to_string())
}

fn read(path: &Path) -> io::Result<Option<Rejoining>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let rejoining = serde_json::from_slice(&text).map_err(|error| {
        let what = format!("{}: it does not say whose it was: {error}", path.display());
        io::Error::new(ErrorKind::InvalidData, what)
    });
    rejoining.map(Some)
}

/// Goes on with what `REJOIN` says, if there is one. Returns where the data of the former node are.
pub(super) async fn go_on(data_dir: &Path) -> Result<Option<PathBuf>, JoinError> {
    let Some(rejoining) = read(&data_dir.join(REJOIN)).map_err(directory)? else { return Ok(None) };
    let deadline = Instant::now() + CLOSING_LIMIT;
    loop {
        let data_dir = data_dir.to_owned();
        let states = rejoining.states.clone();
        let (node, incarnation) =
            (NodeId(rejoining.former.node), Incarnation(rejoining.incarnation));
        let moved = move || make_anothers(&data_dir, node, incarnation, &states);
        match tokio::task::spawn_blocking(moved).await.map_err(directory)? {
            Ok(()) => break,
            // A thread of the node that has stopped still uses it.
            Err(DirectoryError::InUse { .. }) if Instant::now() < deadline => sleep(RETRY).await,
            Err(error) => return Err(directory(error)),
        }
    }
    let FormerNode { node, is_redundant, .. } = rejoining.former;
    let former = former_path(data_dir, NodeId(node));
    let until = match is_redundant {
        true => "until the cluster has forgotten it",
        false => "and stays: it may hold what no other node has",
    };
    tracing::warn!("what node {node} had is in {} {until}", former.display());
    Ok(Some(former))
}

/// Makes a directory that of a node which is to join with this incarnation.
fn make_anothers(
    data_dir: &Path,
    former: NodeId,
    incarnation: Incarnation,
    states: &[String],
) -> Result<(), DirectoryError> {
    let states: Vec<_> = states.iter().map(String::as_str).collect();
    set_aside(data_dir, former, &states)?;
    let noted = join::note(data_dir, incarnation).and_then(|()| {
        fs::rename(data_dir.join(REJOIN), data_dir.join(FORMER))?;
        fs::File::open(data_dir)?.sync_all()
    });
    noted.map_err(|source| DirectoryError::Io { path: data_dir.to_owned(), source })
}

/// Deletes what the former nodes of this directory had when the cluster has forgotten them, if
/// others have it.
pub(super) async fn clear(inner: Arc<Inner>) {
    let data_dir = inner.node.data_dir().to_owned();
    let Ok(Some(rejoining)) = read(&data_dir.join(FORMER)) else { return };
    for former in rejoining.all().filter(|former| former.is_redundant) {
        let node = NodeId(former.node);
        if former_path(&data_dir, node).exists() {
            clear_of(&inner, &data_dir, node).await;
        }
    }
}

/// The same of one of them.
async fn clear_of(inner: &Arc<Inner>, data_dir: &Path, node: NodeId) {
    let mut tables = inner.feed.watch();
    if tables.wait_for(|table| table.has_left(node)).await.is_err() {
        return;
    }
    loop {
        let awaited: Vec<_> = inner.feed.newest().nodes().map(|(node, _)| node).collect();
        match fate(&awaited, &inner.reports().await) {
            Fate::Goes => break,
            Fate::Unknown => sleep(REPORT_INTERVAL).await,
            Fate::Stays { by } => {
                tracing::warn!(
                    "what node {node} had here stays: node {by} has given up nodes whose groups \
                     had lost their majority, so it may be the only copy"
                );
                return;
            }
        }
    }
    let data_dir = data_dir.to_owned();
    match tokio::task::spawn_blocking(move || remove_former(&data_dir, node)).await {
        Ok(Ok(())) => tracing::info!("what node {node} had here is deleted: it has left"),
        Ok(Err(error)) => tracing::warn!("what node {node} had here stays: {error}"),
        Err(error) => tracing::warn!("what node {node} had here stays: {error}"),
    }
}

/// What becomes of the data of a former node that has left.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Goes,
    /// A recovery has had groups go on from less than a majority, as this node knows.
    Stays {
        by: NodeId,
    },
    /// A node has not said.
    Unknown,
}

/// What becomes of such data, by what the nodes say that are asked. They were redundant when the
/// node was given up, but a recovery since may have taken an older copy.
fn fate(asked: &[NodeId], reports: &Reports) -> Fate {
    if let Some((by, _)) = reports.iter().find(|(_, report)| !report.given_up.is_empty()) {
        return Fate::Stays { by: *by };
    }
    match asked.iter().all(|node| reports.contains_key(node)) {
        true => Fate::Goes,
        false => Fate::Unknown,
    }
}

impl Inner {
    /// Gives up a node that says that it can't go on under its id. None if this node can't tell.
    pub(super) async fn resigned(self: &Arc<Self>, it: Resignation) -> Option<Resigned> {
        let drawn = it.drawn_cluster.map(ClusterId);
        if let Some(reason) = self.is_other_cluster(&it.cluster, drawn) {
            tracing::warn!("node {}, which wants to join again, is refused: {reason}", it.node);
            return Some(Resigned::Refused(reason));
        }
        let (table, node) = (self.feed.newest(), NodeId(it.node));
        match table.incarnation(node) {
            // Another cluster of this name has other directories, and must not decide about them.
            Some(known) if known != it.incarnation => {
                let reason = format!("node {node} is known by another data directory");
                return Some(Resigned::Refused(reason));
            }
            Some(_) => {}
            None => {
                let reason = format!("no data directory of a node {node} is known here");
                return Some(Resigned::Waits(reason));
            }
        }
        if table.was_decommissioned(node) {
            return Some(Resigned::Refused(format!("node {node} was decommissioned")));
        }
        // One that a recovery has given up may have what was lost.
        let is_redundant = table.has_resigned(node) && !self.node.is_given_up(node);
        let Some(record) = table.node(node) else { return Some(Resigned::Done { is_redundant }) };
        let reports = self.reports().await;
        let start = it
            .start
            .map(|(count, nonce)| Start { count: BootCount(count), nonce: BootNonce(nonce) });
        if let Some(start) = start
            && let Some(reason) = is_old(&reports, node, start)
        {
            return Some(Resigned::Refused(reason));
        }
        if let Some(reason) = needs(&reports, &table, node) {
            return Some(Resigned::Waits(reason));
        }
        if record.state == NodeState::Lost || self.node.is_given_up(node) {
            return Some(Resigned::Done { is_redundant });
        }
        if start.is_none() {
            let reason = format!(
                "the directory of node {node} does not tell its last start, so it may be an old \
                 copy: it waits until the node counts as lost"
            );
            return Some(Resigned::Waits(reason));
        }
        let change = Change::Resign { node, based_on: record.changed };
        let why = format!("it can't go on: {}", it.why);
        match self.change_table(change, why).await {
            Ok(_) => Some(Resigned::Done { is_redundant: true }),
            Err(ClusterError::Conflict) => None,
            Err(error) => Some(Resigned::Waits(error.to_string())),
        }
    }
}

/// Why a directory is an old copy, by what the nodes have let in since. A later start than they
/// know may have ended before it reached anybody.
fn is_old(reports: &Reports, node: NodeId, start: Start) -> Option<String> {
    let known = reports.iter().flat_map(|(by, report)| {
        report.let_in.iter().filter(|(of, ..)| *of == node.0).map(move |it| (by, it.1, it.2))
    });
    let is_later =
        |count, nonce| count > start.count.0 || (count == start.count.0 && nonce != start.nonce.0);
    let (by, count, _) = known.into_iter().find(|(_, count, nonce)| is_later(*count, *nonce))?;
    Some(format!(
        "node {by} has let in start {count} of node {node}, and this directory knows of start {} \
         of it: an old copy",
        start.count
    ))
}

/// Why the cluster can't do without a node that says that it does not run, if it can't.
fn needs(reports: &Reports, table: &Table, node: NodeId) -> Option<String> {
    if let Some((by, _)) = reports.iter().find(|(_, it)| it.reaches.contains(&node.0)) {
        return Some(format!(
            "node {node} runs, and node {by} hears it: another process has its id, from a copy \
             of this directory or as the original"
        ));
    }
    let led: BTreeSet<_> =
        reports.values().flat_map(|report| report.led.iter().map(|(group, _)| *group)).collect();
    let ranges = table.ranges().iter().map(|range| range.group).chain([META_GROUP]);
    let holds = |group| table.members(group).is_some_and(|members| members.contains(node));
    let mut unled = ranges.filter(|group| holds(*group) && !led.contains(&group.0));
    let first = unled.next()?;
    let count = 1 + unled.count();
    Some(format!(
        "{count} groups, such as group {first}, have no leader without node {node}: what it \
         has may be needed"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::NodeCard;
    use logboat::security::{CertificateAuthority, Own, PortTls, Role, Tls};
    use logboat::transport::Visit;

    /// A directory of a node, with what it keeps.
    fn directory_of_node() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["IDENTITY", "BOOT", "LOCK", join::FILE, "node.key"] {
            fs::write(dir.path().join(name), "former").unwrap();
        }
        for name in ["wal", "state"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let rejoining = Rejoining {
            former: FormerNode {
                node: 4,
                why: "its log is damaged".to_owned(),
                is_redundant: true,
            },
            incarnation: 0xabc,
            states: vec!["state".to_owned()],
            before: Vec::new(),
        };
        let text = serde_json::to_vec(&rejoining).unwrap();
        cache::replace(dir.path(), REJOIN, &text).unwrap();
        dir
    }

    fn joining() -> Joining {
        Joining {
            // Nobody listens there.
            nodes: vec!["127.0.0.1:1".to_owned()],
            cluster_name: "logboat".to_owned(),
            card: NodeCard::default(),
            visit: Visit::default(),
        }
    }

    async fn check_gone_on(path: &Path) {
        assert!(has_joined(path));
        let former = go_on(path).await.unwrap().unwrap();
        for name in ["IDENTITY", "BOOT", "wal", "state"] {
            assert!(former.join(name).exists() && !path.join(name).exists(), "{name}");
        }
        assert!(path.join("node.key").exists() && !path.join(REJOIN).exists());
        assert_eq!(fs::read_to_string(path.join(join::FILE)).unwrap().trim(), "0000000000000abc");
        assert_eq!(former_node(path).unwrap().unwrap().node, 4);
        assert!(has_joined(path) && go_on(path).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_crash_at_any_step_leaves_it_able_to_go_on() {
        let dir = directory_of_node();
        check_gone_on(dir.path()).await;
        for done in 1..=4 {
            let dir = directory_of_node();
            let (path, former) = (dir.path(), dir.path().join("former-4"));
            fs::create_dir(&former).unwrap();
            for name in ["IDENTITY", "wal", "BOOT"].iter().take(done) {
                fs::rename(path.join(name), former.join(name)).unwrap();
            }
            if done == 4 {
                join::note(path, Incarnation(0xabc)).unwrap();
            }
            check_gone_on(path).await;
        }
    }

    #[tokio::test]
    async fn a_node_that_waits_tries_its_disk_again() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity {
            cluster: ClusterId(1),
            name: "logboat".to_owned(),
            node: NodeId(3),
            members: [1, 2, 3].map(NodeId).to_vec(),
            incarnation: Incarnation(0xabc),
        };
        let waited = joining().resign(dir.path(), &identity, "no log", Duration::ZERO).await;
        assert!(matches!(&waited, Err(JoinError::Waits(it)) if it.contains("127.0.0.1:1")));
    }

    #[tokio::test]
    async fn a_node_whose_certificate_names_it_alone_gives_nothing_up() {
        let (dir, day) = (tempfile::tempdir().unwrap(), Duration::from_secs(86_400));
        let (authority, _) = CertificateAuthority::new("logboat", day).unwrap();
        let rejoin = async |role, name| {
            let files = authority.issue_files(dir.path(), name, role, &[], day).unwrap();
            let tls = Tls::open(files, "logboat", Own::Any).unwrap();
            let visit = Visit { tls: Some(PortTls { tls, required: true }), ..Visit::default() };
            let joining = Joining { visit, ..joining() };
            joining.rejoin(dir.path(), "its log is damaged", &[]).await.unwrap_err()
        };
        let bound = rejoin(Role::Peer(Some(3)), "bound").await;
        assert!(matches!(bound, JoinError::Certificate(3)), "{bound}");
        // With another one it gets as far as to find that there is no node here.
        let any = rejoin(Role::Peer(None), "any").await;
        assert!(matches!(any, JoinError::Directory(_)), "{any}");
    }

    #[test]
    fn whose_a_directory_was_before_its_former_node_is_kept() {
        let of = |node| FormerNode { node, why: String::new(), is_redundant: true };
        let rejoining =
            Rejoining { former: of(5), incarnation: 1, states: Vec::new(), before: vec![of(4)] };
        let nodes: Vec<_> = rejoining.all().map(|former| former.node).collect();
        assert_eq!(nodes, [4, 5]);
        let earlier =
            r#"{"former":{"node":4,"why":"","is_redundant":true},"incarnation":1,"states":[]}"#;
        let earlier: Rejoining = serde_json::from_str(earlier).unwrap();
        assert_eq!(earlier.all().count(), 1);
    }

    #[test]
    fn a_founder_that_asked_to_join_by_mistake_has_not_joined() {
        let dir = tempfile::tempdir().unwrap();
        join::note(dir.path(), Incarnation(0xabc)).unwrap();
        assert!(!has_joined(dir.path()));
        fs::write(dir.path().join(REJOIN), "").unwrap();
        assert!(has_joined(dir.path()));
    }

    #[test]
    fn data_go_when_every_node_says_that_no_majority_was_lost_since() {
        let (asked, report) = ([1, 2].map(NodeId), Report::default());
        let recovered = Report { given_up: vec![3], ..Report::default() };
        let mut reports = Reports::from([(NodeId(1), report.clone())]);
        assert_eq!(fate(&asked, &reports), Fate::Unknown);
        reports.insert(NodeId(2), report);
        assert_eq!(fate(&asked, &reports), Fate::Goes);
        reports.insert(NodeId(2), recovered);
        assert_eq!(fate(&asked, &reports), Fate::Stays { by: NodeId(2) });
    }

    #[tokio::test]
    async fn what_can_t_be_read_is_named() {
        let dir = directory_of_node();
        fs::write(dir.path().join(REJOIN), "nothing").unwrap();
        let error = go_on(dir.path()).await.unwrap_err().to_string();
        assert!(error.contains(REJOIN) && error.contains("whose it was"), "{error}");
        assert!(dir.path().join("IDENTITY").exists());
    }
}
