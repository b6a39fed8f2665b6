//! What a restart finds after crashes, torn writes, failed syncs and damage.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod common;

use common::{Model, Op, append_entries, compact, grant, next_grant, op, persist, small};
use logboat_raft::{GroupId, Index, LogPosition, NodeId};
use logboat_storage::simulation::{Disk, InlineWal, SimDisk, Written};
use logboat_storage::{Damage, Recovered, WalError};
use proptest::prelude::*;
use std::io;

const SEGMENT: &str = "0000000001.wal";
/// The bytes of a batch without records, but for the first of a segment.
const MARK_BYTES: u64 = 48;
/// The segment in which [`closed_log`] ends.
const LAST: u32 = 4;

fn open(disk: &SimDisk) -> (InlineWal<SimDisk>, Model) {
    let (wal, recovered) = InlineWal::open(disk.clone(), small(16 << 10, 64 << 10)).unwrap();
    assert_eq!(recovered, Recovered::default());
    (wal, Model::default())
}

/// Writes a batch to the log and to the model.
fn write(wal: &mut InlineWal<SimDisk>, model: &mut Model, ops: &[Op]) -> Written {
    let (mut grants, mut writes) = (Vec::new(), Vec::new());
    for op in ops {
        if op.is_grant() {
            let grant = next_grant(model, *op);
            model.apply(&[grant], &[]);
            grants.push(grant);
        } else {
            let write = persist(model, *op);
            model.apply(&[], std::slice::from_ref(&write));
            writes.push(write);
        }
    }
    wal.write(&grants, &writes).unwrap()
}

