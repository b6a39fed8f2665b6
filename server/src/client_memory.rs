//! The memory that all clients share for requests that have not arrived whole and for replies that
//! have not been read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What each connection may hold without being counted, about as much as one read. So an ordinary
/// request touches no counter that all threads share, and is let in however much is in use.
pub const UNCOUNTED_BYTES: usize = 16 * 1024;

/// How much the connections hold together, and how much they may.
#[derive(Debug)]
pub struct ClientMemory {
    used_bytes: AtomicUsize,
    max_bytes: usize,
}

impl ClientMemory {
    /// Memory of which nothing is held.
    #[must_use]
    pub fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { used_bytes: AtomicUsize::new(0), max_bytes })
    }

    /// A share for a connection that holds nothing yet.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> Share {
        Share { memory: Arc::clone(self), bytes: 0 }
    }

    /// What is held, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Whether a reply of so many bytes may be made for a connection. The only large connection
    /// always may.
    #[must_use]
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let used = self.used_bytes();
        bytes <= UNCOUNTED_BYTES || used == 0 || used.saturating_add(bytes) <= self.max_bytes
    }
}

/// What one connection holds. It is given back when the share is dropped.
#[derive(Debug)]
pub struct Share {
    memory: Arc<ClientMemory>,
    bytes: usize,
}

impl Share {
    /// Notes that the connection holds `bytes` now.
    pub fn set(&mut self, bytes: usize) {
        let bytes = bytes.saturating_sub(UNCOUNTED_BYTES);
        let used = &self.memory.used_bytes;
        if bytes > self.bytes {
            used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Whether the connection holds too much. It does if all together hold more than they may, and
    /// it is neither small nor the only one.
    #[must_use]
    pub fn is_too_much(&self) -> bool {
        let used = self.memory.used_bytes();
        self.bytes > 0 && used > self.memory.max_bytes && used > self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_small_or_alone_is_never_too_much() {
        let memory = ClientMemory::new(1_000_000);
        let (mut one, mut two, mut small) = (memory.share(), memory.share(), memory.share());
        one.set(2_000_000);
        small.set(UNCOUNTED_BYTES);
        assert!(!one.is_too_much() && !small.is_too_much());
        assert!(memory.has_room_for(UNCOUNTED_BYTES) && !memory.has_room_for(20_000));
        two.set(500_000);
        assert!(one.is_too_much() && two.is_too_much() && !small.is_too_much());
        drop(one);
        assert!(!two.is_too_much());
        assert_eq!(memory.used_bytes(), 500_000 - UNCOUNTED_BYTES);
        drop(two);
        assert_eq!(memory.used_bytes(), 0);
        assert!(memory.has_room_for(5_000_000));
    }
}
