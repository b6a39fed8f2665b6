//! Replicas that have failed, and the others of their groups that took their places here.

use logboat_raft::{Configuration, GroupId, NodeId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

/// How many of the replicas that were mended last are remembered.
const MOST_REMEMBERED: usize = 1_000;

/// A replica that had failed, and whose place another one of the same group has taken on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MendedReplica {
    /// The group.
    pub group: GroupId,
    /// Why the former replica had failed.
    pub reason: String,
    /// The node that led the group when the new replica became a voter: its data come from there.
    pub from: NodeId,
}

/// What has failed on a node since its start, and what was mended.
#[derive(Default)]
pub struct Mending {
    /// Whose replicas these are.
    node: Option<NodeId>,
    /// Whether anything has failed and was not mended: mostly not.
    is_anything_hurt: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Why replicas failed of which no other has taken the place.
    hurt: BTreeMap<GroupId, String>,
    mended: VecDeque<MendedReplica>,
}

impl Mending {
    /// Begins with the replicas that were found damaged at the start of a node.
    pub(crate) fn new(node: NodeId, hurt: impl IntoIterator<Item = (GroupId, String)>) -> Self {
        let mending = Self { node: Some(node), ..Self::default() };
        hurt.into_iter().for_each(|(group, reason)| mending.failed(group, reason));
        mending
    }

    /// A replica has failed. What comes first is the cause.
    pub(crate) fn failed(&self, group: GroupId, reason: String) {
        self.state.lock().hurt.entry(group).or_insert(reason);
        self.is_anything_hurt.store(true, Ordering::Release);
    }

    /// The replica runs again with what it had.
    pub(crate) fn runs_again(&self, group: GroupId) {
        if self.is_anything_hurt.load(Ordering::Acquire) {
            let mut state = self.state.lock();
            state.hurt.remove(&group);
            self.is_anything_hurt.store(!state.hurt.is_empty(), Ordering::Release);
        }
    }

    /// A group has these members, which is committed, and this leader. Returns the replica that was
    /// mended by that, if one was.
    pub(crate) fn configured(
        &self,
        group: GroupId,
        members: &Configuration,
        leader: Option<NodeId>,
    ) -> Option<MendedReplica> {
        if !self.is_anything_hurt.load(Ordering::Acquire) {
            return None;
        }
        let from = leader.filter(|_| self.node.is_some_and(|node| members.is_voter(node)))?;
        let mut state = self.state.lock();
        let reason = state.hurt.remove(&group)?;
        self.is_anything_hurt.store(!state.hurt.is_empty(), Ordering::Release);
        let mended = MendedReplica { group, reason, from };
        if state.mended.len() == MOST_REMEMBERED {
            state.mended.pop_front();
        }
        state.mended.push_back(mended.clone());
        Some(mended)
    }

    /// What was mended since the start, the newest last.
    pub(crate) fn mended(&self) -> Vec<MendedReplica> {
        self.state.lock().mended.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);

    #[test]
    fn what_failed_is_mended_when_another_replica_votes_here() {
        let mending = Mending::new(OWN, [(GroupId(1), "a bit has flipped".to_owned())]);
        let with = Configuration::founding(&[OWN, OTHER], None);
        let without = Configuration::founding(&[OTHER], None);
        mending.failed(GroupId(1), "it can't be started".to_owned());
        mending.failed(GroupId(2), "it panicked".to_owned());
        mending.runs_again(GroupId(2));
        assert_eq!(mending.configured(GroupId(1), &without, Some(OTHER)), None);
        assert_eq!(mending.configured(GroupId(2), &with, Some(OTHER)), None);
        let mended = mending.configured(GroupId(1), &with, Some(OTHER)).unwrap();
        assert_eq!((&*mended.reason, mended.from), ("a bit has flipped", OTHER));
        assert_eq!(mending.configured(GroupId(1), &with, Some(OTHER)), None);
        assert_eq!(mending.mended(), [mended]);
    }

    #[test]
    fn as_much_is_remembered_as_there_is_room_for() {
        let mending = Mending::new(OWN, []);
        let members = Configuration::founding(&[OWN], None);
        for group in (0..=MOST_REMEMBERED as u64).map(GroupId) {
            mending.failed(group, String::new());
            mending.configured(group, &members, Some(OWN)).unwrap();
        }
        let mended = mending.mended();
        assert_eq!((mended.len(), mended[0].group), (MOST_REMEMBERED, GroupId(1)));
    }
}
