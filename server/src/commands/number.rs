//! Values as numbers: INCR and its relatives.

use super::context::{Context, Outcome};
use super::error::CommandError;
use super::{answer, arguments};
use crate::backend::Backend;
use crate::kv::Command;
use crate::resp::Reply;
use bytes::Bytes;

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
    let sum = answer::value(context.propose(range, &command).await?)?;
    Ok(Reply::optional(sum))
}

async fn add<B: Backend>(context: &Context<'_, B>, key: &[u8], by: i64) -> Outcome {
    let (range, key) = context.locate(key);
    let sum = context.propose(range, &Command::Increment { key, by }).await?;
    answer::integer(sum).map(Reply::Integer)
}
