//! SLOWLOG: the commands that took long.

use super::arguments::{self, text};
use super::context::{Context, Outcome};
use super::error::CommandError;
use super::introspection::help;
use super::table::SlowLog;
use crate::resp::Reply;
use crate::stats::SlowEntry;
use bytes::Bytes;

/// How many entries SLOWLOG GET lists that is not told otherwise.
const DEFAULT_COUNT: usize = 10;

/// Carries out a subcommand.
pub(super) fn execute<B>(
    context: &Context<'_, B>,
    command: SlowLog,
    request: &[Bytes],
    arguments: &[Bytes],
) -> Outcome {
    let log = &context.server.stats.slow_log;
    match command {
        SlowLog::Get => {
            Ok(Reply::Array(log.newest(count(request, arguments)?).iter().map(entry).collect()))
        }
        SlowLog::Help => Ok(help("slowlog")),
        SlowLog::Len => Ok(Reply::Integer(log.len() as i64)),
        SlowLog::Reset => {
            log.clear();
            Ok(Reply::OK)
        }
    }
}

/// The argument of SLOWLOG GET; -1 stands for all.
fn count(request: &[Bytes], arguments: &[Bytes]) -> Result<usize, CommandError> {
    let refused = |reason: &str| CommandError::Other(reason.to_owned());
    match arguments {
        [] => Ok(DEFAULT_COUNT),
        [count] => {
            let count = arguments::integer(count).ok().filter(|count| *count >= -1);
            let count =
                count.ok_or_else(|| refused("count should be greater than or equal to -1"))?;
            Ok(usize::try_from(count).unwrap_or(usize::MAX))
        }
        _ => {
            let name = text(&request[1]);
            Err(CommandError::SubcommandSyntax { name, command: "SLOWLOG" })
        }
    }
}

fn entry(entry: &SlowEntry) -> Reply {
    Reply::Array(vec![
        Reply::Integer(entry.id as i64),
        Reply::Integer(entry.at_secs as i64),
        Reply::Integer(i64::try_from(entry.took_us).unwrap_or(i64::MAX)),
        Reply::bulks(entry.request.iter().cloned()),
        Reply::text(entry.client.clone()),
        Reply::text(entry.client_name.clone()),
    ])
}
