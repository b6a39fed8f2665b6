//! How many requests a node lets in: no more than its memory holds, and, as soon as it refuses some,
//! no more than it answers in a quarter of a second.
//!
//! What is let in waits in a line, and the longer the line, the longer the wait: by Little's law, the
//! requests that are pending over those answered in a second. A bound on memory alone would let
//! requests wait for longer than anybody waits for them, with the node busy answering nobody. So the
//! [`Pacer`] measures what is answered and sets the limit by it.

use crate::error::RequestError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What a pending request costs besides its own bytes.
pub(crate) const OVERHEAD_BYTES: usize = 256;

/// How long a request may wait when there are more than the node can serve: longer than batches take to
/// form, and short beside what callers wait. With a second, three times as much memory was resident
/// under overload, and no more was written.
const WAIT_MS: u64 = 250;

/// Which part of the memory for requests a node uses without having refused any: what a burst may
/// bring that comes to an idle node.
const BURST_PART: usize = 16;

/// Which part it uses at least, however slow it is: enough for batches to form, and for replicas that are
/// further away from each other than [`WAIT_MS`].
const LEAST_PART: usize = 64;

/// How many bytes of requests a node holds, and how many it may.
pub struct Admission {
    /// Of all requests that were let in, since the start.
    admitted_bytes: AtomicU64,
    /// Of those that are done.
    released_bytes: AtomicU64,
    limit_bytes: AtomicUsize,
    /// Whether any was refused since the limit was set.
    refused: AtomicBool,
    max_bytes: usize,
}

impl Admission {
    /// Room for `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            admitted_bytes: AtomicU64::new(0),
            released_bytes: AtomicU64::new(0),
            limit_bytes: AtomicUsize::new(max_bytes),
            refused: AtomicBool::new(false),
            max_bytes,
        })
    }

    /// A permit for a request of `bytes`. One that comes when no other is pending gets it if there is
    /// memory for it.
    ///
    /// # Errors
    /// [`RequestError::Busy`] when the node holds as much as it may.
    pub fn admit(self: &Arc<Self>, bytes: usize) -> Result<Permit, RequestError> {
        let bytes = bytes + OVERHEAD_BYTES;
        let used = self.used_bytes();
        let limit = if used == 0 { self.max_bytes } else { self.limit() };
        if used + bytes > limit {
            // Only read while nothing changes: under overload, this is what happens most.
            if !self.refused.load(Ordering::Relaxed) {
                self.refused.store(true, Ordering::Relaxed);
            }
            return Err(RequestError::Busy);
        }
        // Threads that get here together may exceed the limit by a request each.
        self.admitted_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(Permit { admission: Arc::clone(self), bytes: bytes as u64 })
    }

    pub(crate) fn used_bytes(&self) -> usize {
        // In this order, since what is released was admitted before.
        let released = self.released_bytes.load(Ordering::Acquire);
        let used = self.admitted_bytes.load(Ordering::Relaxed).saturating_sub(released);
        usize::try_from(used).unwrap_or(usize::MAX)
    }

    fn limit(&self) -> usize {
        self.limit_bytes.load(Ordering::Relaxed)
    }
}

/// Gives its bytes back when the request is done.
pub struct Permit {
    admission: Arc<Admission>,
    bytes: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.released_bytes.fetch_add(self.bytes, Ordering::Release);
    }
}

/// Sets the limit of an [`Admission`] by what is answered.
pub(crate) struct Pacer {
    admission: Arc<Admission>,
    released_bytes: u64,
    /// Bytes of requests answered in a second, the last interval for a half of it.
    bytes_per_s: u64,
}

impl Pacer {
    pub(crate) const fn new(admission: Arc<Admission>) -> Self {
        Self { admission, released_bytes: 0, bytes_per_s: 0 }
    }

    /// Takes in what was answered in an interval that took `elapsed`.
    pub(crate) fn pace(&mut self, elapsed: Duration) {
        let admission = &*self.admission;
        let released = admission.released_bytes.load(Ordering::Relaxed);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let bytes_per_s = (released - self.released_bytes).saturating_mul(1_000) / elapsed_ms;
        self.bytes_per_s = self.bytes_per_s.midpoint(bytes_per_s);
        self.released_bytes = released;
        let refused = admission.refused.swap(false, Ordering::Relaxed);
        let part = if refused { LEAST_PART } else { BURST_PART };
        let paced = usize::try_from(self.bytes_per_s * WAIT_MS / 1_000).unwrap_or(usize::MAX);
        let limit = paced.max(admission.max_bytes / part).min(admission.max_bytes);
        admission.limit_bytes.store(limit, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without what a request costs besides its bytes, and with it.
    const COMMAND_BYTES: usize = 1 << 10;
    const REQUEST_BYTES: usize = COMMAND_BYTES + OVERHEAD_BYTES;
    const SECOND: Duration = Duration::from_secs(1);

    /// Lets in as many as it may.
    fn fill(admission: &Arc<Admission>) -> Vec<Permit> {
        std::iter::from_fn(|| admission.admit(COMMAND_BYTES).ok()).collect()
    }

    #[test]
    fn admission_ends_at_its_limit_and_comes_back_with_the_permits() {
        let admission = Admission::new(2 * OVERHEAD_BYTES + 10);
        let first = admission.admit(10).ok();
        let second = admission.admit(0).ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(admission.admit(0).err(), Some(RequestError::Busy));
        drop(first);
        assert!(admission.admit(10).is_ok());
    }

    #[test]
    fn a_node_that_refuses_holds_what_it_answers_in_a_quarter_of_a_second() {
        let admission = Admission::new(64 << 20);
        let mut pacer = Pacer::new(Arc::clone(&admission));
        let mut pending = fill(&admission);
        // Those that came before anything was known wait for long.
        assert!(pending.len() > 50_000);
        for _ in 0..80 {
            // It answers 10,000 in a second, and is asked for more all the time.
            pending.truncate(pending.len().saturating_sub(1_000));
            pacer.pace(Duration::from_millis(100));
            pending.extend(fill(&admission));
        }
        assert!(pending.len().abs_diff(2_500) < 50, "{} are pending", pending.len());
    }

    #[test]
    fn a_node_that_answers_nothing_still_takes_some_and_a_quiet_one_takes_a_burst() {
        let admission = Admission::new(1 << 30);
        let mut pacer = Pacer::new(Arc::clone(&admission));
        let pending = fill(&admission);
        pacer.pace(SECOND);
        assert_eq!(admission.limit(), (1 << 30) / LEAST_PART);
        drop(pending);
        for _ in 0..40 {
            pacer.pace(SECOND);
        }
        assert_eq!(admission.limit(), (1 << 30) / BURST_PART);
        assert_eq!(fill(&admission).len(), (1 << 30) / BURST_PART / REQUEST_BYTES);
    }

    #[test]
    fn what_comes_alone_is_let_in_whatever_the_pace() {
        let admission = Admission::new(1 << 20);
        let mut pacer = Pacer::new(Arc::clone(&admission));
        drop(fill(&admission));
        pacer.pace(SECOND);
        for _ in 0..40 {
            drop(fill(&admission));
            admission.refused.store(true, Ordering::Relaxed);
            pacer.pace(Duration::from_secs(3_600));
        }
        let alone = admission.admit((1 << 20) - OVERHEAD_BYTES);
        assert!(alone.is_ok());
        assert!(admission.admit(0).is_err());
    }
}
