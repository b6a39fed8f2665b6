//! The scrubber: the thread that reads what is stored and at rest, so that damage to it is found
//! while the other replicas are whole, and not when one of them is lost.
//!
//! It reads what the replicas here would start from: the entries of their logs that are still
//! needed, with all checksums, and their snapshots. A replica whose data are damaged stops: it
//! neither votes nor serves from then on. What the page cache holds is not read from the disk
//! again.

use crate::groups::Groups;
use crate::handle::GroupHandle;
use crate::replica::event::GroupEvent;
use crate::worker::event::Event;
use logboat_raft::{Entry, GroupId};
use logboat_storage::{SnapshotError, SnapshotStore, Wal};
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How much is read at once, about.
const PIECE_BYTES: usize = 256 << 10;

/// How long it rests when it has read everything.
const PAUSE: Duration = Duration::from_secs(10);

/// The running thread.
pub(crate) struct Scrubber {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// What it reads, and how fast.
pub(crate) struct Scrubbing {
    pub(crate) wal: Wal,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) groups: Arc<Groups>,
    pub(crate) bytes_per_s: u64,
}

/// Why a group's data were not read to the end.
enum Obstacle {
    /// The node stops.
    Stopped,
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

    /// Ends the thread.
    pub(crate) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that looks for damage panicked");
        }
    }
}

impl Scrubbing {
    fn run(&self, stop: &Receiver<()>) {
        loop {
            for handle in self.groups.all_started() {
                match self.check(handle.group(), stop) {
                    Ok(()) => {}
                    Err(Obstacle::Damage(reason)) => quarantine(&handle, reason),
                    Err(Obstacle::Stopped) => return,
                }
            }
            if has_stopped(stop, PAUSE) {
                return;
            }
        }
    }

    fn check(&self, group: GroupId, stop: &Receiver<()>) -> Result<(), Obstacle> {
        self.check_log(group, stop)?;
        self.check_snapshot(group, stop)
    }

    /// Reads the entries of a group that the log has now.
    fn check_log(&self, group: GroupId, stop: &Receiver<()>) -> Result<(), Obstacle> {
        let (mut next, last) = self.wal.held(group);
        while next <= last {
            let begin = Instant::now();
            let read = self.wal.read(group, next, last, PIECE_BYTES);
            let entries = read.map_err(|error| Obstacle::Damage(error.to_string()))?;
            // The log may be cut meanwhile.
            let Some(newest) = entries.last() else { return Ok(()) };
            next = newest.index.next();
            let bytes = entries.iter().map(|entry| size_of::<Entry>() + entry.data.len()).sum();
            drop(entries);
            self.pace(bytes, begin, stop)?;
        }
        Ok(())
    }

    /// Reads the snapshot of a group, if it has one.
    fn check_snapshot(&self, group: GroupId, stop: &Receiver<()>) -> Result<(), Obstacle> {
        let begin = Instant::now();
        let mut reader = match self.snapshots.read(group) {
            Ok(Some((_, reader))) => reader,
            Err(error @ SnapshotError::Damaged { .. }) => {
                return Err(Obstacle::Damage(error.to_string()));
            }
            // Another time.
            Ok(None) | Err(_) => return Ok(()),
        };
        let mut piece = vec![0; PIECE_BYTES];
        self.pace(0, begin, stop)?;
        loop {
            let begin = Instant::now();
            match reader.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(bytes) => self.pace(bytes, begin, stop)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Obstacle::Damage(format!("its snapshot: {error}"))),
            }
        }
    }

    /// Rests for as long as so many bytes are to take.
    fn pace(&self, bytes: usize, begin: Instant, stop: &Receiver<()>) -> Result<(), Obstacle> {
        let time = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        match has_stopped(stop, time.saturating_sub(begin.elapsed())) {
            true => Err(Obstacle::Stopped),
            false => Ok(()),
        }
    }
}

/// A replica whose data are damaged stops.
fn quarantine(handle: &GroupHandle, reason: String) {
    if handle.view().failure().is_none() {
        handle.worker.post(Event::Local(handle.slot, GroupEvent::Fail(reason)));
    }
}

/// Waits. Returns whether the node has stopped meanwhile.
fn has_stopped(stop: &Receiver<()>, time: Duration) -> bool {
    stop.recv_timeout(time) != Err(RecvTimeoutError::Timeout)
}
