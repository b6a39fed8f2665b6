//! The write-ahead log that all groups of a node share.
//!
//! A [`Batch`] holds writes of any groups and what the node grants its peers. One thread takes
//! what was submitted, writes it as one batch into the active segment and syncs it, or lets
//! another thread sync it while it writes the next one; then the completions are called. Files are
//! described in `format` and `format::record`, what recovery makes of them in `recovery`, and how
//! segments go in `write::log::collect`.
//!
//! # What recovery can tell
//! Each batch carries the position up to which everything was durable when it was written. Data
//! below the highest such mark was acknowledged, so what does not verify there is damage and the
//! log refuses to open; what does not verify above is the tail that a crash tore, and is cut. The
//! mark of the last batch can only stand in a later one: when nothing follows within
//! [`WalOptions::mark_delay`], when the log is closed and when it is opened, a batch of 32 bytes
//! with the mark alone is written and synced. Until then, and only then, damage to the last batch
//! passes for a torn tail: after a crash within that time of the last sync.
//!
//! # A full disk
//! Segments are zero-filled before they are used, so a disk that is full is noticed when the next
//! one is made, and nothing written is lost. Writes wait, [`Wal::stalled`] says so, reads go on;
//! what waits has not failed, and is written when there is room again.

use crossbeam_channel::{Sender, unbounded};
use logboat_raft::{Entry, GroupId, Index};
use parking_lot::{Mutex, RwLock};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

mod batch;
mod disk;
mod error;
mod format;
mod index;
mod inline;
mod inspect;
mod metrics;
mod options;
mod recovery;
mod segments;
mod write;

use recovery::recover;
use segments::SegmentWorker;
use write::{Shared, Submission, SyncQueue, Writer};

pub use batch::{Batch, Completion};
pub use disk::{Disk, FileDisk, FileSegment, SegmentFile, SimDisk, SimSegment};
pub use error::{Damage, Poisoned, ReadError, WalError, WriteError};
pub use format::Position;
pub use inline::InlineWal;
pub use inspect::{GroupReport, SegmentReport, SegmentState, WalReport, inspect};
pub use metrics::WalMetrics;
pub use options::WalOptions;
pub use recovery::Recovered;
pub use segments::{Segment, SegmentPool};
pub use write::{Log, Written};

/// A handle of the log; clones share it. When the last one is dropped, the threads finish what was
/// submitted and end; [`Wal::close`] waits for that.
pub struct Wal<C: Completion, D: Disk = FileDisk> {
    handle: Arc<Handle<C, D>>,
}

struct Handle<C, D: Disk> {
    /// Taken out to close. A submission holds the lock while it sends, so none gets lost between.
    inbox: RwLock<Option<Sender<Submission<C>>>>,
    shared: Arc<Shared<D>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<C: Completion> Wal<C> {
    /// Opens the log in `directory`, making it if need be, and recovers what it holds. `pressure`
    /// is called, on a thread of the log that must not be held up, with groups whose snapshots
    /// would let old segments go; it may be called again with the same ones.
    ///
    /// # Errors
    /// [`WalError`]; nothing has been changed that a crash could not have left.
    pub fn open(
        directory: &Path,
        options: WalOptions,
        pressure: impl Fn(&[GroupId]) + Send + Sync + 'static,
    ) -> Result<(Self, Recovered), WalError> {
        let disk = FileDisk::open(directory)
            .map_err(|source| WalError::Io { path: directory.to_owned(), source })?;
        Self::open_on(disk, options, pressure)
    }
}

impl<C: Completion, D: Disk> Wal<C, D> {
    /// Opens the log on a disk of the caller's choice; see [`Wal::open`].
    ///
    /// # Errors
    /// [`WalError`].
    pub fn open_on(
        disk: D,
        options: WalOptions,
        pressure: impl Fn(&[GroupId]) + Send + Sync + 'static,
    ) -> Result<(Self, Recovered), WalError> {
        let place = disk.path("");
        let (log, pool, recovered) = recover(disk, options)?;
        let failed = |source| WalError::Io { path: place.clone(), source };
        let shared = Arc::new(Shared::new(&log));
        let sync_queue = Arc::new(SyncQueue::new(Arc::clone(&shared)));
        let (inbox, submissions) = unbounded();
        let segment_worker = SegmentWorker::start(pool, Arc::clone(&log.store), Box::new(pressure));
        let writer = Writer::new(
            log,
            submissions,
            Arc::clone(&sync_queue),
            segment_worker.map_err(failed)?,
            Arc::clone(&shared),
        );
        let threads = vec![
            spawn("wal-sync", move || sync_queue.run()).map_err(failed)?,
            spawn("wal-writer", move || writer.run()).map_err(failed)?,
        ];
        let handle =
            Handle { inbox: RwLock::new(Some(inbox)), shared, threads: Mutex::new(threads) };
        let handle = Arc::new(handle);
        Ok((Self { handle }, recovered))
    }

    /// Hands a batch to the log; never blocks. The completion of a log that is poisoned or closed
    /// gets the error. The queue is not bounded here: who submits looks at
    /// [`Self::queued_bytes`] before taking new work.
    pub fn submit(&self, batch: Batch<C>) {
        let submission = Submission::new(batch);
        let shared = &self.handle.shared;
        shared.enqueue(submission.bytes);
        let refused = match &*self.handle.inbox.read() {
            Some(inbox) => inbox.send(submission).map_err(|refused| refused.0).err(),
            None => Some(submission),
        };
        if let Some(submission) = refused {
            shared.complete(
                submission.into_pending(),
                Err(self.poisoned().unwrap_or_else(Poisoned::closed)),
            );
        }
    }

    /// Entries of a group from `first` to `last`, about `max_bytes` of payload but at least one;
    /// none when the log does not hold `first`. Their data borrow the mapped segment. Record and
    /// entries are verified. Sees what was written, be it durable or not.
    ///
    /// # Errors
    /// [`ReadError`] when what the disk holds is not what was written.
    pub fn read(
        &self,
        group: GroupId,
        first: Index,
        last: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let store = &self.handle.shared.store;
        store.read(group, first, last, max_bytes)
    }

    /// Bytes submitted and not completed: what the batches take in memory, about.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.handle.shared.queued_bytes()
    }

    /// Whether writes wait for disk space. Reads go on.
    #[must_use]
    pub fn stalled(&self) -> bool {
        self.handle.shared.stalled()
    }

    /// Why the log takes no more writes, if so.
    #[must_use]
    pub fn poisoned(&self) -> Option<Poisoned> {
        self.handle.shared.poisoned()
    }

    /// What the log counts.
    #[must_use]
    pub fn metrics(&self) -> &WalMetrics {
        &self.handle.shared.metrics
    }

    /// Writes and syncs what was submitted, calls its completions, then stops the threads. Later
    /// submissions are refused. While the disk is full, what waits for room fails. Not to be
    /// called by a completion, which would wait for itself.
    pub fn close(self) {
        self.handle.begin_closing();
        for thread in self.handle.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the write-ahead log panicked");
            }
        }
    }
}

impl<C: Completion, D: Disk> Clone for Wal<C, D> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle) }
    }
}

impl<C, D: Disk> Handle<C, D> {
    fn begin_closing(&self) {
        self.shared.begin_closing();
        self.inbox.write().take();
    }
}

impl<C, D: Disk> Drop for Handle<C, D> {
    fn drop(&mut self) {
        self.begin_closing();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}
