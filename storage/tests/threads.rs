//! The log with its threads: group commit, failing and full disks, readers beside the writer.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod common;

use common::{append_entries, compact, entry, grant, small};
use logboat_raft::{
    GroupId, HardState, Index, LogId, LogWrite, Persist, ReplicaId, Term, WriteSeq,
};
use logboat_storage::simulation::{Disk, SimDisk};
use logboat_storage::{
    Batch, Completion, Poisoned, ReadError, Recovered, Refusal, Refusals, Wal, WalError,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

type Outcome = Result<(), Poisoned>;

/// A completion that passes on what it gets.
fn tell(outcome: SyncSender<Outcome>) -> Completion {
    Box::new(move |result| outcome.send(result.map(drop)).unwrap())
}

fn submit<D: Disk>(wal: &Wal<D>, writes: Vec<(GroupId, Persist)>) -> Receiver<Outcome> {
    let (outcome, told) = sync_channel(1);
    wal.submit(Batch { grants: Vec::new(), writes, completion: tell(outcome) });
    told
}

fn open(disk: &SimDisk) -> Wal<SimDisk> {
    let (wal, _) = Wal::open_on(disk.clone(), small(16 << 10, 64 << 10), |_| {}).unwrap();
    wal
}

#[test]
fn what_is_completed_survives_a_crash_and_what_is_closed_is_all_there() {
    let disk = SimDisk::default();
    let wal = open(&disk);
    let callers: Vec<_> = (1..=4)
        .map(|group| {
            let wal = wal.clone();
            thread::spawn(move || {
                for index in 1..=50 {
                    let write = append_entries(GroupId(group), Index(index), 1, 100);
                    submit(&wal, vec![write]).recv().unwrap().unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    let crashed = disk.copy();
    crashed.crash(|| false);
    assert_eq!(wal.queued_bytes(), 0);
    assert_eq!(wal.metrics().entries.get(), 200);
    assert_eq!(wal.metrics().payload_bytes.get(), 20_000);
    assert!(wal.metrics().written_bytes.get() > 20_000);
    let told: Vec<_> = (51..=99)
        .map(|index| submit(&wal, vec![append_entries(GroupId(1), Index(index), 1, 100)]))
        .collect();
    wal.close();
    assert!(told.iter().all(|told| told.recv().unwrap().is_ok()));
    for (disk, last) in [(crashed, 50), (disk, 99)] {
        let (wal, recovered) = Wal::open_on(disk, small(16 << 10, 64 << 10), |_| {}).unwrap();
        assert_eq!(recovered.groups[&GroupId(1)].last, Index(last));
        assert_eq!(recovered.groups[&GroupId(4)].last, Index(50));
        wal.close();
    }
}

/// Writes, and what the log refuses of the group when they are durable.
fn refused<D: Disk>(wal: &Wal<D>, group: u64, writes: Vec<(GroupId, Persist)>) -> Option<Refusal> {
    let (outcome, told) = sync_channel(1);
    let completion = Box::new(move |result: Result<&Refusals, Poisoned>| {
        let refusal = result.unwrap().of(GroupId(group));
        outcome.send(refusal.map(|refusal| (*refusal).clone())).unwrap();
    });
    wal.submit(Batch { grants: Vec::new(), writes, completion });
    told.recv().unwrap()
}

/// The replica that entry `index` of term 1 added.
fn replica(index: u64) -> ReplicaId {
    ReplicaId(LogId::new(Term(1), Index(index)))
}

fn tombstone(group: u64, floor: u64) -> (GroupId, Persist) {
    let log = LogWrite::Tombstone(replica(floor));
    (GroupId(group), Persist { seq: WriteSeq(0), hard_state: None, log })
}

#[test]
fn what_a_group_may_not_write_is_refused_and_the_others_go_on() {
    let disk = SimDisk::default();
    let wal = open(&disk);
    let append = |group, index| append_entries(GroupId(group), Index(index), 1, 10);
    assert_eq!(refused(&wal, 1, vec![append(1, 1), append(2, 1)]), None);
    let gap = vec![append(1, 2), append(1, 4), append(2, 2), append(1, 3)];
    let (group, expected, found) = (GroupId(1), Index(3), Index(4));
    let refusal = Some(Refusal::Gap { group, expected, found });
    assert_eq!(refused(&wal, 1, gap), refusal);
    assert_eq!(wal.held(GroupId(1)).1, Index(2));
    // It stays so, whatever else the group writes, and whoever else does.
    assert_eq!(refused(&wal, 2, vec![append(1, 3), append(2, 3)]), None);
    assert_eq!(refused(&wal, 1, vec![append(2, 4)]), refusal);
    assert_eq!((wal.held(GroupId(1)).1, wal.held(GroupId(2)).1), (Index(2), Index(4)));
    // Another replica goes on from what was taken.
    wal.readmit(GroupId(1));
    assert_eq!(refused(&wal, 1, vec![append(1, 3)]), None);
    assert_eq!(wal.restored(GroupId(1)).unwrap().last, Index(3));

    // A replica that is refused may be removed; one that is gone may not write.
    assert!(refused(&wal, 1, vec![append(1, 9)]).is_some());
    let refusal = refused(&wal, 1, vec![tombstone(1, 2)]);
    assert!(!refusal.unwrap().is_of_tombstone());
    assert_eq!(wal.tombstone(GroupId(1)), Some(replica(2)));
    wal.readmit(GroupId(1));
    let refusal = refused(&wal, 1, vec![append(1, 1)]);
    assert_eq!(refusal, Some(Refusal::Gone { group, floor: replica(2) }));
    // A later tombstone says as much as an earlier one, and stays.
    wal.readmit(GroupId(1));
    assert_eq!(refused(&wal, 1, vec![tombstone(1, 1)]), None);
    assert_eq!(wal.tombstone(GroupId(1)), Some(replica(2)));
    // One that does not end the replica that lives is refused.
    let state = HardState { replica: replica(3), ..HardState::default() };
    let (seq, log) = (WriteSeq(0), LogWrite::Keep);
    let lives = Persist { seq, hard_state: Some(Box::new(state)), log };
    assert_eq!(refused(&wal, 3, vec![(GroupId(3), lives)]), None);
    let (group, floor) = (GroupId(3), replica(3));
    let refusal = refused(&wal, 3, vec![tombstone(3, 3)]);
    assert_eq!(refusal, Some(Refusal::Regresses { group, floor }));
    assert_eq!(refused(&wal, 3, vec![tombstone(3, 4)]).map(|it| it.group()), Some(group));
    assert_eq!(wal.tombstone(group), Some(replica(4)));
    assert!(wal.poisoned().is_none());
    wal.close();
    let (wal, recovered) = Wal::open_on(disk, small(16 << 10, 64 << 10), |_| {}).unwrap();
    assert_eq!(recovered.groups.keys().copied().collect::<Vec<_>>(), [GroupId(2)]);
    assert_eq!(recovered.groups[&GroupId(2)].last, Index(4));
    wal.close();
}

#[test]
fn grants_alone_are_synced_before_they_are_completed() {
    let disk = SimDisk::default();
    let wal = open(&disk);
    for epoch in 1..=20 {
        let syncs = wal.metrics().syncs.get();
        let (outcome, told) = sync_channel(1);
        let grants = vec![grant(2, epoch), grant(3, 2 * epoch)];
        wal.submit(Batch { grants, writes: Vec::new(), completion: tell(outcome) });
        told.recv().unwrap().unwrap();
        assert!(wal.metrics().syncs.get() > syncs);
        let crashed = disk.copy();
        crashed.crash(|| false);
        let (crashed, recovered) =
            Wal::open_on(crashed, small(16 << 10, 64 << 10), |_| {}).unwrap();
        assert_eq!(recovered.grants, [grant(2, epoch), grant(3, 2 * epoch)].into());
        assert!(recovered.groups.is_empty());
        crashed.close();
    }
    assert_eq!(wal.queued_bytes(), 0);
    wal.close();
}

#[test]
fn a_failed_sync_is_final_and_says_why() {
    let disk = SimDisk::default();
    let wal = open(&disk);
    submit(&wal, vec![append_entries(GroupId(1), Index(1), 1, 10)]).recv().unwrap().unwrap();
    disk.fail_sync(1);
    let mut index = 1;
    let error = loop {
        // The failing sync may be that of a segment being prepared or of an idle moment.
        index += 1;
        let write = append_entries(GroupId(1), Index(index), 1, 1000);
        if let Err(error) = submit(&wal, vec![write]).recv().unwrap() {
            break error;
        }
    };
    assert!(error.to_string().contains("simulated failure to write back"), "{error}");
    assert_eq!(wal.poisoned(), Some(error.clone()));
    for _ in 0..3 {
        let write = append_entries(GroupId(2), Index(1), 1, 10);
        assert_eq!(submit(&wal, vec![write]).recv().unwrap(), Err(error.clone()));
    }
    // Reads go on.
    assert_eq!(wal.read(GroupId(1), Index(1), Index(1), 100).unwrap().len(), 1);
    wal.close();
}

#[test]
fn after_an_error_of_the_device_a_read_names_what_is_lost() {
    let disk = SimDisk::default();
    let wal = open(&disk);
    for group in 1..=2 {
        let write = append_entries(GroupId(group), Index(1), 1, 5_000);
        submit(&wal, vec![write]).recv().unwrap().unwrap();
    }
    disk.fail_sync(1);
    let mut index = 1;
    while wal.poisoned().is_none() {
        index += 1;
        let _ = submit(&wal, vec![append_entries(GroupId(3), Index(index - 1), 1, 10)]).recv();
    }
    disk.lose_block("0000000001.wal", 4096);
    let error = wal.read(GroupId(1), Index(1), Index(1), 10_000).unwrap_err();
    let ReadError::Unreadable { group, file, offset, .. } = error else { panic!("{error}") };
    assert_eq!((group, file.to_str(), offset), (GroupId(1), Some("0000000001.wal"), 4096));
    // What is not lost is read as before.
    assert_eq!(wal.read(GroupId(2), Index(1), Index(1), 10_000).unwrap().len(), 1);
    wal.close();
}

#[test]
fn what_can_t_be_moved_out_of_a_segment_costs_its_group_which_is_told() {
    let disk = SimDisk::default();
    let (named, names) = channel();
    let named = Mutex::new(named);
    let tell = move |groups: &[GroupId]| named.lock().unwrap().send(groups.to_vec()).unwrap();
    let (wal, _) = Wal::open_on(disk.clone(), small(16 << 10, 1 << 20), tell).unwrap();
    let write = append_entries(GroupId(1), Index(1), 1, 1_000);
    submit(&wal, vec![write]).recv().unwrap().unwrap();
    disk.lose_block("0000000001.wal", 4096);
    // Group 2 is compacted as it is written, so that the entry of group 1 is worth moving.
    for index in 1.. {
        let mut writes = vec![append_entries(GroupId(2), Index(index), 1, 3_000)];
        writes.push(compact(GroupId(2), Index(index)));
        submit(&wal, writes).recv().unwrap().unwrap();
        if let Some(refusal) = wal.refusals().of(GroupId(1)) {
            let reason = refusal.to_string();
            assert!(reason.contains("0000000001.wal: offset 4096 can't be read"), "{reason}");
            break;
        }
    }
    assert_eq!(names.recv().unwrap(), [GroupId(1)]);
    assert!(wal.restored(GroupId(1)).is_err());
    let last = wal.restored(GroupId(2)).unwrap().last;
    let next = append_entries(GroupId(2), last.next(), 1, 10);
    submit(&wal, vec![next]).recv().unwrap().unwrap();
    assert_eq!(wal.poisoned(), None);
    wal.close();
    let (wal, recovered) = Wal::open_on(disk, small(16 << 10, 1 << 20), |_| {}).unwrap();
    assert_eq!(recovered.damaged.keys().copied().collect::<Vec<_>>(), [GroupId(1)]);
    assert_eq!(recovered.groups[&GroupId(2)].last, last.next());
    wal.close();
}

#[test]
fn a_completion_that_panics_poisons_the_log_and_spares_the_others() {
    let (wal, _) = Wal::open_on(SimDisk::default(), small(16 << 10, 64 << 10), |_| {}).unwrap();
    let submit = |index, outcome: Option<SyncSender<Outcome>>| {
        let completion = Box::new(move |result: Result<&Refusals, _>| {
            outcome.expect("the test wants a panic").send(result.map(drop)).unwrap();
        });
        let writes = vec![append_entries(GroupId(1), Index(index), 1, 10)];
        wal.submit(Batch { grants: Vec::new(), writes, completion });
    };
    submit(1, None);
    while wal.poisoned().is_none() {
        thread::yield_now();
    }
    let (outcome, told) = sync_channel(1);
    submit(2, Some(outcome));
    assert!(told.recv().unwrap().unwrap_err().to_string().contains("panicked"));
    wal.close();
}

#[test]
fn nothing_is_written_of_what_is_refused() {
    let disk = SimDisk::default();
    let wal = open(&disk);
    submit(&wal, vec![append_entries(GroupId(1), Index(3), 1, 10)]).recv().unwrap().unwrap();
    assert!(wal.refusals().of(GroupId(1)).is_some());
    wal.close();
    let (_, recovered) = Wal::open_on(disk, small(16 << 10, 64 << 10), |_| {}).unwrap();
    assert_eq!(recovered, Recovered::default());
}

#[test]
fn a_full_disk_holds_writes_back_until_there_is_room() {
    let disk = SimDisk::default();
    let wal = open(&disk);
    disk.limit(Some(48 << 10));
    // More than three segments hold.
    let told: Vec<_> = (1..=60)
        .map(|index| submit(&wal, vec![append_entries(GroupId(1), Index(index), 1, 1000)]))
        .collect();
    while !wal.stalled() {
        thread::yield_now();
    }
    told[..5].iter().for_each(|told| told.recv().unwrap().unwrap());
    let read = wal.read(GroupId(1), Index(1), Index(5), usize::MAX).unwrap();
    assert_eq!(read.len(), 5);
    assert!(wal.poisoned().is_none());
    assert!(wal.queued_bytes() > 0);
    disk.limit(None);
    for told in &told[5..] {
        told.recv().unwrap().unwrap();
    }
    assert!(!wal.stalled());
    wal.close();
    let (wal, recovered) = Wal::open_on(disk, small(16 << 10, 64 << 10), |_| {}).unwrap();
    assert_eq!(recovered.groups[&GroupId(1)].last, Index(told.len() as u64));
    wal.close();
}

#[test]
fn a_log_on_a_full_disk_opens_serves_and_closes() {
    let disk = SimDisk::default();
    let wal = open(&disk);
    submit(&wal, vec![append_entries(GroupId(1), Index(1), 3, 10)]).recv().unwrap().unwrap();
    wal.close();
    // Without a mark of closing the log needs a new segment; and there is no spare one.
    let unclosed = SimDisk::default();
    let content = disk.durable("0000000001.wal");
    let closing = content.iter().rposition(|byte| *byte != 0).unwrap();
    let mut cut = content.clone();
    cut[closing - 20..].fill(0);
    unclosed.plant("0000000001.wal", &cut);
    unclosed.limit(Some(16 << 10));
    let (wal, recovered) =
        Wal::open_on(unclosed.clone(), small(16 << 10, 64 << 10), |_| {}).unwrap();
    assert_eq!(recovered.groups[&GroupId(1)].last, Index(3));
    // It goes on in the segment that there is, until that is full.
    let told: Vec<_> = (4..=40)
        .map(|index| submit(&wal, vec![append_entries(GroupId(1), Index(index), 1, 1000)]))
        .collect();
    while !wal.stalled() {
        thread::yield_now();
    }
    assert_eq!(wal.read(GroupId(1), Index(1), Index(3), usize::MAX).unwrap().len(), 3);
    wal.close();
    let told: Vec<_> = told.into_iter().map(|told| told.recv().unwrap()).collect();
    let written = told.iter().take_while(|told| told.is_ok()).count() as u64;
    assert!(written > 0);
    assert!(told[written as usize].as_ref().unwrap_err().to_string().contains("disk was full"));
    unclosed.limit(None);
    let (wal, recovered) = Wal::open_on(unclosed, small(16 << 10, 64 << 10), |_| {}).unwrap();
    assert_eq!(recovered.groups[&GroupId(1)].last, Index(3 + written));
    wal.close();
}

#[test]
fn a_log_without_descriptors_for_a_segment_waits_and_goes_on() {
    let disk = SimDisk::default();
    let wal = open(&disk);
    disk.refuse_files(true);
    let mut told = Vec::new();
    let reason = loop {
        if let Some(reason) = wal.stall_reason() {
            break reason;
        }
        if wal.queued_bytes() < 10_000 {
            let index = Index(told.len() as u64 + 1);
            told.push(submit(&wal, vec![append_entries(GroupId(1), index, 1, 1000)]));
        }
        thread::yield_now();
    };
    assert!(reason.contains("no segment of the log can be made"), "{reason}");
    assert!(wal.poisoned().is_none());
    disk.refuse_files(false);
    for told in &told {
        told.recv().unwrap().unwrap();
    }
    wal.close();
    let (_, recovered) = Wal::open_on(disk, small(16 << 10, 64 << 10), |_| {}).unwrap();
    assert_eq!(recovered.groups[&GroupId(1)].last, Index(told.len() as u64));
}

/// One group fills the log, and makes a snapshot when it is asked to.
#[test]
fn a_log_that_fills_its_disk_is_cut_by_snapshots_and_goes_on() {
    let disk = SimDisk::default();
    disk.limit(Some(96 << 10));
    let (pressed, presses) = channel();
    let press = move |_: &[GroupId]| _ = pressed.send(());
    let options = small(16 << 10, 1 << 30);
    let (wal, _) = Wal::open_on(disk.clone(), options.clone(), press).unwrap();
    let mut index = Index(0);
    for _ in 0..3 {
        while !wal.stalled() {
            let next = index.next();
            submit(&wal, vec![append_entries(GroupId(1), next, 1, 1000)]).recv().unwrap().unwrap();
            index = next;
        }
        // No work comes from here on but what is asked for.
        presses.recv().unwrap();
        submit(&wal, vec![compact(GroupId(1), index)]).recv().unwrap().unwrap();
        while wal.stalled() {
            thread::yield_now();
        }
    }
    drop(wal);
}

#[test]
fn after_a_crash_on_a_full_disk_the_log_goes_on_in_its_last_segment() {
    let disk = SimDisk::default();
    let options = small(16 << 10, 64 << 10);
    let wal = open(&disk);
    submit(&wal, vec![append_entries(GroupId(1), Index(1), 3, 10)]).recv().unwrap().unwrap();
    disk.limit(Some(0));
    // What is not synced is lost in one half of its pages.
    let crashed = disk.copy();
    let mut page = 0;
    crashed.crash(|| {
        page += 1;
        page % 2 == 0
    });
    for name in crashed.list().unwrap() {
        if name != "0000000001.wal" {
            crashed.remove(&name).unwrap();
        }
    }
    wal.close();
    let mut disk = crashed;
    let mut last = Index(3);
    for _ in 0..3 {
        let (wal, recovered) = Wal::open_on(disk.clone(), options.clone(), |_| {}).unwrap();
        assert_eq!(recovered.groups[&GroupId(1)].last, last);
        last = last.next();
        submit(&wal, vec![append_entries(GroupId(1), last, 1, 10)]).recv().unwrap().unwrap();
        let crashed = disk.copy();
        crashed.crash(|| false);
        wal.close();
        disk = crashed;
    }
}

#[test]
fn an_empty_directory_on_a_full_disk_is_a_clear_error() {
    let disk = SimDisk::default();
    disk.limit(Some(1000));
    let error = Wal::open_on(disk, small(16 << 10, 64 << 10), |_| {}).err().unwrap();
    assert!(matches!(error, WalError::DiskFull { .. }));
    assert!(error.to_string().contains("the disk is full"), "{error}");
}

#[test]
fn an_idle_log_records_the_mark_of_its_last_batch_once_and_rests() {
    let disk = SimDisk::default();
    let wal = open(&disk);
    submit(&wal, vec![append_entries(GroupId(1), Index(1), 1, 10)]).recv().unwrap().unwrap();
    let syncs = wal.metrics().syncs.get();
    while wal.metrics().syncs.get() == syncs {
        thread::yield_now();
    }
    // From now on a flipped bit in that batch is damage and not a torn tail. It stands behind the
    // mark of the opening.
    let crashed = disk.copy();
    crashed.crash(|| false);
    crashed.flip("0000000001.wal", 4096 + 56 + 40, 1);
    let (opened, recovered) = Wal::open_on(crashed, small(16 << 10, 64 << 10), |_| {}).unwrap();
    assert!(recovered.damaged.contains_key(&GroupId(1)), "{recovered:?}");
    opened.close();
    let written = wal.metrics().written_bytes.get();
    assert_eq!(wal.metrics().syncs.get(), syncs + 1);
    wal.close();
    assert!(written > 0);
}

#[test]
fn a_closed_log_refuses_and_dropped_handles_finish_what_was_submitted() {
    let disk = SimDisk::default();
    let wal = open(&disk);
    let clone = wal.clone();
    wal.close();
    let told = submit(&clone, vec![append_entries(GroupId(1), Index(1), 1, 10)]);
    assert!(told.recv().unwrap().unwrap_err().to_string().contains("closed"));
    assert_eq!(clone.queued_bytes(), 0);
    drop(clone);
    let wal = open(&disk);
    let told = submit(&wal, vec![append_entries(GroupId(1), Index(1), 1, 10)]);
    drop(wal);
    told.recv().unwrap().unwrap();
}

#[test]
fn readers_of_other_threads_see_whole_entries_while_segments_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let pressed = Arc::new(AtomicU64::new(0));
    let named = Arc::clone(&pressed);
    let (wal, _) = Wal::open(directory.path(), small(64 << 10, 256 << 10), move |groups| {
        named.fetch_max(groups[0].0, Ordering::Relaxed);
    })
    .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let idle = GroupId(9);
    submit(&wal, vec![append_entries(idle, Index(1), 20, 50)]).recv().unwrap().unwrap();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (wal, stop) = (wal.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut read = 0;
                let mut held = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let entries = wal.read(idle, Index(3), Index(20), usize::MAX).unwrap();
                    assert_eq!(entries.len(), 18);
                    for group in [1, 2] {
                        let at = Index(1 + read as u64 % 3000);
                        held = wal.read(GroupId(group), at, at.plus(9), 2000).unwrap();
                        read += 1 + held.len();
                    }
                }
                held.len()
            })
        })
        .collect();
    let mut told = Vec::new();
    for index in 1..=3000 {
        let mut writes: Vec<_> =
            [1, 2].map(|group| append_entries(GroupId(group), Index(index), 1, 200)).into();
        if index % 200 == 0 {
            writes.push(compact(GroupId(1), Index(index - 50)));
            writes.push(compact(GroupId(2), Index(index - 50)));
        }
        told.push(submit(&wal, writes));
        if told.len() > 32 {
            told.remove(0).recv().unwrap().unwrap();
        }
    }
    for told in told {
        told.recv().unwrap().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    let last = wal.read(GroupId(2), Index(3000), Index(3000), 1).unwrap();
    assert_eq!(last, [entry(GroupId(2), Term(1), Index(3000), 200)]);
    wal.close();
    let (wal, recovered) = Wal::open(directory.path(), small(64 << 10, 256 << 10), |_| {}).unwrap();
    assert_eq!(recovered.groups[&idle].last, Index(20));
    assert_eq!(recovered.groups[&GroupId(1)].last, Index(3000));
    assert_eq!(recovered.groups[&GroupId(1)].snapshot.index, Index(2950));
    wal.close();
}

/// The end of the log is written past the page cache, block by block, and read through a mapping of
/// the same blocks.
#[test]
fn the_newest_entry_is_read_while_its_block_is_written_on() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (wal, _) = Wal::open(directory.path(), small(256 << 10, 1 << 20), |_| {}).unwrap();
    let newest = Arc::new(AtomicU64::new(0));
    let reader = thread::spawn({
        let (wal, newest) = (wal.clone(), Arc::clone(&newest));
        move || {
            let mut read = 0;
            loop {
                let index = Index(newest.load(Ordering::Acquire));
                if index == Index(u64::MAX) {
                    return read;
                }
                let first = Index(index.0.saturating_sub(20).max(1));
                let entries = wal.read(GroupId(1), first, index, usize::MAX).unwrap();
                let expected: Vec<_> = (first.0..=index.0)
                    .map(|index| entry(GroupId(1), Term(1), Index(index), 100))
                    .collect();
                assert_eq!(entries, expected);
                read += entries.len();
            }
        }
    });
    for index in 1..=1500 {
        let write = append_entries(GroupId(1), Index(index), 1, 100);
        submit(&wal, vec![write]).recv().unwrap().unwrap();
        newest.store(index, Ordering::Release);
    }
    newest.store(u64::MAX, Ordering::Release);
    assert!(reader.join().unwrap() > 0);
    wal.close();
}
