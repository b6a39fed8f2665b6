//! A cluster of Logboat in this process, over loopback TCP.

use crate::Failure;
use crate::machine::Counter;
use logboat::security::{CertificateAuthority, Own, PortTls, Role, Tls};
use logboat::{
    GroupError, GroupHandle, GroupId, GroupSpec, Node, NodeConfig, NodeId, RoleKind, WalStatus,
};
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The name of a cluster with TLS.
const CLUSTER: &str = "bench";

/// How long its certificates hold.
const DAY: Duration = Duration::from_secs(86_400);

/// The size of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many groups, each with a replica on every node.
    pub groups: u64,
    /// How many nodes.
    pub nodes: u64,
    /// Worker threads a node; one a core if not given.
    pub workers: Option<usize>,
    /// The memory budget of a node in bytes; the default if not given.
    pub memory_budget_bytes: Option<usize>,
    /// Above which size of its log, in bytes, a node makes groups compact; the default if not
    /// given.
    pub max_log_bytes: Option<u64>,
    /// Whether the nodes speak TLS with each other.
    pub tls: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            groups: 1_000,
            nodes: 3,
            workers: None,
            memory_budget_bytes: None,
            max_log_bytes: None,
            tls: false,
        }
    }
}

/// The nodes, and each group's replicas in the order of the nodes.
pub struct Cluster {
    nodes: Vec<Node>,
    data_dir: PathBuf,
    /// The replicas of each group, from the first group on.
    pub groups: Vec<Arc<[GroupHandle]>>,
    /// The memory budgets of all nodes together.
    pub memory_budget_bytes: usize,
    /// The time between two heartbeats of a node to each of its peers.
    pub heartbeat_interval: Duration,
}

/// Starts a cluster, calls `measure` with it, and stops it. The data lives in a temporary directory
/// if none is given.
///
/// # Errors
/// When the cluster does not start, and those of `measure`.
pub fn with_cluster<T>(
    shape: Shape,
    data_dir: Option<&Path>,
    measure: impl FnOnce(&Cluster) -> Result<T, Failure>,
) -> Result<T, Failure> {
    with_nodes(shape, data_dir, |cluster| {
        cluster.start_groups(shape.groups)?;
        measure(cluster)
    })
}

/// Does the same with a cluster whose groups have not been started yet.
///
/// # Errors
/// When the nodes don't start, and those of `measure`.
pub fn with_nodes<T>(
    shape: Shape,
    data_dir: Option<&Path>,
    measure: impl FnOnce(&mut Cluster) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let temporary = tempfile::Builder::new().prefix("logboat-bench-").tempdir()?;
    let mut cluster = Cluster::start_nodes(shape, data_dir.unwrap_or(temporary.path()))?;
    let measured = measure(&mut cluster)?;
    cluster.stop();
    Ok(measured)
}

impl Cluster {
    /// Starts the nodes on free ports of loopback, with data in `data_dir`, and their groups. Waits
    /// until every group has a leader.
    ///
    /// # Errors
    /// When a node or group does not start, or a group has no leader after a minute.
    pub fn start(shape: Shape, data_dir: &Path) -> Result<Self, Failure> {
        let mut cluster = Self::start_nodes(shape, data_dir)?;
        cluster.start_groups(shape.groups)?;
        Ok(cluster)
    }

    fn start_nodes(shape: Shape, data_dir: &Path) -> Result<Self, Failure> {
        let members = free_addresses(shape.nodes)?;
        let mut cluster = Self {
            nodes: Vec::new(),
            data_dir: data_dir.to_owned(),
            groups: Vec::new(),
            memory_budget_bytes: 0,
            heartbeat_interval: Duration::ZERO,
        };
        let authority = shape.tls.then(|| CertificateAuthority::new(CLUSTER, DAY)).transpose()?;
        for id in members.keys() {
            let mut config = NodeConfig::new(*id, members.clone(), node_dir(data_dir, *id))?;
            config.workers = shape.workers.unwrap_or(config.workers);
            if let Some(bytes) = shape.memory_budget_bytes {
                config.memory_budget_bytes = bytes;
            }
            if let Some(bytes) = shape.max_log_bytes {
                config.wal.max_bytes = bytes;
            }
            if let Some((authority, _)) = &authority {
                let dir = data_dir.join(format!("tls-{id}"));
                let role = Role::Peer(Some(id.0));
                let files = authority.issue_files(&dir, "node", role, &[], DAY)?;
                let tls = Tls::open(files, CLUSTER, Own::Peer(id.0))?;
                config.tls = Some(PortTls { tls, required: true });
                CLUSTER.clone_into(&mut config.cluster_name);
            }
            cluster.memory_budget_bytes += config.memory_budget_bytes;
            cluster.heartbeat_interval = config.heartbeat_interval;
            cluster.nodes.push(Node::start(config)?);
        }
        Ok(cluster)
    }

