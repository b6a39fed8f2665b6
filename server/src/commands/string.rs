//! Values as strings: GET, SET and their relatives.

use super::answer::{self, Stored};
use super::arguments::{self, is};
use super::context::{Context, KeysByRange, Outcome, RangeShare};
use super::error::CommandError;
use super::list;
use crate::backend::{Backend, RangeId};
use crate::kv::{Answer, Command, Condition, Query};
use crate::resp::Reply;
use crate::session::Element;
use bytes::Bytes;
use std::collections::VecDeque;

/// GET key
pub(super) async fn get<B: Backend>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (range, key) = context.locate(&arguments[0]);
    let query = |limit_bytes| Query::Get { key: key.clone(), limit_bytes };
    context.read_value(range, query).await.map(Reply::optional)
}

/// SET key value [NX | XX | IFEQ value] [GET] [KEEPTTL]
pub(super) async fn set<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let options = SetOptions::parse(&arguments[2..])?;
    let want_old = options.want_old;
    let stored = store(context, arguments, options).await?;
    Ok(match (want_old, stored.done) {
        (true, _) => Reply::optional(stored.old),
        (false, true) => Reply::OK,
        (false, false) => Reply::Null,
    })
}

/// SETNX key value
pub(super) async fn set_nx<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let options = SetOptions { condition: Condition::Missing, want_old: false };
    let stored = store(context, arguments, options).await?;
    Ok(Reply::Integer(i64::from(stored.done)))
}

/// GETSET key value
pub(super) async fn get_set<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let options = SetOptions { condition: Condition::Always, want_old: true };
    let stored = store(context, arguments, options).await?;
    Ok(Reply::optional(stored.old))
}

/// GETDEL key
pub(super) async fn get_del<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (range, key) = context.locate(&arguments[0]);
    optional(context.propose(range, &Command::Take { key }).await?)
}

/// STRLEN key
pub(super) async fn str_len<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (range, key) = context.locate(&arguments[0]);
    length(context.read(range, &Query::Length { key }).await?)
}

/// APPEND key value
pub(super) async fn append<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (range, key) = context.locate(&arguments[0]);
    let limit_bytes = context.backend.limits().max_value_bytes as u64;
    let command = Command::Append { key, value: arguments[1].clone(), limit_bytes };
    length(context.propose(range, &command).await?)
}

/// SETRANGE key offset value
pub(super) async fn set_range<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
) -> Outcome {
    let offset = arguments::integer(&arguments[1])?;
    let offset = u64::try_from(offset).map_err(|_| CommandError::Offset)?;
    let (range, key) = context.locate(&arguments[0]);
    let limit_bytes = context.backend.limits().max_value_bytes as u64;
    let command = Command::SetRange { key, offset, value: arguments[2].clone(), limit_bytes };
    length(context.propose(range, &command).await?)
}

/// GETRANGE key start end, and SUBSTR, its older name
pub(super) async fn get_range<B: Backend>(
    context: &mut Context<'_, B>,
    arguments: &[Bytes],
) -> Outcome {
    let start = arguments::integer(&arguments[1])?;
    let end = arguments::integer(&arguments[2])?;
    let (range, key) = context.locate(&arguments[0]);
    let query = |limit_bytes| Query::Slice { key: key.clone(), start, end, limit_bytes };
    context.read_value(range, query).await.map(Reply::optional)
}

/// How much MGET fetches at once, shared among the ranges of its keys, and the least for each.
const AHEAD_BYTES: usize = 1024 * 1024;
const LEAST_AHEAD_BYTES: usize = 4 * 1024;

/// MGET key [key …]: each key as of its own moment. Those of one range are of the same moment, as
/// long as they are small together.
pub(super) async fn mget<B: Backend>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let shares = KeysByRange::new(context, arguments).shares;
    let limit_bytes = (AHEAD_BYTES / shares.len().max(1)).max(LEAST_AHEAD_BYTES) as u64;
    let queries = shares
        .iter()
        .map(|share| (share.range, Query::GetMany { keys: share.keys.clone(), limit_bytes }));
    let answers = context.read_each(queries.collect()).await?;
    let nothing = || Element::Value(None);
    let mut elements: VecDeque<_> = std::iter::repeat_with(nothing).take(arguments.len()).collect();
    for (RangeShare { range, positions, keys }, answer) in shares.into_iter().zip(answers) {
        let Answer::Values(found) = answer else {
            return Err(CommandError::Mismatch);
        };
        let mut found = found.into_iter();
        for (position, key) in positions.into_iter().zip(keys) {
            elements[position] = match found.next() {
                Some(value) => Element::Ahead(range, key, value),
                None => Element::Key(range, key),
            };
        }
    }
    list::reply(context, elements)
}

/// MSET key value [key value …]
pub(super) async fn mset<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    set_many(context, arguments, "mset", false).await?;
    Ok(Reply::OK)
}

/// MSETNX key value [key value …]
pub(super) async fn mset_nx<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let done = set_many(context, arguments, "msetnx", true).await?;
    Ok(Reply::Integer(i64::from(done)))
}

/// The options of SET. Expiry is not supported: the options that set one are syntax errors, and
/// KEEPTTL has nothing to keep.
struct SetOptions {
    condition: Condition,
    /// Whether the old value is the reply (GET).
    want_old: bool,
}

impl SetOptions {
    fn parse(options: &[Bytes]) -> Result<Self, CommandError> {
        let mut parsed = Self { condition: Condition::Always, want_old: false };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            if is(option, "GET") {
                parsed.want_old = true;
            } else if is(option, "KEEPTTL") {
                // No key has a time to live.
            } else if is(option, "NX") {
                parsed.require(Condition::Missing)?;
            } else if is(option, "XX") {
                parsed.require(Condition::Present)?;
            } else if is(option, "IFEQ") {
                let expected = options.next().ok_or(CommandError::Syntax)?;
                parsed.require(Condition::Equals(expected.clone()))?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
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
async fn store<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
    options: SetOptions,
) -> Result<Stored, CommandError> {
    let SetOptions { condition, want_old } = options;
    let (range, key) = context.locate(&arguments[0]);
    let command = Command::Set { key, value: arguments[1].clone(), condition, want_old };
    answer::stored(context.propose(range, &command).await?)
}

/// Sets all keys at once. They must lie in one range: nothing ties the logs of two together.
async fn set_many<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
    name: &str,
    only_if_missing: bool,
) -> Result<bool, CommandError> {
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
    let command = Command::SetMany { pairs, only_if_missing };
    Ok(answer::stored(context.propose(range, &command).await?)?.done)
}

/// The reply for an answer that is a length.
fn length(answer: Answer) -> Outcome {
    answer::integer(answer).map(Reply::Integer)
}

/// The reply for an answer that is a value.
fn optional(answer: Answer) -> Outcome {
    answer::value(answer).map(Reply::optional)
}
