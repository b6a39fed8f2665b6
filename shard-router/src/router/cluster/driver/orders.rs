//! What the driver has the leaders of groups do, and what comes of it.

use crate::router::Inner;
use crate::table::{Members, Note, WantedMove};
use logboat::{
    Change, ChangeError, ChangeRefusal, GroupId, LogId, Membership, NodeId, RequestError,
    TransferError,
};

/// Changes of a group's members, if they are those of the entry `from`, and then a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The group.
    pub group: GroupId,
    /// The entry of the members that it was thought for.
    pub from: LogId,
    /// What to change.
    pub changes: Vec<Change>,
    /// Who is to lead then, if anybody else.
    pub successor: Option<NodeId>,
    /// What it is good for.
    pub why: String,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The group has these members.
    Changed(Members),
    /// And the other node leads it.
    Transferred {
        /// The members.
        members: Members,
        /// The other node.
        to: NodeId,
    },
    /// The other node is to lead it, and has not taken over.
    NotTaken {
        /// The members.
        members: Members,
        /// The other node.
        to: NodeId,
    },
    /// Another node leads the group, or is about to.
    LedBy(NodeId),
    /// The learner on this node has not caught up.
    Behind(NodeId),
    /// The group has other members by now.
    Stale,
    /// It did not come about, or nobody knows.
    Failed,
}

/// What comes after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the order has ended.
    Ended(Ended),
    /// The group has these members, and leadership goes to another node.
    Transfer {
        /// The members.
        members: Members,
        /// The other node.
        to: NodeId,
    },
}

impl Order {
    /// What comes after the change, by what the node answered that was to lead the group.
    #[must_use]
    pub fn changed(&self, leader: NodeId, answer: Result<Membership, ChangeError>) -> Next {
        let members = match answer {
            Ok(members) => Members::of(&members),
            Err(error) => return Next::Ended(Ended::without(self.group, error)),
        };
        match self.successor.filter(|node| *node != leader) {
            Some(to) => Next::Transfer { members, to },
            None => Next::Ended(Ended::Changed(members)),
        }
    }

    /// How the order has ended, by what came of the transfer to another node.
    #[must_use]
    pub fn transferred(
        &self,
        members: Members,
        to: NodeId,
        answer: Result<(), TransferError>,
    ) -> Ended {
        let group = self.group;
        match answer {
            Ok(()) => Ended::Transferred { members, to },
            Err(TransferError::NotTaken { .. } | TransferError::NotVoter { .. }) => {
                tracing::info!("node {to} did not take over group {group}");
                Ended::NotTaken { members, to }
            }
            Err(error) => {
                tracing::info!("the transfer of group {group} to node {to}: {error}");
                Ended::Failed
            }
        }
    }

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
        let Order { group, from, changes, .. } = order;
        let changed = self.node.change_from(leader, *group, *from, changes).await;
        let note = changed.is_ok().then(|| order.note());
        let ended = match order.changed(leader, changed) {
            Next::Ended(ended) => ended,
            Next::Transfer { members, to } => {
                let transferred = self.node.transfer(leader, *group, to).await;
                order.transferred(members, to, transferred)
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
