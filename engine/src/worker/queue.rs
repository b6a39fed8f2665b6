//! The queue behind a worker's inbox. Any thread fills it and one empties it; that one is woken
//! only when the queue was empty.

use super::{Mutex, MutexGuard};
use std::sync::OnceLock;

/// What an item that comes alone may weigh, in limits.
const MAX_ALONE: usize = 2;

/// A limit below this counts as this for an item that comes alone: what a transport hands over at
/// once weighs about half as much.
const LEAST_LIMIT: usize = 2 << 20;

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

    /// Like [`Self::post`] for an item of this weight, if there is room for it. An item that comes
    /// when no other waits may weigh more than the limit, or it would never get through, but not
    /// more than [`MAX_ALONE`] times as much. Returns whether there was room.
    pub(crate) fn post_weighed(&self, item: T, weight: usize) -> bool {
        let mut state = self.state.lock();
        let limit = match state.weight {
            0 => self.limit.max(LEAST_LIMIT).saturating_mul(MAX_ALONE),
            _ => self.limit,
        };
        if state.weight + weight > limit {
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
