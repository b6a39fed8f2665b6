//! The snapshot thread: sends and receives snapshots beside the live traffic, and has them written.

use crate::admission::Permit;
use crate::background::arrivals::{Arrivals, Part};
use crate::background::departures::{Departure, Departures, IsRefused};
use crate::background::finishers::Finishers;
use crate::background::guard::Guard;
use crate::background::lazy_snapshot::LazySnapshot;
use crate::background::pace::Copying;
use crate::background::removals::Removals;
use crate::background::taken_parts::TakenParts;
use crate::background::writers::SnapshotWriters;
use crate::metrics::EngineMetrics;
use crate::replica::event::{GroupEvent, SnapshotOffer};
use crate::turn::jobs::{PartPlace, SnapshotJob};
use crate::worker::event::Event;
use crate::worker::inbox::Workers;
use crossbeam_channel::{Receiver, Sender, select, unbounded};
use logboat_raft::{GroupId, LogId, Message, NodeId};
use logboat_storage::{OpenSnapshot, SnapshotReceiver, SnapshotStore};
use logboat_transport::{Outgoing, SnapshotChunk, SnapshotSource, Transport};
use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a thread that has nothing else to do looks for snapshots that came to a halt.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);

const NO_MEMORY: &str = "there is no memory for it";
const NO_REPLICA: &str = "no replica here has a use for it";

/// Why a snapshot was not received; it is only ever printed.
type SnapshotFailure = Box<dyn std::error::Error + Send + Sync>;

/// A group whose snapshot has left for a node, and which of its streams it was.
type Sent = (GroupId, NodeId, IsRefused);

/// The state of the snapshot thread.
pub(crate) struct SnapshotThread {
    store: SnapshotStore,
    writers: SnapshotWriters,
    transport: Arc<dyn Transport>,
    workers: Workers,
    metrics: Arc<EngineMetrics>,
    guard: Guard,
    arrivals: Arrivals<SnapshotReceiver>,
    taken: TakenParts,
    /// The snapshot of each peer that was refused last: of what is left of it nothing is said.
    refused: HashMap<NodeId, (GroupId, LogId)>,
    finishers: Finishers,
    /// The parts that arrive.
    arriving: Copying,
    /// What peers sent that waits until the finishers have room.
    held: VecDeque<SnapshotJob>,
    departures: Departures,
    removals: Removals,
    /// Which snapshots have left, or failed to.
    left: (Sender<Sent>, Receiver<Sent>),
}

