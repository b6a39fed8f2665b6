//! A node joins a cluster that there is already.
//!
//! It draws its incarnation and stores it, before it asks any node for an id. The cluster records
//! the incarnation with the id in the meta group, and never gives that id to another one. So the
//! node may ask as often as it likes, and needs nobody else to record it.

use super::service::{Question, encode};
use super::{cache, operate, rejoin};
use crate::error::ClusterError;
use crate::router::Inner;
use crate::table::{Change, NodeCard, Outcome};
use bytes::Bytes;
use logboat::former::ClusterFile;
use logboat::transport::{Identity, Incarnation, Visit, VisitError};
use logboat::{ClusterId, Founding, NodeConfig, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The file with the incarnation of a node that has no id yet. It stays when there is one.
pub(super) const FILE: &str = "JOIN";

/// How long to wait before the nodes are asked again.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// How often a node says for whom it waits.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// A node that is to be part of a cluster.
///
/// ```no_run
/// use logboat::transport::Visit;
/// use logboat::{Node, StateMachine};
/// use logboat_router::{Joining, NodeCard, Range, Router, RouterOptions};
///
/// # async fn join(
/// #     machine: fn(&Range) -> Box<dyn StateMachine>,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let card = NodeCard { peers: "10.0.0.4:7000".to_owned(), ..NodeCard::default() };
/// let joining = Joining {
///     nodes: vec!["10.0.0.1:7000".to_owned()],
///     cluster_name: "logboat".to_owned(),
///     card: card.clone(),
///     visit: Visit::default(),
/// };
/// // The same at each start.
/// let joined = joining.join("/var/lib/logboat".as_ref()).await?;
/// let node = Node::start(joined.config("/var/lib/logboat")?)?;
/// let (card, joining) = (Some(card), Some(joining));
/// let options = RouterOptions { card, joining, ..RouterOptions::default() };
/// let router = Router::start_with(node, options, machine).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Joining {
    /// Where nodes of the cluster are reached by their peers. Any of them will do.
    pub nodes: Vec<String>,
    /// The name of the cluster.
    pub cluster_name: String,
    /// Where this node is.
    pub card: NodeCard,
    /// What guards the ports between nodes.
    pub visit: Visit,
}

/// A node that is part of a cluster, and may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its id.
    pub node: NodeId,
    /// What tells its directory from others.
    pub incarnation: Incarnation,
    /// The name of the cluster.
    pub cluster_name: String,
    /// The id that was drawn for the cluster, if this node knows it.
    pub drawn_cluster: Option<ClusterId>,
    /// The nodes with which the cluster was made.
    pub founders: BTreeSet<NodeId>,
    /// All nodes, this one among them, with where their peers reach them.
    pub members: BTreeMap<NodeId, String>,
}

/// Why a node can't join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The cluster does not take the node.
    #[error("the cluster does not take this node: {0}")]
    Refused(String),
    /// The node was part of the cluster, and is not any more: see [`Joining::rejoin`].
    #[error("{0}")]
    Expelled(String),
    /// None of the nodes lets this one ask.
    #[error("no node lets this one in: {0}")]
    ShutOut(String),
    /// The directory belongs to a node that the cluster was made with.
    #[error(
        "the data directory belongs to node {0}, with which the cluster was made: it does not join"
    )]
    Founder(NodeId),
    /// The directory belongs to a node of another cluster.
    #[error("the data directory belongs to cluster {stored:?}, not to {given:?}")]
    OtherCluster {
        /// The name of that cluster.
        stored: String,
        /// The name of the cluster to join.
        given: String,
    },
    /// Something in the directory can't be read or written.
    #[error("{0}")]
    Directory(String),
    /// The cluster has not given up the node yet, which may have its disk again by now.
    #[error("the cluster does not give up this node yet: {0}")]
    Waits(String),
    /// The node is to come back under another id, and its certificate names the one that it has.
    #[error(
        "its certificate is of node {0} alone, and it is to come back under another id: give it \
         one that names no node, and start it again"
    )]
    Certificate(u64),
    /// There is nobody to ask.
    #[error("no node of the cluster is named")]
    NobodyToAsk,
}

