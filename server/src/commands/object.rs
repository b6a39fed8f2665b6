//! OBJECT and MEMORY: how values are kept.

use super::answer;
use super::arguments::{self, is};
use super::context::{Context, Outcome};
use super::error::CommandError;
use super::introspection::help;
use super::plan::{Plan, Planned, Step};
use super::table::Object;
use crate::backend::Backend;
use crate::kv::{Answer, Query, parse_integer};
use crate::resp::Reply;
use bytes::Bytes;

/// The longest value that Redis keeps beside its description, in bytes.
const MAX_EMBEDDED_BYTES: usize = 44;

/// The longest text of a 64-bit integer.
const MAX_INTEGER_BYTES: usize = 20;

/// Redis shares the objects of integers below this, and says so by the highest count.
const SHARED_INTEGERS: i64 = 10_000;

/// Begins a subcommand of OBJECT.
pub(super) fn begin<'a, B: Backend>(
    context: &Context<'_, B>,
    command: Object,
    arguments: &[Bytes],
) -> Result<Step<'a>, CommandError> {
    let plan = match command {
        Object::Encoding => encoding(context, arguments),
        Object::Freq => frequency(context, arguments),
        Object::Help => return Ok(Step::Reply(Ok(help("object")))),
        Object::IdleTime => idle_time(context, arguments),
        Object::RefCount => reference_count(context, arguments),
    };
    plan.map(Step::Store)
}

/// As much of a value as tells how Redis would keep it.
fn look<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
    shape: fn(Answer) -> Outcome,
) -> Planned {
    let (range, key) = context.locate(&arguments[0]);
    Ok(Plan::read(range, Query::Beginning { key, bytes: MAX_EMBEDDED_BYTES as u64 + 1 }, shape))
}

/// OBJECT ENCODING key: what Redis would say of a new value
fn encoding<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    look(context, arguments, |answer| {
        Ok(match answer::value(answer)? {
            None => Reply::Null,
            Some(value) if integer(&value).is_some() => Reply::text("int"),
            Some(value) if value.len() <= MAX_EMBEDDED_BYTES => Reply::text("embstr"),
            Some(_) => Reply::text("raw"),
        })
    })
}

/// OBJECT REFCOUNT key
fn reference_count<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    look(context, arguments, |answer| {
        Ok(match answer::value(answer)?.map(|value| integer(&value)) {
            None => Reply::Null,
            Some(Some(0..SHARED_INTEGERS)) => Reply::Integer(i32::MAX.into()),
            Some(_) => Reply::Integer(1),
        })
    })
}

/// OBJECT IDLETIME key: no access times are kept
fn idle_time<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let (range, key) = context.locate(&arguments[0]);
    Ok(Plan::read(range, Query::Exists { keys: vec![key] }, |answer| {
        let there = answer::integer(answer)? > 0;
        Ok(if there { Reply::Integer(0) } else { Reply::Null })
    }))
}

/// OBJECT FREQ key: no accesses are counted
fn frequency<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let (range, key) = context.locate(&arguments[0]);
    Ok(Plan::read(range, Query::Exists { keys: vec![key] }, |answer| {
        if answer::integer(answer)? == 0 {
            return Ok(Reply::Null);
        }
        let reason = "An LFU maxmemory policy is not selected, access frequency not tracked. \
                      Please note that when switching between policies at runtime LRU and LFU \
                      data will take some time to adjust.";
        Err(CommandError::Other(reason.into()))
    }))
}

/// MEMORY USAGE key [SAMPLES count]: what the account of the node's memory has for the key
pub(super) fn usage<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let mut options = arguments[1..].iter();
    while let Some(option) = options.next() {
        match options.next() {
            Some(count) if is(option, "SAMPLES") => {
                if arguments::integer(count)? < 0 {
                    return Err(CommandError::Syntax);
                }
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    let (range, key) = context.locate(&arguments[0]);
    Ok(Plan::read(range, Query::Usage { key }, |answer| {
        let bytes = answer::integer(answer)?;
        Ok(if bytes < 0 { Reply::Null } else { Reply::Integer(bytes) })
    }))
}

fn integer(value: &[u8]) -> Option<i64> {
    (value.len() <= MAX_INTEGER_BYTES).then(|| parse_integer(value)).flatten()
}
