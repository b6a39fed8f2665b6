//! Values as strings: GET, SET and their relatives.

use super::answer;
use super::arguments::{self, is};
use super::context::{Context, KeysByRange, Outcome, RangeShare};
use super::error::CommandError;
use super::expiry::{ExpiryOption, Term};
use super::list;
use super::pages::PageMemory;
use super::plan::{Plan, Planned, Shape};
use crate::backend::{Backend, RangeId};
use crate::client_memory::UNCOUNTED_BYTES;
use crate::kv::{Answer, Command, Condition, Lifetime, Query};
use crate::resp::Reply;
use crate::session::Element;
use bytes::Bytes;
use std::collections::VecDeque;

/// GET key
pub(super) fn get<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let (range, key) = context.locate(&arguments[0]);
    Ok(Plan::read(range, Query::Get { key, limit_bytes: UNCOUNTED_BYTES as u64 }, optional))
}

/// SET key value [NX | XX | IFEQ value] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]
pub(super) fn set<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let options = SetOptions::parse(&arguments[2..])?;
    let shape = if options.want_old.is_some() { old_value } else { done_or_nothing };
    Ok(store(context, arguments, options, shape))
}

/// SETNX key value
pub(super) fn set_nx<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let options = SetOptions { condition: Condition::Missing, ..SetOptions::plain() };
    Ok(store(context, arguments, options, whether_done))
}

/// GETSET key value
pub(super) fn get_set<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let options = SetOptions { want_old: WANTED_UNASKED, ..SetOptions::plain() };
    Ok(store(context, arguments, options, old_value))
}

/// SETEX key seconds value
pub(super) fn set_ex<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    set_for(context, arguments, Term::Seconds, "setex")
}

/// PSETEX key milliseconds value
pub(super) fn pset_ex<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    set_for(context, arguments, Term::Milliseconds, "psetex")
}

fn set_for<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
    term: Term,
    name: &'static str,
) -> Planned {
    let lifetime = Lifetime::Until(term.deadline(&arguments[1], name)?);
    let arguments = [arguments[0].clone(), arguments[2].clone()];
    let options = SetOptions { lifetime, ..SetOptions::plain() };
    Ok(store(context, &arguments, options, done_or_nothing))
}

/// GETDEL key
pub(super) fn get_del<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let (range, key) = context.locate(&arguments[0]);
    let limit_bytes = UNCOUNTED_BYTES as u64;
    Ok(Plan::write(range, Command::Take { key, limit_bytes }, optional))
}

/// STRLEN key
pub(super) fn str_len<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let (range, key) = context.locate(&arguments[0]);
    Ok(Plan::read(range, Query::Length { key }, length))
}

/// APPEND key value
pub(super) fn append<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let (range, key) = context.locate(&arguments[0]);
    let limit_bytes = context.backend.limits().max_value_bytes as u64;
    let command = Command::Append { key, value: arguments[1].clone(), limit_bytes };
    Ok(Plan::write(range, command, length))
}

/// SETRANGE key offset value
pub(super) fn set_range<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let offset = arguments::integer(&arguments[1])?;
    let offset = u64::try_from(offset).map_err(|_| CommandError::Offset)?;
    let (range, key) = context.locate(&arguments[0]);
    let limit_bytes = context.backend.limits().max_value_bytes as u64;
    let command = Command::SetRange { key, offset, value: arguments[2].clone(), limit_bytes };
    Ok(Plan::write(range, command, length))
}

/// GETRANGE key start end, and SUBSTR, its older name
pub(super) fn get_range<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let start = arguments::integer(&arguments[1])?;
    let end = arguments::integer(&arguments[2])?;
    let (range, key) = context.locate(&arguments[0]);
    let limit_bytes = UNCOUNTED_BYTES as u64;
    Ok(Plan::read(range, Query::Slice { key, start, end, limit_bytes }, optional))
}

/// How much MGET fetches at once, shared among the ranges of its keys, and the least for each.
const AHEAD_BYTES: usize = 1024 * 1024;
const LEAST_AHEAD_BYTES: usize = 4 * 1024;

/// MGET key [key …]: each key as of its own moment. Those of one range are of the same moment, as
/// long as they are small together.
pub(super) async fn mget<B: Backend>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let shares = KeysByRange::new(context, arguments).shares;
    let limit_bytes = (AHEAD_BYTES / shares.len().max(1)).max(LEAST_AHEAD_BYTES);
    let get = |share: &RangeShare, limit_bytes| Query::GetMany {
        keys: share.keys.clone(),
        limit_bytes: limit_bytes as u64,
    };
    let queries = shares.iter().map(|share| (share.range, get(share, limit_bytes)));
    let mut memory = PageMemory::new(context)?;
    let answers = memory.read_some(context, queries.collect(), limit_bytes).await?;
    context.session.reply_memory = Some(memory.into_reservation());
    let nothing = || Element::Value(None);
    let mut elements: VecDeque<_> = std::iter::repeat_with(nothing).take(arguments.len()).collect();
    let mut answers = answers.into_iter();
    for RangeShare { range, positions, keys } in shares {
        let found = match answers.next() {
            Some(Answer::Values(found)) => found,
            Some(_) => return Err(CommandError::Mismatch),
            // There was no room for it.
            None => Vec::new(),
        };
        let mut found = found.into_iter();
        for (position, key) in positions.into_iter().zip(keys) {
            elements[position] = match found.next() {
                Some(Some(value)) => Element::Ahead(range, key, Some(value)),
                Some(None) => continue,
                None => Element::Key(range, key),
            };
        }
    }
    list::reply(context, elements)
}

