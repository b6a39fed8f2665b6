//! The log reader: the thread that reads entries back from the log, so that no worker waits for the
//! disk. Followers that are behind need them, and state machines after a restart.

use crate::background::guard::{Guard, contain};
use crate::background::shortage::RETRY_INTERVAL;
use crate::replica::event::GroupEvent;
use crate::turn::jobs::LogReadJob;
use crate::worker::event::Event;
use crate::worker::inbox::Workers;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use logboat_raft::Entry;
use logboat_storage::{ReadError, Wal};
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Instant;

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
        let Self { wal, workers, guard } = self;
        let read = move |job: LogReadJob| wal.read(job.group, job.first, job.last, job.max_bytes);
        let answer = move |job: LogReadJob, event| {
            workers.of(job.group).post(Event::Local(job.slot, event));
        };
        let thread = thread::Builder::new().name("logboat-reader".to_owned());
        thread.spawn(move || {
            guard.run("the log reader", || serve(&jobs, &read, &answer)).unwrap_or(());
        })
    }
}

/// Does the jobs until nobody can submit any more. Those for which descriptors or memory are short
/// are done later: a replica would take that for damage of its log.
fn serve(
    jobs: &Receiver<LogReadJob>,
    read: &impl Fn(LogReadJob) -> Result<Vec<Entry>, ReadError>,
    answer: &impl Fn(LogReadJob, GroupEvent),
) {
    let done = |job: LogReadJob| match contain(|| read(job)) {
        Ok(Err(error)) if error.passes() => false,
        Ok(entries) => {
            answer(job, GroupEvent::log_read(job, entries));
            true
        }
        Err(panic) => {
            answer(job, GroupEvent::Fail(format!("reading its log panicked: {panic}")));
            true
        }
    };
    let mut put_off: Vec<LogReadJob> = Vec::new();
    let mut due = Instant::now();
    loop {
        let next = match put_off.is_empty() {
            true => jobs.recv().map_err(RecvTimeoutError::from),
            false => jobs.recv_deadline(due),
        };
        match next {
            Ok(job) if done(job) => {}
            Ok(job) => {
                if put_off.is_empty() {
                    due = Instant::now() + RETRY_INTERVAL;
                    tracing::warn!("descriptors or memory are short: reading of the log waits");
                }
                put_off.push(job);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if !put_off.is_empty() && due <= Instant::now() {
            put_off.retain(|job| !done(*job));
            due = Instant::now() + RETRY_INTERVAL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::slot::Slot;
    use crossbeam_channel::unbounded;
    use logboat_raft::{GroupId, Index, LogReadTarget};
    use std::cell::{Cell, RefCell};

    fn job(group: u64) -> LogReadJob {
        LogReadJob {
            group: GroupId(group),
            slot: Slot::default(),
            target: LogReadTarget::Apply,
            first: Index(1),
            last: Index(9),
            max_bytes: 1,
        }
    }

    fn unreadable(group: GroupId, passes: bool) -> ReadError {
        let reason = "so it is".to_owned();
        ReadError::Unreadable { group, file: "1.wal".into(), offset: 0, reason, passes }
    }

    #[test]
    fn a_job_for_which_descriptors_are_short_is_done_later_and_the_others_meanwhile() {
        let (sender, jobs) = unbounded();
        let sender = RefCell::new(Some(sender));
        for group in [1, 2, 3] {
            sender.borrow().iter().for_each(|sender| sender.send(job(group)).unwrap());
        }
        let attempts = Cell::new(0);
        let read = |job: LogReadJob| match job.group {
            GroupId(1) => {
                attempts.set(attempts.get() + 1);
                let passes = attempts.get() < 3;
                if passes { Err(unreadable(job.group, true)) } else { Ok(Vec::new()) }
            }
            GroupId(2) => Err(unreadable(job.group, false)),
            _ => Ok(Vec::new()),
        };
        let answered = RefCell::new(Vec::new());
        let answer = |job: LogReadJob, event| {
            let GroupEvent::LogRead { entries, .. } = event else { panic!("another answer") };
            answered.borrow_mut().push((job.group.0, entries.is_ok()));
            if answered.borrow().len() == 3 {
                sender.take();
            }
        };
        serve(&jobs, &read, &answer);
        assert_eq!(*answered.borrow(), [(2, false), (3, true), (1, true)]);
    }
}
