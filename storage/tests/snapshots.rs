//! Snapshot files: switched as a whole, verified end to end.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use logboat_raft::{Change, Configuration, GroupId, Index, LogId, NodeId, SnapshotMeta, Term};
use logboat_storage::simulation::{SimSnapshotDisk, SnapshotDisk};
use logboat_storage::{OpenSnapshot, SnapshotError, SnapshotStore};
use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

const GROUP: GroupId = GroupId(42);

fn at(index: u64) -> LogId {
    LogId::new(Term(3), Index(index))
}

/// What a snapshot up to an entry is of. The configuration is a joint one.
fn meta(index: u64) -> SnapshotMeta {
    let founding = Configuration::founding(&[1, 2, 3].map(NodeId), Some(NodeId(2)));
    let changed = founding.change(at(4), &[Change::Demote(NodeId(1))]).unwrap();
    SnapshotMeta { last: at(index), configuration: changed.into() }
}

fn write<D: SnapshotDisk>(store: &SnapshotStore<D>, index: u64, content: &[u8]) {
    try_write(store, index, content).unwrap();
}

fn try_write<D: SnapshotDisk>(
    store: &SnapshotStore<D>,
    index: u64,
    content: &[u8],
) -> Result<(), Box<dyn Error>> {
    let mut writer = store.create(GROUP, meta(index))?;
    writer.write_all(content)?;
    Ok(writer.finish().map(drop)?)
}

fn content<D: SnapshotDisk>(
    store: &SnapshotStore<D>,
) -> Result<Option<(LogId, Vec<u8>)>, SnapshotError> {
    let Some((found, mut reader)) = store.read(GROUP)? else {
        return Ok(None);
    };
    let last = found.last;
    assert_eq!(found, meta(last.index.0));
    let mut content = Vec::new();
    reader.read_to_end(&mut content).unwrap();
    Ok(Some((last, content)))
}

fn current(directory: &Path) -> std::path::PathBuf {
    directory.join("42.snap")
}

#[test]
fn a_snapshot_is_current_when_it_is_finished_and_not_before() {
    let directory = tempfile::tempdir().unwrap();
    let store = SnapshotStore::open(directory.path()).unwrap();
    assert!(content(&store).unwrap().is_none());
    write(&store, 10, b"first");
    let mut second = store.create(GROUP, meta(20)).unwrap();
    second.write_all(&[7; 200_000]).unwrap();
    assert_eq!(content(&store).unwrap(), Some((at(10), b"first".to_vec())));
    // What a crash finds now is the first one and a file that goes.
    let crashed = SnapshotStore::open(directory.path()).unwrap();
    assert_eq!(crashed.latest(GROUP).unwrap().last, at(10));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    drop(second);
    write(&store, 30, &[9; 200_000]);
    assert_eq!(content(&store).unwrap(), Some((at(30), vec![9; 200_000])));
    let reopened = SnapshotStore::open(directory.path()).unwrap();
    assert_eq!(reopened.latest(GROUP), store.latest(GROUP));
    assert_eq!(content(&reopened).unwrap().unwrap().0, at(30));
}

/// What a later sync says is of no worth: the pages that could not be written are clean by then.
#[test]
fn a_large_snapshot_is_synced_in_pieces_and_is_lost_with_one_of_them() {
    let disk = SimSnapshotDisk::default();
    let store = SnapshotStore::open_on(disk.clone()).unwrap();
    write(&store, 10, b"old");
    for (failing, written) in [(None, true), (Some(1), false), (Some(2), false)] {
        let mut writer = store.create(GROUP, meta(20)).unwrap();
        disk.fail_sync(failing);
        let pieces = (0..5).map(|_| writer.write_all(&[7; 1 << 20]).is_ok());
        assert_eq!(pieces.collect::<Vec<_>>().contains(&false), !written, "{failing:?}");
        // Somebody else wrote it, and did not listen.
        if !written {
            let refused = writer.finish().unwrap_err();
            assert!(matches!(refused, SnapshotError::Io { .. }), "{refused:?}");
            assert_eq!(content(&store).unwrap().unwrap().0, at(10));
        }
    }
}

