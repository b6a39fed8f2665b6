//! What a node would find if its power went at this very moment, tried on a copy of its disk.
//!
//! Random crashes seldom fall between two writes that have to stand in one order. So the simulation
//! looks by itself at the moments that matter: when a segment has gone, when a snapshot was adopted
//! that the log does not know of, and when the log was replaced by one.

use super::disk::read_snapshot;
use super::host::Hardware;
use super::machine::{Journal, Machine};
use super::process::group_id;
use super::scene::Scene;
use logboat::internals::recover;
use logboat_storage::SnapshotStore;
use logboat_storage::simulation::InlineWal;
use std::io::Cursor;

/// Checks that a power cut which loses all that is not synced would lose nothing else.
pub(super) fn cut_power(hardware: &Hardware, scene: &Scene) {
    if hardware.damaged || hardware.stands_in() {
        return;
    }
    let disk = hardware.disk.copy();
    disk.crash(|| false);
    disk.limit(None);
    disk.fail_sync(u64::MAX / 2);
    let opened = InlineWal::open(disk, scene.plan.wal.clone());
    let (wal, found) = opened.unwrap_or_else(|error| {
        panic!("after a power cut, node {} would not start: {error}", hardware.id())
    });
    let snapshots = SnapshotStore::open_on(hardware.snapshots.copy_durable());
    let snapshots = snapshots.expect("a directory can be listed");
    let tombstone = |group: usize| wal.log().tombstone(group_id(group));
    scene.checks.would_recover(hardware.place, &found, tombstone, |group, log| {
        if tombstone(group).is_some() {
            // What is left of its snapshots goes at the start.
            return (None, log);
        }
        let found = read_snapshot(&snapshots, group_id(group)).unwrap_or_else(|error| {
            panic!("after a power cut, node {} can't use a snapshot: {error}", hardware.id())
        });
        let snapshot = found.clone().map(|(meta, content)| (meta, Cursor::new(content)));
        let agreed = recover(log, snapshot, &mut Machine::new(Journal::default()));
        (found, agreed.expect("log and snapshot agree after a power cut").0)
    });
}
