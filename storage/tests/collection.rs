//! Old segments go, what is needed of them stays.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod common;

use common::{Model, append_entries, compact, grant, meta, small};
use logboat_raft::{
    BootCount, Epoch, Fortification, Grant, GroupId, HardState, Index, LogId, LogWrite, NodeId,
    Persist, ReplicaAddress, ReplicaId, Term, WriteSeq,
};
use logboat_storage::WalOptions;
use logboat_storage::simulation::{Disk, InlineWal, SimDisk};

const HOT: GroupId = GroupId(100);

fn write(wal: &mut InlineWal<SimDisk>, model: &mut Model, write: (GroupId, Persist)) {
    write_batch(wal, model, &[], &[write]);
}

fn write_batch(
    wal: &mut InlineWal<SimDisk>,
    model: &mut Model,
    grants: &[(NodeId, Grant)],
    writes: &[(GroupId, Persist)],
) {
    wal.write(grants, writes).unwrap();
    wal.sync().unwrap();
    model.apply(grants, writes);
    while wal.maintain(1 << 10).unwrap() > 0 {
        wal.sync().unwrap();
    }
}

fn vote(group: GroupId, term: u64) -> (GroupId, Persist) {
    let leader = ReplicaAddress::founder(NodeId(3));
    let fortified = Some(Fortification {
        leader: leader.node,
        replica: leader.replica,
        epoch: Epoch(group.0),
        term: Term(1),
    });
    let (term, vote, commit) = (Term(term), Some(leader), Index(1));
    let state = HardState { term, vote, commit, fortified, ..HardState::default() };
    let hard_state = Some(state.into());
    (group, Persist { seq: WriteSeq(0), hard_state, log: LogWrite::Keep })
}

/// One group writes and compacts on and on.
fn churn(wal: &mut InlineWal<SimDisk>, model: &mut Model, entries: u64) {
    for _ in 0..entries {
        let last = model.groups.get(&HOT).map_or(Index(0), |group| group.last());
        write(wal, model, append_entries(HOT, last.next(), 1, 500));
        if last.0 % 4 == 3 {
            write(wal, model, compact(HOT, last));
        }
    }
}

fn reopen(disk: &SimDisk, options: &WalOptions, model: &Model) -> InlineWal<SimDisk> {
    let (wal, recovered) = InlineWal::open(disk.clone(), options.clone()).unwrap();
    assert_eq!(recovered, model.recovered());
    model.check_reads(&wal);
    wal
}

#[test]
fn groups_that_wrote_once_and_went_idle_do_not_pin_the_log() {
    let disk = SimDisk::default();
    let options = small(8 << 10, 40 << 10);
    let (mut wal, _) = InlineWal::open(disk.clone(), options.clone()).unwrap();
    let mut model = Model::default();
    for group in 1..=8 {
        write(&mut wal, &mut model, vote(GroupId(group), group));
        write(&mut wal, &mut model, append_entries(GroupId(group), Index(1), 5, 20));
        if group % 2 == 0 {
            write(&mut wal, &mut model, compact(GroupId(group), Index(group / 2)));
        }
    }
    for _ in 0..3 {
        churn(&mut wal, &mut model, 150);
        assert!(wal.log().bytes() <= 40 << 10, "{}", wal.log().bytes());
        assert!(wal.log().active_segment() > 10);
        wal.close().unwrap();
        wal = reopen(&disk, &options, &model);
    }
    let files = disk.list().unwrap();
    assert!(!files.contains(&"0000000001.wal".to_owned()), "{files:?}");
    assert!(files.len() < 12, "{files:?}");
}

