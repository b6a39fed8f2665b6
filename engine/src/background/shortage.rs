//! Descriptors and memory that are short for a while. An error that says so says nothing about what
//! was to be read: it is not damage, and no reason to give a replica up.

use logboat_raft::GroupId;
use std::fmt::Display;
use std::thread;
use std::time::Duration;

/// How long whoever needs them waits before the next attempt.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Reads something of a group, and reads it again while the error is one that `passes`, unless
/// nobody needs it any more.
pub(crate) fn read_patiently<T, E: Display>(
    group: GroupId,
    mut read: impl FnMut() -> Result<T, E>,
    passes: impl Fn(&E) -> bool,
    is_over: impl Fn() -> bool,
) -> Result<T, E> {
    let mut has_said = false;
    loop {
        match read() {
            Err(error) if passes(&error) && !is_over() => {
                if !has_said {
                    tracing::warn!(group = group.0, "{error}; it is tried again");
                    has_said = true;
                }
                thread::sleep(RETRY_INTERVAL);
            }
            read => return read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_tried_again_and_nothing_else_is() {
        let read = |errors: &'static [&str], is_over: bool| {
            let mut errors = errors.iter();
            let next = || errors.next().map_or(Ok(7), Err);
            let read = read_patiently(GroupId(1), next, |error| **error == "short", || is_over);
            (read.ok(), errors.count())
        };
        assert_eq!(read(&["short", "short"], false), (Some(7), 0));
        assert_eq!(read(&["short", "broken", "short"], false), (None, 1));
        assert_eq!(read(&["short", "short"], true), (None, 1));
    }
}