    /// Starts `groups` groups with a replica on each node, on all nodes at once. Waits until every
    /// group has a leader.
    ///
    /// # Errors
    /// When a group does not start, or has no leader after a minute.
    pub fn start_groups(&mut self, groups: u64) -> Result<(), Failure> {
        let members: Vec<_> = self.nodes.iter().map(Node::id).collect();
        let spec = |group: u64| GroupSpec {
            group: GroupId(group),
            replicas: members.clone(),
            preferred: Some(members[group as usize % members.len()]),
            machine: Box::new(Counter::default()),
        };
        let start_on = |node: &Node| -> Result<Vec<GroupHandle>, GroupError> {
            (1..=groups).map(|group| node.create_group(spec(group))).collect()
        };
        let started = std::thread::scope(|scope| {
            let starting: Vec<_> =
                self.nodes.iter().map(|node| scope.spawn(|| start_on(node))).collect();
            let started = starting.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            started.collect::<Result<Vec<_>, _>>()
        })?;
        let mut replicas: Vec<_> = started.into_iter().map(Vec::into_iter).collect();
        self.groups =
            (0..groups).map(|_| replicas.iter_mut().filter_map(Iterator::next).collect()).collect();
        self.await_leaders()
    }

    fn await_leaders(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let led = |replicas: &Arc<[GroupHandle]>| leading(replicas).is_some();
        while !self.groups.iter().all(led) {
            if Instant::now() > deadline {
                return Err("some groups have no leader after 60 s".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The nodes, by id.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The counts of the logs and replicas of all nodes.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for node in &self.nodes {
            let WalStatus { syncs, entries, written_bytes, payload_bytes, segments, .. } =
                node.status().wal;
            counts.segments += segments;
            counts.syncs += syncs;
            counts.entries += entries;
            counts.written_bytes += written_bytes;
            counts.payload_bytes += payload_bytes;
            counts.snapshots += node.metrics().snapshots_written.get();
            counts.elections += node.metrics().elections_won.get();
        }
        counts
    }

    /// The traffic of all nodes to their peers.
    ///
    /// # Errors
    /// When the metrics can't be read.
    pub fn sent(&self) -> Result<Sent, Failure> {
        let mut text = String::new();
        for node in &self.nodes {
            let mut registry = Registry::default();
            node.register_metrics(&mut registry);
            prometheus_client::encoding::text::encode(&mut text, &registry)?;
        }
        let total = |name: &str| -> Result<u64, Failure> {
            let samples = text.lines().filter_map(|line| line.strip_prefix(name));
            let values = samples.filter_map(|sample| sample.rsplit_once(' '));
            values.map(|(_, value)| Ok(value.parse::<u64>()?)).sum()
        };
        Ok(Sent {
            messages: total("logboat_transport_messages_sent_total{")?,
            bytes: total("logboat_transport_bytes_sent_total{")?,
        })
    }

    /// The bytes of all files of all logs, including files that wait to be used again.
    ///
    /// # Errors
    /// When a log's directory can't be read.
    pub fn log_file_bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for node in &self.nodes {
            for file in node_dir(&self.data_dir, node.id()).join("wal").read_dir()? {
                // A file may be removed meanwhile.
                bytes += file?.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        Ok(bytes)
    }

    /// Stops all nodes.
    pub fn stop(&self) {
        std::thread::scope(|scope| {
            for node in &self.nodes {
                scope.spawn(|| node.stop());
            }
        });
    }
}

/// Where a node keeps its data.
fn node_dir(data_dir: &Path, node: NodeId) -> PathBuf {
    data_dir.join(format!("node-{node}"))
}

/// The counts of logs and replicas since they started.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Syncs of the logs.
    pub syncs: u64,
    /// Entries written to the logs.
    pub entries: u64,
    /// Bytes written to the logs, framing included.
    pub written_bytes: u64,
    /// Bytes of the entries' commands in them.
    pub payload_bytes: u64,
    /// Snapshots written.
    pub snapshots: u64,
    /// Elections won.
    pub elections: u64,
    /// Segment files that hold the logs now.
    pub segments: i64,
}

/// The traffic of nodes to their peers since they started.
#[derive(Clone, Copy)]
pub struct Sent {
    /// Messages of groups and of node liveness.
    pub messages: u64,
    /// Bytes, framing included.
    pub bytes: u64,
}

/// The replica that leads the group, if one does.
pub fn leading(replicas: &[GroupHandle]) -> Option<&GroupHandle> {
    replicas.iter().find(|replica| replica.view().role() == RoleKind::Leader)
}

/// Addresses on loopback that were free a moment ago.
///
/// # Errors
/// When no port can be had.
pub fn free_addresses(nodes: u64) -> Result<BTreeMap<NodeId, String>, Failure> {
    let listeners: Vec<_> =
        (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
    let members = (1..).map(NodeId).zip(&listeners);
    members.map(|(id, listener)| Ok((id, address(listener)?))).collect()
}
