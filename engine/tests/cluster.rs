//! Whole clusters in one process: over the in-memory network, with real logs in temporary
//! directories.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Cluster, MAX_COMMAND_BYTES, TestResult, number};
use logboat::{GroupHandle, GroupId, GroupRequest, NodeId, ReadFrom, ReadMode, RequestError};
use std::time::Duration;

const GROUP: GroupId = GroupId(7);

#[tokio::test]
async fn what_the_leader_acknowledges_is_read_back_and_reaches_all_replicas() -> TestResult {
    let cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    for expected in 1..=20 {
        assert_eq!(number(&cluster.propose(GROUP, b"+").await), expected);
    }
    assert_eq!(number(&cluster.read(GROUP).await), 20);
    for node in cluster.ids() {
        cluster.await_applied(node, GROUP, 20).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_follower_names_the_leader_and_forwards_nothing() -> TestResult {
    let cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"+").await;
    let leader = cluster.leader(GROUP).await;
    let follower = cluster.ids().into_iter().find(|node| *node != leader).unwrap();
    let handle = cluster.handle(follower, GROUP);
    handle.view().led().await;
    let refused = Err(RequestError::NotLeader { leader: Some(leader) });
    assert_eq!(handle.propose(Bytes::from_static(b"+")).await, refused);
    assert_eq!(handle.read(Bytes::new()).await, refused);
    let plus = GroupRequest::propose(Bytes::from_static(b"+"));
    let called = cluster.node(follower).call(leader, GROUP, &plus).await;
    assert_eq!(number(&called?), 2);
    Ok(())
}

#[tokio::test]
async fn commands_that_are_proposed_together_are_neighbours_and_answered_each() -> TestResult {
    let cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"+").await;
    let leader = cluster.leader(GROUP).await;
    let handle = cluster.handle(leader, GROUP);
    let lists = (0..4).map(|_| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.propose_all(&[b"+"; 50]).await })
    });
    let mut firsts = Vec::new();
    for list in lists.collect::<Vec<_>>() {
        let counts: Vec<_> =
            list.await??.into_iter().map(|answer| number(&answer.unwrap())).collect();
        assert!(counts.iter().copied().eq(counts[0]..counts[0] + 50), "{counts:?}");
        firsts.push(counts[0]);
    }
    firsts.sort_unstable();
    assert_eq!(firsts, [2, 52, 102, 152]);
    assert_eq!(handle.propose_all(&[b""; 0]).await, Ok(Vec::new()));
    let large = vec![b'+'; MAX_COMMAND_BYTES / 2];
    let refused = handle.propose_all(&[&large, &large]).await;
    assert!(matches!(refused, Err(RequestError::TooLarge { .. })), "{refused:?}");
    let many = vec![b""; MAX_COMMAND_BYTES / 256 + 1];
    let refused = handle.propose_all(&many).await;
    assert!(matches!(refused, Err(RequestError::TooLarge { .. })), "{refused:?}");
    let follower = cluster.ids().into_iter().find(|node| *node != leader).unwrap();
    cluster.handle(follower, GROUP).view().led().await;
    let refused = cluster.handle(follower, GROUP).propose_all(&[b"+", b"+"]).await;
    assert_eq!(refused, Err(RequestError::NotLeader { leader: Some(leader) }));
    let list = GroupRequest::propose_all(&[b"+", b"+"]);
    let answer = cluster.node(follower).call(leader, GROUP, &list).await?;
    let answers = list.outcomes(answer);
    assert_eq!(
        answers.into_iter().map(|answer| number(&answer.unwrap())).collect::<Vec<_>>(),
        [202, 203]
    );
    Ok(())
}

#[tokio::test]
async fn everything_acknowledged_survives_a_restart_of_all_nodes() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    for _ in 0..50 {
        cluster.propose(GROUP, b"+").await;
    }
    for node in cluster.ids() {
        cluster.stop(node);
    }
    for node in cluster.ids() {
        cluster.restart(node)?;
    }
    assert_eq!(number(&cluster.read(GROUP).await), 50);
    Ok(())
}

#[tokio::test]
async fn a_leader_that_is_cut_off_is_replaced_and_acknowledges_nothing() -> TestResult {
    let cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"+").await;
    let old = cluster.leader(GROUP).await;
    cluster.isolate(old);
    let handle = cluster.handle(old, GROUP);
    let lost = tokio::spawn(async move { handle.propose(Bytes::from_static(b"+")).await });
    let others: Vec<_> = cluster.ids().into_iter().filter(|node| *node != old).collect();
    let new = cluster.leader_among(&others, GROUP).await;
    assert_ne!(new, old);
    let acknowledged = number(&cluster.propose_at(new, GROUP, b"+").await);
    assert_eq!(acknowledged, 2);
    cluster.heal(old);
    cluster.await_applied(old, GROUP, 2).await;
    // Another leader's entry stands where the lost one would, so it is known to have no effect.
    assert!(matches!(lost.await?, Err(RequestError::NotLeader { .. })));
    assert_eq!(number(&cluster.read(GROUP).await), 2);
    Ok(())
}

