//! The queue behind a worker's inbox. Any thread fills it, and one thread empties it. That thread
//! is woken only when the queue was empty.

use super::{Mutex, MutexGuard};
use std::sync::Arc;

/// How many times the limit an item may weigh that comes alone.
const MAX_ALONE: usize = 2;

/// The least weight that an item may have when it comes alone, whatever the limit. What a transport
/// hands over at once weighs about half as much.
const LEAST_LIMIT: usize = 2 << 20;

/// The side that empties a queue.
pub(crate) trait Server {
    /// Wakes that side, which empties the queue soon. Never blocks.
    fn wake(&self);
}

/// A queue. Items that are weighed are limited; all others are always taken.
pub(crate) struct Queue<T, S> {
    state: Mutex<State<T, S>>,
    /// How much the weighed items may weigh together.
    limit: usize,
}

struct State<T, S> {
    server: Option<Arc<S>>,
    items: Vec<T>,
    /// The weight of the weighed items among them.
    weight: usize,
    /// The queue is closed: nobody will empty it any more.
    closed: bool,
}

impl<T, S: Server> Queue<T, S> {
    /// A queue that takes weighed items up to `limit`.
    pub(crate) fn new(limit: usize) -> Self {
        let state = State { server: None, items: Vec::new(), weight: 0, closed: false };
        Self { state: Mutex::new(state), limit }
    }

    /// Adds `item` and wakes the server unless it is awake. When the server is gone, the item is
    /// dropped, which notifies those that wait for it.
    pub(crate) fn post(&self, item: T) {
        self.push(self.state.lock(), item);
    }

    /// Like [`Self::post`] for an item of this weight, if there is room for it. An item that comes
    /// when no other waits may weigh more than the limit, since it would never get through
    /// otherwise. It may weigh up to [`MAX_ALONE`] times as much. Returns whether there was room.
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

    /// Adds several items, with nothing between them.
    pub(crate) fn post_all(&self, items: Vec<T>) {
        if !items.is_empty() {
            self.extend(self.state.lock(), items);
        }
    }

    fn push(&self, state: MutexGuard<'_, State<T, S>>, item: T) {
        self.extend(state, [item]);
    }

    /// Adds items, of which there is at least one.
    fn extend(&self, mut state: MutexGuard<'_, State<T, S>>, items: impl IntoIterator<Item = T>) {
        if state.closed {
            drop(state);
            return drop(items);
        }
        // While the queue is not empty, the server is awake.
        let asleep = if state.items.is_empty() { state.server.clone() } else { None };
        state.items.extend(items);
        drop(state);
        if let Some(server) = asleep {
            server.wake();
        }
    }

    /// Takes everything, in exchange for the memory of `empty`.
    pub(crate) fn take(&self, empty: &mut Vec<T>) {
        let mut state = self.state.lock();
        std::mem::swap(&mut state.items, empty);
        state.weight = 0;
    }

    /// Connects the server of this queue, in place of an earlier one.
    pub(crate) fn connect(&self, server: S) {
        let server = Arc::new(server);
        self.state.lock().server = Some(Arc::clone(&server));
        // Items that came before woke nobody, or another.
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
