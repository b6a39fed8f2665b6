//! The sync queue under every order of its threads that [`logboat_locks`] tries, over the real log
//! on a simulated disk.

use super::log;
use super::shared::{self, Pending, Shared};
use crate::wal::disk::SimDisk;
use crate::wal::recovery::recover;
use crate::wal::{InlineWal, Log, Refusals, WalOptions};
use logboat_locks::{Condvar, Mutex, explore, thread};
use logboat_raft::{
    Entry, EntryKind, GroupId, HardState, Index, LogId, LogPosition, LogWrite, Persist, Term,
    WriteSeq,
};
use std::sync::Arc;
use sync_queue::SyncQueue;

#[expect(clippy::duplicate_mod, reason = "here it has other locks")]
#[path = "sync_queue.rs"]
mod sync_queue;

const GROUP: GroupId = GroupId(1);

/// What became of the batches, in the order of their completions.
type Journal = Arc<Mutex<Vec<(u64, bool)>>>;

/// The thread that writes, with a sync queue that another one serves.
struct Writer {
    disk: SimDisk,
    log: Log<SimDisk>,
    shared: Arc<Shared<SimDisk>>,
    sync_queue: Arc<SyncQueue<SimDisk>>,
    syncs: thread::JoinHandle<()>,
    journal: Journal,
    written: u64,
}

impl Writer {
    fn start() -> Self {
        let disk = SimDisk::default();
        let (log, _, _) =
            recover(disk.clone(), options(), LogPosition::default(), |_| Ok(())).unwrap();
        let shared = Arc::new(Shared::new(&log));
        let sync_queue = Arc::new(SyncQueue::new(Arc::clone(&shared)));
        let served = Arc::clone(&sync_queue);
        let syncs = thread::spawn(move || served.run());
        let journal = Journal::default();
        Self { disk, log, shared, sync_queue, syncs, journal, written: 0 }
    }

    /// Writes one more entry.
    fn write(&mut self) -> Vec<Pending> {
        self.written += 1;
        let id = LogId::new(Term(1), Index(self.written));
        let entry =
            Entry::new(GROUP, id, EntryKind::Command, bytes::Bytes::from_static(b"command"));
        let persist = Persist {
            seq: WriteSeq(self.written),
            hard_state: Some(HardState { term: Term(1), ..HardState::default() }.into()),
            log: LogWrite::Append([entry].into()),
        };
        self.log.write([].iter(), [(GROUP, persist)].iter()).unwrap();
        self.shared.enqueue(1);
        let (number, journal) = (self.written, Arc::clone(&self.journal));
        let completion = Box::new(move |result: Result<&Refusals, _>| {
            journal.lock().push((number, result.is_ok()));
        });
        vec![Pending { completion, bytes: 1, entries: 1 }]
    }

    /// Leaves the sync to the sync queue.
    fn hand(&mut self) {
        let pending = self.write();
        let unsynced = self.log.unsynced().unwrap();
        self.sync_queue.hand(unsynced, pending);
    }

    /// Syncs here when the sync queue has nothing to do, as the real writer does.
    fn hand_or_sync(&mut self) {
        let pending = self.write();
        let unsynced = self.log.unsynced().unwrap();
        if self.sync_queue.is_idle() {
            self.shared.sync(&unsynced, pending);
        } else {
            self.sync_queue.hand(unsynced, pending);
        }
    }

    /// Waits for the sync queue, and looks at what it has done by then.
    fn settle(&self) -> Vec<(u64, bool)> {
        self.sync_queue.wait_idle();
        let journal = self.journal.lock().clone();
        let numbers: Vec<u64> = journal.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (1..=self.written).collect::<Vec<_>>(), "each is completed once");
        assert_eq!(self.shared.queued_bytes(), 0);
        journal
    }

    /// Ends the sync queue, cuts the power, and looks whether what was completed is there.
    fn stop(self) {
        let completed = self.settle();
        self.sync_queue.close();
        self.syncs.join().unwrap();
        self.disk.crash(|| false);
        let (_, recovered) = InlineWal::open(self.disk, options()).unwrap();
        let last = recovered.groups.get(&GROUP).map_or(0, |restored| restored.last.0);
        let durable = completed.iter().filter(|(_, durable)| *durable).count() as u64;
        assert!(last >= durable, "{durable} batches were completed, {last} are there");
    }
}

fn options() -> WalOptions {
    WalOptions { segment_bytes: 16 << 10, ..WalOptions::default() }
}

#[test]
fn the_queue_completes_in_order_what_it_is_handed() {
    explore(|| {
        let mut writer = Writer::start();
        (0..4).for_each(|_| writer.hand());
        assert!(writer.settle().iter().all(|(_, durable)| *durable));
        writer.hand();
        writer.stop();
    });
}

#[test]
fn a_writer_that_syncs_itself_passes_nothing_on_the_queue() {
    explore(|| {
        let mut writer = Writer::start();
        writer.hand();
        (0..4).for_each(|_| writer.hand_or_sync());
        assert!(writer.settle().iter().all(|(_, durable)| *durable));
        writer.stop();
    });
}

#[test]
fn nothing_is_durable_after_a_sync_that_failed() {
    explore(|| {
        let mut writer = Writer::start();
        writer.disk.fail_sync(1);
        (0..3).for_each(|_| writer.hand());
        let completed = writer.settle();
        assert!(completed.is_sorted_by_key(|(_, durable)| !durable), "{completed:?}");
        assert!(completed.contains(&(3, false)), "{completed:?}");
        writer.stop();
    });
}

#[test]
fn what_is_handed_over_before_the_end_is_synced() {
    explore(|| {
        let mut writer = Writer::start();
        let sync_queue = Arc::clone(&writer.sync_queue);
        let syncs = std::mem::replace(&mut writer.syncs, thread::spawn(|| {}));
        (0..2).for_each(|_| writer.hand());
        sync_queue.close();
        syncs.join().unwrap();
        assert!(sync_queue.is_idle(), "it ends when all is done");
        writer.stop();
    });
}
