//! The segment worker, a thread that does what would keep the writer waiting. It preallocates
//! segments, recycles old ones, and finds out which groups still need the oldest.

use super::pool::{SegmentPool, is_shortage};
use super::segment::Segment;
use super::store::{LiveGroups, Store};
use crate::wal::disk::{Disk, SegmentFile};
use crate::wal::format::segment_name;
use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use logboat_raft::GroupId;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// A segment is read into the page cache in pieces of this size.
const PAGE_IN_BYTES: u64 = 1 << 20;

/// The writer's end of the thread.
pub(crate) struct SegmentWorker<D: Disk> {
    orders: Sender<Order<D::File>>,
    made: Receiver<io::Result<Segment<D::File>>>,
    thread: JoinHandle<()>,
    /// Whether an order for a segment is not answered yet.
    ordered: bool,
    /// What was made of an order, until it is wanted.
    answer: Option<io::Result<Segment<D::File>>>,
    findings: Receiver<LiveGroups>,
    /// Whether a question for live groups is not answered yet.
    finding_live_groups: bool,
}

/// How it is about the segment that was ordered ahead.
pub(crate) enum Ahead<'a> {
    /// It is there.
    Made,
    /// It is being made.
    Awaited,
    /// It can't be made, or was not ordered, which is met when it is wanted.
    Failed,
    /// It can't be made for now.
    Short(&'a io::Error),
}

/// Names groups that should make a snapshot, or whose writes are refused from now on.
pub(crate) type Pressure = Box<dyn Fn(&[GroupId]) + Send>;

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
    FindLiveGroups(Segment<F>),
    /// These groups are refused.
    Name(Vec<GroupId>),
    /// Whose snapshots would help a log that begins with this segment?
    Press {
        oldest: u32,
        max_bytes: u64,
    },
}

impl<D: Disk> SegmentWorker<D> {
    /// Starts the thread, which calls `panicked` if it ends by a panic.
    pub(crate) fn start(
        mut pool: SegmentPool<D>,
        store: Arc<Store<D>>,
        pressure: Pressure,
        panicked: Box<dyn Fn() + Send>,
    ) -> io::Result<Self> {
        let (orders, inbox) = unbounded();
        let (answers, made) = unbounded();
        let (finder, findings) = unbounded();
        let thread = thread::Builder::new().name("wal-segments".to_owned()).spawn(move || {
            let work = AssertUnwindSafe(|| {
                for order in inbox {
                    match order {
                        Order::Prepare { id, bytes } => {
                            // The writer may be gone by now; then nobody needs the segment.
                            let _ = answers.send(pool.prepare(id, bytes));
                        }
                        Order::Recycle { segment, in_use } => recycle(&mut pool, segment, in_use),
                        Order::FindLiveGroups(segment) => {
                            page_in(&store, &segment);
                            let _ = finder.send(store.live_groups(segment.id));
                        }
                        Order::Name(groups) => pressure(&groups),
                        Order::Press { oldest, max_bytes } => {
                            let pressing = store.pressing(oldest, max_bytes);
                            if !pressing.is_empty() {
                                pressure(&pressing);
                            }
                        }
                    }
                }
            });
            if catch_unwind(work).is_err() {
                panicked();
            }
        })?;
        Ok(Self {
            orders,
            made,
            thread,
            ordered: false,
            answer: None,
            findings,
            finding_live_groups: false,
        })
    }

    /// Asks for a segment, which [`Self::obtain`] will want.
    pub(crate) fn order(&mut self, id: u32, bytes: u64) {
        self.answer = None;
        self.ordered = self.orders.send(Order::Prepare { id, bytes }).is_ok();
    }

    /// Waits until it is known how it is about the segment that was ordered.
    pub(crate) fn wait_ahead(&mut self) {
        if self.ordered {
            // A thread that ended answers no more, which is met when the segment is wanted.
            self.answer = self.made.recv().ok();
            self.ordered = false;
        }
    }

