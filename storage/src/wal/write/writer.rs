//! The thread that writes: takes what was submitted, writes it as one batch, has it synced.

use super::log::{Log, Written};
use super::shared::{Pending, Shared};
use super::sync_queue::SyncQueue;
use crate::wal::batch::{Batch, Completion};
use crate::wal::disk::Disk;
use crate::wal::error::WriteError;
use crate::wal::format::appended;
use crate::wal::segments::{Ahead, Segment, SegmentWorker, is_shortage};
use crossbeam_channel::{Receiver, RecvTimeoutError, Select, TryRecvError};
use logboat_raft::{Entry, Grant, GroupId, NodeId, Persist};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The most bytes of submissions that are written as one batch.
const MAX_BATCH_BYTES: u64 = 1 << 20;
/// The most bytes that garbage collection moves between two batches.
const COLLECT_BYTES: u64 = 256 << 10;
/// The wait between two attempts to write on a full disk.
const RETRY: Duration = Duration::from_millis(100);
/// How often groups are pressed for snapshots while the next segment can't be made.
const PRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Writes of one caller, on the way to the log.
pub(crate) struct Submission {
    pub(crate) grants: Vec<(NodeId, Grant)>,
    pub(crate) writes: Vec<(GroupId, Persist)>,
    pub(crate) completion: Completion,
    /// What it takes in memory, about.
    pub(crate) bytes: usize,
}

/// The state of the thread.
pub(crate) struct Writer<D: Disk> {
    log: Log<D>,
    inbox: Receiver<Submission>,
    sync_queue: Arc<SyncQueue<D>>,
    segment_worker: SegmentWorker<D>,
    shared: Arc<Shared<D>>,
    /// Whether to look for garbage: after a change of segments, and in idle moments.
    collect: bool,
    /// When the segment that can't be made is asked for again, and groups are pressed again.
    retry_at: Instant,
    press_at: Instant,
}

enum Event {
    Submitted(Submission),
    Idle,
    /// It is time to ask for the next segment again.
    Retry,
    /// It is known who needs the segment that is to be collected.
    FoundLiveGroups,
    Closed,
}

