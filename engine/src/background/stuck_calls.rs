//! The calls of user code that take too long, as the status shows them.

use crate::metrics::EngineMetrics;
use crate::status::{StuckReplica, UserCode};
use logboat_raft::GroupId;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;

/// How many threads of a node may be left to calls of a kind that do not return. Each has a stack
/// of its own.
const MAX_THREADS: usize = 64;

/// The calls that take too long.
pub(crate) struct StuckCalls {
    metrics: Arc<EngineMetrics>,
    calls: Mutex<Vec<StuckCall>>,
}

struct StuckCall {
    group: GroupId,
    code: UserCode,
    since: Instant,
    /// Whose thread the call has.
    thread: CallThread,
}

/// Whose thread a call has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallThread {
    /// The node's, and another thread took its place.
    Left,
    /// The node's, and others wait for it.
    Shared,
    /// That of somebody who called the node.
    Callers,
}

impl StuckCalls {
    pub(crate) fn new(metrics: Arc<EngineMetrics>) -> Arc<Self> {
        Arc::new(Self { metrics, calls: Mutex::default() })
    }

    /// Notes that a call takes too long. Returns whether it may keep its thread, which another
    /// takes the place of: there are not too many such threads yet.
    pub(crate) fn begin(&self, group: GroupId, code: UserCode, since: Instant) -> bool {
        let mut calls = self.calls.lock();
        let is_left = |call: &&StuckCall| call.code == code && call.thread == CallThread::Left;
        let left = calls.iter().filter(is_left).count();
        let has_left = left < MAX_THREADS;
        let thread = if has_left { CallThread::Left } else { CallThread::Shared };
        calls.push(StuckCall { group, code, since, thread });
        drop(calls);
        self.note(group, code, since);
        if !has_left {
            tracing::error!(
                group = group.0,
                "{MAX_THREADS} threads are left to such calls already: others wait for this one"
            );
        }
        has_left
    }

    /// Notes that a call takes too long which has the thread of somebody who called the node.
    pub(crate) fn begin_of_caller(&self, group: GroupId, code: UserCode, since: Instant) {
        self.calls.lock().push(StuckCall { group, code, since, thread: CallThread::Callers });
        self.note(group, code, since);
    }

    fn note(&self, group: GroupId, code: UserCode, since: Instant) {
        self.metrics.stuck_calls.inc();
        let elapsed_ms = since.elapsed().as_millis();
        tracing::warn!(group = group.0, "{code} has not returned for {elapsed_ms} ms");
    }

    /// Such a call has returned, which had this thread.
    pub(crate) fn end(&self, group: GroupId, code: UserCode, thread: CallThread) {
        let mut calls = self.calls.lock();
        let is_it = |it: &StuckCall| (it.group, it.code, it.thread) == (group, code, thread);
        let ended = calls.iter().position(is_it);
        let Some(call) = ended.map(|at| calls.swap_remove(at)) else {
            return;
        };
        drop(calls);
        let elapsed_ms = call.since.elapsed().as_millis();
        tracing::warn!(group = group.0, "{code} has returned after {elapsed_ms} ms");
    }

    /// Those that have not returned.
    pub(crate) fn list(&self) -> Vec<StuckReplica> {
        let calls = self.calls.lock();
        let stuck = calls.iter().map(|call| StuckReplica {
            group: call.group,
            code: call.code,
            elapsed: call.since.elapsed(),
            blocks_others: call.thread == CallThread::Shared,
        });
        stuck.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_threads_are_left_and_no_more_until_a_call_returns() {
        let stuck = StuckCalls::new(Arc::default());
        let begin = |group| stuck.begin(GroupId(group), UserCode::StateMachine, Instant::now());
        let left = (0..100).filter(|group| begin(*group)).count();
        assert_eq!(left, MAX_THREADS);
        let blocking = stuck.list().into_iter().filter(|call| call.blocks_others).count();
        assert_eq!(blocking, 100 - MAX_THREADS);
        stuck.end(GroupId(0), UserCode::SnapshotWriter, CallThread::Left);
        stuck.end(GroupId(0), UserCode::StateMachine, CallThread::Shared);
        assert!(!begin(100), "another call of the group goes on");
        stuck.end(GroupId(0), UserCode::StateMachine, CallThread::Left);
        assert!(begin(101));
        let of_reader = stuck.begin(GroupId(0), UserCode::StateReader, Instant::now());
        assert!(of_reader, "each kind of calls has threads of its own");
    }
}
