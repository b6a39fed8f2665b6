//! The write-ahead log that all groups of a node share.
//!
//! # Group commit
//! A [`Batch`] holds writes of any groups, and what the node grants its peers. The thread that
//! writes takes everything that was submitted meanwhile and writes it as one batch into the active
//! segment. One sync makes the writes of all groups durable; then the completions are called. The
//! writer syncs by itself when nothing else waits. Otherwise it leaves the sync to a second thread
//! and writes the next batch meanwhile.
//!
//! # Modules
//! Each imports only from those before it.
//! - `disk`: segment files, written past the page cache and read through a mapping. Also a
//!   simulated disk that crashes, fails and fills up.
//! - `format`: the bytes of headers and records.
//! - `index`: which record holds which entry, and how much of each segment is still needed.
//! - `segments`: how segments are preallocated, read and recycled.
//! - `write`: the log itself, garbage collection, and the threads that write and sync.
//! - `recovery`: how a log is opened after a crash.
//!
//! [`Wal`] is the log with its threads, [`InlineWal`] the same log without, and [`inspect`] reads
//! one from outside.
//!
//! # A torn tail against damage
//! A crash leaves a torn tail: of the last batches, any part may have reached the disk. Recovery
//! has to cut it off. Whatever else does not verify is damage to data that was acknowledged. The
//! log must not open as if the data had never been there.
//!
//! The *durable mark* tells the two apart. Each batch header carries the position up to which
//! everything was durable when the batch was written. All data below the highest mark were
//! acknowledged, so what does not verify there is damage. What does not verify above it is the torn
//! tail.
//!
//! The mark that covers the last batch can only stand in a later one. So the log writes a batch of
//! 48 bytes that carries the mark alone, and syncs it. It does so after [`WalOptions::mark_delay`]
//! without a write, when it is closed, and when it is opened. Damage to the last batch passes for a
//! torn tail only if the node crashes within that time of the last sync.
//!
//! Damage is the matter of the replicas that it concerns. The data of entries have checksums of
//! their own. A header that can't be read hides whose records were there, so each batch ends with a
//! second list of its groups, which has its own checksum. The replicas that it names are given up:
//! they may have lost a vote, or entries that they have acknowledged. The log is refused if the
//! list is damaged as well, and if what the node granted its peers may be lost.
//!
//! Garbage collection may find damage while the log runs, when it moves entries. That costs the
//! same replicas: the log writes their tombstones, and refuses what they write from then on.
//!
//! # What is refused
//! Entries that leave a gap, a replica that writes below its group's tombstone: such writes are
//! mistakes of the caller, and concern one group. The log refuses what that group submits from then
//! on, and goes on with the others ([`Refusals`]). Completions are told, so that nothing is
//! promised that rests on a refused write. [`Wal::readmit`] ends that when another replica takes
//! over.
//!
//! # A full disk
//! Segments are preallocated, so a full disk is noticed when the next segment is made, and nothing
//! that was written is lost. That is while the segment before it is still being written. From then
//! on [`Wal::stalled`] says that no new work should come. What is left of the active segment serves
//! what frees space: the groups are pressed for snapshots, whose compactions let old segments go,
//! and what is still needed is moved out of the oldest one. As long as there is enough of it,
//! [`Wal::relieves`] says that small writes are welcome that free space. When the active segment is
//! full too, writes wait, and reads go on. What waits has not failed: it is written when there is
//! room again. Descriptors and memory that a segment needs and does not get are waited for in the
//! same way.

use crossbeam_channel::{Sender, unbounded};
use logboat_raft::{Entry, GroupId, Index, LogPosition, ReplicaId, Restored};
use parking_lot::{Mutex, RwLock};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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

pub use batch::{Batch, Completion};
pub use disk::{Disk, FileDisk, FileSegment, SegmentFile, SimDisk, SimSegment, Unreadable};
pub use error::{Damage, Poisoned, ReadError, Refusal, WalError, WriteError};
pub use inline::InlineWal;
pub use inspect::{GroupReport, SegmentReport, SegmentState, WalReport, inspect};
pub use metrics::WalMetrics;
pub use options::WalOptions;
pub use recovery::Recovered;
use recovery::{Opened, recover};
use segments::SegmentWorker;
pub(crate) use segments::is_shortage;
pub use segments::{Segment, SegmentPool};
pub use write::{Log, Refusals, Unsynced, Written};
use write::{Shared, Submission, SyncQueue, Writer};