#[test]
fn a_grant_that_was_given_once_outlives_the_segment_that_holds_it() {
    let disk = SimDisk::default();
    let options = small(8 << 10, 40 << 10);
    let (mut wal, _) = InlineWal::open(disk.clone(), options.clone()).unwrap();
    let mut model = Model::default();
    // Of one peer nothing but a withdrawal is known; to another, support is given later again.
    let ended = Grant { epoch: Epoch(9), boot: BootCount(4), ..Grant::default() };
    let withdrawn = (NodeId(2), ended);
    write_batch(&mut wal, &mut model, &[grant(1, 5), withdrawn, grant(3, 1)], &[]);
    for round in 0..3 {
        churn(&mut wal, &mut model, 150);
        write_batch(&mut wal, &mut model, &[grant(3, 2 + round)], &[]);
        let crashed = disk.copy();
        crashed.crash(|| false);
        reopen(&crashed, &options, &model);
        wal.close().unwrap();
        wal = reopen(&disk, &options, &model);
    }
    let files = disk.list().unwrap();
    assert!(!files.contains(&"0000000001.wal".to_owned()), "{files:?}");
    assert_eq!(model.grants.into_iter().collect::<Vec<_>>(), [grant(1, 5), withdrawn, grant(3, 4)]);
}

#[test]
fn a_log_that_gets_nothing_but_grants_does_not_grow() {
    let disk = SimDisk::default();
    let options = small(16 << 10, 256 << 10);
    let (mut wal, _) = InlineWal::open(disk.clone(), options.clone()).unwrap();
    let mut model = Model::default();
    for group in 1..=3 {
        write(&mut wal, &mut model, vote(GroupId(group), group));
        write(&mut wal, &mut model, append_entries(GroupId(group), Index(1), 2, 50));
    }
    write_batch(&mut wal, &mut model, &[grant(2, 1), grant(3, 1)], &[]);
    for own in 1..=3_000 {
        write_batch(&mut wal, &mut model, &[grant(1, own)], &[]);
        wal.mark().unwrap();
        assert!(wal.log().segments() <= 3, "{} segments after {own}", wal.log().segments());
    }
    assert!(wal.log().active_segment() > 15, "{}", wal.log().active_segment());
    let files = disk.list().unwrap();
    assert!(files.len() <= 4, "{files:?}");
    drop(wal);
    disk.crash(|| false);
    reopen(&disk, &options, &model);
}

#[test]
fn moved_entries_do_not_undo_what_came_later() {
    let disk = SimDisk::default();
    let options = small(8 << 10, 40 << 10);
    let (mut wal, _) = InlineWal::open(disk.clone(), options.clone()).unwrap();
    let mut model = Model::default();
    // The first entries stay where they are, later ones are cut, replaced and compacted.
    write(&mut wal, &mut model, append_entries(GroupId(1), Index(1), 6, 20));
    write(&mut wal, &mut model, append_entries(GroupId(2), Index(1), 6, 20));
    churn(&mut wal, &mut model, 10);
    let shorter = common::entry(GroupId(1), Term(2), Index(4), 33);
    let log = LogWrite::Append([shorter].into_iter().collect());
    let replace = (GroupId(1), Persist { seq: WriteSeq(0), hard_state: None, log });
    write(&mut wal, &mut model, replace);
    write(&mut wal, &mut model, compact(GroupId(2), Index(2)));
    churn(&mut wal, &mut model, 100);
    let log = LogWrite::Reset(meta(LogId::new(Term(5), Index(50))));
    let reset = (GroupId(2), Persist { seq: WriteSeq(0), hard_state: None, log });
    write(&mut wal, &mut model, reset);
    churn(&mut wal, &mut model, 100);
    drop(wal);
    let wal = reopen(&disk, &options, &model);
    assert_eq!(model.groups[&GroupId(1)].last(), Index(4));
    drop(wal);
    disk.crash(|| false);
    reopen(&disk, &options, &model);
}

#[test]
fn groups_that_hold_much_are_named_and_not_moved_again_and_again() {
    let disk = SimDisk::default();
    let options = small(8 << 10, 40 << 10);
    let (mut wal, _) = InlineWal::open(disk.clone(), options.clone()).unwrap();
    let mut model = Model::default();
    for round in 0..30 {
        for group in [1, 2] {
            let bytes = 300 * group as usize;
            let write_one = append_entries(GroupId(group), Index(1 + round * 4), 4, bytes);
            write(&mut wal, &mut model, write_one);
        }
    }
    assert!(wal.log().bytes() > 40 << 10);
    assert_eq!(wal.log().pressing(), [GroupId(2), GroupId(1)]);
    // Everything is live, so nothing was moved.
    let files = disk.list().unwrap();
    assert!(files.contains(&"0000000001.wal".to_owned()), "{files:?}");
    for group in [1, 2] {
        write(&mut wal, &mut model, compact(GroupId(group), Index(118)));
    }
    churn(&mut wal, &mut model, 40);
    assert!(wal.log().bytes() <= 40 << 10, "{}", wal.log().bytes());
    assert_eq!(wal.log().pressing(), []);
    drop(wal);
    reopen(&disk, &options, &model);
}

