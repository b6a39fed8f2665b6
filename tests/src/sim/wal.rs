//! What a simulated process does as the threads of the log: it writes what was submitted, syncs it
//! while the next batch is written, records seqs and collects garbage in idle moments.

use super::cells::ReplicaCell;
use super::host::{CrashPoint, Hardware};
use super::options::Fault;
use super::probe::cut_power;
use super::process::{Process, group_place};
use super::scene::{Event, Scene};
use super::worker::WorkerEvent;
use logboat::internals::{GroupEvent, Slot};
use logboat_raft::{Grant, GroupId, LogPosition, NodeId, Persist, WriteSeq};
use logboat_storage::simulation::{SimSegment, Unsynced, WriteError};
use logboat_transport::Outgoing;
use std::collections::VecDeque;
use std::io::ErrorKind;

/// What a turn, or the node's liveness, wants written, and what follows from its being durable.
#[derive(Default)]
pub(super) struct Submission {
    pub(super) grants: Vec<(NodeId, Grant)>,
    pub(super) writes: Vec<(GroupId, Persist)>,
    pub(super) seqs: Vec<(Slot, WriteSeq)>,
    pub(super) promises: Vec<(NodeId, Outgoing)>,
    /// The groups whose replicas end with these writes.
    pub(super) buried: Vec<GroupId>,
    /// How far the logs of peers were durable, as they have said, if this is to be known from now
    /// on.
    pub(super) peers_ends: Vec<(NodeId, LogPosition)>,
}

/// The state of the log's threads.
#[derive(Default)]
pub(super) struct Writer {
    queue: VecDeque<Submission>,
    /// Written after the sync under way began.
    written: Vec<Submission>,
    /// Covered by the sync under way.
    syncing: Option<Vec<Submission>>,
    /// What the sync under way covers of the file.
    unsynced: Option<Unsynced<SimSegment>>,
    stalled: bool,
    poisoned: bool,
    /// Counts the writes, so that an idle moment is known as such.
    writes: u64,
    segment: u32,
}

impl Writer {
    /// Whether nothing more becomes durable.
    pub(super) const fn has_failed(&self) -> bool {
        self.poisoned
    }

    pub(super) fn submit(&mut self, submission: Submission) {
        self.queue.push_back(submission);
    }
}

impl Process {
    /// Writes what waits as one batch, and has it synced.
    pub(super) fn write(&mut self, hardware: &mut Hardware, scene: &mut Scene) {
        let writer = &mut self.writer;
        if writer.poisoned || writer.stalled || writer.queue.is_empty() {
            return;
        }
        let (mut grants, mut batch) = (Vec::new(), Vec::new());
        for submission in &mut writer.queue {
            grants.extend_from_slice(&submission.grants);
            batch.append(&mut submission.writes);
        }
        let mut wal = self.storage.wal.lock();
        let result = wal.write(&grants, &batch);
        let refusals = batch.iter().find_map(|(group, _)| wal.log().refusals().of(*group));
        drop(wal);
        if let Some(refusal) = refusals {
            // No replica writes what its log can't take.
            return self.poison(hardware, &refusal.to_string(), scene);
        }
        match result {
            Ok(_) => {}
            Err(WriteError::Io(error)) if error.kind() == ErrorKind::StorageFull => {
                writer.stalled = true;
                writer.queue[0].writes = batch;
                scene.after(100_000, hardware.target(), Event::Room);
                return;
            }
            Err(error) => return self.poison(hardware, &error.to_string(), scene),
        }
        writer.writes += 1;
        writer.written.extend(writer.queue.drain(..));
        let behind = writer.syncing.is_some();
        if hardware.crashes(CrashPoint::Written)
            || (behind && hardware.crashes(CrashPoint::WrittenBehind))
        {
            return;
        }
        let active = self.storage.wal.lock().log().active_segment();
        if std::mem::replace(&mut self.writer.segment, active) != active {
            self.press(hardware, scene);
            self.maintain(hardware, scene);
        }
        self.sync(hardware, scene);
    }

    /// Whether nothing more becomes durable.
    pub(super) const fn has_failed(&self) -> bool {
        self.writer.has_failed()
    }

    /// Begins a sync if none is under way.
    fn sync(&mut self, hardware: &Hardware, scene: &mut Scene) {
        let writer = &mut self.writer;
        if writer.syncing.is_some() || writer.written.is_empty() || writer.poisoned {
            return;
        }
        writer.syncing = Some(std::mem::take(&mut writer.written));
        writer.unsynced = self.storage.wal.lock().begin_sync();
        let usual = scene.plan.sync_us;
        let takes = scene.random.between(usual / 2, usual + usual / 2) + hardware.slow_us;
        scene.after(takes, hardware.target(), Event::Synced);
    }

