//! The operations of a history as Redis commands.

use logboat_tests::history::{Answer, Kind};
use redis::{Cmd, Value};
use std::time::Duration;

/// The command that carries out an operation on a key. What it writes lives for so long, if that is
/// said.
pub(crate) fn command(kind: &Kind, key: &str, lifetime: Option<Duration>) -> Cmd {
    let name = match kind {
        Kind::Put { .. } | Kind::Cas { .. } => "SET",
        Kind::Get => "GET",
        Kind::Append { .. } => "APPEND",
        Kind::Incr { by: 1 } => "INCR",
        Kind::Incr { .. } => "INCRBY",
        // An expiry is nothing that a client asks for.
        Kind::Delete | Kind::Expire { .. } => "DEL",
    };
    let mut command = redis::cmd(name);
    command.arg(key);
    match kind {
        Kind::Get | Kind::Delete | Kind::Expire { .. } | Kind::Incr { by: 1 } => {}
        Kind::Incr { by } => {
            command.arg(by);
        }
        Kind::Put { value } | Kind::Append { value } => {
            command.arg(value);
        }
        Kind::Cas { expect: Some(expect), value } => {
            command.arg(value).arg("IFEQ").arg(expect);
        }
        Kind::Cas { expect: None, value } => {
            command.arg(value).arg("NX");
        }
    }
    if let Some(lifetime) = lifetime {
        command.arg("PX").arg(lifetime.as_millis() as u64);
    }
    command
}

/// What the reply to an operation's command says.
pub(crate) fn answer(kind: &Kind, reply: &Value) -> Answer {
    match kind {
        Kind::Put { .. } | Kind::Append { .. } | Kind::Delete | Kind::Expire { .. } => {
            Answer::Written
        }
        Kind::Get => Answer::Read(match reply {
            Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }),
        Kind::Incr { .. } => match reply {
            Value::Int(sum) => Answer::Counted(*sum),
            // No order has an incr that was merely done.
            _ => Answer::Written,
        },
        Kind::Cas { .. } if *reply == Value::Nil => Answer::Mismatched { current: None },
        Kind::Cas { .. } => Answer::Swapped,
    }
}
