//! Requests: arrays of bulk strings and inline commands, taken from a stream in pieces.

use super::inline::split_arguments;
use crate::kv::parse_integer;
use crate::limits::Limits;
use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;
use std::ops::Range;

/// The longest inline command, and the longest line that announces a length; Redis's limit.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// The most arguments a request may announce; Redis's limit. What arrives is bounded by
/// [`Limits::max_request_bytes`].
const MAX_ARGUMENTS: i64 = i32::MAX as i64;

/// The longest argument that is skipped and answered by an error; Redis's `proto-max-bulk-len`.
/// Beyond it the connection is closed, as Redis does.
const MAX_SKIPPED_BYTES: i64 = 512 * 1024 * 1024;

/// The most arguments in a request of a client that has to log in; Redis's limit.
const MAX_STRANGERS_ARGUMENTS: i64 = 10;

/// The longest argument in a request of a client that has to log in; Redis's limit.
const MAX_STRANGERS_BYTES: usize = 16 * 1024;

/// What a TLS connection begins with, and no request does.
const FIRST_OF_TLS: u8 = 0x16;

/// What an argument costs besides its bytes when a request is measured against its limit.
const ARGUMENT_OVERHEAD_BYTES: usize = 32;

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A command: its name and arguments, at least one.
    Command(Vec<Bytes>),
    /// A command that was skipped. The connection goes on behind it.
    Refused(Refusal),
}

/// Why a well-formed request is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// One argument is too long.
    #[error("ERR argument of {bytes} bytes exceeds the limit of {limit} bytes")]
    Argument {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// There is no memory for it beside those of other clients.
    #[error("TRYAGAIN clients hold as much memory as they may; the command had no effect")]
    Memory,
    /// All arguments together are too long.
    #[error("ERR request exceeds the limit of {limit} bytes")]
    Request {
        /// The longest allowed.
        limit: usize,
    },
}

/// Bytes that are no request. The connection cannot go on: where the next one would start is
/// unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The number of arguments is not a number, or too large.
    #[error("ERR Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// The length of an argument is not a number, negative, or too large.
    #[error("ERR Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// An argument does not start with `$`.
    #[error("ERR Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// The line with the number of arguments does not end.
    #[error("ERR Protocol error: too big mbulk count string")]
    LongMultibulkLine,
    /// The line with the length of an argument does not end.
    #[error("ERR Protocol error: too big bulk count string")]
    LongBulkLine,
    /// An inline command does not end.
    #[error("ERR Protocol error: too big inline request")]
    LongInline,
    /// An inline command with a quote that is not closed.
    #[error("ERR Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// More arguments than a client may send that has to log in first.
    #[error("ERR Protocol error: unauthenticated multibulk length")]
    StrangersMultibulkLength,
    /// A longer argument than a client may send that has to log in first.
    #[error("ERR Protocol error: unauthenticated bulk length")]
    StrangersBulkLength,
    /// The first byte of TLS.
    #[error("ERR Protocol error: TLS is off on this port")]
    Encrypted,
}

/// Cuts a stream of bytes into requests. Memory is allocated for bytes that have arrived, never for
/// a length that a client announces.
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
    /// Whether the client has to log in before it may send large requests.
    of_stranger: bool,
    array: Option<Array>,
}

/// An array of which a part has been read.
#[derive(Debug)]
struct Array {
    /// Arguments still to come, the one being read included.
    missing: usize,
    arguments: Vec<Bytes>,
    /// The size of `arguments` as the limit of a request counts it.
    bytes: usize,
    /// The argument being read, once its length is known.
    current: Option<Current>,
    /// Set once the request is beyond a limit; from then on arguments are skipped.
    refusal: Option<Refusal>,
}

/// The rest of an argument, its line end included.
#[derive(Clone, Copy, Debug)]
enum Current {
    Keep(usize),
    Skip(usize),
}

