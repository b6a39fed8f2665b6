//! What the driver knows, and what it wants next: no I/O and no clock.
//!
//! It is told of tables, of what nodes report and of how steps ended, each at a time that is
//! counted from any moment. It answers with changes of the table and with orders to the leaders of
//! groups.

use super::orders::{Ended, Order, next_of};
use crate::map::META_GROUP;
use crate::placement::{Act, Cluster, Condition, GroupFacts, Heard, NodeFacts, Replica, Settings};
use crate::placement::{Space, Step};
use crate::table::{Change as TableChange, Members, NodeState, Table, WantedMove};
use logboat::{Change, GroupId, MemberRole, NodeId, ReplicaId};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Copies of groups that a node receives and sends at a time, however large they are.
const COPIES: usize = 4;

/// When a group is helped again whose leader was to be another, or whose learner was behind.
const SHORT_PAUSE: Duration = Duration::from_millis(200);

/// When a group whose step failed is helped again.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// How long the nodes of a group that are heard again are waited for, until they say what their
/// replicas do, before the group is changed without.
const REPORT_PATIENCE: Duration = Duration::from_secs(10);

/// How long a node is not asked again to lead a group, or to take a copy of it, after it did not.
const DECLINED: Duration = Duration::from_secs(30);

/// How long a learner may get no further before another takes its place, and how many bytes a
/// second it is given for its copy besides.
const LEARNER_PATIENCE: Duration = Duration::from_secs(60);
const SLOWEST_COPY_BYTES_PER_S: u64 = 1 << 20;

/// What a node says of its replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// The groups that it leads, with how many bytes a copy of each takes.
    pub led: Vec<(GroupId, u64)>,
    /// The groups whose replica there has failed.
    pub failed: Vec<GroupId>,
    /// The groups that name a replica there which is gone, with the smallest id that one may have.
    pub gone: Vec<(GroupId, ReplicaId)>,
    /// Whether its disk takes no more.
    pub is_full: bool,
    /// The nodes that it reaches.
    pub reaches: BTreeSet<NodeId>,
}

/// How far a learner is, as its leader says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The group.
    pub group: GroupId,
    /// The learner's node.
    pub node: NodeId,
    /// Whether it could be promoted.
    pub is_ready: bool,
    /// The index of the last entry that it is known to hold.
    pub matched: u64,
}

/// A learner that is being looked after.
#[derive(Clone, Copy, Debug)]
struct Learner {
    id: ReplicaId,
    is_ready: bool,
    matched: u64,
    /// When it got further last.
    since: Duration,
    /// It gets no further.
    is_stuck: bool,
}

/// What becomes of a move that somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outlook {
    GoesOn,
    Waits,
    Ends,
}

/// See the module.
#[derive(Debug)]
pub struct Helm {
    cluster: Cluster,
    now: Duration,
    /// The nodes that are heard, and since when. What a node has said before that counts no more.
    heard_since: BTreeMap<NodeId, Duration>,
    /// Those among them that have said what their replicas do.
    reporters: BTreeSet<NodeId>,
    table: Arc<Table>,
    silent_since: BTreeMap<NodeId, Duration>,
    /// Who leads what, how large it is, and whose replicas have failed, as the nodes say.
    leaders: BTreeMap<GroupId, NodeId>,
    bytes: BTreeMap<GroupId, u64>,
    failed: BTreeSet<(NodeId, GroupId)>,
    /// The smallest ids of replicas that are there, where the table names smaller ones.
    floors: BTreeMap<(NodeId, GroupId), ReplicaId>,
    full: BTreeSet<NodeId>,
    /// Whom each node reaches, as it says.
    reaches: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// Whether a node is not reached from here.
    misses_nodes: bool,
    learners: BTreeMap<(GroupId, NodeId), Learner>,
    /// Who is not asked again until then.
    declined: BTreeMap<(GroupId, NodeId), Duration>,
    /// The groups with a step under way.
    busy: BTreeSet<GroupId>,
    /// The groups that nothing is tried with until then.
    pausing: BTreeMap<GroupId, Duration>,
    /// The groups of which placement has to be told anew.
    changed: BTreeSet<GroupId>,
    /// Whether the last look found groups that wait for their turn to be copied.
    is_paced: bool,
}

