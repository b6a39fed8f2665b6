//! MONITOR: clients that see what other clients of this node ask.

use crate::commands::table::Spec;
use crate::session::Session;
use crate::stats::Redaction;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// The most bytes that wait for a client that does not keep up. Beyond it, it is disconnected.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;

/// All clients that see commands.
#[derive(Debug, Default)]
pub struct Monitors {
    /// How many there are: without any, nothing else is looked at.
    count: AtomicUsize,
    all: Mutex<Vec<Weak<Monitor>>>,
}

/// What a client is still to see.
#[derive(Debug, Default)]
pub struct Monitor {
    waiting: Mutex<BytesMut>,
    arrived: Notify,
    /// It did not keep up.
    is_lost: AtomicBool,
}

impl Monitors {
    /// Shows commands from now on, for as long as the result is held.
    pub fn enter(&self) -> Arc<Monitor> {
        let monitor = Arc::new(Monitor::default());
        let mut all = self.all.lock();
        all.push(Arc::downgrade(&monitor));
        self.count.store(all.len(), Ordering::Relaxed);
        monitor
    }

    /// Shows a command that is about to be carried out, but for those about administration.
    pub fn show(&self, session: &Session, spec: &Spec, request: &[Bytes]) {
        if self.count.load(Ordering::Relaxed) > 0
            && !spec.has_flag("admin")
            && !spec.has_flag("skip_monitor")
        {
            self.show_line(&line(session, request));
        }
    }

    fn show_line(&self, line: &[u8]) {
        let mut all = self.all.lock();
        all.retain(|monitor| {
            let Some(monitor) = monitor.upgrade() else { return false };
            monitor.add(line);
            true
        });
        self.count.store(all.len(), Ordering::Relaxed);
    }
}

impl Monitor {
    fn add(&self, line: &[u8]) {
        let mut waiting = self.waiting.lock();
        if waiting.len() + line.len() > MAX_WAITING_BYTES {
            self.is_lost.store(true, Ordering::Relaxed);
        } else {
            waiting.extend_from_slice(line);
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Waits until there is something to see, and takes it. None if the client did not keep up.
    pub async fn next(&self) -> Option<BytesMut> {
        loop {
            if self.is_lost.load(Ordering::Relaxed) {
                return None;
            }
            let lines = std::mem::take(&mut *self.waiting.lock());
            if !lines.is_empty() {
                return Some(lines);
            }
            self.arrived.notified().await;
        }
    }
}

/// A command as Redis shows it.
fn line(session: &Session, request: &[Bytes]) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let client = session.client.address();
    let mut line = format!("+{}.{:06} ", now.as_secs(), now.subsec_micros());
    // Writing to a string cannot fail.
    let _ = write!(line, "[{} {client}]", session.database);
    let mut line = line.into_bytes();
    for argument in request.redacted() {
        line.put_u8(b' ');
        quote(&argument, &mut line);
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// Writes bytes in quotes, as Redis does for people.
fn quote(bytes: &[u8], line: &mut Vec<u8>) {
    line.push(b'"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            b'\x07' => line.extend_from_slice(b"\\a"),
            b'\x08' => line.extend_from_slice(b"\\b"),
            b' '..=b'~' => line.push(byte),
            _ => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_in_redis() {
        let mut line = Vec::new();
        quote(b"a \"b\"\\\r\n\t\x07\x08\0\xff~", &mut line);
        let expected = br#""a \"b\"\\\r\n\t\a\b\x00\xff~""#;
        assert_eq!(line.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    #[tokio::test]
    async fn who_does_not_keep_up_is_lost_and_who_has_gone_is_forgotten() {
        let monitors = Monitors::default();
        let (one, other) = (monitors.enter(), monitors.enter());
        monitors.show_line(b"+a\r\n");
        assert_eq!(one.next().await.unwrap(), &b"+a\r\n"[..]);
        let long = vec![b'x'; MAX_WAITING_BYTES];
        monitors.show_line(&long);
        assert_eq!(one.next().await.map(|lines| lines.len()), Some(MAX_WAITING_BYTES));
        assert!(other.next().await.is_none(), "it had another line to see before");
        drop((one, other));
        monitors.show_line(b"+b\r\n");
        assert_eq!(monitors.count.load(Ordering::Relaxed), 0);
    }
}
