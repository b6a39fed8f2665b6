//! Commands about the connection itself: PING, ECHO, HELLO, AUTH, SELECT, MONITOR, QUIT, RESET.

use super::arguments::{self, is, listed_word, text};
use super::context::{Context, Outcome};
use super::error::CommandError;
use crate::backend::Backend;
use crate::layout::Partition;
use crate::resp::{Protocol, Reply};
use crate::server_state::REDIS_VERSION;
use bytes::Bytes;
use logboat_security::audit;

/// The only user.
const DEFAULT_USER: &[u8] = b"default";

/// A connection that has failed so often to log in is closed.
const MAX_FAILED_LOGINS: u32 = 10;

/// PING [message]
pub(super) fn ping(arguments: &[Bytes]) -> Outcome {
    match arguments {
        [] => Ok(Reply::Status("PONG")),
        [message] => Ok(Reply::Bulk(message.clone())),
        _ => Err(CommandError::Arity("ping".into())),
    }
}

/// SELECT index
pub(super) fn select<B>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    context.session.select(arguments::database(&arguments[0])?);
    Ok(Reply::OK)
}

/// HELLO [protover [AUTH user password] [SETNAME name]]
pub(super) fn hello<B: Backend>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let Hello { protocol, login, name } = Hello::parse(arguments)?;
    if let Some((user, password)) = login {
        authenticate(context, &user, &password)?;
    }
    if !context.session.authenticated {
        return Err(CommandError::HelloBeforeAuth);
    }
    let protocol = protocol.unwrap_or(context.session.protocol);
    context.session.set_protocol(protocol);
    if let Some(name) = name {
        context.session.client.update(|details| details.name = name);
    }
    let in_cluster = context.backend.partition() == Partition::Slots;
    let mode = if in_cluster { "cluster" } else { "standalone" };
    let entry = |key: &str, value| (Reply::text(key), value);
    Ok(Reply::Map(vec![
        entry("server", Reply::text("redis")),
        entry("version", Reply::text(REDIS_VERSION)),
        entry("proto", Reply::Integer(protocol.number())),
        entry("id", Reply::Integer(context.session.client.id as i64)),
        entry("mode", Reply::text(mode)),
        entry("role", Reply::text("master")),
        entry("modules", Reply::Array(Vec::new())),
    ]))
}

/// AUTH [user] password
pub(super) fn auth<B>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    match arguments {
        [password] => authenticate(context, DEFAULT_USER, password)?,
        [user, password] => authenticate(context, user, password)?,
        _ => return Err(CommandError::Syntax),
    }
    Ok(Reply::OK)
}

/// MONITOR
pub(super) fn monitor<B>(context: &mut Context<'_, B>) -> Reply {
    let session = &mut *context.session;
    if session.monitor.is_none() {
        session.monitor = Some(context.server.monitors.enter());
        session.client.update(|details| details.flags.monitors = true);
    }
    Reply::OK
}

/// QUIT
pub(super) fn quit<B>(context: &mut Context<'_, B>) -> Reply {
    context.session.closing = true;
    Reply::OK
}

/// RESET: back to the state of a new connection
pub(super) fn reset<B>(context: &mut Context<'_, B>) -> Reply {
    context.session.reset();
    context.session.authenticated = context.server.passwords.is_none();
    Reply::Status("RESET")
}

/// The arguments of HELLO.
#[derive(Default)]
struct Hello {
    protocol: Option<Protocol>,
    /// User and password.
    login: Option<(Bytes, Bytes)>,
    name: Option<String>,
}

impl Hello {
    fn parse(arguments: &[Bytes]) -> Result<Self, CommandError> {
        let mut hello = Self::default();
        let Some((version, mut options)) = arguments.split_first() else {
            return Ok(hello);
        };
        hello.protocol = Some(protocol(version)?);
        while let Some(option) = options.first() {
            options = match options {
                [option, user, password, rest @ ..] if is(option, "AUTH") => {
                    hello.login = Some((user.clone(), password.clone()));
                    rest
                }
                [option, wanted, rest @ ..] if is(option, "SETNAME") => {
                    hello.name = Some(listed_word(wanted, "Client names")?);
                    rest
                }
                _ => {
                    let option = text(option);
                    let reason = format!("Syntax error in HELLO option '{option}'");
                    return Err(CommandError::Other(reason));
                }
            };
        }
        Ok(hello)
    }
}

fn protocol(version: &[u8]) -> Result<Protocol, CommandError> {
    match arguments::integer(version) {
        Ok(2) => Ok(Protocol::Resp2),
        Ok(3) => Ok(Protocol::Resp3),
        Ok(_) => Err(CommandError::Protocol),
        Err(_) => {
            let reason = "Protocol version is not an integer or out of range";
            Err(CommandError::Other(reason.into()))
        }
    }
}

/// Logs a client in. Where there are no passwords, a client that sends one means to talk to a
/// server that has them.
fn authenticate<B>(
    context: &mut Context<'_, B>,
    user: &[u8],
    password: &[u8],
) -> Result<(), CommandError> {
    let session = &mut *context.session;
    match &context.server.passwords {
        None if user == DEFAULT_USER => return Err(CommandError::NoPassword),
        None => return Err(CommandError::Password),
        Some(passwords) if user == DEFAULT_USER && passwords.holds(password) => {
            session.authenticated = true;
            return Ok(());
        }
        Some(_) => {}
    }
    context.server.stats.failed_logins.increment();
    session.failed_logins += 1;
    session.closing |= session.failed_logins >= MAX_FAILED_LOGINS;
    audit::login_failed("clients", session.client.address(), &text(user), "wrong password or user");
    Err(CommandError::Password)
}
