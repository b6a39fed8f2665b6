//! Keys whatever their values: DEL, UNLINK, EXISTS, TYPE.

use super::answer;
use super::context::{Context, KeysByRange, Outcome, RangeShare};
use super::error::CommandError;
use super::plan::{Plan, Planned, Step};
use crate::backend::Backend;
use crate::kv::{Answer, Command, Query};
use crate::resp::Reply;
use bytes::Bytes;

/// DEL key [key …], and UNLINK, which is the same here; key by key across ranges
pub(super) fn del<'a, B: Backend>(
    context: &'a Context<'_, B>,
    arguments: &[Bytes],
) -> Result<Step<'a>, CommandError> {
    let shares = KeysByRange::new(context, arguments).shares.into_iter();
    let delete = |share: RangeShare| (share.range, Command::Delete { keys: share.keys });
    let mut commands: Vec<_> = shares.map(delete).collect();
    if commands.len() == 1
        && let Some((range, command)) = commands.pop()
    {
        return Ok(Step::Store(Plan::write(range, command, number)));
    }
    Ok(Step::alone(async move {
        let removed = answer::sum(context.propose_each(commands).await?)?;
        Ok(Reply::Integer(removed))
    }))
}

/// EXISTS key [key …]: a key that is named twice counts twice
pub(super) fn exists<'a, B: Backend>(
    context: &'a Context<'_, B>,
    arguments: &[Bytes],
) -> Result<Step<'a>, CommandError> {
    let shares = KeysByRange::new(context, arguments).shares.into_iter();
    let exists = |share: RangeShare| (share.range, Query::Exists { keys: share.keys });
    let mut queries: Vec<_> = shares.map(exists).collect();
    if queries.len() == 1
        && let Some((range, query)) = queries.pop()
    {
        return Ok(Step::Store(Plan::read(range, query, number)));
    }
    Ok(Step::alone(async move {
        let there = answer::sum(context.read_each(queries).await?)?;
        Ok(Reply::Integer(there))
    }))
}

/// TYPE key
pub(super) fn key_type<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let (range, key) = context.locate(&arguments[0]);
    Ok(Plan::read(range, Query::Exists { keys: vec![key] }, |answer| {
        let there = answer::integer(answer)? > 0;
        Ok(Reply::Status(if there { "string" } else { "none" }))
    }))
}

/// The reply for an answer that is a number.
fn number(answer: Answer) -> Outcome {
    answer::integer(answer).map(Reply::Integer)
}
