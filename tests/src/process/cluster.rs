//! A cluster of processes.

use super::{NodeProcess, NodeSpec, ProcessError, Program, free_ports};
use std::net::Ipv4Addr;
use std::path::Path;
use tempfile::TempDir;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// The executable.
    pub program: Program,
    /// How many nodes.
    pub nodes: u16,
    /// Options of `logboat serve` that all nodes get.
    pub options: Vec<String>,
}

/// A cluster with its files in a temporary directory. The processes end with this value.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, node 1 first.
    pub nodes: Vec<NodeProcess>,
    /// Removed last.
    dir: TempDir,
}

impl Cluster {
    /// A cluster of which no node runs yet.
    ///
    /// # Errors
    /// When there are no ports or no temporary directory.
    pub fn new(spec: &ClusterSpec) -> Result<Self, ProcessError> {
        let dir = tempfile::Builder::new().prefix("logboat-test-").tempdir()?;
        let count = spec.nodes;
        let port = free_ports(count * 3)?;
        let members = (1..=count).map(|id| format!("{id}=127.0.0.1:{}", port + id - 1));
        let members = members.collect::<Vec<_>>().join(",");
        let nodes = (1..=count).map(|id| {
            let node = NodeSpec {
                id: id.into(),
                cluster: members.clone(),
                peer_listen: None,
                data_dir: dir.path().join(format!("node-{id}")),
                host: Ipv4Addr::LOCALHOST,
                admin_host: Ipv4Addr::LOCALHOST,
                namespace: None,
                client_port: port + count + id - 1,
                admin_port: port + 2 * count + id - 1,
                options: spec.options.clone(),
            };
            let log_file = dir.path().join(format!("node-{id}.log"));
            NodeProcess::new(spec.program.clone(), node, log_file)
        });
        Ok(Self { nodes: nodes.collect(), dir })
    }

    /// A cluster of which all nodes serve clients.
    ///
    /// # Errors
    /// When a node does not start.
    pub fn start(spec: &ClusterSpec) -> Result<Self, ProcessError> {
        let mut cluster = Self::new(spec)?;
        cluster.start_all()?;
        Ok(cluster)
    }

    /// Starts the nodes that don't run, and waits until all serve clients.
    ///
    /// # Errors
    /// When a node does not start.
    pub fn start_all(&mut self) -> Result<(), ProcessError> {
        for node in self.nodes.iter_mut().filter(|node| !node.is_started()) {
            node.start()?;
        }
        self.nodes.iter_mut().try_for_each(NodeProcess::ready)
    }

    /// A node that joins the cluster when it is started. It gets these options, and none of the
    /// others', of which some make a cluster. Its files are called after `number`.
    ///
    /// # Errors
    /// When there are no ports.
    ///
    /// # Panics
    /// When the cluster has no node.
    pub fn joining(&self, number: u64, options: &[&str]) -> Result<NodeProcess, ProcessError> {
        let port = free_ports(3)?;
        let first = &self.nodes[0];
        let spec = NodeSpec {
            id: number,
            peer_listen: Some((first.spec().host, port).into()),
            data_dir: self.dir.path().join(format!("node-{number}")),
            client_port: port + 1,
            admin_port: port + 2,
            options: options.iter().map(ToString::to_string).collect(),
            ..first.spec().clone()
        };
        let log_file = self.dir.path().join(format!("node-{number}.log"));
        Ok(NodeProcess::new(first.program().clone(), spec, log_file))
    }

    /// Adds a node that [joins](Self::joining) the cluster when it is started.
    ///
    /// # Errors
    /// When there are no ports.
    ///
    /// # Panics
    /// When the cluster has no node.
    pub fn add(&mut self, options: &[&str]) -> Result<&mut NodeProcess, ProcessError> {
        let node = self.joining(self.nodes.len() as u64 + 1, options)?;
        self.nodes.push(node);
        Ok(self.nodes.last_mut().expect("it was added"))
    }

    /// The node of this id.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn node(&self, id: usize) -> &NodeProcess {
        &self.nodes[id - 1]
    }

    /// The node of this id.
    ///
    /// # Panics
    /// When there is none.
    pub fn node_mut(&mut self, id: usize) -> &mut NodeProcess {
        &mut self.nodes[id - 1]
    }

    /// Where the cluster's files are; others may be put there.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}
