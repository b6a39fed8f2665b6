//! Three nodes on an in-memory network, with routers whose ranges hold text.

#![allow(dead_code, reason = "each test file uses its part")]

use bytes::Bytes;
use logboat::transport::{Link, MemoryNetwork};
use logboat::{Node, NodeConfig, NodeId, SnapshotWriter, StateMachine};
use logboat_router::{Plan, Router};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Appends what it is told to, and answers with all of it.
struct Text {
    text: Vec<u8>,
    /// How many queries the node has answered.
    queries: Arc<AtomicUsize>,
}

impl StateMachine for Text {
    fn apply(&mut self, command: Bytes) -> Bytes {
        self.text.extend_from_slice(&command);
        Bytes::copy_from_slice(&self.text)
    }

    fn query(&self, _query: Bytes) -> Bytes {
        self.queries.fetch_add(1, Ordering::Relaxed);
        Bytes::copy_from_slice(&self.text)
    }

    fn snapshot(&self) -> SnapshotWriter {
        let text = self.text.clone();
        Box::new(move |writer| writer.write_all(&text))
    }

    fn restore(&mut self, reader: &mut dyn Read) -> std::io::Result<()> {
        self.text.clear();
        reader.read_to_end(&mut self.text).map(drop)
    }
}

/// Three nodes, which lead the same number of ranges each.
pub(crate) struct Cluster {
    network: MemoryNetwork,
    pub(crate) routers: Vec<Router>,
    /// How many queries each node has answered.
    pub(crate) queries: Vec<Arc<AtomicUsize>>,
    _dirs: Vec<TempDir>,
}

impl Cluster {
    pub(crate) async fn start(ranges: usize) -> Self {
        Self::over(MemoryNetwork::new().unwrap(), ranges).await
    }

    pub(crate) async fn over(network: MemoryNetwork, ranges: usize) -> Self {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let plan = Plan {
            layout: "plain".to_owned(),
            groups: Some(ranges),
            keeps_layout: false,
            edge_bits: 16,
            split_keys: None,
            replicas: 3,
        };
        let queries: Vec<Arc<AtomicUsize>> = (0..3).map(|_| Arc::default()).collect();
        let start = |(dir, queries): (&TempDir, &Arc<AtomicUsize>), id| {
            let (node, queries) = (start_node(&network, id, dir), Arc::clone(queries));
            let text = move || Text { text: Vec::new(), queries: Arc::clone(&queries) };
            tokio::spawn(Router::start(node, plan.clone(), move |_| Box::new(text())))
        };
        let places = dirs.iter().zip(&queries);
        let starting: Vec<_> =
            places.zip((1..=3).map(NodeId)).map(|(place, id)| start(place, id)).collect();
        let mut routers = Vec::new();
        for router in starting {
            routers.push(router.await.unwrap().unwrap());
        }
        Self { network, routers, queries, _dirs: dirs }
    }

    pub(crate) fn node(&self, id: u64) -> &Node {
        self.routers[id as usize - 1].node()
    }

    /// Whom node 1 knows to lead each range.
    pub(crate) fn leaders(&self) -> Vec<Option<NodeId>> {
        let ranges = self.routers[0].map();
        let replica = |group| self.node(1).group(group).unwrap();
        ranges.ranges().iter().map(|range| replica(range.group).view().leader()).collect()
    }

    /// Two nodes lose each other.
    pub(crate) fn cut(&self, a: u64, b: u64) {
        self.network.cut(NodeId(a), NodeId(b));
        self.network.cut(NodeId(b), NodeId(a));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.routers.iter().for_each(|router| router.node().stop());
    }
}

fn start_node(network: &MemoryNetwork, id: NodeId, dir: &TempDir) -> Node {
    let members: BTreeMap<_, _> =
        (1..=3).map(|id| (NodeId(id), format!("127.0.0.1:{id}"))).collect();
    let mut config = NodeConfig::new(id, members, dir.path()).unwrap();
    config.workers = 1;
    config.wal.segment_bytes = 1 << 20;
    config.tuning.election_timeout = Duration::from_millis(500);
    config.heartbeat_interval = Duration::from_millis(50);
    let network = network.clone();
    Node::start_on(config, move |identity, inbox| {
        let (transport, node) = (network.join(identity.node, inbox), identity.node);
        let close = Box::new(move || network.leave(node));
        Ok(Link { transport, metrics: None, close })
    })
    .unwrap()
}
