//! Nodes join a cluster, and follow its table, whether they have a replica of it or not.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use bytes::Bytes;
use logboat::transport::Visit;
use logboat::{
    Change, ChangeError, GroupId, Node, NodeConfig, NodeId, SnapshotWriter, StateMachine,
};
use logboat_router::{
    JoinError, Joining, META_GROUP, NodeCard, NodeState, Plan, Range, Router, RouterOptions,
};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
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

fn machine(_range: &Range) -> Box<dyn StateMachine> {
    Box::<Text>::default()
}

/// Ports that nobody listens on.
fn addresses(count: usize) -> Vec<String> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

fn tuned(mut config: NodeConfig) -> NodeConfig {
    config.workers = 1;
    config.wal.segment_bytes = 1 << 20;
    config.heartbeat_interval = Duration::from_millis(50);
    config.tuning.election_timeout = Duration::from_millis(500);
    config
}

/// Three nodes that make a cluster.
async fn founders(dir: &TempDir) -> (Vec<Router>, Vec<String>) {
    let addresses = addresses(3);
    let members: BTreeMap<_, _> = (1..).map(NodeId).zip(addresses.iter().cloned()).collect();
    let plan = Plan {
        layout: "plain".to_owned(),
        groups: Some(2),
        keeps_layout: false,
        edge_bits: 16,
        split_keys: None,
        replicas: 3,
    };
    let starting: Vec<_> = members
        .keys()
        .map(|id| {
            let dir = dir.path().join(id.to_string());
            let node = Node::start(tuned(NodeConfig::new(*id, members.clone(), dir).unwrap()));
            let card = NodeCard { peers: members[id].clone(), ..NodeCard::default() };
            let (plan, card) = (Some(plan.clone()), Some(card));
            let options = RouterOptions { plan, card, ..RouterOptions::default() };
            tokio::spawn(Router::start_with(node.unwrap(), options, machine))
        })
        .collect();
    let mut routers = Vec::new();
    for router in starting {
        routers.push(router.await.unwrap().unwrap());
    }
    (routers, addresses)
}

fn joining(nodes: &[String], address: &str) -> Joining {
    Joining {
        nodes: nodes.to_vec(),
        cluster_name: "logboat".to_owned(),
        card: NodeCard { peers: address.to_owned(), zone: "b".to_owned(), ..NodeCard::default() },
        visit: Visit::default(),
    }
}

