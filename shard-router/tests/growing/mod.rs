//! What tests of clusters share that grow: nodes over TCP that make one, and others that join.
#![allow(dead_code, reason = "not every test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use bytes::Bytes;
use logboat::transport::Visit;
use logboat::{Node, NodeConfig, NodeId, SnapshotWriter, StateMachine};
use logboat_router::{
    ClusterSettings, Joining, NodeCard, NodeState, Plan, Range, Router, RouterOptions,
    known_members,
};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Appends what it is told to.
#[derive(Default)]
pub(crate) struct Text(Vec<u8>);

impl StateMachine for Text {
    fn apply(&mut self, command: Bytes) -> Bytes {
        self.0.extend_from_slice(&command);
        self.query(Bytes::new())
    }

    fn query(&self, _query: Bytes) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    fn snapshot(&self) -> SnapshotWriter {
        let text = self.0.clone();
        Box::new(move |writer| writer.write_all(&text))
    }

    fn restore(&mut self, reader: &mut dyn Read) -> std::io::Result<()> {
        self.0.clear();
        reader.read_to_end(&mut self.0).map(drop)
    }
}

pub(crate) fn machine(_range: &Range) -> Box<dyn StateMachine> {
    Box::<Text>::default()
}

/// Ports that nobody listens on.
pub(crate) fn addresses(count: usize) -> Vec<String> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

pub(crate) fn tuned(mut config: NodeConfig) -> NodeConfig {
    config.workers = 1;
    config.wal.segment_bytes = 1 << 20;
    config.heartbeat_interval = Duration::from_millis(50);
    config.tuning.election_timeout = Duration::from_millis(500);
    config
}

/// Three nodes that make a cluster.
pub(crate) async fn founders(
    dir: &TempDir,
    groups: usize,
    lost_after: Option<Duration>,
) -> (Vec<Router>, Vec<String>) {
    let addresses = addresses(3);
    let start = |id| founder(dir, id, &addresses, groups, lost_after);
    let (one, two, three) = tokio::join!(start(1), start(2), start(3));
    (vec![one, two, three], addresses)
}

/// One of three nodes that make a cluster, there, or started again.
pub(crate) async fn founder(
    dir: &TempDir,
    id: u64,
    addresses: &[String],
    groups: usize,
    lost_after: Option<Duration>,
) -> Router {
    let plan = Plan {
        layout: "plain".to_owned(),
        groups: Some(groups),
        keeps_layout: false,
        edge_bits: 16,
        split_keys: None,
        replicas: 3,
    };
    let (id, dir) = (NodeId(id), dir.path().join(id.to_string()));
    let given: BTreeMap<_, _> = (1..).map(NodeId).zip(addresses.iter().cloned()).collect();
    let members = known_members(&dir, &given).unwrap();
    let mut config = tuned(NodeConfig::new(id, members, dir).unwrap());
    config.founders = Some(given.keys().copied().collect());
    let node = Node::start(config).unwrap();
    let card = Some(NodeCard { peers: given[&id].clone(), ..NodeCard::default() });
    let settings = ClusterSettings { lost_after, ..ClusterSettings::default() };
    let options = RouterOptions { plan: Some(plan), card, given, settings, joining: None };
    Router::start_with(node, options, machine).await.unwrap()
}

pub(crate) fn joining(nodes: &[String], address: &str) -> Joining {
    Joining {
        nodes: nodes.to_vec(),
        cluster_name: "logboat".to_owned(),
        card: NodeCard { peers: address.to_owned(), zone: "b".to_owned(), ..NodeCard::default() },
        visit: Visit::default(),
    }
}

/// Has a node join, or starts it again.
pub(crate) async fn join(nodes: &[String], address: &str, dir: &Path) -> Router {
    let joining = joining(nodes, address);
    let joined = joining.join(dir).await.unwrap();
    let node = Node::start(tuned(joined.config(dir).unwrap())).unwrap();
    let card = Some(joining.card.clone());
    let joining = Some(joining);
    let options = RouterOptions { card, joining, ..RouterOptions::default() };
    Router::start_with(node, options, machine).await.unwrap()
}

pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn state(router: &Router, node: u64) -> Option<NodeState> {
    router.table().node(NodeId(node)).map(|record| record.state)
}

pub(crate) async fn stop(router: Router) {
    let node = router.node().clone();
    drop(router);
    tokio::task::spawn_blocking(move || node.stop()).await.unwrap();
}
