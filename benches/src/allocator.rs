//! The system's allocator, counted.

#![expect(unsafe_code, reason = "an allocator can't be had otherwise")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// More shards than most runs have threads. Further threads share shards.
const SHARDS: usize = 256;

/// The counts of a shard's threads. Each shard has cache lines of its own, so that counting does
/// not make threads wait for each other.
#[repr(align(128))]
struct Shard {
    allocations: AtomicU64,
    live_bytes: AtomicI64,
}

static COUNTS: [Shard; SHARDS] =
    [const { Shard { allocations: AtomicU64::new(0), live_bytes: AtomicI64::new(0) } }; SHARDS];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The shard of this thread. It has no destructor, so it may be used while a thread ends.
    static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// How often the process has allocated since it began, reallocations included.
pub fn allocations() -> u64 {
    COUNTS.iter().map(|shard| shard.allocations.load(Ordering::Relaxed)).sum()
}

/// The bytes that are allocated now, by the sizes that were asked for.
pub fn live_bytes() -> i64 {
    COUNTS.iter().map(|shard| shard.live_bytes.load(Ordering::Relaxed)).sum()
}

/// Passes everything on to [`System`], and counts it.
pub struct CountingAllocator;

// SAFETY: every call goes to `System` as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, size(layout.size()));
        // SAFETY: the caller keeps the conditions of `System`'s method, which are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, size(layout.size()));
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(0, -size(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(1, size(new_size) - size(layout.size()));
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, new_size) }
    }
}

fn count(allocations: u64, bytes: i64) {
    let place = SHARD.get().unwrap_or_else(|| {
        let place = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
        SHARD.set(Some(place));
        place
    });
    let shard = &COUNTS[place];
    shard.allocations.fetch_add(allocations, Ordering::Relaxed);
    shard.live_bytes.fetch_add(bytes, Ordering::Relaxed);
}

/// No object is larger than `isize::MAX` bytes.
const fn size(bytes: usize) -> i64 {
    bytes as i64
}
