//! What a node would find if its power went at this very moment, tried on a copy of its disk.
//!
//! Random crashes seldom fall between two writes that have to stand in one order. So the simulation
//! looks by itself at the moments that matter: when a segment has gone, when a snapshot was adopted
//! that the log does not know of, and when the log was replaced by one.

use super::host::Hardware;
use super::machine::{Journal, Machine};
use super::process::group_id;
use super::scene::Scene;
use logboat::internals::recover;
use logboat_storage::simulation::InlineWal;
use std::io::Cursor;

/// Checks that a power cut which loses all that is not synced would lose nothing else.
pub(super) fn cut_power(hardware: &Hardware, scene: &Scene) {
    if hardware.damaged {
        return;
    }
    let disk = hardware.disk.copy();
    disk.crash(|| false);
    disk.limit(None);
    disk.fail_sync(u64::MAX / 2);
    let opened = InlineWal::open(disk, scene.plan.wal.clone());
    let (_, found) = opened.unwrap_or_else(|error| {
        panic!("after a power cut, node {} would not start: {error}", hardware.id())
    });
    scene.checks.would_recover(hardware.place, &found, |group, log| {
        let current = hardware.snapshots.lock().current(group_id(group));
        let last = current.as_ref().map(|(last, _)| *last).unwrap_or_default();
        let snapshot = current.map(|(last, content)| (last, Cursor::new(content)));
        let agreed = recover(log, snapshot, &mut Machine::new(Journal::default()));
        (last, agreed.expect("log and snapshot agree after a power cut").0)
    });
}
