//! Requests get to a leader that their node does not reach, by way of a node that does.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod common;

use bytes::Bytes;
use common::Cluster;
use logboat::transport::MemoryNetwork;
use logboat::{GroupRequest, NodeId, ReadFrom, ReadMode, RequestError};
use logboat_router::RouteError;
use std::time::{Duration, Instant};

/// Each node is the preferred leader of one range.
const RANGES: usize = 3;

/// Waits until node 3 leads a range.
async fn wait_for_leader_3(cluster: &Cluster) {
    let node = cluster.node(3);
    let leads = || {
        let groups = node.groups().into_iter().filter(|group| group.0 != 0);
        let mut handles = groups.filter_map(|group| node.group(group));
        handles.any(|handle| handle.view().leader() == Some(NodeId(3)))
    };
    eventually("node 3 leads a range", leads).await;
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
    let cluster = Cluster::start(RANGES).await;
    wait_for_leader_3(&cluster).await;
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
    let cluster = Cluster::start(RANGES).await;
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
    let network = MemoryNetwork::bounded(TEXT_BYTES + 50_000).unwrap();
    let cluster = Cluster::over(network, RANGES).await;
    wait_for_leader_3(&cluster).await;
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
