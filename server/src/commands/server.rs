//! What concerns all keys or the whole server: DBSIZE, FLUSHALL, INFO.

use bytes::Bytes;

use super::answer;
use super::arguments::is;
use super::context::{Context, Outcome};
use super::error::CommandError;
use crate::backend::{Backend, RangeId};
use crate::kv::{Answer, Command, Query};
use crate::resp::Reply;

/// INFO [section …]
pub(super) fn info<B>(context: &Context<'_, B>, arguments: &[Bytes]) -> Reply {
    let everything = ["all", "everything", "default"];
    let all = arguments.is_empty()
        || arguments.iter().any(|wanted| everything.iter().any(|word| is(wanted, word)));
    let wanted = |title: &str| all || arguments.iter().any(|wanted| is(wanted, title));
    Reply::Verbatim(Bytes::from(context.server.info(wanted)))
}

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