impl RequestParser {
    /// A parser at the start of a stream.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, of_stranger: false, array: None }
    }

    /// Says whether the client has to log in. Until then, its requests have to be small.
    pub const fn set_of_stranger(&mut self, of_stranger: bool) {
        self.of_stranger = of_stranger;
    }

    /// What is held of a request that has not arrived whole, without what is still in the input.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.array.as_ref().map_or(0, |array| match array.refusal {
            None => array.bytes,
            Some(_) => 0,
        })
    }

    /// Gives up the request that is being read, if it is an array. What has arrived of it is
    /// dropped, here and from the front of `input`. The rest of it is skipped.
    pub fn give_up(&mut self, input: &mut BytesMut) {
        let Some(array) = &mut self.array else {
            return;
        };
        array.refuse(Refusal::Memory);
        if let Some(Current::Keep(bytes) | Current::Skip(bytes)) = array.current {
            let skipped = bytes.min(input.len());
            // Advancing the buffer would not free its memory.
            *input = BytesMut::from(&input[skipped..]);
            array.current = Some(Current::Skip(bytes - skipped));
        }
    }

    /// Takes the next whole request from the front of `input`, which keeps what lies behind it.
    /// None if there is not yet a whole one; call again when `input` has grown.
    ///
    /// # Errors
    /// See [`ProtocolError`]; the stream cannot be used any further.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        loop {
            if self.array.is_none()
                && let Some(array) = WholeArray::find(input, &self.limits)
            {
                return Ok(Some(Request::Command(array.take(input))));
            }
            if let Some(array) = &mut self.array {
                return match array.read(input, &self.limits, self.of_stranger)? {
                    false => Ok(None),
                    true => Ok(self.array.take().map(Array::into_request)),
                };
            }
            let request = match input.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(line) = take_line(input, ProtocolError::LongMultibulkLine)? else {
                        return Ok(None);
                    };
                    self.array = start_array(&line, self.of_stranger)?;
                    continue;
                }
                Some(&FIRST_OF_TLS) => return Err(ProtocolError::Encrypted),
                Some(_) => take_inline(input)?,
            };
            match request {
                // An empty line is no request; Redis passes over it too.
                Some(arguments) if arguments.is_empty() => {}
                other => return Ok(other.map(Request::Command)),
            }
        }
    }
}

/// Where the arguments of an array lie that has arrived as a whole.
struct WholeArray {
    arguments: SmallVec<[Range<usize>; 8]>,
    /// The length of the array.
    bytes: usize,
}

impl WholeArray {
    /// The array at the front of `input`, if it is whole, well-formed and within the limits. All
    /// others are read piece by piece, which tells what is wrong with them.
    fn find(input: &[u8], limits: &Limits) -> Option<Self> {
        let (count, mut at) = announced(input, 0, b'*')?;
        if count == 0 {
            return None;
        }
        // Each argument takes five bytes at least, so the count can't make this allocate too much.
        if count > input.len() / 5 {
            return None;
        }
        let mut arguments = SmallVec::with_capacity(count);
        let mut counted = 0;
        for _ in 0..count {
            let (length, start) = announced(input, at, b'$')?;
            counted += length + ARGUMENT_OVERHEAD_BYTES;
            if length > limits.max_argument_bytes() || counted > limits.max_request_bytes {
                return None;
            }
            at = start + length + 2;
            if at > input.len() {
                return None;
            }
            arguments.push(start..start + length);
        }
        Some(Self { arguments, bytes: at })
    }

    /// Takes the array off the front of `input`. Its arguments share one piece of memory.
    fn take(self, input: &mut BytesMut) -> Vec<Bytes> {
        let array = input.split_to(self.bytes).freeze();
        self.arguments.into_iter().map(|place| array.slice(place)).collect()
    }
}

/// The number in a line of this kind that begins at `at`, and where the line behind it begins. It
/// has at most eight digits, and none of them is a zero in front.
fn announced(input: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let (first, line) = input.get(at..)?.split_first()?;
    if *first != kind {
        return None;
    }
    let digits = line.iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
    let is_number = matches!(digits, 1..=8) && (line[0] != b'0' || digits == 1);
    if !is_number || line.get(digits) != Some(&b'\r') || line.len() < digits + 2 {
        return None;
    }
    let value =
        line[..digits].iter().fold(0, |value, digit| value * 10 + usize::from(digit - b'0'));
    Some((value, at + 1 + digits + 2))
}