/// What a node asks that wants to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Application {
    cluster: String,
    /// The id that was drawn for the cluster to which its directory belongs, if that says one.
    drawn_cluster: Option<u64>,
    incarnation: u64,
    card: NodeCard,
    /// Its id, if it has one and only looks for the others.
    #[serde(default)]
    node: Option<u64>,
}

/// What a node is told that has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Welcome {
    node: u64,
    drawn_cluster: Option<u64>,
    founders: BTreeSet<u64>,
    pub(super) members: BTreeMap<u64, String>,
}

/// Why a node can't tell a visitor what it asked.
pub(super) enum Unanswered {
    /// The cluster has decided so.
    Refused(String),
    /// Another node may, or this one later.
    Failed(VisitError),
}

impl Joining {
    /// Has the node of this directory join, or finds that it has. Waits for as long as no node
    /// answers, or the meta group has no majority; the log says so. Finishes a
    /// [`rejoin`](Self::rejoin) that was cut short.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub async fn join(&self, data_dir: &Path) -> Result<Joined, JoinError> {
        let directory = |error: &dyn ToString| JoinError::Directory(error.to_string());
        rejoin::go_on(data_dir).await?;
        let stored = Identity::stored(data_dir).map_err(|error| directory(&error))?;
        let drawn = ClusterFile::stored(data_dir).map_err(|error| directory(&error))?;
        let (mut joined, knows_others) = match stored {
            Some(identity) => {
                let joined = self.restarted(&identity)?;
                let known = cache::known_members(data_dir, &BTreeMap::new());
                let known = known.map_err(|error| directory(&error))?;
                let knows_others = !known.is_empty();
                (Joined { members: known, ..joined }, knows_others)
            }
            None => {
                let drawn = incarnation(data_dir).map_err(|error| directory(&error))?;
                (self.nobody(drawn), false)
            }
        };
        joined.drawn_cluster = drawn;
        if !knows_others {
            let node = Some(joined.node).filter(|node| *node != NodeId(0));
            let question = self.question(joined.incarnation, node, drawn);
            let nodes = self.nodes_to_ask(data_dir)?;
            let welcome = match self.ask_all(&nodes, &question).await {
                Err(JoinError::Refused(reason)) if node.is_some() => {
                    let expelled = self.ask_for_expulsion(&nodes, &joined).await;
                    return Err(expelled.map_or(JoinError::Refused(reason), JoinError::Expelled));
                }
                welcome => welcome?,
            };
            joined.node = NodeId(welcome.node);
            joined.drawn_cluster = welcome.drawn_cluster.map(ClusterId);
            joined.founders = welcome.founders.into_iter().map(NodeId).collect();
            let members = welcome.members.into_iter();
            joined.members = members.map(|(node, address)| (NodeId(node), address)).collect();
        }
        joined.members.insert(joined.node, self.card.peers.clone());
        Ok(joined)
    }

    /// Why a node is not part of the cluster any more, if any of these says so.
    async fn ask_for_expulsion(&self, nodes: &[String], it: &Joined) -> Option<String> {
        let (node, incarnation) = (it.node.0, it.incarnation.0);
        let question = encode(&Question::Standing { node, incarnation });
        for asked in nodes {
            let answer = self.visit.ask(asked, &question).await.ok();
            let reason = answer.and_then(|answer| serde_json::from_slice(&answer).ok());
            if let Some(Some(reason)) = reason {
                return Some(reason);
            }
        }
        None
    }

    fn restarted(&self, identity: &Identity) -> Result<Joined, JoinError> {
        if identity.members.contains(&identity.node) {
            return Err(JoinError::Founder(identity.node));
        }
        self.check_cluster(identity)?;
        let founders = identity.members.iter().copied().collect();
        Ok(Joined { node: identity.node, founders, ..self.nobody(identity.incarnation) })
    }

    /// Whether a directory is of the cluster to join.
    pub(super) fn check_cluster(&self, identity: &Identity) -> Result<(), JoinError> {
        if identity.name != self.cluster_name {
            let (stored, given) = (identity.name.clone(), self.cluster_name.clone());
            return Err(JoinError::OtherCluster { stored, given });
        }
        Ok(())
    }

    fn nobody(&self, incarnation: Incarnation) -> Joined {
        Joined {
            node: NodeId(0),
            incarnation,
            cluster_name: self.cluster_name.clone(),
            drawn_cluster: None,
            founders: BTreeSet::new(),
            members: BTreeMap::new(),
        }
    }

    /// What a node of this incarnation asks.
    pub(super) fn question(
        &self,
        incarnation: Incarnation,
        node: Option<NodeId>,
        drawn: Option<ClusterId>,
    ) -> Bytes {
        let application = Application {
            cluster: self.cluster_name.clone(),
            drawn_cluster: drawn.map(|cluster| cluster.0),
            incarnation: incarnation.0,
            card: self.card.clone(),
            node: node.map(|node| node.0),
        };
        encode(&Question::Join(application))
    }

    /// Asks one node.
    pub(super) async fn ask(&self, node: &str, question: &[u8]) -> Result<Welcome, Unanswered> {
        let answer = self.visit.ask(node, question).await.map_err(Unanswered::Failed)?;
        match serde_json::from_slice(&answer) {
            Ok(Ok(welcome)) => Ok(welcome),
            Ok(Err(reason)) => Err(Unanswered::Refused(reason)),
            Err(_) => Err(Unanswered::Failed(VisitError::NoAnswer)),
        }
    }

    /// Where nodes are that may be asked: those that are named, and those that a former node of
    /// this directory knew.
    pub(super) fn nodes_to_ask(&self, data_dir: &Path) -> Result<Vec<String>, JoinError> {
        let known = cache::known_members(data_dir, &BTreeMap::new());
        let known = known.map_err(JoinError::Directory)?.into_values();
        let mut nodes = self.nodes.clone();
        nodes.extend(known.filter(|node| !self.nodes.contains(node)));
        nodes.retain(|node| *node != self.card.peers);
        if nodes.is_empty() { Err(JoinError::NobodyToAsk) } else { Ok(nodes) }
    }

    /// Asks one node after the other until one answers.
    async fn ask_all(&self, nodes: &[String], question: &[u8]) -> Result<Welcome, JoinError> {
        let mut next_report = Instant::now();
        loop {
            let mut failures = Vec::new();
            let mut is_shut_out = true;
            for node in nodes {
                let error = match self.ask(node, question).await {
                    Ok(welcome) => return Ok(welcome),
                    Err(Unanswered::Refused(reason)) => return Err(JoinError::Refused(reason)),
                    Err(Unanswered::Failed(error)) => error,
                };
                is_shut_out &= matches!(error, VisitError::Refused(_));
                failures.push(format!("{node}: {error}"));
            }
            let failures = failures.join("; ");
            if is_shut_out {
                return Err(JoinError::ShutOut(failures));
            }
            if Instant::now() >= next_report {
                tracing::warn!("this node waits for an answer of the cluster: {failures}");
                next_report = Instant::now() + REPORT_INTERVAL;
            }
            sleep(PAUSE).await;
        }
    }
}

