//! What is known of a cluster, indexed so that the few groups which need something are found among
//! very many.

use super::facts::{Condition, GroupFacts, NodeFacts, Replica, Settings};
use super::need::{Judged, Need};
use super::round::{Planner, Round};
use super::safety::{self, StepRefusal};
use super::seats::{Open, Seats, Traffic};
use super::step::{Act, Step};
use crate::table::NodeState;
use logboat::{Change, GroupId, MemberRole, NodeId, ReplicaId};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is known of a cluster. It is fed by changes, and [`Self::steps`] says what to do next.
///
/// The steps follow from what is known alone: two values that were told the same, in whatever
/// order, say the same. Nothing that was planned before is kept. So whoever takes over goes on
/// where another one stopped, and to cancel something is to say that it is not wanted any more.
///
/// ```
/// use logboat::{GroupId, LogId, MemberRole, NodeId, ReplicaId};
/// use logboat_router::placement::{
///     Act, Cluster, Condition, GroupFacts, NodeFacts, Replica, Settings,
/// };
///
/// let mut cluster = Cluster::new(Settings { replicas: 2, ..Settings::default() });
/// cluster.set_node(NodeId(1), NodeFacts::up(""));
/// cluster.set_node(NodeId(2), NodeFacts::up(""));
/// let (node, id, role) = (NodeId(1), ReplicaId::FOUNDER, MemberRole::Voter);
/// let founder = Replica { node, id, role, condition: Condition::CaughtUp };
/// cluster.set_group(GroupId(7), GroupFacts {
///     configuration: LogId::default(),
///     replicas: [founder].into_iter().collect(),
///     leader: Some(node),
///     preferred: Some(node),
///     bytes: 1 << 20,
///     is_changing: false,
///     wanted: None,
///     declined: Default::default(),
/// });
/// let round = cluster.steps();
/// assert_eq!(round.steps[0].act, Act::AddLearner(NodeId(2)));
/// let words = "group 7: add a learner on node 2: the group has 1 sound replicas that stay, of 2";
/// assert_eq!(round.steps[0].to_string(), words);
/// ```
#[derive(Debug)]
pub struct Cluster {
    pub(super) settings: Settings,
    pub(super) now: Duration,
    nodes: BTreeMap<NodeId, NodeFacts>,
    pub(super) seats: Seats,
    groups: FxHashMap<GroupId, Entry>,
    /// The groups with each need, but for those that need nothing.
    needs: BTreeMap<Need, BTreeSet<GroupId>>,
    on_node: BTreeMap<NodeId, OnNode>,
    zones: Zones,
}

/// A group in the index.
#[derive(Debug)]
struct Entry {
    facts: GroupFacts,
    need: Need,
    /// What the replicas count on their nodes, in their order.
    loads: Loads,
}

/// The groups of a node.
#[derive(Debug, Default)]
pub(super) struct OnNode {
    /// Those with a replica on it.
    pub(super) holds: BTreeSet<GroupId>,
    /// Those that lead on it when nothing is wrong.
    pub(super) leads: BTreeSet<GroupId>,
}

/// Numbers for zones.
#[derive(Debug, Default)]
struct Zones(BTreeMap<String, u32>);

impl Zones {
    fn number(&mut self, zone: &str) -> u32 {
        let next = u32::try_from(self.0.len()).expect("fewer zones than nodes");
        *self.0.entry(zone.to_owned()).or_insert(next)
    }
}

