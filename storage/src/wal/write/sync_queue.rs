//! The queue before the thread that syncs. The next batch is written while the last one is synced.
//! One sync completes all batches that were written before it began (group commit).

use super::log::Unsynced;
use super::shared::{Pending, Shared};
use super::{Condvar, Mutex};
use crate::wal::disk::Disk;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Between the thread that writes and the one that syncs.
pub(crate) struct SyncQueue<D: Disk> {
    state: Mutex<State<D>>,
    /// Something to sync came, or the end.
    work: Condvar,
    /// Everything handed over is synced and completed.
    idle: Condvar,
    shared: Arc<Shared<D>>,
}

struct State<D: Disk> {
    target: Option<Unsynced<D::File>>,
    pending: Vec<Pending>,
    busy: bool,
    closed: bool,
}

impl<D: Disk> SyncQueue<D> {
    pub(crate) fn new(shared: Arc<Shared<D>>) -> Self {
        Self {
            state: Mutex::new(State {
                target: None,
                pending: Vec::new(),
                busy: false,
                closed: false,
            }),
            work: Condvar::new(),
            idle: Condvar::new(),
            shared,
        }
    }

    /// Syncs what is handed over until the queue is closed. All that came while a sync ran is
    /// covered by the next one.
    pub(crate) fn run(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(unsynced) = state.target.take() {
                let pending = std::mem::take(&mut state.pending);
                state.busy = true;
                drop(state);
                let sync = AssertUnwindSafe(|| self.shared.sync(&unsynced, pending));
                if catch_unwind(sync).is_err() {
                    self.shared.poison("the thread that syncs panicked");
                }
                state = self.state.lock();
                state.busy = false;
                self.idle.notify_all();
            } else if state.closed {
                return;
            } else {
                self.work.wait(&mut state);
            }
        }
    }

    /// Hands over what was written, and who waits for it.
    pub(crate) fn hand(&self, unsynced: Unsynced<D::File>, pending: Vec<Pending>) {
        let mut state = self.state.lock();
        state.target = Some(unsynced);
        state.pending.extend(pending);
        self.work.notify_one();
    }

    /// Whether nothing is handed over or being synced.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        !state.busy && state.target.is_none()
    }

    /// Waits until everything handed over is synced and completed.
    pub(crate) fn wait_idle(&self) {
        let mut state = self.state.lock();
        while state.busy || state.target.is_some() {
            self.idle.wait(&mut state);
        }
    }

    /// Lets [`Self::run`] return when everything handed over is done.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_one();
    }
}