#[tokio::test]
async fn a_follower_past_which_the_log_was_cut_catches_up_by_snapshot() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"+").await;
    let leader = cluster.leader(GROUP).await;
    let behind = cluster.ids().into_iter().find(|node| *node != leader).unwrap();
    cluster.stop(behind);
    // Commands of 1 KiB against snapshots every 16 KiB: the log is cut many times over.
    for _ in 0..200 {
        cluster.propose(GROUP, &[b'+'; 1024]).await;
    }
    cluster.restart(behind)?;
    cluster.await_applied(behind, GROUP, 201).await;
    assert!(cluster.snapshots_sent() > 0);
    // What it got by snapshot it keeps by itself.
    cluster.stop(behind);
    cluster.restart(behind)?;
    cluster.await_applied(behind, GROUP, 201).await;
    Ok(())
}

#[tokio::test]
async fn a_state_machine_that_panics_takes_no_other_group_with_it() -> TestResult {
    let cluster = Cluster::new(1)?;
    let other = GroupId(8);
    cluster.start_group(GROUP)?;
    cluster.start_group(other)?;
    cluster.propose(GROUP, b"+").await;
    let node = NodeId(1);
    let stops = async |handle: &GroupHandle, command: &'static [u8]| {
        let mut answers = Vec::new();
        while answers.last() != Some(&Err(RequestError::Stopped)) {
            assert!(answers.len() < 10_000, "it goes on: {:?}", answers.last());
            answers.push(handle.propose(Bytes::from_static(command)).await);
        }
    };
    stops(&cluster.handle(node, GROUP), b"panic").await;
    assert_eq!(number(&cluster.propose(other, b"+").await), 1);
    // The same for a panic anywhere else in a replica's run.
    cluster.propose(other, b"panic at snapshots").await;
    let handle = cluster.handle(node, other);
    handle.compact();
    stops(&handle, b"+").await;
    assert_eq!(cluster.node(node).status().leaders, 0);
    let third = GroupId(9);
    cluster.start_group(third)?;
    assert_eq!(number(&cluster.propose(third, b"+").await), 1);
    Ok(())
}

#[tokio::test]
async fn requests_beyond_a_limit_are_refused_before_they_have_an_effect() -> TestResult {
    let cluster = Cluster::new(1)?;
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"+").await;
    let node = cluster.node(NodeId(1));
    let handle = cluster.handle(NodeId(1), GROUP);
    let large = vec![0; common::MAX_COMMAND_BYTES + 1];
    let refused = handle.propose(large.into()).await;
    assert!(matches!(refused, Err(RequestError::TooLarge { .. })), "{refused:?}");
    let unknown = GroupId(99);
    assert!(node.group(unknown).is_none());
    let read = GroupRequest::read(ReadMode::default(), Bytes::new());
    let nobody = node.call(NodeId(9), unknown, &read).await;
    assert_eq!(nobody, Err(RequestError::Unreachable(NodeId(9))));
    // More than the node may hold at once: some are refused, and all that are not take effect.
    let commands = 0..common::MEMORY_BUDGET_BYTES / common::MAX_COMMAND_BYTES;
    let command = Bytes::from(vec![b'+'; common::MAX_COMMAND_BYTES]);
    let pending: Vec<_> = commands
        .map(|_| {
            let (handle, command) = (handle.clone(), command.clone());
            tokio::spawn(async move { handle.propose(command).await })
        })
        .collect();
    let mut taken = 0;
    let mut busy = 0;
    for answer in pending {
        match answer.await? {
            Ok(_) => taken += 1,
            Err(RequestError::Busy) => busy += 1,
            Err(error) => return Err(error.into()),
        }
    }
    assert!(busy > 0);
    assert_eq!(number(&cluster.read(GROUP).await), taken + 1);
    Ok(())
}

#[tokio::test]
async fn a_request_for_a_group_that_is_not_there_says_so() -> TestResult {
    let cluster = Cluster::new(2)?;
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"+").await;
    let unknown = GroupId(99);
    let read = GroupRequest::read(ReadMode::default(), Bytes::new());
    let answer = cluster.node(NodeId(1)).call(NodeId(2), unknown, &read).await;
    assert_eq!(answer, Err(RequestError::NoSuchGroup(unknown)));
    Ok(())
}

#[tokio::test]
async fn leadership_goes_back_to_the_preferred_replica() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    let preferred = cluster.ids()[GROUP.0 as usize % 3];
    cluster.propose(GROUP, b"+").await;
    cluster.leader_among(&[preferred], GROUP).await;
    cluster.stop(preferred);
    let others: Vec<_> = cluster.ids().into_iter().filter(|node| *node != preferred).collect();
    cluster.leader_among(&others, GROUP).await;
    cluster.restart(preferred)?;
    cluster.leader_among(&[preferred], GROUP).await;
    assert_eq!(number(&cluster.propose(GROUP, b"+").await), 2);
    Ok(())
}

