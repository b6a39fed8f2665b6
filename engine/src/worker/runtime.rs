//! The threads of a node: one actix system with its clock and its watchdog, and one arbiter a
//! worker.

use crate::admission::pacer::Pacer;
use crate::background::guard::Guard;
use crate::background::threads::join_by;
use crate::numbering::random_start;
use crate::turn::Turn;
use crate::turn::storage::Storage;
use crate::worker::WorkerCell;
use crate::worker::alarms::Alarms;
use crate::worker::inbox::Workers;
use crate::worker::state::{WorkerContext, WorkerState};
use crate::worker::ticker::Ticker;
use crate::worker::watchdog::Watchdog;
use actix::{Actor, Arbiter, System};
use logboat_raft::ReadToken;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The running threads.
pub(crate) struct Runtime {
    system: System,
    thread: JoinHandle<()>,
}

/// How often the threads look at things.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intervals {
    pub(crate) heartbeat: Duration,
    pub(crate) state_machine_timeout: Duration,
}

/// The threads of the workers, by their numbers. Those that are left to a call are not among them.
#[derive(Clone, Default)]
pub(crate) struct Arbiters(Arc<Mutex<Vec<Arbiter>>>);

impl Arbiters {
    /// Puts a worker's fresh thread in the place of another, which is returned.
    pub(super) fn replace(&self, worker: usize, arbiter: Arbiter) -> Arbiter {
        std::mem::replace(&mut self.0.lock()[worker], arbiter)
    }

    fn start(&self, cells: &[Arc<WorkerCell>], guard: &Guard) {
        for cell in cells {
            let arbiter = Arbiter::new();
            cell.work_on(&arbiter, guard.clone());
            self.0.lock().push(arbiter);
        }
    }

    /// Ends the threads. A state machine that is being called is waited for.
    fn stop(&self) {
        for arbiter in self.0.lock().drain(..) {
            arbiter.stop();
            // A panic of a worker has been printed where it happened.
            let _ = arbiter.join();
        }
    }
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
        intervals: Intervals,
    ) -> io::Result<Self> {
        let (started, system) = channel();
        let guard = context.guard.clone();
        let run = move || {
            let runner = System::new();
            let arbiters = Arbiters::default();
            let cells = runner.block_on(async {
                let alarms = Alarms::new(workers.len());
                let cells = new_cells(&workers, &alarms, &context, &storage);
                arbiters.start(&cells, &guard);
                let Intervals { heartbeat, state_machine_timeout } = intervals;
                let (liveness, founder) = (&context.liveness, &context.founder);
                let ticker = Ticker::new(
                    workers.clone(),
                    alarms,
                    Arc::clone(liveness),
                    Arc::clone(founder),
                    pacer,
                    guard.clone(),
                    heartbeat,
                );
                ticker.start();
                let watchdog = Watchdog::new(
                    &cells,
                    context.user_code.clone(),
                    state_machine_timeout,
                    arbiters.clone(),
                    guard.clone(),
                );
                watchdog.start();
                cells
            });
            drop((workers, context, storage));
            // The starter waits for this.
            let _ = started.send(System::current());
            if let Err(error) = runner.run() {
                guard.halt(&format!("the workers' system ended: {error}"));
            }
            arbiters.stop();
            cells.iter().for_each(|cell| cell.close());
        };
        let thread = std::thread::Builder::new().name("logboat-system".to_owned()).spawn(run)?;
        let system = system.recv().map_err(|_| io::Error::other("the workers did not start"))?;
        Ok(Self { system, thread })
    }

    /// Ends the threads. Returns whether they have ended by the deadline.
    pub(crate) fn stop(self, deadline: Instant) -> bool {
        self.system.stop();
        join_by(self.thread, deadline)
    }
}

fn new_cells(
    workers: &Workers,
    alarms: &Arc<Alarms>,
    context: &WorkerContext,
    storage: &Arc<dyn Storage>,
) -> Vec<Arc<WorkerCell>> {
    let new = |(number, inbox): (usize, &Arc<_>)| {
        let turn = Turn::new(Arc::clone(storage), ReadToken(random_start()));
        let (own, alarms) = (Arc::clone(inbox), Arc::clone(alarms));
        let state = WorkerState::new(number, own, alarms, context.clone(), turn);
        WorkerCell::new(Arc::clone(inbox), Arc::clone(&context.user_code.stuck), state)
    };
    workers.iter().enumerate().map(new).collect()
}
