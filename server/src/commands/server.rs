//! Commands about all keys: DBSIZE, FLUSHALL, FLUSHDB.

use super::answer;
use super::arguments::is;
use super::context::{Context, Outcome};
use super::error::CommandError;
use crate::backend::{Backend, RangeId};
use crate::kv::{Answer, Command, Query};
use crate::resp::Reply;
use bytes::Bytes;

/// DBSIZE: the sum of the ranges, each as of its own moment
pub(super) async fn db_size<B: Backend>(context: &Context<'_, B>) -> Outcome {
    let queries = (0..context.backend.ranges()).map(|range| (RangeId(range), Query::Count));
    answer::sum(context.read_each(queries.collect()).await?).map(Reply::Integer)
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
        if answer != Answer::Done {
            return Err(CommandError::Mismatch);
        }
    }
    Ok(Reply::OK)
}
