//! Changes of a group's members by the library's calls: replicas join, are promoted, demoted and
//! removed, and whoever asks for what can't be is told why.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Cluster, Counter, TestResult, number};
use logboat::{
    Change, ChangeError, ChangeRefusal, GroupError, GroupHandle, GroupId, GroupSpec, Index,
    Membership, NodeEvent, NodeId, RequestError, RoleKind, TransferError,
};
use std::fs;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

const GROUP: GroupId = GroupId(7);

fn ids(nodes: &[u64]) -> Vec<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

/// Founds the group on these nodes.
fn found(cluster: &Cluster, nodes: &[u64]) -> TestResult {
    for node in ids(nodes) {
        let machine = Box::<Counter>::default();
        let (replicas, preferred) = (ids(nodes), None);
        let spec = GroupSpec { group: GROUP, replicas, preferred, machine };
        cluster.node(node).create_group(spec)?;
    }
    Ok(())
}

fn join(cluster: &Cluster, node: u64) -> Result<GroupHandle, GroupError> {
    cluster.node(NodeId(node)).join_group(GROUP, Box::<Counter>::default())
}

/// Waits for a leader among these nodes.
async fn leader(cluster: &Cluster, nodes: &[u64]) -> GroupHandle {
    cluster.handle(cluster.leader_among(&ids(nodes), GROUP).await, GROUP)
}

