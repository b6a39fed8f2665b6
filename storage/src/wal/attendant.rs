//! The thread that makes segments ahead of need, takes old ones back, and reads those that the writer
//! is about to look at.

use super::disk::{Disk, SegmentFile};
use super::format::BLOCK_BYTES;
use super::store::Segment;
use super::supply::{Supply, is_full};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::io;
use std::thread::{self, JoinHandle};

/// The writer's end of the thread.
pub(super) struct Attendant<D: Disk> {
    orders: Sender<Order<D::File>>,
    made: Receiver<io::Result<Segment<D::File>>>,
    thread: JoinHandle<()>,
    /// Whether an order for a segment is not answered yet.
    ordered: bool,
    warmed: Receiver<u32>,
    /// The segment that is being read, or was last.
    warming: Option<u32>,
    /// The segment that was read last.
    warm: Option<u32>,
}

enum Order<F> {
    Prepare { id: u32, bytes: u64 },
    Recycle { segment: Segment<F>, in_use: usize },
    Warm(Segment<F>),
}

impl<D: Disk> Attendant<D> {
    pub(super) fn start(mut supply: Supply<D>) -> io::Result<Self> {
        let (orders, inbox) = unbounded();
        let (answers, made) = unbounded();
        let (readings, warmed) = unbounded();
        let thread = thread::Builder::new().name("wal-segments".to_owned()).spawn(move || {
            for order in inbox {
                match order {
                    Order::Prepare { id, bytes } => {
                        // The writer may be gone by now; then nobody needs the segment.
                        let _ = answers.send(supply.prepare(id, bytes));
                    }
                    Order::Recycle { segment, in_use } => recycle(&mut supply, segment, in_use),
                    Order::Warm(segment) => {
                        warm(&segment);
                        let _ = readings.send(segment.id);
                    }
                }
            }
        })?;
        Ok(Self { orders, made, thread, ordered: false, warmed, warming: None, warm: None })
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

    /// Whether a segment was just read into memory; if not, that is begun.
    pub(super) fn warm(&mut self, segment: Segment<D::File>) -> bool {
        let id = segment.id;
        self.warm = self.warmed.try_iter().last().or(self.warm);
        if self.warming.replace(id) != Some(id) {
            // A thread that ended leaves the reading to the caller.
            return self.orders.send(Order::Warm(segment)).is_err();
        }
        self.warm == Some(id)
    }

    /// Ready when a segment has been read into memory; for [`Self::warm`] to take from.
    pub(super) fn warmed(&self) -> &Receiver<u32> {
        &self.warmed
    }

    /// Whether a segment is being read.
    pub(super) fn is_warming(&self) -> bool {
        self.warming != self.warm
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
    if let Err(error) = segment.file.read_ahead() {
        tracing::warn!("segment {} could not be read ahead: {error}", segment.id);
    }
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
