//! The pacer of admission: it sets the limit by what a node answers.

use crate::admission::Admission;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a request may wait when there are more than the node can serve. This is longer than
/// batches take to form, and short beside the time that callers wait. With a second, three times as
/// much memory was resident under overload, and no more was written.
const WAIT_MS: u64 = 250;

/// Which part of the memory for requests a node admits before it has refused any. It bounds a burst
/// that comes to an idle node.
const BURST_PART: usize = 16;

/// Which part a node admits at least, however slow it is. This is enough for batches to form, and
/// for replicas further away from each other than [`WAIT_MS`].
const LEAST_PART: usize = 64;

/// Sets the limit of an [`Admission`] by how much is answered.
pub(crate) struct Pacer {
    admission: Arc<Admission>,
    released_bytes: u64,
    /// Bytes of requests answered in a second, as a moving average. The last interval counts for a
    /// half.
    bytes_per_s: u64,
}

impl Pacer {
    pub(crate) const fn new(admission: Arc<Admission>) -> Self {
        Self { admission, released_bytes: 0, bytes_per_s: 0 }
    }

    /// Measures how much was answered in an interval of length `elapsed`, and sets the limit.
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
        let limit = paced.max(admission.max_bytes / part).min(admission.most_bytes);
        admission.limit_bytes.store(limit, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{OVERHEAD_BYTES, Permit};
    use crate::error::RequestError;

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
        assert_eq!(fill(&admission).len(), ((1 << 30) / BURST_PART).div_ceil(REQUEST_BYTES));
    }

    #[test]
    fn a_large_request_is_let_in_where_a_small_one_would_be() {
        const LARGE: usize = 8 << 20;
        let admission = Admission::with_largest(64 << 20, LARGE);
        let mut pacer = Pacer::new(Arc::clone(&admission));
        let mut pending = fill(&admission);
        for _ in 0..10 {
            // As many are answered as come, and there is never room for a large one.
            for _ in 0..1_000 {
                pending.pop();
                pending.extend(admission.admit(COMMAND_BYTES));
            }
            assert_eq!(admission.admit(COMMAND_BYTES).err(), Some(RequestError::Busy));
            assert_eq!(admission.admit(LARGE).err(), Some(RequestError::Busy));
            pending.pop();
            let large = admission.admit(LARGE);
            assert!(large.is_ok(), "{} bytes are pending", admission.used_bytes());
            assert!(admission.used_bytes() <= admission.max_bytes);
            // Those after it wait until as much as it takes has been answered.
            assert_eq!(admission.admit(0).err(), Some(RequestError::Busy));
            drop(large);
            assert!(admission.admit(0).is_ok());
            pacer.pace(SECOND);
            pending.truncate(admission.limit() / REQUEST_BYTES);
            pending.extend(fill(&admission));
        }
        assert!(admission.limit() < LARGE, "such a request takes more than the whole limit");
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