#[test]
fn a_crash_at_any_step_of_a_collection_loses_nothing() {
    let options = small(8 << 10, 24 << 10);
    for kept in 0..3_u64 {
        let disk = SimDisk::default();
        let (mut wal, _) = InlineWal::open(disk.clone(), options.clone()).unwrap();
        let mut model = Model::default();
        for group in 1..=6 {
            write(&mut wal, &mut model, vote(GroupId(group), group));
            write(&mut wal, &mut model, append_entries(GroupId(group), Index(1), 3, 60));
            write_batch(&mut wal, &mut model, &[grant(group, group)], &[]);
        }
        let mut random = kept + 1;
        for step in 0..150 {
            churn(&mut wal, &mut model, 3);
            // A step of its own, not synced: all, none or some of it is lost.
            wal.maintain(300).unwrap();
            let crashed = disk.copy();
            crashed.crash(|| match kept {
                0 => false,
                1 => true,
                _ => {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step);
                    random >> 63 == 0
                }
            });
            reopen(&crashed, &options, &model);
        }
        assert!(wal.log().active_segment() > 20);
    }
}

#[test]
fn a_recycled_segment_shows_nothing_of_its_former_life() {
    let disk = SimDisk::default();
    let options = small(32 << 10, 64 << 10);
    let (mut wal, _) = InlineWal::open(disk.clone(), options.clone()).unwrap();
    let mut model = Model::default();
    // What the batch takes, but for the data: its header, its records, of which the compaction's
    // holds a configuration, and its second list.
    let around = 32 + 28 + 24 + 16;
    // Batches of a page each. So a whole batch of the file's former use stands behind the last
    // batch of a segment, rather than the zeros that end a page.
    for index in 1..120 {
        // The first of a segment says where the segment before ended.
        let is_first = wal.log().durable_end().offset + 4096 + 112 > 32 << 10;
        let mark = if is_first { 8 } else { 0 };
        let writes = [
            append_entries(HOT, Index(index), 1, 4096 - around - mark),
            compact(HOT, Index(index - 1)),
        ];
        let written = wal.write(&[], &writes).unwrap();
        assert_eq!(written.bytes, 4096);
        wal.sync().unwrap();
        wal.maintain(1 << 10).unwrap();
        model.apply(&[], &writes);
        let crashed = disk.copy();
        crashed.crash(|| false);
        let active = wal.log().active_segment();
        reopen(&crashed, &options, &model);
        let content = disk.durable(&format!("{active:010}.wal"));
        assert!(active < 5 || content[24 << 10..].iter().any(|byte| *byte != 0));
    }
}

#[test]
fn a_segment_that_a_reader_borrows_is_not_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let disk = logboat_storage::simulation::FileDisk::open(directory.path()).unwrap();
    let (mut wal, _) = InlineWal::open(disk, small(8 << 10, 16 << 10)).unwrap();
    wal.write(&[], &[append_entries(HOT, Index(1), 1, 500)]).unwrap();
    let held = wal.read(HOT, Index(1), Index(1), usize::MAX).unwrap();
    let first = directory.path().join("0000000001.wal");
    let mut index = 1;
    while first.exists() {
        index += 1;
        assert!(index < 200, "the first segment goes");
        wal.write(
            &[],
            &[append_entries(HOT, Index(index), 1, 500), compact(HOT, Index(index - 1))],
        )
        .unwrap();
        wal.sync().unwrap();
        wal.maintain(1 << 10).unwrap();
    }
    for _ in 0..100 {
        index += 1;
        wal.write(
            &[],
            &[append_entries(HOT, Index(index), 1, 500), compact(HOT, Index(index - 1))],
        )
        .unwrap();
        wal.sync().unwrap();
        wal.maintain(1 << 10).unwrap();
    }
    assert_eq!(held, [common::entry(HOT, Term(1), Index(1), 500)]);
    held[0].verify(HOT).unwrap();
}

