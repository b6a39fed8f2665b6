//! CLIENT: what the server knows of connections.

mod kill;

use super::arguments::{self, is, listed_word, text};
use super::context::{Context, Outcome};
use super::error::CommandError;
use super::introspection::help;
use super::table::Client;
use crate::resp::Reply;
use crate::session::{Flags, ReplyMode};
use bytes::Bytes;
use std::collections::HashSet;
use std::time::Duration;

/// What stands in the place of a client's number where tracking is off.
const NO_REDIRECTION: i64 = -1;

/// Carries out a subcommand.
pub(super) fn execute<B>(
    context: &mut Context<'_, B>,
    command: Client,
    request: &[Bytes],
    arguments: &[Bytes],
) -> Outcome {
    match command {
        Client::Caching => caching(),
        Client::GetName => Ok(get_name(context)),
        Client::GetRedir => Ok(get_redirection()),
        Client::Help => Ok(help("client")),
        Client::Id => Ok(id(context)),
        Client::Info => Ok(info(context)),
        Client::List => list(context, arguments),
        Client::Kill => kill::kill(context, arguments),
        Client::NoEvict => switch(context, arguments, |flags, on| flags.stays = on),
        Client::NoTouch => switch(context, arguments, |flags, on| flags.touches_nothing = on),
        Client::Pause => pause(context, request, arguments),
        Client::Reply => reply(context, arguments),
        Client::SetInfo => set_info(context, arguments),
        Client::SetName => set_name(context, arguments),
        Client::Tracking => tracking(arguments),
        Client::TrackingInfo => Ok(tracking_info()),
        Client::Unblock => unblock(request, arguments),
        Client::Unpause => Ok(unpause(context)),
    }
}

/// CLIENT ID
fn id<B>(context: &Context<'_, B>) -> Reply {
    Reply::Integer(context.session.client.id as i64)
}

/// CLIENT GETNAME
fn get_name<B>(context: &Context<'_, B>) -> Reply {
    let name = context.session.client.details().name;
    if name.is_empty() { Reply::Null } else { Reply::text(name) }
}

/// CLIENT SETNAME name
fn set_name<B>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let name = listed_word(&arguments[0], "Client names")?;
    context.session.client.update(|details| details.name = name);
    Ok(Reply::OK)
}

/// CLIENT SETINFO LIB-NAME name | LIB-VER version
fn set_info<B>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let option = &arguments[0];
    let client = &context.session.client;
    if is(option, "LIB-NAME") {
        let word = listed_word(&arguments[1], "lib-name")?;
        client.update(|details| details.library = word);
    } else if is(option, "LIB-VER") {
        let word = listed_word(&arguments[1], "lib-ver")?;
        client.update(|details| details.library_version = word);
    } else {
        let option = text(option);
        return Err(CommandError::Other(format!("Unrecognized option '{option}'")));
    }
    Ok(Reply::OK)
}

/// CLIENT INFO
fn info<B>(context: &Context<'_, B>) -> Reply {
    Reply::Verbatim(Bytes::from(context.session.client.line()))
}

/// CLIENT LIST [TYPE NORMAL | MASTER | REPLICA | PUBSUB] [ID id …]
fn list<B>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let mut clients = context.server.clients.all();
    match arguments {
        [] => {}
        [option, kind] if is(option, "TYPE") => {
            let is_normal = is_normal(kind)?;
            clients.retain(|_| is_normal);
        }
        [option, ids @ ..] if is(option, "ID") && !ids.is_empty() => {
            let ids: Result<HashSet<i64>, _> =
                ids.iter().map(|id| arguments::integer(id)).collect();
            let ids = ids.map_err(|_| CommandError::Other("Invalid client ID".into()))?;
            clients.retain(|client| ids.contains(&(client.id as i64)));
        }
        _ => return Err(CommandError::Syntax),
    }
    let lines: String = clients.iter().map(|client| client.line()).collect();
    Ok(Reply::Verbatim(Bytes::from(lines)))
}

/// CLIENT REPLY ON | OFF | SKIP
fn reply<B>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let mode = if is(&arguments[0], "ON") {
        ReplyMode::On
    } else if is(&arguments[0], "OFF") {
        ReplyMode::Off
    } else if is(&arguments[0], "SKIP") {
        ReplyMode::SkipThisAndNext
    } else {
        return Err(CommandError::Syntax);
    };
    context.session.set_reply_mode(mode);
    Ok(Reply::OK)
}