/// A handle of the log; clones share it. When the last one is dropped, the threads finish what was
/// submitted and end; [`Wal::close`] waits for that.
pub struct Wal<D: Disk = FileDisk> {
    handle: Arc<Handle<D>>,
}

struct Handle<D: Disk> {
    /// Taken out to close. A submission holds the lock while it sends, so none gets lost between.
    inbox: RwLock<Option<Sender<Submission>>>,
    shared: Arc<Shared<D>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Wal {
    /// Opens the log in `directory`, making it if need be, and recovers what it holds. `pressure`
    /// is called with groups whose snapshots would free old segments, and with those that garbage
    /// collection found damaged, whose writes are [refused](Self::refusals). It runs on a thread of
    /// the log, so it must not block. It may be called again with the same groups.
    ///
    /// # Errors
    /// [`WalError`]; nothing has been changed that a crash could not have left.
    pub fn open(
        directory: &Path,
        options: WalOptions,
        pressure: impl Fn(&[GroupId]) + Send + Sync + 'static,
    ) -> Result<(Self, Recovered), WalError> {
        Self::open_past(directory, options, LogPosition::default(), |_| Ok(()), pressure)
    }

    /// Like [`Wal::open`], but refuses a log that ends before `known_end`, a position that it is
    /// known to have reached. Tells `found` where it ends, before anything is written.
    ///
    /// # Errors
    /// [`WalError`]; nothing has been changed that a crash could not have left.
    pub fn open_past(
        directory: &Path,
        options: WalOptions,
        known_end: LogPosition,
        found: impl FnOnce(LogPosition) -> io::Result<()>,
        pressure: impl Fn(&[GroupId]) + Send + Sync + 'static,
    ) -> Result<(Self, Recovered), WalError> {
        let disk = FileDisk::open(directory)
            .map_err(|source| WalError::Io { path: directory.to_owned(), source })?;
        Self::begin(recover(disk, options, known_end, found)?, pressure)
    }
}

impl<D: Disk> Wal<D> {
    /// Opens the log on a disk of the caller's choice; see [`Wal::open`].
    ///
    /// # Errors
    /// [`WalError`].
    pub fn open_on(
        disk: D,
        options: WalOptions,
        pressure: impl Fn(&[GroupId]) + Send + Sync + 'static,
    ) -> Result<(Self, Recovered), WalError> {
        Self::begin(recover(disk, options, LogPosition::default(), |_| Ok(()))?, pressure)
    }

    /// Starts the threads of a log that was opened.
    fn begin(
        (log, pool, recovered): Opened<D>,
        pressure: impl Fn(&[GroupId]) + Send + Sync + 'static,
    ) -> Result<(Self, Recovered), WalError> {
        let place = log.store.disk.path("");
        let failed = |source| WalError::Io { path: place.clone(), source };
        let shared = Arc::new(Shared::new(&log));
        let sync_queue = Arc::new(SyncQueue::new(Arc::clone(&shared)));
        let (inbox, submissions) = unbounded();
        let guard = Arc::clone(&shared);
        let panicked = move || guard.poison("the thread that makes segments panicked");
        let (store, pressure) = (Arc::clone(&log.store), Box::new(pressure));
        let segment_worker = SegmentWorker::start(pool, store, pressure, Box::new(panicked));
        let writer = Writer::new(
            log,
            submissions,
            Arc::clone(&sync_queue),
            segment_worker.map_err(failed)?,
            Arc::clone(&shared),
        );
        let threads = vec![
            spawn("wal-sync", move || sync_queue.run()).map_err(failed)?,
            spawn("wal-writer", move || writer.run_guarded()).map_err(failed)?,
        ];
        let handle =
            Handle { inbox: RwLock::new(Some(inbox)), shared, threads: Mutex::new(threads) };
        let handle = Arc::new(handle);
        Ok((Self { handle }, recovered))
    }

