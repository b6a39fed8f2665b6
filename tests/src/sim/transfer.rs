//! What a simulated process does as the snapshot thread: has snapshots written, streams them to
//! peers in pieces, and receives those that arrive. The files are real, on a simulated disk.

use super::host::{CrashPoint, Hardware};
use super::options::Fault;
use super::process::{Process, group_place};
use super::scene::{Event, Scene};
use logboat::SnapshotWriter;
use logboat::internals::{Arrivals, GroupEvent, Part, SnapshotJob};
use logboat_raft::{GroupId, Message, NodeId, Payload, SnapshotMeta};
use logboat_storage::simulation::{SimSnapshotDisk, SimSnapshotFile};
use logboat_storage::{
    OpenSnapshot, SnapshotError, SnapshotReceiver, SnapshotWriter as SnapshotFileWriter,
};
use logboat_transport::{Outgoing, SnapshotChunk};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// A snapshot file that is being written.
pub(super) type WrittenFile = SnapshotFileWriter<SimSnapshotDisk>;

/// A snapshot on its way to a peer.
#[derive(Debug)]
pub(super) struct Departing {
    group: GroupId,
    to: NodeId,
    meta: SnapshotMeta,
    total_bytes: u64,
    /// What is left of it.
    file: SimSnapshotFile,
    offset: u64,
}

impl Departing {
    /// The next piece, of so many bytes at the most.
    fn next_piece(&mut self, most: usize) -> io::Result<SnapshotChunk> {
        let mut data = Vec::new();
        Read::by_ref(&mut self.file).take(most as u64).read_to_end(&mut data)?;
        let offset = self.offset;
        self.offset += data.len() as u64;
        let Self { group, total_bytes, .. } = *self;
        let last = self.meta.last;
        Ok(SnapshotChunk { group, last, offset, total_bytes, data: data.into() })
    }
}

/// The snapshots of peers, while their pieces arrive and until they are offered.
pub(super) struct Incoming {
    arrivals: Arrivals<SnapshotReceiver<SimSnapshotDisk>>,
    /// When the simulation began, as the snapshot thread tells time.
    origin: Instant,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self { arrivals: Arrivals::default(), origin: Instant::now() }
    }

    /// A group's replica is no more.
    pub(super) fn forget(&mut self, group: GroupId) {
        self.arrivals.forget(group);
    }
}

impl Process {
    pub(super) fn snapshot_job(
        &mut self,
        hardware: &Hardware,
        job: SnapshotJob,
        scene: &mut Scene,
    ) {
        match job {
            SnapshotJob::Write { group, slot: _, meta, writer } => {
                let file = self.write_snapshot(hardware, (group, &meta), writer, scene);
                // Its replica may be gone by then, most of all one that votes no more.
                let raft = self.cell_of(group).map(|cell| cell.group.raft());
                let stays = raft.is_none_or(|raft| raft.configuration().is_voter(hardware.id()));
                let slow = if stays { 200 } else { 600 };
                let is_slow = scene.plan.members_change && scene.random.per_mille(slow);
                let most = if is_slow { 3 * scene.plan.election_us() } else { 0 };
                let most = most.max(4 * scene.plan.sync_us + 100);
                let takes = scene.random.between(100, most);
                let event = Event::SnapshotWritten { group, meta, file };
                scene.after(takes, hardware.target(), event);
            }
            SnapshotJob::Send { group, slot: _, to } => {
                let current = self.storage.snapshots.file(group);
                if hardware.snapshots.is_cut() {
                    return;
                }
                let current = current.expect("a snapshot can be opened");
                let current = current.expect("there is a snapshot where the log begins");
                let OpenSnapshot { meta, bytes: total_bytes, file } = current;
                let departing = Departing { group, to, meta, total_bytes, file, offset: 0 };
                scene.after(10, hardware.target(), Event::Chunk(departing));
            }
            SnapshotJob::Chunk { .. }
            | SnapshotJob::Dropped { .. }
            | SnapshotJob::Connected { .. }
            | SnapshotJob::Remove { .. }
            | SnapshotJob::AwaitRemoval { .. }
            | SnapshotJob::Offer { .. }
            | SnapshotJob::Refused { .. }
            | SnapshotJob::Closed { .. }
            | SnapshotJob::Stop => unreachable!("a turn asks for none of these"),
        }
    }

    /// Writes the content of a snapshot to a file, which is neither durable nor current yet.
    fn write_snapshot(
        &self,
        hardware: &Hardware,
        (group, meta): (GroupId, &SnapshotMeta),
        writer: SnapshotWriter,
        scene: &mut Scene,
    ) -> Option<WrittenFile> {
        let mut content = Vec::new();
        writer(&mut content).expect("memory takes any snapshot");
        scene.checks.snapshot_captured(hardware.place, group_place(group), meta, &content);
        let mut file = self.storage.snapshots.create(group, meta.clone()).ok()?;
        file.write_all(&content).ok().map(|()| file)
    }

