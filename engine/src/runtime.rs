//! The threads of a node: one actix system, one arbiter a worker, and the clock that ticks them.

use crate::admission::Pacer;
use crate::inbox::{Alarm, Event, WorkerInbox, Workers};
use crate::keeper::Keeper;
use crate::storage::Storage;
use crate::turn::Turn;
use crate::worker::{Surroundings, Worker};
use actix::{Actor, Arbiter, AsyncContext, Context, System};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the clock is looked at in an interval of heartbeats, which is how finely timeouts are told
/// apart.
const LOOKS_AN_INTERVAL: u32 = 5;

/// The running threads.
pub(crate) struct Runtime {
    system: System,
    thread: JoinHandle<()>,
}

impl Runtime {
    /// Starts the workers, each on an arbiter of its own.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(
        workers: Workers,
        surroundings: Surroundings,
        storage: Arc<dyn Storage>,
        pacer: Pacer,
        tick_interval: Duration,
    ) -> io::Result<Self> {
        let (started, system) = channel();
        let run = move || {
            let runner = System::new();
            let arbiters = runner.block_on(async {
                let alarms: Vec<_> = workers.iter().map(|_| Arc::new(Alarm::new())).collect();
                let arbiters = start_arbiters(&workers, &alarms, &surroundings, &storage);
                let ticker = Ticker {
                    workers: workers.clone(),
                    alarms,
                    keeper: Arc::clone(&surroundings.keeper),
                    step: tick_interval / LOOKS_AN_INTERVAL,
                    countdown: LOOKS_AN_INTERVAL,
                    pacer,
                    paced: Instant::now(),
                };
                ticker.start();
                arbiters
            });
            drop((workers, surroundings, storage));
            // The starter waits for this word.
            let _ = started.send(System::current());
            if let Err(error) = runner.run() {
                tracing::error!("the workers' system ended: {error}");
            }
            for arbiter in arbiters {
                arbiter.stop();
                // A panic of a worker has been printed where it happened.
                let _ = arbiter.join();
            }
        };
        let thread = std::thread::Builder::new().name("logboat-system".to_owned()).spawn(run)?;
        let system = system.recv().map_err(|_| io::Error::other("the workers did not start"))?;
        Ok(Self { system, thread })
    }

    /// Ends the threads.
    pub(crate) fn stop(self) {
        self.system.stop();
        // A panic has been printed where it happened.
        let _ = self.thread.join();
    }
}

fn start_arbiters(
    workers: &Workers,
    alarms: &[Arc<Alarm>],
    surroundings: &Surroundings,
    storage: &Arc<dyn Storage>,
) -> Vec<Arbiter> {
    let start = |(number, (inbox, alarm)): (usize, (&Arc<WorkerInbox>, &Arc<Alarm>))| {
        let arbiter = Arbiter::new();
        let (inbox, alarm) = (Arc::clone(inbox), Arc::clone(alarm));
        let surroundings = surroundings.clone();
        let turn_storage = Arc::clone(storage);
        arbiter.spawn_fn(move || {
            let own = Arc::clone(&inbox);
            let turn = Turn::new(turn_storage);
            inbox.connect(Worker::new(number, own, alarm, surroundings, turn).start());
        });
        arbiter
    };
    workers.iter().zip(alarms).enumerate().map(start).collect()
}

/// The clock of a node: drives its liveness, and wakes the workers that have something to do.
struct Ticker {
    workers: Workers,
    alarms: Vec<Arc<Alarm>>,
    keeper: Arc<Keeper>,
    /// Time between two looks at the clock.
    step: Duration,
    /// Looks until an interval has passed.
    countdown: u32,
    pacer: Pacer,
    /// When the pacer last took in what was answered.
    paced: Instant,
}

impl Actor for Ticker {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.keeper.tick();
        context.run_interval(self.step, |ticker, _| ticker.tick());
    }
}

impl Ticker {
    fn tick(&mut self) {
        self.keeper.tick();
        let now = self.keeper.now();
        for (worker, alarm) in self.workers.iter().zip(&self.alarms) {
            if alarm.is_due(now) {
                alarm.set(None);
                worker.post(Event::Tick);
            }
        }
        self.countdown -= 1;
        if self.countdown == 0 {
            self.countdown = LOOKS_AN_INTERVAL;
            self.interval();
        }
    }

    fn interval(&mut self) {
        let now = Instant::now();
        self.pacer.pace(now.duration_since(self.paced));
        self.paced = now;
        for (worker, alarm) in self.workers.iter().zip(&self.alarms) {
            if alarm.leads_for_others() {
                worker.post(Event::EvenOut);
            }
        }
    }
}
