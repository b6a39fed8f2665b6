//! The operations that have no place in the order yet, as linked lists from which one can be lifted
//! and put back at no cost.

use super::Interval;

/// A node of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(usize);

/// What a node stands for; operations go by their number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Call(usize),
    Return(usize),
    End,
}

/// Two circular doubly linked lists: the calls and returns of the completed operations by time, and
/// the calls of the open ones. Apart, since completed operations are to be tried first, and there
/// may be many open ones, which stay in their list for good.
pub(super) struct Entries {
    next: Vec<usize>,
    previous: Vec<usize>,
    events: Vec<Event>,
    /// The node of an operation's return, by the operation's number.
    returns: Vec<Option<usize>>,
}

/// The heads of the lists, which are also their ends.
const COMPLETED: usize = 0;
const OPEN: usize = 1;

impl Entries {
    pub(super) fn new(intervals: &[Interval]) -> Self {
        let mut entries = Self {
            next: vec![COMPLETED, OPEN],
            previous: vec![COMPLETED, OPEN],
            events: vec![Event::End, Event::End],
            returns: vec![None; intervals.len()],
        };
        let mut events: Vec<(u64, bool, usize)> = Vec::new();
        for (operation, interval) in intervals.iter().enumerate() {
            events.push((interval.call_ns, false, operation));
            events.extend(interval.return_ns.map(|at| (at, true, operation)));
        }
        // At the same instant calls come first: operations that touch count as concurrent.
        events.sort_unstable();
        for (_, returned, operation) in events {
            if returned {
                let node = entries.add(COMPLETED, Event::Return(operation));
                entries.returns[operation] = Some(node);
            } else if intervals[operation].return_ns.is_some() {
                entries.add(COMPLETED, Event::Call(operation));
            } else {
                entries.add(OPEN, Event::Call(operation));
            }
        }
        entries
    }

    pub(super) fn event(&self, entry: Entry) -> Event {
        self.events[entry.0]
    }

    pub(super) fn first_completed(&self) -> Entry {
        Entry(self.next[COMPLETED])
    }

    pub(super) fn first_open(&self) -> Entry {
        Entry(self.next[OPEN])
    }

    pub(super) fn after(&self, entry: Entry) -> Entry {
        Entry(self.next[entry.0])
    }

    /// The operation that returns first: the next one in the order is called no later than that.
    pub(super) fn first_to_return(&self) -> Option<usize> {
        let mut entry = self.first_completed();
        loop {
            match self.event(entry) {
                Event::Call(_) => entry = self.after(entry),
                Event::Return(operation) => return Some(operation),
                Event::End => return None,
            }
        }
    }

    /// Takes out the operation whose call is `entry`.
    pub(super) fn lift(&mut self, entry: Entry) {
        self.unlink(entry.0);
        if let Some(node) = self.return_of(entry) {
            self.unlink(node);
        }
    }

    /// Puts back the operation whose call is `entry`. Operations are put back in the opposite order
    /// in which they were lifted, since a lifted node keeps the links to its old neighbours.
    pub(super) fn unlift(&mut self, entry: Entry) {
        if let Some(node) = self.return_of(entry) {
            self.relink(node);
        }
        self.relink(entry.0);
    }

    fn return_of(&self, entry: Entry) -> Option<usize> {
        match self.event(entry) {
            Event::Call(operation) => self.returns[operation],
            Event::Return(_) | Event::End => None,
        }
    }

    fn add(&mut self, head: usize, event: Event) -> usize {
        let node = self.events.len();
        let last = self.previous[head];
        self.events.push(event);
        self.previous.push(last);
        self.next.push(head);
        self.relink(node);
        node
    }

    fn unlink(&mut self, node: usize) {
        let (previous, next) = (self.previous[node], self.next[node]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    fn relink(&mut self, node: usize) {
        let (previous, next) = (self.previous[node], self.next[node]);
        self.next[previous] = node;
        self.previous[next] = node;
    }
}