/// Has a node join, or starts it again.
async fn join(nodes: &[String], address: &str, dir: &Path) -> Router {
    let joining = joining(nodes, address);
    let joined = joining.join(dir).await.unwrap();
    let node = Node::start(tuned(joined.config(dir).unwrap())).unwrap();
    let options = RouterOptions { card: Some(joining.card), ..RouterOptions::default() };
    Router::start_with(node, options, machine).await.unwrap()
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn state(router: &Router, node: u64) -> Option<NodeState> {
    router.table().node(NodeId(node)).map(|record| record.state)
}

async fn stop(router: Router) {
    let node = router.node().clone();
    drop(router);
    tokio::task::spawn_blocking(move || node.stop()).await.unwrap();
}

/// Asks whichever node leads for a change, until it is made.
async fn change(routers: &[Router], group: GroupId, changes: &[Change]) {
    let begin = Instant::now();
    let mut last = None;
    loop {
        for router in routers {
            let node = router.node();
            match node.change(node.id(), group, changes).await {
                Ok(_) => return,
                Err(ChangeError::Refused(refusal)) if !refusal.is_transient() => {
                    panic!("{refusal}")
                }
                Err(error @ ChangeError::Refused(_)) => last = Some(error),
                Err(_) => {}
            }
        }
        let waited = begin.elapsed();
        assert!(waited < Duration::from_secs(60), "never: {changes:?}: {last:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_serves_requests_and_is_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (routers, nodes) = founders(&dir).await;
    let (own, fourth) = (addresses(2), dir.path().join("fourth"));
    let router = join(&nodes, &own[0], &fourth).await;
    assert_eq!(router.node().id(), NodeId(4));
    for other in &routers {
        eventually("all know that it is up", || state(other, 4) == Some(NodeState::Up)).await;
        assert!(other.node().members().contains(&NodeId(4)));
    }
    assert!(router.node().stored_groups().is_empty(), "it has no replica, not even of the table");
    let map = router.map();
    for range in map.ranges() {
        router.propose(range, Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(routers[0].read(range, Bytes::new()).await.unwrap(), "x");
    }
    stop(router).await;

    // The same command, at another address, and nobody to ask.
    let router = join(&[], &own[1], &fourth).await;
    assert_eq!(router.node().id(), NodeId(4));
    let moved = |table: &logboat_router::Table| {
        table.node(NodeId(4)).is_some_and(|record| record.card.peers == own[1])
    };
    for other in &routers {
        eventually("all know where it is", || moved(&other.table())).await;
    }
    assert_eq!(router.read(&map.ranges()[0], Bytes::new()).await.unwrap(), "x");
    for router in routers.into_iter().chain([router]) {
        stop(router).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_move_to_a_node_that_joined_and_the_table_follows() {
    let dir = tempfile::tempdir().unwrap();
    let (mut routers, nodes) = founders(&dir).await;
    let own = addresses(1);
    routers.push(join(&nodes, &own[0], &dir.path().join("fourth")).await);
    let map = routers[0].map();
    for range in map.ranges() {
        routers[0].propose(range, Bytes::from_static(b"a")).await.unwrap();
    }
    let (four, one) = (NodeId(4), NodeId(1));
    for group in [META_GROUP, map.ranges()[0].group] {
        // The table tells node 4 to start a replica.
        change(&routers, group, &[Change::AddLearner(four)]).await;
        change(&routers, group, &[Change::Promote(four), Change::Demote(one)]).await;
        change(&routers, group, &[Change::Remove(one)]).await;
        for router in &routers {
            let has_moved = || {
                let table = router.table();
                let members = table.members(group).unwrap();
                members.voters.contains(&four) && !members.contains(one)
            };
            eventually("the table knows the members", has_moved).await;
        }
        eventually("the former replica is gone", || {
            routers[0].node().stored_groups().iter().all(|stored| stored.group != group)
        })
        .await;
    }
    // Requests find their way, with the former map as well, from the node that has no replica of
    // the group and none of the table any more.
    for router in &routers {
        let moved = &map.ranges()[0];
        assert!(router.propose(moved, Bytes::from_static(b"b")).await.is_ok());
        assert_eq!(router.map().ranges()[0].replicas.len(), 3);
    }
    assert_eq!(routers[0].read(&map.ranges()[0], Bytes::new()).await.unwrap(), "abbbb");
    // A change of the table gets to all, and node 4 has its replicas after a restart.
    stop(routers.pop().unwrap()).await;
    routers.push(join(&nodes, &own[0], &dir.path().join("fourth")).await);
    let groups: Vec<_> = routers[3].node().groups();
    assert!(groups.contains(&META_GROUP) && groups.contains(&map.ranges()[0].group), "{groups:?}");
    let fifth = join(&own, &addresses(1)[0], &dir.path().join("fifth")).await;
    assert_eq!(fifth.node().id(), NodeId(5));
    routers.push(fifth);
    for router in &routers {
        eventually("all know node 5", || state(router, 5) == Some(NodeState::Up)).await;
    }
    for router in routers {
        stop(router).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_must_not_join_is_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let (routers, nodes) = founders(&dir).await;
    let own = addresses(1);
    let other = Joining { cluster_name: "other".to_owned(), ..joining(&nodes, &own[0]) };
    let error = other.join(&dir.path().join("other")).await.unwrap_err();
    assert!(matches!(&error, JoinError::Refused(reason) if reason.contains("other")), "{error}");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "a secret that is long enough to be one\n").unwrap();
    let secret = logboat::security::ClusterSecret::open(&secret).unwrap();
    let visit = Visit { secret: Some(secret), ..Visit::default() };
    let wrong = Joining { visit, ..joining(&nodes, &own[0]) };
    let error = wrong.join(&dir.path().join("wrong")).await.unwrap_err();
    assert!(matches!(error, JoinError::ShutOut(_)), "{error}");
    let founder = joining(&nodes, &own[0]).join(&dir.path().join("1")).await.unwrap_err();
    assert!(matches!(founder, JoinError::Founder(NodeId(1))), "{founder}");
    let nobody = joining(&[], &own[0]).join(&dir.path().join("nobody")).await.unwrap_err();
    assert!(matches!(nobody, JoinError::NobodyToAsk), "{nobody}");
    // Whoever asks twice, and crashes in between, has one id.
    let twice = dir.path().join("twice");
    let first = joining(&nodes, &own[0]).join(&twice).await.unwrap();
    let second = joining(&nodes, &own[0]).join(&twice).await.unwrap();
    assert_eq!((first.node, first.incarnation), (second.node, second.incarnation));
    // A directory that was emptied is a new node.
    std::fs::remove_dir_all(&twice).unwrap();
    let emptied = joining(&nodes, &own[0]).join(&twice).await.unwrap();
    assert_eq!(emptied.node.0, first.node.0 + 1);
    for router in routers {
        stop(router).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_waits_for_the_meta_group_and_cached_ranges_work_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut routers, nodes) = founders(&dir).await;
    let fourth = join(&nodes, &addresses(1)[0], &dir.path().join("fourth")).await;
    let map = fourth.map();
    // The second range moves to node 4 alone, so that it outlives the others.
    let group = map.ranges()[1].group;
    routers.push(fourth);
    change(&routers, group, &[Change::AddLearner(NodeId(4))]).await;
    let four = [Change::Promote(NodeId(4)), Change::Demote(NodeId(1)), Change::Demote(NodeId(2))];
    change(&routers, group, &four).await;
    change(&routers, group, &[Change::Demote(NodeId(3))]).await;
    eventually("the table knows it", || {
        routers[3].table().members(group).unwrap().voters == [NodeId(4)]
    })
    .await;
    stop(routers.remove(0)).await;
    stop(routers.remove(0)).await;
    let text = routers[1].propose(&map.ranges()[1], Bytes::from_static(b"y")).await.unwrap();
    assert_eq!(text, "y");
    let own = addresses(1);
    let late = dir.path().join("late");
    let joining = joining(&nodes[2..], &own[0]);
    let joins = joining.join(&late);
    assert!(tokio::time::timeout(Duration::from_secs(2), joins).await.is_err(), "it waits");
    for router in routers {
        stop(router).await;
    }
}
