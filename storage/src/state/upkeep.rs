//! The threads that flush and compact a state engine.

use crate::state::engine::StateEngine;
use crate::state::error::StateError;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a thread looks whether there is something to do.
const LOOK: Duration = Duration::from_millis(20);

/// What is called after each flush, and when the engine has failed.
pub type UpkeepReport = Box<dyn Fn(Result<(), StateError>) + Send + Sync>;

/// Flushes and compacts a state engine in the background, on a thread each, until it is dropped.
pub struct StateUpkeep {
    stopping: Arc<Stopping>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Stopping {
    is_stopping: Mutex<bool>,
    changed: Condvar,
}

impl StateUpkeep {
    /// Begins. `report` is called after each flush, and once when the engine has failed, with the
    /// reason.
    #[must_use]
    pub fn start(engine: Arc<dyn StateEngine>, report: UpkeepReport) -> Self {
        let stopping = Arc::new(Stopping::default());
        let report = Arc::new(report);
        let spawn = |name: &str, step: Step| {
            let (engine, stopping) = (Arc::clone(&engine), Arc::clone(&stopping));
            let report = Arc::clone(&report);
            let run = move || step(&*engine, &stopping, &**report);
            thread::Builder::new().name(name.to_owned()).spawn(run)
        };
        let threads =
            [spawn("state-flush", keep_flushing), spawn("state-compact", keep_compacting)];
        let threads = threads.into_iter().filter_map(|thread| {
            thread.inspect_err(|error| tracing::error!("starting a thread: {error}")).ok()
        });
        Self { stopping, threads: threads.collect() }
    }
}

type Step = fn(&dyn StateEngine, &Stopping, &dyn Fn(Result<(), StateError>));

fn keep_flushing(
    engine: &dyn StateEngine,
    stopping: &Stopping,
    report: &dyn Fn(Result<(), StateError>),
) {
    while !stopping.wait() {
        match engine.flush_if_due(Instant::now()) {
            Ok(false) => {}
            Ok(true) => report(Ok(())),
            Err(error) => return report(Err(error)),
        }
    }
}

fn keep_compacting(
    engine: &dyn StateEngine,
    stopping: &Stopping,
    _: &dyn Fn(Result<(), StateError>),
) {
    while !stopping.wait() {
        loop {
            match engine.compact() {
                Ok(true) if !stopping.is_stopping() => {}
                Ok(_) => break,
                Err(error) => {
                    // Reads of what is whole go on, and so do flushes.
                    return tracing::error!("the tables are put in order no more: {error}");
                }
            }
        }
    }
}

impl Stopping {
    fn is_stopping(&self) -> bool {
        *self.is_stopping.lock()
    }

    /// Waits for the next look. Returns whether there is none.
    fn wait(&self) -> bool {
        let mut is_stopping = self.is_stopping.lock();
        if !*is_stopping {
            self.changed.wait_for(&mut is_stopping, LOOK);
        }
        *is_stopping
    }
}

impl Drop for StateUpkeep {
    fn drop(&mut self) {
        *self.stopping.is_stopping.lock() = true;
        self.stopping.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic there was reported where it happened.
            let _ = thread.join();
        }
    }
}
