//! The search for an order of one key's operations.

use super::Interval;
use super::entries::{Entries, Entry, Event};
use super::model::{Action, Model, State};
use std::collections::{HashMap, HashSet};

/// How many attempts it costs to remember a configuration, which is what takes memory.
const STEPS_TO_REMEMBER: u64 = 40;

/// How a search ended; operations go by their number.
#[derive(Debug)]
pub(super) enum Ending {
    /// This order of all completed operations and some open ones explains every answer.
    Order(Vec<usize>),
    /// There is none. This is the longest beginning of one that was met.
    None { longest: Vec<usize> },
    /// The work allowed was used up.
    Undecided,
}

/// A depth-first search with the order so far as its stack.
pub(super) struct Search<'a> {
    model: &'a Model<'a>,
    intervals: &'a [Interval],
    entries: Entries,
    /// The completed operations that have no place yet.
    left: usize,
    state: State,
    /// The sum of the marks of the operations that have a place.
    placed: u128,
    borrowed: Option<Borrowed>,
    stack: Vec<Frame>,
    /// Every configuration met: what has a place, the state, and what is borrowed. As marks of 128
    /// bits; two configurations that share one could at worst raise a false alarm.
    seen: HashSet<u128>,
    /// Which operations have a place.
    is_placed: Vec<bool>,
    /// The open operation called last before an open one that does the same, by the number of the
    /// latter. It is placed first, since it makes no difference which of them is.
    twins: Vec<Option<usize>>,
    /// Whether some answer says no more than that the value differed from one: then even a value
    /// that nothing observes may be what explains it.
    blind_mismatch: bool,
    longest: Vec<usize>,
    /// The completed operations that have no place in `longest`.
    longest_leaves: usize,
}

/// The last operation in the order, if it is an open one: it has to matter to the next.
#[derive(Clone, Copy)]
struct Borrowed {
    operation: usize,
    /// The state before it.
    before: State,
}

/// A place in the order, and what to restore when it is given up.
struct Frame {
    entry: Entry,
    operation: usize,
    state: State,
    borrowed: Option<Borrowed>,
    /// There is no need to try anything else in this place.
    forced: bool,
}

/// What became of an attempt to place an operation next.
enum Attempt {
    Placed,
    /// It does not fit here, or what follows is known to fail.
    Failed,
    /// Nothing that can be placed here leads to an order.
    Hopeless,
}

impl<'a> Search<'a> {
    pub(super) fn new(model: &'a Model<'a>, intervals: &'a [Interval]) -> Self {
        let blind = |each: &Action| matches!(each, Action::Mismatch { current: None, .. });
        let completed = intervals.iter().filter(|each| each.return_ns.is_some()).count();
        Self {
            model,
            intervals,
            entries: Entries::new(intervals),
            left: completed,
            state: State::Absent,
            placed: 0,
            borrowed: None,
            stack: Vec::new(),
            seen: HashSet::new(),
            is_placed: vec![false; intervals.len()],
            twins: twins(&model.actions, intervals),
            blind_mismatch: model.actions.iter().any(blind),
            longest: Vec::new(),
            longest_leaves: completed,
        }
    }

    /// Searches until there is an order or there can be none, or `steps` attempts were made. An
    /// attempt that succeeds costs more, since it is remembered.
    pub(super) fn run(mut self, steps: u64) -> Ending {
        let mut entry = self.entries.first_completed();
        let mut attempts = 0;
        while self.left > 0 {
            attempts += 1;
            if attempts + STEPS_TO_REMEMBER * self.seen.len() as u64 > steps {
                return Ending::Undecided;
            }
            let attempt = match self.entries.event(entry) {
                Event::Call(operation) if self.is_callable(operation) => {
                    self.place(entry, operation)
                }
                // Whatever is called after a return can't come before it: try the open ones.
                Event::Return(_) => {
                    entry = self.entries.first_open();
                    continue;
                }
                Event::Call(_) | Event::End => Attempt::Hopeless,
            };
            entry = match attempt {
                Attempt::Placed => self.entries.first_completed(),
                Attempt::Failed => self.entries.after(entry),
                Attempt::Hopeless => match self.give_up() {
                    Some(entry) => self.entries.after(entry),
                    None => {
                        return Ending::None { longest: self.longest };
                    }
                },
            };
        }
        Ending::Order(self.order())
    }

    /// Completed operations are met before the first return and so are callable; an open one is if
    /// it was called before that return.
    fn is_callable(&self, operation: usize) -> bool {
        let Interval { call_ns, return_ns } = self.intervals[operation];
        return_ns.is_some()
            || self
                .entries
                .first_to_return()
                .is_none_or(|first| self.intervals[first].return_ns >= Some(call_ns))
    }

