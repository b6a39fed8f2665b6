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
#[derive(Debug)]
pub struct Monitors {
    /// How many there are: without any, nothing else is looked at.
    count: AtomicUsize,
    all: Mutex<Vec<Weak<Monitor>>>,
    /// The most bytes that wait for all of them. Each may have an equal part of it.
    max_waiting_bytes: usize,
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
    /// Nobody sees commands yet. For all who will, `max_waiting_bytes` may wait.
    #[must_use]
    pub const fn new(max_waiting_bytes: usize) -> Self {
        Self { count: AtomicUsize::new(0), all: Mutex::new(Vec::new()), max_waiting_bytes }
    }

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
        let count = self.count.load(Ordering::Relaxed);
        if count > 0 && !spec.has_flag("admin") && !spec.has_flag("skip_monitor") {
            self.show_line(&line(session, request, self.most_of(count)));
        }
    }

    /// How many bytes may wait for each of so many.
    fn most_of(&self, count: usize) -> usize {
        MAX_WAITING_BYTES.min(self.max_waiting_bytes / count.max(1))
    }

    fn show_line(&self, line: &[u8]) {
        let mut all = self.all.lock();
        all.retain(|monitor| monitor.strong_count() > 0);
        let most = self.most_of(all.len());
        for monitor in all.iter().filter_map(Weak::upgrade) {
            monitor.add(line, most);
        }
        self.count.store(all.len(), Ordering::Relaxed);
    }
}

impl Monitor {
    fn add(&self, line: &[u8], most: usize) {
        let mut waiting = self.waiting.lock();
        if waiting.len() + line.len() > most {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        if self.is_lost.load(Ordering::Relaxed) {
            *waiting = BytesMut::new();
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

    /// Waits until the client does not keep up.
    pub async fn lost(&self) {
        while !self.is_lost.load(Ordering::Relaxed) {
            self.arrived.notified().await;
        }
    }
}

/// A command as Redis shows it. Of a line that is longer than `most` bytes not all is made: nobody
/// gets to see it.
fn line(session: &Session, request: &[Bytes], most: usize) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let client = session.client.address();
    let mut line = format!("+{}.{:06} ", now.as_secs(), now.subsec_micros());
    // Writing to a string cannot fail.
    let _ = write!(line, "[{} {client}]", session.database);
    let mut line = line.into_bytes();
    for argument in request.redacted() {
        line.put_u8(b' ');
        quote(&argument[..argument.len().min(most)], &mut line);
        if line.len() > most {
            break;
        }
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
        let monitors = Monitors::new(1 << 30);
        let (one, other) = (monitors.enter(), monitors.enter());
        monitors.show_line(b"+a\r\n");
        assert_eq!(one.next().await.unwrap(), &b"+a\r\n"[..]);
        let long = vec![b'x'; MAX_WAITING_BYTES];
        monitors.show_line(&long);
        assert_eq!(one.next().await.map(|lines| lines.len()), Some(MAX_WAITING_BYTES));
        assert!(other.next().await.is_none(), "it had another line to see before");
        other.lost().await;
        assert_eq!(other.waiting.lock().capacity(), 0, "nothing is kept for it");
        drop((one, other));
        monitors.show_line(b"+b\r\n");
        assert_eq!(monitors.count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_waits_for_all_of_them_is_bounded() {
        let monitors = Monitors::new(1_000_000);
        let mut all: Vec<_> = (0..3).map(|_| monitors.enter()).collect();
        let waiting = |all: &[Arc<Monitor>]| -> usize {
            all.iter().map(|monitor| monitor.waiting.lock().len()).sum()
        };
        for _ in 0..33 {
            monitors.show_line(&[b'x'; 10_000]);
        }
        assert_eq!(waiting(&all), 990_000);
        // With more of them, each has a smaller part.
        all.extend((0..97).map(|_| monitors.enter()));
        monitors.show_line(&[b'x'; 10_000]);
        assert_eq!(waiting(&all), 970_000);
        for monitor in &all[..3] {
            assert!(monitor.next().await.is_none());
        }
        for monitor in &all[3..] {
            assert_eq!(monitor.next().await.map(|lines| lines.len()), Some(10_000));
        }
    }
}