impl Joined {
    /// The configuration of the node, with the defaults where there is a choice.
    ///
    /// # Errors
    /// When the node's own address is not one to listen on.
    pub fn config(
        &self,
        data_dir: impl Into<std::path::PathBuf>,
    ) -> Result<NodeConfig, logboat::ConfigError> {
        let mut config = NodeConfig::new(self.node, self.members.clone(), data_dir)?;
        config.cluster_name.clone_from(&self.cluster_name);
        config.drawn_cluster = self.drawn_cluster;
        config.founders = Some(self.founders.clone());
        config.founding = Founding::Joined(self.incarnation);
        Ok(config)
    }
}

/// The incarnation of a directory to be.
pub(super) fn draw() -> Incarnation {
    Incarnation(random())
}

/// A number that is drawn anew at each call, and is not zero.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id()).max(1)
}

/// Notes the incarnation with which the node of a directory is to join.
pub(super) fn note(data_dir: &Path, incarnation: Incarnation) -> io::Result<()> {
    cache::replace(data_dir, FILE, format!("{:016x}\n", incarnation.0).as_bytes())
}

/// The incarnation of the directory to be, drawn and stored if there is none.
fn incarnation(data_dir: &Path) -> io::Result<Incarnation> {
    let path = data_dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    // A crash, or a full disk, may have left an empty file. Nobody was asked before it was written.
    if text.is_empty() {
        let drawn = draw();
        fs::create_dir_all(data_dir)?;
        note(data_dir, drawn)?;
        return Ok(drawn);
    }
    u64::from_str_radix(text.trim(), 16).map(Incarnation).map_err(|_| {
        let what = format!("{} holds no number: delete it if the node is new", path.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

impl Inner {
    /// Takes a node in. None if it should ask again, or somebody else.
    pub(super) async fn welcome(
        &self,
        application: Application,
    ) -> Option<Result<Welcome, String>> {
        let Application { cluster, drawn_cluster, incarnation, card, node } = application;
        if let Some(reason) = self.is_other_cluster(&cluster, drawn_cluster.map(ClusterId)) {
            let at = &card.peers;
            tracing::warn!("a node at {at} that wants to join is refused: {reason}");
            return Some(Err(reason));
        }
        if card.peers.is_empty() {
            return Some(Err("it does not say where its peers reach it".to_owned()));
        }
        let known = match node {
            Some(node) => self.known_as(NodeId(node), incarnation)?.map(|()| node),
            None => self.take_in(incarnation, card).await?,
        };
        let node = match known {
            Ok(node) => node,
            Err(reason) => return Some(Err(reason)),
        };
        let members = self.node.addresses().into_iter();
        Some(Ok(Welcome {
            node,
            drawn_cluster: self.feed.newest().cluster().map(|cluster| cluster.0),
            founders: self.node.founders().iter().map(|node| node.0).collect(),
            members: members.map(|(node, address)| (node.0, address)).collect(),
        }))
    }

    /// Why somebody who asks is no node of this cluster, if it says so by the cluster's name, or by
    /// the id that was drawn for it.
    pub(super) fn is_other_cluster(&self, name: &str, drawn: Option<ClusterId>) -> Option<String> {
        let own = self.node.cluster_name();
        if name != own {
            return Some(format!("this is cluster {own:?}, and not {name:?}"));
        }
        let (own, other) = self.feed.newest().cluster().zip(drawn)?;
        (own != other).then(|| {
            format!("this is cluster {own}, and the data directory belongs to cluster {other}")
        })
    }

    /// Whether a node that says so is part of the cluster, or why not. None if this node does not
    /// know.
    fn known_as(&self, node: NodeId, incarnation: u64) -> Option<Result<(), String>> {
        let table = self.feed.newest();
        if table.incarnation(node)? != incarnation {
            return Some(Err(format!("node {node} is known by another data directory")));
        }
        Some(operate::standing(&table, node, incarnation).map_or(Ok(()), Err))
    }

    /// Has the cluster give an id to this incarnation, or say why not. None if it can't now.
    async fn take_in(&self, incarnation: u64, card: NodeCard) -> Option<Result<u64, String>> {
        match self.change_table(Change::Join { incarnation, card }, "it asked to join").await {
            Ok(Outcome::Done { node, .. } | Outcome::Unchanged { node, .. }) => node.map(Ok),
            Err(ClusterError::Refused(reason)) if self.feed.newest().version() > 0 => {
                Some(Err(reason))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incarnation_is_drawn_once_and_again_if_a_crash_left_an_empty_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "").unwrap();
        let drawn = incarnation(dir.path()).unwrap();
        assert_eq!(incarnation(dir.path()).unwrap(), drawn);
        fs::write(dir.path().join(FILE), "no number").unwrap();
        let error = incarnation(dir.path()).unwrap_err();
        assert!(error.to_string().contains("holds no number"), "{error}");
    }
}
