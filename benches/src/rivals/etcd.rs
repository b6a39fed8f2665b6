//! etcd's Put by gRPC: as much of HTTP/2 as that takes.

use super::Protocol;

/// What a client begins with, and empty settings behind it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Before the fields of a frame: three bytes of length, kind, flags, and four of the stream.
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:method: POST`, `:scheme: http`, `:path`, `:authority`, `content-type` and `te`, none of which
/// the server is to remember.
const HEADER_BLOCK: &[u8] = b"\x83\x86\x04\x14/etcdserverpb.KV/Put\x01\x09localhost\
    \x0f\x10\x10application/grpc\x00\x02te\x08trailers";

/// A connection to an etcd.
pub(super) struct Etcd {
    key: String,
    stream: u32,
    /// Whether the request under way has brought a message. An error has none.
    has_message: bool,
}

impl Etcd {
    pub(super) fn new(number: u64) -> Self {
        // Streams of clients have odd numbers.
        Self { key: format!("key:{number:012}"), stream: 1, has_message: false }
    }
}

impl Protocol for Etcd {
    const GREETING_ANSWERS: usize = 0;

    fn greeting(&mut self) -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        // Nobody has to say again and again how much may be sent here.
        put_frame(&mut bytes, WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
        bytes
    }

    fn put_request(&mut self, value: &[u8], request: &mut Vec<u8>) {
        let mut message = vec![0; 5];
        for (field, bytes) in [(1, self.key.as_bytes()), (2, value)] {
            message.push(field << 3 | 2);
            put_varint(&mut message, bytes.len());
            message.extend_from_slice(bytes);
        }
        let length = message.len() as u32 - 5;
        message[1..5].copy_from_slice(&length.to_be_bytes());
        put_frame(request, HEADERS, END_HEADERS, self.stream, HEADER_BLOCK);
        put_frame(request, DATA, END_STREAM, self.stream, &message);
        self.stream += 2;
        self.has_message = false;
    }

    fn take_answer(&mut self, arrived: &mut Vec<u8>, sent: &mut Vec<u8>) -> Option<bool> {
        while let Some(&[a, b, c, kind, flags, ..]) = arrived.first_chunk::<HEAD_BYTES>() {
            let end = HEAD_BYTES + u32::from_be_bytes([0, a, b, c]) as usize;
            if arrived.len() < end {
                return None;
            }
            let frame: Vec<u8> = arrived.drain(..end).collect();
            match kind {
                SETTINGS if flags & ACK == 0 => put_frame(sent, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => put_frame(sent, PING, ACK, 0, &frame[HEAD_BYTES..]),
                DATA => self.has_message = true,
                HEADERS if flags & END_STREAM != 0 => return Some(self.has_message),
                RESET => return Some(false),
                _ => {}
            }
        }
        None
    }
}

fn put_frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, fields: &[u8]) {
    bytes.extend_from_slice(&(fields.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(fields);
}

fn put_varint(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_errors_in_whatever_pieces_they_come() {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, SETTINGS, 0, 0, &[0; 6]);
        put_frame(&mut bytes, HEADERS, END_HEADERS, 1, b"head");
        put_frame(&mut bytes, DATA, 0, 1, b"message");
        put_frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, 1, b"trailers");
        put_frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, 3, b"an error");
        for piece in 1..=bytes.len() {
            let (mut etcd, mut arrived, mut sent) = (Etcd::new(0), Vec::new(), Vec::new());
            let mut answers = Vec::new();
            for chunk in bytes.chunks(piece) {
                arrived.extend_from_slice(chunk);
                while let Some(answer) = etcd.take_answer(&mut arrived, &mut sent) {
                    answers.push(answer);
                    sent.clear();
                    etcd.put_request(b"value", &mut sent);
                }
            }
            assert_eq!(answers, [true, false], "pieces of {piece}");
            assert!(arrived.is_empty());
        }
    }
}
