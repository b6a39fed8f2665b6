//! What to show of a key that has no order: the first answer that fits none, and what was going on
//! around it.

use super::model::{observations, replay};
use super::search;
use super::search::Ending;
use crate::history::{Answer, Kind, Operation, Outcome};
use std::borrow::{Borrow, Cow};
use std::fmt;

/// Why a history is not linearizable, for one key.
///
/// Operations that were answered after the culprit returned are shown as they stood then: without
/// an answer.
#[derive(Clone, Debug)]
pub struct Report {
    /// The key.
    pub key: String,
    /// How many operations on it were answered or may have had an effect.
    pub operations: usize,
    /// The first answer by time that fits no order: without it and all that came later, the history
    /// is linearizable.
    pub culprit: Operation,
    /// The operations that may have written what the culprit was told: those that put just that,
    /// counted up to it, or appended its end. Of several, those with the longest value.
    pub writers: Vec<Operation>,
    /// The longest order found of what was answered up to the culprit and of open operations.
    pub order: Vec<Operation>,
    /// How many operations that were answered up to the culprit have no place in `order`.
    pub left_out: usize,
    /// The operations under way between the call of the earliest read that is needed for the
    /// contradiction, often the culprit itself, and the culprit's return. By time of call.
    pub window: Vec<Operation>,
}

/// How many of the last operations of each list are printed.
const SHOWN: usize = 20;

/// Up to how many characters a value is printed in full.
const LONG: usize = 60;

type Part<'a> = Vec<Cow<'a, Operation>>;

impl Report {
    /// The report on a key whose `operations` are known to have no order. Each search on the way
    /// may make `steps` attempts; one that is undecided makes the report longer, not wrong.
    pub(super) fn new(key: &str, operations: &[&Operation], steps: u64) -> Self {
        let returns = by_return(operations);
        let last =
            least(returns.len() - 1, |last| fails(&up_to(operations, &returns, last), steps));
        let culprit = operations[returns[last].1];
        let part = up_to(operations, &returns, last);
        let start = earliest_read_needed(&part, culprit, steps);
        let order = longest_order(&part, steps);
        let answered = |list: &[Operation]| list.iter().filter_map(Operation::return_ns).count();
        Self {
            key: key.to_owned(),
            operations: operations.len(),
            culprit: culprit.clone(),
            writers: writers(operations, culprit),
            left_out: last + 1 - answered(&order),
            order,
            window: window(&part, culprit, start),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "key {:?}, {} operations", self.key, self.operations)?;
        writeln!(f, "The first answer that fits no order (times in seconds):")?;
        writeln!(f, "  {}", Shown(&self.culprit))?;
        if observations(&self.culprit).next().is_some() {
            writeln!(f, "What may have written the value, {} operations:", self.writers.len())?;
            show_last(f, &self.writers, |each| Shown(each).to_string())?;
        }
        writeln!(
            f,
            "The longest order of what was answered until then has {} operations and leaves out \
             {}. \
             Its end, with the value after each:",
            self.order.len(),
            self.left_out
        )?;
        let mut value = None;
        let mut steps = Vec::new();
        for operation in &self.order {
            value = replay(value, operation).expect("the order was found by a search");
            steps.push(format!("{}  => {}", Shown(operation), Text(value.as_deref())));
        }
        show_last(f, &steps, String::clone)?;
        writeln!(f, "What was under way, from the earliest read that matters on:")?;
        show_last(f, &self.window, |each| Shown(each).to_string())
    }
}

/// When each answer arrived, and the number of the operation, in order of time.
fn by_return(operations: &[&Operation]) -> Vec<(u64, usize)> {
    let mut returns: Vec<(u64, usize)> = operations
        .iter()
        .enumerate()
        .filter_map(|(index, each)| Some((each.return_ns()?, index)))
        .collect();
    returns.sort_unstable();
    returns
}

/// The history when the answer number `last` of `returns` had arrived. Later answers are dropped,
/// and so are operations that turned out to change nothing.
fn up_to<'a>(operations: &[&'a Operation], returns: &[(u64, usize)], last: usize) -> Part<'a> {
    let until = returns[last];
    let mut part = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        if operation.return_ns().is_some_and(|at| (at, index) <= until) {
            part.push(Cow::Borrowed(*operation));
        } else if operation.call_ns <= until.0 && !is_read(operation) {
            part.push(Cow::Owned(Operation { outcome: Outcome::Unknown, ..(*operation).clone() }));
        }
    }
    part
}

/// The call of the earliest read that is needed for `part` to fail, or of the culprit if that is
/// earlier.
fn earliest_read_needed(part: &Part<'_>, culprit: &Operation, steps: u64) -> u64 {
    let mut calls: Vec<u64> =
        part.iter().filter(|each| is_read(each)).map(|each| each.call_ns).collect();
    calls.push(culprit.call_ns);
    calls.sort_unstable_by(|left, right| right.cmp(left));
    let needed = least(calls.len() - 1, |index| {
        let matters =
            |each: &&Operation| *each == culprit || !is_read(each) || each.call_ns >= calls[index];
        fails(&part.iter().map(AsRef::as_ref).filter(matters).collect::<Vec<_>>(), steps)
    });
    calls[needed].min(culprit.call_ns)
}

fn longest_order(part: &Part<'_>, steps: u64) -> Vec<Operation> {
    let operations: Vec<&Operation> = part.iter().map(AsRef::as_ref).collect();
    match search(&operations, steps) {
        Ending::None { longest } => longest.iter().map(|&each| operations[each].clone()).collect(),
        Ending::Order(_) | Ending::Undecided => Vec::new(),
    }
}