/// MSET key value [key value …]
pub(super) fn mset<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    set_many(context, arguments, "mset", false, |answer| answer::stored(answer).map(|_| Reply::OK))
}

/// MSETNX key value [key value …]
pub(super) fn mset_nx<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    set_many(context, arguments, "msetnx", true, whether_done)
}

/// An old value is wanted, one that is small at first. There has to be room for another.
const WANTED_UNASKED: Option<u64> = Some(UNCOUNTED_BYTES as u64);

/// The options of SET.
struct SetOptions {
    condition: Condition,
    /// Whether the old value is the reply (GET).
    want_old: Option<u64>,
    lifetime: Lifetime,
}

impl SetOptions {
    const fn plain() -> Self {
        Self { condition: Condition::Always, want_old: None, lifetime: Lifetime::Endless }
    }

    fn parse(options: &[Bytes]) -> Result<Self, CommandError> {
        let mut parsed = Self::plain();
        let mut expiry = ExpiryOption::default();
        let mut options = options.iter();
        while let Some(option) = options.next() {
            if is(option, "GET") {
                parsed.want_old = WANTED_UNASKED;
            } else if is(option, "KEEPTTL") {
                expiry.keep()?;
            } else if is(option, "NX") {
                parsed.require(Condition::Missing)?;
            } else if is(option, "XX") {
                parsed.require(Condition::Present)?;
            } else if is(option, "IFEQ") {
                let expected = options.next().ok_or(CommandError::Syntax)?;
                parsed.require(Condition::Equals(expected.clone()))?;
            } else {
                expiry.take(option, &mut options)?;
            }
        }
        parsed.lifetime = expiry.lifetime("set")?;
        Ok(parsed)
    }

    /// Adds a condition. Naming NX or XX twice is harmless, as in Redis. Any two different
    /// conditions exclude each other.
    fn require(&mut self, condition: Condition) -> Result<(), CommandError> {
        let repeated = condition == self.condition && !matches!(condition, Condition::Equals(_));
        if self.condition != Condition::Always && !repeated {
            return Err(CommandError::Syntax);
        }
        self.condition = condition;
        Ok(())
    }
}

/// Sets `arguments[0]` to `arguments[1]`.
fn store<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
    options: SetOptions,
    shape: Shape,
) -> Plan {
    let SetOptions { condition, want_old, lifetime } = options;
    let (range, key) = context.locate(&arguments[0]);
    let command = Command::Set { key, value: arguments[1].clone(), condition, want_old, lifetime };
    Plan::write(range, command, shape)
}

/// Sets all keys at once. They must lie in one range: nothing ties the logs of two together.
fn set_many<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
    name: &str,
    only_if_missing: bool,
    shape: Shape,
) -> Planned {
    let mut home: Option<RangeId> = None;
    let mut pairs = Vec::with_capacity(arguments.len() / 2);
    for (key, value) in arguments::pairs(arguments, name)? {
        let (range, stored) = context.locate(key);
        if *home.get_or_insert(range) != range {
            return Err(CommandError::CrossRange);
        }
        pairs.push((stored, value.clone()));
    }
    let range = home.ok_or_else(|| CommandError::Arity(name.to_owned()))?;
    Ok(Plan::write(range, Command::SetMany { pairs, only_if_missing }, shape))
}

/// The reply of SET: OK, or nothing if its condition did not hold.
fn done_or_nothing(answer: Answer) -> Outcome {
    let done = answer::stored(answer)?.done;
    Ok(if done { Reply::OK } else { Reply::Null })
}

/// One if something was set.
fn whether_done(answer: Answer) -> Outcome {
    Ok(Reply::Integer(i64::from(answer::stored(answer)?.done)))
}

/// The value that was there before.
fn old_value(answer: Answer) -> Outcome {
    Ok(Reply::optional(answer::stored(answer)?.old))
}

/// The reply for an answer that is a length.
fn length(answer: Answer) -> Outcome {
    answer::integer(answer).map(Reply::Integer)
}

/// The reply for an answer that is a value.
pub(super) fn optional(answer: Answer) -> Outcome {
    answer::value(answer).map(Reply::optional)
}
