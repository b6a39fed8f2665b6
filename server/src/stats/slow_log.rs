//! The commands that took long: SLOWLOG.

use crate::commands::table;
use crate::session::Client;
use crate::settings::Settings;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most arguments that an entry keeps; the last of them says how many there were.
const MAX_ARGUMENTS: usize = 32;

/// The most bytes of an argument that an entry keeps.
const MAX_ARGUMENT_BYTES: usize = 128;

/// The most bytes that all entries hold together, however many may be kept.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// The most entries of a second. When everything takes long, what else took long says no more, and
/// to keep it would take longer still.
const MOST_A_SECOND: usize = 1_000;

/// What stands in the place of a password.
const REDACTED: &[u8] = b"(redacted)";

/// A command that took long.
#[derive(Clone, Debug)]
pub struct SlowEntry {
    /// Its number; later entries have higher ones.
    pub id: u64,
    /// When it had its reply, in seconds since 1970.
    pub at_secs: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Its name and its arguments, cut as Redis does.
    pub request: Vec<Bytes>,
    /// The address of its client.
    pub client: String,
    /// The name that the client has given itself.
    pub client_name: String,
}

/// The last commands that took long.
#[derive(Debug)]
pub struct SlowLog {
    /// A negative number keeps nothing.
    slower_than_us: AtomicI64,
    max_len: AtomicUsize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    next_id: u64,
    /// The newest first.
    kept: VecDeque<SlowEntry>,
    /// What they hold.
    bytes: usize,
    /// The second of the last one, since 1970, and how many there were in it.
    second: u64,
    in_second: usize,
}

impl Entries {
    /// Whether there is room for another entry in this second, which is taken then.
    fn admit(&mut self, second: u64) -> bool {
        if std::mem::replace(&mut self.second, second) != second {
            self.in_second = 0;
        }
        self.in_second += 1;
        self.in_second <= MOST_A_SECOND
    }

    /// Keeps one more, and drops the oldest for it: at most `max_len` stay, and at most
    /// `max_bytes`.
    fn add(&mut self, mut entry: SlowEntry, max_len: usize, max_bytes: usize) {
        entry.id = self.next_id;
        self.next_id += 1;
        self.bytes += entry.bytes();
        self.kept.push_front(entry);
        while self.kept.len() > max_len || self.bytes > max_bytes {
            let Some(oldest) = self.kept.pop_back() else { break };
            self.bytes -= oldest.bytes();
        }
    }
}

impl SlowEntry {
    /// What it holds, about.
    fn bytes(&self) -> usize {
        let arguments = self.request.iter().map(|argument| size_of::<Bytes>() + argument.len());
        let texts = self.client.len() + self.client_name.len();
        size_of::<Self>() + arguments.sum::<usize>() + texts
    }
}

impl Default for SlowLog {
    fn default() -> Self {
        Self {
            slower_than_us: AtomicI64::new(-1),
            max_len: AtomicUsize::new(0),
            entries: Mutex::default(),
        }
    }
}

impl SlowLog {
    /// Goes by these settings, and returns from how many microseconds on a command is kept.
    pub(super) fn apply(&self, settings: &Settings) -> u64 {
        let max_len = usize::try_from(settings.slow_log_max_len).unwrap_or(usize::MAX);
        self.max_len.store(max_len, Ordering::Relaxed);
        self.slower_than_us.store(settings.slow_log_slower_than_us, Ordering::Relaxed);
        u64::try_from(settings.slow_log_slower_than_us).unwrap_or(u64::MAX)
    }

    /// Keeps a command, if it took long enough and not too many did in this second.
    pub(super) fn note(&self, request: &[Bytes], client: &Client, took_us: u64) {
        let slower_than = u64::try_from(self.slower_than_us.load(Ordering::Relaxed));
        if slower_than.is_ok_and(|slower_than| took_us >= slower_than) {
            self.keep(request, client, took_us);
        }
    }

    fn keep(&self, request: &[Bytes], client: &Client, took_us: u64) {
        let at_secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if !self.entries.lock().admit(at_secs) {
            return;
        }
        let entry = SlowEntry {
            id: 0,
            at_secs,
            took_us,
            request: shortened(&request.redacted()),
            client: client.address().to_string(),
            client_name: client.details().name,
        };
        let max_len = self.max_len.load(Ordering::Relaxed);
        self.entries.lock().add(entry, max_len, MAX_KEPT_BYTES);
    }

    /// The newest entries, at most so many.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<SlowEntry> {
        self.entries.lock().kept.iter().take(count).cloned().collect()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.lock().kept.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all entries.
    pub fn clear(&self) {
        let mut entries = self.entries.lock();
        entries.kept.clear();
        entries.bytes = 0;
    }
}

/// A request as others may see it.
pub trait Redaction {
    /// The request without the passwords in it.
    fn redacted(&self) -> Vec<Bytes>;
}

impl Redaction for [Bytes] {
    fn redacted(&self) -> Vec<Bytes> {
        let mut request = self.to_vec();
        request[table::passwords(self)].fill(Bytes::from_static(REDACTED));
        request
    }
}

fn shortened(request: &[Bytes]) -> Vec<Bytes> {
    let cut = request.len() > MAX_ARGUMENTS;
    let kept = if cut { MAX_ARGUMENTS - 1 } else { request.len() };
    let mut arguments: Vec<_> = request[..kept].iter().map(shortened_argument).collect();
    if cut {
        let more = request.len() - kept;
        arguments.push(Bytes::from(format!("... ({more} more arguments)")));
    }
    arguments
}

/// A copy, so that the entry does not keep alive what its command came in.
fn shortened_argument(argument: &Bytes) -> Bytes {
    let Some(more) = argument.len().checked_sub(MAX_ARGUMENT_BYTES).filter(|more| *more > 0) else {
        return Bytes::copy_from_slice(argument);
    };
    let mut kept = argument[..MAX_ARGUMENT_BYTES].to_vec();
    kept.extend(format!("... ({more} more bytes)").bytes());
    Bytes::from(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_bounded_by_number_and_by_what_they_hold() {
        let entry = || SlowEntry {
            id: 0,
            at_secs: 0,
            took_us: 1,
            request: vec![Bytes::from_static(&[b'x'; 100]); 10],
            client: "127.0.0.1:1".to_owned(),
            client_name: "n".repeat(1000),
        };
        let (mut entries, bytes) = (Entries::default(), entry().bytes());
        assert!(bytes > 2000, "{bytes}");
        for _ in 0..10 {
            entries.add(entry(), usize::MAX, 5 * bytes);
        }
        let ids = |entries: &Entries| entries.kept.iter().map(|it| it.id).collect::<Vec<_>>();
        assert_eq!((ids(&entries), entries.bytes), (vec![9, 8, 7, 6, 5], 5 * bytes));
        entries.add(entry(), 2, usize::MAX);
        assert_eq!((ids(&entries), entries.bytes), (vec![10, 9], 2 * bytes));
        entries.add(entry(), 0, usize::MAX);
        assert_eq!((entries.kept.len(), entries.bytes), (0, 0));
    }

    #[test]
    fn of_each_second_as_many_entries_are_kept_as_may_be() {
        let mut entries = Entries::default();
        for second in [7, 8, 5] {
            let admitted = (0..3 * MOST_A_SECOND).filter(|_| entries.admit(second)).count();
            assert_eq!(admitted, MOST_A_SECOND, "{second}");
        }
    }
}
