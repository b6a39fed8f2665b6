//! Requests get to a leader that their node does not reach, by way of a node that does.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use bytes::Bytes;
use logboat::transport::{Link, MemoryNetwork};
use logboat::{
    GroupRequest, Node, NodeConfig, NodeId, ReadFrom, ReadMode, RequestError, SnapshotWriter,
    StateMachine,
};
use logboat_router::{Plan, RouteError, Router};
use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Appends what it is told to.
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

/// Three nodes, each the preferred leader of one range.
struct Cluster {
    network: MemoryNetwork,
    routers: Vec<Router>,
    _dirs: Vec<TempDir>,
}

impl Cluster {
    async fn start() -> Self {
        Self::over(MemoryNetwork::new().unwrap()).await
    }

    async fn over(network: MemoryNetwork) -> Self {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let nodes = (1..=3).map(|id| start_node(&network, NodeId(id), &dirs[id as usize - 1]));
        let plan = Plan {
            layout: "plain".to_owned(),
            groups: Some(3),
            keeps_layout: false,
            edge_bits: 16,
            split_keys: None,
            replicas: 3,
        };
        let starting: Vec<_> = nodes
            .map(|node| Router::start(node, plan.clone(), |_| Box::new(Text::default())))
            .map(tokio::spawn)
            .collect();
        let mut routers = Vec::new();
        for router in starting {
            routers.push(router.await.unwrap().unwrap());
        }
        Self { network, routers, _dirs: dirs }
    }

    fn node(&self, id: u64) -> &Node {
        self.routers[id as usize - 1].node()
    }

    fn cut(&self, a: u64, b: u64) {
        self.network.cut(NodeId(a), NodeId(b));
        self.network.cut(NodeId(b), NodeId(a));
    }

    /// Waits until node 3 leads a range.
    async fn wait_for_leader_3(&self) {
        let leads = || {
            let groups = self.node(3).groups().into_iter().filter(|group| group.0 != 0);
            let mut handles = groups.filter_map(|group| self.node(3).group(group));
            handles.any(|handle| handle.view().leader() == Some(NodeId(3)))
        };
        eventually("node 3 leads a range", leads).await;
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
    config.heartbeat_interval = Duration::from_millis(50);
    config.tuning.election_timeout = Duration::from_millis(500);
    let network = network.clone();
    Node::start_on(config, move |identity, inbox| {
        let (transport, node) = (network.join(identity.node, inbox), identity.node);
        let close = Box::new(move || network.leave(node));
        Ok(Link { transport, metrics: None, close })
    })
    .unwrap()
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_on_the_far_side_of_a_broken_link_is_reached_by_way_of_a_third_node() {
    let cluster = Cluster::start().await;
    cluster.wait_for_leader_3().await;
    cluster.cut(1, 3);
    let unreached = || !cluster.node(1).reaches(NodeId(3)) && !cluster.node(3).reaches(NodeId(1));
    eventually("nodes 1 and 3 lose each other", unreached).await;
    for router in [&cluster.routers[0], &cluster.routers[2]] {
        let map = router.map();
        for range in map.ranges() {
            let text = router.propose(range, Bytes::from_static(b"x")).await.unwrap();
            assert_eq!(router.read(range, Bytes::new()).await.unwrap(), text);
            let anywhere = ReadMode { from: ReadFrom::Any, lease: false };
            assert_eq!(router.read_in(anywhere, range, Bytes::new()).await.unwrap(), text);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_forward_a_request_says_whom_it_does_not_reach() {
    let cluster = Cluster::start().await;
    cluster.cut(2, 3);
    let unreached = || !cluster.node(2).reaches(NodeId(3));
    eventually("nodes 2 and 3 lose each other", unreached).await;
    let range = cluster.routers[0].map().ranges()[0].clone();
    let request = GroupRequest::propose(Bytes::from_static(b"x"));
    let answer = cluster.node(1).call_via(NodeId(2), NodeId(3), range.group, &request).await;
    assert_eq!(answer, Err(RequestError::Unreachable(NodeId(3))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_wait_for_room_on_the_way_and_none_is_lost() {
    const TEXT_BYTES: usize = 200_000;
    // One answer at a time, and a little.
    let cluster = Cluster::over(MemoryNetwork::bounded(TEXT_BYTES + 50_000).unwrap()).await;
    cluster.wait_for_leader_3().await;
    let router = cluster.routers[0].clone();
    let led_by_3 = |group| cluster.node(3).group(group).unwrap().view().leader() == Some(NodeId(3));
    let range = router.map().ranges().iter().find(|it| led_by_3(it.group)).unwrap().clone();
    let text = router.propose(&range, vec![b'x'; TEXT_BYTES].into()).await.unwrap();
    let reads = (0..50).map(|_| {
        let (router, range) = (router.clone(), range.clone());
        tokio::spawn(async move { router.read(&range, Bytes::new()).await })
    });
    for read in reads.collect::<Vec<_>>() {
        assert_eq!(read.await.unwrap().as_ref(), Ok(&text));
    }
}

#[test]
fn the_error_names_the_leader() {
    let error = RouteError::LeaderUnreachable { leader: NodeId(3) };
    assert_eq!(error.to_string(), "node 3 leads the range and cannot be reached from here");
}
