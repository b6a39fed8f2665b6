//! The log reader: the thread that reads entries back from the log, so that no worker waits for the
//! disk. Followers that are behind need them, and state machines after a restart.

use crate::background::guard::{Guard, contain};
use crate::background::shortage::RETRY_INTERVAL;
use crate::replica::event::GroupEvent;
use crate::turn::jobs::LogReadJob;
use crate::worker::event::Event;
use crate::worker::inbox::Workers;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use logboat_raft::{Entry, LogReadTarget};
use logboat_storage::{ReadError, Wal};
use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The state of the thread.
pub(crate) struct LogReader {
    wal: Wal,
    workers: Workers,
    guard: Guard,
    /// For how long a replica may lead whose state machine waits for entries.
    patience: Duration,
}

/// A job for which descriptors or memory are short.
struct PutOff {
    job: LogReadJob,
    /// When the replica is to know that, if it needs to and does not yet.
    late_at: Option<Instant>,
}

impl LogReader {
    pub(crate) const fn new(wal: Wal, workers: Workers, guard: Guard, patience: Duration) -> Self {
        Self { wal, workers, guard, patience }
    }

    /// Starts the thread. It ends when nobody can submit jobs any more.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(self, jobs: Receiver<LogReadJob>) -> io::Result<JoinHandle<()>> {
        let Self { wal, workers, guard, patience } = self;
        let read = move |job: LogReadJob| wal.read(job.group, job.first, job.last, job.max_bytes);
        let answer = move |job: LogReadJob, event| {
            workers.of(job.group).post(Event::Local(job.slot, event));
        };
        let thread = thread::Builder::new().name("logboat-reader".to_owned());
        thread.spawn(move || {
            guard.run("the log reader", || serve(&jobs, patience, &read, &answer)).unwrap_or(());
        })
    }
}

/// Does the jobs until nobody can submit any more. Those for which descriptors or memory are short
/// are done later: a replica would take that for damage of its log. After a while it is told, if it
/// can apply nothing meanwhile, so that it does not go on to lead.
fn serve(
    jobs: &Receiver<LogReadJob>,
    patience: Duration,
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
    let mut put_off: Vec<PutOff> = Vec::new();
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
                let keeps_applying = job.target != LogReadTarget::Apply;
                let late_at = (!keeps_applying).then(|| Instant::now() + patience);
                put_off.push(PutOff { job, late_at });
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if !put_off.is_empty() && due <= Instant::now() {
            put_off.retain(|PutOff { job, .. }| !done(*job));
            let now = Instant::now();
            for PutOff { job, late_at } in &mut put_off {
                if late_at.take_if(|late_at| *late_at <= now).is_some() {
                    answer(*job, GroupEvent::LogReadLate);
                }
            }
            due = now + RETRY_INTERVAL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::slot::Slot;
    use crossbeam_channel::unbounded;
    use logboat_raft::{GroupId, Index, NodeId};
    use std::cell::{Cell, RefCell};

    fn job(group: u64) -> LogReadJob {
        job_for(group, LogReadTarget::Apply)
    }

    fn job_for(group: u64, target: LogReadTarget) -> LogReadJob {
        LogReadJob {
            group: GroupId(group),
            slot: Slot::default(),
            target,
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
        serve(&jobs, Duration::from_secs(600), &read, &answer);
        assert_eq!(*answered.borrow(), [(2, false), (3, true), (1, true)]);
    }

    #[test]
    fn a_replica_that_can_apply_nothing_is_told_once_that_its_job_is_late() {
        let (sender, jobs) = unbounded();
        let peer = LogReadTarget::Peer(NodeId(2));
        for job in [job(1), job_for(2, peer)] {
            sender.send(job).unwrap();
        }
        let sender = RefCell::new(Some(sender));
        let attempts = Cell::new(0);
        let read = |job: LogReadJob| {
            attempts.set(attempts.get() + 1);
            let passes = attempts.get() < 9;
            if passes { Err(unreadable(job.group, true)) } else { Ok(Vec::new()) }
        };
        let answered = RefCell::new(Vec::new());
        let answer = |job: LogReadJob, event| {
            let is_late = matches!(event, GroupEvent::LogReadLate);
            answered.borrow_mut().push((job.group.0, is_late));
            if answered.borrow().len() == 3 {
                sender.take();
            }
        };
        serve(&jobs, Duration::ZERO, &read, &answer);
        assert_eq!(*answered.borrow(), [(1, true), (1, false), (2, false)]);
    }
}
