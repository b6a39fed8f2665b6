//! Who belongs to a group, and who counts.

use super::model::Steps;
use crate::ids::NodeId;
use std::fmt;

/// A set of nodes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nodes(u8);

impl Nodes {
    /// The nodes with these ids.
    pub const fn of(ids: &[u8]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < ids.len() {
            bits |= 1 << ids[at];
            at += 1;
        }
        Self(bits)
    }

    /// Those of `ids` that `is_in` holds for.
    pub fn filter(ids: impl Iterator<Item = NodeId>, is_in: impl Fn(NodeId) -> bool) -> Self {
        Self(ids.filter(|&node| is_in(node)).fold(0, |bits, node| bits | 1 << node.0))
    }

    /// Whether `node` is one of them.
    pub const fn has(self, node: NodeId) -> bool {
        self.0 & 1 << node.0 != 0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many there are.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// These without those.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, node: NodeId) -> Self {
        Self(self.0 | 1 << node.0)
    }

    /// One by one.
    pub fn iter(self) -> impl Iterator<Item = NodeId> + Clone {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let node = (0..8).nth(usize::try_from(left.trailing_zeros()).ok()?)?;
            left &= left - 1;
            Some(NodeId(node))
        })
    }

    /// All sets of some of them.
    pub fn subsets(self) -> impl Iterator<Item = Self> {
        (0..=self.0).map(Self).filter(move |subset| subset.without(self).is_empty())
    }

    /// The same set of nodes that have other names.
    pub(crate) fn renamed(self, name: impl Fn(NodeId) -> NodeId) -> Self {
        Self(self.iter().fold(0, |bits, node| bits | 1 << name(node).0))
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|node| node.0)).finish()
    }
}

/// The members of a group. It is *joint* if there are outgoing voters.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Configuration {
    /// Those who vote, in a joint configuration those who vote after the change.
    pub voters: Nodes,
    /// In a joint configuration, those who voted before the change. Otherwise none.
    pub outgoing: Nodes,
    /// Those who get the log and count nowhere.
    pub learners: Nodes,
}

impl Configuration {
    /// A configuration that is not joint.
    pub const fn of(voters: &[u8], learners: &[u8]) -> Self {
        let outgoing = Nodes::of(&[]);
        Self { voters: Nodes::of(voters), outgoing, learners: Nodes::of(learners) }
    }

    /// The joint configuration on the way from this one to `voters`. Who is demoted is no learner
    /// yet.
    #[must_use]
    pub const fn joint(self, voters: Nodes) -> Self {
        let learners = self.learners.without(voters);
        Self { voters, outgoing: self.voters, learners }
    }

    /// The configuration that follows a joint one. Who was demoted is a learner.
    #[must_use]
    pub const fn left(self) -> Self {
        let learners = self.learners.and(self.outgoing.without(self.voters));
        Self { learners, outgoing: Nodes::of(&[]), ..self }
    }

    /// Whether two halves count.
    pub const fn is_joint(self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Who votes in one half or both.
    pub const fn electorate(self) -> Nodes {
        self.voters.and(self.outgoing)
    }

    /// All who belong to the group.
    pub const fn members(self) -> Nodes {
        self.electorate().and(self.learners)
    }

    /// The halves of which each needs a majority.
    pub fn halves(self) -> impl Iterator<Item = Nodes> {
        [self.voters, self.outgoing].into_iter().filter(|half| !half.is_empty())
    }

    /// Whether these nodes are a majority of each half.
    pub fn is_quorum(self, nodes: Nodes) -> bool {
        !self.voters.is_empty() && self.halves().all(|half| is_majority(half, nodes))
    }

    /// What a leader may make of it by one entry. Only learners come and go. Who voted before and
    /// does not any more is a learner, so there is no way from voter to nothing.
    pub(super) fn successors(self, all: Nodes, steps: Steps) -> Vec<Self> {
        if self.is_joint() {
            return vec![self.left()];
        }
        let Self { voters, learners, .. } = self;
        let added = all.without(self.members()).iter().map(|node| learners.with(node));
        let removed = learners.iter().map(|node| learners.without(Nodes::default().with(node)));
        let of_learners = added.chain(removed).map(|learners| Self { learners, ..self });
        let after = voters.and(learners).subsets();
        let after = after.filter(|&after| !after.is_empty() && after != voters);
        let of_voters = after.filter_map(|after| {
            let changed = voters.without(after).and(after.without(voters)).len();
            match steps {
                Steps::Joint => Some(self.joint(after)),
                Steps::Single => (changed == 1).then(|| self.joint(after).left()),
            }
        });
        of_learners.chain(of_voters).collect()
    }

    /// The same among nodes that have other names.
    pub(crate) fn renamed(self, name: impl Fn(NodeId) -> NodeId + Copy) -> Self {
        Self {
            voters: self.voters.renamed(name),
            outgoing: self.outgoing.renamed(name),
            learners: self.learners.renamed(name),
        }
    }
}

/// Whether `nodes` has a majority of `half`.
pub(crate) const fn is_majority(half: Nodes, nodes: Nodes) -> bool {
    half.len() - half.without(nodes).len() > half.len() / 2
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.voters)?;
        if self.is_joint() {
            write!(f, " from {:?}", self.outgoing)?;
        }
        if !self.learners.is_empty() {
            write!(f, " learners {:?}", self.learners)?;
        }
        Ok(())
    }
}
