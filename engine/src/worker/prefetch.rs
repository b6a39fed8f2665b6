//! Prefetching: a hint to the processor, which otherwise waits for memory most of the time when
//! thousands of replicas take turns.

/// The size of a cache line in bytes.
const LINE_BYTES: usize = 64;

/// Begins to load `value` into the cache while other work goes on.
#[expect(unsafe_code, reason = "the standard library has no safe form of this hint")]
pub(crate) fn prefetch<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<i8>();
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing and faults on nothing; every processor of this
        // architecture has it.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = start.wrapping_add(offset);
    }
}
