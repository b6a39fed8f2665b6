//! Damage to the headers of batches and records: their second lists say whose records are lost.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod common;

use common::{
    Model, append_entries, compact, entry, founding, grant, next_grant, op, persist, small,
};
use logboat_raft::{
    Change, GroupId, HardState, Index, LogId, LogWrite, NodeId, Persist, ReplicaId, SnapshotMeta,
    Term, WriteSeq,
};
use logboat_storage::simulation::{Disk, InlineWal, SimDisk};
use logboat_storage::{Recovered, Refusal, WalError, WalOptions};
use proptest::prelude::*;

const SEGMENT: &str = "0000000001.wal";
/// Where the first batch with records begins, behind the mark of the opening.
const FIRST: u64 = 4096 + 56;

fn options() -> WalOptions {
    small(64 << 10, 1 << 20)
}

fn open(disk: &SimDisk) -> Result<(InlineWal<SimDisk>, Recovered), WalError> {
    InlineWal::open(disk.clone(), options())
}

/// The groups that lost something, and those that have all.
fn lost_and_kept(disk: &SimDisk) -> (Vec<u64>, Vec<u64>) {
    let (wal, recovered) = open(disk).unwrap();
    for group in recovered.damaged.keys() {
        assert!(wal.log().tombstone(*group).is_some(), "{group}");
    }
    let numbers = |groups: Vec<&GroupId>| groups.into_iter().map(|group| group.0).collect();
    (numbers(recovered.damaged.keys().collect()), numbers(recovered.groups.keys().collect()))
}

/// A hard state of the replica that the entry `index` of term 3 added, or of a founder.
fn lives(group: u64, index: Option<u64>) -> (GroupId, Persist) {
    let replica = index.map_or(ReplicaId::FOUNDER, id);
    let hard_state = Some(HardState { term: Term(3), replica, ..HardState::default() }.into());
    (GroupId(group), Persist { seq: WriteSeq(0), hard_state, log: LogWrite::Keep })
}

fn id(index: u64) -> ReplicaId {
    ReplicaId(LogId::new(Term(3), Index(index)))
}

fn append(group: u64, index: u64) -> (GroupId, Persist) {
    append_entries(GroupId(group), Index(index), 1, 50)
}

/// A closed log of these batches, the first of which begins at [`FIRST`].
fn log_of(batches: &[&[(GroupId, Persist)]]) -> SimDisk {
    let disk = SimDisk::default();
    let (mut wal, _) = open(&disk).unwrap();
    for writes in batches {
        wal.write(&[], writes).unwrap();
        wal.sync().unwrap();
    }
    wal.close().unwrap();
    disk
}

#[test]
fn a_damaged_batch_header_costs_the_groups_of_the_batch_and_no_others() {
    let disk = log_of(&[&[append(1, 1), append(2, 1)], &[append(2, 2), append(3, 1)]]);
    for offset in FIRST..FIRST + 32 {
        let disk = disk.copy();
        disk.flip(SEGMENT, offset, (offset % 8) as u8);
        assert_eq!(lost_and_kept(&disk), (vec![1, 2], vec![3]), "{offset}");
        // It stays so, and the log is whole from then on.
        for _ in 0..2 {
            let (wal, recovered) = open(&disk).unwrap();
            assert_eq!(recovered.damaged.keys().map(|group| group.0).collect::<Vec<_>>(), [1, 2]);
            let damage = &recovered.damaged[&GroupId(2)];
            assert_eq!((damage.offset, &damage.groups[..]), (FIRST, &[GroupId(2)][..]));
            assert!(damage.to_string().contains("a batch header fails its checksum"), "{damage}");
            wal.close().unwrap();
        }
    }
}

#[test]
fn a_damaged_record_costs_its_group_and_its_neighbours_at_most() {
    let writes: Vec<_> = (1..=100).map(|group| append(group, 1)).collect();
    let disk = log_of(&[&writes, &[append(7, 2)]]);
    let content = disk.durable(SEGMENT);
    let data = |group| entry(GroupId(group), Term(1), Index(1), 50).data;
    let mut at = FIRST as usize + 32;
    for group in 1..=100 {
        // The record's header ends where its data begin.
        let found = content.windows(50).position(|window| window == &data(group)[..]).unwrap();
        for offset in at..found {
            let disk = disk.copy();
            disk.flip(SEGMENT, offset as u64, (offset % 8) as u8);
            let (lost, kept) = lost_and_kept(&disk);
            assert_eq!(lost, [group], "{offset}");
            assert_eq!(kept.len(), 99, "{offset}");
        }
        at = found + 50;
    }
    // A group with two records in a row: either of its neighbours may have been in between.
    let disk = log_of(&[&[append(1, 1), append(2, 1), append(2, 2), append(3, 1), append(4, 1)]]);
    let content = disk.durable(SEGMENT);
    let first = content.windows(50).position(|window| window == &data(1)[..]).unwrap();
    disk.flip(SEGMENT, first as u64 + 50, 3);
    assert_eq!(lost_and_kept(&disk), (vec![1, 2], vec![3, 4]));
}

