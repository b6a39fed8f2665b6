//! Values as strings: GET, SET and their relatives.

use bytes::Bytes;

use super::arguments::{self, is};
use super::error::CommandError;
use super::fan_out::KeysByRange;
use super::{Context, Outcome, integer, value};
use crate::backend::{Backend, RangeId};
use crate::kv::{self, Command, Condition, Query};
use crate::resp::Reply;

/// GET key
pub(super) async fn get<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (range, key) = context.locate(&arguments[0]);
    value(context.read(range, &Query::Get { key }).await?)
}

/// SET key value [NX | XX | IFEQ value] [GET]
pub(super) async fn set<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (condition, want_old) = set_options(&arguments[2..])?;
    let (done, old) = store(context, arguments, condition, want_old).await?;
    Ok(match (want_old, done) {
        (true, _) => Reply::optional(old),
        (false, true) => Reply::OK,
        (false, false) => Reply::Null,
    })
}

/// SETNX key value
pub(super) async fn set_nx<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (done, _) = store(context, arguments, Condition::Missing, false).await?;
    Ok(Reply::Integer(i64::from(done)))
}

/// GETSET key value
pub(super) async fn get_set<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (_, old) = store(context, arguments, Condition::Always, true).await?;
    Ok(Reply::optional(old))
}

/// GETDEL key
pub(super) async fn get_del<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (range, key) = context.locate(&arguments[0]);
    value(context.propose(range, &Command::Take { key }).await?)
}

/// STRLEN key
pub(super) async fn str_len<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (range, key) = context.locate(&arguments[0]);
    integer(context.read(range, &Query::Length { key }).await?)
}

/// APPEND key value
pub(super) async fn append<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (range, key) = context.locate(&arguments[0]);
    let limit_bytes = context.backend.limits().max_value_bytes as u64;
    let command = Command::Append { key, value: arguments[1].clone(), limit_bytes };
    integer(context.propose(range, &command).await?)
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
    integer(context.propose(range, &command).await?)
}

/// GETRANGE key start end, and SUBSTR, its older name
pub(super) async fn get_range<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
) -> Outcome {
    let start = arguments::integer(&arguments[1])?;
    let end = arguments::integer(&arguments[2])?;
    let (range, key) = context.locate(&arguments[0]);
    value(context.read(range, &Query::Slice { key, start, end }).await?)
}

/// MGET key [key …]: each key as of its own moment, unless they lie in one range
pub(super) async fn mget<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let limit = context.backend.limits().max_reply_bytes;
    let KeysByRange { groups } = KeysByRange::new(context, arguments);
    let (positions, queries): (Vec<_>, Vec<_>) = groups
        .into_iter()
        .map(|(range, positions, keys)| {
            (positions, (range, Query::GetMany { keys, limit_bytes: limit as u64 }))
        })
        .unzip();
    let mut values = vec![None; arguments.len()];
    let mut bytes = 0;
    for (positions, answer) in positions.into_iter().zip(context.read_each(queries).await?) {
        let kv::Reply::Values(found) = answer else {
            return Err(CommandError::Mismatch);
        };
        for (position, value) in positions.into_iter().zip(found) {
            bytes += value.as_ref().map_or(0, Bytes::len);
            values[position] = value;
        }
    }
    if bytes > limit {
        return Err(CommandError::ReplyTooLong { limit });
    }
    Ok(Reply::Array(values.into_iter().map(Reply::optional).collect()))
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

/// The options of SET. Expiry is not supported: its options are syntax errors.
fn set_options(options: &[Bytes]) -> Result<(Condition, bool), CommandError> {
    let mut condition = Condition::Always;
    let mut want_old = false;
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if is(option, "GET") {
            want_old = true;
            continue;
        }
        let next = if is(option, "NX") {
            Condition::Missing
        } else if is(option, "XX") {
            Condition::Present
        } else if is(option, "IFEQ") {
            Condition::Equals(options.next().ok_or(CommandError::Syntax)?.clone())
        } else {
            return Err(CommandError::Syntax);
        };
        // Naming NX or XX twice is harmless, as in Redis; anything else excludes another.
        let repeated = next == condition && !matches!(next, Condition::Equals(_));
        if condition != Condition::Always && !repeated {
            return Err(CommandError::Syntax);
        }
        condition = next;
    }
    Ok((condition, want_old))
}

/// Sets `arguments[0]` to `arguments[1]`; whether that was done, and the old value if wanted.
async fn store<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
    condition: Condition,
    want_old: bool,
) -> Result<(bool, Option<Bytes>), CommandError> {
    let (range, key) = context.locate(&arguments[0]);
    let command = Command::Set { key, value: arguments[1].clone(), condition, want_old };
    stored(context.propose(range, &command).await?)
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
    stored(context.propose(range, &command).await?).map(|(done, _)| done)
}

fn stored(answer: kv::Reply) -> Result<(bool, Option<Bytes>), CommandError> {
    match answer {
        kv::Reply::Stored { done, old } => Ok((done, old)),
        _ => Err(CommandError::Mismatch),
    }
}