impl<D: Disk> Writer<D> {
    pub(crate) fn new(
        log: Log<D>,
        inbox: Receiver<Submission>,
        sync_queue: Arc<SyncQueue<D>>,
        segment_worker: SegmentWorker<D>,
        shared: Arc<Shared<D>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            log,
            inbox,
            sync_queue,
            segment_worker,
            shared,
            collect: true,
            retry_at: now,
            press_at: now,
        }
    }

    /// Works until the inbox is closed and empty. After a panic the log is poisoned, and whoever
    /// submits something is told so.
    pub(crate) fn run_guarded(self) {
        let (inbox, sync_queue) = (self.inbox.clone(), Arc::clone(&self.sync_queue));
        let shared = Arc::clone(&self.shared);
        if catch_unwind(AssertUnwindSafe(|| self.run())).is_ok() {
            return;
        }
        shared.poison("the thread that writes panicked");
        for submission in inbox {
            let result = shared.poisoned().map_or(Ok(()), Err);
            shared.complete(submission.into_pending(), result);
        }
        sync_queue.close();
    }

    /// Works until the inbox is closed and empty.
    fn run(mut self) {
        self.order_ahead();
        loop {
            match self.next() {
                Event::Submitted(first) => {
                    // Whoever is about to submit something goes first, so that batches grow when
                    // the processor is short.
                    thread::yield_now();
                    let submissions = self.drain(first);
                    self.write(submissions);
                }
                Event::Idle => self.record_mark(),
                Event::Retry => self.relieve(),
                Event::FoundLiveGroups => {}
                Event::Closed => break,
            }
            self.look_ahead();
            self.maintain();
        }
        self.finish();
    }

    fn next(&self) -> Event {
        let active = self.shared.poisoned().is_none();
        if active && self.segment_worker.is_finding_live_groups() {
            return self.next_or_finding();
        }
        let wait = if active && self.log.is_collecting() {
            Duration::ZERO
        } else if active && self.shared.stalled() {
            RETRY
        } else if active && self.log.wants_mark() {
            self.log.options.mark_delay
        } else {
            return self.inbox.recv().map_or(Event::Closed, Event::Submitted);
        };
        match self.inbox.recv_timeout(wait) {
            Ok(submission) => Event::Submitted(submission),
            Err(RecvTimeoutError::Timeout) if self.shared.stalled() => Event::Retry,
            Err(RecvTimeoutError::Timeout) => Event::Idle,
            Err(RecvTimeoutError::Disconnected) => Event::Closed,
        }
    }

    fn next_or_finding(&self) -> Event {
        let mut select = Select::new();
        select.recv(&self.inbox);
        select.recv(self.segment_worker.findings());
        select.ready();
        match self.inbox.try_recv() {
            Ok(submission) => Event::Submitted(submission),
            Err(TryRecvError::Empty) => Event::FoundLiveGroups,
            Err(TryRecvError::Disconnected) => Event::Closed,
        }
    }

    /// Takes what else was submitted, up to the size of a batch.
    fn drain(&self, first: Submission) -> Vec<Submission> {
        let most = MAX_BATCH_BYTES.min(self.log.options.segment_bytes / 4) as usize;
        let mut bytes = first.bytes;
        let mut submissions = vec![first];
        while bytes < most
            && let Ok(submission) = self.inbox.try_recv()
        {
            bytes += submission.bytes;
            submissions.push(submission);
        }
        submissions
    }

    fn write(&mut self, submissions: Vec<Submission>) {
        let written = self.with_room(|log| {
            log.write(
                submissions.iter().flat_map(|submission| &submission.grants),
                submissions.iter().flat_map(|submission| &submission.writes),
            )
        });
        if let Some(written) = written {
            self.shared.metrics.batches.inc();
            self.shared.wrote(written);
        }
        let pending = submissions.into_iter().map(Submission::into_pending);
        self.dispatch(pending.collect());
    }

    /// Writes to the log, in a new segment if need be. `None` when the log is poisoned, perhaps
    /// by this.
    fn with_room<T>(
        &mut self,
        mut write: impl FnMut(&mut Log<D>) -> Result<T, WriteError>,
    ) -> Option<T> {
        while self.shared.poisoned().is_none() {
            match write(&mut self.log) {
                Ok(written) => return Some(written),
                Err(WriteError::Full { bytes }) => self.extend(bytes),
                Err(error) => self.shared.poison(&format!("a write failed: {error}")),
            }
        }
        None
    }

    /// Has what was written synced. When nothing else waits, this thread syncs, since waking
    /// another thread takes longer than many a sync. Otherwise the sync queue does.
    fn dispatch(&mut self, pending: Vec<Pending>) {
        match self.log.unsynced() {
            Some(unsynced) if !self.inbox.is_empty() || !self.sync_queue.is_idle() => {
                self.sync_queue.hand(unsynced, pending);
            }
            Some(unsynced) => {
                self.shared.sync(&unsynced, pending);
            }
            None => {
                let result = self.shared.poisoned().map_or(Ok(()), Err);
                for pending in pending {
                    self.shared.complete(pending, result.clone());
                }
            }
        }
    }

    /// Waits for all syncs under way, and makes the one that is due.
    fn settle(&mut self) {
        self.sync_queue.wait_idle();
        self.dispatch(Vec::new());
        self.sync_queue.wait_idle();
    }

    /// Records that everything is durable, so that recovery knows it of the last batch too.
    fn record_mark(&mut self) {
        if self.log.is_collecting() {
            return;
        }
        self.settle();
        self.mark(false);
        self.collect = true;
    }

    fn mark(&mut self, closed: bool) {
        if let Some(bytes) = self.with_room(|log| log.mark(closed)) {
            self.shared.wrote(Written { bytes, ..Written::default() });
            self.settle();
        }
    }

    /// Moves a little out of the oldest segment and gives back those that nobody needs.
    fn maintain(&mut self) {
        if self.collect && self.shared.poisoned().is_none() {
            self.collect_some();
        }
        for segment in self.log.retire() {
            self.segment_worker.recycle(segment, self.log.segments());
        }
        let segments = self.log.segments() as i64;
        self.shared.metrics.segments.set(segments);
    }

    fn collect_some(&mut self) {
        let found = self.segment_worker.found_live_groups();
        let answered = found.is_some();
        if let Some(collection) = found {
            self.log.begin_collection(collection);
        } else if !self.segment_worker.is_finding_live_groups()
            && let Some(segment) = self.log.collectable()
        {
            self.segment_worker.find_live_groups(segment);
        }
        if self.log.is_collecting() {
            let moved = COLLECT_BYTES.min(self.log.options.segment_bytes / 8);
            let moved = self.with_room(|log| log.collect(moved)).unwrap_or(0);
            let lost = self.log.take_lost();
            if !lost.is_empty() {
                self.segment_worker.name(lost);
            }
            self.shared.metrics.rewritten_bytes.inc_by(moved);
            self.shared.metrics.written_bytes.inc_by(moved);
            if moved > 0 {
                self.dispatch(Vec::new());
            }
            self.collect = moved > 0 || self.log.is_collecting();
        } else {
            self.collect = answered || self.segment_worker.is_finding_live_groups();
        }
    }

    /// Goes on in a new segment of at least `bytes` bytes. Waits for room while the disk is full.
    /// The current batch has indexes that its group will not use again, so it can't be dropped, and
    /// nothing behind it may pass. Its callers are held back by the length of the queue.
    fn extend(&mut self, bytes: u64) {
        self.settle();
        if self.log.guarded {
            self.segment_worker.wait_ahead();
            return self.look_ahead();
        }
        while self.shared.poisoned().is_none() {
            let id = self.log.next_segment();
            match self.segment_worker.obtain(id, bytes) {
                Ok(segment) => {
                    self.end_stall();
                    return self.install(segment);
                }
                Err(error) if !is_shortage(&error) => {
                    self.shared.poison(&format!("a segment can't be made: {error}"));
                }
                Err(_) if self.shared.is_closing() => {
                    self.shared.poison("it was closed while the disk was full");
                }
                Err(error) => {
                    self.shared.stall(&error);
                    self.shared.set_relieves(false);
                    self.log.short = true;
                    self.relieve();
                    thread::park_timeout(RETRY);
                }
            }
        }
    }

    fn install(&mut self, segment: Segment<D::File>) {
        self.log.install(segment);
        self.order_ahead();
        self.collect = true;
        self.segment_worker.press(self.log.oldest, self.log.options.max_bytes);
    }

    /// Orders the segment after the active one. Until it is there, a part of the active one is kept
    /// back: what frees space is submitted after what fills the log, and must not wait for it.
    fn order_ahead(&mut self) {
        self.segment_worker.order(self.log.active_segment() + 1, 0);
        self.log.guarded = true;
    }

    /// Notices when the segment behind the active one can't be made. What is left of the active one
    /// serves what frees space then: snapshots are pressed for, and the oldest segment is emptied.
    fn look_ahead(&mut self) {
        match self.segment_worker.ahead() {
            Ahead::Made => {
                self.log.guarded = false;
                self.end_stall();
            }
            Ahead::Awaited => {}
            Ahead::Failed => self.log.guarded = false,
            Ahead::Short(error) => {
                self.shared.stall(error);
                (self.log.short, self.log.guarded) = (true, false);
                let now = Instant::now();
                if now >= self.retry_at {
                    self.retry_at = now + RETRY;
                    self.segment_worker.order(self.log.active_segment() + 1, 0);
                }
                self.collect = true;
            }
        }
        if self.log.short {
            self.shared.set_relieves(self.log.relieves());
            self.press();
        }
    }

    fn end_stall(&mut self) {
        self.shared.end_stall();
        self.log.short = false;
    }

    /// Has the groups named, now and then, whose snapshots would free the older half of the log.
    fn press(&mut self) {
        let now = Instant::now();
        if now >= self.press_at {
            self.press_at = now + PRESS_INTERVAL;
            self.segment_worker.press(self.log.oldest, self.log.bytes() / 2);
        }
    }

    /// Gives back what can be given back without a new segment.
    fn relieve(&mut self) {
        self.press();
        let mut retired = self.log.retire();
        if self.log.wants_mark() {
            self.mark(false);
            retired.extend(self.log.retire());
        }
        for segment in retired {
            self.segment_worker.recycle(segment, self.log.segments());
        }
    }

    fn finish(mut self) {
        self.settle();
        self.mark(true);
        self.sync_queue.close();
        self.segment_worker.stop();
    }
}

impl Submission {
    pub(crate) fn new(batch: Batch) -> Self {
        let Batch { grants, writes, completion } = batch;
        let sizes = writes.iter().map(|(_, persist)| {
            let entries = appended(&persist.log).iter();
            let entries = entries.map(|entry| size_of::<Entry>() + entry.data.len());
            size_of::<(GroupId, Persist)>() + entries.sum::<usize>()
        });
        let bytes = size_of_val(&*grants) + sizes.sum::<usize>();
        Self { grants, writes, completion, bytes }
    }

    pub(crate) fn into_pending(self) -> Pending {
        let writes = self.writes.iter();
        Pending {
            bytes: self.bytes,
            entries: writes.map(|(_, p)| appended(&p.log).len() as u64).sum(),
            completion: self.completion,
        }
    }
}
