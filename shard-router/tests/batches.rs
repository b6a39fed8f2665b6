//! Requests to several ranges that are made together.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod common;

use bytes::Bytes;
use common::Cluster;
use logboat::NodeId;
use logboat_router::{Access, RangeRequest, RouteError, RoutedBatch};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

const RANGES: usize = 6;

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
    let cluster = Cluster::start(RANGES).await;
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
    let cluster = Cluster::start(RANGES).await;
    let router = &cluster.routers[0];
    let first = all(router.request_all((0..RANGES).map(|range| write(range, "a")).collect())).await;
    assert!(first.into_iter().all(|answer| answer == Ok(Bytes::from("a"))));
    assert!(cluster.leaders().contains(&Some(NodeId(3))));
    [1, 2].into_iter().for_each(|node| cluster.cut(3, node));
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
    let cluster = Cluster::start(RANGES).await;
    let router = &cluster.routers[0];
    let reads = all(router.request_all((0..RANGES).map(read).collect())).await;
    assert!(reads.into_iter().all(|answer| answer.is_ok()));
    cluster.cut(1, 3);
    while router.node().reaches(NodeId(3)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let writes = (0..2 * RANGES).map(|number| write(number / 2, ["a", "b"][number % 2]));
    let answers = all(router.request_all(writes.collect())).await;
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), ["a", "ab"][number % 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_are_to_be_served_here_are_and_know_of_every_write() {
    let cluster = Cluster::start(RANGES).await;
    let router = &cluster.routers[1];
    let mut text = String::new();
    loop {
        let writes = (0..RANGES).map(|range| write(range, "a")).collect();
        let answers = all(cluster.routers[0].request_all(writes)).await;
        assert!(answers.into_iter().all(|answer| answer.is_ok()));
        text.push('a');
        let counts = || cluster.queries.iter().map(|count| count.load(Ordering::Relaxed));
        let before: Vec<_> = counts().collect();
        let here = |range| RangeRequest { access: Access::ReadHere, ..read(range) };
        let reads = all(router.request_all((0..RANGES).map(here).collect())).await;
        assert!(reads.into_iter().all(|answer| answer == Ok(Bytes::from(text.clone()))));
        let answered: Vec<_> = counts().zip(before).map(|(after, before)| after - before).collect();
        // A replica that has just lost its leader asks elsewhere.
        if answered == [0, RANGES, 0] {
            return;
        }
    }
}
