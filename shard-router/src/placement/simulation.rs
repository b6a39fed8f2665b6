//! A simulated cluster that carries out the steps of placement: nodes with bandwidth, copies that
//! take time, leaders that die. It asserts that no step does harm, by rules of its own.
//!
//! It is what the tests of placement and `logboat-bench plan` run.

use super::{Act, Cluster, Condition, GroupFacts, Heard, Need, NodeFacts, Replica, Settings, Step};
use crate::table::NodeState;
use logboat::{GroupId, LogId, MemberRole, NodeId, ReplicaId};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::time::Duration;

/// How fast things are.
#[derive(Clone, Debug)]
pub struct Speeds {
    /// How many bytes a second a node receives at the most, and as many it sends.
    pub bytes_per_s: f64,
    /// How long a change of members or a transfer takes.
    pub change: Duration,
    /// The time from one round to the next.
    pub round: Duration,
}

/// A simulated cluster.
pub struct Simulation {
    /// What placement knows. The simulation tells it everything at once.
    pub cluster: Cluster,
    speeds: Speeds,
    now: Duration,
    /// The groups under change, as they were before, with the step and when it ends.
    changing: FxHashMap<GroupId, Change>,
    /// Which change ends when.
    ends: BTreeMap<(Duration, GroupId), ()>,
    copies: BTreeMap<(NodeId, GroupId), Copy>,
    /// What was done so far.
    pub done: Done,
    next_entry: u64,
}

/// A step that is being carried out.
struct Change {
    before: GroupFacts,
    step: Step,
}

/// A copy on its way.
struct Copy {
    from: NodeId,
    left_bytes: f64,
}

/// What a simulation has done.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// The steps that placement asked for.
    pub steps: u64,
    /// The most steps of one round.
    pub most_steps: usize,
    /// The rounds.
    pub rounds: u64,
    /// The copies that arrived.
    pub copies: u64,
    /// The bytes of these.
    pub copied_bytes: u64,
    /// How long the rounds took to think of, on this machine.
    pub thinking: Duration,
    /// The longest of them.
    pub longest_round: Duration,
}

impl Simulation {
    /// A cluster without nodes.
    #[must_use]
    pub fn new(settings: Settings, speeds: Speeds) -> Self {
        Self {
            cluster: Cluster::new(settings),
            speeds,
            now: Duration::ZERO,
            changing: FxHashMap::default(),
            ends: BTreeMap::new(),
            copies: BTreeMap::new(),
            done: Done::default(),
            next_entry: 1,
        }
    }

    /// The time since the begin.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// A node that has joined.
    pub fn join(&mut self, node: NodeId, zone: &str) {
        self.cluster.set_node(node, NodeFacts::up(zone));
    }

    /// Founds a group of this size on these nodes; the first one leads.
    pub fn found(&mut self, group: GroupId, nodes: &[NodeId], bytes: u64) {
        let replica = |node: &NodeId| Replica {
            node: *node,
            id: ReplicaId::FOUNDER,
            role: MemberRole::Voter,
            condition: Condition::CaughtUp,
        };
        let mut replicas: Vec<_> = nodes.iter().map(replica).collect();
        replicas.sort_unstable_by_key(|replica| replica.node);
        let leader = nodes.first().copied();
        let configuration = LogId::default();
        let replicas = replicas.into_iter().collect();
        let (preferred, is_changing) = (leader, false);
        let facts = GroupFacts {
            configuration,
            replicas,
            leader,
            preferred,
            bytes,
            is_changing,
            wanted: None,
            declined: SmallVec::new(),
        };
        self.cluster.set_group(group, facts);
    }

    /// Says what the cluster wants of a node from now on.
    pub fn set_state(&mut self, node: NodeId, state: NodeState) {
        let facts = self.cluster.node(node).cloned().expect("a node of the cluster");
        self.cluster.set_node(node, NodeFacts { state, ..facts });
    }

    /// Kills a node. Groups that it leads elect another leader, if they can.
    pub fn kill(&mut self, node: NodeId) {
        self.set_heard(node, Heard::SilentSince(self.now));
        self.copies.retain(|(to, _), copy| *to != node && copy.from != node);
        self.elect_on(node);
    }

    /// Starts a node again that was killed, if it was not called lost meanwhile.
    pub fn revive(&mut self, node: NodeId) {
        if self.cluster.node(node).is_some_and(|facts| facts.state != NodeState::Lost) {
            self.set_heard(node, Heard::Now);
            self.elect_on(node);
        }
    }

    /// Damages the replica of a group on a node.
    pub fn damage(&mut self, group: GroupId, node: NodeId) {
        self.alter(group, |facts| {
            let replica = facts.replicas.iter_mut().find(|replica| replica.node == node);
            if let Some(replica) = replica {
                replica.condition = Condition::Damaged;
            }
        });
        self.copies.remove(&(node, group));
        self.elect(group);
    }