/// The array that a line `*<count>` starts. A count of zero or less is passed over, as in Redis.
fn start_array(line: &[u8], of_stranger: bool) -> Result<Option<Array>, ProtocolError> {
    match parse_integer(&line[1..]) {
        Some(count) if count <= 0 => Ok(None),
        Some(count) if of_stranger && count > MAX_STRANGERS_ARGUMENTS => {
            Err(ProtocolError::StrangersMultibulkLength)
        }
        Some(count) if count <= MAX_ARGUMENTS => Ok(Some(Array {
            missing: count as usize,
            arguments: Vec::new(),
            bytes: 0,
            current: None,
            refusal: None,
        })),
        Some(_) | None => Err(ProtocolError::InvalidMultibulkLength),
    }
}

impl Array {
    /// Reads on; true once the last argument is complete.
    fn read(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
        of_stranger: bool,
    ) -> Result<bool, ProtocolError> {
        while self.missing > 0 {
            let current = match self.current {
                Some(current) => current,
                None => match self.read_length(input, limits, of_stranger)? {
                    Some(current) => current,
                    None => return Ok(false),
                },
            };
            match current {
                Current::Keep(bytes) if input.len() >= bytes => {
                    let mut argument = input.split_to(bytes);
                    argument.truncate(bytes - 2);
                    self.arguments.push(argument.freeze());
                }
                Current::Keep(_) => {
                    self.current = Some(current);
                    return Ok(false);
                }
                Current::Skip(bytes) => {
                    let skipped = bytes.min(input.len());
                    input.advance(skipped);
                    if skipped < bytes {
                        self.current = Some(Current::Skip(bytes - skipped));
                        return Ok(false);
                    }
                }
            }
            self.current = None;
            self.missing -= 1;
        }
        Ok(true)
    }

    /// Reads a line `$<length>` and decides whether the argument is kept.
    fn read_length(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
        of_stranger: bool,
    ) -> Result<Option<Current>, ProtocolError> {
        let Some(line) = take_line(input, ProtocolError::LongBulkLine)? else {
            return Ok(None);
        };
        let length = match line.split_first() {
            Some((b'$', length)) => parse_integer(length),
            Some((&other, _)) => return Err(ProtocolError::ExpectedBulk(other)),
            None => return Err(ProtocolError::ExpectedBulk(b'\r')),
        };
        let length = match length {
            Some(length) if (0..=MAX_SKIPPED_BYTES).contains(&length) => length as usize,
            Some(_) | None => return Err(ProtocolError::InvalidBulkLength),
        };
        if of_stranger && length > MAX_STRANGERS_BYTES {
            return Err(ProtocolError::StrangersBulkLength);
        }
        self.bytes = self.bytes.saturating_add(length + ARGUMENT_OVERHEAD_BYTES);
        if length > limits.max_argument_bytes() {
            let limit = limits.max_argument_bytes();
            self.refuse(Refusal::Argument { bytes: length, limit });
        } else if self.bytes > limits.max_request_bytes {
            self.refuse(Refusal::Request { limit: limits.max_request_bytes });
        }
        let with_line_end = length + 2;
        Ok(Some(match self.refusal {
            None => Current::Keep(with_line_end),
            Some(_) => Current::Skip(with_line_end),
        }))
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refusal.get_or_insert(refusal);
        self.arguments = Vec::new();
    }

    fn into_request(self) -> Request {
        match self.refusal {
            None => Request::Command(self.arguments),
            Some(refusal) => Request::Refused(refusal),
        }
    }
}

