//! The threads that check received snapshots and make them durable. That takes as long as a
//! snapshot is large, and holds up neither what else arrives nor the snapshots of other groups.

use crate::background::guard::Guard;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// How many snapshots are finished at a time. A disk gains little from more.
const MOST_THREADS: usize = 4;

/// What is to be done for a snapshot.
type Job = Box<dyn FnOnce() + Send>;

/// The threads, of which there are as many as were needed at a time.
pub(crate) struct Finishers {
    jobs: (Sender<Job>, Receiver<Job>),
    threads: Vec<JoinHandle<()>>,
    /// Jobs that have not ended.
    pending: Arc<AtomicUsize>,
    guard: Guard,
}

impl Finishers {
    pub(crate) fn new(guard: Guard) -> Self {
        Self { jobs: unbounded(), threads: Vec::new(), pending: Arc::default(), guard }
    }

    /// Has a job done, in its turn.
    pub(crate) fn submit(&mut self, job: impl FnOnce() + Send + 'static) {
        let pending = self.pending.fetch_add(1, Ordering::Relaxed) + 1;
        let _ = self.jobs.0.send(Box::new(job));
        if pending > self.threads.len() && self.threads.len() < MOST_THREADS {
            self.begin_thread();
        }
    }

    fn begin_thread(&mut self) {
        let (jobs, pending) = (self.jobs.1.clone(), Arc::clone(&self.pending));
        let guard = self.guard.clone();
        let run = move || {
            for job in jobs {
                job();
                pending.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let thread = thread::Builder::new().name("logboat-finish".to_owned());
        match thread.spawn(move || guard.run("a thread that checks snapshots", run).unwrap_or(())) {
            Ok(thread) => self.threads.push(thread),
            Err(error) => {
                tracing::error!("starting a thread that checks snapshots: {error}");
                // Others may be there. The next job tries again.
                if self.threads.is_empty()
                    && let Ok(job) = self.jobs.1.try_recv()
                {
                    job();
                    self.pending.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Waits until all that was submitted is done.
    pub(crate) fn end(self) {
        drop(self.jobs);
        for thread in self.threads {
            // A panic has ended the node.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::inbox::Workers;
    use logboat_storage::{Wal, WalOptions};
    use std::sync::mpsc::channel;

    #[test]
    fn a_job_that_takes_long_holds_up_no_other_one() {
        let directory = tempfile::tempdir().unwrap();
        let options = WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() };
        let (wal, _) = Wal::open(directory.path(), options, |_| {}).unwrap();
        let mut finishers = Finishers::new(Guard::new(wal.clone(), Workers::new(1, 1 << 10)));
        let (gate, shut) = channel::<()>();
        finishers.submit(move || _ = shut.recv());
        let (done, ended) = channel();
        for number in 0..100 {
            let done = done.clone();
            finishers.submit(move || done.send(number).unwrap());
        }
        let mut numbers: Vec<_> = ended.iter().take(100).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        assert!(finishers.threads.len() <= MOST_THREADS);
        drop(gate);
        finishers.end();
        wal.close();
    }
}
