//! A replica whose data are damaged is one replica's matter: its node runs the others, and it comes
//! back from its peers under another id.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Cluster, Counter, TestResult, number};
use logboat::{
    Change, Events, GroupError, GroupHandle, GroupId, Index, NodeEvent, NodeId, StartError,
};
use logboat_raft::{Entry, EntryKind, LogId, LogWrite, Persist, SnapshotMeta, Term, WriteSeq};
use logboat_storage::WalOptions;
use logboat_storage::simulation::{FileDisk, InlineWal};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const GROUP: GroupId = GroupId(1);
const OTHER: GroupId = GroupId(2);
const PATIENCE: Duration = Duration::from_secs(60);
const THREE: NodeId = NodeId(3);

/// Flips a bit in the first of the files below `dir` that holds `bytes`, somewhere in them.
fn flip(dir: &Path, bytes: &[u8]) -> bool {
    flip_at(dir, bytes, bytes.len() as isize / 2)
}

/// Flips a bit in the first of the files below `dir` that holds `bytes`, so far behind their
/// beginning.
fn flip_at(dir: &Path, bytes: &[u8], offset: isize) -> bool {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return flip_at(&path, bytes, offset);
        }
        let content = fs::read(&path).unwrap();
        let found = content.windows(bytes.len()).position(|window| window == bytes);
        if let Some(at) = found.and_then(|found| found.checked_add_signed(offset)) {
            // In its place, since a node may have mapped the file.
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[content[at] ^ 4], at as u64).unwrap();
        }
        found.is_some()
    })
}

/// Asks whichever of nodes 1 and 2 leads, again while the same change may be taken a little later.
async fn change(cluster: &Cluster, changes: &[Change]) {
    let changed = async {
        loop {
            let leader = cluster.leader_among(&[NodeId(1), NodeId(2)], GROUP).await;
            match cluster.handle(leader, GROUP).change(changes).await {
                Ok(_) => return,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, changed).await.unwrap();
}

/// Why the replica of [`GROUP`] failed.
async fn failure(events: &mut Events) -> String {
    loop {
        if let NodeEvent::Failed { group: GROUP, reason } = events.next().await.unwrap() {
            return reason;
        }
    }
}

/// Has another replica on node 3 take the place of the one that is lost, and checks that the node
/// says so.
async fn replace(cluster: &Cluster, count: u64) -> GroupHandle {
    let node = cluster.node(THREE);
    let lost = node.stored_groups().into_iter().find(|stored| stored.group == GROUP).unwrap();
    let mut events = node.events();
    let former = cluster.handle(NodeId(1), GROUP).membership().replica(THREE).unwrap();
    node.remove_group(GROUP).await.unwrap();
    let founding = cluster.start_with(THREE, GROUP, Box::<Counter>::default());
    assert!(founding.unwrap_err().to_string().contains("is gone"));
    change(cluster, &[Change::Demote(THREE)]).await;
    change(cluster, &[Change::Remove(THREE)]).await;
    let replica = node.join_group(GROUP, Box::<Counter>::default()).unwrap();
    change(cluster, &[Change::AddLearner(THREE)]).await;
    change(cluster, &[Change::Promote(THREE)]).await;
    cluster.await_applied(THREE, GROUP, count).await;
    assert_eq!(number(&replica.read_local(Bytes::new()).await.unwrap().1), count);
    assert!(replica.membership().replica(THREE).unwrap() > former);
    let mended = async {
        loop {
            if let NodeEvent::Mended(mended) = events.next().await.unwrap() {
                return mended;
            }
        }
    };
    let mended = timeout(PATIENCE, mended).await.unwrap();
    assert_eq!((mended.group, Some(&mended.reason)), (GROUP, lost.failure.as_ref()));
    assert!([NodeId(1), NodeId(2)].contains(&mended.from), "{mended:?}");
    assert_eq!(node.status().mended, [mended]);
    replica
}

#[tokio::test]
async fn damage_to_entries_of_a_group_costs_its_replica_alone() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    let precious = b"an entry of the group that a bit flips in";
    cluster.start_group(GROUP)?;
    cluster.start_group(OTHER)?;
    cluster.propose(GROUP, precious).await;
    cluster.propose(OTHER, b"+").await;
    cluster.await_applied(THREE, GROUP, 1).await;
    cluster.await_applied(THREE, OTHER, 1).await;
    cluster.stop(THREE);
    assert!(flip(cluster.dir(THREE), precious));
    cluster.restart_without_groups(THREE)?;

    let node = cluster.node(THREE).clone();
    let stored = node.stored_groups();
    let of = |group| stored.iter().find(|stored| stored.group == group).unwrap();
    assert_eq!(of(OTHER).failure, None);
    let reason = of(GROUP).failure.clone().unwrap();
    assert!(reason.contains("is damaged at offset"), "{reason}");
    assert_eq!(node.status().failed.len(), 1);
    // It is not founded again: it would have forgotten what it promised.
    for _ in 0..2 {
        let founding = cluster.start_with(THREE, GROUP, Box::<Counter>::default());
        assert_eq!(founding.unwrap_err().to_string(), format!("group {GROUP}: {reason}"));
    }
    cluster.start_with(THREE, OTHER, Box::<Counter>::default())?;
    assert_eq!(number(&cluster.propose(OTHER, b"+").await), 2);
    cluster.await_applied(THREE, OTHER, 2).await;
    assert_eq!(number(&cluster.propose(GROUP, b"+").await), 2);

    replace(&cluster, 2).await;
    assert!(node.status().failed.is_empty());
    assert!(node.stored_groups().iter().all(|stored| stored.failure.is_none()));
    drop(node);
    // Nor does it come back at the next start.
    cluster.stop(THREE);
    cluster.restart_without_groups(THREE)?;
    let node = cluster.node(THREE);
    assert!(node.stored_groups().iter().all(|stored| stored.failure.is_none()));
    node.join_group(GROUP, Box::<Counter>::default())?;
    cluster.await_applied(THREE, GROUP, 2).await;
    Ok(())
}

#[tokio::test]
async fn damage_to_a_header_costs_the_replicas_that_the_log_names() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    let precious = b"an entry before which a bit flips";
    cluster.start_group(GROUP)?;
    cluster.start_group(OTHER)?;
    cluster.propose(OTHER, b"+").await;
    cluster.await_applied(THREE, OTHER, 1).await;
    cluster.propose(GROUP, precious).await;
    cluster.await_applied(THREE, GROUP, 1).await;
    cluster.stop(THREE);
    // The checksum of the record's header comes before the command.
    assert!(flip_at(cluster.dir(THREE), precious, -2));
    cluster.restart_without_groups(THREE)?;
    let stored = cluster.node(THREE).stored_groups();
    let of = |group| stored.iter().find(|stored| stored.group == group).unwrap();
    assert_eq!(of(OTHER).failure, None);
    let reason = of(GROUP).failure.clone().unwrap();
    assert!(reason.contains("a record header fails its checksum"), "{reason}");
    cluster.start_with(THREE, OTHER, Box::<Counter>::default())?;
    assert_eq!(number(&cluster.propose(OTHER, b"+").await), 2);
    cluster.await_applied(THREE, OTHER, 2).await;
    replace(&cluster, 1).await;
    Ok(())
}

