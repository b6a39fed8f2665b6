//! CONFIG: the parameters of the server.

use bytes::Bytes;

use super::arguments::text;
use super::context::{Context, Outcome};
use super::error::CommandError;
use crate::backend::Backend;
use crate::glob;
use crate::resp::Reply;

/// CONFIG GET pattern [pattern …]
pub(super) fn get<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Reply {
    let matching = parameters(context).into_iter().filter(|(name, _)| {
        arguments.iter().any(|pattern| glob::matches(pattern, name.as_bytes(), true))
    });
    Reply::Map(matching.map(|(name, value)| (Reply::text(name), Reply::text(value))).collect())
}

/// CONFIG SET parameter value [parameter value …]: all parameters are fixed while the server runs
pub(super) fn set<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    if !arguments.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    let known = parameters(context);
    let names: Vec<String> = arguments.iter().step_by(2).map(|name| text(name)).collect();
    let is_known = |name: &str| known.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let reason = match names.iter().find(|name| !is_known(name)) {
        Some(unknown) => {
            format!("Unknown option or number of arguments for CONFIG SET - '{unknown}'")
        }
        None => format!(
            "CONFIG SET failed (possibly related to argument '{}') - can't set immutable config",
            names[0],
        ),
    };
    Err(CommandError::Other(reason))
}

/// CONFIG RESETSTAT
pub(super) fn reset_stat<B>(context: &Context<'_, B>) -> Reply {
    context.server.stats.reset();
    Reply::OK
}

/// CONFIG REWRITE
pub(super) fn rewrite() -> Outcome {
    Err(CommandError::Other("The server is running without a config file".into()))
}

/// The parameters of Redis that have a meaning here, with what holds.
fn parameters<B: Backend>(context: &Context<'_, B>) -> Vec<(&'static str, String)> {
    let limits = context.backend.limits();
    vec![
        // Every write is in the log, synced, before it is acknowledged.
        ("appendfsync", "always".into()),
        ("appendonly", "yes".into()),
        ("databases", "1".into()),
        ("maxclients", context.server.max_clients.to_string()),
        ("maxmemory", "0".into()),
        ("maxmemory-policy", "noeviction".into()),
        ("port", context.server.address.port().to_string()),
        ("proto-max-bulk-len", limits.max_value_bytes.to_string()),
        ("save", String::new()),
        ("timeout", "0".into()),
    ]
}
