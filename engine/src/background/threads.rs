//! Ending threads.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a thread that is to end is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Waits for the end of a thread, up to the deadline. Returns whether it has ended.
pub(crate) fn join_by(thread: JoinHandle<()>, deadline: Instant) -> bool {
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOOK);
    }
    // A panic has been printed where it happened.
    let _ = thread.join();
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_thread_that_does_not_end_is_left() {
        let (end, ends) = channel::<()>();
        let thread = thread::spawn(move || _ = ends.recv());
        assert!(!join_by(thread, Instant::now()));
        drop(end);
        let thread = thread::spawn(|| {});
        assert!(join_by(thread, Instant::now() + Duration::from_secs(20)));
    }
}