impl SnapshotThread {
    pub(crate) fn new(
        writers: SnapshotWriters,
        transport: Arc<dyn Transport>,
        taken: TakenParts,
        workers: Workers,
        guard: &Guard,
    ) -> Self {
        Self {
            store: writers.store.clone(),
            metrics: Arc::clone(&writers.metrics),
            arriving: Copying::counted(&writers.paces.arriving),
            writers,
            transport,
            workers,
            guard: guard.clone(),
            arrivals: Arrivals::default(),
            taken,
            refused: HashMap::new(),
            finishers: Finishers::new(guard.clone()),
            held: VecDeque::new(),
            departures: Departures::default(),
            removals: Removals::default(),
            left: unbounded(),
        }
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(self, jobs: Receiver<SnapshotJob>) -> io::Result<JoinHandle<()>> {
        let thread = thread::Builder::new().name("logboat-snapshot".to_owned());
        let guard = self.guard.clone();
        thread.spawn(move || guard.run("the snapshot thread", || self.run(&jobs)).unwrap_or(()))
    }

    /// Does what is asked until the node stops.
    fn run(mut self, jobs: &Receiver<SnapshotJob>) {
        let (left, finished) = (self.left.1.clone(), self.finishers.ended());
        loop {
            let now = Instant::now();
            while let Some(departure) = self.departures.next(now) {
                self.send(departure);
            }
            self.removals.retry(&self.store, now);
            // What came while the thread stood still, or waits, counts as here.
            if jobs.is_empty() && self.held.is_empty() {
                self.arrivals.expire(now);
            }
            let due = self.departures.next_due().into_iter().chain(self.removals.next_retry());
            let due = due.min().map(|due| due.saturating_duration_since(now));
            select! {
                recv(jobs) -> job => match job {
                    Ok(SnapshotJob::Stop) | Err(_) => return self.finishers.end(),
                    Ok(job) => self.take(job),
                },
                recv(finished) -> _ => self.go_on(),
                recv(left) -> left => if let Ok((group, to, stream)) = left {
                    self.departures.left(group, to, &stream, Instant::now());
                },
                default(due.unwrap_or(EXPIRY_INTERVAL).min(EXPIRY_INTERVAL)) => {}
            }
        }
    }

    /// Does what is asked, or has it wait: while no more snapshots can be checked, none arrive, and
    /// their senders come to a halt. If the disk is slower than the network, those that are whole
    /// would pile up otherwise, each with its file.
    fn take(&mut self, job: SnapshotJob) {
        if job.follows_arrivals() && (self.finishers.is_full() || !self.held.is_empty()) {
            self.held.push_back(job);
        } else {
            self.work(job);
        }
    }

    /// A snapshot has been checked, so others may be.
    fn go_on(&mut self) {
        while !self.finishers.is_full()
            && let Some(job) = self.held.pop_front()
        {
            self.work(job);
        }
    }

    fn work(&mut self, job: SnapshotJob) {
        match job {
            SnapshotJob::Write { group, slot, meta, writer } => {
                self.writers.write(group, slot, meta, writer);
            }
            SnapshotJob::Send { group, slot, to } => {
                self.departures.add(Departure { group, slot, to });
            }
            SnapshotJob::Refused { from, group, last, permit: _permit } => {
                self.refused(from, group, last);
            }
            SnapshotJob::Chunk { from, chunk, permit } => {
                self.arriving.begin();
                self.chunk(from, &chunk);
                let (part, bytes) = (PartPlace::of(&chunk), chunk.data.len());
                drop((chunk, permit));
                self.taken.taken(from, part);
                // What else has arrived waits, and so do its senders.
                self.arriving.moved(bytes, true);
            }
            SnapshotJob::Dropped { from, part, is_first, is_missed, permit: _permit } => {
                if is_first {
                    self.refused.remove(&from);
                }
                let why = if is_missed { NO_MEMORY } else { NO_REPLICA };
                self.spoiled(from, part.group, part.last, &why);
                self.taken.taken(from, part);
            }
            SnapshotJob::Offer { from, group, message, permit } => {
                self.offer(from, group, message, permit);
            }
            SnapshotJob::Remove { group, buried } => {
                self.arrivals.forget(group);
                self.removals.remove(&self.store, group, buried);
            }
            SnapshotJob::AwaitRemoval { group, buried } => {
                self.removals.when_removed(group, buried);
            }
            SnapshotJob::Connected { peer } => self.taken.connected(peer),
            SnapshotJob::Closed { peer } => {
                self.arrivals.closed(peer);
                self.taken.closed(peer);
                self.refused.remove(&peer);
            }
            SnapshotJob::Stop => {}
        }
    }

    fn send(&mut self, departure: Departure) {
        let Departure { group, slot, to } = departure;
        // The thread itself holds the other end.
        let left = self.left.0.clone();
        let worker = Arc::clone(self.workers.of(group));
        let OpenSnapshot { meta, bytes, .. } = match self.store.file(group) {
            Ok(Some(file)) => file,
            missing => {
                let reason = missing.map_or_else(|error| error.to_string(), |_| "none".to_owned());
                tracing::error!(group = group.0, "no snapshot to send: {reason}");
                let event = GroupEvent::SnapshotSent { to, meta: None };
                let _ = left.send((group, to, IsRefused::default()));
                return worker.post(Event::Local(slot, event));
            }
        };
        let is_refused = self.departures.begun(group, to, meta.last);
        let stream = Arc::clone(&is_refused);
        let sent = self.metrics.snapshots_sent.clone();
        let source = SnapshotSource {
            group,
            last: meta.last,
            total_bytes: bytes,
            reader: Box::new(LazySnapshot::new(
                self.store.clone(),
                group,
                meta.last,
                is_refused,
                &self.writers.paces.leaving,
            )),
            done: Box::new(move |result| {
                sent.inc_by(u64::from(result.is_ok()));
                let meta = result.is_ok().then_some(meta);
                // The replica has heard of a refusal, and may have asked for another by now.
                if !stream.load(Ordering::Relaxed) {
                    worker.post(Event::Local(slot, GroupEvent::SnapshotSent { to, meta }));
                }
                let _ = left.send((group, to, stream));
            }),
        };
        self.transport.send_snapshot(to, source);
    }

    /// What the replica wants to have sent next has to wait. A refusal of another snapshot than was
    /// sent last is late, or made up.
    fn refused(&mut self, from: NodeId, group: GroupId, last: LogId) {
        if self.departures.refused(group, from, last, Instant::now()) {
            let event = GroupEvent::SnapshotSent { to: from, meta: None };
            self.workers.of(group).post(Event::Group(group, event));
        }
    }

    /// Writes a part to the file. One that does not follow the last one spoils the snapshot.
    fn chunk(&mut self, from: NodeId, chunk: &SnapshotChunk) {
        if let Err(error) = self.try_chunk(from, chunk) {
            self.spoiled(from, chunk.group, chunk.last, &error);
        }
    }

    /// What is left of a snapshot is of no use: the sender need not go on.
    /// Of what it had sent before it hears that, it is told nothing more.
    fn spoiled(&mut self, from: NodeId, group: GroupId, last: LogId, why: &dyn Display) {
        self.arrivals.spoil(group, from, last);
        if self.refused.insert(from, (group, last)) != Some((group, last)) {
            refuse(&*self.transport, from, (group, last), why);
        }
    }

    fn try_chunk(&mut self, from: NodeId, chunk: &SnapshotChunk) -> Result<(), SnapshotFailure> {
        let now = Instant::now();
        let part = Part {
            group: chunk.group,
            from,
            last: chunk.last,
            offset: chunk.offset,
            bytes: chunk.data.len() as u64,
        };
        if chunk.offset == 0 {
            self.refused.remove(&from);
            let receiver = self.store.receive(chunk.group, chunk.last, chunk.total_bytes)?;
            self.arrivals.begin(part, chunk.total_bytes, receiver, now);
        }
        self.arrivals.next(part, now)?.write_all(&chunk.data)?;
        Ok(())
    }

    /// Hands the leader's offer to the replica if the snapshot is whole, when it is found to be
    /// what was sent and is durable here. If not, the replica may say again that it lacks it.
    fn offer(&mut self, from: NodeId, group: GroupId, message: Message, permit: Permit) {
        let Some(offer) = SnapshotOffer::of(from, &message) else {
            return;
        };
        let (transport, worker) = (Arc::clone(&self.transport), Arc::clone(self.workers.of(group)));
        let refuse = move |why: &dyn Display| {
            refuse(&*transport, from, (group, offer.last), why);
            Event::Group(group, GroupEvent::SnapshotChecked { offer, is_over: true })
        };
        let Some(receiver) = self.arrivals.take(group, from, offer.last) else {
            return worker.post(refuse(&"it has not arrived whole"));
        };
        let mut checking = Copying::uncounted(&self.writers.paces.arriving);
        self.finishers.submit(move || {
            checking.begin();
            let finished = receiver.finish_at(|bytes| checking.moved(bytes, false));
            drop(permit);
            worker.post(match finished {
                Ok(_) => Event::Messages { from, messages: vec![(group, message)] },
                Err(error) => refuse(&error),
            });
        });
    }
}

/// Tells the sender of a snapshot that it is of no use.
fn refuse(
    transport: &dyn Transport,
    from: NodeId,
    (group, last): (GroupId, LogId),
    why: &dyn Display,
) {
    tracing::warn!(group = group.0, "the snapshot of node {from} is refused: {why}");
    let mut outgoing = Outgoing::new();
    outgoing.push_snapshot_refused(group, last);
    // Unreachable means that the leader finds out by itself.
    let _ = transport.send(from, outgoing);
}

#[cfg(test)]
mod tests;
