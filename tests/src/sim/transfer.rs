//! What a simulated process does as the snapshot thread: writes snapshots, streams them to peers in
//! pieces, and puts together those that arrive.

use super::host::{CrashPoint, Hardware};
use super::options::Fault;
use super::process::{Process, group_place};
use super::scene::{Event, Scene};
use bytes::Bytes;
use logboat::internals::{GroupEvent, SnapshotJob};
use logboat_raft::{GroupId, LogId, Message, NodeId, Payload};
use logboat_transport::{Outgoing, SnapshotChunk};

/// A peer's snapshot, while its pieces arrive and until it is offered.
pub(super) struct Arriving {
    from: NodeId,
    last: LogId,
    total_bytes: u64,
    content: Vec<u8>,
}

impl Process {
    pub(super) fn snapshot_job(
        &mut self,
        hardware: &Hardware,
        job: SnapshotJob,
        scene: &mut Scene,
    ) {
        match job {
            SnapshotJob::Write { group, slot: _, last, writer } => {
                let mut content = Vec::new();
                writer(&mut content).expect("memory takes any snapshot");
                let fails = scene.may(Fault::SnapshotFailure) && scene.random.per_mille(50);
                if fails {
                    scene.count(Fault::SnapshotFailure);
                }
                let content = (!fails).then(|| Bytes::from(content));
                let takes = scene.random.between(100, 4 * scene.plan.sync_us + 100);
                let event = Event::SnapshotWritten { group, last, content };
                scene.after(takes, hardware.target(), event);
            }
            SnapshotJob::Send { group, slot: _, to } => {
                let current = hardware.snapshots.lock().current(group);
                let (last, content) = current.expect("there is a snapshot where the log begins");
                let event = Event::Chunk { group, to, last, content, offset: 0 };
                scene.after(10, hardware.target(), event);
            }
            SnapshotJob::Chunk { .. }
            | SnapshotJob::Offer { .. }
            | SnapshotJob::Refused { .. }
            | SnapshotJob::Closed { .. }
            | SnapshotJob::Stop => unreachable!("a turn asks for none of these"),
        }
    }

    /// A snapshot is written: it becomes the current one, and then the replica learns of it.
    pub(super) fn snapshot_written(
        &mut self,
        hardware: &mut Hardware,
        (group, last): (GroupId, LogId),
        content: Option<Bytes>,
        scene: &mut Scene,
    ) {
        let written = content.map(|content| {
            hardware.snapshots.lock().make_current(group, last, content);
            scene.checks.snapshot_durable(hardware.place, group_place(group), last);
            last
        });
        if written.is_some() && hardware.crashes(CrashPoint::SnapshotCurrent) {
            return;
        }
        self.post_to_group(group, GroupEvent::SnapshotWritten(written));
        self.schedule_turn(hardware, scene);
    }

    /// Sends the piece of a snapshot at `offset`, and comes back for the next one.
    pub(super) fn send_piece(
        &mut self,
        hardware: &Hardware,
        (group, to): (GroupId, NodeId),
        (last, content): (LogId, Bytes),
        offset: usize,
        scene: &mut Scene,
    ) {
        let end = (offset + scene.plan.chunk_bytes).min(content.len());
        let chunk = SnapshotChunk {
            group,
            last,
            offset: offset as u64,
            total_bytes: content.len() as u64,
            data: content.slice(offset..end),
        };
        let receiver = to.0 as usize - 1;
        let sent = scene.send_frame(hardware.place, receiver, chunk.to_frame(), true);
        if sent && end < content.len() {
            let event = Event::Chunk { group, to, last, content, offset: end };
            return scene.after(50, hardware.target(), event);
        }
        let last = sent.then_some(last);
        self.post_to_group(group, GroupEvent::SnapshotSent { to, last });
        self.schedule_turn(hardware, scene);
    }

    /// Takes a piece. One that does not follow the last one spoils the snapshot.
    pub(super) fn piece_arrived(&mut self, from: NodeId, chunk: SnapshotChunk) {
        let SnapshotChunk { group, last, offset, total_bytes, data } = chunk;
        if offset == 0 {
            let arriving = Arriving { from, last, total_bytes, content: Vec::new() };
            self.arriving.insert(group, arriving);
        }
        let Some(arriving) = self.arriving.get_mut(&group) else {
            return;
        };
        if (arriving.from, arriving.last, arriving.content.len() as u64) == (from, last, offset) {
            arriving.content.extend_from_slice(&data);
        } else {
            self.arriving.remove(&group);
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
        let Payload::Snapshot { last } = message.payload else {
            unreachable!("only offers come here");
        };
        let arrived = self.arriving.remove(&group).filter(|arriving| {
            (arriving.from, arriving.last) == (from, last)
                && arriving.content.len() as u64 == arriving.total_bytes
        });
        let Some(arriving) = arrived else {
            let mut outgoing = Outgoing::new();
            outgoing.push_snapshot_refused(group, last);
            return scene.send(hardware.place, from, outgoing);
        };
        let (now, node, place) = (scene.now, hardware.id(), group_place(group));
        let text = format_args!("{node} received the snapshot of group {group} at {last}");
        scene.trace.note(now, &[place as u64, last.index.0], text);
        hardware.snapshots.lock().receive(group, last, arriving.content.into());
        self.post_to_group(group, GroupEvent::Message { from, message });
    }
}
