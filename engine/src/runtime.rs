//! The threads of a node: one actix system, one arbiter a worker, and the clock that ticks them.

use crate::admission::Pacer;
use crate::heartbeat::Gathering;
use crate::inbox::{Event, WorkerInbox, Workers};
use crate::storage::Storage;
use crate::turn::Turn;
use crate::worker::{Surroundings, Worker};
use actix::{Actor, Arbiter, AsyncContext, Context, System};
use logboat_transport::Transport;
use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
        tick_interval: Duration,
    ) -> io::Result<Self> {
        let (started, system) = channel();
        let run = move || {
            let runner = System::new();
            let arbiters = runner.block_on(async {
                let ticker = Ticker {
                    workers: workers.clone(),
                    transport: Arc::clone(&surroundings.transport),
                    tick_interval,
                    last: Weak::new(),
                    pacer: Pacer::new(Arc::clone(&surroundings.admission)),
                    paced: Instant::now(),
                };
                ticker.start();
                start_arbiters(&workers, &surroundings, &storage)
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
    surroundings: &Surroundings,
    storage: &Arc<dyn Storage>,
) -> Vec<Arbiter> {
    let start = |inbox: &Arc<WorkerInbox>| {
        let arbiter = Arbiter::new();
        let (inbox, surroundings) = (Arc::clone(inbox), surroundings.clone());
        let turn_storage = Arc::clone(storage);
        arbiter.spawn_fn(move || {
            let own = Arc::clone(&inbox);
            inbox.connect(Worker::new(own, surroundings, Turn::new(turn_storage)).start());
        });
        arbiter
    };
    workers.iter().map(start).collect()
}

/// Tells the workers that an interval passed.
struct Ticker {
    workers: Workers,
    transport: Arc<dyn Transport>,
    tick_interval: Duration,
    last: Weak<Gathering>,
    pacer: Pacer,
    /// When the pacer last took in what was answered.
    paced: Instant,
}

impl Actor for Ticker {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.run_interval(self.tick_interval, |ticker, _| ticker.tick());
    }
}

impl Ticker {
    /// Skips an interval when a worker has not come to the last one yet.
    fn tick(&mut self) {
        let now = Instant::now();
        self.pacer.pace(now.duration_since(self.paced));
        self.paced = now;
        if self.last.strong_count() > 0 {
            return;
        }
        let gathering = Gathering::new(Arc::clone(&self.transport));
        self.last = Arc::downgrade(&gathering);
        for worker in self.workers.iter() {
            worker.post(Event::Tick(Arc::clone(&gathering)));
        }
    }
}
