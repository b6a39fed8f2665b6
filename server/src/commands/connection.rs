//! What concerns the connection itself: PING, ECHO, HELLO, SELECT, QUIT, RESET.

use bytes::Bytes;

use super::arguments::{self, is, listed_word, text};
use super::context::{Context, Outcome};
use super::error::CommandError;
use crate::resp::{Protocol, Reply};
use crate::server_state::REDIS_VERSION;

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
                    name = Some(listed_word(wanted, "Client names")?);
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