/// Whether a type of clients is that of all clients here. Others have none.
fn is_normal(kind: &[u8]) -> Result<bool, CommandError> {
    let known = ["normal", "master", "replica", "slave", "pubsub"];
    if !known.iter().any(|known| is(kind, known)) {
        let kind = text(kind);
        return Err(CommandError::Other(format!("Unknown client type '{kind}'")));
    }
    Ok(is(kind, "normal"))
}

/// CLIENT NO-EVICT ON | OFF and CLIENT NO-TOUCH ON | OFF: both are noted for CLIENT LIST. They
/// change nothing else, since no client is evicted and no access times are kept.
fn switch<B>(context: &Context<'_, B>, arguments: &[Bytes], set: fn(&mut Flags, bool)) -> Outcome {
    let on = is(&arguments[0], "ON");
    if !on && !is(&arguments[0], "OFF") {
        return Err(CommandError::Syntax);
    }
    context.session.client.update(|details| set(&mut details.flags, on));
    Ok(Reply::OK)
}

/// CLIENT PAUSE milliseconds [WRITE | ALL]
fn pause<B>(context: &Context<'_, B>, request: &[Bytes], arguments: &[Bytes]) -> Outcome {
    let refused = |reason: &str| CommandError::Other(reason.to_owned());
    let holds_reads = match arguments {
        [_] => true,
        [_, mode] if is(mode, "ALL") => true,
        [_, mode] if is(mode, "WRITE") => false,
        [_, _] => return Err(refused("CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(too_many(request)),
    };
    let timeout_ms = arguments::integer(&arguments[0])
        .map_err(|_| refused("timeout is not an integer or out of range"))?;
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| refused("timeout is negative"))?;
    context.server.pause.begin(Duration::from_millis(timeout_ms), holds_reads);
    Ok(Reply::OK)
}

/// A subcommand has more arguments than it takes.
fn too_many(request: &[Bytes]) -> CommandError {
    CommandError::SubcommandSyntax { name: text(&request[1]), command: "CLIENT" }
}

/// CLIENT UNPAUSE
fn unpause<B>(context: &Context<'_, B>) -> Reply {
    context.server.pause.end();
    Reply::OK
}

/// CLIENT UNBLOCK id [TIMEOUT | ERROR]: no command blocks
fn unblock(request: &[Bytes], arguments: &[Bytes]) -> Outcome {
    match arguments {
        [_] => {}
        [_, reason] if is(reason, "TIMEOUT") || is(reason, "ERROR") => {}
        [_, _] => {
            let reason = "CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
            return Err(CommandError::Other(reason.into()));
        }
        _ => return Err(too_many(request)),
    }
    arguments::integer(&arguments[0])?;
    Ok(Reply::Integer(0))
}

/// CLIENT CACHING YES | NO: there is no tracking, which comes before a look at the word
fn caching() -> Outcome {
    let reason = "CLIENT CACHING can be called only when the client is in tracking mode with \
                  OPTIN or OPTOUT mode enabled";
    Err(CommandError::Other(reason.into()))
}

/// CLIENT TRACKING ON | OFF [REDIRECT id] [PREFIX prefix …] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]:
/// there is no tracking, so it can be turned off only
fn tracking(arguments: &[Bytes]) -> Outcome {
    let (switch, mut options) = arguments.split_first().ok_or(CommandError::Syntax)?;
    while let Some(option) = options.first() {
        options = match options {
            [_, _, rest @ ..] if is(option, "REDIRECT") || is(option, "PREFIX") => rest,
            [_, rest @ ..]
                if ["BCAST", "OPTIN", "OPTOUT", "NOLOOP"].iter().any(|word| is(option, word)) =>
            {
                rest
            }
            _ => return Err(CommandError::Syntax),
        };
    }
    if is(switch, "OFF") {
        Ok(Reply::OK)
    } else if is(switch, "ON") {
        Err(CommandError::Other("client tracking is not supported".into()))
    } else {
        Err(CommandError::Syntax)
    }
}

/// CLIENT TRACKINGINFO
fn tracking_info() -> Reply {
    let entry = |key: &str, value| (Reply::text(key), value);
    Reply::Map(vec![
        entry("flags", Reply::Set(vec![Reply::text("off")])),
        entry("redirect", Reply::Integer(NO_REDIRECTION)),
        entry("prefixes", Reply::Array(Vec::new())),
    ])
}

/// CLIENT GETREDIR
fn get_redirection() -> Reply {
    Reply::Integer(NO_REDIRECTION)
}
