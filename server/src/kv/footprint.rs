//! What keys and values take in memory.

/// What an entry takes beside its key and its value, about: its place in the map with a deadline,
/// and what the allocator adds to two allocations. A short key needs none.
const ENTRY_BYTES: u64 = 152;

/// What an entry takes.
pub(super) const fn entry_bytes(key_bytes: usize, value_bytes: usize) -> u64 {
    ENTRY_BYTES + key_bytes as u64 + value_bytes as u64
}
