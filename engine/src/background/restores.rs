//! State machines that take over their snapshots before their replicas run. The threads are those
//! of whoever starts the replicas. So the watchdog has none to replace: it says which take long.

use crate::background::pool::Progress;
use crate::background::stuck_calls::{CallThread, StuckCalls};
use crate::background::user_code::LOOKS;
use crate::status::UserCode;
use logboat_raft::GroupId;
use parking_lot::Mutex;
use std::io::{self, Read};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

/// The restores that go on.
pub(crate) struct Restores {
    stuck: Arc<StuckCalls>,
    running: Mutex<Vec<Running>>,
}

/// A restore that goes on. A group has one at a time.
struct Running {
    group: GroupId,
    since: Instant,
    progress: Arc<Progress>,
    /// How much progress the watchdog has seen.
    seen: u64,
    /// How often it has looked since.
    looks: u32,
    is_stuck: bool,
}

impl Restores {
    pub(crate) fn new(stuck: Arc<StuckCalls>) -> Arc<Self> {
        Arc::new(Self { stuck, running: Mutex::default() })
    }

    /// All calls of user code that take too long, restores among them.
    pub(crate) fn stuck(&self) -> &StuckCalls {
        &self.stuck
    }

    /// Has a state machine of `group` restored. What it reads by way of [`Watched`] shows that it
    /// gets on.
    pub(crate) fn watch<T>(&self, group: GroupId, restore: impl FnOnce(&Arc<Progress>) -> T) -> T {
        let progress = Arc::<Progress>::default();
        let (since, seen) = (Instant::now(), progress.seen());
        self.running.lock().push(Running {
            group,
            since,
            progress: Arc::clone(&progress),
            seen,
            looks: 0,
            is_stuck: false,
        });
        let _ended = Ended { restores: self, group };
        restore(&progress)
    }

    /// Looks for restores that take too long. Called at even intervals.
    pub(crate) fn look(&self) {
        for restore in self.running.lock().iter_mut().filter(|restore| !restore.is_stuck) {
            let progress = restore.progress.seen();
            restore.looks = if progress == restore.seen { restore.looks + 1 } else { 0 };
            restore.seen = progress;
            if restore.looks >= LOOKS {
                restore.is_stuck = true;
                self.stuck.begin_of_caller(restore.group, UserCode::StateMachine, restore.since);
            }
        }
    }
}

/// Notes that a restore has ended, in whichever way.
struct Ended<'a> {
    restores: &'a Restores,
    group: GroupId,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut running = self.restores.running.lock();
        let at = running.iter().position(|restore| restore.group == self.group);
        if at.is_some_and(|at| running.swap_remove(at).is_stuck) {
            self.restores.stuck.end(self.group, UserCode::StateMachine, CallThread::Callers);
        }
    }
}

/// A snapshot that shows that its reader gets on.
pub(crate) struct Watched<R, P> {
    pub(crate) reader: R,
    pub(crate) progress: P,
}

impl<R: Read, P: Deref<Target = Progress>> Read for Watched<R, P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.progress.made();
        self.reader.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(7);

    #[test]
    fn a_restore_that_does_not_get_on_is_named_until_it_returns() {
        let stuck = StuckCalls::new(Arc::default());
        let restores = Restores::new(Arc::clone(&stuck));
        restores.watch(GROUP, |progress| {
            for _ in 0..3 * LOOKS {
                progress.made();
                restores.look();
            }
            assert_eq!(stuck.list(), [], "it gets on");
            for _ in 0..3 * LOOKS {
                restores.look();
            }
            let [named] = stuck.list()[..] else { panic!("{:?}", stuck.list()) };
            assert_eq!((named.group, named.blocks_others), (GROUP, false));
        });
        assert_eq!(stuck.list(), []);
    }
}
