//! A node that can't go on under its id joins again as a new one: because the cluster has given it
//! up, or because its disk has lost what it promised.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod growing;

use bytes::Bytes;
use growing::{
    addresses, eventually, founder, founders, join, joining, machine, state, stop, tuned,
};
use logboat::{Node, NodeConfig, NodeId, StartError};
use logboat_router::{JoinError, META_GROUP, NodeState, Plan, Router, former_node, has_joined};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::timeout;

const LOST_AFTER: Option<Duration> = Some(Duration::from_secs(3));
const NEVER: Option<Duration> = Some(Duration::from_secs(3_600));

/// Long enough for a node that does not wait to have gone on.
const A_WHILE: Duration = Duration::from_secs(3);

/// Damages the log of a node that does not run: without the header of a segment, nothing in it can
/// be verified.
fn lose_log(data_dir: &Path) {
    let mut segments = fs::read_dir(data_dir.join("wal")).unwrap();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|it| it == "wal");
    let path = segments.find_map(|it| Some(it.unwrap().path()).filter(is_segment)).unwrap();
    let mut content = fs::read(&path).unwrap();
    content[16] ^= 1;
    fs::write(path, content).unwrap();
}

/// How a node that the cluster was made with fails to start.
fn start_of_founder(dir: &Path, id: u64, nodes: &[String]) -> StartError {
    let members: BTreeMap<_, _> = (1..).map(NodeId).zip(nodes.iter().cloned()).collect();
    let config = NodeConfig::new(NodeId(id), members, dir).unwrap();
    Node::start(tuned(config)).err().unwrap()
}

/// Whether all groups have the same voters, the meta group among them.
fn voters_are(router: &Router, voters: &[u64]) -> bool {
    let table = router.table();
    let groups = table.ranges().iter().map(|range| range.group).chain([META_GROUP]);
    let of = |group| {
        let members = table.members(group).unwrap();
        let mut of: Vec<_> = members.voters.iter().map(|node| node.0).collect();
        of.sort_unstable();
        members.learners.is_empty().then_some(of)
    };
    groups.into_iter().all(|group| of(group).as_deref() == Some(voters))
}

