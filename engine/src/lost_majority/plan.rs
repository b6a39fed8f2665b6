//! What the survivors have of each group, and what would become of it.

use super::{RecoverError, Survivors, later_term};
use logboat_raft::{
    Configuration, GroupId, Index, LogId, Member, NodeId, ReplicaAddress, ReplicaId, Term,
};
use logboat_storage::GroupReport;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a person has decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoverOptions {
    /// The nodes that never come back.
    pub lost: BTreeSet<NodeId>,
    /// Gives up all nodes as well that are neither named nor here.
    pub force: bool,
    /// Has a group start over from the best copy that can be used, if there is a better one that
    /// can't be. What only that one holds is lost.
    pub passes_over_unusable: bool,
    /// The state machines keep their states on disk themselves, so that a log may begin where no
    /// snapshot is. A start of the node checks that the state fits.
    pub state_on_disk: bool,
}

/// What would become of the groups of a cluster.
#[derive(Clone, Debug)]
pub struct RecoverPlan {
    /// The nodes that are given up, those among them that all survivors have given up before.
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
    /// The members, by the copy that holds the most of those that can be used.
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
    /// Whether there is a snapshot where the log begins.
    pub snapshot: CopySnapshot,
    /// The members, by its log.
    pub configuration: Arc<Configuration>,
}

/// Whether a copy has the snapshot that its log needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySnapshot {
    /// There is one, or none is needed.
    Sound,
    /// The log begins where no sound snapshot reaches. If the state machine keeps its state on disk
    /// itself, nothing is missing.
    Missing,
    /// The log does not hold the end of the snapshot yet. A start of the node completes that.
    Unfinished,
    /// It is not what was written, with what is wrong.
    Damaged(String),
}

impl CopySnapshot {
    /// What is to be said of a log, and of the last entry that the snapshot covers.
    pub(super) fn of(log: &GroupReport, snapshot: Result<LogId, String>) -> Self {
        match snapshot {
            Err(what) => Self::Damaged(what),
            Ok(last) if log.holds(last) => Self::Sound,
            Ok(last) if last.index > log.snapshot.index => Self::Unfinished,
            Ok(_) => Self::Missing,
        }
    }

    /// Why a group can't start over from such a copy, if so.
    fn flaw(&self, options: &RecoverOptions) -> Option<String> {
        match self {
            Self::Sound => None,
            Self::Missing if options.state_on_disk => None,
            Self::Missing => Some("no sound snapshot is there where its log begins".to_owned()),
            Self::Unfinished => Some(
                "a snapshot is newer than its log: start the node once, and stop it".to_owned(),
            ),
            Self::Damaged(what) => Some(what.clone()),
        }
    }

    /// Whether a start of the node gets such a copy to run.
    fn starts(&self, options: &RecoverOptions) -> bool {
        *self == Self::Unfinished || self.flaw(options).is_none()
    }
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

    /// The groups that have lost their majority and stay as they are, since the copy that they
    /// should start over from can't be used.
    pub fn unusable(&self) -> impl Iterator<Item = &GroupPlan> {
        self.groups.iter().filter(|group| matches!(group.verdict, Verdict::Unusable { .. }))
    }

    /// Checks that the plan can be carried out.
    ///
    /// # Errors
    /// [`RecoverError::Absent`] when nodes are absent.
    pub fn check(&self) -> Result<(), RecoverError> {
        match self.absent.is_empty() {
            true => Ok(()),
            false => Err(RecoverError::Absent(self.absent.clone())),
        }
    }
}

