//! The view of a replica: its role, term, leader and progress, which other threads can read at any
//! time.

use crate::membership::Membership;
use logboat_raft::{Configuration, Index, NodeId, RoleKind, Term};
use parking_lot::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// The state of a replica after its last run. Fields are read one by one, so they may be of
/// different moments.
#[derive(Debug, Default)]
pub struct GroupView {
    role: AtomicU8,
    term: AtomicU64,
    leader: AtomicU64,
    commit: AtomicU64,
    applied: AtomicU64,
    applied_bytes: AtomicU64,
    role_changes: Notify,
    failure: OnceLock<String>,
    is_gone: AtomicBool,
    /// The configuration in force; `None` before the replica begins.
    configuration: RwLock<Option<Arc<Configuration>>>,
    /// Zero for nobody.
    other_voters: AtomicU64,
}

impl GroupView {
    /// The replica's role.
    #[must_use]
    pub fn role(&self) -> RoleKind {
        match self.role.load(Ordering::Relaxed) {
            0 => RoleKind::Follower,
            1 => RoleKind::PreCandidate,
            2 => RoleKind::Candidate,
            _ => RoleKind::Leader,
        }
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.term.load(Ordering::Relaxed))
    }

    /// The leader that it knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let leader = self.leader.load(Ordering::Relaxed);
        (leader != 0).then_some(NodeId(leader))
    }

    /// Waits until the replica knows a leader.
    pub async fn led(&self) -> NodeId {
        self.led_by_other(None).await
    }

    /// Waits until the replica knows a leader other than `former`, or one at all if that is nobody.
    pub async fn led_by_other(&self, former: Option<NodeId>) -> NodeId {
        loop {
            let changed = self.role_changes.notified();
            if let Some(leader) = self.leader().filter(|leader| Some(*leader) != former) {
                return leader;
            }
            changed.await;
        }
    }

    /// The members of the group by the newest entry that is here, committed or not. Nobody, before
    /// a replica that was added to the group has heard of its leader.
    #[must_use]
    pub fn membership(&self) -> Membership {
        let configuration = self.configuration.read().clone();
        Membership::new(configuration.unwrap_or_else(|| Arc::new(Configuration::unknown())))
    }

    /// The last entry that it knows to be committed.
    #[must_use]
    pub fn commit(&self) -> Index {
        Index(self.commit.load(Ordering::Relaxed))
    }

    /// The last entry that its state machine has applied.
    #[must_use]
    pub fn applied(&self) -> Index {
        Index(self.applied.load(Ordering::Relaxed))
    }

    /// Bytes of the commands that it has applied since its last snapshot.
    #[must_use]
    pub fn applied_bytes(&self) -> u64 {
        self.applied_bytes.load(Ordering::Relaxed)
    }

    /// Entries known to be committed and not yet applied.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.commit().0.saturating_sub(self.applied().0)
    }

    /// Why the replica has stopped for good, if it has. Its node goes on, and may start it again.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// A node whose replica of the group was started with other voters, if one was heard.
    #[must_use]
    pub fn other_voters(&self) -> Option<NodeId> {
        let node = self.other_voters.load(Ordering::Relaxed);
        (node != 0).then_some(NodeId(node))
    }

    /// Notes that `node` was started with other voters. Returns whether that is news.
    pub(crate) fn has_other_voters(&self, node: NodeId) -> bool {
        self.other_voters.swap(node.0, Ordering::Relaxed) == 0
    }

    /// Whether the replica is no more: its group is without it, or this node does not want it. Its
    /// data are deleted.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// Notes that the replica is no more. In this order: one that is seen to have stopped for that
    /// is seen to be gone, and no other is started in its place before nothing is left of it.
    pub(crate) fn gone(&self) {
        self.is_gone.store(true, Ordering::Release);
        self.failed("its group is without it");
    }

    /// Notes why the replica stops. The first reason stays.
    pub(crate) fn failed(&self, reason: &str) {
        self.failure.get_or_init(|| reason.to_owned());
    }

    pub(crate) fn role_changed(&self, role: RoleKind, term: Term, leader: Option<NodeId>) {
        let role = match role {
            RoleKind::Follower => 0,
            RoleKind::PreCandidate => 1,
            RoleKind::Candidate => 2,
            RoleKind::Leader => 3,
        };
        self.role.store(role, Ordering::Relaxed);
        self.term.store(term.0, Ordering::Relaxed);
        self.leader.store(leader.map_or(0, |node| node.0), Ordering::Relaxed);
        self.role_changes.notify_waiters();
    }

    pub(crate) fn configured(&self, configuration: Arc<Configuration>) {
        *self.configuration.write() = Some(configuration);
    }

    pub(crate) fn progress(&self, commit: Index, applied: Index, applied_bytes: u64) {
        self.commit.store(commit.0, Ordering::Relaxed);
        self.applied.store(applied.0, Ordering::Relaxed);
        self.applied_bytes.store(applied_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Barrier;
    use std::task::{Context, Poll, Waker};
    use std::thread;

    #[test]
    fn who_waits_for_another_leader_does_not_hear_of_the_former_one() {
        let view = GroupView::default();
        let lead = |leader| view.role_changed(RoleKind::Follower, Term(1), leader);
        lead(Some(NodeId(1)));
        let mut wait = pin!(view.led_by_other(Some(NodeId(1))));
        let mut context = Context::from_waker(Waker::noop());
        for leader in [None, Some(NodeId(1))] {
            assert_eq!(wait.as_mut().poll(&mut context), Poll::Pending);
            lead(leader);
        }
        lead(Some(NodeId(2)));
        assert_eq!(wait.as_mut().poll(&mut context), Poll::Ready(NodeId(2)));
    }

    #[test]
    fn whoever_sees_that_a_replica_has_stopped_sees_whether_it_is_gone() {
        for _ in 0..2_000 {
            let (view, begins) = (GroupView::default(), Barrier::new(2));
            thread::scope(|scope| {
                scope.spawn(|| {
                    begins.wait();
                    view.gone();
                });
                begins.wait();
                while view.failure().is_none() {
                    std::hint::spin_loop();
                }
                assert!(view.is_gone());
            });
        }
    }
}
