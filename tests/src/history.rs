//! What clients asked of a store and what they were told: the input of the [checker](crate::lin),
//! in memory and as a file.
//!
//! A history file holds one JSON object a line, one operation each, in any order:
//!
//! | field | meaning |
//! | --- | --- |
//! | `client` | integer; the completed operations of one client don't overlap |
//! | `call_ns` | integer; the time just before the operation was first sent |
//! | `return_ns` | integer; the time just after its answer; `null` unless `ok` is `true` |
//! | `op` | `"put"`, `"get"`, `"append"`, `"cas"`, `"delete"` or `"expire"` |
//! | `key` | string; every key starts absent |
//! | `value` | string: what put, append and cas write; what an expire finds |
//! | `expect` | cas: the value to replace, `null` for an absent key |
//! | `output` | answered get: the value, `null` if absent; answered cas: whether it swapped |
//! | `current` | optional, a cas that did not match: what it found, `null` for an absent key |
//! | `ok` | `true`: answered; `false`: had no effect; `null`: may take effect once, or never |
//! | `info` | optional, anything |
//!
//! A field that does not belong to the operation is left out or `null`. All times are of one
//! monotonic clock.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};
use thiserror::Error;

/// One operation of a client on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The caller, which waits for each answer before it calls again. A caller that gave up on an
    /// operation may go on.
    pub client: u64,
    /// When the client called, before any retry, in nanoseconds of the history's clock.
    pub call_ns: u64,
    /// The key it read or wrote.
    pub key: String,
    /// What was asked.
    pub kind: Kind,
    /// What came of it.
    pub outcome: Outcome,
    /// Whatever helps a reader of the history, such as the node that was asked.
    pub info: Option<Value>,
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Set the key to a value.
    Put {
        /// The new value.
        value: String,
    },
    /// Read the key.
    Get,
    /// Add to the end of the key's value; an absent key counts as empty.
    Append {
        /// What to add.
        value: String,
    },
    /// Set the key to a value if it holds the expected one.
    Cas {
        /// What the key has to hold; `None` if it has to be absent.
        expect: Option<String>,
        /// The new value.
        value: String,
    },
    /// Add to the integer that the key's value is the decimal text of; an absent key counts as 0. A
    /// value that is no such text, or a sum beyond 64 bits, is refused.
    Incr {
        /// What to add.
        by: i64,
    },
    /// Make the key absent.
    Delete,
    /// The key becomes absent by itself, if it still holds this value. Nobody asks for it, so its
    /// outcome is always unknown: it may happen once, at any time after a put that says for how
    /// long the value lives.
    Expire {
        /// What was put, which no other operation writes.
        value: String,
    },
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer arrived.
    Done {
        /// When it did, in nanoseconds of the history's clock.
        return_ns: u64,
        /// What it said.
        answer: Answer,
    },
    /// It was refused and certainly had no effect, then or later.
    Refused,
    /// Nobody knows: it may take effect once, at any time after the call, or never.
    Unknown,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A put, an append or a delete took effect.
    Written,
    /// What a get found; `None` for an absent key.
    Read(Option<String>),
    /// A cas found what it expected and wrote its value.
    Swapped,
    /// A cas found something else and wrote nothing.
    Mismatched {
        /// What it found, if the store said so; `Some(None)` for an absent key.
        current: Option<Option<String>>,
    },
    /// An incr took effect, and this is the sum.
    Counted(i64),
}

/// Why a history could not be read.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The file could not be read.
    #[error("reading failed after line {line}: {source}")]
    Io {
        /// The last line that was read, counted from 1.
        line: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not an operation.
    #[error("line {line} is not an operation: {source}")]
    Json {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it, and in which column.
        source: serde_json::Error,
    },
    /// The fields of a line contradict one another.
    #[error("line {line} is not an operation: {problem}")]
    Fields {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Two completed operations of one client overlap, so the recording can't be trusted.
    #[error("client {client} was at two operations at once, on lines {first} and {second}")]
    Overlap {
        /// The client.
        client: u64,
        /// The line of the operation called first, counted from 1.
        first: usize,
        /// The line of the operation called before that one returned.
        second: usize,
    },
}

impl Operation {
    /// An operation that was just called. Its outcome is unknown until the answer is recorded.
    pub fn call(client: u64, call_ns: u64, key: impl Into<String>, kind: Kind) -> Self {
        Self { client, call_ns, key: key.into(), kind, outcome: Outcome::Unknown, info: None }
    }

    /// The operation with the answer that arrived at `return_ns`.
    pub fn answered(mut self, return_ns: u64, answer: Answer) -> Self {
        self.outcome = Outcome::Done { return_ns, answer };
        self
    }

    /// When the answer arrived, in nanoseconds of the history's clock, if one did.
    pub fn return_ns(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Done { return_ns, .. } => Some(return_ns),
            Outcome::Refused | Outcome::Unknown => None,
        }
    }
}

