//! Nodes join a cluster, and follow its table, whether they have a replica of it or not.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod growing;

use bytes::Bytes;
use growing::{addresses, eventually, founder, founders, join, joining, state, stop};
use logboat::transport::Visit;
use logboat::{Change, ChangeError, GroupId, NodeId};
use logboat_router::{JoinError, Joining, META_GROUP, NodeState, Router};
use std::time::{Duration, Instant};

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
    let (routers, nodes) = founders(&dir, 2, None).await;
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
    let (mut routers, nodes) = founders(&dir, 2, None).await;
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
    let (routers, nodes) = founders(&dir, 2, None).await;
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
async fn a_node_keeps_to_its_cluster_beside_another_one_of_the_same_name() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ((routers, nodes), (others, other_nodes)) =
        tokio::join!(founders(&dir, 1, None), founders(&other_dir, 1, None));
    let drawn = routers[0].table().cluster();
    assert!(drawn.is_some() && drawn != others[0].table().cluster());
    for router in &routers {
        assert_eq!(router.node().drawn_cluster(), drawn, "known before anything else is done");
    }
    let (own, fourth) = (addresses(1), dir.path().join("fourth"));
    let router = join(&nodes, &own[0], &fourth).await;
    assert_eq!(router.node().drawn_cluster(), drawn);
    eventually("it is known", || state(&routers[0], 4) == Some(NodeState::Up)).await;
    stop(router).await;
    // Without the table that it knew it has to ask, and is refused where it has no business.
    std::fs::remove_file(fourth.join("TABLE")).unwrap();
    let error = joining(&other_nodes, &own[0]).join(&fourth).await.unwrap_err();
    let reason = "the data directory belongs to cluster";
    assert!(matches!(&error, JoinError::Refused(it) if it.contains(reason)), "{error}");
    let error = joining(&other_nodes, &own[0]).rejoin(&fourth, "it is damaged", &[]).await;
    let error = error.unwrap_err();
    assert!(matches!(&error, JoinError::Refused(it) if it.contains(reason)), "{error}");
    // A directory that has no node yet, but was one's of this cluster, is of it still.
    for name in ["IDENTITY", "BOOT", "PEERS", "wal", "snapshots"] {
        std::fs::rename(fourth.join(name), dir.path().join(name)).unwrap();
    }
    let error = joining(&other_nodes, &own[0]).join(&fourth).await.unwrap_err();
    assert!(matches!(&error, JoinError::Refused(it) if it.contains(reason)), "{error}");
    for router in routers.into_iter().chain(others) {
        stop(router).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_finds_the_others_that_moved_while_it_was_down() {
    let dir = tempfile::tempdir().unwrap();
    let (mut routers, nodes) = founders(&dir, 2, None).await;
    let (own, fourth) = (addresses(1), dir.path().join("fourth"));
    routers.push(join(&nodes, &own[0], &fourth).await);
    eventually("it has the table", || state(&routers[3], 4) == Some(NodeState::Up)).await;
    for router in routers {
        stop(router).await;
    }
    // It is there first, and is told where the others are to be.
    let nodes = addresses(3);
    let router = join(&nodes, &own[0], &fourth).await;
    let start = |id| founder(&dir, id, &nodes, 2, None);
    let (one, two, three) = tokio::join!(start(1), start(2), start(3));
    let moved = |node: u64| {
        let table = router.table();
        table.node(NodeId(node)).unwrap().card.peers == nodes[node as usize - 1]
    };
    eventually("it knows where they are", || (1..=3).all(moved)).await;
    let map = router.map();
    assert_eq!(router.propose(&map.ranges()[0], Bytes::from_static(b"x")).await.unwrap(), "x");
    for router in [one, two, three, router] {
        stop(router).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_waits_for_the_meta_group_and_cached_ranges_work_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut routers, nodes) = founders(&dir, 2, None).await;
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
