//! The log reader: the thread that reads entries back from the log, so that no worker waits for the
//! disk. Followers that are behind need them, and state machines after a restart.

use crate::replica::event::GroupEvent;
use crate::turn::jobs::LogReadJob;
use crate::worker::event::Event;
use crate::worker::inbox::Workers;
use crossbeam_channel::Receiver;
use logboat_storage::Wal;
use std::io;
use std::thread::{self, JoinHandle};

/// What the thread works with.
pub(crate) struct LogReader {
    wal: Wal,
    workers: Workers,
}

impl LogReader {
    pub(crate) const fn new(wal: Wal, workers: Workers) -> Self {
        Self { wal, workers }
    }

    /// Starts the thread. It ends when nobody can submit jobs any more.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(self, jobs: Receiver<LogReadJob>) -> io::Result<JoinHandle<()>> {
        let thread = thread::Builder::new().name("logboat-reader".to_owned());
        thread.spawn(move || self.run(&jobs))
    }

    fn run(&self, jobs: &Receiver<LogReadJob>) {
        for job in jobs {
            let entries = self.wal.read(job.group, job.first, job.last, job.max_bytes);
            let event = Event::Local(job.slot, GroupEvent::log_read(job, entries));
            self.workers.of(job.group).post(event);
        }
    }
}