    /// How it is about the segment that was ordered; never waits.
    pub(crate) fn ahead(&mut self) -> Ahead<'_> {
        if self.ordered
            && let Ok(answer) = self.made.try_recv()
        {
            (self.ordered, self.answer) = (false, Some(answer));
        }
        match &self.answer {
            Some(Ok(_)) => Ahead::Made,
            Some(Err(error)) if is_shortage(error) => Ahead::Short(error),
            None if self.ordered => Ahead::Awaited,
            Some(Err(_)) | None => Ahead::Failed,
        }
    }

    /// Waits for a segment of at least `bytes` bytes; an error is that of an attempt made now.
    pub(crate) fn obtain(&mut self, id: u32, bytes: u64) -> io::Result<Segment<D::File>> {
        let mut ahead = self.ordered || self.answer.is_some();
        loop {
            if !ahead {
                self.order(id, bytes);
            }
            let made = match self.answer.take() {
                Some(made) => made,
                None => self.made.recv().map_err(io::Error::other)?,
            };
            self.ordered = false;
            match made {
                Ok(segment) if segment.id == id && segment.file.bytes() >= bytes => {
                    return Ok(segment);
                }
                Err(error) if !ahead || !is_shortage(&error) => {
                    return Err(error);
                }
                // What was ordered ahead is too small, or did not find the room that there may
                // be by now.
                Ok(_) | Err(_) => ahead = false,
            }
        }
    }

    /// Gives a segment back that a log of `in_use` others does not need.
    pub(crate) fn recycle(&self, segment: Segment<D::File>, in_use: usize) {
        // A thread that ended leaves the file to the next start.
        let _ = self.orders.send(Order::Recycle { segment, in_use });
    }

    /// Asks who needs a segment, once what was asked before is answered.
    pub(crate) fn find_live_groups(&mut self, segment: Segment<D::File>) {
        self.finding_live_groups = self.orders.send(Order::FindLiveGroups(segment)).is_ok();
    }

    /// Whether that was asked and [`Self::found_live_groups`] has not returned it.
    pub(crate) fn is_finding_live_groups(&self) -> bool {
        self.finding_live_groups
    }

    /// Who needs the segment that was asked about, when it is known.
    pub(crate) fn found_live_groups(&mut self) -> Option<LiveGroups> {
        let answer = self.findings.try_recv();
        // A thread that ended answers no more.
        self.finding_live_groups &= matches!(answer, Err(TryRecvError::Empty));
        answer.ok()
    }

    /// Ready when [`Self::found_live_groups`] has something.
    pub(crate) fn findings(&self) -> &Receiver<LiveGroups> {
        &self.findings
    }

    /// Has the groups named whose snapshots would help a log that begins with segment `oldest` and
    /// may have `max_bytes`.
    pub(crate) fn press(&self, oldest: u32, max_bytes: u64) {
        // A thread that ended makes no segments either, which is noticed soon.
        let _ = self.orders.send(Order::Press { oldest, max_bytes });
    }

    /// Has groups named whose writes are refused, and who may write nothing for long.
    pub(crate) fn name(&self, groups: Vec<GroupId>) {
        // A thread that ended has poisoned the log.
        let _ = self.orders.send(Order::Name(groups));
    }

    /// Waits for all orders to be carried out.
    pub(crate) fn stop(self) {
        drop(self.orders);
        if self.thread.join().is_err() {
            tracing::error!("the thread that makes segments panicked");
        }
    }
}

/// Reads a segment into the page cache. So the writer need not wait for the disk when it moves
/// entries out of the segment. A part that can't be read is noticed here, before anybody looks at
/// it through the mapping.
fn page_in<D: Disk>(store: &Store<D>, segment: &Segment<D::File>) {
    segment.file.read_ahead();
    let (name, end) = (segment_name(segment.id), segment.file.frozen());
    for start in (0..end).step_by(PAGE_IN_BYTES as usize) {
        let range = start..end.min(start + PAGE_IN_BYTES);
        if let Err(error) = store.disk.read(&name, range) {
            if is_shortage(&error.source) {
                // Then the writer waits for the disk.
                return;
            }
            tracing::error!("{}: {error}", store.disk.path(&name).display());
            return store.distrust();
        }
    }
}

/// A segment that can't be taken back does no harm: the next start takes care of the file.
fn recycle<D: Disk>(pool: &mut SegmentPool<D>, segment: Segment<D::File>, in_use: usize) {
    let id = segment.id;
    if let Err(error) = pool.recycle(segment, in_use) {
        tracing::warn!("segment {id} could not be recycled: {error}");
    }
}