impl Survivors {
    /// What would become of the groups.
    ///
    /// # Errors
    /// [`RecoverError`] when a node that is named is here, or unknown, or when there is none.
    pub fn plan(&self, options: &RecoverOptions) -> Result<RecoverPlan, RecoverError> {
        let known = self.known();
        for node in &options.lost {
            if let Some(survivor) = self.nodes.get(node) {
                let path = survivor.path.clone();
                return Err(RecoverError::NotLost { node: *node, path });
            }
            if !known.contains(node) {
                return Err(RecoverError::Unknown(*node));
            }
        }
        let mut lost = options.lost.clone();
        // A run that was cut short may have come as far as that.
        lost.extend(known.iter().filter(|node| self.is_given_up(**node)));
        if lost.is_empty() && !options.force {
            return Err(RecoverError::NothingLost);
        }
        let is_absent = |node: &NodeId| !self.nodes.contains_key(node) && !lost.contains(node);
        let mut absent: Vec<_> = known.into_iter().filter(is_absent).collect();
        if options.force {
            lost.extend(absent.drain(..));
        }
        let groups: BTreeSet<_> =
            self.nodes.values().flat_map(|survivor| survivor.log.groups.keys().copied()).collect();
        let plans = groups.into_iter().filter_map(|group| self.plan_group(group, &lost, options));
        Ok(RecoverPlan { groups: plans.collect(), lost, absent })
    }

    fn plan_group(
        &self,
        group: GroupId,
        lost: &BTreeSet<NodeId>,
        options: &RecoverOptions,
    ) -> Option<GroupPlan> {
        let copies = self.nodes.iter().filter_map(|(node, it)| it.copy_of(*node, group));
        let mut copies: Vec<_> = copies.collect();
        // Whoever holds more by Raft's order holds all that was committed and that the others hold.
        // Of equal logs, one that can be used comes first.
        copies.sort_by_key(|copy| {
            let is_usable = copy.snapshot.flaw(options).is_none();
            Reverse((copy.last, is_usable, copy.configuration.id(), copy.known_committed))
        });
        let best = copies.iter().find(|copy| copy.snapshot.starts(options));
        let members = Arc::clone(&best.or(copies.first())?.configuration);
        let verdict = self.judge(group, &members, &copies, lost, options);
        Some(GroupPlan { group, members, copies, verdict })
    }

    fn judge(
        &self,
        group: GroupId,
        members: &Configuration,
        copies: &[GroupCopy],
        lost: &BTreeSet<NodeId>,
        options: &RecoverOptions,
    ) -> Verdict {
        let runs = |member: &Member| match self.nodes.get(&member.node) {
            None => !lost.contains(&member.node),
            Some(here) if here.may_begin(group, member.replica) => true,
            Some(_) => {
                let copy = copies.iter().find(|copy| copy.address() == member.address());
                copy.is_some_and(|copy| copy.snapshot.starts(options))
            }
        };
        if members.is_quorum(|node| members.member(node).is_some_and(runs)) {
            return Verdict::Whole;
        }
        let is_absent = |node| !lost.contains(&node) && !self.nodes.contains_key(&node);
        if members.members().iter().any(|member| is_absent(member.node)) {
            return Verdict::Waits;
        }
        let is_usable = |copy: &&GroupCopy| copy.snapshot.flaw(options).is_none();
        let considered = if options.passes_over_unusable { copies } else { &copies[..1] };
        match considered.iter().find(is_usable) {
            Some(start) => start_from(start, copies),
            None => {
                let GroupCopy { node, snapshot, .. } = &copies[0];
                let what = snapshot.flaw(options).unwrap_or_default();
                Verdict::Unusable { node: *node, what }
            }
        }
    }
}

/// A group starts over from this one of its copies.
fn start_from(start: &GroupCopy, copies: &[GroupCopy]) -> Verdict {
    // One that holds more than the new log as committed, and that is passed over, goes.
    let learns = |copy: &&GroupCopy| {
        copy.node != start.node
            && start.configuration.member_at(copy.address()).is_some()
            && copy.known_committed <= start.last.index
    };
    let learners = copies.iter().filter(learns).map(|copy| copy.node).collect();
    let newest = copies.iter().map(|copy| copy.term.max(copy.last.term)).max();
    let term = later_term(newest.unwrap_or_default());
    Verdict::StartsOver { from: start.node, learners, term }
}

impl GroupCopy {
    /// Which replica it is of.
    const fn address(&self) -> ReplicaAddress {
        ReplicaAddress::new(self.node, self.replica)
    }
}
