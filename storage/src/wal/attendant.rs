//! The thread that does what would keep the writer from writing: makes segments ahead of need, takes old
//! ones back, and finds out who needs the oldest.

use super::disk::{Disk, SegmentFile};
use super::format::BLOCK_BYTES;
use super::gc::Collection;
use super::store::{Segment, Store};
use super::supply::{Supply, is_full};
use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use logboat_raft::GroupId;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// The writer's end of the thread.
pub(super) struct Attendant<D: Disk> {
    orders: Sender<Order<D::File>>,
    made: Receiver<io::Result<Segment<D::File>>>,
    thread: JoinHandle<()>,
    /// Whether an order for a segment is not answered yet.
    ordered: bool,
    surveys: Receiver<Collection>,
    /// Whether an order for a survey is not answered yet.
    surveying: bool,
}

/// Names groups that should make a snapshot.
pub(super) type Pressure = Box<dyn Fn(&[GroupId]) + Send>;

enum Order<F> {
    Prepare {
        id: u32,
        bytes: u64,
    },
    Recycle {
        segment: Segment<F>,
        in_use: usize,
    },
    /// Who needs a segment? It is in memory when that is answered.
    Survey(Segment<F>),
    /// Whose snapshots would help a log that begins with this segment?
    Press {
        oldest: u32,
        max_bytes: u64,
    },
}

impl<D: Disk> Attendant<D> {
    pub(super) fn start(
        mut supply: Supply<D>,
        store: Arc<Store<D>>,
        pressure: Pressure,
    ) -> io::Result<Self> {
        let (orders, inbox) = unbounded();
        let (answers, made) = unbounded();
        let (findings, surveys) = unbounded();
        let thread = thread::Builder::new().name("wal-segments".to_owned()).spawn(move || {
            for order in inbox {
                match order {
                    Order::Prepare { id, bytes } => {
                        // The writer may be gone by now; then nobody needs the segment.
                        let _ = answers.send(supply.prepare(id, bytes));
                    }
                    Order::Recycle { segment, in_use } => recycle(&mut supply, segment, in_use),
                    Order::Survey(segment) => {
                        warm(&segment);
                        let _ = findings.send(store.survey(segment.id));
                    }
                    Order::Press { oldest, max_bytes } => {
                        let pressing = store.pressing(oldest, max_bytes);
                        if !pressing.is_empty() {
                            pressure(&pressing);
                        }
                    }
                }
            }
        })?;
        Ok(Self { orders, made, thread, ordered: false, surveys, surveying: false })
    }

    /// Asks for a segment, which [`Self::obtain`] will want.
    pub(super) fn order(&mut self, id: u32, bytes: u64) {
        self.ordered = self.orders.send(Order::Prepare { id, bytes }).is_ok();
    }

    /// Waits for a segment of at least `bytes` bytes; an error is that of an attempt made now.
    pub(super) fn obtain(&mut self, id: u32, bytes: u64) -> io::Result<Segment<D::File>> {
        let mut ahead = self.ordered;
        loop {
            if !ahead {
                self.order(id, bytes);
            }
            self.ordered = false;
            let made = self.made.recv().map_err(io::Error::other)?;
            match made {
                Ok(segment) if segment.id == id && segment.file.bytes() >= bytes => {
                    return Ok(segment);
                }
                Err(error) if !ahead || !is_full(&error) => {
                    return Err(error);
                }
                // What was ordered ahead is too small, or did not find the room that there may
                // be by now.
                Ok(_) | Err(_) => ahead = false,
            }
        }
    }

    /// Gives a segment back that a log of `in_use` others does not need.
    pub(super) fn recycle(&self, segment: Segment<D::File>, in_use: usize) {
        // A thread that ended leaves the file to the next start.
        let _ = self.orders.send(Order::Recycle { segment, in_use });
    }

    /// Asks who needs a segment, once what was asked before is answered.
    pub(super) fn survey(&mut self, segment: Segment<D::File>) {
        self.surveying = self.orders.send(Order::Survey(segment)).is_ok();
    }

    /// Whether that was asked and [`Self::surveyed`] has not returned it.
    pub(super) fn is_surveying(&self) -> bool {
        self.surveying
    }

    /// Who needs the segment that was asked about, when it is known.
    pub(super) fn surveyed(&mut self) -> Option<Collection> {
        let answer = self.surveys.try_recv();
        // A thread that ended answers no more.
        self.surveying &= matches!(answer, Err(TryRecvError::Empty));
        answer.ok()
    }

    /// Ready when [`Self::surveyed`] has something.
    pub(super) fn surveys(&self) -> &Receiver<Collection> {
        &self.surveys
    }

    /// Has the groups named whose snapshots would help a log that begins with segment `oldest` and may
    /// have `max_bytes`.
    pub(super) fn press(&self, oldest: u32, max_bytes: u64) {
        // A thread that ended makes no segments either, which is noticed soon.
        let _ = self.orders.send(Order::Press { oldest, max_bytes });
    }

    /// Waits for all orders to be carried out.
    pub(super) fn stop(self) {
        drop(self.orders);
        if self.thread.join().is_err() {
            tracing::error!("the thread that makes segments panicked");
        }
    }
}

/// Reads a segment into memory, so that who looks at it soon need not wait for the disk.
fn warm<F: SegmentFile>(segment: &Segment<F>) {
    segment.file.read_ahead();
    for block in segment.file.view(0..segment.file.frozen()).chunks(BLOCK_BYTES as usize) {
        std::hint::black_box(block[0]);
    }
}

/// A segment that can't be taken back does no harm: the next start takes care of the file.
fn recycle<D: Disk>(supply: &mut Supply<D>, segment: Segment<D::File>, in_use: usize) {
    let id = segment.id;
    if let Err(error) = supply.recycle(segment, in_use) {
        tracing::warn!("segment {id} could not be recycled: {error}");
    }
}