#[test]
fn an_older_snapshot_never_takes_the_place_of_a_newer_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = SnapshotStore::open(directory.path()).unwrap();
    let slow = store.create(GROUP, meta(10)).unwrap();
    write(&store, 20, b"newer");
    let error = slow.finish().unwrap_err();
    assert!(matches!(error, SnapshotError::Superseded { current, .. } if current == at(20)));
    assert_eq!(content(&store).unwrap(), Some((at(20), b"newer".to_vec())));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_file_cut_anywhere_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let store = SnapshotStore::open(directory.path()).unwrap();
    write(&store, 10, b"some content");
    let whole = fs::read(current(directory.path())).unwrap();
    for bytes in 0..whole.len() {
        fs::write(current(directory.path()), &whole[..bytes]).unwrap();
        let store = SnapshotStore::open(directory.path()).unwrap();
        assert_eq!(store.latest(GROUP), None, "{bytes} bytes");
    }
}

#[test]
fn any_flipped_byte_is_noticed_before_anything_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let store = SnapshotStore::open(directory.path()).unwrap();
    write(&store, 10, b"some content");
    let whole = fs::read(current(directory.path())).unwrap();
    for offset in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[offset] ^= 0x10;
        fs::write(current(directory.path()), &damaged).unwrap();
        let error = content(&store).unwrap_err();
        assert!(error.to_string().contains("42.snap"), "{offset}: {error}");
        let mut receiver = store.receive(GROUP, at(10), whole.len() as u64).unwrap();
        receiver.write_all(&damaged).unwrap();
        assert!(matches!(receiver.finish(), Err(SnapshotError::Damaged { .. })), "{offset}");
    }
    assert_eq!(store.received(GROUP, at(10)), None);
}

#[test]
fn a_peers_snapshot_is_adopted_when_it_is_whole() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sender = SnapshotStore::open(there.path()).unwrap();
    write(&sender, 50, b"state of the leader");
    let opened = sender.file(GROUP).unwrap().unwrap();
    let OpenSnapshot { meta: found, bytes: announced, mut file } = opened;
    assert_eq!(found, meta(50));
    let info = sender.latest(GROUP).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes.len() as u64, announced), (info.bytes, info.bytes));

    let store = SnapshotStore::open(here.path()).unwrap();
    write(&store, 5, b"old state");
    let mut receiver = store.receive(GROUP, info.last, info.bytes).unwrap();
    receiver.write_all(&bytes).unwrap();
    assert_eq!(receiver.finish().unwrap(), info);
    let left = meta(5).configuration.leave(at(8)).into();
    let other = SnapshotMeta { last: at(50), configuration: left };
    let refused = store.read_received(GROUP, &other).map(drop);
    assert!(matches!(refused, Err(SnapshotError::Damaged { .. })), "{refused:?}");
    store.read_received(GROUP, &meta(50)).unwrap();
    assert_eq!(store.latest(GROUP).unwrap().last, at(5));
    assert!(matches!(store.adopt(GROUP, at(49)), Err(SnapshotError::NotReceived { .. })));

    // A crash after it is adopted finds it adopted.
    assert_eq!(store.received(GROUP, at(50)), Some(info));
    assert_eq!(store.adopt(GROUP, at(50)).unwrap(), info);
    assert_eq!(store.adopt(GROUP, at(50)).unwrap(), info);
    let store = SnapshotStore::open(here.path()).unwrap();
    assert_eq!(store.received(GROUP, at(50)), None);
    assert_eq!(content(&store).unwrap(), Some((at(50), b"state of the leader".to_vec())));
}

