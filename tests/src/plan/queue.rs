//! What is yet to happen, in the order of virtual time.

use super::replica::{Message, Produced};
use logboat_raft::{NodeId, SupportMessage, Time};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// What happens.
pub(super) enum Event {
    /// A node looks at the clock.
    Look(NodeId),
    /// A node hears of another's liveness.
    Word { from: NodeId, to: NodeId, message: SupportMessage },
    /// Messages of replicas on one node arrive at those on another.
    Frame { to: NodeId, messages: Vec<Message> },
    /// A worker's turn begins.
    Turn { node: NodeId, worker: usize },
    /// What replicas of a node produced leaves.
    Flush(NodeId, Box<Produced>),
    /// A worker's turn is over.
    TurnEnds { node: NodeId, worker: usize },
    /// A sync of a node's log is done.
    Synced(NodeId),
}

/// Events by time, and of one time in the order in which they were added.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    added: u64,
}

struct Entry {
    at: Time,
    number: u64,
    event: Event,
}

impl Queue {
    /// Has `event` happen at `at`.
    pub(super) fn add(&mut self, at: Time, event: Event) {
        self.added += 1;
        self.heap.push(Reverse(Entry { at, number: self.added, event }));
    }

    /// Takes out the next event up to `end`, with its time.
    pub(super) fn pop(&mut self, end: Time) -> Option<(Time, Event)> {
        let is_due = self.heap.peek().is_some_and(|Reverse(entry)| entry.at <= end);
        let entry = if is_due { self.heap.pop() } else { None };
        entry.map(|Reverse(entry)| (entry.at, entry.event))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}