fn window(part: &Part<'_>, culprit: &Operation, start: u64) -> Vec<Operation> {
    let mut window: Vec<Operation> = part
        .iter()
        .map(AsRef::as_ref)
        .filter(|each| each.return_ns().is_none_or(|at| at >= start))
        .filter(|each| *each == culprit || !is_read(each) || each.call_ns >= start)
        .cloned()
        .collect();
    window.sort_by_key(|each| each.call_ns);
    window
}

/// Whether the operations are known to have no order.
fn fails<O: Borrow<Operation>>(operations: &[O], steps: u64) -> bool {
    let operations: Vec<&Operation> = operations.iter().map(Borrow::borrow).collect();
    matches!(search(&operations, steps), Ending::None { .. })
}

/// The least number up to `most` that `is_enough`, if all after it are and `most` is.
fn least(most: usize, is_enough: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_enough(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    high
}

/// Whether the operation was told that it changed nothing.
fn is_read(operation: &Operation) -> bool {
    match &operation.outcome {
        Outcome::Done { answer, .. } => match answer {
            Answer::Read(_) | Answer::Mismatched { .. } => true,
            Answer::Written | Answer::Swapped | Answer::Counted(_) => false,
        },
        Outcome::Refused | Outcome::Unknown => false,
    }
}

/// The operations that may have written what `reader` was told: of those that put it or appended
/// its end, the ones with the longest value.
fn writers(operations: &[&Operation], reader: &Operation) -> Vec<Operation> {
    let written =
        |each: &Operation| observations(reader).filter_map(|text| written_of(each, &text)).max();
    let longest = operations.iter().filter_map(|each| written(each)).max();
    operations
        .iter()
        .filter(|each| longest.is_some() && written(each) == longest)
        .map(|each| (*each).clone())
        .collect()
}

/// How many bytes at the end of `text` the operation may have written, if any.
fn written_of(operation: &Operation, text: &str) -> Option<usize> {
    match &operation.kind {
        Kind::Put { value } | Kind::Cas { value, .. } => {
            (!is_read(operation) && value == text).then_some(value.len())
        }
        Kind::Append { value } => text.ends_with(value.as_str()).then_some(value.len()),
        Kind::Incr { .. } => match operation.outcome {
            Outcome::Done { answer: Answer::Counted(sum), .. } => {
                (sum.to_string() == text).then_some(text.len())
            }
            Outcome::Done { .. } | Outcome::Refused | Outcome::Unknown => None,
        },
        Kind::Get | Kind::Delete | Kind::Expire { .. } => None,
    }
}

fn show_last<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    line: impl Fn(&T) -> String,
) -> fmt::Result {
    let hidden = items.len().saturating_sub(SHOWN);
    if hidden > 0 {
        writeln!(f, "  … {hidden} before")?;
    }
    items[hidden..].iter().try_for_each(|item| writeln!(f, "  {}", line(item)))
}

/// An operation on one line.
struct Shown<'a>(&'a Operation);

/// A value, or the middle left out if it is long.
struct Text<'a>(Option<&'a str>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { client, call_ns, key: _, kind, outcome, info } = self.0;
        write!(f, "{} to ", seconds(*call_ns))?;
        match self.0.return_ns() {
            Some(return_ns) => write!(f, "{}", seconds(return_ns))?,
            None => write!(f, "{:>14}", "?")?,
        }
        write!(f, "  client {client}: ")?;
        match kind {
            Kind::Put { value } => write!(f, "put {}", Text(Some(value)))?,
            Kind::Get => write!(f, "get")?,
            Kind::Append { value } => write!(f, "append {}", Text(Some(value)))?,
            Kind::Cas { expect, value } => {
                write!(f, "cas {} to {}", Text(expect.as_deref()), Text(Some(value)))?;
            }
            Kind::Incr { by } => write!(f, "incr by {by}")?,
            Kind::Delete => write!(f, "delete")?,
            Kind::Expire { value } => write!(f, "expire {}", Text(Some(value)))?,
        }
        match outcome {
            Outcome::Refused => write!(f, " (refused)")?,
            Outcome::Unknown => write!(f, " (no answer)")?,
            Outcome::Done { answer: Answer::Written | Answer::Swapped, .. } => {
                write!(f, " (done)")?
            }
            Outcome::Done { answer: Answer::Read(found), .. } => {
                write!(f, " (found {})", Text(found.as_deref()))?;
            }
            Outcome::Done { answer: Answer::Counted(sum), .. } => write!(f, " (gave {sum})")?,
            Outcome::Done { answer: Answer::Mismatched { current: None }, .. } => {
                write!(f, " (did not match)")?;
            }
            Outcome::Done { answer: Answer::Mismatched { current: Some(found) }, .. } => {
                write!(f, " (did not match, found {})", Text(found.as_deref()))?;
            }
        }
        info.as_ref().map_or(Ok(()), |info| write!(f, " {info}"))
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(text) = self.0 else {
            return write!(f, "absent");
        };
        let characters = text.chars().count();
        if characters <= LONG {
            return write!(f, "{text:?}");
        }
        let start: String = text.chars().take(LONG / 3).collect();
        let end: String = text.chars().skip(characters - LONG / 3).collect();
        write!(f, "{start:?} … {end:?} ({characters} characters)")
    }
}

fn seconds(ns: u64) -> String {
    format!("{:>4}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}
