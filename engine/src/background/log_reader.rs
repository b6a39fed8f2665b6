//! The log reader: the thread that reads entries back from the log, so that no worker waits for the
//! disk. Followers that are behind need them, and state machines after a restart.

use crate::background::guard::{Guard, contain};
use crate::replica::event::GroupEvent;
use crate::turn::jobs::LogReadJob;
use crate::worker::event::Event;
use crate::worker::inbox::Workers;
use crossbeam_channel::Receiver;
use logboat_storage::Wal;
use std::io;
use std::thread::{self, JoinHandle};

/// The state of the thread.
pub(crate) struct LogReader {
    wal: Wal,
    workers: Workers,
    guard: Guard,
}

impl LogReader {
    pub(crate) const fn new(wal: Wal, workers: Workers, guard: Guard) -> Self {
        Self { wal, workers, guard }
    }

    /// Starts the thread. It ends when nobody can submit jobs any more.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(self, jobs: Receiver<LogReadJob>) -> io::Result<JoinHandle<()>> {
        let thread = thread::Builder::new().name("logboat-reader".to_owned());
        thread.spawn(move || self.guard.run("the log reader", || self.run(&jobs)).unwrap_or(()))
    }

    fn run(&self, jobs: &Receiver<LogReadJob>) {
        for job in jobs {
            let read = contain(|| self.wal.read(job.group, job.first, job.last, job.max_bytes));
            let event = match read {
                Ok(entries) => GroupEvent::log_read(job, entries),
                Err(panic) => GroupEvent::Fail(format!("reading its log panicked: {panic}")),
            };
            self.workers.of(job.group).post(Event::Local(job.slot, event));
        }
    }
}
