//! DEBUG, as far as it exists here.

use super::arguments::{is, text};
use super::context::{Context, Outcome};
use super::error::CommandError;
use crate::backend::{Backend, RangeId};
use crate::debug::DebugCommand;
use crate::resp::Reply;
use bytes::Bytes;
use logboat_security::audit;
use std::time::Duration;

/// What is refused unless it was allowed at the start.
const NOT_ALLOWED: &str = "DEBUG command not allowed. If the enable-debug-command option is set \
    to \"local\", you can run it from a local connection, otherwise you need to set this option \
    in the configuration file, and then restart the server.";

const HELP: [&str; 5] = [
    "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "SLEEP <seconds> [<key>]",
    "    Have this node's replica of the key's range, or all replicas of this node, stand still.",
    "HELP",
    "    Print this help.",
];

/// The longest sleep.
const MAX_SLEEP: Duration = Duration::from_secs(3_600);

/// DEBUG SLEEP seconds [key]: the replicas on this node of the key's range, or of all ranges, stand
/// still at their next command, and the reply comes afterwards. Redis, which knows no key here,
/// stands still as a whole.
pub(super) async fn debug<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let client = context.session.client.address();
    let is_allowed = match context.server.debug_command {
        DebugCommand::No => false,
        DebugCommand::Local => client.ip().is_loopback(),
        DebugCommand::Yes => true,
    };
    if !is_allowed {
        return Err(CommandError::Other(NOT_ALLOWED.to_owned()));
    }
    let (time, key) = match arguments {
        [help] if is(help, "HELP") => {
            return Ok(Reply::Array(HELP.into_iter().map(Reply::text).collect()));
        }
        [sleep, seconds] if is(sleep, "SLEEP") => (seconds_of(seconds)?, None),
        [sleep, seconds, key] if is(sleep, "SLEEP") => (seconds_of(seconds)?, Some(key)),
        _ => {
            let name = text(&arguments[0]);
            return Err(CommandError::SubcommandSyntax { name, command: "DEBUG" });
        }
    };
    audit::change("clients", client, "default", &format!("DEBUG SLEEP for {time:?}"));
    let ranges = match key {
        Some(key) => {
            let (RangeId(range), _) = context.locate(key);
            range..range + 1
        }
        None => 0..context.backend.ranges(),
    };
    for range in ranges {
        let (start, _) = context.backend.bounds(RangeId(range));
        context.server.sleeps.begin(start, time);
    }
    tokio::time::sleep(time).await;
    Ok(Reply::OK)
}

fn seconds_of(argument: &[u8]) -> Result<Duration, CommandError> {
    let seconds = text(argument).parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| *time <= MAX_SLEEP).ok_or(CommandError::NotAFloat)
}
