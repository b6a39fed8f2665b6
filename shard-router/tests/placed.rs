//! Placement at work: replicas and leaders go where nodes join, and away from those that leave, are
//! drained, or are lost; replicas that failed are replaced.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod growing;

use bytes::Bytes;
use growing::{addresses, eventually, founders, join, state, stop};
use logboat::NodeId;
use logboat_router::{ClusterError, META_GROUP, NodeState, Router};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const GROUPS: usize = 12;

/// Long enough for a node that is restarted.
const LOST_AFTER: Option<Duration> = Some(Duration::from_secs(3));

/// Writes to all ranges through one node, until told to stop. No write may fail for good.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Vec<usize>>,
}

impl Load {
    fn start(router: Router) -> Self {
        let (stop, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (is_over, count) = (Arc::clone(&stop), Arc::clone(&written));
        let task = tokio::spawn(async move {
            let mut acknowledged = vec![0; GROUPS];
            while !is_over.load(Ordering::Relaxed) {
                for (place, range) in router.map().ranges().iter().enumerate() {
                    router.propose(range, Bytes::from_static(b"w")).await.unwrap();
                    acknowledged[place] += 1;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            acknowledged
        });
        Self { stop, written, task }
    }

    /// Stops, and checks that what was acknowledged is there, once.
    async fn check(self, router: &Router) {
        self.stop.store(true, Ordering::Relaxed);
        let acknowledged = self.task.await.unwrap();
        assert!(self.written.load(Ordering::Relaxed) > 0);
        for (place, range) in router.map().ranges().iter().enumerate() {
            let text = router.read(range, Bytes::new()).await.unwrap();
            assert_eq!(text.len(), acknowledged[place], "range {place}");
        }
    }
}

fn held(router: &Router, node: u64) -> usize {
    router.held_by(NodeId(node))
}

/// Whether each group has three voters and nobody learns.
fn is_settled(router: &Router) -> bool {
    let table = router.table();
    let mut ranges = table.ranges().iter();
    ranges.all(|range| range.members.voters.len() == 3 && range.members.learners.is_empty())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_spread_to_a_node_that_joins_and_leave_one_that_is_drained_or_decommissioned() {
    let dir = tempfile::tempdir().unwrap();
    let (mut routers, nodes) = founders(&dir, GROUPS, LOST_AFTER).await;
    let load = Load::start(routers[0].clone());
    let own = addresses(1);
    routers.push(join(&nodes, &own[0], &dir.path().join("fourth")).await);
    let share = GROUPS * 3 / 4;
    eventually("node 4 has its share", || {
        held(&routers[1], 4) + 1 >= share && is_settled(&routers[1])
    })
    .await;

    let refused = routers[3].decommission(&[NodeId(1), NodeId(2)]).await.unwrap_err();
    assert!(matches!(&refused, ClusterError::Refused(text) if text.contains("2 nodes would stay")));
    let unknown = routers[3].drain(NodeId(9)).await.unwrap_err();
    assert!(matches!(&unknown, ClusterError::Refused(text) if text.contains("no node 9")));
    let there = routers[3].remove_lost(NodeId(2)).await.unwrap_err();
    assert!(matches!(&there, ClusterError::Refused(text) if text.contains("decommission it")));

    routers[3].drain(NodeId(2)).await.unwrap();
    eventually("node 2 is empty", || held(&routers[3], 2) == 0 && is_settled(&routers[3])).await;
    assert_eq!(state(&routers[3], 2), Some(NodeState::Draining));
    routers[0].undrain(NodeId(2)).await.unwrap();
    eventually("node 2 has replicas again", || held(&routers[3], 2) > 0).await;

    routers[0].decommission(&[NodeId(3)]).await.unwrap();
    eventually("node 3 has left", || {
        routers[0].table().has_left(NodeId(3)) && is_settled(&routers[0])
    })
    .await;
    let table = routers[0].table();
    let told = |why: &str| table.history().any(|entry| entry.why.contains(why));
    assert!(told("somebody decommissions it") && told("it holds nothing any more"));
    assert!(told("node 3 is being emptied"), "steps say why they are taken");
    load.check(&routers[1]).await;
    for router in routers {
        stop(router).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_node_held_is_replaced_and_the_node_learns_that_it_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (mut routers, nodes) = founders(&dir, GROUPS, LOST_AFTER).await;
    let (own, fourth) = (addresses(1), dir.path().join("fourth"));
    routers.push(join(&nodes, &own[0], &fourth).await);
    eventually("node 4 has replicas", || held(&routers[0], 4) > 2 && is_settled(&routers[0])).await;
    let load = Load::start(routers[0].clone());
    let lost = routers.pop().unwrap();
    let node = lost.node().clone();
    drop(lost);
    tokio::task::spawn_blocking(move || node.stop()).await.unwrap();
    eventually("it is lost, and all is replaced", || {
        routers[0].table().has_left(NodeId(4)) && is_settled(&routers[0])
    })
    .await;
    load.check(&routers[1]).await;
    let table = routers[1].table();
    let told = |why: &str| table.history().any(|entry| entry.why.contains(why));
    assert!(told("silent for too long") && told("node 4 is lost"), "steps say why they are taken");
    // It comes back, and hears it, although it is nobody's peer any more.
    let back = join(&nodes, &own[0], &fourth).await;
    let reason = tokio::time::timeout(Duration::from_secs(30), back.expelled()).await.unwrap();
    // Who is asked may not know yet that it has left.
    let is_told = ["node 4 has left", "given up node 4"].iter().any(|why| reason.contains(why));
    assert!(is_told, "{reason}");
    routers.push(back);
    for router in routers {
        stop(router).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_moves_where_somebody_wants_it_the_one_of_the_table_too() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing moves by itself: there is nothing to even out, as long as no other node is there.
    let (mut routers, nodes) = founders(&dir, 2, LOST_AFTER).await;
    let own = addresses(1);
    routers.push(join(&nodes, &own[0], &dir.path().join("fourth")).await);
    let (one, four) = (NodeId(1), NodeId(4));
    eventually("node 4 is up", || state(&routers[0], 4) == Some(NodeState::Up)).await;
    for group in [META_GROUP, routers[0].map().ranges()[0].group] {
        let members = |router: &Router| router.table().members(group).unwrap().clone();
        if members(&routers[3]).contains(four) || !members(&routers[3]).voters.contains(&one) {
            continue;
        }
        routers[3].move_replica(group, one, four).await.unwrap();
        eventually("the group has moved", || {
            routers[2].table().wanted_move(group).is_none()
                && members(&routers[2]).voters.contains(&four)
        })
        .await;
        let leads = |leaders: std::collections::BTreeMap<_, _>| leaders.get(&group) == Some(&four);
        routers[1].transfer(group, four).await.unwrap();
        assert!(leads(routers[1].leaders().await));
    }
    let stranger = routers[0].transfer(META_GROUP, NodeId(7)).await.unwrap_err();
    assert!(matches!(stranger, ClusterError::Refused(_)), "{stranger}");
    for router in routers {
        stop(router).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_gone_while_the_table_names_it_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (routers, _) = founders(&dir, 2, LOST_AFTER).await;
    let (one, group) = (NodeId(1), routers[0].map().ranges()[0].group);
    eventually("the groups are settled", || is_settled(&routers[0])).await;
    let former = routers[0].table().members(group).unwrap().replica(one);
    routers[0].node().remove_group(group).await.unwrap();
    eventually("another replica has taken its place", || {
        let table = routers[0].table();
        let members = table.members(group).unwrap();
        is_settled(&routers[0]) && members.voters.contains(&one) && members.replica(one) > former
    })
    .await;
    for router in routers {
        stop(router).await;
    }
}
