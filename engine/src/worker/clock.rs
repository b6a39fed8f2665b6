//! The clock of a node: drives its liveness, and wakes the workers that have something to do though
//! nothing happens. While no worker has, it sleeps from one heartbeat to the next.

use crate::admission::Pacer;
use crate::liveness::manager::LivenessManager;
use crate::worker::inbox::{Event, Workers};
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, SpawnHandle};
use logboat_raft::Time;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How often the clock is looked at in an interval of heartbeats while somebody has a deadline, which is
/// how finely timeouts are told apart.
const LOOKS_AN_INTERVAL: u32 = 10;

/// How often what is let in is paced, and leaderships are evened out a little.
const PACE_INTERVAL: Duration = Duration::from_millis(250);

/// What the workers tell the clock.
#[derive(Debug)]
pub(crate) struct Alarms {
    workers: Vec<Alarm>,
    /// Nobody had an alarm when the clock was looked at last.
    sleeps: AtomicBool,
    ticker: OnceLock<Addr<Ticker>>,
}

/// What one worker tells.
#[derive(Debug)]
struct Alarm {
    time: AtomicU64,
    leads_for_others: AtomicBool,
}

impl Alarms {
    /// None set, for so many workers.
    pub(crate) fn new(workers: usize) -> Arc<Self> {
        let alarm =
            |_| Alarm { time: AtomicU64::new(u64::MAX), leads_for_others: AtomicBool::new(false) };
        let workers = (0..workers).map(alarm).collect();
        Arc::new(Self { workers, sleeps: AtomicBool::new(false), ticker: OnceLock::new() })
    }

    /// Sets the alarm of a worker to a moment, or to none.
    pub(crate) fn set(&self, worker: usize, time: Option<Time>) {
        let micros = time.map_or(u64::MAX, |time| time.0);
        self.workers[worker].time.store(micros, Ordering::SeqCst);
        let wakes = time.is_some() && self.sleeps.load(Ordering::SeqCst);
        if wakes
            && self.sleeps.swap(false, Ordering::SeqCst)
            && let Some(ticker) = self.ticker.get()
        {
            ticker.do_send(Wake);
        }
    }

    /// Notes whether a worker leads groups whose leader should be elsewhere.
    pub(crate) fn lead_for_others(&self, worker: usize, leads: bool) {
        self.workers[worker].leads_for_others.store(leads, Ordering::Relaxed);
    }
}

impl Alarm {
    fn time(&self) -> Option<Time> {
        let micros = self.time.load(Ordering::SeqCst);
        (micros != u64::MAX).then_some(Time(micros))
    }
}

/// "A worker has a deadline."
#[derive(Message)]
#[rtype(result = "()")]
struct Wake;

/// The actor that looks at the clock.
pub(crate) struct Ticker {
    workers: Workers,
    alarms: Arc<Alarms>,
    liveness: Arc<LivenessManager>,
    interval: Duration,
    /// The next look.
    next: Option<SpawnHandle>,
    pacer: Pacer,
    /// When the pacer last took in what was answered.
    paced: Instant,
}

impl Actor for Ticker {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.alarms.ticker.get_or_init(|| context.address());
        self.look(context);
    }
}

impl Handler<Wake> for Ticker {
    type Result = ();

    fn handle(&mut self, Wake: Wake, context: &mut Context<Self>) {
        if let Some(next) = self.next.take() {
            context.cancel_future(next);
        }
        self.look_later(context);
    }
}

impl Ticker {
    pub(crate) fn new(
        workers: Workers,
        alarms: Arc<Alarms>,
        liveness: Arc<LivenessManager>,
        pacer: Pacer,
        interval: Duration,
    ) -> Self {
        Self { workers, alarms, liveness, interval, next: None, pacer, paced: Instant::now() }
    }

    fn look(&mut self, context: &mut Context<Self>) {
        self.liveness.tick();
        let now = self.liveness.now();
        for ((number, alarm), worker) in
            self.alarms.workers.iter().enumerate().zip(self.workers.iter())
        {
            if alarm.time().is_some_and(|time| time <= now) {
                self.alarms.set(number, None);
                worker.post(Event::Tick);
            }
        }
        if self.paced.elapsed() >= PACE_INTERVAL {
            self.pace();
        }
        self.look_later(context);
    }

    fn pace(&mut self) {
        let now = Instant::now();
        self.pacer.pace(now.duration_since(self.paced));
        self.paced = now;
        for (alarm, worker) in self.alarms.workers.iter().zip(self.workers.iter()) {
            if alarm.leads_for_others.load(Ordering::Relaxed) {
                worker.post(Event::Rebalance);
            }
        }
    }

    fn step(&self) -> Duration {
        self.interval / LOOKS_AN_INTERVAL
    }

    fn look_later(&mut self, context: &mut Context<Self>) {
        // Whoever sets an alarm after this wakes the clock; what was set before is seen here.
        self.alarms.sleeps.store(true, Ordering::SeqCst);
        let wait = if self.alarms.workers.iter().any(|alarm| alarm.time().is_some()) {
            self.alarms.sleeps.store(false, Ordering::SeqCst);
            self.step()
        } else {
            let left = self.liveness.next_deadline().since(self.liveness.now());
            left.clamp(Duration::from_millis(1), self.interval)
        };
        self.next = Some(context.run_later(wait, |ticker, context| ticker.look(context)));
    }
}
