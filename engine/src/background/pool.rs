//! A pool of threads for user code: state machines that are not called on their worker, readers of
//! states, and writers of snapshots.
//!
//! A job that takes too long keeps its thread, and another thread takes the place of that one.
//! Threads are started when they are needed first.

use crate::background::guard::contain;
use crate::background::stuck_calls::{CallThread, StuckCalls};
use crate::replica::event::GroupEvent;
use crate::status::UserCode;
use crate::turn::slot::Slot;
use crate::worker::event::Event;
use crate::worker::inbox::Workers;
use logboat_raft::GroupId;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// For so many looks longer than those that run, jobs may wait. By then they have got the threads
/// that take the places of others.
const THREADS_PATIENCE: u32 = 2;

/// A job for a replica. The replica is told the event that it returns.
pub(crate) struct Job {
    pub(crate) group: GroupId,
    pub(crate) slot: Slot,
    pub(crate) late: Late,
    pub(crate) work: Work,
}

/// What a replica is told of its job when that takes too long.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Late {
    /// That the call of its state machine does.
    Call,
    /// That the query with this number does.
    Query(u64),
    Nothing,
}

impl Late {
    fn event(self) -> Option<GroupEvent> {
        match self {
            Self::Call => Some(GroupEvent::Stuck),
            Self::Query(number) => Some(GroupEvent::QueryStuck(number)),
            Self::Nothing => None,
        }
    }
}

type Work = Box<dyn FnOnce(&Progress) -> Option<GroupEvent> + Send>;

/// How a job shows that it gets on, though it takes long.
#[derive(Default)]
pub(crate) struct Progress(AtomicU64);

