//! The threads that check received snapshots and make them durable. That takes as long as a
//! snapshot is large, and holds up neither what else arrives nor the snapshots of other groups.

use crate::background::guard::Guard;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// How many snapshots are finished at a time. A disk gains little from more.
const MOST_THREADS: usize = 4;

/// How many may be under way or wait, each of which holds a file.
const MOST_PENDING: usize = 2 * MOST_THREADS;

/// What is to be done for a snapshot.
type Job = Box<dyn FnOnce() + Send>;

/// The threads, of which there are as many as were needed at a time.
pub(crate) struct Finishers {
    jobs: (Sender<Job>, Receiver<Job>),
    threads: Vec<JoinHandle<()>>,
    /// Jobs that have not ended.
    pending: Arc<AtomicUsize>,
    /// Says that one has ended.
    ended: (Sender<()>, Receiver<()>),
    guard: Guard,
}

impl Finishers {
    pub(crate) fn new(guard: Guard) -> Self {
        let (threads, pending) = (Vec::new(), Arc::default());
        Self { jobs: unbounded(), threads, pending, ended: unbounded(), guard }
    }

    /// Whether a snapshot that is to be checked has to wait until another job has [ended](
    /// Self::ended).
    pub(crate) fn is_full(&self) -> bool {
        self.pending.load(Ordering::Acquire) >= MOST_PENDING
    }

    /// Where each job's end is told, after it makes room.
    pub(crate) fn ended(&self) -> Receiver<()> {
        self.ended.1.clone()
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
        let (guard, ended) = (self.guard.clone(), self.ended.0.clone());
        let run = move || {
            for job in jobs {
                job();
                pending.fetch_sub(1, Ordering::Release);
                let _ = ended.send(());
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
                    self.pending.fetch_sub(1, Ordering::Release);
                    let _ = self.ended.0.send(());
                }
            }
        }
    }

    /// Drops the jobs that wait, and waits for the others: nobody needs their snapshots any more.
    pub(crate) fn end(self) {
        while let Ok(job) = self.jobs.1.try_recv() {
            drop(job);
        }
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
    use std::time::Duration;

    #[test]
    fn what_waits_when_the_node_stops_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let options = WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() };
        let (wal, _) = Wal::open(directory.path(), options, |_| {}).unwrap();
        let mut finishers = Finishers::new(Guard::new(wal.clone(), Workers::new(1, 1 << 10)));
        let (gate, shut) = unbounded::<()>();
        for _ in 0..MOST_THREADS {
            let shut = shut.clone();
            finishers.submit(move || _ = shut.recv());
        }
        let (done, ended) = channel();
        for _ in 0..MOST_PENDING {
            let done = done.clone();
            finishers.submit(move || done.send(()).unwrap());
        }
        drop(done);
        assert!(finishers.is_full());
        // They are gone before those under way end. If they were not, they would be done.
        let opens = thread::spawn(move || {
            let waited = ended.recv_timeout(Duration::from_secs(5));
            drop(gate);
            waited.is_ok() || ended.recv().is_ok()
        });
        finishers.end();
        assert!(!opens.join().unwrap(), "a job was done");
        wal.close();
    }

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