#[test]
fn damage_to_what_was_granted_or_to_both_lists_refuses_the_log() {
    let disk = SimDisk::default();
    let (mut wal, _) = open(&disk).unwrap();
    wal.write(&[grant(2, 1)], &[append(1, 1)]).unwrap();
    wal.close().unwrap();
    for offset in FIRST..FIRST + 40 {
        let disk = disk.copy();
        disk.flip(SEGMENT, offset, 1);
        let error = open(&disk).err().unwrap().to_string();
        assert!(error.contains("which held what the node granted its peers"), "{offset}: {error}");
    }
    // The entries' data are not the grant, and neither is the record behind it.
    let content = disk.durable(SEGMENT);
    let data = entry(GroupId(1), Term(1), Index(1), 50).data;
    let data = content.windows(50).position(|window| window == &data[..]).unwrap() as u64;
    for offset in [data - 2, data] {
        let disk = disk.copy();
        disk.flip(SEGMENT, offset, 1);
        assert_eq!(lost_and_kept(&disk), (vec![1], vec![]));
    }
    // With a second flip in the list, nobody knows whose the batch was. One in a record is nothing
    // more.
    let whole = log_of(&[&[append(1, 1)], &[append(2, 1)]]);
    let content = whole.durable(SEGMENT);
    let headers = content.windows(4).enumerate().skip(FIRST as usize + 1);
    let next = headers.filter(|(_, window)| window == b"LBat").map(|(at, _)| at as u64).next();
    for (second, is_refused) in [(FIRST + 33, false), (next.unwrap() - 2, true)] {
        let disk = whole.copy();
        disk.flip(SEGMENT, FIRST, 0);
        disk.flip(SEGMENT, second, 0);
        match open(&disk) {
            Err(WalError::Corrupt(damage)) if is_refused => assert_eq!(damage.offset, FIRST),
            Ok((_, recovered)) if !is_refused => assert_eq!(recovered.damaged.len(), 1),
            Err(error) => panic!("{error}"),
            Ok((_, recovered)) => panic!("{recovered:?}"),
        }
    }
}

#[test]
fn a_replica_of_which_nothing_is_left_can_not_live_again() {
    // All that there is of replica (3, 7) is in the batch.
    let disk = log_of(&[&[lives(1, Some(7)), append(1, 1), lives(2, None)]]);
    disk.flip(SEGMENT, FIRST, 0);
    let (wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.damaged.len(), 2);
    assert_eq!(wal.log().tombstone(GroupId(1)), Some(id(7).next()));
    assert_eq!(wal.log().tombstone(GroupId(2)), Some(ReplicaId::FOUNDER.next()));
    drop(wal);
    // Nor one that a lost tombstone ended, and whose log is there.
    let tombstone = |floor| {
        let log = LogWrite::Tombstone(id(floor));
        (GroupId(1), Persist { seq: WriteSeq(0), hard_state: None, log })
    };
    let disk = log_of(&[&[lives(1, None), append(1, 1)], &[tombstone(9)], &[append(2, 1)]]);
    let content = disk.durable(SEGMENT);
    let headers = content.windows(4).enumerate().filter(|(_, window)| window == b"LBat");
    let headers: Vec<_> = headers.map(|(at, _)| at as u64).collect();
    disk.flip(SEGMENT, headers[2], 0);
    assert_eq!(lost_and_kept(&disk), (vec![1], vec![2]));
    let (mut wal, _) = open(&disk).unwrap();
    assert_eq!(wal.log().tombstone(GroupId(1)), Some(id(9)));
    // Another replica may come, and lost nothing.
    wal.write(&[], &[lives(1, Some(9)), append(1, 1)]).unwrap();
    wal.close().unwrap();
    assert_eq!(lost_and_kept(&disk).0, Vec::<u64>::new());
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.groups[&GroupId(1)].hard_state.replica, id(9));
}

fn tombstone(group: u64, floor: ReplicaId) -> (GroupId, Persist) {
    let log = LogWrite::Tombstone(floor);
    (GroupId(group), Persist { seq: WriteSeq(0), hard_state: None, log })
}

