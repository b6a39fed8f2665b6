//! The snapshot thread: writes, sends and receives snapshots beside the live traffic.

use crate::metrics::EngineMetrics;
use crate::replica::event::GroupEvent;
use crate::state_machine::SnapshotWriter;
use crate::turn::jobs::SnapshotJob;
use crate::turn::slot::Slot;
use crate::worker::event::Event;
use crate::worker::inbox::Workers;
use crossbeam_channel::Receiver;
use logboat_raft::{GroupId, LogId, Message, NodeId, Payload};
use logboat_storage::{SnapshotError, SnapshotReceiver, SnapshotStore};
use logboat_transport::{Outgoing, SnapshotChunk, SnapshotSource, Transport};
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Why a snapshot was not written or received; it is only ever printed.
type SnapshotFailure = Box<dyn std::error::Error + Send + Sync>;

/// The state of the snapshot thread.
pub(crate) struct SnapshotThread {
    store: SnapshotStore,
    transport: Arc<dyn Transport>,
    workers: Workers,
    metrics: Arc<EngineMetrics>,
    arriving: HashMap<GroupId, Arriving>,
}

/// A peer's snapshot, while its parts arrive and until it is offered.
struct Arriving {
    from: NodeId,
    last: LogId,
    offset: u64,
    total_bytes: u64,
    receiver: SnapshotReceiver,
}

impl SnapshotThread {
    pub(crate) fn new(
        store: SnapshotStore,
        transport: Arc<dyn Transport>,
        workers: Workers,
        metrics: Arc<EngineMetrics>,
    ) -> Self {
        Self { store, transport, workers, metrics, arriving: HashMap::new() }
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(self, jobs: Receiver<SnapshotJob>) -> io::Result<JoinHandle<()>> {
        let thread = thread::Builder::new().name("logboat-snapshot".to_owned());
        thread.spawn(move || self.run(&jobs))
    }

    /// Does what is asked until the node stops.
    fn run(mut self, jobs: &Receiver<SnapshotJob>) {
        for job in jobs {
            match job {
                SnapshotJob::Write { group, slot, last, writer } => {
                    self.write(group, slot, last, writer);
                }
                SnapshotJob::Send { group, slot, to } => self.send(group, slot, to),
                SnapshotJob::Chunk { from, chunk } => self.chunk(from, &chunk),
                SnapshotJob::Offer { from, group, message } => self.offer(from, group, message),
                SnapshotJob::Stop => return,
            }
        }
    }

    fn write(&self, group: GroupId, slot: Slot, last: LogId, writer: SnapshotWriter) {
        let written = match self.try_write(group, last, writer) {
            Ok(()) => {
                self.metrics.snapshots_written.inc();
                Some(last)
            }
            Err(error) => {
                tracing::error!(group = group.0, "writing a snapshot: {error}");
                None
            }
        };
        self.workers.of(group).post(Event::Local(slot, GroupEvent::SnapshotWritten(written)));
    }

    /// A leader's snapshot that covers as much has arrived meanwhile, or this one is durable.
    fn try_write(
        &self,
        group: GroupId,
        last: LogId,
        writer: SnapshotWriter,
    ) -> Result<(), SnapshotFailure> {
        let mut file = self.store.create(group, last)?;
        writer(&mut file)?;
        match file.finish() {
            Ok(_) | Err(SnapshotError::Superseded { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn send(&self, group: GroupId, slot: Slot, to: NodeId) {
        let worker = Arc::clone(self.workers.of(group));
        let (info, file) = match self.store.file(group) {
            Ok(Some(found)) => found,
            missing => {
                let reason = missing.map_or_else(|error| error.to_string(), |_| "none".to_owned());
                tracing::error!(group = group.0, "no snapshot to send: {reason}");
                let event = GroupEvent::SnapshotSent { to, last: None };
                return worker.post(Event::Local(slot, event));
            }
        };
        let sent = self.metrics.snapshots_sent.clone();
        let source = SnapshotSource {
            group,
            last: info.last,
            total_bytes: info.bytes,
            reader: Box::new(io::BufReader::new(file)),
            done: Box::new(move |result| {
                sent.inc_by(u64::from(result.is_ok()));
                let last = result.is_ok().then_some(info.last);
                worker.post(Event::Local(slot, GroupEvent::SnapshotSent { to, last }));
            }),
        };
        self.transport.send_snapshot(to, source);
    }

    /// Writes a part to the file. One that does not follow the last one spoils the snapshot, which
    /// is refused when it is offered.
    fn chunk(&mut self, from: NodeId, chunk: &SnapshotChunk) {
        if let Err(error) = self.try_chunk(from, chunk) {
            tracing::warn!(group = chunk.group.0, "receiving a snapshot of node {from}: {error}");
            self.arriving.remove(&chunk.group);
        }
    }

    fn try_chunk(&mut self, from: NodeId, chunk: &SnapshotChunk) -> Result<(), SnapshotFailure> {
        if chunk.offset == 0 {
            let receiver = self.store.receive(chunk.group, chunk.last, chunk.total_bytes)?;
            let arriving = Arriving {
                from,
                last: chunk.last,
                offset: 0,
                total_bytes: chunk.total_bytes,
                receiver,
            };
            self.arriving.insert(chunk.group, arriving);
        }
        let Some(arriving) = self.arriving.get_mut(&chunk.group) else {
            return Ok(());
        };
        let expected = (arriving.from, arriving.last, arriving.offset);
        if expected != (from, chunk.last, chunk.offset) {
            return Err("its parts don't follow each other".into());
        }
        arriving.receiver.write_all(&chunk.data)?;
        arriving.offset += chunk.data.len() as u64;
        Ok(())
    }

    /// Hands the leader's offer to the replica if the snapshot is whole and durable here.
    fn offer(&mut self, from: NodeId, group: GroupId, message: Message) {
        let Payload::Snapshot { last } = message.payload else {
            return;
        };
        let arrived = self.arriving.remove(&group).filter(|arriving| {
            (arriving.from, arriving.last) == (from, last)
                && arriving.offset == arriving.total_bytes
        });
        let finished = match arrived {
            Some(arriving) => arriving.receiver.finish().map(drop).map_err(SnapshotFailure::from),
            None => Err("it has not arrived whole".into()),
        };
        if let Err(error) = finished {
            tracing::warn!(group = group.0, "the snapshot of node {from} is refused: {error}");
            let mut outgoing = Outgoing::new();
            outgoing.push_snapshot_refused(group, last);
            // Unreachable means that the leader finds out by itself.
            let _ = self.transport.send(from, outgoing);
            return;
        }
        let messages = vec![(group, message)];
        self.workers.of(group).post(Event::Messages { from, messages });
    }
}