    /// A sync is over: what was promised leaves, and replicas learn what is durable.
    pub(super) fn synced(&mut self, hardware: &mut Hardware, scene: &mut Scene) {
        if self.writer.poisoned {
            return;
        }
        let unsynced = self.writer.unsynced.take();
        let finish = |sync| self.storage.wal.lock().finish_sync(&sync);
        if let Err(error) = unsynced.map_or(Ok(()), finish) {
            return self.poison(hardware, &error.to_string(), scene);
        }
        let done = self.writer.syncing.take().unwrap_or_default();
        let mut was_reset = false;
        for submission in &done {
            for (peer, grant) in submission.grants.iter().filter(|_| !hardware.stands_in()) {
                scene.checks.granted(hardware.place, *peer, *grant);
            }
            for (peer, end) in &submission.peers_ends {
                scene.checks.knows_end(hardware.id(), *peer, *end);
            }
            for (slot, seq) in &submission.seqs {
                let group = group_place(self.cells[slot.index.0 as usize].id);
                was_reset |= scene.checks.durable(hardware.place, group, *seq);
            }
            for group in &submission.buried {
                scene.checks.buried(hardware.place, group_place(*group));
                was_reset = true;
            }
        }
        if was_reset {
            cut_power(hardware, scene);
        }
        self.cut_power_at_an_old_bond(hardware, scene);
        if hardware.crashes(CrashPoint::Synced) {
            return;
        }
        for submission in done {
            for (peer, grant) in submission.grants {
                self.liveness.persisted(peer, grant);
            }
            for (peer, outgoing) in submission.promises {
                scene.send(hardware.place, peer, outgoing);
            }
            for (slot, seq) in submission.seqs {
                let worker = self.cells[slot.index.0 as usize].worker;
                self.tell(worker, WorkerEvent::Durable(slot, seq));
            }
            for group in submission.buried {
                self.replace(hardware, group, scene);
            }
        }
        self.write(hardware, scene);
        self.sync(hardware, scene);
        self.schedule_turns(hardware, scene);
        if self.writer.syncing.is_none() {
            let delay = scene.plan.wal.mark_delay.as_micros() as u64;
            scene.after(delay, hardware.target(), Event::Idle(self.writer.writes));
        }
    }

    /// A replica may start again that is bound to the leader of an earlier term than the one that
    /// it is in. That is rare by chance.
    fn cut_power_at_an_old_bond(&self, hardware: &mut Hardware, scene: &mut Scene) {
        let is_fault = scene.stormy && scene.options.faults.contains(&Fault::Crash);
        let has_old_bond = |cell: &ReplicaCell| {
            let raft = cell.group.raft();
            raft.fortified().is_some_and(|bond| bond.term < raft.term())
        };
        if is_fault && self.cells.iter().any(has_old_bond) {
            hardware.doomed |= scene.random.per_mille(200);
        }
    }

    /// Records the durable mark when nothing was written for a while, and collects garbage.
    pub(super) fn idle(&mut self, hardware: &mut Hardware, writes: u64, scene: &mut Scene) {
        let writer = &self.writer;
        let busy = writer.syncing.is_some() || !writer.written.is_empty();
        if busy || writer.poisoned || writer.writes != writes {
            return;
        }
        let mut wal = self.storage.wal.lock();
        let marked = if wal.log().wants_mark() { wal.mark() } else { Ok(()) };
        drop(wal);
        if let Err(error) = marked {
            return self.poison(hardware, &error.to_string(), scene);
        }
        self.maintain(hardware, scene);
    }

    /// A full disk may have room again.
    pub(super) fn retry(&mut self, hardware: &mut Hardware, scene: &mut Scene) {
        self.writer.stalled = false;
        // What is free already needs no room to be given back, but a mark that says so.
        let mut wal = self.storage.wal.lock();
        let marked = if wal.log().wants_mark() { wal.mark() } else { Ok(()) };
        let before = wal.log().segments();
        let freed = marked.and_then(|()| wal.maintain(0));
        let recycled = wal.log().segments() < before;
        drop(wal);
        if recycled {
            cut_power(hardware, scene);
        }
        match freed {
            // To give room back, a little has to be moved first.
            Err(WriteError::Io(error)) if error.kind() == ErrorKind::StorageFull => {}
            Err(error) => return self.poison(hardware, &error.to_string(), scene),
            Ok(_) => {}
        }
        self.write(hardware, scene);
    }

    /// Moves a little out of the oldest segment, makes that durable, and gives back what is free.
    fn maintain(&mut self, hardware: &mut Hardware, scene: &mut Scene) {
        if self.writer.poisoned {
            return;
        }
        let bytes = scene.plan.wal.segment_bytes / 8;
        let mut wal = self.storage.wal.lock();
        let (before, active) = (wal.log().segments(), wal.log().active_segment());
        let mut result = wal.maintain(bytes);
        let added = (wal.log().active_segment() - active) as usize;
        if wal.log().segments() < before + added {
            cut_power(hardware, scene);
        }
        if result.as_ref().is_ok_and(|moved| *moved > 0) {
            result = wal.sync().map(|()| 0).map_err(WriteError::Io);
        }
        // Whom garbage collection gives up: no replica has been refused anything else.
        let lost = self.cells.iter().find_map(|cell| wal.log().refusals().of(cell.id));
        drop(wal);
        if let Some(lost) = lost {
            return self.poison(hardware, &lost.to_string(), scene);
        }
        match result {
            Ok(_) => {}
            Err(WriteError::Io(error)) if error.kind() == ErrorKind::StorageFull => {}
            Err(error) => self.poison(hardware, &error.to_string(), scene),
        }
    }

    /// Has the groups make snapshots that pin the oldest segments.
    fn press(&mut self, hardware: &Hardware, scene: &mut Scene) {
        let pressing = self.storage.wal.lock().log().pressing();
        for group in pressing {
            self.post_to_group(group, GroupEvent::Compact);
        }
        self.schedule_turns(hardware, scene);
    }

    /// The log takes no more writes: all replicas stop, until the node is started again.
    fn poison(&mut self, hardware: &mut Hardware, reason: &str, scene: &mut Scene) {
        assert!(
            hardware.failing_sync || hardware.damaged,
            "the log of node {} fails: {reason}",
            hardware.id()
        );
        if hardware.failing_sync {
            hardware.failing_sync = false;
            scene.count(Fault::SyncFailure);
        }
        scene.trace.note(scene.now, &[], format_args!("{}: {reason}", hardware.id()));
        self.writer.poisoned = true;
        self.halt(hardware, scene);
        let later = scene.random.between(1_000, 5_000_000);
        scene.after(later, hardware.target(), Event::Crash);
    }
}
