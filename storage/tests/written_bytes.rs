//! How much a small write costs on a real disk. Alone in its file, since it counts what the whole
//! process writes.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod common;

use common::{append_entries, small};
use logboat_raft::{GroupId, Index};
use logboat_storage::simulation::{FileDisk, InlineWal};
use rustix::fs::statfs;
use std::fs;
use std::path::Path;

/// `f_type` of tmpfs, from `linux/magic.h`.
const TMPFS: i64 = 0x0102_1994;

#[test]
fn a_small_write_dirties_a_page_or_two() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(before) = written_bytes() else {
        eprintln!("skipped: /proc/self/io can't be read here");
        return;
    };
    if statfs(directory.path()).unwrap().f_type as i64 == TMPFS {
        eprintln!("skipped: {} is on tmpfs, which writes nothing", directory.path().display());
        return;
    }
    let disk = FileDisk::open(directory.path()).unwrap();
    let (mut wal, _) = InlineWal::open(disk, small(8 << 20, 64 << 20)).unwrap();
    let opened = written_bytes().unwrap();
    assert!(opened - before >= 8 << 20, "zero-filling counts, so the counter works");
    for index in 1..=200 {
        wal.write(&[], &[append_entries(GroupId(1), Index(index), 1, 200)]).unwrap();
        wal.sync().unwrap();
    }
    let each = (written_bytes().unwrap() - opened) / 200;
    assert!(each >= 200, "{each}");
    assert!(each <= 16 << 10, "{each} bytes reach the disk for a write of 256");
}

fn written_bytes() -> Option<u64> {
    let io = fs::read_to_string(Path::new("/proc/self/io")).ok()?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?;
    line.parse().ok()
}