/// Reads a history file, in the order of its lines.
pub fn read(file: impl BufRead) -> Result<Vec<Operation>, HistoryError> {
    let mut operations = Vec::new();
    for (index, text) in file.lines().enumerate() {
        let line = index + 1;
        let text = text.map_err(|source| HistoryError::Io { line: index, source })?;
        let parsed: Line =
            serde_json::from_str(&text).map_err(|source| HistoryError::Json { line, source })?;
        let operation =
            parsed.operation().map_err(|problem| HistoryError::Fields { line, problem })?;
        operations.push(operation);
    }
    refuse_overlaps(&operations)?;
    Ok(operations)
}

/// Writes a history file, one line an operation, and tells how many keys had to be left out.
///
/// The format has no incr. An incr that was answered is written as the cas that it amounts to. A
/// key with an unanswered incr is left out, with all its operations. So is a key of which nobody
/// knows whether an incr found it absent or at 0.
pub fn write(mut file: impl Write, operations: &[Operation]) -> io::Result<usize> {
    let left_out = inexpressible(operations);
    for operation in operations.iter().filter(|each| !left_out.contains(each.key.as_str())) {
        serde_json::to_writer(&mut file, &Line::of(operation))?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    Ok(left_out.len())
}

/// The keys of which a history file can't tell.
fn inexpressible(operations: &[Operation]) -> BTreeSet<&str> {
    let may_hold_zero: BTreeSet<&str> =
        operations.iter().filter(|each| may_leave_zero(each)).map(|each| &*each.key).collect();
    let fails = |each: &&Operation| match (&each.kind, &each.outcome) {
        (Kind::Incr { by }, Outcome::Done { answer: Answer::Counted(sum), .. }) => {
            by == sum && may_hold_zero.contains(each.key.as_str())
        }
        (Kind::Incr { .. }, Outcome::Done { .. } | Outcome::Unknown) => true,
        (_, _) => false,
    };
    operations.iter().filter(fails).map(|each| &*each.key).collect()
}

/// Whether the key may hold the text `0` after the operation.
fn may_leave_zero(operation: &Operation) -> bool {
    if operation.outcome == Outcome::Refused {
        return false;
    }
    match &operation.kind {
        // An append of it may be to an absent or empty value.
        Kind::Put { value } | Kind::Cas { value, .. } | Kind::Append { value } => value == "0",
        Kind::Incr { .. } => match operation.outcome {
            Outcome::Done { answer: Answer::Counted(sum), .. } => sum == 0,
            Outcome::Done { .. } | Outcome::Refused | Outcome::Unknown => true,
        },
        Kind::Get | Kind::Delete | Kind::Expire { .. } => false,
    }
}

/// If completed operations of a client overlap, the clock or the client numbers are wrong. Then no
/// verdict on the history would mean anything.
fn refuse_overlaps(operations: &[Operation]) -> Result<(), HistoryError> {
    let mut by_client: BTreeMap<u64, Vec<(u64, u64, usize)>> = BTreeMap::new();
    for (index, operation) in operations.iter().enumerate() {
        if let Some(return_ns) = operation.return_ns() {
            let intervals = by_client.entry(operation.client).or_default();
            intervals.push((operation.call_ns, return_ns, index + 1));
        }
    }
    for (client, mut intervals) in by_client {
        intervals.sort_unstable();
        for pair in intervals.windows(2) {
            let ((_, returned, first), (called, _, second)) = (pair[0], pair[1]);
            if called < returned {
                return Err(HistoryError::Overlap { client, first, second });
            }
        }
    }
    Ok(())
}

/// A line of the file, field by field. The outer `Option` of a field says whether the field is
/// there, the inner one whether it is `null`, where that makes a difference.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    client: u64,
    call_ns: u64,
    #[serde(deserialize_with = "Option::deserialize")]
    return_ns: Option<u64>,
    op: Name,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    expect: Option<Option<String>>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    output: Option<Output>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    current: Option<Option<String>>,
    #[serde(deserialize_with = "Option::deserialize")]
    ok: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    info: Option<Value>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Put,
    Get,
    Append,
    Cas,
    Delete,
    Expire,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Output {
    Swapped(bool),
    Found(Option<String>),
}

/// Tells a field that is `null` from one that is missing.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(field: D) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

impl Line {
    fn of(operation: &Operation) -> Self {
        let (op, value, expect) = match &operation.kind {
            Kind::Put { value } => (Name::Put, Some(value.clone()), None),
            Kind::Get => (Name::Get, None, None),
            Kind::Append { value } => (Name::Append, Some(value.clone()), None),
            Kind::Cas { expect, value } => (Name::Cas, Some(value.clone()), Some(expect.clone())),
            Kind::Incr { by } => {
                let (before, sum) = Self::of_incr(*by, &operation.outcome);
                (Name::Cas, Some(sum), Some(before))
            }
            Kind::Delete => (Name::Delete, None, None),
            Kind::Expire { value } => (Name::Expire, Some(value.clone()), None),
        };
        let (ok, output, current) = match &operation.outcome {
            Outcome::Refused => (Some(false), None, None),
            Outcome::Unknown => (None, None, None),
            Outcome::Done { answer, .. } => match answer {
                Answer::Written => (Some(true), None, None),
                Answer::Read(found) => (Some(true), Some(Output::Found(found.clone())), None),
                Answer::Swapped | Answer::Counted(_) => {
                    (Some(true), Some(Output::Swapped(true)), None)
                }
                Answer::Mismatched { current } => {
                    (Some(true), Some(Output::Swapped(false)), current.clone())
                }
            },
        };
        Self {
            client: operation.client,
            call_ns: operation.call_ns,
            return_ns: operation.return_ns(),
            op,
            key: operation.key.clone(),
            value,
            expect,
            output,
            current,
            ok,
            info: operation.info.clone(),
        }
    }

    /// What an incr found and left, as for a cas. A refused incr could have been any cas.
    fn of_incr(by: i64, outcome: &Outcome) -> (Option<String>, String) {
        let sum = match outcome {
            Outcome::Done { answer: Answer::Counted(sum), .. } => *sum,
            Outcome::Done { .. } | Outcome::Refused | Outcome::Unknown => by,
        };
        // Wide enough that a sum which can't be is not made one that can.
        let before = i128::from(sum) - i128::from(by);
        ((before != 0).then(|| before.to_string()), sum.to_string())
    }

    fn operation(mut self) -> Result<Operation, &'static str> {
        let kind = self.kind()?;
        let outcome = self.outcome()?;
        let Self { client, call_ns, key, info, .. } = self;
        Ok(Operation { client, call_ns, key, kind, outcome, info })
    }

    fn kind(&mut self) -> Result<Kind, &'static str> {
        if !matches!(self.op, Name::Cas) && self.expect.take().flatten().is_some() {
            return Err("only a cas has an `expect`");
        }
        let value = self.value.take();
        match self.op {
            Name::Get | Name::Delete if value.is_some() => Err("a get or delete has no `value`"),
            Name::Get => Ok(Kind::Get),
            Name::Delete => Ok(Kind::Delete),
            Name::Put => Ok(Kind::Put { value: value.ok_or("a put needs a `value`")? }),
            Name::Expire => Ok(Kind::Expire { value: value.ok_or("an expire needs a `value`")? }),
            Name::Append => Ok(Kind::Append { value: value.ok_or("an append needs a `value`")? }),
            Name::Cas => Ok(Kind::Cas {
                expect: self.expect.take().ok_or("a cas needs an `expect`, which may be null")?,
                value: value.ok_or("a cas needs a `value`")?,
            }),
        }
    }

    fn outcome(&mut self) -> Result<Outcome, &'static str> {
        match (self.ok, self.return_ns) {
            (Some(true), Some(return_ns)) if return_ns < self.call_ns => {
                Err("`return_ns` is before `call_ns`")
            }
            (Some(true), Some(return_ns)) => {
                Ok(Outcome::Done { return_ns, answer: self.answer()? })
            }
            (Some(true), None) => Err("an operation whose `ok` is true needs a `return_ns`"),
            (_, Some(_)) => Err("`return_ns` has to be null unless `ok` is true"),
            (_, None) if self.says_something() => Err("only an answered operation has an output"),
            (Some(false), None) => Ok(Outcome::Refused),
            (None, None) => Ok(Outcome::Unknown),
        }
    }

    /// Whether there is an output, or what a cas found, that is not `null`.
    fn says_something(&self) -> bool {
        !matches!(self.output, None | Some(Output::Found(None)))
            || !matches!(self.current, None | Some(None))
    }

    fn answer(&mut self) -> Result<Answer, &'static str> {
        let current = self.current.take();
        let answer = match (self.op, self.output.take()) {
            (Name::Cas, Some(Output::Swapped(false))) => return Ok(Answer::Mismatched { current }),
            (Name::Cas, Some(Output::Swapped(true))) => Answer::Swapped,
            (Name::Cas, _) => return Err("the `output` of an answered cas is true or false"),
            (Name::Get, Some(Output::Found(found))) => Answer::Read(found),
            (Name::Get, _) => return Err("the `output` of an answered get is a string or null"),
            (Name::Expire, _) => return Err("nobody asks for an expire, so it has no answer"),
            (Name::Put | Name::Append | Name::Delete, None | Some(Output::Found(None))) => {
                Answer::Written
            }
            (Name::Put | Name::Append | Name::Delete, Some(_)) => {
                return Err("a put, append or delete has no `output`");
            }
        };
        match current.flatten() {
            None => Ok(answer),
            Some(_) => Err("only a cas that did not match has a `current`"),
        }
    }
}
