//! The guard against panics: it ends a node when one of the threads that the node relies on panics.

use crate::worker::event::Event;
use crate::worker::inbox::Workers;
use logboat_storage::Wal;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Ends a node that can't go on. Its log is poisoned with the reason, so that it promises nothing
/// any more, its peers withdraw their support, and the status names the reason.
#[derive(Clone)]
pub(crate) struct Guard {
    wal: Wal,
    workers: Workers,
}

impl Guard {
    pub(crate) const fn new(wal: Wal, workers: Workers) -> Self {
        Self { wal, workers }
    }

    /// Runs a closure that must not panic. If it does, the node ends. `what` names the thread.
    pub(crate) fn run<T>(&self, what: &str, run: impl FnOnce() -> T) -> Option<T> {
        let caught = catch_unwind(AssertUnwindSafe(run));
        caught.map_err(|panic| self.halt(&format!("{what} panicked: {}", message(&*panic)))).ok()
    }

    /// Ends the node for this reason.
    pub(crate) fn halt(&self, reason: &str) {
        self.wal.poison(reason);
        self.spread();
    }

    /// Tells all workers if the log takes no more writes. Returns whether that is so.
    pub(crate) fn spread(&self) -> bool {
        let Some(poisoned) = self.wal.poisoned() else {
            return false;
        };
        for worker in self.workers.iter() {
            worker.post(Event::Poisoned(poisoned.clone()));
        }
        true
    }
}

/// Runs a job of a single replica, and returns the message of a panic.
pub(crate) fn contain<T>(job: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(job)).map_err(|panic| message(&*panic).to_owned())
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_storage::WalOptions;

    #[test]
    fn a_panic_ends_the_node_and_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let options = WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() };
        let (wal, _) = Wal::open(directory.path(), options, |_| {}).unwrap();
        let guard = Guard::new(wal.clone(), Workers::new(1, 1 << 10));
        assert_eq!(guard.run("a worker", || 7), Some(7));
        assert!(!guard.spread() && wal.poisoned().is_none());
        assert_eq!(guard.run("a worker", || panic!("number {}", 7)), None::<()>);
        assert!(guard.spread());
        let reason = wal.poisoned().map(|poisoned| poisoned.to_string()).unwrap_or_default();
        assert!(reason.contains("a worker panicked: number 7"), "{reason}");
        wal.close();
    }
}