impl Progress {
    pub(crate) fn made(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How much there was.
    pub(crate) fn seen(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What kind of pool it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolKind {
    /// The name of its threads.
    pub(crate) name: &'static str,
    /// How many jobs run at a time, without those that take too long.
    pub(crate) threads: usize,
    /// What runs there.
    pub(crate) code: UserCode,
    /// After how many looks of the watchdog without progress a job has taken too long.
    pub(crate) patience: u32,
}

/// A pool.
pub(crate) struct Pool {
    kind: PoolKind,
    workers: Workers,
    stuck: Arc<StuckCalls>,
    state: Mutex<State>,
    /// There is a job, or the pool is closed.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Waiting>,
    /// The threads that take jobs, without those that are left to one.
    threads: usize,
    /// How many of them have nothing to do.
    idle: usize,
    running: Vec<Running>,
    /// Numbers the jobs.
    begun: u64,
    /// How many have ended, and how many the watchdog has seen end.
    ended: u64,
    seen_ended: u64,
    closed: bool,
}

/// A job that does not run yet.
struct Waiting {
    job: Job,
    /// How often the watchdog has looked since a job ended.
    looks: u32,
}

/// A job that runs.
struct Running {
    number: u64,
    group: GroupId,
    slot: Slot,
    late: Late,
    since: Instant,
    progress: Arc<Progress>,
    /// How much progress the watchdog has seen.
    seen: u64,
    /// How often it has looked since.
    looks: u32,
    is_stuck: bool,
    /// Whether another thread has taken the place of its own.
    has_left: bool,
}

impl Pool {
    pub(crate) fn new(kind: PoolKind, workers: Workers, stuck: Arc<StuckCalls>) -> Arc<Self> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Arc::new(Self { kind, workers, stuck, state, changed })
    }

    /// Has jobs run in their turn. A closed pool drops them.
    pub(crate) fn submit(self: &Arc<Self>, jobs: impl IntoIterator<Item = Job>) {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            return drop(jobs);
        }
        state.jobs.extend(jobs.into_iter().map(|job| Waiting { job, looks: 0 }));
        self.see_to_threads(&mut state);
    }

    /// Drops what a replica that has ended leaves, its state machine above all, where that can hold
    /// nobody up.
    pub(crate) fn discard(self: &Arc<Self>, group: GroupId, slot: Slot, left: Box<dyn Send>) {
        let work = Box::new(move |_: &Progress| {
            drop(left);
            None
        });
        self.submit([Job { group, slot, late: Late::Nothing, work }]);
    }

    /// Looks for jobs that take too long. Called at even intervals.
    pub(crate) fn look(self: &Arc<Self>) {
        let Self { kind, workers, stuck, .. } = &**self;
        let mut state = self.state.lock();
        let State { running, threads, .. } = &mut *state;
        for job in running.iter_mut().filter(|job| !job.is_stuck) {
            let progress = job.progress.seen();
            job.looks = if progress == job.seen { job.looks + 1 } else { 0 };
            job.seen = progress;
            if job.looks >= kind.patience {
                job.is_stuck = true;
                job.has_left = stuck.begin(job.group, kind.code, job.since);
                *threads -= usize::from(job.has_left);
                if let Some(event) = job.late.event() {
                    workers.of(job.group).post(Event::Local(job.slot, event));
                }
            }
        }
        self.look_at_waiting(&mut state);
        self.see_to_threads(&mut state);
    }

    /// Tells the replicas whose jobs have waited for so long that they are as good as stuck, while
    /// no job ended: all that run hang, and the next ones may as well.
    fn look_at_waiting(&self, state: &mut State) {
        let has_ended = state.ended != state.seen_ended;
        state.seen_ended = state.ended;
        for Waiting { job, looks } in &mut state.jobs {
            *looks = if has_ended { 0 } else { *looks + 1 };
            let is_stuck = *looks == self.kind.patience + THREADS_PATIENCE;
            if let Some(event) = job.late.event().filter(|_| is_stuck) {
                self.workers.of(job.group).post(Event::Local(job.slot, event));
            }
        }
    }

    /// Ends the threads. Jobs that wait are dropped, those that run come to their end.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Wakes or starts the threads that the jobs need.
    fn see_to_threads(self: &Arc<Self>, state: &mut State) {
        for _ in 0..state.idle.min(state.jobs.len()) {
            self.changed.notify_one();
        }
        while state.threads < self.kind.threads && state.jobs.len() > state.idle {
            let pool = Arc::clone(self);
            let thread = thread::Builder::new().name(self.kind.name.to_owned());
            if let Err(error) = thread.spawn(move || pool.run()) {
                // The watchdog's next look tries again.
                return tracing::error!("starting a thread for user code: {error}");
            }
            state.threads += 1;
            // It takes a job as soon as it runs.
            state.idle += 1;
        }
    }

    /// What a thread does.
    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(Waiting { job, .. }) = state.jobs.pop_front() {
                state.idle -= 1;
                if state.closed {
                    drop(state);
                    // User code, too.
                    let _ = contain(|| drop(job));
                } else {
                    let (number, progress) = state.begin(&job);
                    drop(state);
                    if self.finish(number, job, &progress) {
                        return;
                    }
                }
                state = self.state.lock();
                state.idle += 1;
            } else if state.closed {
                state.idle -= 1;
                state.threads -= 1;
                return;
            } else {
                self.changed.wait(&mut state);
            }
        }
    }

    /// Runs a job. Returns whether another thread has taken the place of this one.
    fn finish(&self, number: u64, job: Job, progress: &Progress) -> bool {
        let Job { group, slot, work, .. } = job;
        let event = contain(|| work(progress)).unwrap_or_else(|panic| {
            Some(GroupEvent::Fail(format!("{} panicked: {panic}", self.kind.code)))
        });
        let Some(Running { is_stuck, has_left, .. }) = self.state.lock().end(number) else {
            return false;
        };
        if is_stuck {
            let thread = if has_left { CallThread::Left } else { CallThread::Shared };
            self.stuck.end(group, self.kind.code, thread);
        }
        if let Some(event) = event {
            self.workers.of(group).post(Event::Local(slot, event));
        }
        has_left
    }
}

impl State {
    fn begin(&mut self, job: &Job) -> (u64, Arc<Progress>) {
        self.begun += 1;
        let (number, progress) = (self.begun, Arc::<Progress>::default());
        self.running.push(Running {
            number,
            group: job.group,
            slot: job.slot,
            late: job.late,
            since: Instant::now(),
            progress: Arc::clone(&progress),
            seen: 0,
            looks: 0,
            is_stuck: false,
            has_left: false,
        });
        (number, progress)
    }

