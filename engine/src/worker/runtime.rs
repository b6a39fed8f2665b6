//! The threads of a node: one actix system with its clock, and one arbiter a worker.

use crate::admission::pacer::Pacer;
use crate::numbering::random_start;
use crate::turn::Turn;
use crate::turn::storage::Storage;
use crate::worker::alarms::Alarms;
use crate::worker::inbox::{WorkerInbox, Workers};
use crate::worker::ticker::Ticker;
use crate::worker::{Worker, WorkerContext};
use actix::{Actor, Arbiter, System};
use logboat_raft::ReadToken;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

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
        context: WorkerContext,
        storage: Arc<dyn Storage>,
        pacer: Pacer,
        heartbeat_interval: Duration,
    ) -> io::Result<Self> {
        let (started, system) = channel();
        let guard = context.guard.clone();
        let run = move || {
            let runner = System::new();
            let arbiters = runner.block_on(async {
                let alarms = Alarms::new(workers.len());
                let arbiters = start_arbiters(&workers, &alarms, &context, &storage);
                let liveness = Arc::clone(&context.liveness);
                let founder = Arc::clone(&context.founder);
                let guard = context.guard.clone();
                let ticker = Ticker::new(
                    workers.clone(),
                    alarms,
                    liveness,
                    founder,
                    pacer,
                    guard,
                    heartbeat_interval,
                );
                ticker.start();
                arbiters
            });
            drop((workers, context, storage));
            // The starter waits for this.
            let _ = started.send(System::current());
            if let Err(error) = runner.run() {
                guard.halt(&format!("the workers' system ended: {error}"));
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
    alarms: &Arc<Alarms>,
    context: &WorkerContext,
    storage: &Arc<dyn Storage>,
) -> Vec<Arbiter> {
    let start = |(number, inbox): (usize, &Arc<WorkerInbox>)| {
        let arbiter = Arbiter::new();
        let (inbox, alarms) = (Arc::clone(inbox), Arc::clone(alarms));
        let context = context.clone();
        let turn_storage = Arc::clone(storage);
        arbiter.spawn_fn(move || {
            let own = Arc::clone(&inbox);
            let turn = Turn::new(turn_storage, ReadToken(random_start()));
            let worker = Worker::new(number, own, alarms, context, turn);
            inbox.connect(worker.start().recipient());
        });
        arbiter
    };
    workers.iter().enumerate().map(start).collect()
}
