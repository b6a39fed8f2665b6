//! CLIENT PAUSE: commands of this node's clients wait for a while.

use crate::commands::table::Spec;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time;

/// Which commands wait, and until when.
#[derive(Debug)]
pub struct Pause {
    /// Whether any may wait: without it, nothing else is looked at.
    is_on: AtomicBool,
    current: watch::Sender<Option<Current>>,
    /// How many connections wait.
    waiting: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    until: Instant,
    holds_reads: bool,
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            is_on: AtomicBool::new(false),
            current: watch::Sender::new(None),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Pause {
    /// Has commands wait from now on: all of them, or those that write. A pause that is on does not
    /// become shorter or weaker by that, as in Redis.
    pub fn begin(&self, time: Duration, holds_reads: bool) {
        let far = Duration::from_secs(1 << 32);
        let until = Instant::now() + time.min(far);
        self.current.send_modify(|current| {
            let before = current.filter(|current| current.until > Instant::now());
            *current = Some(Current {
                until: before.map_or(until, |before| before.until.max(until)),
                holds_reads: holds_reads || before.is_some_and(|before| before.holds_reads),
            });
        });
        self.is_on.store(true, Ordering::Release);
    }

    /// Has nothing wait any more.
    pub fn end(&self) {
        self.is_on.store(false, Ordering::Release);
        self.current.send_replace(None);
    }

    /// Whether the command has to wait.
    #[must_use]
    pub fn holds_up(&self, spec: &Spec) -> bool {
        if !self.is_on.load(Ordering::Acquire) {
            return false;
        }
        let Some(current) = *self.current.borrow() else { return false };
        current.until > Instant::now() && (current.holds_reads || spec.has_flag("write"))
    }

    /// How many connections wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits until the pause is over, or has changed.
    pub async fn wait(&self) {
        let _waiting = Waiting::begin(&self.waiting);
        let mut changes = self.current.subscribe();
        let current = *changes.borrow_and_update();
        let Some(Current { until, .. }) = current else { return };
        // The sender is a part of what is borrowed here, so there is one.
        let _ = time::timeout_at(until.into(), changes.changed()).await;
    }
}

/// Counts a connection that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
