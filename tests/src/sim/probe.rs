//! What a node would find if its power went at this very moment, tried on a copy of its disk.
//!
//! Random crashes seldom fall between two writes that have to stand in one order. So the simulation
//! looks by itself at the moments that matter: when a segment has gone, when a snapshot was adopted
//! that the log does not know of, and when the log was replaced by one.

use super::disk::read_snapshot;
use super::disk_machine::Surroundings;
use super::elastic::machine_of;
use super::host::Hardware;
use super::machine::Journal;
use super::process::group_id;
use super::scene::Scene;
use logboat::internals::{is_unborn, recover};
use logboat_raft::{
    Config, HardState, Input, LogId, NodeId, Output, Raft, ReplicaAddress, Restored, Support, Time,
};
use logboat_router::internals::Feed;
use logboat_storage::SnapshotStore;
use logboat_storage::simulation::{InlineWal, SimSnapshotDisk};
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
        let founds = scene.plan.voters(group).contains(&hardware.place);
        if tombstone(group).is_some() || is_unborn(&log, founds) {
            // What is left of its snapshots goes at the start.
            return (None, LogId::default(), false, log);
        }
        let found = read_snapshot(&snapshots, group_id(group)).unwrap_or_else(|error| {
            panic!("after a power cut, node {} can't use a snapshot: {error}", hardware.id())
        });
        let snapshot = found.clone().map(|(meta, content)| (meta, Cursor::new(content)));
        let disk = hardware.machines.of(group).copy();
        let surroundings = Surroundings {
            plan: &scene.plan,
            journal: &Journal::default(),
            disk: disk.clone(),
            power: SimSnapshotDisk::default(),
            clock: &hardware.unix_clock,
        };
        let mut machine = machine_of(group, &Feed::new(), surroundings);
        let holds = disk.holds();
        let agreed = recover(log, snapshot, &mut *machine);
        let recovery = agreed.expect("log, snapshot and state agree after a power cut");
        let follows = recovery.state_holds.is_none() || recovery.reset.is_some();
        (found, holds, follows, recovery.restored)
    });
}

/// Checks that a start would give up a vote of an earlier term than its last entry is of. A
/// snapshot is durable before what else is known of its term.
pub(super) fn forgets_earlier_votes(config: &Config, restored: &Restored) {
    let last = restored.runs.last().map_or(restored.snapshot.term, |run| run.term);
    let mut earlier = restored.clone();
    let HardState { term, vote, fortified, replica, .. } = &mut earlier.hard_state;
    let other = ReplicaAddress::new(NodeId(config.node.0 + 1), *replica);
    (*term, *vote, *fortified) = (last.prev(), Some(other), None);
    if last == *term {
        return;
    }
    let (mut outputs, now) = (Vec::new(), Time(0));
    Raft::new(config.clone(), earlier, now).step(
        now,
        &Support::default(),
        Input::Tick,
        &mut outputs,
    );
    let written = outputs.iter().filter_map(|output| match output {
        Output::Persist(persist) => persist.hard_state.as_deref(),
        _ => None,
    });
    for after in written {
        assert_ne!(after.vote, Some(other), "a vote of an earlier term is kept in {}", after.term);
    }
}