    fn end(&mut self, number: u64) -> Option<Running> {
        self.ended += 1;
        let at = self.running.iter().position(|job| job.number == number)?;
        Some(self.running.swap_remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    const PATIENCE: u32 = 3;

    fn pool(threads: usize) -> (Arc<Pool>, Arc<StuckCalls>) {
        let code = UserCode::StateMachine;
        let kind = PoolKind { name: "pool", threads, code, patience: PATIENCE };
        let stuck = StuckCalls::new(Arc::default());
        (Pool::new(kind, Workers::new(1, 1 << 10), Arc::clone(&stuck)), stuck)
    }

    fn submit(pool: &Arc<Pool>, work: impl FnOnce(&Progress) + Send + 'static) {
        let work = Box::new(|progress: &Progress| {
            work(progress);
            None
        });
        pool.submit([Job { group: GroupId(7), slot: Slot::default(), late: Late::Nothing, work }]);
    }

    /// A job that runs until the sender is dropped.
    fn hang(pool: &Arc<Pool>) -> Sender<()> {
        let (release, released) = channel::<()>();
        let (begins, begun) = channel();
        submit(pool, move |_| {
            begins.send(()).unwrap();
            let _ = released.recv();
        });
        begun.recv().unwrap();
        release
    }

    #[test]
    fn another_thread_takes_the_place_of_one_whose_job_hangs() {
        let (pool, stuck) = pool(1);
        let (done, all_done) = channel();
        let hung = hang(&pool);
        (0..3).for_each(|number| {
            let done = done.clone();
            submit(&pool, move |_| done.send(number).unwrap());
        });
        (0..PATIENCE).for_each(|_| pool.look());
        assert_eq!(stuck.list().len(), 1);
        let order: Vec<i32> = all_done.iter().take(3).collect();
        assert_eq!(order, [0, 1, 2]);
        drop(hung);
        while !stuck.list().is_empty() {
            thread::yield_now();
        }
        submit(&pool, move |_| done.send(3).unwrap());
        assert_eq!(all_done.recv(), Ok(3));
        assert_eq!(pool.state.lock().threads, 1);
        pool.close();
    }

    #[test]
    fn jobs_that_wait_count_looks_as_long_as_none_ends() {
        let (pool, _) = pool(1);
        let hung = hang(&pool);
        let waiting = || pool.state.lock().jobs.iter().map(|job| job.looks).collect::<Vec<_>>();
        let (begins, begun) = channel();
        submit(&pool, move |_| begins.send(()).unwrap());
        pool.look();
        submit(&pool, |_| {});
        pool.look();
        assert_eq!(waiting(), [2, 1]);
        drop(hung);
        begun.recv().unwrap();
        while !waiting().is_empty() {
            thread::yield_now();
        }
        pool.close();
    }

    #[test]
    fn a_job_that_gets_on_is_not_stuck() {
        let (pool, stuck) = pool(1);
        let (looked, look) = channel();
        let (made, progress_made) = channel();
        submit(&pool, move |progress| {
            while look.recv().is_ok() {
                progress.made();
                made.send(()).unwrap();
            }
        });
        for _ in 0..PATIENCE * 3 {
            looked.send(()).unwrap();
            progress_made.recv().unwrap();
            pool.look();
        }
        assert!(stuck.list().is_empty());
        pool.close();
    }

    #[test]
    fn as_many_jobs_run_at_once_as_there_are_threads_and_a_closed_pool_drops_the_others() {
        let (pool, _) = pool(2);
        let running = [hang(&pool), hang(&pool)];
        let (ends, ended) = channel::<()>();
        submit(&pool, move |_| ends.send(()).unwrap());
        assert_eq!(pool.state.lock().threads, 2);
        pool.close();
        drop(running);
        assert!(ended.recv().is_err(), "it is dropped");
    }
}
