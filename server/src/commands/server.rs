//! Commands about databases, and about the server as a whole: DBSIZE, FLUSHALL, FLUSHDB, LASTSAVE,
//! ROLE, SWAPDB, TIME, WAIT.

use super::answer;
use super::arguments::{self, is};
use super::context::{Context, Outcome};
use super::error::CommandError;
use crate::backend::{Backend, RangeId};
use crate::kv::{Answer, Command, Query};
use crate::resp::Reply;
use bytes::Bytes;
use std::time::{SystemTime, UNIX_EPOCH};

/// DBSIZE: the sum of the ranges, each as of its own moment
pub(super) async fn db_size<B: Backend>(context: &Context<'_, B>) -> Outcome {
    let queries = (0..context.backend.ranges()).map(|range| (RangeId(range), Query::Count));
    answer::sum(context.read_each(queries.collect()).await?).map(Reply::Integer)
}

/// FLUSHALL [ASYNC | SYNC] and FLUSHDB, which differ in the command to the ranges; range by range,
/// each at once
pub(super) async fn flush<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
    command: Command,
) -> Outcome {
    match arguments {
        [] => {}
        [mode] if is(mode, "ASYNC") || is(mode, "SYNC") => {}
        _ => return Err(CommandError::Syntax),
    }
    let commands = (0..context.backend.ranges()).map(|range| (RangeId(range), command.clone()));
    for answer in context.propose_each(commands.collect()).await? {
        if answer != Answer::Done {
            return Err(CommandError::Mismatch);
        }
    }
    Ok(Reply::OK)
}

/// SWAPDB index index: a swap would have to be seen in all ranges at once
pub(super) fn swap_db(arguments: &[Bytes]) -> Outcome {
    for (argument, place) in arguments.iter().zip(["first", "second"]) {
        if arguments::small_integer(argument).is_err() {
            return Err(CommandError::Other(format!("invalid {place} DB index")));
        }
    }
    arguments::database(&arguments[0])?;
    arguments::database(&arguments[1])?;
    let reason = "SWAPDB is not supported: no single entry of a log reaches all keys of a database";
    Err(CommandError::Other(reason.into()))
}

/// WAIT numreplicas timeout: a write is acknowledged when a majority has it on its disks, so there
/// is nothing to wait for
pub(super) fn wait<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    arguments::integer(&arguments[0])?;
    let timeout_ms = arguments::integer(&arguments[1])
        .map_err(|_| CommandError::Other("timeout is not an integer or out of range".into()))?;
    if timeout_ms < 0 {
        return Err(CommandError::Other("timeout is negative".into()));
    }
    Ok(Reply::Integer(context.backend.sure_copies() as i64))
}

/// LASTSAVE: what the node had when it was started was on its disk, as is what came later
pub(super) fn last_save<B>(context: &Context<'_, B>) -> Reply {
    let at = context.server.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Reply::Integer(at.as_secs() as i64)
}

/// ROLE: any node takes any command, and has no replicas that a client would write to
pub(super) fn role() -> Reply {
    Reply::Array(vec![Reply::text("master"), Reply::Integer(0), Reply::Array(Vec::new())])
}

/// TIME: the wall clock of this node. Keys expire by another one.
pub(super) fn time() -> Reply {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Reply::Array(vec![
        Reply::text(now.as_secs().to_string()),
        Reply::text(now.subsec_micros().to_string()),
    ])
}
