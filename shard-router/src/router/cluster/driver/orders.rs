//! What the driver has the leaders of groups do, and what comes of it.

use crate::router::Inner;
use crate::table::{Members, Note, WantedMove};
use logboat::{
    Change, ChangeError, ChangeRefusal, GroupId, LogId, NodeId, RequestError, TransferError,
};

/// Changes of a group's members, if they are those of the entry `from`, and then a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) group: GroupId,
    pub(crate) from: LogId,
    pub(crate) changes: Vec<Change>,
    pub(crate) successor: Option<NodeId>,
    pub(crate) why: String,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The group has these members.
    Changed(Members),
    /// And the other node leads it.
    Transferred { members: Members, to: NodeId },
    /// The other node is to lead it, and has not taken over.
    NotTaken { members: Members, to: NodeId },
    /// Another node leads the group, or is about to.
    LedBy(NodeId),
    /// The learner on this node has not caught up.
    Behind(NodeId),
    /// The group has other members by now.
    Stale,
    /// It did not come about, or nobody knows.
    Failed,
}

impl Order {
    /// What it does, for the history.
    fn note(&self) -> Note {
        let word = |change: &Change| match change {
            Change::AddLearner(node) => format!("a learner on node {node}"),
            Change::Promote(node) => format!("node {node} votes"),
            Change::Demote(node) => format!("node {node} learns"),
            Change::Remove(node) => format!("none on node {node}"),
            Change::Prefer(node) => format!("node {node} is to lead"),
        };
        let words: Vec<_> = self.changes.iter().map(word).collect();
        Note::new(format!("group {}: {}", self.group, words.join(", ")), self.why.clone())
    }
}

impl Inner {
    /// Has the node that leads the group carry out an order. Returns what the history is to say of
    /// it, too.
    pub(super) async fn carry_out(&self, leader: NodeId, order: &Order) -> (Ended, Option<Note>) {
        let Order { group, from, changes, successor, .. } = order;
        let changed = match self.node.change_from(leader, *group, *from, changes).await {
            Ok(changed) => changed,
            Err(error) => return (Ended::without(*group, error), None),
        };
        let members = Members::of(&changed);
        let note = Some(order.note());
        let Some(to) = successor.filter(|node| *node != leader) else {
            return (Ended::Changed(members), note);
        };
        let ended = match self.node.transfer(leader, *group, to).await {
            Ok(()) => Ended::Transferred { members, to },
            Err(TransferError::NotTaken { .. } | TransferError::NotVoter { .. }) => {
                tracing::info!("node {to} did not take over group {group}");
                Ended::NotTaken { members, to }
            }
            Err(error) => {
                tracing::info!("the transfer of group {group} to node {to}: {error}");
                Ended::Failed
            }
        };
        (ended, note)
    }
}

impl Ended {
    /// An order that had no effect, or of which nothing was heard.
    fn without(group: GroupId, error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(
                ChangeRefusal::NotCaughtUp { node, .. } | ChangeRefusal::NotFortified { node },
            ) => Self::Behind(node),
            ChangeError::OtherMembers { .. }
            | ChangeError::Refused(ChangeRefusal::InProgress { .. }) => Self::Stale,
            ChangeError::Request(RequestError::NotLeader { leader: Some(leader) }) => {
                Self::LedBy(leader)
            }
            error => {
                tracing::info!("a step of group {group} is to be thought of anew: {error}");
                Self::Failed
            }
        }
    }
}

/// The next changes of a group that is to move. None if it has.
pub(super) fn next_of(wanted: WantedMove, members: &Members) -> Option<Vec<Change>> {
    let WantedMove { from, to } = wanted;
    if members.learners.contains(&to) {
        let demote = members.voters.contains(&from).then_some(Change::Demote(from));
        Some([Change::Promote(to)].into_iter().chain(demote).collect())
    } else if !members.voters.contains(&to) {
        Some(vec![Change::AddLearner(to)])
    } else if members.voters.contains(&from) {
        Some(vec![Change::Demote(from)])
    } else {
        members.learners.contains(&from).then(|| vec![Change::Remove(from)])
    }
}
