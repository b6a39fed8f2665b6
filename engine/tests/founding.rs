//! A node on a new directory promises nothing before its peers have recorded it. So an emptied
//! directory does not pass for a new one, whoever is down.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Counter, TestResult, number};
use logboat::transport::LogPosition;
use logboat::wal::{SegmentState, inspect};
use logboat::{
    ClusterId, Founding, GroupHandle, GroupId, GroupSpec, Node, NodeConfig, NodeId, RequestError,
    Tuning,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const GROUP: GroupId = GroupId(1);

/// Three nodes, which may run or not, and their directories.
struct Nodes {
    members: BTreeMap<NodeId, String>,
    dirs: BTreeMap<NodeId, TempDir>,
    running: BTreeMap<NodeId, (Node, GroupHandle)>,
}

impl Nodes {
    fn new() -> Self {
        let ports: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = ports.iter().map(|port| port.local_addr().unwrap().to_string());
        let ids = [1, 2, 3].map(NodeId);
        Self {
            members: ids.into_iter().zip(addresses).collect(),
            dirs: ids.map(|id| (id, tempfile::tempdir().unwrap())).into(),
            running: BTreeMap::new(),
        }
    }

    fn dir(&self, id: u64) -> &Path {
        self.dirs[&NodeId(id)].path()
    }

    fn start(&mut self, id: u64, founding: Founding) -> Result<(), Box<dyn Error>> {
        let node = NodeId(id);
        let mut config = NodeConfig::new(node, self.members.clone(), self.dir(id))?;
        config.heartbeat_interval = Duration::from_millis(20);
        config.tuning =
            Tuning { election_timeout: Duration::from_millis(300), ..Tuning::default() };
        config.wal.segment_bytes = 1 << 20;
        config.founding = founding;
        let started = Node::start(config)?;
        let replicas = self.members.keys().copied().collect();
        let machine = Box::<Counter>::default();
        let spec = GroupSpec { group: GROUP, replicas, preferred: Some(NodeId(1)), machine };
        let group = started.create_group(spec)?;
        self.running.insert(node, (started, group));
        Ok(())
    }

    fn stop(&mut self, id: u64) {
        let (node, _) = self.running.remove(&NodeId(id)).unwrap();
        node.stop();
    }

    /// Takes all out of a directory, as a lost disk does.
    fn empty(&self, id: u64) {
        for entry in fs::read_dir(self.dir(id)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
    }

    fn node(&self, id: u64) -> &Node {
        &self.running[&NodeId(id)].0
    }

    fn waiting_for(&self, id: u64) -> Vec<u64> {
        self.node(id).status().waiting_for.into_iter().map(|node| node.0).collect()
    }

    /// Whether both nodes have a connection to the other.
    fn are_connected(&self, one: u64, two: u64) -> bool {
        [(one, two), (two, one)].into_iter().all(|(from, to)| {
            let peers = self.node(from).status().peers;
            peers.iter().any(|peer| peer.node == NodeId(to) && peer.connected)
        })
    }

    fn last_error(&self, at: u64, peer: u64) -> String {
        let peers = self.node(at).status().peers;
        let peer = peers.into_iter().find(|status| status.node == NodeId(peer));
        peer.and_then(|peer| peer.last_error).unwrap_or_default()
    }

    /// Proposes wherever the leader is, until it is acknowledged.
    async fn propose(&self) -> u64 {
        loop {
            for (_, group) in self.running.values() {
                if let Ok(answer) = group.propose(Bytes::from_static(b"+")).await {
                    return number(&answer);
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn read(&self) -> u64 {
        loop {
            for (_, group) in self.running.values() {
                if let Ok(answer) = group.read(Bytes::new()).await {
                    return number(&answer);
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn eventually(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn without(id: u64) -> Founding {
    Founding::Without([NodeId(id)].into())
}

#[tokio::test]
async fn an_emptied_directory_elects_nobody_together_with_a_node_that_is_new() -> TestResult {
    let mut nodes = Nodes::new();
    nodes.start(1, without(3))?;
    nodes.start(2, without(3))?;
    while nodes.propose().await < 5 {}
    nodes.stop(1);
    nodes.stop(2);
    nodes.empty(2);
    nodes.start(2, without(3))?;
    nodes.start(3, Founding::All)?;
    eventually(|| nodes.are_connected(2, 3)).await;
    assert_eq!((nodes.waiting_for(2), nodes.waiting_for(3)), (vec![1], vec![1]));
    let refused = Err(RequestError::NotLeader { leader: None });
    for id in [2, 3] {
        let group = &nodes.running[&NodeId(id)].1;
        assert_eq!(group.propose(Bytes::from_static(b"+")).await, refused);
        assert_eq!(group.read(Bytes::new()).await, refused);
    }
    // The node that remembers lets node 3 in, and node 2 never.
    nodes.start(1, Founding::All)?;
    assert!(nodes.read().await >= 5);
    let refused = "by another data directory";
    eventually(|| nodes.last_error(2, 1).contains(refused)).await;
    eventually(|| nodes.last_error(1, 2).contains(refused)).await;
    assert!(nodes.waiting_for(1).is_empty() && nodes.waiting_for(3).is_empty());
    assert_eq!(nodes.waiting_for(2), [1]);
    Ok(())
}

#[tokio::test]
async fn nodes_that_start_one_after_the_other_are_founded_once_and_wait_never_again() -> TestResult
{
    let mut nodes = Nodes::new();
    nodes.start(1, Founding::All)?;
    assert_eq!(nodes.waiting_for(1), [2, 3]);
    nodes.start(2, Founding::All)?;
    eventually(|| nodes.waiting_for(1) == [3] && nodes.waiting_for(2) == [3]).await;
    // A start in between forgets who has recorded the node, and learns it again.
    nodes.stop(2);
    nodes.start(2, Founding::All)?;
    nodes.start(3, Founding::All)?;
    assert_eq!(nodes.propose().await, 1);
    for id in [1, 2, 3] {
        eventually(|| nodes.waiting_for(id).is_empty()).await;
    }
    for id in [1, 2, 3] {
        nodes.stop(id);
    }
    // It makes no difference to a node that is founded, who is waited for.
    nodes.start(1, without(2))?;
    assert_eq!(nodes.waiting_for(1), []);
    nodes.start(3, Founding::All)?;
    assert!(nodes.propose().await >= 2);
    Ok(())
}

#[tokio::test]
async fn a_node_that_was_left_out_is_founded_when_it_comes() -> TestResult {
    let mut nodes = Nodes::new();
    nodes.start(1, without(3))?;
    nodes.start(2, without(3))?;
    assert_eq!(nodes.propose().await, 1);
    nodes.start(3, Founding::All)?;
    eventually(|| nodes.waiting_for(3).is_empty()).await;
    nodes.stop(2);
    assert!(nodes.propose().await >= 2);
    Ok(())
}

#[tokio::test]
async fn a_node_of_its_own_waits_for_nobody() -> TestResult {
    let mut nodes = Nodes::new();
    nodes.members.retain(|node, _| *node == NodeId(1));
    nodes.start(1, Founding::All)?;
    assert_eq!(nodes.propose().await, 1);
    Ok(())
}

#[tokio::test]
async fn who_can_not_be_left_out_is_refused_at_the_start() {
    let mut nodes = Nodes::new();
    for (left_out, text) in [(&[1][..], "itself"), (&[9], "node 9"), (&[2, 3], "minority")] {
        let left_out = left_out.iter().copied().map(NodeId).collect();
        let error = nodes.start(1, Founding::Without(left_out)).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_log_whose_files_are_gone_is_refused() -> TestResult {
    let mut nodes = Nodes::new();
    for id in [1, 2, 3] {
        nodes.start(id, Founding::All)?;
    }
    nodes.propose().await;
    nodes.stop(2);
    for entry in fs::read_dir(nodes.dir(2).join("wal"))? {
        fs::remove_file(entry?.path())?;
    }
    let error = nodes.start(2, Founding::All).unwrap_err().to_string();
    assert!(error.contains("was durable up to"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_copy_of_a_stopped_nodes_directory_is_refused_after_the_original_went_on() -> TestResult {
    let mut nodes = Nodes::new();
    for id in [1, 2, 3] {
        nodes.start(id, Founding::All)?;
    }
    nodes.propose().await;
    nodes.stop(3);
    let copy = copy_of(nodes.dir(3))?;
    nodes.start(3, Founding::All)?;
    nodes.propose().await;
    eventually(|| nodes.are_connected(1, 3) && nodes.are_connected(2, 3)).await;
    nodes.stop(3);
    let known = "this is one of two copies of its directory";
    let later = "let in start 2 of node 3, and the directory of node 3 does not know that";
    is_refused_until_the_original_is_back(nodes, copy, [known, later]).await
}

#[tokio::test]
async fn a_copy_that_was_made_while_the_node_ran_is_refused_by_what_its_peers_remember()
-> TestResult {
    let mut nodes = Nodes::new();
    for id in [1, 2, 3] {
        nodes.start(id, Founding::All)?;
    }
    nodes.propose().await;
    let copy = copy_of(nodes.dir(3))?;
    let copied_end = log_end(copy.path())?;
    nodes.propose().await;
    // Peers write down what node 3 says of its log, with what they write anyway.
    for peer in [1, 2] {
        loop {
            let report = inspect(&nodes.dir(peer).join("wal"))?;
            let grant = report.grants.get(&NodeId(3)).copied();
            if grant.is_some_and(|grant| grant.log_end > copied_end) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        nodes.stop(peer);
    }
    nodes.stop(3);
    for peer in [1, 2] {
        nodes.start(peer, Founding::All)?;
    }
    let refused = "an old copy of its directory, or a log that lost its end";
    is_refused_until_the_original_is_back(nodes, copy, [refused; 2]).await
}

#[tokio::test]
async fn a_node_that_reaches_two_clusters_of_one_name_is_founded_by_one_alone() -> TestResult {
    // Of each cluster two nodes are there, and both look for the third one at one address.
    let (mut first, mut second) = (Nodes::new(), Nodes::new());
    let address = first.members[&NodeId(3)].clone();
    second.members.insert(NodeId(3), address);
    let drawn = [0xa, 0xb].map(ClusterId);
    for (nodes, cluster) in [&mut first, &mut second].into_iter().zip(drawn) {
        nodes.start(1, without(3))?;
        nodes.start(2, without(3))?;
        nodes.propose().await;
        nodes.node(1).adopt_cluster(cluster)?;
        nodes.stop(2);
        nodes.start(2, without(3))?;
        eventually(|| nodes.node(2).drawn_cluster() == Some(cluster)).await;
    }
    second.stop(1);
    second.stop(2);
    // Node 3 is told of a node of each.
    let mut third = Nodes::new();
    third.members.clone_from(&first.members);
    third.members.insert(NodeId(2), second.members[&NodeId(2)].clone());
    third.start(3, Founding::All)?;
    eventually(|| third.node(3).drawn_cluster() == Some(drawn[0])).await;
    second.start(2, without(3))?;
    let refused = "another cluster of the same name and nodes";
    eventually(|| third.last_error(3, 2).contains(refused)).await;
    eventually(|| second.last_error(2, 3).contains(refused)).await;
    eventually(|| third.waiting_for(3) == [2]).await;
    third.stop(3);
    // A start keeps to the first one, whatever it is told.
    let mut other = NodeConfig::new(NodeId(3), third.members.clone(), third.dir(3))?;
    other.drawn_cluster = Some(drawn[1]);
    let error = Node::start(other).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("belongs to cluster 000000000000000a"), "{error}");
    third.members.clone_from(&first.members);
    third.start(3, Founding::All)?;
    eventually(|| third.waiting_for(3).is_empty()).await;
    Ok(())
}

/// Both sides refuse a `copy` of the directory of node 3, with the first reason in its first start
/// and with the other one in later starts. When the original comes back, it is let in.
async fn is_refused_until_the_original_is_back(
    mut nodes: Nodes,
    copy: TempDir,
    [at_first, later]: [&str; 2],
) -> TestResult {
    let original = nodes.dirs.insert(NodeId(3), copy).unwrap();
    for refused in [at_first, later, later, later] {
        nodes.start(3, Founding::All)?;
        for peer in [1, 2] {
            eventually(|| nodes.last_error(3, peer).contains(refused)).await;
            eventually(|| nodes.last_error(peer, 3).contains(refused)).await;
        }
        nodes.stop(3);
    }
    nodes.dirs.insert(NodeId(3), original);
    nodes.start(3, Founding::All)?;
    eventually(|| nodes.are_connected(1, 3) && nodes.are_connected(2, 3)).await;
    Ok(())
}

/// Where the log in a data directory ends.
fn log_end(directory: &Path) -> Result<LogPosition, Box<dyn Error>> {
    let report = inspect(&directory.join("wal"))?;
    let active = report.segments.iter().find(|it| it.state == SegmentState::Active).unwrap();
    Ok(LogPosition { segment: active.segment, offset: u32::try_from(active.end)? })
}

/// A copy of a directory and all that is in it.
fn copy_of(from: &Path) -> Result<TempDir, Box<dyn Error>> {
    let to = tempfile::tempdir()?;
    copy_into(from, to.path())?;
    Ok(to)
}

fn copy_into(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry?.file_name()));
        if path.is_dir() {
            fs::create_dir(&target)?;
            copy_into(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
