//! The check that stands before the founding of a group: whether another node of the cluster has a
//! replica of it that was founded with other nodes.
//!
//! Two foundings under one id are two groups, and each of them may acknowledge. Messages between
//! replicas name the founding, but replicas whose sets do not list each other send none. So a
//! replica that is to found a group asks all nodes first. It notes itself before it asks: of two
//! that are started at once, one at least hears of the other. Who founded first goes on, and the
//! other one is refused.
//!
//! A node that does not answer within an election timeout is not waited for: groups can be founded
//! while nodes are down.

use logboat_raft::{Configuration, NodeId, Time};
use std::sync::Arc;
use std::time::Duration;

/// So often nodes that do not answer are asked, before the group is founded without them.
const ATTEMPTS: u32 = 8;

/// How far the check has come.
#[derive(Debug)]
pub(crate) struct FoundersCheck {
    /// What the group is to be founded with.
    pub(crate) founding: Arc<Configuration>,
    /// The nodes that have not answered.
    waiting: Vec<NodeId>,
    /// When they are asked again. Nothing as long as they were not asked.
    next: Option<Time>,
    attempts_left: u32,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait.
    Wait,
    /// Ask these.
    Ask(Vec<NodeId>),
    /// Found the group.
    Found,
}

impl FoundersCheck {
    /// A check that asks `others`.
    pub(crate) fn new(founding: Arc<Configuration>, others: &[NodeId]) -> Self {
        Self { founding, waiting: others.to_vec(), next: None, attempts_left: ATTEMPTS }
    }

    /// This node knows nothing that contradicts.
    pub(crate) fn agrees(&mut self, node: NodeId) {
        self.waiting.retain(|waiting| *waiting != node);
    }

    /// When there may be something to do. It begins with the first step.
    pub(crate) const fn deadline(&self) -> Option<Time> {
        self.next
    }

    /// What is to be done at this time, if a node that is silent for the `patience` is not waited
    /// for.
    pub(crate) fn step(&mut self, now: Time, patience: Duration) -> Step {
        if self.waiting.is_empty() {
            return Step::Found;
        }
        if self.next.is_some_and(|next| next > now) {
            return Step::Wait;
        }
        if self.attempts_left == 0 {
            return Step::Found;
        }
        self.attempts_left -= 1;
        self.next = Some(now + patience / ATTEMPTS);
        Step::Ask(self.waiting.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_micros(800);

    fn check(others: &[u64]) -> FoundersCheck {
        let others: Vec<_> = others.iter().copied().map(NodeId).collect();
        FoundersCheck::new(Configuration::founding(&[NodeId(1)], None).into(), &others)
    }

    #[test]
    fn a_group_is_founded_when_all_have_answered() {
        assert_eq!(check(&[]).step(Time(0), PATIENCE), Step::Found);
        let mut check = check(&[2, 3]);
        assert_eq!(check.step(Time(0), PATIENCE), Step::Ask(vec![NodeId(2), NodeId(3)]));
        check.agrees(NodeId(3));
        assert_eq!(check.step(Time(99), PATIENCE), Step::Wait);
        assert_eq!(check.deadline(), Some(Time(100)));
        assert_eq!(check.step(Time(100), PATIENCE), Step::Ask(vec![NodeId(2)]));
        check.agrees(NodeId(2));
        assert_eq!(check.step(Time(101), PATIENCE), Step::Found);
    }

    #[test]
    fn who_stays_silent_is_asked_again_and_not_waited_for_without_end() {
        let mut check = check(&[2]);
        for attempt in 0..8 {
            assert_eq!(check.step(Time(100 * attempt), PATIENCE), Step::Ask(vec![NodeId(2)]));
        }
        assert_eq!(check.step(Time(799), PATIENCE), Step::Wait);
        assert_eq!(check.step(Time(800), PATIENCE), Step::Found);
    }
}