async fn stop_all(routers: impl IntoIterator<Item = Router>) {
    for router in routers {
        stop(router).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_given_up_joins_again_as_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (routers, nodes) = founders(&dir, 4, LOST_AFTER).await;
    let (own, fourth) = (addresses(1), dir.path().join("fourth"));
    let joined = join(&nodes, &own[0], &fourth).await;
    eventually("it keeps who the others are", || fourth.join("TABLE").exists()).await;
    stop(joined).await;
    eventually("it is given up", || routers[0].table().has_left(NodeId(4))).await;
    let back = join(&nodes, &own[0], &fourth).await;
    let reason = timeout(Duration::from_secs(30), back.expelled()).await.unwrap();
    stop(back).await;

    // One that does not know the others any more hears it when it asks where they are.
    fs::write(fourth.join("KEPT"), "").unwrap();
    fs::remove_file(fourth.join("TABLE")).unwrap();
    let joining = joining(&nodes, &own[0]);
    let told = joining.join(&fourth).await;
    assert!(matches!(&told, Err(JoinError::Expelled(it)) if it.contains("has left")), "{told:?}");
    let former = joining.rejoin(&fourth, &reason, &[]).await.unwrap();
    assert!(former.join("IDENTITY").exists() && fourth.join("KEPT").exists());
    let again = join(&nodes, &own[0], &fourth).await;
    assert_eq!(again.node().id(), NodeId(5));
    let known = former_node(&fourth).unwrap().unwrap();
    assert_eq!((known.node, known.why, known.is_redundant), (4, reason, false));
    eventually("it has replicas", || again.held_by(NodeId(5)) > 0).await;
    assert!(former.exists(), "it may hold what was lost with a majority");
    stop_all(routers.into_iter().chain([again])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_lost_its_log_is_replaced_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (mut routers, nodes) = founders(&dir, 4, NEVER).await;
    let map = routers[0].map();
    for range in map.ranges() {
        routers[0].propose(range, Bytes::from_static(b"x")).await.unwrap();
    }
    stop(routers.pop().unwrap()).await;
    let third = dir.path().join("3");
    lose_log(&third);
    let error = start_of_founder(&third, 3, &nodes);
    assert!(error.is_damage() && !has_joined(&third), "{error}");

    let why = error.to_string();
    // The answer to its first question is lost: the second one says the same.
    let twice = dir.path().join("twice");
    copy_directory(&third, &twice);
    let rejoins = joining(&nodes[..2], &nodes[2]);
    rejoins.rejoin(&twice, &why, &[]).await.unwrap();
    let former = rejoins.rejoin(&third, &why, &[]).await.unwrap();
    for asked in [&twice, &third] {
        assert!(has_joined(asked) && former_node(asked).unwrap().unwrap().is_redundant);
    }
    // The node that was asked hears of the change after the one that made it.
    eventually("it is lost", || state(&routers[0], 3) == Some(NodeState::Lost)).await;
    let again = join(&nodes[..2], &nodes[2], &third).await;
    assert_eq!(again.node().id(), NodeId(4));
    eventually("it has the places of the former", || voters_are(&routers[0], &[1, 2, 4])).await;
    eventually("the former has left", || routers[0].table().has_left(NodeId(3))).await;
    eventually("what it had is deleted", || !former.exists()).await;
    let table = routers[0].table();
    assert!(table.history().any(|entry| entry.why.contains("is damaged")), "it says why");
    for range in map.ranges() {
        assert_eq!(again.propose(range, Bytes::from_static(b"y")).await.unwrap(), "xy");
    }
    // The same command starts it again.
    stop(again).await;
    let again = join(&nodes[..2], &nodes[2], &third).await;
    assert_eq!(again.node().id(), NodeId(4));
    stop_all(routers.into_iter().chain([again])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_of_the_same_name_talks_nobody_out_of_its_own() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (here, elsewhere) =
        tokio::join!(founders(&dirs[0], 2, LOST_AFTER), founders(&dirs[1], 2, NEVER));
    let (own, left, healthy) =
        (addresses(2), dirs[0].path().join("fourth"), dirs[1].path().join("fourth"));
    let former = join(&here.1, &own[0], &left).await;
    let stranger = join(&elsewhere.1, &own[1], &healthy).await;
    assert_eq!((former.node().id(), stranger.node().id()), (NodeId(4), NodeId(4)));
    let known = [&former, &stranger].map(|router| router.node().incarnation().0);
    stop_all([former, stranger]).await;
    eventually("it has left", || here.0[0].table().has_left(NodeId(4))).await;

    let visit = here.0[0].node().visit();
    let standing = async |incarnation| {
        let question = format!(r#"{{"standing":{{"node":4,"incarnation":{incarnation}}}}}"#);
        visit.ask(&here.1[0], question.as_bytes()).await.unwrap()
    };
    assert_eq!(standing(known[0]).await, r#""node 4 has left the cluster""#);
    assert_eq!(standing(known[1]).await, "null");
    // One of the addresses that it knows belongs to the other cluster now.
    let refused = joining(&here.1, &own[1]).rejoin(&healthy, "nothing", &[]).await;
    let other = "the data directory belongs to cluster";
    assert!(matches!(&refused, Err(JoinError::Refused(it)) if it.contains(other)), "{refused:?}");
    assert!(healthy.join("IDENTITY").exists() && !healthy.join("REJOIN").exists());
    stop_all(here.0.into_iter().chain(elsewhere.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_waits_while_it_may_be_needed_or_another_process_has_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let (mut routers, nodes) = founders(&dir, 2, NEVER).await;
    stop(routers.pop().unwrap()).await;
    let (third, copy, old) =
        (dir.path().join("3"), dir.path().join("copy"), dir.path().join("old"));
    copy_directory(&third, &old);
    routers.push(founder(&dir, 3, &nodes, 2, NEVER).await);
    eventually("the others hear it", || routers[0].node().reaches(NodeId(3))).await;
    copy_directory(&third, &copy);
    for lost in [&copy, &old] {
        lose_log(lost);
    }
    // The original runs: its copy must not have it given up.
    let elsewhere = addresses(1);
    let of_copy = joining(&nodes, &elsewhere[0]);
    assert!(timeout(A_WHILE, of_copy.rejoin(&copy, "a copy", &[])).await.is_err(), "it waits");
    assert!(copy.join("IDENTITY").exists() && !has_joined(&copy));
    // It is down for a moment: no copy from before its last start may have it given up.
    stop(routers.pop().unwrap()).await;
    let refused = of_copy.rejoin(&old, "an old copy", &[]).await;
    assert!(matches!(&refused, Err(JoinError::Refused(it)) if it.contains("old copy")));
    fs::remove_file(copy.join("BOOT")).unwrap();
    assert!(timeout(A_WHILE, of_copy.rejoin(&copy, "no BOOT", &[])).await.is_err(), "it waits");
    assert_eq!(state(&routers[0], 3), Some(NodeState::Up));
    // Groups of which one other replica is left can't do without what is here.
    stop(routers.pop().unwrap()).await;
    lose_log(&third);
    let damaged = joining(&nodes[..2], &nodes[2]);
    assert!(timeout(A_WHILE, damaged.rejoin(&third, "no log", &[])).await.is_err(), "it waits");
    assert_eq!(state(&routers[0], 3), Some(NodeState::Up));
    assert!(third.join("IDENTITY").exists() && !has_joined(&third));
    // When the others are there, it goes on.
    routers.push(founder(&dir, 2, &nodes, 2, NEVER).await);
    damaged.rejoin(&third, "no log", &[]).await.unwrap();
    routers.push(join(&nodes[..2], &nodes[2], &third).await);
    assert_eq!(routers[2].node().id(), NodeId(4));
    eventually("it is replaced", || voters_are(&routers[0], &[1, 2, 4])).await;
    stop_all(routers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_copy_of_a_group_is_not_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = addresses(3);
    let start = |id| single(&dir, id, &nodes);
    let (one, two, three) = tokio::join!(start(1), start(2), start(3));
    let holder = one.map().ranges()[2].replicas[0];
    let mut routers = BTreeMap::from([(1, one), (2, two), (3, three)]);
    assert_eq!(holder, NodeId(3), "each of three ranges is on a node of its own");
    stop(routers.remove(&3).unwrap()).await;
    let third = dir.path().join("3");
    lose_log(&third);
    let rejoins = joining(&nodes[..2], &nodes[2]);
    assert!(timeout(A_WHILE, rejoins.rejoin(&third, "no log", &[])).await.is_err(), "it waits");
    assert_eq!(state(&routers[&1], 3), Some(NodeState::Up));
    let other = dir.path().join("other");
    let strange = joining(&nodes[..2], &nodes[2]).rejoin(&other, "nothing", &[]).await;
    assert!(matches!(strange, Err(JoinError::Directory(_))), "{strange:?}");
    stop_all(routers.into_values()).await;
}

/// A node of a cluster whose groups have one replica each.
async fn single(dir: &TempDir, id: u64, nodes: &[String]) -> Router {
    let plan = Plan {
        layout: "plain".to_owned(),
        groups: Some(3),
        keeps_layout: false,
        edge_bits: 16,
        split_keys: None,
        replicas: 1,
    };
    let members = (1..).map(NodeId).zip(nodes.iter().cloned()).collect();
    let dir = dir.path().join(id.to_string());
    let node = Node::start(tuned(NodeConfig::new(NodeId(id), members, dir).unwrap())).unwrap();
    Router::start(node, plan, machine).await.unwrap()
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