    /// A snapshot is written: it becomes the current one, and then the replica learns of it.
    pub(super) fn snapshot_written(
        &mut self,
        hardware: &mut Hardware,
        (group, meta): (GroupId, SnapshotMeta),
        file: Option<WrittenFile>,
        scene: &mut Scene,
    ) {
        let finish = |file: WrittenFile| finish(hardware, scene, || file.finish());
        let written = match file.map(finish) {
            Some(Ok(_) | Err(SnapshotError::Superseded { .. })) => Some(meta),
            Some(Err(SnapshotError::Removed(_))) => return,
            Some(Err(_)) | None => None,
        };
        if let Some(meta) = &written {
            scene.checks.snapshot_durable(hardware.place, group_place(group), meta.last);
        }
        if hardware.snapshots.is_cut()
            || (written.is_some() && hardware.crashes(CrashPoint::SnapshotCurrent))
        {
            return;
        }
        self.post_to_group(group, GroupEvent::SnapshotWritten(written));
        self.schedule_turns(hardware, scene);
    }

    /// Sends the next piece of a snapshot, and comes back for the one behind it.
    pub(super) fn send_piece(
        &mut self,
        hardware: &Hardware,
        mut departing: Departing,
        scene: &mut Scene,
    ) {
        let Ok(chunk) = departing.next_piece(scene.plan.chunk_bytes) else {
            return assert!(hardware.snapshots.is_cut(), "an open snapshot can be read");
        };
        let Departing { group, to, total_bytes, offset, .. } = departing;
        let receiver = to.0 as usize - 1;
        let sent = scene.send_frame(hardware.place, receiver, chunk.to_frame(), true);
        if sent && offset < total_bytes {
            return scene.after(50, hardware.target(), Event::Chunk(departing));
        }
        let meta = sent.then_some(departing.meta);
        self.post_to_group(group, GroupEvent::SnapshotSent { to, meta });
        self.schedule_turns(hardware, scene);
    }

    /// Takes a piece. One that does not follow the last one spoils the snapshot.
    pub(super) fn piece_arrived(&mut self, from: NodeId, chunk: SnapshotChunk, scene: &Scene) {
        let SnapshotChunk { group, last, offset, total_bytes, data } = chunk;
        let Incoming { arrivals, origin } = &mut self.incoming;
        let now = *origin + Duration::from_micros(scene.now);
        arrivals.expire(now);
        let part = Part { group, from, last, offset, bytes: data.len() as u64 };
        if offset == 0
            && let Ok(receiver) = self.storage.snapshots.receive(group, last, total_bytes)
        {
            arrivals.begin(part, total_bytes, receiver, now);
        }
        let written = arrivals.next(part, now).is_ok_and(|it| it.write_all(&data).is_ok());
        if !written {
            arrivals.spoil(group, from, last);
        }
    }

    /// Hands a leader's offer to the replica if the snapshot is here whole.
    pub(super) fn offered(
        &mut self,
        hardware: &Hardware,
        from: NodeId,
        group: GroupId,
        message: Message,
        scene: &mut Scene,
    ) {
        let Payload::Snapshot { meta } = &message.payload else {
            unreachable!("only offers come here");
        };
        let last = meta.last;
        let arrived = self.incoming.arrivals.take(group, from, last);
        let finish = |receiver: SnapshotReceiver<_>| finish(hardware, scene, || receiver.finish());
        let whole = arrived.map(finish).is_some_and(|finished| finished.is_ok());
        if hardware.snapshots.is_cut() {
            return;
        }
        if !whole {
            let mut outgoing = Outgoing::new();
            outgoing.push_snapshot_refused(group, last);
            return scene.send(hardware.place, from, outgoing);
        }
        let (now, node, place) = (scene.now, hardware.id(), group_place(group));
        let text = format_args!("{node} received the snapshot of group {group} at {last}");
        scene.trace.note(now, &[place as u64, last.index.0], text);
        scene.checks.snapshot_received(hardware.place, place, last);
        self.hand_over_message(from, group, message);
    }
}

/// Makes a file durable, of which a sync may fail: that of its content or that of its name.
fn finish<T>(hardware: &Hardware, scene: &mut Scene, finish: impl FnOnce() -> T) -> T {
    if scene.may(Fault::SnapshotFailure) && scene.random.per_mille(50) {
        scene.count(Fault::SnapshotFailure);
        hardware.snapshots.fail_sync(Some(scene.random.between(1, 2)));
    }
    let finished = finish();
    hardware.snapshots.fail_sync(None);
    finished
}