/// Of each of many groups a replica was here that voted, and is gone. Some come back as another.
#[test]
fn tombstones_outlive_their_segments_and_later_replicas_take_their_place() {
    let disk = SimDisk::default();
    let mut model = Model::default();
    let (mut wal, _) = InlineWal::open(disk.clone(), small(8 << 10, 64 << 10)).unwrap();
    let group = |number: u64| GroupId(1_000 + number);
    let floor = |number: u64| ReplicaId(LogId::new(Term(3), Index(100 + number)));
    let bury = |number| {
        let log = LogWrite::Tombstone(floor(number));
        (group(number), Persist { seq: WriteSeq(0), hard_state: None, log })
    };
    for number in 0..300 {
        let writes = [vote(group(number), 2), append_entries(group(number), Index(1), 1, 40)];
        write_batch(&mut wal, &mut model, &[], &writes);
        write(&mut wal, &mut model, bury(number));
    }
    // Every tenth group has another replica, which says first which one it is.
    for number in (0..300).step_by(10) {
        let (group, mut persist) = vote(group(number), 5);
        persist.hard_state.as_mut().unwrap().replica = floor(number);
        let entry = append_entries(group, Index(1), 1, 40);
        write_batch(&mut wal, &mut model, &[], &[(group, persist), entry]);
    }
    let begun = wal.log().active_segment();
    churn(&mut wal, &mut model, 2_000);
    assert!(wal.log().active_segment() > begun + 20, "all old segments were recycled");
    model.check_reads(&wal);
    for power in [true, false] {
        if power {
            drop(wal);
            disk.crash(|| false);
        } else {
            wal.close().unwrap();
        }
        let opened = InlineWal::open(disk.clone(), small(8 << 10, 64 << 10)).unwrap();
        wal = opened.0;
        assert_eq!(opened.1, model.recovered());
        model.check_reads(&wal);
    }
}

#[test]
fn nothing_is_written_below_a_tombstone_which_never_goes_back() {
    let floor = |index| ReplicaId(LogId::new(Term(1), Index(index)));
    let group = GroupId(7);
    let bury = |index| {
        let log = LogWrite::Tombstone(floor(index));
        (group, Persist { seq: WriteSeq(0), hard_state: None, log })
    };
    let lives = |index| {
        let (group, mut persist) = vote(group, 1);
        persist.hard_state.as_mut().unwrap().replica = floor(index);
        (group, persist)
    };
    let entry = || append_entries(group, Index(1), 1, 10);
    type Write = (GroupId, Persist);
    let refused = |before: &[Write], last: Write| {
        let disk = SimDisk::default();
        let (mut wal, _) = InlineWal::open(disk, small(8 << 10, 64 << 10)).unwrap();
        for write in before {
            wal.write(&[], std::slice::from_ref(write)).unwrap();
        }
        wal.write(&[], &[last]).unwrap();
        !wal.log().refusals().is_empty()
    };
    for (before, last, is_refused) in [
        (vec![vote(group, 1)], bury(5), false),
        // It says nothing new, and stays unwritten.
        (vec![vote(group, 1), bury(5)], bury(4), false),
        (vec![vote(group, 1), bury(5), bury(4)], lives(4), true),
        (vec![vote(group, 1), bury(5)], bury(6), false),
        (vec![vote(group, 1), bury(5)], entry(), true),
        (vec![vote(group, 1), bury(5)], vote(group, 1), true),
        (vec![vote(group, 1), bury(5)], lives(4), true),
        (vec![vote(group, 1), bury(5)], lives(5), false),
        (vec![bury(5), lives(6)], entry(), false),
        (vec![bury(5), lives(6)], bury(6), true),
        (vec![bury(5), lives(6)], bury(7), false),
    ] {
        assert_eq!(refused(&before, last.clone()), is_refused, "{before:?}, {last:?}");
    }
}
