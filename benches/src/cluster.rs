//! A cluster of Logboat in this process, over loopback TCP.

use crate::Failure;
use crate::machine::Counter;
use logboat::{GroupHandle, GroupId, GroupSpec, Node, NodeConfig, NodeId, RoleKind, WalStatus};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
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
}

/// The nodes, and each group's replicas in the order of the nodes.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    /// By group, from the first one on.
    pub(crate) groups: Vec<Arc<[GroupHandle]>>,
}

impl Cluster {
    /// Starts the nodes on free ports of loopback, with data in `data_dir`, and waits until every
    /// group has a leader.
    pub(crate) fn start(shape: Shape, data_dir: &Path) -> Result<Self, Failure> {
        let members = free_addresses(shape.nodes)?;
        let nodes = members
            .keys()
            .map(|id| {
                let dir = data_dir.join(format!("node-{id}"));
                let mut config = NodeConfig::new(*id, members.clone(), dir)?;
                config.workers = shape.workers.unwrap_or(config.workers);
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
        let cluster = Self { nodes, groups };
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
            let WalStatus { syncs, entries, written_bytes, payload_bytes, .. } = node.status().wal;
            counts.syncs += syncs;
            counts.entries += entries;
            counts.written_bytes += written_bytes;
            counts.payload_bytes += payload_bytes;
            counts.elections += node.metrics().elections_won.get();
        }
        counts
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

/// What logs and replicas counted since they started.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) syncs: u64,
    pub(crate) entries: u64,
    pub(crate) written_bytes: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) elections: u64,
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