impl Default for Helm {
    fn default() -> Self {
        Self::new()
    }
}

impl Helm {
    /// One that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cluster: Cluster::new(Settings::default()),
            now: Duration::ZERO,
            heard_since: BTreeMap::new(),
            reporters: BTreeSet::new(),
            table: Arc::default(),
            silent_since: BTreeMap::new(),
            leaders: BTreeMap::new(),
            bytes: BTreeMap::new(),
            failed: BTreeSet::new(),
            floors: BTreeMap::new(),
            full: BTreeSet::new(),
            reaches: BTreeMap::new(),
            misses_nodes: false,
            learners: BTreeMap::new(),
            declined: BTreeMap::new(),
            busy: BTreeSet::new(),
            pausing: BTreeMap::new(),
            changed: BTreeSet::new(),
            is_paced: false,
        }
    }

    /// Whether nothing is under way, and all nodes are reached.
    pub fn is_idle(&self) -> bool {
        let rests = self.busy.is_empty() && self.pausing.is_empty() && self.learners.is_empty();
        rests && !self.misses_nodes
    }

    /// Whether groups wait for their turn to be copied.
    pub const fn is_paced(&self) -> bool {
        self.is_paced
    }

    /// When the first pause ends.
    pub fn next_pause_end(&self) -> Option<Duration> {
        self.pausing.values().min().copied()
    }

    /// Takes what a node says of its replicas.
    pub fn reported(&mut self, node: NodeId, report: Reported) {
        let before: Vec<_> = self.leaders.iter().filter(|(_, leader)| **leader == node).collect();
        let before: BTreeSet<_> = before.into_iter().map(|(group, _)| *group).collect();
        for (group, bytes) in &report.led {
            if self.leaders.insert(*group, node) != Some(node) {
                self.changed.insert(*group);
            }
            // What is roughly as large as it was need not be told.
            let known = self.bytes.entry(*group).or_default();
            if known.abs_diff(*bytes) > *known / 8 {
                *known = *bytes;
                self.changed.insert(*group);
            }
        }
        let led: BTreeSet<_> = report.led.iter().map(|(group, _)| *group).collect();
        for group in before.difference(&led) {
            self.leaders.remove(group);
            self.changed.insert(*group);
        }
        let failed: BTreeSet<_> = report.failed.iter().map(|group| (node, *group)).collect();
        let known: BTreeSet<_> =
            self.failed.iter().filter(|(of, _)| *of == node).copied().collect();
        for (_, group) in known.symmetric_difference(&failed) {
            self.changed.insert(*group);
        }
        self.failed.retain(|(of, _)| *of != node);
        self.failed.extend(failed);
        self.reporters.insert(node);
        self.floors.retain(|(of, _), _| *of != node);
        for (group, floor) in report.gone {
            self.floors.insert((node, group), floor);
            self.changed.insert(group);
        }
        self.reaches.insert(node, report.reaches);
        match report.is_full {
            true => _ = self.full.insert(node),
            false => _ = self.full.remove(&node),
        }
    }

    /// The learners whose leaders are to be asked how far they are, by leader.
    pub fn learners_to_ask(&self) -> BTreeMap<NodeId, Vec<(GroupId, NodeId)>> {
        let mut asked: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for ((group, node), learner) in &self.learners {
            if let Some(leader) = self.leaders.get(group)
                && !learner.is_ready
            {
                asked.entry(*leader).or_default().push((*group, *node));
            }
        }
        asked
    }

    /// Takes how far a learner is.
    pub fn progressed(&mut self, progress: Progress) {
        let Progress { group, node, is_ready, matched } = progress;
        let bytes = self.bytes.get(&group).copied().unwrap_or_default();
        let Some(learner) = self.learners.get_mut(&(group, node)) else { return };
        // A move that somebody wants waits for the disk of the other node.
        let is_to = |wanted: WantedMove| wanted.to == node;
        let waits = self.full.contains(&node) && self.table.wanted_move(group).is_some_and(is_to);
        if matched > learner.matched || is_ready || waits {
            (learner.matched, learner.since) = (matched, self.now);
        }
        let patience = LEARNER_PATIENCE + Duration::from_secs(bytes / SLOWEST_COPY_BYTES_PER_S);
        let is_stuck = self.now.saturating_sub(learner.since) > patience;
        if is_ready != learner.is_ready || is_stuck != learner.is_stuck {
            (learner.is_ready, learner.is_stuck) = (is_ready, is_stuck);
            self.changed.insert(group);
        }
        if is_stuck {
            self.declined.insert((group, node), self.now + DECLINED);
        }
    }

    /// Takes the newest table, and which nodes are reached.
    pub fn learn(
        &mut self,
        now: Duration,
        table: &Arc<Table>,
        is_reached: impl Fn(NodeId) -> bool,
    ) {
        self.now = now;
        let before = std::mem::replace(&mut self.table, Arc::clone(table));
        if before.version() == 0 || before.settings() != table.settings() {
            self.cluster.set_settings(settings_of(table));
        }
        self.cluster.set_now(now);
        let known: Vec<_> = before.nodes().map(|(node, _)| node).collect();
        for node in known.into_iter().filter(|node| table.node(*node).is_none()) {
            self.silent_since.remove(&node);
            self.heard_since.remove(&node);
            self.reporters.remove(&node);
            self.full.remove(&node);
            self.cluster.remove_node(node);
        }
        self.learn_nodes(table, is_reached);
        if !Arc::ptr_eq(&before, table) {
            let ranges = table.ranges().changed_since(before.ranges());
            self.changed.extend(ranges.map(|range| range.group));
            let moves = before.wanted_moves().chain(table.wanted_moves());
            self.changed.extend(moves.map(|(group, _)| group));
            self.changed.insert(META_GROUP);
        }
        let ended = self.pausing.extract_if(.., |_, until| *until <= now);
        self.changed.extend(ended.map(|(group, _)| group));
        let ended = self.declined.extract_if(.., |_, until| *until <= now);
        self.changed.extend(ended.map(|((group, _), _)| group));
        for group in std::mem::take(&mut self.changed) {
            if !self.busy.contains(&group)
                && let Some(members) = table.members(group)
            {
                self.learn_group(group, members);
            }
        }
    }

    fn learn_nodes(&mut self, table: &Table, is_reached: impl Fn(NodeId) -> bool) {
        // What a node said that is not reached any more counts no longer.
        self.reaches.retain(|node, _| is_reached(*node));
        self.misses_nodes = table.nodes().any(|(node, _)| !is_reached(node));
        for (node, record) in table.nodes() {
            // A link that is broken here alone is no reason to give a node up.
            let is_heard = is_reached(node) || self.reaches.values().any(|it| it.contains(&node));
            let heard = if is_heard {
                self.silent_since.remove(&node);
                self.heard_since.entry(node).or_insert(self.now);
                Heard::Now
            } else {
                self.heard_since.remove(&node);
                self.reporters.remove(&node);
                Heard::SilentSince(*self.silent_since.entry(node).or_insert(self.now))
            };
            let full = Space { used_bytes: 1, capacity_bytes: 1 };
            let space = self.full.contains(&node).then_some(full);
            let state = record.state;
            let facts = NodeFacts { heard, state, space, ..NodeFacts::up(&record.card.zone) };
            let before = self.cluster.node(node);
            if before == Some(&facts) {
                continue;
            }
            if before.is_none_or(|before| before.heard != facts.heard || before.state != state) {
                self.changed.insert(META_GROUP);
                // Whether a copy is on its way there is seen anew.
                let learning = self.learners.keys().filter(|(_, learner)| *learner == node);
                self.changed.extend(learning.map(|(group, _)| *group));
            }
            self.cluster.set_node(node, facts);
        }
    }

    fn learn_group(&mut self, group: GroupId, members: &Members) {
        let is_stale = |known: &GroupFacts| known.configuration > members.entry;
        if self.cluster.group(group).is_some_and(is_stale) {
            return;
        }
        self.follow_learners(group, members);
        let replica = |role| move |node: &NodeId| (*node, role);
        let voters = members.voters.iter().map(replica(MemberRole::Voter));
        let learners = members.learners.iter().map(replica(MemberRole::Learner));
        let mut replicas: SmallVec<[Replica; 4]> = voters
            .chain(learners)
            .map(|(node, role)| {
                let id = members.replica(node);
                Replica { node, id, role, condition: self.condition(group, node, id, role) }
            })
            .collect();
        replicas.sort_unstable_by_key(|replica| replica.node);
        let declined = self.declined.range((group, NodeId(0))..=(group, NodeId(u64::MAX)));
        let facts = GroupFacts {
            configuration: members.entry,
            replicas,
            leader: self.leaders.get(&group).copied(),
            preferred: members.preferred(),
            bytes: self.bytes.get(&group).copied().unwrap_or_default(),
            is_changing: self.pausing.contains_key(&group)
                || self.table.wanted_move(group).is_some(),
            wanted: (group == META_GROUP).then(|| meta_voters(&self.table)),
            declined: declined.map(|((_, node), _)| *node).collect(),
        };
        if self.cluster.group(group) != Some(&facts) {
            self.cluster.set_group(group, facts);
        }
    }

    /// Looks after the learners of a group, and after no others.
    fn follow_learners(&mut self, group: GroupId, members: &Members) {
        let of_group = (group, NodeId(0))..=(group, NodeId(u64::MAX));
        let is_other = |(_, node): &(GroupId, NodeId), learner: &mut Learner| {
            !members.learners.contains(node) || members.replica(*node) != learner.id
        };
        self.learners.extract_if(of_group, is_other).for_each(drop);
        for node in &members.learners {
            let (id, since) = (members.replica(*node), self.now);
            let learner = Learner { id, is_ready: false, matched: 0, since, is_stuck: false };
            self.learners.entry((group, *node)).or_insert(learner);
        }
    }

    fn condition(
        &self,
        group: GroupId,
        node: NodeId,
        id: ReplicaId,
        role: MemberRole,
    ) -> Condition {
        let learner = self.learners.get(&(group, node)).filter(|_| role == MemberRole::Learner);
        let is_stuck = learner.is_some_and(|learner| learner.is_stuck);
        let is_behind = learner.is_some_and(|learner| !learner.is_ready);
        let is_gone = self.floors.get(&(node, group)).is_some_and(|floor| id < *floor);
        if is_stuck || is_gone || self.failed.contains(&(node, group)) {
            Condition::Damaged
        } else if is_behind && !self.silent_since.contains_key(&node) {
            Condition::Behind
        } else {
            Condition::CaughtUp
        }
    }

    /// What the table is to say: which nodes are lost, which have left, and which moves have ended.
    pub fn settlements(&self, is_given_up: impl Fn(NodeId) -> bool) -> Vec<(TableChange, String)> {
        let lost: Vec<_> = self.cluster.lost().collect();
        let emptied: Vec<_> = self.cluster.emptied().collect();
        let nodes = self.table.nodes().filter_map(|(node, record)| {
            let based_on = record.changed;
            let given_up = is_given_up(node);
            if record.state != NodeState::Lost && (given_up || lost.contains(&node)) {
                let change = TableChange::SetState { node, based_on, state: NodeState::Lost };
                let why = match given_up {
                    true => "a recovery has given it up",
                    false => "it has been silent for too long",
                };
                return Some((change, why.to_owned()));
            }
            let goes = matches!(record.state, NodeState::Leaving | NodeState::Lost);
            let forget = TableChange::Forget { node, based_on };
            (goes && emptied.contains(&node))
                .then(|| (forget, "it holds nothing any more".to_owned()))
        });
        let moves = self.table.wanted_moves().filter_map(|(group, wanted)| {
            let members = self.table.members(group)?;
            let what = match next_of(wanted, members) {
                None => "is done",
                Some(_) if self.outlook(group, wanted) != Outlook::Ends => return None,
                Some(_) => "ends, since the other node does not take it any more",
            };
            let why = format!("the move to node {} {what}", wanted.to);
            Some((TableChange::EndMove { group }, why))
        });
        nodes.chain(moves).collect()
    }

    /// Whether a move that somebody wants can go on: the other node takes replicas, and the one of
    /// this group there is whole. A disk that is full may have room again.
    fn outlook(&self, group: GroupId, wanted: WantedMove) -> Outlook {
        let to = wanted.to;
        let is_up = self.table.node(to).is_some_and(|record| record.state == NodeState::Up);
        let is_stuck = self.learners.get(&(group, to)).is_some_and(|learner| learner.is_stuck);
        if !is_up || is_stuck || self.failed.contains(&(to, group)) {
            Outlook::Ends
        } else if self.full.contains(&to) {
            Outlook::Waits
        } else {
            Outlook::GoesOn
        }
    }

    /// What is to be done next with groups. They are busy until it is told how that ended.
    pub fn orders(&mut self) -> Vec<Order> {
        let mut orders = self.moves();
        if self.table.settings().lost_after.is_some() && !self.awaits_record() {
            orders.extend(self.placed());
        }
        orders
    }

    /// The next steps of the moves that somebody wants.
    fn moves(&mut self) -> Vec<Order> {
        let table = Arc::clone(&self.table);
        let mut orders = Vec::new();
        for (group, wanted) in table.wanted_moves() {
            let Some(members) = table.members(group) else { continue };
            let rests = !self.busy.contains(&group) && !self.pausing.contains_key(&group);
            if !rests || self.outlook(group, wanted) != Outlook::GoesOn {
                continue;
            }
            let Some(changes) = next_of(wanted, members) else { continue };
            let promotes = matches!(changes[..], [Change::Promote(_), ..]);
            let learner = self.learners.get(&(group, wanted.to));
            if promotes && learner.is_none_or(|learner| !learner.is_ready) {
                continue;
            }
            let why = format!("the move from node {} to node {}", wanted.from, wanted.to);
            let order = Order { group, from: members.entry, changes, successor: None, why };
            orders.extend(self.begin(order));
        }
        orders
    }

    /// Whether a node is lost of which the table does not say so yet. It may be back before that,
    /// or another driver may know it to be there, and no group may be changed for it till then.
    fn awaits_record(&self) -> bool {
        let is_recorded = |node| {
            let record = self.table.node(node);
            record.is_none_or(|record| record.state == NodeState::Lost)
        };
        !self.cluster.lost().all(is_recorded)
    }

    /// The steps that placement asks for.
    fn placed(&mut self) -> Vec<Order> {
        let round = self.cluster.steps();
        self.is_paced = round.paced > 0;
        let mut orders = Vec::new();
        for step in round.steps {
            // What has failed there has to be removed first.
            let meets_remains = matches!(step.act, Act::AddLearner(node)
                if self.failed.contains(&(node, step.group)));
            if self.busy.contains(&step.group)
                || meets_remains
                || self.cluster.check(&step).is_err()
            {
                continue;
            }
            let changes = self.cluster.changes(&step);
            self.cluster.begin(&step);
            let successor = match step.act {
                Act::Transfer { to, .. } => Some(to),
                _ => None,
            };
            let Step { group, configuration: from, why, .. } = step;
            let why = why.to_string();
            orders.extend(self.begin(Order { group, from, changes, successor, why }));
        }
        orders
    }

    /// Has an order carried out, if somebody leads the group.
    fn begin(&mut self, order: Order) -> Option<Order> {
        let group = order.group;
        if self.awaits_reports(group) {
            self.pause(group, SHORT_PAUSE);
            return None;
        }
        if self.leaders.contains_key(&group) {
            self.busy.insert(group);
            return Some(order);
        }
        self.pause(group, FAILURE_PAUSE);
        None
    }

    /// Whether a node that is heard has not said yet whether its voter of the group has failed. A
    /// live voter might be demoted in the place of that one. A node may have failed replicas
    /// whenever it is heard again.
    fn awaits_reports(&self, group: GroupId) -> bool {
        let is_recent = |since: &Duration| self.now.saturating_sub(*since) < REPORT_PATIENCE;
        let is_awaited = |node: &NodeId| {
            !self.reporters.contains(node) && self.heard_since.get(node).is_some_and(is_recent)
        };
        self.table.members(group).is_some_and(|members| members.voters.iter().any(is_awaited))
    }

    /// Who leads a group.
    pub fn leader_of(&self, group: GroupId) -> Option<NodeId> {
        self.leaders.get(&group).copied()
    }

    /// An order has ended.
    pub fn ended(&mut self, now: Duration, group: GroupId, ended: Ended) {
        self.now = now;
        self.busy.remove(&group);
        self.changed.insert(group);
        let (members, pause) = match ended {
            Ended::Changed(members) => (Some(members), None),
            Ended::Transferred { members, to } => {
                self.leaders.insert(group, to);
                (Some(members), None)
            }
            Ended::NotTaken { members, to } => {
                self.declined.insert((group, to), now + DECLINED);
                (Some(members), None)
            }
            Ended::LedBy(leader) => {
                self.leaders.insert(group, leader);
                (None, Some(SHORT_PAUSE))
            }
            Ended::Behind(node) => {
                if let Some(learner) = self.learners.get_mut(&(group, node)) {
                    learner.is_ready = false;
                }
                (None, Some(SHORT_PAUSE))
            }
            Ended::Stale => (None, Some(SHORT_PAUSE)),
            Ended::Failed => {
                self.leaders.remove(&group);
                (None, Some(FAILURE_PAUSE))
            }
        };
        if let Some(pause) = pause {
            self.pause(group, pause);
        }
        if let Some(members) = members {
            self.learn_group(group, &members);
        }
    }

    fn pause(&mut self, group: GroupId, pause: Duration) {
        self.pausing.insert(group, self.now + pause);
        self.changed.insert(group);
    }
}

/// What placement goes by.
fn settings_of(table: &Table) -> Settings {
    let settings = table.settings();
    Settings {
        replicas: table.replicas(),
        lost_after: settings.lost_after.unwrap_or(Duration::MAX),
        copies_in: COPIES,
        copies_out: COPIES,
        copy_bytes_per_s: settings.move_mib_per_s << 20,
        ..Settings::default()
    }
}

/// How many voters the meta group is to have: five or three, as many as there are nodes that stay
/// if these are fewer, but not because of nodes that can't leave anyway.
fn meta_voters(table: &Table) -> usize {
    let stays = |state: NodeState| matches!(state, NodeState::Up | NodeState::Joining);
    let staying = table.nodes().filter(|(_, record)| stays(record.state)).count();
    match staying {
        5.. => 5,
        3.. => 3,
        _ if staying < table.replicas() => 3,
        _ => staying.max(1),
    }
}

#[cfg(test)]
mod tests;
