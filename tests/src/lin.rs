//! A checker of linearizability. A history is linearizable if some order of its operations explains
//! every answer, and puts no operation before one that had returned when it was called.
//!
//! The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with the
//! refinements of Lowe ("Testing for linearizability", 2017). Operations are lifted from linked
//! lists and put back. A configuration (the set of operations placed, and the state) is never
//! searched twice. Keys are checked apart, since a history is linearizable if its parts for each
//! object are (Herlihy and Wing, "Linearizability", 1990).
//!
//! An operation without an answer may be placed anywhere after its call, or left out. A chaos run
//! leaves dozens of them on a key, and trying every subset would never end. Four rules, none of
//! which changes a verdict, cut the search down:
//!
//! - Values that nothing observes are one state (`model::State::Unobserved`), but for the integers
//!   of a key that has an incr, which tells them all apart.
//! - A get, or a cas that did not match, is placed as soon as its answer fits: it changes nothing
//!   for the others.
//! - If there is an order, there is one with the fewest open operations, and among those one in
//!   which they come as late as they can. So an open operation is placed only if it makes a
//!   difference, and only right before an operation that needs it. An operation needs it if it
//!   would not fit without it. It also needs it if it does not undo it and can't change places with
//!   it.
//! - Of open operations that do the same, the one called first is placed first. The same holds for
//!   two that follow each other and could change places.
//!
//! Completed operations are tried before open ones, which are seldom needed.
//!
//! An order that was found is replayed on the texts of the history before it is believed.

mod entries;
mod model;
mod report;
mod search;
mod text;

use self::model::{Model, replay};
pub use self::report::Report;
use self::search::{Ending, Search};
use crate::history::{Kind, Operation, Outcome};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fmt, thread};

/// How many attempts to place an operation [`check`] makes for each key: some ten seconds, and a
/// few hundred megabytes at the most.
pub const STEPS: u64 = 400_000_000;

/// What a check found.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Every key has an order that explains all its answers.
    Linearizable,
    /// Some key has none.
    NotLinearizable(Box<Report>),
    /// No key is known to be wrong, but the search was given up for some. This is no success.
    Undecided {
        /// The first such key.
        key: String,
        /// How many attempts were made.
        steps: u64,
    },
}

/// The time during which an operation took effect, if it did.
#[derive(Clone, Copy, Debug)]
struct Interval {
    call_ns: u64,
    /// `None` if it may take effect at any time after the call, or never.
    return_ns: Option<u64>,
}

/// Checks a history whose keys all start absent. Its operations may come in any order.
///
/// If several keys are wrong, the report is on the first by name.
pub fn check(operations: &[Operation]) -> Verdict {
    check_within(operations, STEPS)
}

/// Like [`check`], with the attempts to place an operation that may be made for each key.
pub fn check_within(operations: &[Operation], steps: u64) -> Verdict {
    let keys = by_key(operations);
    let endings = search_all(&keys, steps);
    let mut undecided = None;
    for ((key, operations), ending) in keys.iter().zip(endings) {
        match ending {
            Ending::Order(_) => {}
            Ending::None { .. } => {
                return Verdict::NotLinearizable(Box::new(Report::new(key, operations, steps)));
            }
            Ending::Undecided => undecided = undecided.or(Some(*key)),
        }
    }
    match undecided {
        Some(key) => Verdict::Undecided { key: key.to_owned(), steps },
        None => Verdict::Linearizable,
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linearizable => write!(f, "linearizable"),
            Self::NotLinearizable(report) => write!(f, "not linearizable\n{report}"),
            Self::Undecided { key, steps } => {
                write!(f, "undecided: no answer for key {key:?} within {steps} steps")
            }
        }
    }
}

/// The operations of each key that may have had an effect or were told something.
fn by_key(operations: &[Operation]) -> Vec<(&str, Vec<&Operation>)> {
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        let matters = match operation.outcome {
            Outcome::Done { .. } => true,
            Outcome::Refused => false,
            Outcome::Unknown => operation.kind != Kind::Get,
        };
        if matters {
            keys.entry(&operation.key).or_default().push(operation);
        }
    }
    keys.into_iter().collect()
}

/// Searches every key, on as many threads as there are processors or keys.
fn search_all(keys: &[(&str, Vec<&Operation>)], steps: u64) -> Vec<Ending> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(keys.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut endings = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((_, operations)) = keys.get(index) else {
                return endings;
            };
            endings.push((index, search(operations, steps)));
        }
    };
    let mut endings: Vec<(usize, Ending)> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut endings = work();
        for other in others {
            endings.extend(other.join().expect("a search panics only on a bug of its own"));
        }
        endings
    });
    endings.sort_unstable_by_key(|(index, _)| *index);
    endings.into_iter().map(|(_, ending)| ending).collect()
}

/// Searches for an order of the operations of one key.
fn search(operations: &[&Operation], steps: u64) -> Ending {
    let model = Model::new(operations);
    let intervals: Vec<Interval> = operations
        .iter()
        .map(|each| Interval { call_ns: each.call_ns, return_ns: each.return_ns() })
        .collect();
    let ending = Search::new(&model, &intervals).run(steps);
    if let Ending::Order(order) = &ending {
        let replayed = order.iter().try_fold(None, |value, &each| replay(value, operations[each]));
        assert!(replayed.is_some(), "two texts of the history share a fingerprint");
    }
    ending
}
