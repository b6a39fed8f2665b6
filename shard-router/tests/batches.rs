//! Requests to several ranges that are made together.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use bytes::Bytes;
use logboat::transport::{Link, MemoryNetwork};
use logboat::{Node, NodeConfig, NodeId, SnapshotWriter, StateMachine};
use logboat_router::{Access, Plan, RangeRequest, RouteError, RoutedBatch, Router};
use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;
use tempfile::TempDir;

const RANGES: usize = 6;

/// Appends what it is told to, and answers with all of it.
#[derive(Default)]
struct Text(Vec<u8>);

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

/// Three nodes, which lead two ranges each.
struct Cluster {
    network: MemoryNetwork,
    routers: Vec<Router>,
    _dirs: Vec<TempDir>,
}

impl Cluster {
    async fn start() -> Self {
        let network = MemoryNetwork::new().unwrap();
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let plan = Plan {
            layout: "plain".to_owned(),
            groups: Some(RANGES),
            keeps_layout: false,
            edge_bits: 16,
            split_keys: None,
            replicas: 3,
        };
        let starting: Vec<_> = (1..=3)
            .map(|id| start_node(&network, NodeId(id), &dirs[id as usize - 1]))
            .map(|node| Router::start(node, plan.clone(), |_| Box::new(Text::default())))
            .map(tokio::spawn)
            .collect();
        let mut routers = Vec::new();
        for router in starting {
            routers.push(router.await.unwrap().unwrap());
        }
        Self { network, routers, _dirs: dirs }
    }

    /// Whom node 1 knows to lead each range.
    fn leaders(&self) -> Vec<Option<NodeId>> {
        let node = self.routers[0].node();
        let ranges = self.routers[0].map();
        let replica = |group| node.group(group).unwrap();
        ranges.ranges().iter().map(|range| replica(range.group).view().leader()).collect()
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
    config.tuning.election_timeout = Duration::from_millis(400);
    config.heartbeat_interval = Duration::from_millis(50);
    let network = network.clone();
    Node::start_on(config, move |identity, inbox| {
        let transport = network.join(identity.node, inbox);
        Ok(Link { transport, metrics: None, close: Box::new(|| {}) })
    })
    .unwrap()
}

fn write(range: usize, text: &'static str) -> RangeRequest {
    RangeRequest { range, access: Access::Write, body: Bytes::from(text) }
}

fn read(range: usize) -> RangeRequest {
    RangeRequest { range, access: Access::Read, body: Bytes::new() }
}

/// All answers, by the places of their requests.
async fn all(mut batch: RoutedBatch) -> Vec<Result<Bytes, RouteError>> {
    let mut answers = BTreeMap::new();
    loop {
        tokio::select! {
            some = batch.next() => match some {
                Some(some) => {
                    for (number, answer) in some {
                        assert_eq!(answers.insert(number, answer), None, "{number} twice");
                    }
                }
                None => break,
            },
            () = tokio::time::sleep(Duration::from_millis(20)) => batch.hurry(),
        }
    }
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), (0..answers.len()).collect::<Vec<_>>());
    answers.into_values().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_to_all_ranges_are_answered_and_writes_of_a_range_keep_their_order() {
    let cluster = Cluster::start().await;
    for (round, router) in cluster.routers.iter().enumerate() {
        let writes =
            (0..3 * RANGES).map(|number| write(number % RANGES, ["a", "b", "c"][number / RANGES]));
        let answers = all(router.request_all(writes.collect())).await;
        assert_eq!(answers.len(), 3 * RANGES);
        for (number, answer) in answers.into_iter().enumerate() {
            let text = "abc".repeat(round + 1);
            assert_eq!(answer.unwrap(), &text[..3 * round + 1 + number / RANGES]);
        }
        let reads = all(router.request_all((0..RANGES).map(read).collect())).await;
        let text = Bytes::from("abc".repeat(round + 1));
        assert!(reads.into_iter().all(|answer| answer == Ok(text.clone())));
    }
    assert_eq!(all(cluster.routers[0].request_all(Vec::new())).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_find_the_new_leaders_of_a_node_that_is_gone() {
    let cluster = Cluster::start().await;
    let router = &cluster.routers[0];
    let first = all(router.request_all((0..RANGES).map(|range| write(range, "a")).collect())).await;
    assert!(first.into_iter().all(|answer| answer == Ok(Bytes::from("a"))));
    assert!(cluster.leaders().contains(&Some(NodeId(3))));
    for node in [1, 2].map(NodeId) {
        cluster.network.cut(NodeId(3), node);
        cluster.network.cut(node, NodeId(3));
    }
    // The first attempts get no answer.
    let reads = all(router.request_all((0..RANGES).map(read).collect())).await;
    assert!(reads.into_iter().all(|answer| answer == Ok(Bytes::from("a"))));
    let writes = (0..2 * RANGES).map(|number| write(number / 2, ["b", "c"][number % 2]));
    let answers = all(router.request_all(writes.collect())).await;
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), ["ab", "abc"][number % 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_to_a_leader_that_is_cut_off_from_here_go_by_way_of_a_third_node() {
    let cluster = Cluster::start().await;
    let router = &cluster.routers[0];
    let reads = all(router.request_all((0..RANGES).map(read).collect())).await;
    assert!(reads.into_iter().all(|answer| answer.is_ok()));
    cluster.network.cut(NodeId(1), NodeId(3));
    cluster.network.cut(NodeId(3), NodeId(1));
    while router.node().reaches(NodeId(3)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let writes = (0..2 * RANGES).map(|number| write(number / 2, ["a", "b"][number % 2]));
    let answers = all(router.request_all(writes.collect())).await;
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), ["a", "ab"][number % 2]);
    }
}
