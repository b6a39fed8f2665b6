//! Admission control (backpressure): how many requests a node lets in. It lets in no more than its
//! memory holds, and, as soon as it refuses some, no more than it answers in a quarter of a second.
//!
//! What is let in waits in a line, and the longer the line, the longer the wait: by Little's law,
//! the requests that are pending over those answered in a second. A bound on memory alone would let
//! requests wait for longer than anybody waits for them, with the node busy answering nobody. So
//! the [`Pacer`](pacer::Pacer) measures what is answered and sets the limit by it.

pub(crate) mod gate;
pub(crate) mod pacer;

use crate::error::RequestError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What a pending request costs besides its own bytes.
pub(crate) const OVERHEAD_BYTES: usize = 256;

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

    /// A permit for a request of `bytes`. One that comes when no other is pending gets it if there
    /// is memory for it.
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