#[test]
fn a_replica_that_was_removed_has_lost_nothing_whatever_is_damaged_of_it() {
    let gone = tombstone(1, ReplicaId::FOUNDER.next());
    let whole = log_of(&[&[append(1, 1), lives(1, None)], &[append(2, 1)], &[gone]]);
    let content = whole.durable(SEGMENT);
    let data = entry(GroupId(1), Term(1), Index(1), 50).data;
    let data = content.windows(50).position(|window| window == &data[..]).unwrap() as u64;
    for offset in [FIRST, data, data + 49] {
        let disk = whole.copy();
        disk.flip(SEGMENT, offset, 0);
        for _ in 0..2 {
            assert_eq!(lost_and_kept(&disk), (vec![], vec![2]), "{offset}");
        }
    }
    // One that was given up is removed when somebody says so.
    let disk = log_of(&[&[append(1, 1)], &[append(2, 1)]]);
    disk.flip(SEGMENT, FIRST, 0);
    assert_eq!(lost_and_kept(&disk), (vec![1], vec![2]));
    let (mut wal, _) = open(&disk).unwrap();
    wal.write(&[], &[tombstone(1, wal.log().tombstone(GroupId(1)).unwrap())]).unwrap();
    wal.close().unwrap();
    assert_eq!(lost_and_kept(&disk), (vec![], vec![2]));
}

#[test]
fn damage_that_garbage_collection_meets_costs_the_groups_whose_entries_it_is() {
    let options = small(8 << 10, 1 << 20);
    let disk = SimDisk::default();
    let (mut wal, _) = InlineWal::open(disk.clone(), options.clone()).unwrap();
    wal.write(&[], &[lives(2, Some(7))]).unwrap();
    for group in 1..=3 {
        wal.write(&[], &[append(group, 1), append(group, 2)]).unwrap();
    }
    // The block that the log writes on is written again.
    wal.write(&[], &[append_entries(GroupId(9), Index(1), 1, 4096)]).unwrap();
    wal.sync().unwrap();
    let content = disk.durable(SEGMENT);
    let data = entry(GroupId(2), Term(1), Index(2), 50).data;
    let data = content.windows(50).position(|window| window == &data[..]).unwrap() as u64;
    disk.flip(SEGMENT, data, 0);

    // Another group writes and compacts until the segment has gone.
    let mut last = Index(1);
    while disk.list().unwrap().contains(&SEGMENT.to_owned()) {
        wal.write(&[], &[append_entries(GroupId(9), last.next(), 1, 500)]).unwrap();
        last = last.next();
        wal.write(&[], &[compact(GroupId(9), last)]).unwrap();
        wal.sync().unwrap();
        wal.maintain(1 << 10).unwrap();
        assert!(last < Index(1_000), "the log grows");
    }
    let refusals = wal.log().refusals();
    assert!([1, 3, 9].iter().all(|group| refusals.of(GroupId(*group)).is_none()));
    let refusal = refusals.of(GroupId(2)).unwrap();
    assert!(matches!(&*refusal, Refusal::Lost { .. }), "{refusal}");
    assert!(refusal.to_string().contains(SEGMENT), "{refusal}");
    for group in [1, 3] {
        let entries = wal.read(GroupId(group), Index(1), Index(2), usize::MAX).unwrap();
        assert_eq!(entries.len(), 2);
    }
    // It writes nothing any more, and the others do.
    wal.write(&[], &[append(1, 3), append(2, 3)]).unwrap();
    wal.close().unwrap();
    for _ in 0..2 {
        let (wal, recovered) = InlineWal::open(disk.clone(), options.clone()).unwrap();
        assert_eq!(recovered.damaged.keys().copied().collect::<Vec<_>>(), [GroupId(2)]);
        assert_eq!(recovered.groups[&GroupId(1)].last, Index(3));
        assert_eq!(wal.log().tombstone(GroupId(2)), Some(id(7).next()));
        wal.close().unwrap();
    }
}

