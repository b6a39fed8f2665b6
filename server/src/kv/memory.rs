//! What the stores of a node hold together, and what writes under way may add.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an entry takes beside its key and its value, about: its place in the map, and what the
/// allocator adds to two allocations.
const ENTRY_BYTES: u64 = 144;

/// The memory of all stores of a node.
#[derive(Debug, Default)]
pub struct DataMemory {
    held_bytes: AtomicU64,
    /// What writes that were let in and have no answer yet may add.
    growing_bytes: AtomicU64,
}

impl DataMemory {
    /// What keys and values take, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Lets a write in that may add `bytes`, if no more than `max_bytes` is held then; 0 is no
    /// limit. What is let in counts until it is dropped.
    #[must_use]
    pub fn admit(self: &Arc<Self>, bytes: u64, max_bytes: u64) -> Option<Growth> {
        let growing = self.growing_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let growth = Growth { memory: Arc::clone(self), bytes };
        let fits = max_bytes == 0 || self.held_bytes().saturating_add(growing) <= max_bytes;
        fits.then_some(growth)
    }

    pub(super) fn add(&self, bytes: u64) {
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, bytes: u64) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A write that was let in.
#[derive(Debug)]
pub struct Growth {
    memory: Arc<DataMemory>,
    bytes: u64,
}

impl Drop for Growth {
    fn drop(&mut self) {
        self.memory.growing_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What an entry takes.
pub(super) const fn entry_bytes(key_bytes: usize, value_bytes: usize) -> u64 {
    ENTRY_BYTES + key_bytes as u64 + value_bytes as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_under_way_count_until_they_end() {
        let memory = Arc::new(DataMemory::default());
        memory.add(50);
        let first = memory.admit(30, 100).unwrap();
        assert!(memory.admit(30, 100).is_none());
        assert!(memory.admit(30, 0).is_some());
        drop(first);
        assert!(memory.admit(50, 100).is_some());
        assert!(memory.admit(u64::MAX, 100).is_none());
    }
}
