//! What the survivors have of each group, and what would become of it.

use super::{RecoverError, Survivors, later_term};
use logboat_raft::{Configuration, GroupId, Index, LogId, NodeId, ReplicaAddress, ReplicaId, Term};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What would become of the groups of a cluster.
#[derive(Clone, Debug)]
pub struct RecoverPlan {
    /// The nodes that are given up.
    pub lost: BTreeSet<NodeId>,
    /// The nodes that are neither lost nor here. While there are any, nothing is done.
    pub absent: Vec<NodeId>,
    /// Every group of which a survivor has a replica, in order.
    pub groups: Vec<GroupPlan>,
}

/// What would become of a group.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    /// The group.
    pub group: GroupId,
    /// The members, by the copy that holds the most.
    pub members: Arc<Configuration>,
    /// What the survivors have of it, the most first.
    pub copies: Vec<GroupCopy>,
    /// What would become of it.
    pub verdict: Verdict,
}

/// What a survivor has of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCopy {
    /// Whose it is.
    pub node: NodeId,
    /// Which replica on that node it is.
    pub replica: ReplicaId,
    /// The latest term that it has seen.
    pub term: Term,
    /// An entry up to which the log is known to have been committed. More of it may have been.
    pub known_committed: Index,
    /// The last entry that its snapshot covers: its log begins after it.
    pub begins_after: Index,
    /// Its last entry. Copies are compared by it, term first, as voters do.
    pub last: LogId,
    /// The members, by its log.
    pub configuration: Arc<Configuration>,
}

/// What would become of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has a majority without the lost nodes, and goes on by itself.
    Whole,
    /// Nodes that are neither lost nor here may hold more of it, or bring its majority back.
    Waits,
    /// It starts over.
    StartsOver {
        /// From the copy of this node, which votes alone to begin with.
        from: NodeId,
        /// The nodes that keep their copies, and learn.
        learners: Vec<NodeId>,
        /// The term in which it does.
        term: Term,
    },
    /// The copy that it should start over from can't be used.
    Unusable {
        /// Whose copy it is.
        node: NodeId,
        /// Why not.
        what: String,
    },
}

impl RecoverPlan {
    /// The groups that start over.
    pub fn starting_over(&self) -> impl Iterator<Item = &GroupPlan> {
        self.groups.iter().filter(|group| matches!(group.verdict, Verdict::StartsOver { .. }))
    }

    /// Checks that the plan can be carried out.
    ///
    /// # Errors
    /// [`RecoverError`] when nodes are absent, or when a copy can't be used.
    pub fn check(&self) -> Result<(), RecoverError> {
        if !self.absent.is_empty() {
            return Err(RecoverError::Absent(self.absent.clone()));
        }
        let unusable = self.groups.iter().find_map(|group| match &group.verdict {
            Verdict::Unusable { node, what } => {
                let (group, node, what) = (group.group, *node, what.clone());
                Some(RecoverError::Unusable { group, node, what })
            }
            _ => None,
        });
        unusable.map_or(Ok(()), Err)
    }
}

impl Survivors {
    /// What would become of the groups without these nodes. `force` gives up all nodes as well that
    /// are neither named nor here.
    ///
    /// # Errors
    /// [`RecoverError`] when a node that is named is here, or unknown.
    pub fn plan(&self, lost: &BTreeSet<NodeId>, force: bool) -> Result<RecoverPlan, RecoverError> {
        if lost.is_empty() && !force {
            return Err(RecoverError::NothingLost);
        }
        let known = self.known();
        for node in lost {
            if let Some(survivor) = self.nodes.get(node) {
                let path = survivor.path.clone();
                return Err(RecoverError::NotLost { node: *node, path });
            }
            if !known.contains(node) && !self.is_fenced(*node) {
                return Err(RecoverError::Unknown(*node));
            }
        }
        let is_absent = |node: &NodeId| !self.nodes.contains_key(node) && !lost.contains(node);
        let mut absent: Vec<_> = known.into_iter().filter(is_absent).collect();
        let mut lost = lost.clone();
        if force {
            lost.extend(absent.drain(..));
        }
        let groups: BTreeSet<_> =
            self.nodes.values().flat_map(|survivor| survivor.log.groups.keys().copied()).collect();
        let plans = groups.into_iter().filter_map(|group| self.plan_group(group, &lost));
        Ok(RecoverPlan { groups: plans.collect(), lost, absent })
    }

    fn plan_group(&self, group: GroupId, lost: &BTreeSet<NodeId>) -> Option<GroupPlan> {
        let copies = self.nodes.iter().filter_map(|(node, it)| it.copy_of(*node, group));
        let mut copies: Vec<_> = copies.collect();
        // Whoever holds more by Raft's order holds all that was committed and that the others hold.
        copies.sort_by_key(|copy| {
            std::cmp::Reverse((copy.last, copy.configuration.id(), copy.known_committed))
        });
        let best = copies.first()?;
        let members = Arc::clone(&best.configuration);
        let verdict = self.judge(group, best, &copies, lost);
        Some(GroupPlan { group, members, copies, verdict })
    }

    fn judge(
        &self,
        group: GroupId,
        best: &GroupCopy,
        copies: &[GroupCopy],
        lost: &BTreeSet<NodeId>,
    ) -> Verdict {
        let members = &best.configuration;
        if members.is_quorum(|node| !lost.contains(&node)) {
            return Verdict::Whole;
        }
        let is_absent = |node| !lost.contains(&node) && !self.nodes.contains_key(&node);
        if members.members().iter().any(|member| is_absent(member.node)) {
            return Verdict::Waits;
        }
        let snapshot = self.nodes[&best.node].snapshots.get(&group).map_or(Index(0), |it| it.index);
        if snapshot != best.begins_after {
            let what = match snapshot < best.begins_after {
                true => "its snapshot is missing or damaged",
                false => "a snapshot is newer than the log; start the node once, and stop it",
            };
            return Verdict::Unusable { node: best.node, what: what.to_owned() };
        }
        let learns = |copy: &&GroupCopy| {
            let address = ReplicaAddress::new(copy.node, copy.replica);
            copy.node != best.node && members.member_at(address).is_some()
        };
        let learners = copies.iter().filter(learns).map(|copy| copy.node).collect();
        let newest = copies.iter().map(|copy| copy.term.max(copy.last.term)).max();
        let term = later_term(newest.unwrap_or_default());
        Verdict::StartsOver { from: best.node, learners, term }
    }
}