/// Proposes at whichever of these nodes leads, again while that has no effect. Returns the count.
async fn count_up(cluster: &Cluster, nodes: &[u64]) -> u64 {
    loop {
        match leader(cluster, nodes).await.propose(Bytes::from_static(b"+")).await {
            Ok(count) => return number(&count),
            Err(error) => assert!(matches!(error, RequestError::NotLeader { .. }), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Asks whichever of these nodes leads, again while the same change may be taken a little later.
async fn change(
    cluster: &Cluster,
    nodes: &[u64],
    changes: &[Change],
) -> Result<Membership, ChangeError> {
    let asked = async {
        loop {
            match leader(cluster, nodes).await.change(changes).await {
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                outcome => return outcome,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.unwrap()
}

fn refused(outcome: Result<Membership, ChangeError>) -> ChangeRefusal {
    match outcome {
        Err(ChangeError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn reads_ask_the_nodes_that_share_a_group_with_the_leader_s() -> TestResult {
    let cluster = Cluster::new(5)?;
    found(&cluster, &[1, 2, 3])?;
    count_up(&cluster, &[1, 2, 3]).await;
    assert_eq!(number(&leader(&cluster, &[1, 2, 3]).await.read(Bytes::new()).await?), 1);
    let asked = cluster.watch().asked();
    assert!(!asked.is_empty() && asked.iter().all(|node| node.0 <= 3), "{asked:?}");
    // Learners don't count, and voters do as soon as they are some.
    for node in [4, 5] {
        join(&cluster, node)?;
    }
    let learners = [4, 5].map(|node| Change::AddLearner(NodeId(node)));
    change(&cluster, &[1, 2, 3], &learners).await?;
    assert_eq!(number(&leader(&cluster, &[1, 2, 3]).await.read(Bytes::new()).await?), 1);
    assert!(cluster.watch().asked().iter().all(|node| node.0 <= 3));
    change(&cluster, &[1, 2, 3], &[Change::Promote(NodeId(4))]).await?;
    assert_eq!(number(&leader(&cluster, &[1, 2, 3]).await.read(Bytes::new()).await?), 1);
    let asked = cluster.watch().asked();
    assert!(asked.contains(&NodeId(4)) && !asked.contains(&NodeId(5)), "{asked:?}");
    Ok(())
}

/// Nobody waits for ever for a replica that was named and never came.
#[tokio::test]
async fn a_node_that_never_joined_answers_that_it_has_no_replica() -> TestResult {
    let cluster = Cluster::new(5)?;
    found(&cluster, &[1, 2, 3])?;
    let (fourth, fifth) = (NodeId(4), NodeId(5));
    let learners = [fourth, fifth].map(Change::AddLearner);
    change(&cluster, &[1, 2, 3], &learners).await?;
    change(&cluster, &[1, 2, 3], &[Change::Remove(fourth)]).await?;
    let said = async |node, word| {
        while !cluster.watch().has_parted(node, word) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    said(fourth, "left").await;
    // It is written down: that replica is never born.
    let machine = Box::<Counter>::default();
    let (replicas, preferred) = (ids(&[1, 2, 3, 4]), None);
    let spec = GroupSpec { group: GROUP, replicas, preferred, machine };
    let founded = cluster.node(fourth).create_group(spec);
    assert!(matches!(founded, Err(GroupError::Removed(GROUP))));
    assert!(!cluster.watch().has_parted(fifth, "resigned"));
    let leader = cluster.leader_among(&ids(&[1, 2, 3]), GROUP).await;
    // A leader that stops is bound to be followed while its node lives.
    cluster.node(leader).stop_group(GROUP).await?;
    said(fifth, "resigned").await;
    // Both may join later, as other replicas.
    let rest: Vec<u64> = [1, 2, 3].into_iter().filter(|node| *node != leader.0).collect();
    change(&cluster, &rest, &[Change::AddLearner(fourth)]).await?;
    for node in [4, 5] {
        join(&cluster, node)?;
        cluster.await_applied(NodeId(node), GROUP, 0).await;
    }
    Ok(())
}

/// A crash comes when a replica's first snapshot is in place, and before the log records it. Only
/// the log says which replica it is: by the snapshot, it took itself for one that is gone.
#[tokio::test]
async fn a_replica_that_crashed_over_its_first_snapshot_joins_again() -> TestResult {
    for is_named in [false, true] {
        let (mut cluster, four) = (Cluster::new(4)?, NodeId(4));
        found(&cluster, &[1, 2, 3])?;
        if is_named {
            change(&cluster, &[1, 2, 3], &[Change::AddLearner(four)]).await?;
        }
        count_up(&cluster, &[1, 2, 3]).await;
        let leader = leader(&cluster, &[1, 2, 3]).await;
        let file = |node| cluster.dir(node).join("snapshots/7.snap");
        leader.compact();
        let leader = cluster.leader_among(&ids(&[1, 2, 3]), GROUP).await;
        while !file(leader).exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cluster.node(four).stop();
        fs::copy(file(leader), file(four))?;
        cluster.restart_without_groups(four)?;
        let mut events = cluster.node(four).events();
        let replica = join(&cluster, 4)?;
        if !is_named {
            change(&cluster, &[1, 2, 3], &[Change::AddLearner(four)]).await?;
        }
        let removed =
            async { while !matches!(events.next().await, Some(NodeEvent::Removed { .. })) {} };
        tokio::select! {
            () = cluster.await_applied(four, GROUP, 1) => {}
            () = removed => panic!("it takes itself for gone"),
        }
        assert_eq!(number(&replica.read_local(Bytes::new()).await?.1), 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_group_moves_to_other_nodes_with_all_that_it_holds() -> TestResult {
    let cluster = Cluster::new(6)?;
    found(&cluster, &[1, 2, 3])?;
    for count in 1..=20 {
        assert_eq!(number(&cluster.propose(GROUP, b"+").await), count);
    }
    let mut events = cluster.node(NodeId(4)).events();
    for node in [4, 5, 6] {
        join(&cluster, node)?;
    }
    let learners = [4, 5, 6].map(|node| Change::AddLearner(NodeId(node)));
    let members = change(&cluster, &[1, 2, 3], &learners).await?;
    assert_eq!((members.voters(), members.learners()), (ids(&[1, 2, 3]), ids(&[4, 5, 6])));
    let swap = [
        Change::Promote(NodeId(4)),
        Change::Promote(NodeId(5)),
        Change::Promote(NodeId(6)),
        Change::Demote(NodeId(1)),
        Change::Demote(NodeId(2)),
        Change::Demote(NodeId(3)),
        Change::Prefer(NodeId(5)),
    ];
    let members = change(&cluster, &[1, 2, 3], &swap).await?;
    assert_eq!((members.voters(), members.learners()), (ids(&[4, 5, 6]), ids(&[1, 2, 3])));
    assert_eq!((members.preferred(), members.is_joint()), (Some(NodeId(5)), false));
    let gone = [1, 2, 3].map(|node| Change::Remove(NodeId(node)));
    let members = change(&cluster, &[4, 5, 6], &gone).await?;
    assert_eq!(members.members().len(), 3);
    assert_ne!(members.replica(NodeId(4)), None);
    assert_eq!(count_up(&cluster, &[4, 5, 6]).await, 21);
    assert_eq!(leader(&cluster, &[4, 5, 6]).await.membership(), members);
    // The newcomer was told, too.
    loop {
        match events.next().await.unwrap() {
            NodeEvent::MembersChanged { members: now, is_committed: true, .. }
                if now == members =>
            {
                break;
            }
            _ => {}
        }
    }
    Ok(())
}

#[tokio::test]
async fn changes_that_can_not_be_are_refused_with_the_reason() -> TestResult {
    let cluster = Cluster::new(4)?;
    found(&cluster, &[1, 2, 3])?;
    cluster.propose(GROUP, b"+").await;
    let voters = &[1, 2, 3];
    let [one, two, three, four, stranger] = [1, 2, 3, 4, 9].map(NodeId);
    let all = [one, two, three].map(Change::Demote);
    for (changes, refusal) in [
        (vec![], ChangeRefusal::Nothing),
        (all.to_vec(), ChangeRefusal::NoVoterLeft),
        (vec![Change::AddLearner(two)], ChangeRefusal::AlreadyMember { node: two }),
        (vec![Change::Promote(four)], ChangeRefusal::NotMember { node: four }),
        (vec![Change::Promote(two)], ChangeRefusal::NotLearner { node: two }),
        (vec![Change::Remove(two)], ChangeRefusal::VoterNotDemoted { node: two }),
        (vec![Change::Prefer(four)], ChangeRefusal::NotVoter { node: four }),
        (
            vec![Change::AddLearner(four), Change::Promote(four)],
            ChangeRefusal::NamedTwice { node: four },
        ),
    ] {
        assert_eq!(refused(change(&cluster, voters, &changes).await), refusal, "{changes:?}");
    }
    let unknown = change(&cluster, voters, &[Change::AddLearner(stranger)]).await;
    assert_eq!(unknown, Err(ChangeError::NotAPeer { node: stranger }));
    // The same learner twice.
    change(&cluster, voters, &[Change::AddLearner(four)]).await?;
    let twice = change(&cluster, voters, &[Change::AddLearner(four)]).await;
    assert_eq!(refused(twice), ChangeRefusal::AlreadyMember { node: four });
    assert_eq!(leader(&cluster, voters).await.membership().voters(), ids(voters));
    Ok(())
}

#[tokio::test]
async fn a_learner_that_is_not_there_is_not_promoted() -> TestResult {
    let cluster = Cluster::new(4)?;
    found(&cluster, &[1, 2, 3])?;
    cluster.propose(GROUP, b"+").await;
    let voters = &[1, 2, 3];
    change(&cluster, voters, &[Change::AddLearner(NodeId(4))]).await?;
    let promotion = [Change::Promote(NodeId(4))];
    // Its node runs, but the group's replica there was not started.
    let leading = loop {
        let leading = leader(&cluster, voters).await;
        cluster.propose(GROUP, b"+").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Err(ChangeError::Refused(ChangeRefusal::NotCaughtUp { node, matched, last })) =
            leading.change(&promotion).await
        {
            assert_eq!((node, matched), (NodeId(4), Index(0)));
            assert!(last >= Index(3), "{last}");
            break leading;
        }
    };
    assert_eq!(leading.membership().learners(), ids(&[4]));
    // As soon as it is there, it is.
    join(&cluster, 4)?;
    let members = change(&cluster, voters, &promotion).await?;
    assert_eq!(members.voters(), ids(&[1, 2, 3, 4]));
    Ok(())
}

#[tokio::test]
async fn a_change_that_is_based_on_other_members_is_refused() -> TestResult {
    let cluster = Cluster::new(5)?;
    found(&cluster, &[1, 2, 3])?;
    cluster.propose(GROUP, b"+").await;
    let leading = leader(&cluster, &[1, 2, 3]).await;
    let lead = leading.view().leader().unwrap();
    let seen = leading.membership().entry();
    let fifth = cluster.node(NodeId(5));
    let first = [Change::AddLearner(NodeId(4))];
    let members = fifth.change_from(lead, GROUP, seen, &first).await?;
    // Somebody else thought of the same members.
    let second = [Change::AddLearner(NodeId(5))];
    let late = Err(ChangeError::OtherMembers { id: members.entry() });
    assert_eq!(fifth.change_from(lead, GROUP, seen, &second).await, late);
    assert_eq!(leading.change_from(seen, &second).await, late);
    assert_eq!(leading.membership().learners(), ids(&[4]));
    leading.change_from(members.entry(), &second).await?;

    // The leader says whether a learner could be promoted, and that changes nothing.
    let behind = leading.check_learner(NodeId(4)).await;
    assert!(matches!(refused(behind.map(|()| members)), ChangeRefusal::NotCaughtUp { .. }));
    join(&cluster, 4)?;
    while leading.check_learner(NodeId(4)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(leading.membership().learners(), ids(&[4, 5]));
    Ok(())
}

#[tokio::test]
async fn followers_name_the_leader_and_a_change_waits_for_the_one_before() -> TestResult {
    let cluster = Cluster::new(5)?;
    found(&cluster, &[1, 2, 3])?;
    cluster.propose(GROUP, b"+").await;
    let leading = leader(&cluster, &[1, 2, 3]).await;
    let lead = leading.view().leader().unwrap();
    let follower = ids(&[1, 2, 3]).into_iter().find(|node| *node != lead).unwrap();
    let handle = cluster.handle(follower, GROUP);
    while handle.view().leader() != Some(lead) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let changes = [Change::AddLearner(NodeId(4))];
    let not_leader = RequestError::NotLeader { leader: Some(lead) };
    assert_eq!(handle.change(&changes).await, Err(not_leader.clone().into()));
    let refusal = handle.transfer(follower).await;
    assert_eq!(refusal, Err(TransferError::Request(not_leader)));
    // Another node reaches the leader.
    let members = cluster.node(NodeId(5)).change(lead, GROUP, &changes).await?;
    assert_eq!(members.learners(), ids(&[4]));
    let elsewhere = cluster.node(NodeId(1)).change(NodeId(5), GROUP, &changes).await;
    assert_eq!(elsewhere, Err(RequestError::NoSuchGroup(GROUP).into()));

    // While one is not committed, the next is refused, and has no effect.
    let first = [Change::AddLearner(NodeId(5)), Change::Prefer(follower)];
    let second = [Change::Remove(NodeId(4))];
    let refusal = loop {
        let leading = leader(&cluster, &[1, 2, 3]).await;
        match tokio::join!(leading.change(&first), leading.change(&second)) {
            (Ok(members), second) => {
                assert_eq!(members.learners(), ids(&[4, 5]));
                break refused(second);
            }
            (Err(error), Err(_)) if error.is_transient() => {}
            others => panic!("{others:?}"),
        }
    };
    assert!(matches!(refusal, ChangeRefusal::InProgress { .. }), "{refusal:?}");
    Ok(())
}

#[tokio::test]
async fn a_transfer_tells_how_it_ended() -> TestResult {
    let cluster = Cluster::new(4)?;
    found(&cluster, &[1, 2, 3])?;
    cluster.propose(GROUP, b"+").await;
    let leading = leader(&cluster, &[1, 2, 3]).await;
    let lead = leading.view().leader().unwrap();
    let others: Vec<_> = ids(&[1, 2, 3]).into_iter().filter(|node| *node != lead).collect();
    assert_eq!(leading.transfer(lead).await, Ok(()));
    let stranger = NodeId(4);
    assert_eq!(leading.transfer(stranger).await, Err(TransferError::NotVoter { node: stranger }));
    // Nothing gets through to the successor, which can't take over.
    cluster.watch().silence_after(others[0], 0);
    let vain = leading.transfer(others[0]).await;
    cluster.watch().end_silence();
    match vain {
        Err(TransferError::NotTaken { node, .. }) => assert_eq!(node, others[0]),
        // On a slow machine the leader may have lost its role meanwhile.
        Err(TransferError::Request(_)) => {}
        other => panic!("{other:?}"),
    }
    let heir = others[1];
    let transferred = async {
        loop {
            let leading = leader(&cluster, &[1, 2, 3]).await;
            match leading.transfer(heir).await {
                Ok(()) => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), transferred).await?;
    cluster.handle(heir, GROUP).view().led().await;
    Ok(())
}

#[tokio::test]
async fn leadership_goes_to_whom_is_preferred_from_now_on() -> TestResult {
    let cluster = Cluster::new(3)?;
    found(&cluster, &[1, 2, 3])?;
    cluster.propose(GROUP, b"+").await;
    for preferred in [3, 1, 2] {
        let members = change(&cluster, &[1, 2, 3], &[Change::Prefer(NodeId(preferred))]).await?;
        assert_eq!(members.preferred(), Some(NodeId(preferred)));
        let leads = async { cluster.leader_among(&ids(&[preferred]), GROUP).await };
        tokio::time::timeout(Duration::from_secs(60), leads).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stale_read_tells_how_new_its_state_is() -> TestResult {
    let cluster = Cluster::new(3)?;
    found(&cluster, &[1, 2, 3])?;
    for _ in 0..5 {
        cluster.propose(GROUP, b"+").await;
    }
    for node in cluster.ids() {
        cluster.await_applied(node, GROUP, 5).await;
        let handle = cluster.handle(node, GROUP);
        let (as_of, answer) = handle.read_local(Bytes::new()).await?;
        assert!(as_of.index >= Index(6), "{as_of}");
        assert_eq!(number(&answer), 5);
    }
    // Without a leader, too.
    cluster.isolate(NodeId(1));
    let handle = cluster.handle(NodeId(1), GROUP);
    while handle.view().leader().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(number(&handle.read_local(Bytes::new()).await?.1), 5);
    Ok(())
}

#[tokio::test]
async fn a_replica_whose_stop_nobody_waits_for_starts_again() -> TestResult {
    let cluster = Cluster::new(1)?;
    let node = cluster.node(NodeId(1));
    cluster.start_group(GROUP)?;
    for _ in 0..20 {
        let mut stop = Box::pin(node.stop_group(GROUP));
        // Once it is asked for, the caller gives up.
        let _ = poll_fn(|context| Poll::Ready(stop.as_mut().poll(context))).await;
        drop(stop);
        while node.stored_groups()[0].is_running {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        node.join_group(GROUP, Box::<Counter>::default())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_stops_and_starts_again_with_what_is_stored() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    found(&cluster, &[1, 2, 3])?;
    for _ in 0..5 {
        cluster.propose(GROUP, b"+").await;
    }
    let leading = leader(&cluster, &[1, 2, 3]).await;
    let lead = leading.view().leader().unwrap();
    let node = cluster.node(lead).clone();
    node.stop_group(GROUP).await?;
    assert!(node.group(GROUP).is_none() && node.groups().is_empty());
    assert!(matches!(node.stop_group(GROUP).await, Err(GroupError::NotStarted(GROUP))));
    assert_eq!(leading.propose(Bytes::new()).await, Err(RequestError::Stopped));
    let stored = node.stored_groups();
    assert_eq!((stored.len(), stored[0].group, stored[0].is_running), (1, GROUP, false));
    assert_eq!((stored[0].members.voters(), &stored[0].failure), (ids(&[1, 2, 3]), &None));
    // The others go on, and it catches up.
    let others: Vec<_> = [1, 2, 3].into_iter().filter(|id| *id != lead.0).collect();
    assert_eq!(count_up(&cluster, &others).await, 6);
    join(&cluster, lead.0)?;
    cluster.await_applied(lead, GROUP, 6).await;
    assert!(node.stored_groups()[0].is_running);
    drop(node);

    // What a node has stored is there before it is started.
    cluster.stop(lead);
    cluster.restart_without_groups(lead)?;
    let stored = cluster.node(lead).stored_groups();
    assert_eq!((stored[0].is_running, stored[0].members.voters()), (false, ids(&[1, 2, 3])));
    join(&cluster, lead.0)?;
    cluster.await_applied(lead, GROUP, 6).await;
    Ok(())
}

#[tokio::test]
async fn a_group_whose_only_replica_stops_is_led_again_when_that_is_back() -> TestResult {
    let cluster = Cluster::new(1)?;
    found(&cluster, &[1])?;
    for round in 1..=3 {
        assert_eq!(number(&cluster.propose(GROUP, b"+").await), round);
        cluster.node(NodeId(1)).stop_group(GROUP).await?;
        join(&cluster, 1)?;
    }
    assert_eq!(leader(&cluster, &[1]).await.view().role(), RoleKind::Leader);
    Ok(())
}

#[tokio::test]
async fn a_removed_replica_goes_and_another_one_comes_in_its_place() -> TestResult {
    let mut cluster = Cluster::new(4)?;
    let (voters, fourth) = ([1, 2, 3], NodeId(4));
    found(&cluster, &voters)?;
    for _ in 0..5 {
        cluster.propose(GROUP, b"+").await;
    }
    let former = join(&cluster, 4)?;
    let members = change(&cluster, &voters, &[Change::AddLearner(fourth)]).await?;
    let first = members.replica(fourth);
    cluster.await_applied(fourth, GROUP, 5).await;
    change(&cluster, &voters, &[Change::Remove(fourth)]).await?;
    // It is told, and nothing of it is left.
    while cluster.node(fourth).group(GROUP).is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(former.view().is_gone());
    assert_eq!(former.propose(Bytes::new()).await, Err(RequestError::Stopped));
    assert!(cluster.node(fourth).stored_groups().is_empty());
    let replicas = ids(&[1, 2, 3, 4]);
    let spec =
        GroupSpec { group: GROUP, replicas, preferred: None, machine: Box::<Counter>::default() };
    let refused = cluster.node(fourth).create_group(spec);
    assert!(matches!(refused, Err(GroupError::Removed(GROUP))));

    // The tombstone outlives the node's run.
    cluster.stop(fourth);
    cluster.restart_without_groups(fourth)?;
    assert!(cluster.node(fourth).stored_groups().is_empty());
    assert_eq!(number(&cluster.propose(GROUP, b"+").await), 6);
    join(&cluster, 4)?;
    let members = change(&cluster, &voters, &[Change::AddLearner(fourth)]).await?;
    let second = members.replica(fourth);
    assert!(second > first, "{second:?} after {first:?}");
    cluster.await_applied(fourth, GROUP, 6).await;

    // It is the same one after another restart.
    cluster.stop(fourth);
    cluster.restart_without_groups(fourth)?;
    join(&cluster, 4)?;
    assert_eq!(number(&cluster.propose(GROUP, b"+").await), 7);
    cluster.await_applied(fourth, GROUP, 7).await;
    Ok(())
}