    /// Whether a node is alive.
    #[must_use]
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.cluster.node(node).is_some_and(|facts| facts.heard == Heard::Now)
    }

    /// Whether a group could still decide something.
    #[must_use]
    pub fn has_majority(&self, facts: &GroupFacts) -> bool {
        self.live_voters(facts) > facts.voters().count() / 2
    }

    /// Whether nothing is under way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.changing.is_empty() && self.copies.is_empty()
    }

    /// A round of placement, and then time passes until the next one. Returns how many steps it
    /// had.
    pub fn round(&mut self) -> usize {
        self.cluster.set_now(self.now);
        let lost: Vec<_> = self.cluster.lost().collect();
        for node in lost {
            self.set_state(node, NodeState::Lost);
        }
        let emptied: Vec<_> = self.cluster.emptied().collect();
        emptied.into_iter().for_each(|node| self.cluster.remove_node(node));
        let begin = std::time::Instant::now();
        let round = self.cluster.steps();
        let took = begin.elapsed();
        self.done.thinking += took;
        self.done.longest_round = self.done.longest_round.max(took);
        self.done.rounds += 1;
        self.done.steps += round.steps.len() as u64;
        self.done.most_steps = self.done.most_steps.max(round.steps.len());
        for step in &round.steps {
            self.begin(step);
        }
        self.pass(self.speeds.round);
        round.steps.len()
    }

    fn begin(&mut self, step: &Step) {
        self.assert_harmless(step);
        let before = self.cluster.group(step.group).cloned().expect("a known group");
        self.cluster.begin(step);
        self.ends.insert((self.now + self.speeds.change, step.group), ());
        self.changing.insert(step.group, Change { before, step: step.clone() });
    }

    /// Lets time pass: changes end, and copies arrive.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            let rates = self.rates();
            let left = self.copies.values().zip(&rates).map(|(copy, rate)| copy.left_bytes / rate);
            let arrival = left.fold(f64::INFINITY, f64::min).max(1e-6);
            let change = self.ends.keys().next().map_or(until, |(at, _)| *at);
            let mut next = until.min(change.max(self.now));
            if arrival < (next - self.now).as_secs_f64() {
                next = self.now + Duration::from_secs_f64(arrival) + Duration::from_nanos(1);
            }
            let passed = (next - self.now).as_secs_f64();
            for (copy, rate) in self.copies.values_mut().zip(&rates) {
                copy.left_bytes -= rate * passed;
            }
            self.now = next;
            self.end_changes();
            self.end_copies();
        }
    }

    /// How many bytes a second each copy gets: an even share of what its sender sends and of what
    /// its receiver receives, whichever is less.
    fn rates(&self) -> Vec<f64> {
        let (mut sending, mut receiving) = (FxHashMap::default(), FxHashMap::default());
        for ((to, _), copy) in &self.copies {
            *sending.entry(copy.from).or_insert(0.0) += 1.0;
            *receiving.entry(*to).or_insert(0.0) += 1.0;
        }
        let rate = |((to, _), copy): (&(NodeId, GroupId), &Copy)| {
            self.speeds.bytes_per_s / f64::max(sending[&copy.from], receiving[to])
        };
        self.copies.iter().map(rate).collect()
    }

    fn end_copies(&mut self) {
        let arrived = self.copies.extract_if(.., |_, copy| copy.left_bytes <= 0.0);
        for (node, group) in arrived.map(|(at, _)| at).collect::<Vec<_>>() {
            self.done.copies += 1;
            self.alter(group, |facts| {
                let learner = facts.replicas.iter_mut().find(|replica| replica.node == node);
                if let Some(learner) = learner {
                    learner.condition = Condition::CaughtUp;
                }
            });
            let bytes = self.cluster.group(group).map_or(0, |facts| facts.bytes);
            self.done.copied_bytes += bytes;
        }
    }

    fn end_changes(&mut self) {
        while let Some((&(at, group), ())) = self.ends.first_key_value() {
            if at > self.now {
                return;
            }
            self.ends.pop_first();
            let Change { mut before, step } = self.changing.remove(&group).expect("it was begun");
            let leader = before.leader.filter(|leader| self.is_alive(*leader));
            if let Some(leader) = leader {
                before.foresee(&step.act);
                before.configuration = LogId::new(before.configuration.term, self.entry());
                match step.act {
                    Act::AddLearner(to) if self.is_alive(to) => {
                        let left_bytes = before.bytes as f64;
                        self.copies.insert((to, group), Copy { from: leader, left_bytes });
                    }
                    Act::Remove(node) => drop(self.copies.remove(&(node, group))),
                    _ => {}
                }
            }
            before.is_changing = false;
            self.cluster.set_group(group, before);
            self.elect(group);
        }
    }

    fn entry(&mut self) -> logboat::Index {
        self.next_entry += 1;
        logboat::Index(self.next_entry)
    }

    fn set_heard(&mut self, node: NodeId, heard: Heard) {
        let facts = self.cluster.node(node).cloned().expect("a node of the cluster");
        self.cluster.set_node(node, NodeFacts { heard, ..facts });
    }

    /// Changes what is true of a group, also while a step is being carried out.
    fn alter(&mut self, group: GroupId, change: impl Fn(&mut GroupFacts)) {
        if let Some(it) = self.changing.get_mut(&group) {
            change(&mut it.before);
        }
        if let Some(mut facts) = self.cluster.group(group).cloned() {
            change(&mut facts);
            self.cluster.set_group(group, facts);
        }
    }

    fn elect_on(&mut self, node: NodeId) {
        let Some(groups) = self.cluster.on_node(node) else { return };
        let groups: Vec<_> = groups.holds.iter().copied().collect();
        groups.into_iter().for_each(|group| self.elect(group));
    }

    /// Gives a group a leader that can lead, if it has a majority, and goes on with its copies.
    fn elect(&mut self, group: GroupId) {
        let changing = self.changing.get(&group).map(|it| &it.before);
        let Some(facts) = changing.or(self.cluster.group(group)).cloned() else { return };
        let facts = &facts;
        let can_lead = |node: &NodeId| self.is_live(facts, *node);
        // Which of the others takes over differs from group to group.
        let voters: Vec<_> = facts.voters().collect();
        let others = voters.iter().cycle().skip((group.0 % 7) as usize).take(voters.len());
        let mut candidates = facts.preferred.into_iter().chain(others.copied());
        let has_majority = self.has_majority(facts);
        let kept = facts.leader.filter(|leader| has_majority && can_lead(leader));
        let leader = kept.or_else(|| candidates.find(can_lead).filter(|_| has_majority));
        if leader != facts.leader {
            self.alter(group, |facts| facts.leader = leader);
        }
        let Some(from) = leader else { return };
        let facts = self.cluster.group(group).expect("it was there").clone();
        for replica in &facts.replicas {
            let is_copied = replica.role == MemberRole::Learner
                && replica.condition == Condition::Behind
                && self.is_alive(replica.node)
                && !self.changing.contains_key(&group);
            if is_copied {
                let left_bytes = facts.bytes as f64;
                let copy = || Copy { from, left_bytes };
                self.copies.entry((replica.node, group)).or_insert_with(copy);
            }
        }
    }

    fn is_live(&self, facts: &GroupFacts, node: NodeId) -> bool {
        let is_sound = |it: &Replica| it.condition != Condition::Damaged;
        facts.replica(node).is_some_and(is_sound) && self.is_alive(node)
    }

    fn live_voters(&self, facts: &GroupFacts) -> usize {
        facts.voters().filter(|node| self.is_live(facts, *node)).count()
    }

    /// Asserts that a step does no harm to its group.
    ///
    /// # Panics
    /// When it does.
    fn assert_harmless(&self, step: &Step) {
        let before = self.cluster.group(step.group).expect("a step is for a known group");
        assert!(!self.changing.contains_key(&step.group), "{step}: a change is under way");
        let mut after = before.clone();
        after.foresee(&step.act);
        let [live_before, live_after] = [before, &after].map(|facts| self.live_voters(facts));
        let [all_before, all_after] = [before, &after].map(|facts| facts.voters().count());
        assert!(live_before > all_before / 2, "{step}: nobody could carry it out: {before:?}");
        assert!(live_after > all_after / 2, "{step}: no majority is left: {before:?}");
        let wanted = self.cluster.settings.replicas.min(self.cluster.nodes_that_count());
        assert!(live_after >= live_before.min(wanted), "{step}: fewer live voters: {before:?}");
        let is_dead = |node: &NodeId| {
            let facts = self.cluster.node(*node);
            let is_lost = facts.is_some_and(|facts| facts.state == NodeState::Lost);
            let replica = before.replica(*node);
            is_lost || replica.is_some_and(|it| it.condition == Condition::Damaged)
        };
        let gone = before.voters().filter(|node| !after.voters().any(|it| it == *node));
        if gone.into_iter().any(|node| self.is_live(before, node)) {
            assert!(
                !after.voters().any(|it| is_dead(&it)),
                "{step}: a dead voter stays: {before:?}"
            );
        }
        match step.act {
            Act::Remove(node) => {
                let role = before.replica(node).map(|replica| replica.role);
                assert_eq!(role, Some(MemberRole::Learner), "{step}: {before:?}");
            }
            Act::AddLearner(node) => {
                let facts = self.cluster.node(node).expect("a node of the cluster");
                assert!(facts.state == NodeState::Up && facts.heard == Heard::Now, "{step}");
            }
            Act::Transfer { to, .. } => assert!(self.is_live(before, to), "{step}: {before:?}"),
            Act::Voters { .. } => {
                let leader = before.leader.expect("it was checked");
                assert!(after.voters().any(|node| node == leader), "{step}: {before:?}");
            }
        }
    }

    /// Whether every group has what it needs.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let needs = Need::ACTIONABLE.into_iter().chain([Need::Copying, Need::Changing]);
        needs.map(|need| self.cluster.count_needing(need)).sum::<usize>() == 0
    }
}
