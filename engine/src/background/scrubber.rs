//! The scrubber: the thread that reads what is stored and at rest, so that damage to it is found
//! while the other replicas are whole, and not when one of them is lost.
//!
//! It reads what the replicas here would start from: the entries of their logs that are still
//! needed, with all checksums, and their snapshots. A replica whose data are damaged stops: it
//! neither votes nor serves from then on. What the page cache holds is not read from the disk
//! again.

use crate::background::threads::join_by;
use crate::groups::Groups;
use crate::handle::GroupHandle;
use crate::replica::event::GroupEvent;
use crate::worker::event::Event;
use logboat_raft::{Entry, GroupId};
use logboat_storage::{SnapshotError, SnapshotStore, Wal};
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How much is read at once, about.
const PIECE_BYTES: usize = 256 << 10;

/// A read takes a page of the disk, however small the record is.
const PAGE_BYTES: usize = 4 << 10;

/// How long it rests when it has read everything: several times as long as that took, so that many
/// small logs at rest cost little, within these bounds.
const PAUSE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(600);
const PAUSE_FACTOR: u32 = 4;

/// How much it reads before it rests, by the time that this is to take and by bytes: each rest is a
/// wake-up of a thread.
const STRETCH: Duration = Duration::from_secs(1);
const STRETCH_BYTES: usize = 1 << 20;

/// How long it reads at the most before it looks whether the node stops.
const LOOK: Duration = Duration::from_millis(100);

/// The running thread.
pub(crate) struct Scrubber {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// The thread, which has been told to end.
pub(crate) struct EndingScrubber(JoinHandle<()>);

/// What it reads, and how fast.
pub(crate) struct Scrubbing {
    pub(crate) wal: Wal,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) groups: Arc<Groups>,
    pub(crate) bytes_per_s: u64,
}

/// How far the scrubber is ahead of its rate.
struct Pace<'a> {
    bytes_per_s: u64,
    stop: &'a Receiver<()>,
    /// When it rested last.
    rested: Instant,
    /// How much it has read since then.
    bytes: usize,
    /// How long that is to take.
    owed: Duration,
}

/// Why a group's data were not read to the end.
enum Obstacle {
    /// The node stops.
    Stopped,
    /// Descriptors or memory are short, which says nothing about the data. They are read another
    /// time.
    Shortage,
    /// They are damaged, in this way.
    Damage(String),
}

impl Scrubber {
    /// Starts the thread, unless nothing is to be read.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(scrubbing: Scrubbing) -> io::Result<Option<Self>> {
        if scrubbing.bytes_per_s == 0 {
            return Ok(None);
        }
        let (stop, stopped) = channel();
        let thread = thread::Builder::new().name("logboat-scrub".to_owned());
        let thread = thread.spawn(move || scrubbing.run(&stopped))?;
        Ok(Some(Self { stop, thread }))
    }

    /// Has the thread end when it has read the piece at which it is.
    pub(crate) fn stop(self) -> EndingScrubber {
        drop(self.stop);
        EndingScrubber(self.thread)
    }
}

impl EndingScrubber {
    /// Waits for the end, up to the deadline. Returns whether the thread has ended.
    pub(crate) fn join(self, deadline: Instant) -> bool {
        join_by(self.0, deadline)
    }
}

impl Scrubbing {
    fn run(&self, stop: &Receiver<()>) {
        let mut pace = Pace::new(self.bytes_per_s, stop);
        loop {
            let begun = Instant::now();
            for handle in self.groups.all_started() {
                match self.check(handle.group(), &mut pace) {
                    Ok(()) | Err(Obstacle::Shortage) => {}
                    Err(Obstacle::Damage(reason)) => quarantine(&handle, reason),
                    Err(Obstacle::Stopped) => return,
                }
            }
            let pause = begun.elapsed().saturating_mul(PAUSE_FACTOR);
            if pace.rest(pause.clamp(*PAUSE.start(), *PAUSE.end())).is_err() {
                return;
            }
        }
    }

    fn check(&self, group: GroupId, pace: &mut Pace<'_>) -> Result<(), Obstacle> {
        self.check_log(group, pace)?;
        self.check_snapshot(group, pace)
    }

    /// Reads the entries of a group that the log has now.
    fn check_log(&self, group: GroupId, pace: &mut Pace<'_>) -> Result<(), Obstacle> {
        let (mut next, last) = self.wal.held(group);
        while next <= last {
            let read = self.wal.read(group, next, last, PIECE_BYTES);
            let entries = read.map_err(|error| Obstacle::of(&error, error.passes()))?;
            // The log may be cut meanwhile.
            let Some(newest) = entries.last() else { return Ok(()) };
            next = newest.index.next();
            let bytes = entries.iter().map(|entry| size_of::<Entry>() + entry.data.len()).sum();
            drop(entries);
            pace.has_read(bytes)?;
        }
        Ok(())
    }

