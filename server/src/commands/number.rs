//! Values as numbers: INCR and its relatives.

use bytes::Bytes;

use super::error::CommandError;
use super::{Context, Outcome, arguments, integer, value};
use crate::backend::Backend;
use crate::kv::Command;

/// INCR key
pub(super) async fn incr<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    add(context, &arguments[0], 1).await
}

/// DECR key
pub(super) async fn decr<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    add(context, &arguments[0], -1).await
}

/// INCRBY key increment
pub(super) async fn incr_by<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    add(context, &arguments[0], arguments::integer(&arguments[1])?).await
}

/// DECRBY key decrement
pub(super) async fn decr_by<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let by = arguments::integer(&arguments[1])?;
    let by = by.checked_neg().ok_or(CommandError::DecrementOverflow)?;
    add(context, &arguments[0], by).await
}

/// INCRBYFLOAT key increment
pub(super) async fn incr_by_float<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
) -> Outcome {
    let (range, key) = context.locate(&arguments[0]);
    let command = Command::IncrementFloat { key, by: arguments[1].clone() };
    value(context.propose(range, &command).await?)
}

async fn add<B: Backend>(context: &Context<'_, B>, key: &[u8], by: i64) -> Outcome {
    let (range, key) = context.locate(key);
    integer(context.propose(range, &Command::Increment { key, by }).await?)
}
