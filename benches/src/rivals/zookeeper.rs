//! ZooKeeper's setData.

use super::Protocol;

/// The kinds of requests.
const CREATE: i32 = 1;
const SET_DATA: i32 = 5;

/// The node goes with its session.
const EPHEMERAL: i32 = 1;

const ALL_PERMISSIONS: i32 = 31;
const ANY_VERSION: i32 = -1;
const SESSION_TIMEOUT_MS: i32 = 30_000;
const PASSWORD_BYTES: usize = 16;

/// Where the error stands in an answer: behind its length, its number and the transaction.
const ERROR_AT: usize = 16;

/// A connection to a ZooKeeper.
pub(super) struct ZooKeeper {
    path: String,
    number: i32,
    has_session: bool,
}

impl ZooKeeper {
    pub(super) fn new(number: u64) -> Self {
        Self { path: format!("/key:{number:012}"), number: 0, has_session: false }
    }

    /// Adds a request of this kind.
    fn put(&mut self, bytes: &mut Vec<u8>, kind: i32, fields: impl FnOnce(&mut Vec<u8>)) {
        self.number += 1;
        let number = self.number;
        put_message(bytes, |bytes| {
            put_number(bytes, number);
            put_number(bytes, kind);
            fields(bytes);
        });
    }
}

impl Protocol for ZooKeeper {
    const GREETING_ANSWERS: usize = 2;

    fn greeting(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_message(&mut bytes, |bytes| {
            put_number(bytes, 0);
            bytes.extend_from_slice(&0_i64.to_be_bytes());
            put_number(bytes, SESSION_TIMEOUT_MS);
            bytes.extend_from_slice(&0_i64.to_be_bytes());
            put_bytes(bytes, &[0; PASSWORD_BYTES]);
            bytes.push(0);
        });
        let path = self.path.clone();
        self.put(&mut bytes, CREATE, |bytes| {
            put_bytes(bytes, path.as_bytes());
            put_bytes(bytes, b"");
            put_number(bytes, 1);
            put_number(bytes, ALL_PERMISSIONS);
            put_bytes(bytes, b"world");
            put_bytes(bytes, b"anyone");
            put_number(bytes, EPHEMERAL);
        });
        bytes
    }

    fn put_request(&mut self, value: &[u8], request: &mut Vec<u8>) {
        let path = self.path.clone();
        self.put(request, SET_DATA, |bytes| {
            put_bytes(bytes, path.as_bytes());
            put_bytes(bytes, value);
            put_number(bytes, ANY_VERSION);
        });
    }

    fn take_answer(&mut self, arrived: &mut Vec<u8>, _: &mut Vec<u8>) -> Option<bool> {
        let end = 4 + u32::from_be_bytes(*arrived.first_chunk()?) as usize;
        if arrived.len() < end {
            return None;
        }
        let answer: Vec<u8> = arrived.drain(..end).collect();
        let is_greeting = !std::mem::replace(&mut self.has_session, true);
        Some(is_greeting || answer.get(ERROR_AT..ERROR_AT + 4) == Some(&[0; 4]))
    }
}

fn put_message(bytes: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    put_number(bytes, 0);
    fields(bytes);
    let length = (bytes.len() - start - 4) as u32;
    bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_number(bytes: &mut Vec<u8>, number: i32) {
    bytes.extend_from_slice(&number.to_be_bytes());
}

fn put_bytes(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
    bytes.extend_from_slice(value);
}
