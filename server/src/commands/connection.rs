//! What concerns the connection itself: PING, HELLO, SELECT, CLIENT, QUIT, RESET.

use bytes::Bytes;

use super::arguments::{self, is, text};
use super::error::CommandError;
use super::{Context, Outcome};
use crate::resp::{Protocol, Reply};
use crate::server_state::REDIS_VERSION;
use crate::session::ReplyMode;

/// PING [message]
pub(super) fn ping(arguments: &[Bytes]) -> Outcome {
    match arguments {
        [] => Ok(Reply::Status("PONG")),
        [message] => Ok(Reply::Bulk(message.clone())),
        _ => Err(CommandError::Arity("ping".into())),
    }
}

/// SELECT index: there is only database 0
pub(super) fn select(arguments: &[Bytes]) -> Outcome {
    match arguments::integer(&arguments[0])? {
        0 => Ok(Reply::OK),
        _ => Err(CommandError::Database),
    }
}

/// HELLO [protover [AUTH user password] [SETNAME name]]
pub(super) fn hello<B>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let mut protocol = context.session.protocol;
    let mut name = None;
    if let Some((version, mut options)) = arguments.split_first() {
        protocol = match arguments::integer(version) {
            Ok(2) => Protocol::Resp2,
            Ok(3) => Protocol::Resp3,
            Ok(_) => return Err(CommandError::Protocol),
            Err(_) => {
                let reason = "Protocol version is not an integer or out of range";
                return Err(CommandError::Other(reason.into()));
            }
        };
        while let Some(option) = options.first() {
            options = match options {
                // There are no passwords, so the only user may give any.
                [option, user, _, rest @ ..] if is(option, "AUTH") => {
                    if user != "default" {
                        return Err(CommandError::Password);
                    }
                    rest
                }
                [option, wanted, rest @ ..] if is(option, "SETNAME") => {
                    name = Some(client_word(wanted, "Client names")?);
                    rest
                }
                _ => {
                    let option = text(option);
                    let reason = format!("Syntax error in HELLO option '{option}'");
                    return Err(CommandError::Other(reason));
                }
            };
        }
    }
    context.session.set_protocol(protocol);
    if let Some(name) = name {
        context.session.client.update(|details| details.name = name);
    }
    let entry = |key: &str, value| (Reply::text(key), value);
    Ok(Reply::Map(vec![
        entry("server", Reply::text("redis")),
        entry("version", Reply::text(REDIS_VERSION)),
        entry("proto", Reply::Integer(protocol.number())),
        entry("id", Reply::Integer(context.session.client.id as i64)),
        entry("mode", Reply::text("standalone")),
        entry("role", Reply::text("master")),
        entry("modules", Reply::Array(Vec::new())),
    ]))
}

/// QUIT
pub(super) fn quit<B>(context: &mut Context<'_, B>) -> Reply {
    context.session.closing = true;
    Reply::OK
}

/// RESET: back to the state of a new connection
pub(super) fn reset<B>(context: &mut Context<'_, B>) -> Reply {
    context.session.reset();
    Reply::Status("RESET")
}

/// CLIENT ID
pub(super) fn client_id<B>(context: &Context<'_, B>) -> Reply {
    Reply::Integer(context.session.client.id as i64)
}

/// CLIENT GETNAME
pub(super) fn client_get_name<B>(context: &Context<'_, B>) -> Reply {
    let name = context.session.client.details().name;
    if name.is_empty() { Reply::Null } else { Reply::text(name) }
}

/// CLIENT SETNAME name
pub(super) fn client_set_name<B>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let name = client_word(&arguments[0], "Client names")?;
    context.session.client.update(|details| details.name = name);
    Ok(Reply::OK)
}

/// CLIENT SETINFO LIB-NAME name | LIB-VER version
pub(super) fn client_set_info<B>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let option = &arguments[0];
    let client = &context.session.client;
    if is(option, "LIB-NAME") {
        let word = client_word(&arguments[1], "lib-name")?;
        client.update(|details| details.library = word);
    } else if is(option, "LIB-VER") {
        let word = client_word(&arguments[1], "lib-ver")?;
        client.update(|details| details.library_version = word);
    } else {
        let option = text(option);
        return Err(CommandError::Other(format!("Unrecognized option '{option}'")));
    }
    Ok(Reply::OK)
}

/// CLIENT INFO
pub(super) fn client_info<B>(context: &Context<'_, B>) -> Reply {
    Reply::Verbatim(Bytes::from(context.session.client.line()))
}

/// CLIENT LIST [TYPE NORMAL | MASTER | REPLICA | PUBSUB] [ID id …]
pub(super) fn client_list<B>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let mut clients = context.server.clients.all();
    match arguments {
        [] => {}
        [option, kind] if is(option, "TYPE") => {
            let known = ["normal", "master", "replica", "slave", "pubsub"];
            if !known.iter().any(|known| is(kind, known)) {
                let kind = text(kind);
                return Err(CommandError::Other(format!("Unknown client type '{kind}'")));
            }
            // All connections are plain clients: other kinds have none.
            clients.retain(|_| is(kind, "normal"));
        }
        [option, ids @ ..] if is(option, "ID") && !ids.is_empty() => {
            let ids: Result<Vec<i64>, _> = ids.iter().map(|id| arguments::integer(id)).collect();
            let ids = ids.map_err(|_| CommandError::Other("Invalid client ID".into()))?;
            clients.retain(|client| ids.contains(&(client.id as i64)));
        }
        _ => return Err(CommandError::Syntax),
    }
    let lines: String = clients.iter().map(|client| client.line()).collect();
    Ok(Reply::Verbatim(Bytes::from(lines)))
}

/// CLIENT REPLY ON | OFF | SKIP
pub(super) fn client_reply<B>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
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

/// CLIENT NO-EVICT ON | OFF and CLIENT NO-TOUCH ON | OFF: nothing is ever evicted here, and no
/// access times are kept, so both are as asked for already
pub(super) fn client_switch(arguments: &[Bytes]) -> Outcome {
    if is(&arguments[0], "ON") || is(&arguments[0], "OFF") {
        Ok(Reply::OK)
    } else {
        Err(CommandError::Syntax)
    }
}

/// A word that CLIENT LIST can show: printable ASCII without spaces. `what` starts the complaint.
fn client_word(word: &[u8], what: &str) -> Result<String, CommandError> {
    if word.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(text(word));
    }
    let reason = format!("{what} cannot contain spaces, newlines or special characters.");
    Err(CommandError::Other(reason))
}