impl Cluster {
    /// A cluster of which nothing is known.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut cluster = Self {
            settings,
            now: Duration::ZERO,
            nodes: BTreeMap::new(),
            seats: Seats::default(),
            groups: FxHashMap::default(),
            needs: BTreeMap::new(),
            on_node: BTreeMap::new(),
            zones: Zones::default(),
        };
        cluster.zones.number("");
        cluster.refresh();
        cluster
    }

    /// Says what is wanted from now on.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
        self.refresh();
    }

    /// Says what time it is, counted from any moment that stays the same. Nodes are lost by it.
    pub fn set_now(&mut self, now: Duration) {
        self.seats.gain(now.saturating_sub(self.now));
        self.now = now;
        self.refresh();
    }

    /// Says what is known of a node from now on. Costs time for each group on it if its standing
    /// changes.
    pub fn set_node(&mut self, node: NodeId, facts: NodeFacts) {
        let zone = self.zones.number(&facts.zone);
        let seat = self.seats.seat_mut(node);
        seat.zone = zone;
        (seat.arriving.others, seat.sending.others) = (facts.copies_in, facts.copies_out);
        let moved = self
            .nodes
            .insert(node, facts)
            .is_none_or(|before| self.zones.number(&before.zone) != zone);
        self.refresh();
        if moved {
            self.assess_node(node);
        }
    }

    /// Says that a node is no part of the cluster any more. While groups still name it, it counts
    /// as a silent one that may come back.
    pub fn remove_node(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.refresh();
        if self.on_node.get(&node).is_none_or(|it| it.holds.is_empty() && it.leads.is_empty()) {
            self.on_node.remove(&node);
            self.seats.remove(node);
        }
    }

    /// Says what is known of a group from now on. Facts of an earlier configuration than the one
    /// that is known are ignored; then the answer is false.
    pub fn set_group(&mut self, group: GroupId, facts: GroupFacts) -> bool {
        if self.groups.get(&group).is_some_and(|it| it.facts.configuration > facts.configuration) {
            return false;
        }
        self.remove_group(group);
        self.insert(group, facts);
        true
    }

    /// Says that a group is no more.
    pub fn remove_group(&mut self, group: GroupId) {
        let Some(entry) = self.groups.remove(&group) else { return };
        self.count(&entry, false);
        if let Some(groups) = self.needs.get_mut(&entry.need) {
            groups.remove(&group);
        }
        for replica in &entry.facts.replicas {
            self.on_node.entry(replica.node).or_default().holds.remove(&group);
        }
        if let Some(home) = entry.facts.home() {
            self.on_node.entry(home).or_default().leads.remove(&group);
        }
    }

    /// Notes that a step is being carried out: it counts as done, and nothing else is asked of its
    /// group until [`Self::set_group`] says what came of it.
    pub fn begin(&mut self, step: &Step) {
        let Some(entry) = self.groups.get(&step.group) else { return };
        let mut facts = entry.facts.clone();
        if let Act::AddLearner(to) = step.act {
            self.seats.spend(facts.leader, to, facts.bytes);
        }
        facts.foresee(&step.act);
        facts.is_changing = true;
        self.remove_group(step.group);
        self.insert(step.group, facts);
    }

    /// The changes to ask the leader of a step's group for, in one call. A transfer is asked for
    /// after its change, unless the node leads already.
    #[must_use]
    pub fn changes(&self, step: &Step) -> Vec<Change> {
        self.group(step.group).map(|facts| step.act.changes(facts)).unwrap_or_default()
    }

    /// What to do next: a few steps, each for another group, and none for a group under change.
    #[must_use]
    pub fn steps(&self) -> Round {
        Planner::new(self).run()
    }

    /// Whether a step may still be carried out, by what is known now. Ask it before each step that
    /// was not thought of just now.
    ///
    /// # Errors
    /// [`StepRefusal`] with the reason why not.
    pub fn check(&self, step: &Step) -> Result<(), StepRefusal> {
        let facts = self.group(step.group).ok_or(StepRefusal::UnknownGroup)?;
        if facts.configuration != step.configuration {
            return Err(StepRefusal::Stale);
        }
        if facts.is_changing {
            return Err(StepRefusal::Changing);
        }
        safety::check(&self.seats, facts, &step.act)
    }

    /// Checks that these nodes can all leave: that as many others stay as each group has replicas.
    ///
    /// # Errors
    /// How many nodes would stay, and how many replicas are wanted.
    pub fn check_leaving(&self, leaving: &[NodeId]) -> Result<(), TooFewNodes> {
        let stays = |facts: &NodeFacts| matches!(facts.state, NodeState::Up | NodeState::Draining);
        let is_there = |node: &NodeId| !self.seats.standing(*node).is_dead();
        let staying = self
            .nodes
            .iter()
            .filter(|(node, facts)| stays(facts) && is_there(node) && !leaving.contains(node));
        let (left, replicas) = (staying.count(), self.settings.replicas);
        if left < replicas { Err(TooFewNodes { left, replicas }) } else { Ok(()) }
    }

    /// The nodes that are lost: those that a person has called so, and those that have been silent
    /// for longer than [`Settings::lost_after`], but for those that a group needs: where a group
    /// has no majority without the silent nodes, nobody but these can help it, so they are waited
    /// for until a person gives them up. Who carries out steps should have it recorded that
    /// they are, before the first of their replicas is replaced: a node that comes back has to
    /// learn it.
    pub fn lost(&self) -> impl Iterator<Item = NodeId> {
        let nodes = self.nodes.iter().filter(|(node, _)| self.seats.standing(**node).is_dead());
        let is_called_so = |facts: &NodeFacts| facts.state == NodeState::Lost;
        let lost =
            nodes.filter(move |(node, facts)| is_called_so(facts) || !self.is_needed(**node));
        lost.map(|(node, _)| *node)
    }

    /// Whether a group on this node has no majority without the nodes that are silent.
    fn is_needed(&self, node: NodeId) -> bool {
        let groups = self.on_node.get(&node).into_iter().flat_map(|groups| &groups.holds);
        let mut groups = groups.filter_map(|group| self.group(*group));
        groups.any(|facts| {
            let alive = facts.voters().filter(|voter| self.seats.is_alive(*voter)).count();
            alive <= facts.voters().count() / 2
        })
    }

    /// The nodes that are to leave, or are lost, and that no group names any more.
    pub fn emptied(&self) -> impl Iterator<Item = NodeId> {
        let nodes = self.nodes.iter();
        let goes =
            nodes.filter(|(_, facts)| matches!(facts.state, NodeState::Leaving | NodeState::Lost));
        goes.map(|(node, _)| *node).filter(|node| self.replicas_on(*node) == 0)
    }

    /// What is known of a node.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&NodeFacts> {
        self.nodes.get(&node)
    }

    /// What is known of a group.
    #[must_use]
    pub fn group(&self, group: GroupId) -> Option<&GroupFacts> {
        self.groups.get(&group).map(|entry| &entry.facts)
    }

    /// What a group needs first.
    #[must_use]
    pub fn need(&self, group: GroupId) -> Option<Need> {
        self.groups.get(&group).map(|entry| entry.need)
    }

    /// How many groups have a need. This is what progress is shown by.
    #[must_use]
    pub fn count_needing(&self, need: Need) -> usize {
        match need {
            Need::Nothing => {
                self.groups.len() - self.needs.values().map(BTreeSet::len).sum::<usize>()
            }
            _ => self.needs.get(&need).map_or(0, BTreeSet::len),
        }
    }

    /// How many groups have a replica on a node.
    #[must_use]
    pub fn replicas_on(&self, node: NodeId) -> usize {
        self.on_node.get(&node).map_or(0, |groups| groups.holds.len())
    }

    /// How many groups lead on a node when nothing is wrong.
    #[must_use]
    pub fn leaders_on(&self, node: NodeId) -> usize {
        self.on_node.get(&node).map_or(0, |groups| groups.leads.len())
    }

    /// How many nodes count when the number of replicas is compared with that of the nodes.
    pub(super) fn nodes_that_count(&self) -> usize {
        self.nodes.keys().filter(|node| self.seats.standing(**node).counts()).count()
    }

    /// The groups of a need.
    pub(super) fn needing(&self, need: Need) -> Option<&BTreeSet<GroupId>> {
        self.needs.get(&need).filter(|groups| !groups.is_empty())
    }

    pub(super) fn on_node(&self, node: NodeId) -> Option<&OnNode> {
        self.on_node.get(&node)
    }

    /// Sees the nodes again, and every group that is concerned by what has changed of them.
    fn refresh(&mut self) {
        let (changed, all) = self.seats.refresh(&self.nodes, &self.settings, self.now);
        if all {
            let groups: Vec<_> = self.groups.keys().copied().collect();
            groups.into_iter().for_each(|group| self.assess(group));
            return;
        }
        changed.into_iter().for_each(|node| self.assess_node(node));
    }

    fn assess_node(&mut self, node: NodeId) {
        let groups = self.on_node.get(&node).map(|groups| groups.holds.clone());
        groups.into_iter().flatten().for_each(|group| self.assess(group));
    }

    /// Sees a group again, since nodes have changed.
    fn assess(&mut self, group: GroupId) {
        if let Some(entry) = self.groups.get(&group) {
            let judged = Judged::new(&self.seats, &entry.facts);
            if judged.need() == entry.need && loads(&judged) == entry.loads {
                return;
            }
            let facts = entry.facts.clone();
            self.remove_group(group);
            self.insert(group, facts);
        }
    }

    fn insert(&mut self, group: GroupId, facts: GroupFacts) {
        for replica in &facts.replicas {
            self.seats.seat_mut(replica.node);
            self.on_node.entry(replica.node).or_default().holds.insert(group);
        }
        if let Some(home) = facts.home() {
            self.on_node.entry(home).or_default().leads.insert(group);
        }
        let judged = Judged::new(&self.seats, &facts);
        let (need, loads) = (judged.need(), loads(&judged));
        let entry = Entry { facts, need, loads };
        if need != Need::Nothing {
            self.needs.entry(need).or_default().insert(group);
        }
        self.count(&entry, true);
        self.groups.insert(group, entry);
    }

    /// Adds what the group means for the loads of nodes, or takes it away.
    fn count(&mut self, entry: &Entry, is_there: bool) {
        let sign = if is_there { 1 } else { -1 };
        let mut copies = 0;
        let count_copies = |traffic: &mut Traffic, copies| match is_there {
            true => traffic.add(copies, entry.facts.bytes),
            false => traffic.subtract(copies, entry.facts.bytes),
        };
        for (replica, load) in entry.facts.replicas.iter().zip(&entry.loads) {
            let seat = self.seats.seat_mut(replica.node);
            seat.count(*load, sign);
            if replica.is_copied() {
                copies += 1;
                count_copies(&mut seat.arriving, 1);
            }
        }
        if let Some(leader) = entry.facts.leader {
            count_copies(&mut self.seats.seat_mut(leader).sending, copies);
        }
        if let Some(home) = entry.facts.home() {
            let leads = &mut self.seats.seat_mut(home).leads;
            *leads = if is_there { *leads + 1 } else { *leads - 1 };
        }
    }
}

