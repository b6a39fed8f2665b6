//! The alarms of a node's workers: when the ticker wakes each of them for a deadline.

use actix::{Message, Recipient};
use logboat_raft::Time;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// "A worker has a deadline."
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Wake;

/// Later than any alarm.
const NO_ALARM: u64 = u64::MAX;

/// The alarms of all workers, which they share with the ticker.
#[derive(Debug)]
pub(crate) struct Alarms {
    workers: Vec<Alarm>,
    /// No worker had an alarm when the ticker last looked, so it sleeps.
    sleeps: AtomicBool,
    ticker: OnceLock<Recipient<Wake>>,
}

/// The alarm of one worker.
#[derive(Debug)]
struct Alarm {
    time: AtomicU64,
    leads_for_others: AtomicBool,
}

impl Alarms {
    /// No alarms, for so many workers.
    pub(crate) fn new(workers: usize) -> Arc<Self> {
        let alarm =
            |_| Alarm { time: AtomicU64::new(NO_ALARM), leads_for_others: AtomicBool::new(false) };
        let workers = (0..workers).map(alarm).collect();
        Arc::new(Self { workers, sleeps: AtomicBool::new(false), ticker: OnceLock::new() })
    }

    /// Sets the alarm of a worker to a moment, or to none.
    pub(crate) fn set(&self, worker: usize, time: Option<Time>) {
        let micros = time.map_or(NO_ALARM, |time| time.0);
        self.workers[worker].time.store(micros, Ordering::SeqCst);
        let wakes = time.is_some() && self.sleeps.load(Ordering::SeqCst);
        if wakes
            && self.sleeps.swap(false, Ordering::SeqCst)
            && let Some(ticker) = self.ticker.get()
        {
            ticker.do_send(Wake);
        }
    }

    /// Connects the ticker, once.
    pub(crate) fn connect(&self, ticker: Recipient<Wake>) {
        self.ticker.get_or_init(|| ticker);
    }

    /// The workers whose alarms have gone off by `now`. These alarms are cleared.
    pub(crate) fn take_due(&self, now: Time) -> impl Iterator<Item = usize> {
        let due = move |alarm: &Alarm| alarm.time().is_some_and(|time| time <= now);
        let alarms = self.workers.iter().enumerate();
        alarms.filter(move |(_, alarm)| due(alarm)).map(|(worker, alarm)| {
            alarm.time.store(NO_ALARM, Ordering::SeqCst);
            worker
        })
    }

    /// Notes that the ticker sleeps unless a worker has an alarm set. Returns whether one has. A
    /// worker that sets one afterwards wakes the ticker. An alarm that was set before is seen here.
    pub(crate) fn sleep_unless_set(&self) -> bool {
        self.sleeps.store(true, Ordering::SeqCst);
        let set = self.workers.iter().any(|alarm| alarm.time().is_some());
        if set {
            self.sleeps.store(false, Ordering::SeqCst);
        }
        set
    }

    /// The workers with misplaced leaders.
    pub(crate) fn leading_for_others(&self) -> impl Iterator<Item = usize> {
        let leads = |alarm: &Alarm| alarm.leads_for_others.load(Ordering::Relaxed);
        let alarms = self.workers.iter().enumerate();
        alarms.filter(move |(_, alarm)| leads(alarm)).map(|(worker, _)| worker)
    }

    /// Notes whether a worker has misplaced leaders.
    pub(crate) fn lead_for_others(&self, worker: usize, leads: bool) {
        self.workers[worker].leads_for_others.store(leads, Ordering::Relaxed);
    }
}

impl Alarm {
    fn time(&self) -> Option<Time> {
        let micros = self.time.load(Ordering::SeqCst);
        (micros != NO_ALARM).then_some(Time(micros))
    }
}