#[tokio::test]
async fn a_damaged_snapshot_costs_its_replica_alone() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    for _ in 0..5 {
        cluster.propose(GROUP, b"+").await;
    }
    cluster.await_applied(THREE, GROUP, 5).await;
    cluster.handle(THREE, GROUP).compact();
    while cluster.node(THREE).metrics().snapshots_written.get() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    cluster.stop(THREE);
    assert!(flip(&cluster.dir(THREE).join("snapshots"), &5_u64.to_le_bytes()));
    cluster.restart_without_groups(THREE)?;
    let mut events = cluster.node(THREE).events();
    assert!(cluster.start_with(THREE, GROUP, Box::<Counter>::default()).is_err());
    let Some(NodeEvent::Failed { group: GROUP, .. }) = events.next().await else {
        panic!("the failure was not told");
    };
    assert!(cluster.node(THREE).stored_groups()[0].failure.is_some());
    replace(&cluster, 5).await;
    Ok(())
}

#[tokio::test]
async fn a_replica_is_removed_whether_it_runs_or_not() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    for group in [GROUP, OTHER, GroupId(3)] {
        cluster.start_group(group)?;
        cluster.propose(group, b"+").await;
        cluster.await_applied(THREE, group, 1).await;
    }
    let node = cluster.node(THREE).clone();
    let mut events = node.events();
    node.remove_group(GROUP).await?;
    while events.next().await.unwrap() != (NodeEvent::Removed { group: GROUP }) {}
    node.stop_group(OTHER).await?;
    node.remove_group(OTHER).await?;
    assert_eq!(node.groups(), [GroupId(3)]);
    assert_eq!(node.stored_groups().len(), 1);
    for group in [GROUP, OTHER] {
        let again = node.remove_group(group).await;
        assert!(matches!(again, Err(GroupError::NotStored(_))), "{again:?}");
    }
    drop(node);
    cluster.stop(THREE);
    cluster.restart_without_groups(THREE)?;
    let node = cluster.node(THREE);
    assert_eq!(node.stored_groups().len(), 1);
    node.remove_group(GroupId(3)).await?;
    assert!(node.stored_groups().is_empty());
    let founding = cluster.start_with(THREE, GROUP, Box::<Counter>::default());
    assert!(founding.unwrap_err().to_string().contains("is gone"));
    // The others have a majority.
    let others = [NodeId(1), NodeId(2)];
    let counted = async {
        loop {
            let leader = cluster.handle(cluster.leader_among(&others, GROUP).await, GROUP);
            match leader.propose(Bytes::from_static(b"+")).await {
                Ok(count) => return number(&count),
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    assert!(timeout(PATIENCE, counted).await? >= 2);
    Ok(())
}

/// Starts two groups, and has a bit flip on node 3 in the only command of the first. Returns what
/// the node says from then on.
async fn damage_an_entry_at_rest(cluster: &Cluster, precious: &[u8]) -> Events {
    cluster.start_group(GROUP).unwrap();
    cluster.start_group(OTHER).unwrap();
    cluster.propose(GROUP, precious).await;
    cluster.await_applied(THREE, GROUP, 1).await;
    // The block that the log is writing on is not at rest.
    for _ in 0..3 {
        cluster.propose(OTHER, &[7; 4096]).await;
    }
    cluster.await_applied(THREE, OTHER, 3).await;
    let events = cluster.node(THREE).events();
    assert!(flip(&cluster.dir(THREE).join("wal"), precious));
    events
}

#[tokio::test]
async fn damage_is_found_while_the_other_replicas_are_whole() -> TestResult {
    let cluster = Cluster::new(3)?;
    let precious = b"an entry at rest that a bit flips in";
    let mut events = damage_an_entry_at_rest(&cluster, precious).await;
    let reason = timeout(PATIENCE, failure(&mut events)).await?;
    assert!(reason.contains("is damaged at offset"), "{reason}");
    assert!(cluster.handle(THREE, OTHER).view().failure().is_none());
    assert_eq!(number(&cluster.propose(GROUP, b"+").await), 2);
    replace(&cluster, 2).await;
    Ok(())
}

#[tokio::test]
async fn damage_that_garbage_collection_meets_costs_its_replica_alone() -> TestResult {
    let cluster = Cluster::configured(3, |config| {
        config.wal.segment_bytes = 64 << 10;
        config.scrub_bytes_per_s = 0;
    })?;
    let precious = b"an entry that is to be moved, and that a bit flips in";
    let mut events = damage_an_entry_at_rest(&cluster, precious).await;

    // The other group writes, and needs nothing of the segment any more.
    let writes = async {
        loop {
            cluster.propose(OTHER, &[7; 8192]).await;
            cluster.handle(THREE, OTHER).compact();
        }
    };
    let reason = tokio::select! {
        reason = timeout(PATIENCE, failure(&mut events)) => reason?,
        () = writes => unreachable!("they do not end"),
    };
    assert!(reason.contains("is damaged at offset"), "{reason}");
    let node = cluster.node(THREE);
    assert_eq!(node.stored_groups()[0].failure, Some(reason.clone()));
    assert!(cluster.handle(THREE, OTHER).view().failure().is_none());
    let again = cluster.start_with(THREE, GROUP, Box::<Counter>::default());
    assert!(again.unwrap_err().to_string().contains(&reason));
    assert_eq!(number(&cluster.propose(GROUP, b"+").await), 2);
    replace(&cluster, 2).await;
    Ok(())
}

/// Has entries of [`GROUP`] be missing in a log, though every checksum fits.
fn make_a_hole(wal: &Path) {
    let options = WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() };
    let (mut wal, recovered) = InlineWal::open(FileDisk::open(wal).unwrap(), options).unwrap();
    let group = &recovered.groups[&GROUP];
    let last = LogId::new(group.runs.last().unwrap().term, group.last);
    let configuration = Arc::clone(&group.configurations[0]);
    let first = LogId::new(Term(1), Index(1));
    let first = Entry::new(GROUP, first, EntryKind::Command, Bytes::new());
    // Nothing behind the snapshot is there then, and the log ends before it.
    let cut = LogWrite::Compact(SnapshotMeta { last, configuration });
    for log in [cut, LogWrite::Append([first].into())] {
        let persist = Persist { seq: WriteSeq(0), hard_state: None, log };
        wal.write(&[], &[(GROUP, persist)]).unwrap();
    }
    wal.close().unwrap();
}

#[tokio::test]
async fn a_log_with_a_hole_that_nothing_explains_can_not_be_pinned_to_a_replica() -> TestResult {
    let mut cluster = Cluster::new(3)?;
    cluster.start_group(GROUP)?;
    cluster.start_group(OTHER)?;
    cluster.propose(GROUP, b"+").await;
    cluster.await_applied(THREE, GROUP, 1).await;
    cluster.stop(THREE);
    make_a_hole(&cluster.dir(THREE).join("wal"));
    // What else is missing may be a vote of the other group. The node comes back as another one.
    for _ in 0..2 {
        let error = cluster.restart_without_groups(THREE).unwrap_err();
        assert!(error.to_string().contains("of the group is nowhere in it"), "{error}");
        assert!(error.downcast_ref::<StartError>().is_some_and(StartError::is_damage), "{error}");
    }
    Ok(())
}
