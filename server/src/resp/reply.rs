//! Replies, encoded for the protocol that a connection has chosen.

use bytes::{BufMut, Bytes, BytesMut};

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
    /// An error, its code first. As in Redis, line ends in it become spaces, and those at its end
    /// are left out.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Nothing.
    Null,
    /// A list.
    Array(Vec<Self>),
    /// The beginning of a list of so many elements, which are sent behind it.
    ArrayHead(usize),
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
    pub fn encode(&self, protocol: Protocol, output: &mut BytesMut) {
        // Room for all of it at once: growing by doubling would hold a long reply up to three
        // times.
        output.reserve(self.encoded_bytes_at_most());
        Encoder { protocol, output }.reply(self);
    }

    /// The size of the encoded reply, a little too large.
    #[must_use]
    pub fn encoded_bytes_at_most(&self) -> usize {
        let contents = match self {
            Self::Status(text) => text.len(),
            Self::Error(text) => text.len(),
            Self::Integer(_) | Self::Null | Self::ArrayHead(_) => 0,
            Self::Bulk(bytes) | Self::Verbatim(bytes) => bytes.len(),
            Self::Array(items) | Self::Set(items) => {
                items.iter().map(Self::encoded_bytes_at_most).sum()
            }
            Self::Map(pairs) => {
                let both = |(key, value): &(Self, Self)| {
                    key.encoded_bytes_at_most() + value.encoded_bytes_at_most()
                };
                pairs.iter().map(both).sum()
            }
        };
        contents + MAX_FRAMING_BYTES
    }
}

/// The most bytes around the contents of a reply. These are a type, a length of up to 20 digits,
/// two line ends, and the format of a text.
const MAX_FRAMING_BYTES: usize = 1 + 20 + 2 * LINE_END.len() + TEXT_FORMAT.len();

const LINE_END: &[u8] = b"\r\n";

/// What stands before the text of a verbatim string: it is plain text.
const TEXT_FORMAT: &[u8] = b"txt:";

/// Writes replies.
struct Encoder<'a> {
    protocol: Protocol,
    output: &'a mut BytesMut,
}