/// The writes of a batch, and what the log does after it.
fn batch() -> impl Strategy<Value = (Vec<Op>, u8)> {
    (prop::collection::vec(op(), 1..5), 0..4_u8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_crash_at_any_byte_of_the_last_batch_leaves_all_or_nothing_of_it(
        synced in prop::collection::vec(prop::collection::vec(op(), 1..4), 0..4),
        torn in prop::collection::vec(op(), 1..4),
    ) {
        let disk = SimDisk::default();
        let (mut wal, mut model) = open(&disk);
        for ops in &synced {
            write(&mut wal, &mut model, ops);
            wal.sync().unwrap();
        }
        let (old_content, old) = (disk.durable(SEGMENT), model.recovered());
        let bytes = write(&mut wal, &mut model, &torn).bytes;
        wal.sync().unwrap();
        let (new_content, new) = (disk.durable(SEGMENT), model.recovered());
        let differs = |(a, b): &(&u8, &u8)| a != b;
        let start = old_content.iter().zip(&new_content).position(|(a, b)| differs(&(a, b)));
        prop_assert!(bytes > 0 || start.is_none());
        let start = start.unwrap_or(0);
        for end in start..=start + bytes as usize {
            let mut content = new_content[..end].to_vec();
            content.extend(&old_content[end..]);
            let whole = content == new_content;
            let disk = disk.copy();
            disk.plant(SEGMENT, &content);
            let (wal, recovered) = InlineWal::open(disk, small(16 << 10, 64 << 10)).unwrap();
            prop_assert_eq!(&recovered, if whole { &new } else { &old }, "torn at {}", end);
            if whole {
                model.check_reads(&wal);
            }
        }
    }

    #[test]
    fn any_subset_of_unsynced_pages_recovers_a_prefix_with_all_that_was_acknowledged(
        rounds in prop::collection::vec(
            (prop::collection::vec(batch(), 1..30), any::<u64>(), 0..4_u8),
            1..6,
        ),
    ) {
        let disk = SimDisk::default();
        let options = small(8 << 10, 32 << 10);
        let mut acknowledged = Model::default();
        let mut end = LogPosition::default();
        for (batches, mut random, ending) in rounds {
            let (mut wal, recovered) =
                InlineWal::open_past(disk.clone(), options.clone(), end, |_| Ok(())).unwrap();
            prop_assert!(wal.log().durable_end() >= wal.log().found_end());
            prop_assert_eq!(&recovered, &acknowledged.recovered());
            acknowledged.check_reads(&wal);
            let mut model = acknowledged.clone();
            let mut possible = vec![acknowledged.clone()];
            let mut durable = wal.log().active_segment();
            for (ops, then) in batches {
                write(&mut wal, &mut model, &ops);
                possible.push(model.clone());
                match then {
                    0 => wal.sync().unwrap(),
                    1 => { wal.maintain(2 << 10).unwrap(); }
                    2 => wal.mark().unwrap(),
                    _ => {}
                }
                // A new segment is begun when the one before is durable, without a word.
                let begun = wal.log().active_segment() != durable;
                durable = wal.log().active_segment();
                if wal.log().unsynced().is_none() {
                    possible = vec![model.clone()];
                } else if begun {
                    let latest = possible.pop().unwrap();
                    possible = vec![possible.pop().unwrap(), latest];
                }
                model.check_reads(&wal);
            }
            end = wal.log().durable_end();
            match ending {
                0 => {
                    wal.close().unwrap();
                    possible = vec![model];
                }
                1 => drop(wal),
                _ => {
                    drop(wal);
                    disk.crash(|| {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        random >> 63 == 0
                    });
                }
            }
            let (wal, recovered) =
                InlineWal::open_past(disk.clone(), options.clone(), end, |_| Ok(())).unwrap();
            end = wal.log().durable_end();
            let found = possible.into_iter().rev().find(|model| model.is_of(&wal, &recovered));
            prop_assert!(found.is_some(), "no prefix: {recovered:?}");
            acknowledged = found.unwrap();
            acknowledged.check_reads(&wal);
        }
    }
}

/// A log of several segments, closed.
fn closed_log(bytes: usize) -> SimDisk {
    let disk = SimDisk::default();
    let (mut wal, _) = InlineWal::open(disk.clone(), small(8 << 10, 1 << 20)).unwrap();
    for round in 0..10 {
        let writes =
            [1, 2].map(|group| append_entries(GroupId(group), Index(1 + round * 3), 3, bytes));
        wal.write(&[], &writes).unwrap();
        wal.sync().unwrap();
    }
    assert_eq!(wal.log().active_segment(), LAST);
    wal.close().unwrap();
    disk
}

/// The damage that the log is refused for, or that costs groups what they had, while the others
/// have all of theirs. The log must open if it `opens`.
fn found_damage(disk: SimDisk, opens: bool) -> Option<Damage> {
    match InlineWal::open(disk.clone(), small(8 << 10, 1 << 20)) {
        Err(WalError::Corrupt(damage)) if !opens => Some(damage),
        Err(error) => panic!("{error}"),
        Ok((wal, recovered)) => {
            let (group, damage) = recovered.damaged.first_key_value()?;
            assert_eq!(damage.groups, [*group]);
            for other in recovered.groups.keys() {
                assert_eq!(wal.read(*other, Index(1), Index(30), usize::MAX).unwrap().len(), 30);
            }
            assert_eq!(recovered.damaged.len() + recovered.groups.len(), 2);
            drop(wal);
            // From then on the log has a tombstone of the replica, and is whole.
            let (_, again) = InlineWal::open(disk, small(8 << 10, 1 << 20)).unwrap();
            assert_eq!(
                (again.damaged, again.groups),
                (recovered.damaged.clone(), recovered.groups)
            );
            Some(damage.clone())
        }
    }
}

/// The damage that the log is refused for, or that costs a group what it had.
fn damage(disk: SimDisk) -> Damage {
    found_damage(disk, false).expect("it costs somebody something")
}

/// Where the data in a segment end: the last byte that is not zero.
fn end_of(disk: &SimDisk, name: &str) -> u64 {
    let content = disk.durable(name);
    content.iter().rposition(|byte| *byte != 0).unwrap() as u64
}

#[test]
fn any_flipped_byte_below_the_mark_is_named_and_costs_whom_it_concerns_alone() {
    let disk = closed_log(200);
    let mut harmless = 0;
    for id in 1..=LAST {
        let name = format!("{id:010}.wal");
        // Above the last mark is the batch that carries it, which holds nothing else.
        let end = end_of(&disk, &name) + 1 - if id == LAST { MARK_BYTES } else { 0 };
        let (block, body) = if id == 1 { (1, 1) } else { (97, 3) };
        for offset in (0..4092).step_by(block).chain((4096..end).step_by(body)) {
            let disk = disk.copy();
            disk.flip(&name, offset, (offset % 8) as u8);
            let Some(damage) = found_damage(disk, offset >= 4096) else {
                // What follows the records of a batch, and batches without any, are nobody's.
                assert!(offset >= 4096, "{id}:{offset}");
                harmless += 1;
                continue;
            };
            assert_eq!(damage.file.to_str(), Some(name.as_str()), "{id}:{offset} {damage}");
            assert!(damage.offset <= offset, "{id}:{offset} {damage}");
            assert!(offset < 4096 || damage.offset + 700 * 3 > offset, "{id}:{offset} {damage}");
        }
    }
    assert!(harmless > 100, "{harmless}");
}

#[test]
fn damage_to_an_entry_names_its_group() {
    let disk = closed_log(200);
    let content = disk.durable(SEGMENT);
    let entry = common::entry(GroupId(2), logboat_raft::Term(1), Index(1), 200);
    let at = content.windows(200).position(|window| window == &entry.data[..]).unwrap();
    disk.flip(SEGMENT, at as u64 + 100, 3);
    let damage = damage(disk);
    assert_eq!(damage.groups, [GroupId(2)]);
    assert!(damage.to_string().contains("entry 1 of group 2"), "{damage}");
}

#[test]
fn damage_under_a_running_log_is_not_served() {
    let disk = SimDisk::default();
    let (mut wal, _) = open(&disk);
    wal.write(&[], &[append_entries(GroupId(7), Index(1), 2, 100)]).unwrap();
    wal.sync().unwrap();
    let content = disk.durable(SEGMENT);
    let end = end_of(&disk, SEGMENT);
    assert!(content.len() as u64 > end);
    // Behind the batch that records the mark of the opening, and the header.
    let begin = 4096 + 56 + 32;
    for offset in begin..begin + 200 {
        disk.flip(SEGMENT, offset, 0);
        let read = wal.read(GroupId(7), Index(1), Index(2), usize::MAX);
        assert!(read.is_err(), "{offset}");
        disk.flip(SEGMENT, offset, 0);
    }
    assert!(wal.read(GroupId(7), Index(1), Index(2), usize::MAX).is_ok());
}

#[test]
fn a_hole_in_the_unsynced_tail_is_cut_and_what_lies_behind_never_resurfaces() {
    let disk = SimDisk::default();
    let (mut wal, _) = open(&disk);
    wal.write(&[], &[append_entries(GroupId(1), Index(1), 1, 600)]).unwrap();
    wal.sync().unwrap();
    for index in 2..6 {
        wal.write(&[], &[append_entries(GroupId(1), Index(index), 1, 600)]).unwrap();
    }
    // Entry 2 lies on the second page of the data and the third, entry 5 behind: lose the second.
    let mut page = 0;
    disk.crash(|| {
        page += 1;
        page != 2
    });
    for _ in 0..3 {
        let (mut wal, recovered) =
            InlineWal::open(disk.clone(), small(16 << 10, 64 << 10)).unwrap();
        let last = recovered.groups[&GroupId(1)].last;
        assert!(last < Index(5));
        wal.write(&[], &[append_entries(GroupId(1), last.next(), 1, 600)]).unwrap();
        wal.sync().unwrap();
        assert_eq!(
            wal.read(GroupId(1), Index(1), Index(9), usize::MAX).unwrap().len() as u64,
            last.0 + 1
        );
        let (_, recovered) = InlineWal::open(disk.clone(), small(16 << 10, 64 << 10)).unwrap();
        assert_eq!(recovered.groups[&GroupId(1)].last, last.next());
        disk.crash(|| false);
    }
}

#[test]
fn pages_of_a_failed_sync_are_not_believed_after_a_restart() {
    let disk = SimDisk::default();
    let (mut wal, _) = open(&disk);
    wal.write(&[], &[append_entries(GroupId(1), Index(1), 1, 100)]).unwrap();
    wal.sync().unwrap();
    wal.write(&[], &[append_entries(GroupId(1), Index(2), 1, 5000)]).unwrap();
    disk.fail_sync(1);
    assert!(wal.sync().is_err());
    drop(wal);
    // No crash: the cache still holds what never reached the disk.
    let (_, recovered) = InlineWal::open(disk, small(16 << 10, 64 << 10)).unwrap();
    assert_eq!(recovered.groups[&GroupId(1)].last, Index(1));
}

#[test]
fn a_grant_of_a_torn_batch_leaves_the_one_before_it() {
    let disk = SimDisk::default();
    let (mut wal, _) = open(&disk);
    wal.write(&[grant(2, 1), grant(3, 1)], &[]).unwrap();
    wal.sync().unwrap();
    wal.write(&[grant(2, 2)], &[append_entries(GroupId(1), Index(1), 1, 5000)]).unwrap();
    // Only the first page gets to the disk, which holds all of the grant.
    let mut page = 0;
    disk.crash(|| {
        page += 1;
        page == 1
    });
    assert!(page > 1);
    for _ in 0..2 {
        let (_, recovered) = InlineWal::open(disk.clone(), small(16 << 10, 64 << 10)).unwrap();
        assert_eq!(recovered.grants, [grant(2, 1), grant(3, 1)].into());
        assert!(recovered.groups.is_empty());
    }
}

#[test]
fn a_peer_and_a_group_of_one_number_are_not_mixed_up() {
    let disk = SimDisk::default();
    let (mut wal, mut model) = open(&disk);
    for number in 1..6 {
        let grants = [grant(7, number), grant(number, number)];
        let writes = [append_entries(GroupId(7), Index(number), 1, 10)];
        wal.write(&grants, &writes).unwrap();
        model.apply(&grants, &writes);
    }
    wal.close().unwrap();
    let (wal, recovered) = InlineWal::open(disk, small(16 << 10, 64 << 10)).unwrap();
    assert_eq!(recovered, model.recovered());
    assert_eq!(recovered.groups.len(), 1);
    assert_eq!(recovered.grants[&NodeId(7)], grant(7, 5).1);
    model.check_reads(&wal);
}

#[test]
fn a_log_of_another_format_is_refused_and_named() {
    let disk = closed_log(200);
    let mut content = disk.durable(SEGMENT);
    // The version stands behind the magic; the checksum ends the block.
    content[8..12].copy_from_slice(&1_u32.to_le_bytes());
    let checksum = crc32fast::hash(&content[..4092]);
    content[4092..4096].copy_from_slice(&checksum.to_le_bytes());
    disk.plant(SEGMENT, &content);
    let error = InlineWal::open(disk, small(8 << 10, 1 << 20)).err().unwrap();
    assert!(matches!(error, WalError::OtherVersion { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("{SEGMENT}: format version 1 instead of 7")), "{text}");
}

#[test]
fn a_block_that_the_device_has_lost_is_an_error_that_names_it() {
    for offset in [0, 4096] {
        let disk = closed_log(200);
        disk.lose_block(SEGMENT, offset);
        let error = InlineWal::open(disk, small(8 << 10, 1 << 20)).err().unwrap();
        let text = error.to_string();
        assert!(text.contains(SEGMENT) && text.contains(&format!("offset {offset} ")), "{text}");
        assert!(matches!(error, WalError::Unreadable { .. }), "{text}");
    }
}

#[test]
fn a_missing_segment_is_refused_and_named() {
    for id in 1..=2 {
        let disk = closed_log(200);
        let name = format!("{id:010}.wal");
        logboat_storage::simulation::Disk::remove(&disk, &name).unwrap();
        let error = InlineWal::open(disk, small(8 << 10, 1 << 20)).err().unwrap();
        assert!(matches!(error, WalError::Missing(_)), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
    }
}

#[test]
fn a_stray_segment_of_a_large_number_is_refused_by_the_first_one_missing() {
    let disk = closed_log(200);
    disk.plant("4294967294.wal", b"");
    let error = InlineWal::open(disk.copy(), small(8 << 10, 1 << 20)).err().unwrap();
    assert!(error.to_string().contains("0000000005.wal"), "{error}");
    // No segment has the last number, so that each has a next one.
    let disk = closed_log(200);
    disk.plant("4294967295.wal", b"");
    let error = InlineWal::open(disk, small(8 << 10, 1 << 20)).err().unwrap();
    assert!(matches!(error, WalError::Foreign(_)), "{error}");
}

#[test]
fn a_foreign_file_is_refused_and_named() {
    let disk = closed_log(200);
    disk.plant("holiday.jpg", b"not ours");
    let error = InlineWal::open(disk, small(8 << 10, 1 << 20)).err().unwrap();
    assert!(error.to_string().contains("holiday.jpg"), "{error}");
    let disk = closed_log(200);
    disk.plant("0000000005.wal", &[7; 8192]);
    let damage = damage(disk);
    assert!(damage.what.contains("no segment of a Logboat log"), "{damage}");
}

#[test]
fn a_log_that_was_closed_goes_on_in_its_segment_and_another_one_does_not() {
    let disk = SimDisk::default();
    let (mut wal, _) = open(&disk);
    wal.write(&[], &[append_entries(GroupId(1), Index(1), 1, 10)]).unwrap();
    wal.close().unwrap();
    let (wal, _) = InlineWal::open(disk.clone(), small(16 << 10, 64 << 10)).unwrap();
    assert_eq!(wal.log().active_segment(), 1);
    drop(wal);
    let (wal, _) = InlineWal::open(disk, small(16 << 10, 64 << 10)).unwrap();
    assert_eq!(wal.log().active_segment(), 2);
}

#[test]
fn a_batch_larger_than_a_segment_gets_one_of_its_own() {
    let disk = SimDisk::default();
    let (mut wal, mut model) = open(&disk);
    for (round, bytes) in [100_000, 10, 50_000, 10].into_iter().enumerate() {
        let writes = [append_entries(GroupId(1), Index(round as u64 + 1), 1, bytes)];
        wal.write(&[], &writes).unwrap();
        model.apply(&[], &writes);
        model.check_reads(&wal);
    }
    wal.close().unwrap();
    let (wal, recovered) = InlineWal::open(disk, small(16 << 10, 64 << 10)).unwrap();
    assert_eq!(recovered, model.recovered());
    model.check_reads(&wal);
}

#[test]
fn a_gap_in_a_groups_log_is_refused_before_it_is_written() {
    let disk = SimDisk::default();
    let (mut wal, _) = open(&disk);
    wal.write(&[], &[append_entries(GroupId(1), Index(1), 2, 10)]).unwrap();
    wal.write(&[], &[append_entries(GroupId(1), Index(4), 1, 10)]).unwrap();
    let refusal = wal.log().refusals().of(GroupId(1)).unwrap();
    assert!(refusal.to_string().contains("entry 4 was submitted where at most 3"), "{refusal}");
    wal.sync().unwrap();
    let (_, recovered) = InlineWal::open(disk, small(16 << 10, 64 << 10)).unwrap();
    assert_eq!(recovered.groups[&GroupId(1)].last, Index(2));
}

#[test]
fn a_log_that_ends_before_it_is_known_to_have_ended_is_refused() {
    let short = |disk: SimDisk, end| {
        let refused = InlineWal::open_past(disk, small(8 << 10, 1 << 20), end, |_| Ok(()));
        matches!(refused.err(), Some(WalError::Short { known_end, .. }) if known_end == end)
    };
    // Nothing was ever written but that the log was opened.
    let disk = SimDisk::default();
    let (wal, _) = InlineWal::open(disk.clone(), small(8 << 10, 1 << 20)).unwrap();
    let opened = wal.log().durable_end();
    drop(wal);
    assert!(short(SimDisk::default(), opened));
    // The newest segments are gone, or all.
    let (mut wal, _) =
        InlineWal::open_past(disk.clone(), small(8 << 10, 1 << 20), opened, |_| Ok(())).unwrap();
    while wal.log().active_segment() < 4 {
        let next = Index(wal.log().durable_end().pack());
        wal.write(&[], &[append_entries(GroupId(next.0), Index(1), 1, 1000)]).unwrap();
        wal.sync().unwrap();
    }
    let reached = wal.log().durable_end();
    wal.close().unwrap();
    for oldest_gone in [1, 2, 4] {
        let copy = disk.copy();
        for segment in oldest_gone..=4 {
            copy.remove(&format!("{segment:010}.wal")).unwrap();
        }
        assert!(short(copy, reached), "from {oldest_gone}");
    }
    let (wal, _) =
        InlineWal::open_past(disk, small(8 << 10, 1 << 20), reached, |_| Ok(())).unwrap();
    assert!(wal.log().found_end() > reached);
}

#[test]
fn where_a_log_ends_is_told_before_anything_is_written() {
    let disk = SimDisk::default();
    let (mut wal, _) = open(&disk);
    wal.write(&[], &[append_entries(GroupId(1), Index(1), 10, 100)]).unwrap();
    wal.sync().unwrap();
    let end = wal.log().durable_end();
    drop(wal);
    disk.crash(|| false);
    let nowhere = LogPosition::default();
    for _ in 0..2 {
        let mut told = None;
        let refuse = |end| {
            told = Some(end);
            Err(io::Error::other("nowhere to note it"))
        };
        let refused =
            InlineWal::open_past(disk.clone(), small(16 << 10, 64 << 10), nowhere, refuse);
        assert!(matches!(refused.err(), Some(WalError::Unnoted(_))));
        assert_eq!(told, Some(end));
    }
    let (wal, _) = InlineWal::open(disk, small(16 << 10, 64 << 10)).unwrap();
    assert_eq!(wal.log().found_end(), end);
}

#[test]
fn a_read_is_bounded_by_bytes_and_returns_at_least_one_entry() {
    let disk = SimDisk::default();
    let (mut wal, _) = open(&disk);
    wal.write(&[], &[append_entries(GroupId(1), Index(1), 10, 100)]).unwrap();
    wal.write(
        &[],
        &[append_entries(GroupId(1), Index(11), 10, 100), compact(GroupId(1), Index(3))],
    )
    .unwrap();
    let read = |first, last, bytes| {
        let entries = wal.read(GroupId(1), Index(first), Index(last), bytes).unwrap();
        entries.iter().map(|entry| entry.index.0).collect::<Vec<_>>()
    };
    assert_eq!(read(4, 20, 0), [4]);
    assert_eq!(read(8, 20, 450), [8, 9, 10, 11]);
    assert_eq!(read(19, 30, 1000), [19, 20]);
    assert_eq!(read(3, 20, 1000), []);
    assert_eq!(read(21, 30, 1000), []);
}
