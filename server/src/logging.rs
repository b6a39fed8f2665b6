//! The log lines of a process, on standard error.
//!
//! A log line must never harm the node. Standard error may be closed, lie on a full disk, or belong
//! to a reader that stands still. So a thread of its own writes the lines, a line that can't be
//! written is counted and forgotten, and a place in the code that repeats itself is cut short.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// Lines that wait to be written; beyond them, lines are lost.
const MAX_WAITING_LINES: usize = 4096;
/// So many lines of one place in the code are written within [`WINDOW`].
const MAX_LINES: u32 = 20;
/// How long the lines of a place are counted before it may speak again.
const WINDOW: Duration = Duration::from_secs(10);

/// Lines that standard error did not take.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);
/// Counts the lines for which there was no room while standard error stood still.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Logs warnings, errors, and the server's lines at start and stop to standard error; `RUST_LOG`
/// asks for more or less. What waits is written when the guard is dropped.
pub(crate) fn start() -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_WAITING_LINES)
        .thread_name("log-lines")
        .finish(Lenient(io::stderr()));
    DROPPED.get_or_init(|| writer.error_counter());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new("warn,logboat_server=info,logboat_audit=info,logboat_security=info")
    });
    tracing_subscriber::registry()
        .with(filter)
        .with(lines(writer, io::stderr().is_terminal()))
        .init();
    guard
}

/// Log lines of this process that nobody got to read.
pub(crate) fn lost_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    UNWRITTEN.load(Ordering::Relaxed) + dropped as u64
}

/// Writes each event as a line, unless its place has said enough.
fn lines<S, W>(writer: W, colors: bool) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Clone + Send + Sync + 'static,
{
    let limit = RepeatLimit { writer: writer.clone(), places: Mutex::default() };
    fmt::layer().with_ansi(colors).with_writer(writer).with_filter(limit)
}

/// A writer that never fails, since whoever logs can do nothing about it.
struct Lenient<W>(W);

impl<W: Write> Write for Lenient<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.write_all(line).is_err() {
            UNWRITTEN.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // What can't be written was counted, or is not there.
        let _ = self.0.flush();
        Ok(())
    }
}

/// Cuts a place in the code short that repeats itself, and says how much was left out.
struct RepeatLimit<W> {
    writer: W,
    places: Mutex<HashMap<Identifier, Window>>,
}

/// What a place has said lately.
struct Window {
    began: Instant,
    lines: u32,
    left_out: u64,
}

impl<W: for<'a> MakeWriter<'a>> RepeatLimit<W> {
    fn admits(&self, place: &'static Metadata<'static>, now: Instant) -> bool {
        let mut places = self.places.lock();
        let new = || Window { began: now, lines: 0, left_out: 0 };
        let window = places.entry(place.callsite()).or_insert_with(new);
        let mut left_out = 0;
        if now.duration_since(window.began) >= WINDOW {
            left_out = window.left_out;
            *window = new();
        }
        window.lines = window.lines.saturating_add(1);
        let admitted = window.lines <= MAX_LINES;
        window.left_out += u64::from(!admitted);
        drop(places);
        if left_out > 0 {
            let (level, target) = (place.level(), place.target());
            let note = format!("{level} {target}: left out {left_out} lines like the next\n");
            // The note is no more important than the line.
            let _ = self.writer.make_writer().write_all(note.as_bytes());
        }
        admitted
    }
}

impl<S, W: for<'a> MakeWriter<'a>> Filter<S> for RepeatLimit<W> {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.admits(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().write(data)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Memory {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    /// As a closed pipe, or a file on a full disk.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn a_line_that_can_t_be_written_is_counted() {
        let before = lost_lines();
        let mut writer = Lenient(Broken);
        writer.write_all(b"line\n").unwrap();
        writer.flush().unwrap();
        assert_eq!(lost_lines(), before + 1);
    }

    #[test]
    fn a_place_that_repeats_itself_is_cut_short() {
        let memory = Memory::default();
        let writer = memory.clone();
        let subscriber = tracing_subscriber::registry().with(lines(move || writer.clone(), false));
        tracing::subscriber::with_default(subscriber, || {
            (0..MAX_LINES * 2).for_each(|number| tracing::warn!("again {number}"));
            tracing::warn!("something else");
        });
        let text = memory.text();
        assert_eq!(text.lines().filter(|line| line.contains("again")).count(), 20);
        assert!(text.contains("something else"), "{text}");
    }

    #[test]
    fn a_place_speaks_again_and_says_what_was_left_out() {
        let memory = Memory::default();
        let writer = memory.clone();
        let limit = RepeatLimit { writer: move || writer.clone(), places: Mutex::default() };
        let place = tracing::callsite! {
            name: "place", kind: tracing::metadata::Kind::EVENT, level: tracing::Level::WARN, fields:
        };
        let place = tracing::callsite::Callsite::metadata(place);
        let begin = Instant::now();
        let admitted = (0..MAX_LINES + 7).filter(|_| limit.admits(place, begin)).count();
        assert_eq!(admitted, MAX_LINES as usize);
        assert_eq!(memory.text(), "");
        assert!(limit.admits(place, begin + WINDOW));
        assert!(memory.text().contains("left out 7 lines"), "{}", memory.text());
    }
}
