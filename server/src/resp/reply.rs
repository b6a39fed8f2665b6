//! Replies, encoded for the protocol that a connection has chosen.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::encode::extend_encode as encode_resp2;
use redis_protocol::resp2::types::BytesFrame as Resp2;
use redis_protocol::resp3::encode::complete::extend_encode as encode_resp3;
use redis_protocol::resp3::types::{BytesFrame as Resp3, VerbatimStringFormat};

/// The version of the protocol that a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every connection starts with.
    #[default]
    Resp2,
    /// What `HELLO 3` switches to.
    Resp3,
}

impl Protocol {
    /// The number that HELLO takes.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// A reply. Types that RESP2 lacks become those that Redis uses there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A short text, such as `OK`.
    Status(&'static str),
    /// An error, its code first. Line ends in it become spaces.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Nothing.
    Null,
    /// A list.
    Array(Vec<Self>),
    /// Keys with their values; a flat list in RESP2.
    Map(Vec<(Self, Self)>),
    /// Distinct elements; a list in RESP2.
    Set(Vec<Self>),
    /// A text for people to read; bytes in RESP2.
    Verbatim(Bytes),
}

impl Reply {
    /// The reply `OK`.
    pub const OK: Self = Self::Status("OK");

    /// A text as bytes.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Bulk(Bytes::from(text.into()))
    }

    /// Bytes, or nothing.
    #[must_use]
    pub fn optional(value: Option<Bytes>) -> Self {
        value.map_or(Self::Null, Self::Bulk)
    }

    /// A list of bytes.
    #[must_use]
    pub fn bulks(values: impl IntoIterator<Item = Bytes>) -> Self {
        Self::Array(values.into_iter().map(Self::Bulk).collect())
    }

    /// Appends the reply to `output` in the form of `protocol`.
    pub fn encode(self, protocol: Protocol, output: &mut BytesMut) {
        let encoded = match protocol {
            Protocol::Resp2 => encode_resp2(output, &self.into_resp2(), false),
            Protocol::Resp3 => encode_resp3(output, &self.into_resp3(), false),
        };
        encoded.expect("the buffer is extended to the length of the frame");
    }

    fn into_resp2(self) -> Resp2 {
        match self {
            Self::Status(text) => Resp2::SimpleString(Bytes::from_static(text.as_bytes())),
            Self::Error(text) => Resp2::Error(one_line(text).into()),
            Self::Integer(value) => Resp2::Integer(value),
            Self::Bulk(bytes) | Self::Verbatim(bytes) => Resp2::BulkString(bytes),
            Self::Null => Resp2::Null,
            Self::Array(items) | Self::Set(items) => {
                Resp2::Array(items.into_iter().map(Self::into_resp2).collect())
            }
            Self::Map(pairs) => {
                let flat = pairs.into_iter().flat_map(|(key, value)| [key, value]);
                Resp2::Array(flat.map(Self::into_resp2).collect())
            }
        }
    }

    fn into_resp3(self) -> Resp3 {
        let attributes = None;
        match self {
            Self::Status(text) => {
                Resp3::SimpleString { data: Bytes::from_static(text.as_bytes()), attributes }
            }
            Self::Error(text) => Resp3::SimpleError { data: one_line(text).into(), attributes },
            Self::Integer(data) => Resp3::Number { data, attributes },
            Self::Bulk(data) => Resp3::BlobString { data, attributes },
            Self::Null => Resp3::Null,
            Self::Array(items) => {
                let data = items.into_iter().map(Self::into_resp3).collect();
                Resp3::Array { data, attributes }
            }
            Self::Map(pairs) => {
                let pairs = pairs.into_iter();
                let data = pairs.map(|(key, value)| (key.into_resp3(), value.into_resp3()));
                Resp3::Map { data: data.collect(), attributes }
            }
            Self::Set(items) => {
                let data = items.into_iter().map(Self::into_resp3).collect();
                Resp3::Set { data, attributes }
            }
            Self::Verbatim(data) => {
                Resp3::VerbatimString { data, format: VerbatimStringFormat::Text, attributes }
            }
        }
    }
}

fn one_line(text: String) -> String {
    if text.contains(['\r', '\n']) { text.replace(['\r', '\n'], " ") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(reply: &Reply, protocol: Protocol) -> String {
        let mut output = BytesMut::new();
        reply.clone().encode(protocol, &mut output);
        String::from_utf8(output.to_vec()).unwrap()
    }

    #[test]
    fn each_protocol_has_its_own_forms() {
        let pair = |key: &str| (Reply::text(key), Reply::Integer(1));
        for (reply, resp2, resp3) in [
            (Reply::OK, "+OK\r\n", "+OK\r\n"),
            (Reply::Error("ERR a\r\nb".into()), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (Reply::Integer(-7), ":-7\r\n", ":-7\r\n"),
            (Reply::text(""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (Reply::Null, "$-1\r\n", "_\r\n"),
            (Reply::Array(vec![]), "*0\r\n", "*0\r\n"),
            (
                Reply::Map(vec![pair("b"), pair("a")]),
                "*4\r\n$1\r\nb\r\n:1\r\n$1\r\na\r\n:1\r\n",
                "%2\r\n$1\r\nb\r\n:1\r\n$1\r\na\r\n:1\r\n",
            ),
            (Reply::Set(vec![Reply::OK]), "*1\r\n+OK\r\n", "~1\r\n+OK\r\n"),
            (Reply::Verbatim("x".into()), "$1\r\nx\r\n", "=5\r\ntxt:x\r\n"),
        ] {
            assert_eq!(encoded(&reply, Protocol::Resp2), resp2);
            assert_eq!(encoded(&reply, Protocol::Resp3), resp3);
        }
    }
}
