//! The thread that reads entries back from the log, so that no worker waits for the disk: for followers
//! that are behind, and for state machines after a restart.

use crate::replica::group::GroupEvent;
use crate::turn::Slot;
use crate::worker::inbox::{Event, Workers};
use crossbeam_channel::{Receiver, Sender, unbounded};
use logboat_raft::{Entry, GroupId, Index, LoadFor};
use logboat_storage::{ReadError, Wal};
use std::io;
use std::thread::{self, JoinHandle};

/// Entries that a replica wants to have read; at most one of these is open for each of its targets.
#[derive(Clone, Copy, Debug)]
pub struct LogReadJob {
    /// The group.
    pub group: GroupId,
    /// Its replica's place, for the answer.
    pub slot: Slot,
    /// What they are for.
    pub target: LoadFor,
    /// The first index wanted.
    pub first: Index,
    /// The last index wanted.
    pub last: Index,
    /// About how many payload bytes at the most.
    pub max_bytes: usize,
}

impl LogReadJob {
    /// What the replica is told, when this was read.
    #[must_use]
    pub fn answer(self, entries: Result<Vec<Entry>, ReadError>) -> GroupEvent {
        GroupEvent::LogRead { target: self.target, first: self.first, entries }
    }
}

/// Hands jobs to the thread. It ends when all of these are gone.
#[derive(Clone)]
pub(crate) struct LogReadQueue(Sender<LogReadJob>);

impl LogReadQueue {
    /// Starts the thread, which answers to `workers`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(wal: Wal, workers: Workers) -> io::Result<(Self, JoinHandle<()>)> {
        let (sender, jobs) = unbounded();
        let thread = thread::Builder::new().name("logboat-loads".to_owned());
        let thread = thread.spawn(move || run(&jobs, &wal, &workers))?;
        Ok((Self(sender), thread))
    }

    pub(crate) fn submit(&self, job: LogReadJob) {
        // The thread is gone only if it panicked, which has been printed.
        let _ = self.0.send(job);
    }
}

/// Reads what is asked for.
fn run(jobs: &Receiver<LogReadJob>, wal: &Wal, workers: &Workers) {
    for job in jobs {
        let LogReadJob { group, slot, first, last, max_bytes, .. } = job;
        let entries = wal.read(group, first, last, max_bytes);
        workers.of(group).post(Event::Local(slot, job.answer(entries)));
    }
}