/// Takes a line that ends with `\r` and one more byte, which Redis does not check either. The limit
/// on its length holds in whatever pieces it arrives.
fn take_line(
    input: &mut BytesMut,
    too_long: ProtocolError,
) -> Result<Option<BytesMut>, ProtocolError> {
    let end = line_end(input, b'\r');
    if end.unwrap_or(input.len()) > MAX_LINE_BYTES {
        return Err(too_long);
    }
    match end {
        Some(end) if end + 2 <= input.len() => {
            let line = input.split_to(end);
            input.advance(2);
            Ok(Some(line))
        }
        Some(_) | None => Ok(None),
    }
}

/// Where the first line of `input` ends. Redis looks for the end as in a C string, so a zero byte
/// hides it: the line goes on until it is too long.
fn line_end(input: &[u8], end: u8) -> Option<usize> {
    let found = input.iter().position(|&byte| byte == end || byte == 0)?;
    (input[found] == end).then_some(found)
}

/// Takes a line that ends with `\n` or `\r\n`, split into arguments.
fn take_inline(input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
    let end = line_end(input, b'\n');
    if end.unwrap_or(input.len()) > MAX_LINE_BYTES {
        return Err(ProtocolError::LongInline);
    }
    let Some(end) = end else {
        return Ok(None);
    };
    let line = input.split_to(end + 1);
    let line = &line[..end];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    split_arguments(line).map(Some).ok_or(ProtocolError::UnbalancedQuotes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> Limits {
        Limits {
            max_key_bytes: 10,
            max_value_bytes: 20,
            max_request_bytes: 300,
            ..Limits::default()
        }
    }

    /// All requests of `bytes`, fed in pieces of `piece` bytes.
    fn parse(bytes: &[u8], piece: usize) -> Result<Vec<Request>, ProtocolError> {
        let mut parser = RequestParser::new(limits());
        let mut input = BytesMut::new();
        let mut requests = Vec::new();
        for chunk in bytes.chunks(piece) {
            input.extend_from_slice(chunk);
            while let Some(request) = parser.next(&mut input)? {
                requests.push(request);
            }
        }
        Ok(requests)
    }

    fn command(arguments: &[&'static str]) -> Request {
        Request::Command(arguments.iter().map(|a| Bytes::from_static(a.as_bytes())).collect())
    }

    #[test]
    fn arrays_and_inline_commands_mix_in_any_pieces() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n\r\n*0\r\n*-10\r\nSET a \"b c\"\n*1\r\n$0\r\n\r\n";
        let expected = vec![
            command(&["GET", "a"]),
            command(&["PING"]),
            command(&["SET", "a", "b c"]),
            command(&[""]),
        ];
        for piece in 1..=bytes.len() {
            assert_eq!(parse(bytes, piece), Ok(expected.clone()), "pieces of {piece}");
        }
    }

    #[test]
    fn malformed_requests_are_named_as_in_redis() {
        for (bytes, text) in [
            (&b"*2147483648\r\n"[..], "invalid multibulk length"),
            (b"*9999999999999999999999\r\n", "invalid multibulk length"),
            (b"*x\r\n", "invalid multibulk length"),
            (b"*\r\n", "invalid multibulk length"),
            (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", "expected '$', got 'f'"),
            (b"*1\r\nfoo\r\n", "expected '$', got 'f'"),
            (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$-10\r\n", "invalid bulk length"),
            (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n", "invalid bulk length"),
            (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$blabla\r\n", "invalid bulk length"),
            (b"SET x \"a\r\n", "unbalanced quotes in request"),
        ] {
            for piece in [1, bytes.len()] {
                let error = parse(bytes, piece).unwrap_err();
                assert_eq!(error.to_string(), format!("ERR Protocol error: {text}"));
            }
        }
    }

    #[test]
    fn a_zero_byte_hides_the_end_of_its_line() {
        for line in
            ["GET\0 a\r\nPING\r\n", "PING \"a\"\0b\r\n", "*1\0\r\n", "*1\r\n$4\0\r\nPING\r\n"]
        {
            for piece in [1, line.len()] {
                assert_eq!(parse(line.as_bytes(), piece), Ok(Vec::new()), "{line:?}");
            }
        }
    }

    #[test]
    fn as_many_arguments_as_in_redis_may_be_announced() {
        for count in [1 << 20, (1 << 20) + 1, i32::MAX] {
            let bytes = format!("*{count}\r\n$1\r\na\r\n");
            assert_eq!(parse(bytes.as_bytes(), bytes.len()), Ok(Vec::new()));
        }
    }

    #[test]
    fn endless_lines_are_refused() {
        for (start, text) in [
            (&b"\0"[..], "too big inline request"),
            (b"*\0", "too big mbulk count string"),
            (b"*1\r\n$\0", "too big bulk count string"),
        ] {
            let endless = [start, &[b'A'; MAX_LINE_BYTES + 1]].concat();
            let ended = [&endless, &b"\r\n"[..]].concat();
            for (bytes, piece) in [(&endless, 4096), (&ended, 4096), (&ended, ended.len())] {
                let error = parse(bytes, piece).unwrap_err();
                assert_eq!(error.to_string(), format!("ERR Protocol error: {text}"));
            }
        }
    }

    #[test]
    fn what_is_too_long_is_skipped_without_being_kept() {
        let long = "x".repeat(21);
        let bytes = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$21\r\n{long}\r\nPING\r\n");
        let refused = Request::Refused(Refusal::Argument { bytes: 21, limit: 20 });
        for piece in [1, 7, bytes.len()] {
            let expected = Ok(vec![refused.clone(), command(&["PING"])]);
            assert_eq!(parse(bytes.as_bytes(), piece), expected);
        }
        let mut parser = RequestParser::new(limits());
        let mut input = BytesMut::from(&b"*2\r\n$3\r\nGET\r\n$500000000\r\nabc"[..]);
        assert_eq!(parser.next(&mut input), Ok(None));
        assert!(input.is_empty(), "the bytes of a refused argument are dropped as they come");
    }

    #[test]
    fn a_request_that_is_given_up_is_read_over() {
        let bytes = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nvalue\r\nPING\r\n";
        for cut in 4..bytes.len() - 8 {
            let mut parser = RequestParser::new(limits());
            let mut input = BytesMut::from(&bytes[..cut]);
            assert_eq!(parser.next(&mut input), Ok(None));
            parser.give_up(&mut input);
            assert_eq!(parser.held_bytes(), 0);
            input.extend_from_slice(&bytes[cut..]);
            assert_eq!(parser.next(&mut input), Ok(Some(Request::Refused(Refusal::Memory))));
            assert_eq!(parser.next(&mut input), Ok(Some(command(&["PING"]))));
        }
    }

    #[test]
    fn many_small_arguments_are_bounded_too() {
        let bytes = format!("*12\r\n{}PING\r\n", "$0\r\n\r\n".repeat(12));
        let refused = Request::Refused(Refusal::Request { limit: 300 });
        assert_eq!(parse(bytes.as_bytes(), 5), Ok(vec![refused, command(&["PING"])]));
    }

    #[test]
    fn arguments_that_came_together_share_their_memory() {
        let mut parser = RequestParser::new(limits());
        let mut input = BytesMut::from(&b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPI"[..]);
        let start = input.as_ptr();
        let Ok(Some(Request::Command(arguments))) = parser.next(&mut input) else {
            panic!("a whole array");
        };
        assert_eq!(arguments, ["GET", "a"]);
        assert_eq!(arguments[0].as_ptr(), start.wrapping_add(8));
        assert_eq!(arguments[1].as_ptr(), start.wrapping_add(17));
        assert_eq!(parser.next(&mut input), Ok(None));
        input.extend_from_slice(b"NG\r\n");
        assert_eq!(parser.next(&mut input), Ok(Some(command(&["PING"]))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_pieces_do_not_matter(
            bytes in "[*$0-9a\r\n\"']{0,60}",
            piece in 1..10usize,
        ) {
            let whole = parse(bytes.as_bytes(), 1000);
            let pieces = parse(bytes.as_bytes(), piece);
            prop_assert_eq!(whole, pieces);
        }
    }
}