/// Fewer nodes would stay than a group has replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{left} nodes would be left, and a group has {replicas} replicas")]
pub struct TooFewNodes {
    /// The nodes that would stay.
    pub left: usize,
    /// The replicas of a group.
    pub replicas: usize,
}

/// What each replica of a group counts.
type Loads = SmallVec<[(i64, Open); 4]>;

fn loads(judged: &Judged<'_>) -> Loads {
    let counts = |replica| (judged.load(replica), judged.open(replica));
    judged.facts.replicas.iter().map(counts).collect()
}

impl GroupFacts {
    /// Makes these facts what they are when the act is done.
    pub(super) fn foresee(&mut self, act: &Act) {
        let role = |of: &NodeId, promoted: &[NodeId], demoted: &[NodeId]| {
            promoted
                .contains(of)
                .then_some(MemberRole::Voter)
                .or_else(|| demoted.contains(of).then_some(MemberRole::Learner))
        };
        match act {
            Act::AddLearner(node) => {
                let (role, condition) = (MemberRole::Learner, Condition::Behind);
                let at = self.replicas.partition_point(|replica| replica.node < *node);
                let last = self.replicas.iter().map(|replica| replica.id).max();
                let id = last.max(Some(ReplicaId(self.configuration))).unwrap_or_default().next();
                self.replicas.insert(at, Replica { node: *node, id, role, condition });
            }
            Act::Voters { promote, demote } => {
                for replica in &mut self.replicas {
                    replica.role = role(&replica.node, promote, demote).unwrap_or(replica.role);
                }
                self.preferred =
                    self.preferred.filter(|node| !demote.contains(node)).or(self.leader);
            }
            Act::Remove(node) => self.replicas.retain(|replica| replica.node != *node),
            Act::Transfer { to, .. } => (self.leader, self.preferred) = (Some(*to), Some(*to)),
        }
    }
}

impl Replica {
    /// Whether a copy of the group is on its way to it.
    fn is_copied(&self) -> bool {
        self.role == MemberRole::Learner && self.condition == Condition::Behind
    }
}