    fn place(&mut self, entry: Entry, operation: usize) -> Attempt {
        let action = self.model.actions[operation];
        let open = self.intervals[operation].return_ns.is_none();
        let Some(next) = self.model.step(self.state, action) else {
            return Attempt::Failed;
        };
        if self.twins[operation].is_some_and(|twin| !self.is_placed[twin]) {
            return Attempt::Failed;
        }
        if self.is_needless(operation, open, next) {
            return Attempt::Failed;
        }
        let placed = self.placed ^ mark(0, operation as u64);
        let borrowed = open.then_some(Borrowed { operation, before: self.state });
        // What leaves the value alone whenever it is placed may as well be placed at once.
        let forced = !open && action.preserves();
        if !self.seen.insert(placed ^ state_mark(1, next) ^ borrowed_mark(borrowed)) {
            return if forced { Attempt::Hopeless } else { Attempt::Failed };
        }
        self.stack.push(Frame {
            entry,
            operation,
            state: self.state,
            borrowed: self.borrowed,
            forced,
        });
        self.entries.lift(entry);
        self.is_placed[operation] = true;
        self.left -= usize::from(!open);
        self.state = next;
        self.placed = placed;
        self.borrowed = borrowed;
        Attempt::Placed
    }

    /// Whether orders that go on with `operation`, to the state `next`, can be left out. They can
    /// if there is another order with fewer open operations, or with the last of them placed later,
    /// or with the last two in the order of their calls.
    fn is_needless(&self, operation: usize, open: bool, next: State) -> bool {
        if open && (next == self.state || (next == State::Unobserved && !self.blind_mismatch)) {
            return true;
        }
        let Some(borrowed) = self.borrowed else {
            return false;
        };
        let action = self.model.actions[operation];
        let Some(without) = self.model.step(borrowed.before, action) else {
            return false;
        };
        if without == next {
            return true;
        }
        let changes_places =
            self.model.step(without, self.model.actions[borrowed.operation]) == Some(next);
        changes_places && (!open || self.is_earlier(operation, borrowed.operation))
    }

    /// Whether one open operation was called before another.
    fn is_earlier(&self, operation: usize, than: usize) -> bool {
        let rank = |each: usize| (self.intervals[each].call_ns, each);
        rank(operation) < rank(than)
    }

    /// Takes back the last operation for which there may be another, and returns its entry.
    fn give_up(&mut self) -> Option<Entry> {
        if self.left < self.longest_leaves {
            self.longest_leaves = self.left;
            self.longest = self.order();
        }
        loop {
            let frame = self.stack.pop()?;
            self.entries.unlift(frame.entry);
            self.is_placed[frame.operation] = false;
            self.left += usize::from(self.intervals[frame.operation].return_ns.is_some());
            self.state = frame.state;
            self.placed ^= mark(0, frame.operation as u64);
            self.borrowed = frame.borrowed;
            if !frame.forced {
                return Some(frame.entry);
            }
        }
    }

    /// The order so far, up to its last completed operation.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = self.stack.iter().map(|frame| frame.operation).collect();
        while order.pop_if(|last| self.intervals[*last].return_ns.is_none()).is_some() {}
        order
    }
}

/// For each open operation the one before it, in the order in which the search tries them, that
/// does the same.
fn twins(actions: &[Action], intervals: &[Interval]) -> Vec<Option<usize>> {
    let mut open: Vec<usize> =
        (0..actions.len()).filter(|&each| intervals[each].return_ns.is_none()).collect();
    open.sort_by_key(|&each| intervals[each].call_ns);
    let mut latest = HashMap::new();
    let mut twins = vec![None; actions.len()];
    for operation in open {
        twins[operation] = latest.insert(actions[operation], operation);
    }
    twins
}

fn borrowed_mark(borrowed: Option<Borrowed>) -> u128 {
    match borrowed {
        None => 0,
        Some(Borrowed { operation, before }) => mark(2, operation as u64) ^ state_mark(3, before),
    }
}

fn state_mark(role: u64, state: State) -> u128 {
    match state {
        State::Absent => mark(role, 1 << 62),
        State::Number(number) => mark(role + 4, number.cast_unsigned()),
        State::Text(text) => mark(role, text.0),
        State::Unobserved => mark(role, 1 << 63),
    }
}

/// A pseudorandom number for each part of a configuration (Zobrist, "A new hashing method with
/// application for game playing", 1970), made by the finaliser of SplitMix64.
fn mark(role: u64, part: u64) -> u128 {
    let half = |salt: u64| {
        let mut word = part.wrapping_add((8 * salt + role + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..2 {
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^= word >> 31;
        }
        u128::from(word)
    };
    half(0) << 64 | half(1)
}