    /// Hands a batch to the log; never blocks. The completion of a log that is poisoned or closed
    /// gets the error. The queue is not bounded here: who submits looks at
    /// [`Self::queued_bytes`] before taking new work.
    pub fn submit(&self, batch: Batch) {
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

    /// Entries of a group from `first` to `last`: about `max_bytes` of payload, but at least one
    /// entry. None when the log does not hold `first`. Their data borrow the mapped segment. Record
    /// and entries are verified. Sees what was written, be it durable or not.
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

    /// The first entry of a group that the log holds, and the last. It holds none if the last one
    /// comes before the first.
    #[must_use]
    pub fn held(&self, group: GroupId) -> (Index, Index) {
        let index = &self.handle.shared.store.index;
        index.with(group, |log| (log.snapshot.index.next(), log.last))
    }

    /// What a replica of `group` starts from: what the log holds of it now. Reads all of the
    /// group's entries.
    ///
    /// # Errors
    /// [`ReadError`] when what the disk holds is not what was written, or was not when it was to be
    /// moved.
    pub fn restored(&self, group: GroupId) -> Result<Restored, ReadError> {
        if let Some(refusal) = self.refusals().of(group)
            && let Refusal::Lost { error, .. } = &*refusal
        {
            return Err(error.clone());
        }
        self.handle.shared.store.restored(group)
    }

    /// The smallest id that a replica of the group may have, if one is gone from here and no later
    /// one has written anything. Sees what was written, be it durable or not.
    #[must_use]
    pub fn tombstone(&self, group: GroupId) -> Option<ReplicaId> {
        self.handle.shared.store.index.tombstone(group)
    }

    /// The groups whose writes are refused, and why.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.handle.shared.refusals
    }

    /// Takes writes of a group again that were refused. Whatever was submitted for its former
    /// replica must have been completed.
    pub fn readmit(&self, group: GroupId) {
        self.handle.shared.refusals.readmit(group);
    }

    /// Where the log ended when it was opened: never before what had been durable. The default if
    /// it was new.
    #[must_use]
    pub fn found_end(&self) -> LogPosition {
        self.handle.shared.found_end
    }

    /// How far the log is durable. After [`Self::close`] it is where the log ends.
    #[must_use]
    pub fn durable_end(&self) -> LogPosition {
        self.handle.shared.durable_end()
    }

    /// Bytes submitted and not completed: what the batches take in memory, about.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.handle.shared.queued_bytes()
    }

    /// Why writes wait, if they do: for space on the disk, or for descriptors or memory that the
    /// next segment takes.
    #[must_use]
    pub fn stall_reason(&self) -> Option<String> {
        self.handle.shared.stall_reason()
    }

    /// Whether writes wait, see [`Self::stall_reason`]. Reads go on.
    #[must_use]
    pub fn stalled(&self) -> bool {
        self.handle.shared.stalled()
    }

    /// [`Self::stalled`] as it changes.
    #[must_use]
    pub fn stalled_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(self.handle.shared.stalled_flag())
    }

    /// Whether a log that is stalled has room for small writes that free space. A part of what is
    /// left of its last segment is for them, another for snapshots and garbage collection.
    #[must_use]
    pub fn relieves(&self) -> bool {
        self.handle.shared.relieves()
    }

    /// Why the log takes no more writes, if so.
    #[must_use]
    pub fn poisoned(&self) -> Option<Poisoned> {
        self.handle.shared.poisoned()
    }

    /// Poisons the log for a reason outside of it: all writing ends. What is not durable by now may
    /// be lost, and no completion reports it as durable. Reads go on.
    pub fn poison(&self, reason: &str) {
        self.handle.shared.poison(reason);
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

impl<D: Disk> Clone for Wal<D> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle) }
    }
}

impl<D: Disk> Handle<D> {
    fn begin_closing(&self) {
        self.shared.begin_closing();
        self.inbox.write().take();
    }
}

impl<D: Disk> Drop for Handle<D> {
    fn drop(&mut self) {
        self.begin_closing();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}
