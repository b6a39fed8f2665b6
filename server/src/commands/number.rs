//! Values as numbers: INCR and its relatives.

use super::context::Context;
use super::error::CommandError;
use super::plan::{Plan, Planned};
use super::{answer, arguments};
use crate::backend::Backend;
use crate::kv::Command;
use crate::resp::Reply;
use bytes::Bytes;

/// INCR key
pub(super) fn incr<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    Ok(add(context, &arguments[0], 1))
}

/// DECR key
pub(super) fn decr<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    Ok(add(context, &arguments[0], -1))
}

/// INCRBY key increment
pub(super) fn incr_by<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    Ok(add(context, &arguments[0], arguments::integer(&arguments[1])?))
}

/// DECRBY key decrement
pub(super) fn decr_by<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let by = arguments::integer(&arguments[1])?;
    let by = by.checked_neg().ok_or(CommandError::DecrementOverflow)?;
    Ok(add(context, &arguments[0], by))
}

/// INCRBYFLOAT key increment
pub(super) fn incr_by_float<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let (range, key) = context.locate(&arguments[0]);
    let command = Command::IncrementFloat { key, by: arguments[1].clone() };
    Ok(Plan::write(range, command, |answer| answer::value(answer).map(Reply::optional)))
}

fn add<B: Backend>(context: &Context<'_, B>, key: &[u8], by: i64) -> Plan {
    let (range, key) = context.locate(key);
    let command = Command::Increment { key, by };
    Plan::write(range, command, |answer| answer::integer(answer).map(Reply::Integer))
}