impl Encoder<'_> {
    fn reply(&mut self, reply: &Reply) {
        match (reply, self.protocol) {
            (Reply::Status(text), _) => self.line(b'+', text.as_bytes()),
            (Reply::Error(text), _) => self.error(text),
            (Reply::Integer(value), _) => self.number(b':', *value),
            (Reply::Bulk(bytes), _) | (Reply::Verbatim(bytes), Protocol::Resp2) => {
                self.length(b'$', bytes.len());
                self.contents(&[bytes]);
            }
            (Reply::Verbatim(bytes), Protocol::Resp3) => {
                self.length(b'=', TEXT_FORMAT.len() + bytes.len());
                self.contents(&[TEXT_FORMAT, bytes]);
            }
            (Reply::Null, Protocol::Resp2) => self.line(b'$', b"-1"),
            (Reply::Null, Protocol::Resp3) => self.line(b'_', b""),
            (Reply::ArrayHead(length), _) => self.length(b'*', *length),
            (Reply::Array(items), _) | (Reply::Set(items), Protocol::Resp2) => {
                self.list(b'*', items);
            }
            (Reply::Set(items), Protocol::Resp3) => self.list(b'~', items),
            (Reply::Map(pairs), Protocol::Resp2) => self.pairs(b'*', 2 * pairs.len(), pairs),
            (Reply::Map(pairs), Protocol::Resp3) => self.pairs(b'%', pairs.len(), pairs),
        }
    }

    fn list(&mut self, kind: u8, items: &[Reply]) {
        self.length(kind, items.len());
        for item in items {
            self.reply(item);
        }
    }

    fn pairs(&mut self, kind: u8, length: usize, pairs: &[(Reply, Reply)]) {
        self.length(kind, length);
        for (key, value) in pairs {
            self.reply(key);
            self.reply(value);
        }
    }

    /// An error is one line, so line ends in it become spaces.
    fn error(&mut self, text: &str) {
        self.output.put_u8(b'-');
        let text = text.trim_end_matches(['\r', '\n']).bytes();
        let bytes = text.map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte });
        self.output.extend(bytes);
        self.output.put_slice(LINE_END);
    }

    fn length(&mut self, kind: u8, length: usize) {
        self.number(kind, length as i64);
    }

    fn number(&mut self, kind: u8, value: i64) {
        self.line(kind, itoa::Buffer::new().format(value).as_bytes());
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.output.put_u8(kind);
        self.output.put_slice(text);
        self.output.put_slice(LINE_END);
    }

    fn contents(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.output.put_slice(part);
        }
        self.output.put_slice(LINE_END);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(reply: &Reply, protocol: Protocol) -> String {
        let mut output = BytesMut::new();
        reply.encode(protocol, &mut output);
        String::from_utf8(output.to_vec()).unwrap()
    }

    #[test]
    fn each_protocol_has_its_own_forms() {
        let pair = |key: &str| (Reply::text(key), Reply::Integer(1));
        for (reply, resp2, resp3) in [
            (Reply::OK, "+OK\r\n", "+OK\r\n"),
            (Reply::Error("ERR a\r\nb\n\r\n".into()), "-ERR a  b\r\n", "-ERR a  b\r\n"),
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

    /// Every number at which the count of digits changes, and its neighbours, both signs.
    fn digit_boundaries() -> impl Iterator<Item = i64> {
        let powers = (0..19).map(|exponent| 10_i64.pow(exponent));
        let around = powers.flat_map(|power| [power - 1, power, power + 1]);
        around.flat_map(|value| [value, -value]).chain([i64::MIN, i64::MIN + 1, i64::MAX])
    }

    #[test]
    fn integers_have_their_digits_and_nothing_else() {
        for value in digit_boundaries() {
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                assert_eq!(encoded(&Reply::Integer(value), protocol), format!(":{value}\r\n"));
                // What stands behind the number begins where it ends.
                let pair = Reply::Array(vec![Reply::Integer(value), Reply::Integer(value)]);
                assert_eq!(encoded(&pair, protocol), format!("*2\r\n:{value}\r\n:{value}\r\n"));
            }
        }
    }

    #[test]
    fn lengths_are_right_around_every_power_of_ten() {
        let lengths = digit_boundaries().filter(|length| (0..=100_001).contains(length));
        for length in lengths.map(|length| length as usize) {
            let text = "x".repeat(length);
            for (reply, resp2, resp3) in [
                (
                    Reply::text(text.clone()),
                    format!("${length}\r\n{text}\r\n"),
                    format!("${length}\r\n{text}\r\n"),
                ),
                (
                    Reply::Verbatim(text.clone().into()),
                    format!("${length}\r\n{text}\r\n"),
                    format!("={}\r\ntxt:{text}\r\n", length + 4),
                ),
                (
                    Reply::Array(vec![Reply::Null; length]),
                    format!("*{length}\r\n{}", "$-1\r\n".repeat(length)),
                    format!("*{length}\r\n{}", "_\r\n".repeat(length)),
                ),
                (
                    Reply::Set(vec![Reply::OK; length]),
                    format!("*{length}\r\n{}", "+OK\r\n".repeat(length)),
                    format!("~{length}\r\n{}", "+OK\r\n".repeat(length)),
                ),
                (
                    Reply::Map(vec![(Reply::OK, Reply::Integer(7)); length]),
                    format!("*{}\r\n{}", 2 * length, "+OK\r\n:7\r\n".repeat(length)),
                    format!("%{length}\r\n{}", "+OK\r\n:7\r\n".repeat(length)),
                ),
            ] {
                assert_eq!(encoded(&reply, Protocol::Resp2), resp2);
                assert_eq!(encoded(&reply, Protocol::Resp3), resp3);
            }
        }
    }

    #[test]
    fn room_is_made_for_all_of_a_reply_at_once() {
        let map = vec![(Reply::text("key"), Reply::Verbatim("text".into())); 10];
        let items = vec![Reply::Integer(i64::MIN), Reply::Null, Reply::Map(map), Reply::OK];
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let reply = Reply::Array(items.clone());
            assert!(encoded(&reply, protocol).len() <= reply.encoded_bytes_at_most());
        }
    }
}
