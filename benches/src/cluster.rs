//! A cluster of Logboat in this process, over loopback TCP.

use crate::Failure;
use crate::machine::Counter;
use logboat::{GroupHandle, GroupId, GroupSpec, Node, NodeConfig, NodeId, RoleKind, WalStatus};
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How large a cluster is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) groups: u64,
    /// Every group has a replica on each.
    pub(crate) nodes: u64,
    /// Threads that run groups, a node; one a core if not given.
    pub(crate) workers: Option<usize>,
    /// What a node may hold of all that is under way, if not the default.
    pub(crate) memory_budget_bytes: Option<usize>,
    /// Above what size of its log a node makes groups compact, if not the default.
    pub(crate) max_log_bytes: Option<u64>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            groups: 1_000,
            nodes: 3,
            workers: None,
            memory_budget_bytes: None,
            max_log_bytes: None,
        }
    }
}

/// The nodes, and each group's replicas in the order of the nodes.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    data_dir: PathBuf,
    /// By group, from the first one on.
    pub(crate) groups: Vec<Arc<[GroupHandle]>>,
    /// Of all nodes together.
    pub(crate) memory_budget_bytes: usize,
}

/// Starts a cluster, in a temporary directory if none is given, has it measured and stops it.
pub(crate) fn with_cluster<T>(
    shape: Shape,
    data_dir: Option<&Path>,
    measure: impl FnOnce(&Cluster) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let temporary = tempfile::Builder::new().prefix("logboat-bench-").tempdir()?;
    let cluster = Cluster::start(shape, data_dir.unwrap_or(temporary.path()))?;
    let measured = measure(&cluster)?;
    cluster.stop();
    Ok(measured)
}

impl Cluster {
    /// Starts the nodes on free ports of loopback, with data in `data_dir`, and waits until every
    /// group has a leader.
    pub(crate) fn start(shape: Shape, data_dir: &Path) -> Result<Self, Failure> {
        let mut memory_budget_bytes = 0;
        let members = free_addresses(shape.nodes)?;
        let nodes = members
            .keys()
            .map(|id| {
                let dir = node_dir(data_dir, *id);
                let mut config = NodeConfig::new(*id, members.clone(), dir)?;
                config.workers = shape.workers.unwrap_or(config.workers);
                if let Some(bytes) = shape.memory_budget_bytes {
                    config.memory_budget_bytes = bytes;
                }
                if let Some(bytes) = shape.max_log_bytes {
                    config.wal.max_bytes = bytes;
                }
                memory_budget_bytes += config.memory_budget_bytes;
                Ok(Node::start(config)?)
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let replicas: Vec<_> = members.keys().copied().collect();
        let groups = (1..=shape.groups).map(|group| {
            let preferred = Some(replicas[usize::try_from(group)? % replicas.len()]);
            let start = |node: &Node| {
                node.start_group(GroupSpec {
                    group: GroupId(group),
                    replicas: replicas.clone(),
                    preferred,
                    machine: Box::new(Counter::default()),
                })
            };
            Ok(nodes.iter().map(start).collect::<Result<Arc<[_]>, _>>()?)
        });
        let groups = groups.collect::<Result<_, Failure>>()?;
        let data_dir = data_dir.to_owned();
        let cluster = Self { nodes, data_dir, groups, memory_budget_bytes };
        cluster.await_leaders()?;
        Ok(cluster)
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

    /// The logs' counts and elections, over all nodes.
    pub(crate) fn counts(&self) -> Counts {
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

    /// The bytes of all files of all nodes' logs, those that wait to be used again among them.
    pub(crate) fn log_file_bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for node in &self.nodes {
            for file in node_dir(&self.data_dir, node.id()).join("wal").read_dir()? {
                // One that goes meanwhile is gone.
                bytes += file?.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        Ok(bytes)
    }

    /// Stops all nodes.
    pub(crate) fn stop(&self) {
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

/// What logs and replicas counted since they started.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) syncs: u64,
    pub(crate) entries: u64,
    pub(crate) written_bytes: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) snapshots: u64,
    pub(crate) elections: u64,
    /// Segment files that hold the logs now.
    pub(crate) segments: i64,
}

/// The replica that leads, if one does.
pub(crate) fn leading(replicas: &[GroupHandle]) -> Option<&GroupHandle> {
    replicas.iter().find(|replica| replica.view().role() == RoleKind::Leader)
}

/// Addresses on loopback that were free a moment ago.
fn free_addresses(nodes: u64) -> Result<BTreeMap<NodeId, String>, Failure> {
    let listeners: Vec<_> =
        (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
    let members = (1..).map(NodeId).zip(&listeners);
    members.map(|(id, listener)| Ok((id, address(listener)?))).collect()
}