#[test]
fn damage_to_the_first_and_the_last_batch_of_a_segment_is_known_as_such() {
    let disk = SimDisk::default();
    let options = small(8 << 10, 1 << 20);
    let (mut wal, _) = InlineWal::open(disk.clone(), options.clone()).unwrap();
    let mut group = 0;
    while wal.log().active_segment() < 3 {
        group += 1;
        wal.write(&[], &[append_entries(GroupId(group), Index(1), 1, 600)]).unwrap();
        wal.sync().unwrap();
    }
    wal.close().unwrap();
    for segment in 1..=2 {
        let name = format!("{segment:010}.wal");
        let content = disk.durable(&name);
        let headers = content.windows(4).enumerate().skip(4096);
        let headers: Vec<_> = headers.filter(|(_, window)| window == b"LBat").collect();
        for (at, _) in [headers[0], headers[headers.len() - 1]] {
            let disk = disk.copy();
            disk.flip(&name, at as u64 + 9, 2);
            let (_, recovered) = InlineWal::open(disk, options.clone()).unwrap();
            // The first batch of the first segment is the mark of the opening.
            let lost = usize::from(segment > 1 || at > 4096);
            assert_eq!(recovered.damaged.len(), lost, "{segment}:{at}");
            assert_eq!(recovered.groups.len(), group as usize - lost, "{segment}:{at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_flips_is_refused_or_costs_the_groups_that_are_named(
        batches in prop::collection::vec(prop::collection::vec(op(), 1..6), 1..12),
        flips in prop::collection::vec((any::<u16>(), 0..8_u8), 1..3),
    ) {
        let disk = SimDisk::default();
        let (mut wal, _) = open(&disk).unwrap();
        let mut model = Model::default();
        for ops in &batches {
            let (mut grants, mut writes) = (Vec::new(), Vec::new());
            for op in ops {
                if op.is_grant() {
                    let grant = next_grant(&model, *op);
                    model.apply(&[grant], &[]);
                    grants.push(grant);
                } else {
                    let write = persist(&model, *op);
                    model.apply(&[], std::slice::from_ref(&write));
                    writes.push(write);
                }
            }
            wal.write(&grants, &writes).unwrap();
            wal.sync().unwrap();
        }
        let end = wal.log().durable_end();
        wal.close().unwrap();
        prop_assert_eq!(end.segment, 1);
        for (place, bit) in flips {
            let offset = 4096 + u64::from(place) % (u64::from(end.offset) - 4096);
            disk.flip(SEGMENT, offset, bit);
        }
        let refused = |error: &WalError| matches!(error, WalError::Corrupt(_));
        match open(&disk) {
            Err(error) => prop_assert!(refused(&error), "{}", error),
            Ok((wal, recovered)) => {
                let mut expected = model.recovered();
                expected.groups.retain(|group, _| !recovered.damaged.contains_key(group));
                prop_assert_eq!(&recovered.groups, &expected.groups);
                prop_assert_eq!(&recovered.grants, &expected.grants);
                model.groups.retain(|group, _| !recovered.damaged.contains_key(group));
                model.tombstones.retain(|group, _| !recovered.damaged.contains_key(group));
                model.check_reads(&wal);
            }
        }
    }
}

#[test]
fn what_is_missing_though_every_checksum_fits_refuses_the_log() {
    let at = |index| LogId::new(Term(1), Index(index));
    let configuration = founding(2).change(at(4), &[Change::AddLearner(NodeId(9))]).unwrap().into();
    let log = LogWrite::Compact(SnapshotMeta { last: at(5), configuration });
    let cut = (GroupId(1), Persist { seq: WriteSeq(0), hard_state: None, log });
    let of_term = |index, term| {
        let log = LogWrite::Append([entry(GroupId(1), Term(term), Index(index), 50)].into());
        (GroupId(1), Persist { seq: WriteSeq(0), hard_state: None, log })
    };
    // No replica cuts off what its snapshot covers, nor goes back in its terms.
    let entries = append_entries(GroupId(1), Index(1), 10, 50);
    let hole = [entries, append(2, 1), cut, append(1, 3)];
    let earlier = [of_term(1, 5), append(2, 1), of_term(2, 3)];
    for (writes, what) in [
        (&hole[..], "entry 6 of the group is nowhere in it"),
        (&earlier[..], "entry 2 of the group is of an earlier term"),
    ] {
        // Whether it says which replica it is or not: that may be an earlier one.
        for states in [&[][..], &[lives(1, Some(7))]] {
            let disk = log_of(&[states, writes]);
            for _ in 0..2 {
                match open(&disk) {
                    Err(WalError::Corrupt(damage)) => {
                        assert_eq!(damage.groups, [GroupId(1)]);
                        assert!(damage.what.contains(what), "{damage}");
                    }
                    opened => panic!("{:?}", opened.map(|(_, recovered)| recovered)),
                }
            }
            // Damage to an entry says nothing about the others.
            let content = disk.durable(SEGMENT);
            let (first, term) = if writes.len() == 3 { (1, 5) } else { (3, 1) };
            let data = entry(GroupId(1), Term(term), Index(first), 50).data;
            let data = content.windows(50).rposition(|window| window == &data[..]).unwrap();
            disk.flip(SEGMENT, data as u64, 0);
            assert!(matches!(open(&disk), Err(WalError::Corrupt(_))));
        }
    }
    // A replica that is removed leaves no doubt.
    let disk = log_of(&[&hole, &[tombstone(1, id(8))]]);
    assert_eq!(lost_and_kept(&disk), (vec![], vec![2]));
}
