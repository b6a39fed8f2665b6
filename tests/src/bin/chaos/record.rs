//! One operation of a client, as it stands in a history.
//!
//! A history is JSON lines. A field that an operation does not have is left out; `null` means
//! "absent" where a value is meant and "not known" in `ok`.

use redis::{Cmd, Value as Reply};
use serde::Serialize;
use serde_json::Value;

/// An operation on one key.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    /// A sequential caller.
    pub(crate) client: u64,
    /// When it was asked for, on the clock that all clients share.
    pub(crate) call_ns: u64,
    /// When the answer was there.
    pub(crate) return_ns: Option<u64>,
    #[serde(flatten)]
    pub(crate) op: Op,
    pub(crate) key: String,
    /// What a get or a cas answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Value>,
    /// Whether it was done; `None` if it may be done once, at any later time, or never.
    pub(crate) ok: Option<bool>,
    /// The node that was asked.
    pub(crate) info: usize,
}

/// What is asked for.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Op {
    Put { value: String },
    Get,
    Append { value: String },
    Cas { expect: Option<String>, value: String },
    Delete,
}

impl Op {
    /// The Redis command for it.
    pub(crate) fn command(&self, key: &str) -> Cmd {
        let name = match self {
            Self::Put { .. } | Self::Cas { .. } => "SET",
            Self::Get => "GET",
            Self::Append { .. } => "APPEND",
            Self::Delete => "DEL",
        };
        let mut command = redis::cmd(name);
        command.arg(key);
        match self {
            Self::Get | Self::Delete => {}
            Self::Put { value } | Self::Append { value } => {
                command.arg(value);
            }
            Self::Cas { expect: Some(expect), value } => {
                command.arg(value).arg("IFEQ").arg(expect);
            }
            Self::Cas { expect: None, value } => {
                command.arg(value).arg("NX");
            }
        }
        command
    }

    /// What the reply means, for the operations that ask something.
    pub(crate) fn output(&self, reply: &Reply) -> Option<Value> {
        match self {
            Self::Put { .. } | Self::Append { .. } | Self::Delete => None,
            Self::Get => Some(match reply {
                Reply::BulkString(bytes) => String::from_utf8_lossy(bytes).into(),
                _ => Value::Null,
            }),
            Self::Cas { .. } => Some((*reply != Reply::Nil).into()),
        }
    }
}