/// Its requests for support arrive, so it could be supported for ever.
#[tokio::test]
async fn a_leader_that_hears_nobody_is_replaced() -> TestResult {
    let cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"+").await;
    let deaf = cluster.leader(GROUP).await;
    cluster.deafen(deaf);
    let others: Vec<_> = cluster.ids().into_iter().filter(|node| *node != deaf).collect();
    let new = cluster.leader_among(&others, GROUP).await;
    assert_eq!(number(&cluster.propose_at(new, GROUP, b"+").await), 2);
    Ok(())
}

/// Its node is supported as before, so the leader has no reason to speak.
#[tokio::test]
async fn a_restarted_follower_of_an_idle_group_learns_what_is_committed() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"+").await;
    let leader = cluster.leader(GROUP).await;
    let follower = cluster.ids().into_iter().find(|node| *node != leader).unwrap();
    cluster.await_applied(follower, GROUP, 1).await;
    cluster.stop(follower);
    cluster.restart(follower)?;
    cluster.await_applied(follower, GROUP, 1).await;
    // Where the machine has much else to do, another one may lead by now.
    while cluster.handle(follower, GROUP).view().leader() != Some(cluster.leader(GROUP).await) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

#[tokio::test]
async fn idle_groups_say_nothing() -> TestResult {
    const GROUPS: u64 = 40;
    let cluster = Cluster::new(3)?;
    for group in 1..=GROUPS {
        cluster.start_group(GroupId(group))?;
    }
    for group in 1..=GROUPS {
        cluster.propose(GroupId(group), b"+").await;
    }
    // Once all is said, ten intervals go by with nothing but the nodes' heartbeats.
    let mut before = cluster.watch().arrivals();
    loop {
        let now = cluster.watch().arrivals();
        if now.messages > before.messages {
            before = now;
        } else if now.requests >= before.requests + 60 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_follower_serves_reads_that_see_what_was_written() -> TestResult {
    let cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    let modes = [ReadFrom::Leader, ReadFrom::Any]
        .into_iter()
        .flat_map(|from| [false, true].map(|lease| ReadMode { from, lease }));
    for (mode, written) in modes.cycle().zip(1..=40) {
        cluster.propose(GROUP, b"+").await;
        let leader = cluster.leader(GROUP).await;
        for node in cluster.ids() {
            if mode.from == ReadFrom::Leader && node != leader {
                continue;
            }
            let handle = cluster.handle(node, GROUP);
            // A follower may not have heard of its leader yet.
            handle.view().led().await;
            let answer = handle.read_in(mode, Bytes::new()).await?;
            assert_eq!(number(&answer), written, "{mode:?} at node {node}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_stopping_leader_hands_over_and_a_stopped_node_answers() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"+").await;
    let old = cluster.leader(GROUP).await;
    let handle = cluster.handle(old, GROUP);
    cluster.stop(old);
    assert_eq!(handle.propose(Bytes::from_static(b"+")).await, Err(RequestError::Stopped));
    let others: Vec<_> = cluster.ids().into_iter().filter(|node| *node != old).collect();
    let new = cluster.leader_among(&others, GROUP).await;
    assert_eq!(number(&cluster.propose_at(new, GROUP, b"+").await), 2);
    Ok(())
}

#[tokio::test]
async fn a_stopped_node_starts_no_group() -> TestResult {
    let mut cluster = Cluster::new(1)?;
    cluster.start_group(GROUP)?;
    cluster.stop(NodeId(1));
    let (sender, refused) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let refused = cluster.start_group(GroupId(8)).unwrap_err();
        sender.send(refused.to_string())
    });
    let refused = tokio::time::timeout(Duration::from_secs(10), refused).await??;
    assert_eq!(refused, "the node has stopped");
    Ok(())
}

#[tokio::test]
async fn leadership_moves_on_request() -> TestResult {
    let cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    cluster.propose(GROUP, b"+").await;
    let old = cluster.leader(GROUP).await;
    let heir = cluster.ids().into_iter().find(|node| *node != old).unwrap();
    cluster.handle(old, GROUP).transfer(heir).await?;
    assert_eq!(cluster.leader_among(&[heir], GROUP).await, heir);
    assert_eq!(number(&cluster.propose_at(heir, GROUP, b"+").await), 2);
    Ok(())
}

#[tokio::test]
async fn a_group_of_one_works_without_peers() -> TestResult {
    let mut cluster = Cluster::new(1)?;
    cluster.start_group(GROUP)?;
    for _ in 0..10 {
        cluster.propose(GROUP, b"+").await;
    }
    cluster.stop(NodeId(1));
    cluster.restart(NodeId(1))?;
    let read = tokio::time::timeout(Duration::from_secs(10), cluster.read(GROUP)).await?;
    assert_eq!(number(&read), 10);
    Ok(())
}