    /// Reads the snapshot of a group, if it has one. Nothing of it is read ahead of the rate.
    fn check_snapshot(&self, group: GroupId, pace: &mut Pace<'_>) -> Result<(), Obstacle> {
        let mut check = match self.snapshots.check(group) {
            Ok(Some(check)) => check,
            Err(error @ SnapshotError::Damaged { .. }) => {
                return Err(Obstacle::Damage(error.to_string()));
            }
            // Another time.
            Ok(None) | Err(_) => return Ok(()),
        };
        loop {
            let piece = check.next_piece();
            let piece = piece.map_err(|error| Obstacle::of(&error, error.passes()))?;
            let Some(bytes) = piece else { return Ok(()) };
            pace.has_read(bytes)?;
        }
    }
}

impl Obstacle {
    /// What an error is that `passes` or does not.
    fn of(error: &dyn std::error::Error, passes: bool) -> Self {
        if passes { Self::Shortage } else { Self::Damage(error.to_string()) }
    }
}

impl<'a> Pace<'a> {
    fn new(bytes_per_s: u64, stop: &'a Receiver<()>) -> Self {
        let (rested, owed) = (Instant::now(), Duration::ZERO);
        Self { bytes_per_s, stop, rested, bytes: 0, owed }
    }

    /// So many bytes were read: rests once what was read is worth it.
    fn has_read(&mut self, bytes: usize) -> Result<(), Obstacle> {
        let bytes = bytes.max(PAGE_BYTES);
        self.bytes += bytes;
        self.owed += Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        let taken = self.rested.elapsed();
        if self.owed < STRETCH && self.bytes < STRETCH_BYTES && taken < LOOK {
            return Ok(());
        }
        self.rest(self.owed.saturating_sub(taken))
    }

    /// Rests for so long, unless the node stops.
    fn rest(&mut self, time: Duration) -> Result<(), Obstacle> {
        match self.stop.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => {
                (self.rested, self.bytes, self.owed) = (Instant::now(), 0, Duration::ZERO);
                Ok(())
            }
            _ => Err(Obstacle::Stopped),
        }
    }
}

/// A replica whose data are damaged stops.
fn quarantine(handle: &GroupHandle, reason: String) {
    if handle.view().failure().is_none() {
        handle.worker.post(Event::Local(handle.slot, GroupEvent::Fail(reason)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::{Configuration, Index, LogId, NodeId, SnapshotMeta, Term};
    use logboat_storage::WalOptions;
    use std::fs;
    use std::io::Write;

    #[test]
    fn a_snapshot_is_not_read_faster_than_it_is_to_be() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = SnapshotStore::open(&directory.path().join("snapshots")).unwrap();
        let configuration = Configuration::founding(&[NodeId(1)], None).into();
        let meta = SnapshotMeta { last: LogId::new(Term(1), Index(9)), configuration };
        let mut file = snapshots.create(GroupId(1), meta).unwrap();
        file.write_all(&vec![7; 1 << 20]).unwrap();
        file.finish().unwrap();
        let path = snapshots.current_path(GroupId(1));
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();

        let options = WalOptions { segment_bytes: 64 << 10, ..WalOptions::default() };
        let (wal, mut recovered) =
            Wal::open(&directory.path().join("wal"), options, |_| {}).unwrap();
        let groups = Arc::new(Groups::new(&mut recovered));
        let scrubbing = Scrubbing { wal, snapshots, groups, bytes_per_s: 1 };
        // Whoever stops it waits for the piece that is read, and the damage lies behind that.
        let (stop, stopped) = channel();
        drop(stop);
        let slow = scrubbing.check_snapshot(GroupId(1), &mut Pace::new(1, &stopped));
        assert!(matches!(slow, Err(Obstacle::Stopped)));
        let (_stop, stopped) = channel();
        let fast = scrubbing.check_snapshot(GroupId(1), &mut Pace::new(u64::MAX, &stopped));
        assert!(matches!(fast, Err(Obstacle::Damage(reason)) if reason.contains("checksum")));
    }

    #[test]
    fn small_pieces_are_paid_for_together() {
        let (stop, stopped) = channel();
        drop(stop);
        // It hears of the stop where it rests.
        let mut pace = Pace::new(1 << 20, &stopped);
        let mut reads = 1;
        while pace.has_read(1).is_ok() {
            reads += 1;
        }
        assert!(reads == STRETCH_BYTES / PAGE_BYTES || pace.rested.elapsed() >= LOOK, "{reads}");
    }
}
