//! Looking at a log's files from outside.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod common;

use common::{append_entries, compact, grant, small};
use logboat_raft::{
    Epoch, Fortification, GroupId, HardState, Index, LogId, LogWrite, NodeId, Persist, ReplicaId,
    Term, WriteSeq,
};
use logboat_storage::simulation::{FileDisk, InlineWal};
use logboat_storage::{SegmentState, inspect};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

const BOND: Fortification = Fortification {
    leader: NodeId(6),
    replica: ReplicaId::FOUNDER,
    epoch: Epoch(3),
    term: Term(2),
};

fn write_log(directory: &Path) -> InlineWal<FileDisk> {
    let disk = FileDisk::open(directory).unwrap();
    let (mut wal, _) = InlineWal::open(disk, small(8 << 10, 1 << 20)).unwrap();
    for index in 1..=10 {
        wal.write(&[], &[append_entries(GroupId(5), Index(index), 1, 1000)]).unwrap();
        wal.sync().unwrap();
    }
    wal.write(&[], &[compact(GroupId(5), Index(4))]).unwrap();
    let state = HardState { term: Term(1), fortified: Some(BOND), ..Default::default() };
    let hard_state = Some(state.into());
    let bound = Persist { seq: WriteSeq(0), hard_state, log: LogWrite::Keep };
    wal.write(&[grant(5, 1), grant(5, 2), grant(6, 3)], &[(GroupId(5), bound)]).unwrap();
    wal.mark().unwrap();
    wal
}

#[test]
fn a_report_tells_segments_and_groups_of_a_log_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let wal = write_log(directory.path());
    let report = inspect(directory.path()).unwrap();
    assert!(report.is_whole());
    let states: Vec<_> = report.segments.iter().map(|segment| segment.state).collect();
    let active = wal.log().active_segment() as usize;
    assert_eq!(states[active - 1], SegmentState::Active);
    assert!(states[..active - 1].iter().all(|state| *state == SegmentState::Sealed));
    assert_eq!(report.segments[0].batches, 4);
    assert!(report.segments[0].salt != report.segments[1].salt);
    assert_eq!(report.segments[active - 1].durable.segment as usize, active);
    let end = report.segments[active - 1].end;
    assert_eq!((report.end.segment as usize, u64::from(report.end.offset)), (active, end));
    let group = &report.groups[&GroupId(5)];
    assert_eq!((group.snapshot.index, group.last, group.records), (Index(4), Index(10), 6));
    let at = |term, index| LogId::new(Term(term), Index(index));
    let held = |term, indexes: std::ops::Range<u64>| {
        indexes.filter(|index| group.holds(at(term, *index))).collect::<Vec<_>>()
    };
    assert_eq!((held(1, 0..20), held(2, 0..20)), ((4..=10).collect(), vec![]));
    assert_eq!(group.last_id(), at(1, 10));
    assert!(group.bytes > 6000);
    assert_eq!(group.hard_state.fortified, Some(BOND));
    assert_eq!(report.groups.len(), 1);
    assert_eq!(report.grants, [grant(5, 2), grant(6, 3)].into());
    // Looking changed nothing.
    wal.close().unwrap();
    assert!(inspect(directory.path()).unwrap().is_whole());
}

#[test]
fn every_damage_below_the_mark_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    write_log(directory.path()).close().unwrap();
    for (id, offset) in [(1, 4500), (1, 5600), (3, 4200)] {
        let file = directory.path().join(format!("{id:010}.wal"));
        let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    }
    let report = inspect(directory.path()).unwrap();
    let files: Vec<_> = report
        .damage
        .iter()
        .map(|damage| damage.file.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(files, ["0000000001.wal", "0000000001.wal", "0000000003.wal"]);
    assert!(report.damage.iter().all(|damage| damage.groups == [GroupId(5)]));
    fs::remove_file(directory.path().join("0000000002.wal")).unwrap();
    fs::write(directory.path().join("notes.txt"), "mine").unwrap();
    let report = inspect(directory.path()).unwrap();
    assert_eq!(report.missing, [directory.path().join("0000000002.wal")]);
    assert_eq!(report.foreign, [directory.path().join("notes.txt")]);
}
