//! The queue behind a worker's inbox. Any thread fills it and one empties it; that one is woken
//! only when the queue was empty.

use super::{Mutex, MutexGuard};
use std::sync::OnceLock;

/// Who empties a queue.
pub(crate) trait Server {
    /// Has the queue emptied soon. Never blocks.
    fn wake(&self);
}

/// A queue. It takes whatever is posted, but for items that are weighed.
pub(crate) struct Queue<T, S> {
    state: Mutex<State<T>>,
    /// How much the weighed items may weigh together.
    limit: usize,
    server: OnceLock<S>,
}

struct State<T> {
    items: Vec<T>,
    /// What the weighed items among them weigh.
    weight: usize,
    /// Nobody will empty the queue any more.
    closed: bool,
}

impl<T, S: Server> Queue<T, S> {
    /// A queue that takes weighed items up to `limit`.
    pub(crate) fn new(limit: usize) -> Self {
        let state = State { items: Vec::new(), weight: 0, closed: false };
        Self { state: Mutex::new(state), limit, server: OnceLock::new() }
    }

    /// Adds `item` and wakes the server if it isn't awake already. When that is gone, the item is
    /// dropped, which tells those who wait for it.
    pub(crate) fn post(&self, item: T) {
        self.push(self.state.lock(), item);
    }

    /// Like [`Self::post`] for an item of this weight, if there is room for it: whatever it weighs,
    /// there is when no other waits. Whether there was.
    pub(crate) fn post_weighed(&self, item: T, weight: usize) -> bool {
        let mut state = self.state.lock();
        if state.weight > 0 && state.weight + weight > self.limit {
            return false;
        }
        state.weight += weight;
        self.push(state, item);
        true
    }

    fn push(&self, mut state: MutexGuard<'_, State<T>>, item: T) {
        if state.closed {
            drop(state);
            return drop(item);
        }
        let was_empty = state.items.is_empty();
        state.items.push(item);
        drop(state);
        if was_empty && let Some(server) = self.server.get() {
            server.wake();
        }
    }

    /// Takes everything, in exchange for the memory of `empty`.
    pub(crate) fn take(&self, empty: &mut Vec<T>) {
        let mut state = self.state.lock();
        std::mem::swap(&mut state.items, empty);
        state.weight = 0;
    }

    /// Connects who serves this queue, once.
    pub(crate) fn connect(&self, server: S) {
        let server = self.server.get_or_init(|| server);
        // Items that came before found nobody to wake.
        server.wake();
    }

    /// Drops everything, now and from now on.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let items = std::mem::take(&mut state.items);
        drop(state);
        drop(items);
    }
}
