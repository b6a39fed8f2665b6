//! The operations of a history as Redis commands.

use logboat_tests::history::{Answer, Kind};
use redis::{Cmd, Value};

/// The command that carries out an operation on a key.
pub(crate) fn command(kind: &Kind, key: &str) -> Cmd {
    let name = match kind {
        Kind::Put { .. } | Kind::Cas { .. } => "SET",
        Kind::Get => "GET",
        Kind::Append { .. } => "APPEND",
        Kind::Incr { by: 1 } => "INCR",
        Kind::Incr { .. } => "INCRBY",
        Kind::Delete => "DEL",
    };
    let mut command = redis::cmd(name);
    command.arg(key);
    match kind {
        Kind::Get | Kind::Delete | Kind::Incr { by: 1 } => {}
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
    command
}

/// What the reply to an operation's command says.
pub(crate) fn answer(kind: &Kind, reply: &Value) -> Answer {
    match kind {
        Kind::Put { .. } | Kind::Append { .. } | Kind::Delete => Answer::Written,
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