#[test]
fn what_a_peer_sends_short_long_or_of_another_kind_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = SnapshotStore::open(directory.path()).unwrap();
    write(&store, 10, b"some content");
    let whole = fs::read(current(directory.path())).unwrap();
    let bytes = whole.len() as u64;
    let refused = |group, last, announced, content: &[u8]| {
        let mut receiver = store.receive(group, last, announced).unwrap();
        if let Err(error) = receiver.write_all(content) {
            return error.to_string();
        }
        receiver.finish().unwrap_err().to_string()
    };
    assert!(refused(GROUP, at(10), bytes, &whole[1..]).contains("less than it announced"));
    assert!(refused(GROUP, at(10), bytes - 1, &whole).contains("more of a snapshot"));
    assert!(refused(GROUP, at(11), bytes, &whole).contains("another snapshot"));
    assert!(refused(GroupId(43), at(10), bytes, &whole).contains("it is of group 42"));
    assert!(refused(GROUP, at(10), 10, b"0123456789").contains("no Logboat snapshot"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    let mut receiver = store.receive(GROUP, at(10), bytes).unwrap();
    receiver.write_all(&whole).unwrap();
    receiver.finish().unwrap();
    store.discard(GROUP, at(10)).unwrap();
    assert_eq!(store.received(GROUP, at(10)), None);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

/// Has the power go at each operation of a change in turn, from a snapshot up to 10 to one up to
/// 20, and checks what a restart finds.
fn is_atomic(change: impl Fn(&SnapshotStore<SimSnapshotDisk>) -> Result<(), Box<dyn Error>>) {
    for (cut, seed) in (1..).flat_map(|cut| (0..64).map(move |seed| (cut, seed))) {
        let mut disk = SimSnapshotDisk::default();
        let store = SnapshotStore::open_on(disk.clone()).unwrap();
        write(&store, 10, &OLD);
        disk.cut_at(Some(cut));
        let done = change(&store).is_ok();
        if !disk.is_cut() {
            assert!(done && cut > 5, "there are only {cut} operations");
            return;
        }
        let mut bits: u64 = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed);
        disk.crash(|| {
            bits = bits.rotate_left(1);
            bits & 1 == 1
        });
        drop(store);
        let store = SnapshotStore::open_on(disk.clone()).unwrap();
        match content(&store).unwrap() {
            Some((last, content)) if last == at(10) => assert!(!done && content == OLD),
            Some((last, content)) => assert!(last == at(20) && content == NEW),
            None => panic!("there is no snapshot after a crash at operation {cut}, {seed}"),
        }
        assert_eq!(disk.list().unwrap(), ["42.snap"]);
    }
}

static OLD: [u8; 3_000] = [1; 3_000];
static NEW: [u8; 100_000] = [2; 100_000];

#[test]
fn a_crash_at_any_operation_leaves_the_old_snapshot_or_the_new_one() {
    is_atomic(|store| try_write(store, 20, &NEW));
}

#[test]
fn a_crash_at_any_operation_leaves_the_old_snapshot_or_the_leaders() {
    let sender = SnapshotStore::open_on(SimSnapshotDisk::default()).unwrap();
    write(&sender, 20, &NEW);
    is_atomic(|store| {
        let OpenSnapshot { meta, bytes, mut file } = sender.file(GROUP)?.unwrap();
        let mut receiver = store.receive(GROUP, meta.last, bytes)?;
        io::copy(&mut file, &mut receiver)?;
        receiver.finish()?;
        Ok(store.adopt(GROUP, meta.last).map(drop)?)
    });
}

#[test]
fn a_sync_that_fails_leaves_the_old_snapshot_or_the_new_one() {
    for failing in [1, 2] {
        let mut disk = SimSnapshotDisk::default();
        let store = SnapshotStore::open_on(disk.clone()).unwrap();
        write(&store, 10, &OLD);
        disk.fail_sync(Some(failing));
        try_write(&store, 20, &NEW).unwrap_err();
        disk.crash(|| true);
        let store = SnapshotStore::open_on(disk).unwrap();
        let (last, content) = content(&store).unwrap().unwrap();
        assert!((last == at(10) && content == OLD) || (last == at(20) && content == NEW));
    }
}

#[test]
fn a_shortage_of_descriptors_is_no_damage_of_a_snapshot() {
    let disk = SimSnapshotDisk::default();
    let store = SnapshotStore::open_on(disk.clone()).unwrap();
    write(&store, 10, b"state");
    disk.refuse_files(true);
    assert!(content(&store).unwrap_err().passes());
    assert!(store.check(GROUP).unwrap_err().passes());
    // A store without it would take the group's log for one that has lost its beginning.
    let refused = SnapshotStore::open_on(disk.clone()).unwrap_err();
    assert!(refused.passes(), "{refused}");
    disk.refuse_files(false);
    let reopened = SnapshotStore::open_on(disk).unwrap();
    assert_eq!(content(&reopened).unwrap(), Some((at(10), b"state".to_vec())));
}

/// A node that has no descriptors left would refuse what arrived whole, and be sent it again.
#[test]
fn a_snapshot_that_has_arrived_is_checked_without_another_descriptor() {
    let sender = SnapshotStore::open_on(SimSnapshotDisk::default()).unwrap();
    write(&sender, 20, &NEW);
    let OpenSnapshot { meta, bytes, mut file } = sender.file(GROUP).unwrap().unwrap();
    let disk = SimSnapshotDisk::default();
    let store = SnapshotStore::open_on(disk.clone()).unwrap();
    let mut receiver = store.receive(GROUP, meta.last, bytes).unwrap();
    io::copy(&mut file, &mut receiver).unwrap();
    disk.refuse_files(true);
    assert_eq!(receiver.finish().unwrap().bytes, bytes);
    disk.refuse_files(false);
    store.adopt(GROUP, meta.last).unwrap();
    assert_eq!(content(&store).unwrap(), Some((at(20), NEW.to_vec())));
}
