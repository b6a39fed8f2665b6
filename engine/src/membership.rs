//! The members of a group, for those who use it.

use logboat_raft::{Configuration, LogId, Member, MemberRole, NodeId, ReplicaId};
use std::fmt;
use std::sync::Arc;

/// The members of a group, as some replica knows them. Clones share the list.
///
/// ```
/// # use logboat::{Bytes, GroupId, GroupSpec, Node, NodeConfig, NodeId, StateMachine};
/// # use std::collections::BTreeMap;
/// # struct Nothing;
/// # impl StateMachine for Nothing {
/// #     fn apply(&mut self, _: Bytes) -> Bytes { Bytes::new() }
/// #     fn query(&self, _: Bytes) -> Bytes { Bytes::new() }
/// #     fn snapshot(&self) -> logboat::SnapshotWriter { Box::new(|_| Ok(())) }
/// #     fn restore(&mut self, _: &mut dyn std::io::Read) -> std::io::Result<()> { Ok(()) }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
/// # let node = Node::start(NodeConfig::new(NodeId(1), members, dir.path())?)?;
/// # let group = node.create_group(GroupSpec {
/// #     group: GroupId(1),
/// #     replicas: vec![NodeId(1)],
/// #     preferred: None,
/// #     machine: Box::new(Nothing),
/// # })?;
/// let members = group.membership();
/// assert_eq!(members.voters(), [NodeId(1)]);
/// assert!(members.learners().is_empty() && !members.is_joint());
/// assert_eq!(members.to_string(), "voters 1");
/// # node.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Membership(Arc<Configuration>);

impl Membership {
    pub(crate) const fn new(configuration: Arc<Configuration>) -> Self {
        Self(configuration)
    }

    pub(crate) fn configuration(&self) -> &Configuration {
        &self.0
    }

    /// The nodes that vote. While a change of voters is under way, those that vote after it.
    #[must_use]
    pub fn voters(&self) -> Vec<NodeId> {
        self.nodes(MemberRole::is_incoming)
    }

    /// While a change of voters is under way, the nodes that voted before it. Whatever the group
    /// decides needs a majority of both. Empty at other times.
    #[must_use]
    pub fn outgoing(&self) -> Vec<NodeId> {
        let votes_before = |role| matches!(role, MemberRole::Voter | MemberRole::Outgoing);
        if self.is_joint() { self.nodes(votes_before) } else { Vec::new() }
    }

    /// The nodes that get the log and count nowhere.
    #[must_use]
    pub fn learners(&self) -> Vec<NodeId> {
        self.nodes(|role| role == MemberRole::Learner)
    }

    /// The voter that should lead.
    #[must_use]
    pub fn preferred(&self) -> Option<NodeId> {
        self.0.preferred()
    }

    /// Whether a change of voters is under way.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.0.is_joint()
    }

    /// All members, by node: with the id of each replica, which the next one on the same node does
    /// not have, and where it counts.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        self.0.members()
    }

    /// The id of the replica on a node.
    #[must_use]
    pub fn replica(&self, node: NodeId) -> Option<ReplicaId> {
        self.0.member(node).map(|member| member.replica)
    }

    /// Whether a replica on this node belongs to the group.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.0.member(node).is_some()
    }

    /// The entry of the group's log that says so; zero for the members that the group was founded
    /// with.
    #[must_use]
    pub fn entry(&self) -> LogId {
        self.0.id()
    }

    fn nodes(&self, is_in: impl Fn(MemberRole) -> bool) -> Vec<NodeId> {
        let members = self.0.members().iter().filter(|member| is_in(member.role));
        members.map(|member| member.node).collect()
    }
}

impl fmt::Display for Membership {
    /// `voters 1 2 4, outgoing 1 2 3, learners 5 6`, or `none known`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.members().is_empty() {
            return f.write_str("none known");
        }
        self.0.fmt(f)
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Membership({}: {self})", self.entry())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::{Change, Index, Term};

    #[test]
    fn both_halves_of_a_joint_configuration_are_listed() {
        let at = |index| LogId::new(Term(1), Index(index));
        let [one, two, three, four] = [1, 2, 3, 4].map(NodeId);
        let founding = Configuration::founding(&[one, two, three], Some(one));
        let joined = founding.change(at(5), &[Change::AddLearner(four)]).unwrap();
        let swap = [Change::Promote(four), Change::Demote(two)];
        let joint = Membership::new(joined.change(at(9), &swap).unwrap().into());
        assert_eq!(joint.voters(), [one, three, four]);
        assert_eq!(joint.outgoing(), [one, two, three]);
        assert!(joint.is_joint() && joint.learners().is_empty() && joint.contains(two));
        let joined = Membership::new(joined.into());
        assert_eq!((joined.learners(), joined.outgoing()), (vec![four], vec![]));
        assert_eq!(joined.replica(four), Some(ReplicaId(at(5))));
        assert_eq!(joined.replica(one), Some(ReplicaId::FOUNDER));
        assert_eq!((joined.entry(), joined.preferred()), (at(5), Some(one)));
    }
}
