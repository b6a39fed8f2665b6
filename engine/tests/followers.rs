//! What followers that are dead, silent or far behind cost their leader.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use common::{Cluster, MEMORY_BUDGET_BYTES, TestResult};
use logboat::{GroupId, Index, NodeConfig, NodeId, PeerStatus};
use std::time::Duration;

const GROUP: GroupId = GroupId(7);

/// Small limits, so that a few commands exceed them.
const COMMAND_BYTES: usize = 8 << 10;
const MAX_APPEND_BYTES: usize = 16 << 10;
const MAX_INFLIGHT_BYTES: usize = 64 << 10;

/// As many commands as take twice the memory of a node.
const COMMANDS: u64 = (2 * MEMORY_BUDGET_BYTES / COMMAND_BYTES) as u64;

/// Limits windows, and keeps the whole log.
fn small_windows(config: &mut NodeConfig) {
    config.tuning.max_append_bytes = MAX_APPEND_BYTES;
    config.tuning.max_inflight_bytes = MAX_INFLIGHT_BYTES;
    config.tuning.retransmit_timeout = Duration::from_millis(100);
    config.snapshot_log_bytes = u64::MAX;
}

async fn leader_and_follower(cluster: &Cluster) -> (NodeId, NodeId) {
    cluster.propose(GROUP, b"+").await;
    let leader = cluster.leader(GROUP).await;
    (leader, cluster.ids().into_iter().find(|node| *node != leader).unwrap())
}

async fn write(cluster: &Cluster, commands: u64) {
    for _ in 0..commands {
        cluster.propose(GROUP, &[b'+'; COMMAND_BYTES]).await;
    }
}

fn peer(cluster: &Cluster, of: NodeId, peer: NodeId) -> PeerStatus {
    let peers = cluster.node(of).status().peers;
    peers.into_iter().find(|status| status.node == peer).unwrap()
}

/// Nothing of what was written waits on the node. That its replica keeps no entry in memory that it
/// has applied is among the invariants which the core asserts after every step.
async fn assert_holds_nothing(cluster: &Cluster, node: NodeId) {
    cluster.await_applied(node, GROUP, COMMANDS + 1).await;
    let status = cluster.node(node).status();
    assert_eq!((status.pending_bytes, status.apply_lag), (0, 0));
}

#[tokio::test]
async fn a_dead_follower_costs_its_leader_nothing_but_the_log() -> TestResult {
    let mut cluster = Cluster::configured(3, small_windows)?;
    cluster.start_group(GROUP)?;
    let (leader, dead) = leader_and_follower(&cluster).await;
    cluster.stop(dead);
    while peer(&cluster, leader, dead).connected {
        tokio::task::yield_now().await;
    }
    cluster.watch().forget();
    write(&cluster, COMMANDS).await;
    assert_holds_nothing(&cluster, leader).await;
    assert_eq!(peer(&cluster, leader, dead).queued_bytes, 0);
    assert!(cluster.watch().appends_to(dead).is_empty());
    Ok(())
}

#[tokio::test]
async fn a_follower_that_answers_nothing_is_sent_no_more_than_its_window() -> TestResult {
    let cluster = Cluster::configured(3, small_windows)?;
    cluster.start_group(GROUP)?;
    let (leader, silent) = leader_and_follower(&cluster).await;
    // The logs have met when it has taken a few.
    cluster.watch().silence_after(silent, 4);
    write(&cluster, COMMANDS).await;
    assert_holds_nothing(&cluster, leader).await;
    assert!(peer(&cluster, leader, silent).connected);
    let appends = cluster.watch().appends_to(silent);
    let lost = || appends.iter().filter(|append| !append.through);
    let first = lost().map(|append| append.first.0).min().unwrap();
    let end = lost().map(|append| append.first.0 + append.entries).max().unwrap();
    // The same entries may have been sent more than once.
    let sent = (end - first) as usize * COMMAND_BYTES;
    assert!(sent <= MAX_INFLIGHT_BYTES, "{sent} bytes were sent");
    Ok(())
}

#[tokio::test]
async fn a_follower_that_comes_back_gets_the_log_in_chunks_while_writes_go_on() -> TestResult {
    let mut cluster = Cluster::configured(3, small_windows)?;
    cluster.start_group(GROUP)?;
    let (_, behind) = leader_and_follower(&cluster).await;
    cluster.stop(behind);
    write(&cluster, COMMANDS).await;
    cluster.watch().forget();
    // It falls silent in the middle of it, so that writes certainly come between.
    let before_silence = 8;
    cluster.watch().silence_after(behind, before_silence);
    cluster.restart(behind)?;
    while cluster.watch().appends_to(behind).len() < before_silence {
        tokio::task::yield_now().await;
    }
    let live = 20;
    write(&cluster, live).await;
    assert!(cluster.handle(behind, GROUP).view().applied() < Index(COMMANDS));
    cluster.watch().end_silence();
    cluster.await_applied(behind, GROUP, COMMANDS + 1 + live).await;
    let appends = cluster.watch().appends_to(behind);
    assert!(appends.iter().all(|append| append.bytes <= MAX_APPEND_BYTES));
    assert!(appends.len() as u64 >= (COMMANDS + live) / 2);
    assert_eq!(cluster.snapshots_sent(), 0);
    Ok(())
}
