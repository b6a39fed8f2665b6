//! Keys whatever their values: DEL, EXISTS, TYPE, DBSIZE, FLUSHALL.

use bytes::Bytes;

use super::arguments::is;
use super::error::CommandError;
use super::fan_out::KeysByRange;
use super::{Context, Outcome, number_of};
use crate::backend::{Backend, RangeId};
use crate::kv::{self, Command, Query};
use crate::resp::Reply;

/// DEL key [key …], and UNLINK, which is the same here; key by key across ranges
pub(super) async fn del<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let KeysByRange { groups } = KeysByRange::new(context, arguments);
    let commands = groups.into_iter().map(|(range, _, keys)| (range, Command::Delete { keys }));
    sum(context.propose_each(commands.collect()).await?)
}

/// EXISTS key [key …]: a key that is named twice counts twice
pub(super) async fn exists<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let KeysByRange { groups } = KeysByRange::new(context, arguments);
    let queries = groups.into_iter().map(|(range, _, keys)| (range, Query::Exists { keys }));
    sum(context.read_each(queries.collect()).await?)
}

/// TYPE key
pub(super) async fn key_type<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (range, key) = context.locate(&arguments[0]);
    let there = number_of(context.read(range, &Query::Exists { keys: vec![key] }).await?)?;
    Ok(Reply::Status(if there > 0 { "string" } else { "none" }))
}

/// DBSIZE: the sum of the ranges, each as of its own moment
pub(super) async fn db_size<B: Backend>(context: &Context<'_, B>) -> Outcome {
    let queries = (0..context.backend.ranges()).map(|range| (RangeId(range), Query::Count));
    sum(context.read_each(queries.collect()).await?)
}

/// FLUSHALL [ASYNC | SYNC], and FLUSHDB; range by range, each at once
pub(super) async fn flush_all<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
) -> Outcome {
    match arguments {
        [] => {}
        [mode] if is(mode, "ASYNC") || is(mode, "SYNC") => {}
        _ => return Err(CommandError::Syntax),
    }
    let commands = (0..context.backend.ranges()).map(|range| (RangeId(range), Command::Clear));
    for answer in context.propose_each(commands.collect()).await? {
        if answer != kv::Reply::Done {
            return Err(CommandError::Mismatch);
        }
    }
    Ok(Reply::OK)
}

fn sum(answers: Vec<kv::Reply>) -> Outcome {
    let numbers: Result<Vec<i64>, _> = answers.into_iter().map(number_of).collect();
    Ok(Reply::Integer(numbers?.iter().sum()))
}
