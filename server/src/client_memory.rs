//! The memory that all clients share for requests that have not arrived whole and for replies that
//! have not been read.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What each connection may hold without being counted, about as much as one read. So an ordinary
/// request touches no counter that all threads share, and is let in however much is in use.
pub const UNCOUNTED_BYTES: usize = 16 * 1024;

/// For how long memory counts as wanted after somebody was refused some.
const WANTED_AFTER_REFUSAL: Duration = Duration::from_secs(2);

/// How much the connections hold together, and how much they may.
#[derive(Debug)]
pub struct ClientMemory {
    used_bytes: AtomicUsize,
    max_bytes: usize,
    /// Wakes those who wait for room.
    freed: Notify,
    /// How many wait for room.
    waiting: AtomicUsize,
    made: Instant,
    /// Until when somebody who was refused counts, in milliseconds since `made`.
    wanted_until_ms: AtomicU64,
}

impl ClientMemory {
    /// Memory of which nothing is held.
    #[must_use]
    pub fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            used_bytes: AtomicUsize::new(0),
            max_bytes,
            freed: Notify::new(),
            waiting: AtomicUsize::new(0),
            made: Instant::now(),
            wanted_until_ms: AtomicU64::new(0),
        })
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

    /// What may be held, in bytes.
    #[must_use]
    pub const fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Whether a reply of so many bytes may be made for a connection.
    #[must_use]
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let used = self.used_bytes();
        bytes <= UNCOUNTED_BYTES || self.fits(used, bytes)
    }

    /// Room for a part of a reply that is about to be made, if there is room. What is larger than
    /// all that may be held is let in alone, since it would never be otherwise.
    #[must_use]
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let add = |used| self.fits(used, bytes).then(|| used + bytes);
        let added = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        if added.is_err() {
            self.note_refusal();
            return None;
        }
        Some(Reservation { memory: Arc::clone(self), bytes })
    }

    /// Notes that a connection does not get what it needs.
    pub fn note_refusal(&self) {
        let until = self.made.elapsed() + WANTED_AFTER_REFUSAL;
        self.wanted_until_ms.fetch_max(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether connections wait for room, or were refused some a moment ago.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let until = self.wanted_until_ms.load(Ordering::Relaxed);
        self.waiting.load(Ordering::Relaxed) > 0 || self.made.elapsed().as_millis() < until.into()
    }

    /// The same, once there is room.
    pub async fn reserve_in_time(self: &Arc<Self>, bytes: usize) -> Reservation {
        let _waiting = Waiting::of(self);
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(reservation) = self.reserve(bytes) {
                return reservation;
            }
            freed.await;
        }
    }

    const fn fits(&self, used: usize, bytes: usize) -> bool {
        bytes == 0 || used == 0 || used.saturating_add(bytes) <= self.max_bytes
    }

    fn free(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.freed.notify_waiters();
    }
}

/// Counts one that waits for room.
struct Waiting<'a>(&'a ClientMemory);

impl<'a> Waiting<'a> {
    fn of(memory: &'a ClientMemory) -> Self {
        memory.waiting.fetch_add(1, Ordering::Relaxed);
        Self(memory)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Room for a reply that is being made. It is given back when this is dropped, which is when the
/// connection counts the reply itself.
#[derive(Debug)]
pub struct Reservation {
    memory: Arc<ClientMemory>,
    bytes: usize,
}

impl Reservation {
    /// Makes it larger by `bytes`, if there is room.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        match self.memory.reserve(bytes) {
            Some(mut more) => {
                self.bytes += std::mem::take(&mut more.bytes);
                true
            }
            None => false,
        }
    }

    /// Makes it smaller by `bytes`, or as far as it goes.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.memory.free(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
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
            self.memory.free(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// Whether the connection holds anything that counts.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        self.bytes > 0
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

    #[tokio::test]
    async fn who_waits_for_room_gets_it_as_soon_as_it_is_free() {
        let memory = ClientMemory::new(1_000_000);
        let mut first = memory.reserve(600_000).unwrap();
        assert!(memory.reserve(600_000).is_none() && !first.grow(600_000));
        assert!(first.grow(300_000));
        let waiting = tokio::spawn({
            let memory = Arc::clone(&memory);
            async move { memory.reserve_in_time(600_000).await }
        });
        first.shrink(400_000);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished() && memory.is_wanted());
        drop(first);
        let second = waiting.await.unwrap();
        assert_eq!(memory.used_bytes(), 600_000);
        drop(second);
        assert_eq!(memory.used_bytes(), 0);
        assert!(memory.reserve(5_000_000).is_some(), "alone");
        assert!(!ClientMemory::new(1).is_wanted());
    }
}
