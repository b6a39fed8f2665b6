//! Admission control (backpressure): how many requests a node lets in. It lets in no more than its
//! memory holds, and, as soon as it refuses some, no more than it answers in a quarter of a second.
//!
//! Admitted requests wait in a queue. By Little's law, their wait is the number of pending requests
//! over the number answered in a second. With a bound on memory alone, requests would wait for
//! longer than their callers do, and the node would work for nobody. So the [`Pacer`](pacer::Pacer)
//! measures how much the node answers and sets the limit by it.
//!
//! Whether a request is let in depends on what is pending, and not on its own size. Under overload
//! there is never more room than the last answer has left, so a large request would be refused for
//! as long as small ones come. So it may exceed the limit, and those after it wait for what it
//! takes. The limit leaves room for that below what the memory holds.

pub(crate) mod gate;
pub(crate) mod pacer;
pub(crate) mod ticket;

use crate::error::RequestError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The memory of a pending request besides its own bytes.
pub(crate) const OVERHEAD_BYTES: usize = 256;

/// How many bytes of requests a node holds, and how many it may.
pub struct Admission {
    /// The bytes of all requests that were admitted since the start.
    admitted_bytes: AtomicU64,
    /// The bytes of those that are done.
    released_bytes: AtomicU64,
    limit_bytes: AtomicUsize,
    /// Whether any was refused since the limit was set.
    refused: AtomicBool,
    max_bytes: usize,
    /// The highest limit, which leaves room for the largest request.
    most_bytes: usize,
}

impl Admission {
    /// Room for `max_bytes`, for requests of about the same size.
    #[must_use]
    pub fn new(max_bytes: usize) -> Arc<Self> {
        Self::with_largest(max_bytes, 0)
    }

    /// Room for `max_bytes`, for requests of any size up to `largest_bytes`, of which there is room
    /// for two.
    pub(crate) fn with_largest(max_bytes: usize, largest_bytes: usize) -> Arc<Self> {
        let most_bytes = max_bytes.saturating_sub(largest_bytes);
        Arc::new(Self {
            admitted_bytes: AtomicU64::new(0),
            released_bytes: AtomicU64::new(0),
            limit_bytes: AtomicUsize::new(most_bytes),
            refused: AtomicBool::new(false),
            max_bytes,
            most_bytes,
        })
    }

    /// A permit for a request of `bytes`, if less is pending than the limit. When no other request
    /// is, only the memory limits it.
    ///
    /// # Errors
    /// [`RequestError::Busy`] when the node holds as much as it may.
    pub fn admit(self: &Arc<Self>, bytes: usize) -> Result<Permit, RequestError> {
        let bytes = bytes + OVERHEAD_BYTES;
        let used = self.used_bytes();
        let is_full = used > 0 && used >= self.limit();
        if is_full || used + bytes > self.max_bytes {
            // Under overload most calls end here, so this writes only a change.
            if !self.refused.load(Ordering::Relaxed) {
                self.refused.store(true, Ordering::Relaxed);
            }
            return Err(RequestError::Busy);
        }
        // Threads that reach this line together may exceed the limit by a request each.
        self.admitted_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(Permit { admission: Arc::clone(self), bytes: bytes as u64 })
    }

    pub(crate) const fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    pub(crate) fn used_bytes(&self) -> usize {
        // Loaded in this order, since each release follows its admission.
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
