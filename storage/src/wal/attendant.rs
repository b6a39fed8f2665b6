//! The thread that makes segments ahead of need and takes old ones back.

use super::disk::{Disk, SegmentFile};
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
}

enum Order<F> {
    Prepare { id: u32, bytes: u64 },
    Recycle { segment: Segment<F>, in_use: usize },
}

impl<D: Disk> Attendant<D> {
    pub(super) fn start(mut supply: Supply<D>) -> io::Result<Self> {
        let (orders, inbox) = unbounded();
        let (answers, made) = unbounded();
        let thread = thread::Builder::new().name("wal-segments".to_owned()).spawn(move || {
            for order in inbox {
                match order {
                    Order::Prepare { id, bytes } => {
                        // The writer may be gone by now; then nobody needs the segment.
                        let _ = answers.send(supply.prepare(id, bytes));
                    }
                    Order::Recycle { segment, in_use } => recycle(&mut supply, segment, in_use),
                }
            }
        })?;
        Ok(Self { orders, made, thread, ordered: false })
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

    /// Waits for all orders to be carried out.
    pub(super) fn stop(self) {
        drop(self.orders);
        if self.thread.join().is_err() {
            tracing::error!("the thread that makes segments panicked");
        }
    }
}

/// A segment that can't be taken back does no harm: the next start takes care of the file.
fn recycle<D: Disk>(supply: &mut Supply<D>, segment: Segment<D::File>, in_use: usize) {
    let id = segment.id;
    if let Err(error) = supply.recycle(segment, in_use) {
        tracing::warn!("segment {id} could not be recycled: {error}");
    }
}
