//! What must hold of an elastic cluster, by rules of its own: of every step that a driver begins,
//! of every change of members that is committed, and when the faults have ended.

use super::{Elastic, group_of};
use crate::sim::host::Host;
use crate::sim::process::group_id;
use crate::sim::scene::Scene;
use logboat_raft::{Change, Configuration, MemberRole, NodeId};
use logboat_router::internals::Order;
use logboat_router::{NodeState, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long a node has been down before a driver certainly knows it, and before all steps that were
/// thought of before are over as well, in microseconds.
const HEARD_US: u64 = 8_000_000;
const OVER_US: u64 = 60_000_000;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The newest members of each group (by place) that are committed, and not joint.
    members: BTreeMap<usize, Arc<Configuration>>,
    /// Since when nodes are down that will not be back soon, in microseconds.
    down: BTreeMap<NodeId, u64>,
    /// When nodes came back that had been down.
    came: BTreeMap<NodeId, u64>,
    /// Since when nodes count as lost by the table.
    lost: BTreeMap<NodeId, u64>,
}

impl Scene {
    /// A replica of a group (by place) has run: its members may be others.
    ///
    /// # Panics
    /// When a change has done harm.
    pub(in crate::sim) fn members_may_have_changed(&mut self, group: usize) {
        let after = self.checks.configuration(group);
        let known = self.elastic.oracle.members.get(&group);
        if after.is_joint() || known.is_some_and(|known| Arc::ptr_eq(known, &after)) {
            return;
        }
        let text = format_args!("group {} has {:?}", group + 1, after.members());
        self.trace.note(self.now, &[group as u64, after.id().index.0], text);
        if let Some(before) = self.elastic.oracle.members.insert(group, Arc::clone(&after)) {
            let voters = (voters(&before).collect(), voters(&after).collect());
            let since = self.now.saturating_sub(OVER_US);
            let is_lost = |node| self.elastic.oracle.lost.get(&node).is_some_and(|at| *at < since);
            self.elastic.is_harmless(group, voters, since, (is_lost, |_, at| at < since));
        }
    }

    /// A driver that knows this table begins an order for a group (by place). Whether it minds that
    /// a replica on a node was damaged at some moment is for `minds_damage` to say.
    ///
    /// # Panics
    /// When the step would do harm.
    pub(super) fn order_begins(
        &self,
        group: usize,
        order: &Order,
        table: &Table,
        minds_damage: impl Fn(NodeId, u64) -> bool,
    ) {
        let Some(members) = self.checks.configuration_of(group, order.from) else { return };
        let before: BTreeSet<_> = voters(&members).collect();
        let mut after = before.clone();
        for change in &order.changes {
            match change {
                Change::Promote(node) => _ = after.insert(*node),
                Change::Demote(node) => _ = after.remove(node),
                Change::AddLearner(_) | Change::Remove(_) | Change::Prefer(_) => {}
            }
        }
        let since = self.now.saturating_sub(HEARD_US);
        let is_lost = |node| table.node(node).is_some_and(|it| it.state == NodeState::Lost);
        self.elastic.is_harmless(group, (before, after), since, (is_lost, minds_damage));
    }

    /// A node knows this table.
    pub(super) fn note_table(&mut self, known: &Arc<Table>) {
        let Elastic { table, oracle, .. } = &mut self.elastic;
        if known.version() <= table.version() {
            return;
        }
        *table = Arc::clone(known);
        let lost = table.nodes().filter(|(_, record)| record.state == NodeState::Lost);
        for (node, _) in lost {
            oracle.lost.entry(node).or_insert(self.now);
        }
        let ids = (1..=self.plan.nodes as u64).map(NodeId);
        self.checks.left.extend(ids.filter(|node| table.has_left(*node)));
    }
}

impl Elastic {
    /// A node goes down, and will not be back soon.
    pub(super) fn went(&mut self, node: NodeId, now: u64) {
        self.oracle.down.insert(node, now);
    }

    /// It is there again.
    pub(super) fn came(&mut self, node: NodeId, now: u64) {
        self.oracle.down.remove(&node);
        self.oracle.came.insert(node, now);
    }

    /// Asserts that a change from some voters to others does no harm, by what has been so since a
    /// moment.
    fn is_harmless(
        &self,
        group: usize,
        (before, after): (BTreeSet<NodeId>, BTreeSet<NodeId>),
        since: u64,
        (is_lost, minds_damage): (impl Fn(NodeId) -> bool, impl Fn(NodeId, u64) -> bool),
    ) {
        let Oracle { down, came, lost, .. } = &self.oracle;
        let place = |node: &NodeId| node.0 as usize - 1;
        let damaged = |node: &NodeId| self.damaged.get(&(place(node), group_id(group)));
        // One that the cluster has given up may be there all the same: it stood still, or nobody
        // reached it. It counts as gone. What else is new may be known or not.
        let is_there = |node: &NodeId| !down.contains_key(node) && !lost.contains_key(node);
        let is_sound = |node: &&NodeId| is_there(node) && damaged(node).is_none();
        let is_old = |at: Option<&u64>| at.is_some_and(|at| *at < since);
        let is_spoilt = |node: &NodeId| damaged(node).is_some_and(|at| minds_damage(*node, *at));
        let may_live = |node: &&NodeId| !is_old(down.get(node)) && !is_spoilt(node);
        // One that was there lately may pass for one that is there.
        let was_there = |node: &NodeId| came.get(node).is_some_and(|at| *at >= since);
        let is_dead = |node: &NodeId| down.contains_key(node) && !was_there(node) && is_lost(*node);
        let counts = |state| !matches!(state, NodeState::Lost | NodeState::Joining);
        let nodes = self.table.nodes().filter(|(_, record)| counts(record.state)).count();
        let was = before.iter().filter(is_sound).count();
        let is = after.iter().filter(may_live).count();
        let group = group + 1;
        let wanted = nodes.min(super::FOUNDERS);
        assert!(
            is >= was.min(wanted),
            "group {group} would have {is} live voters, and had {was}: {before:?}, {after:?}"
        );
        let live_gone = before.difference(&after).find(is_sound);
        if let (Some(gone), Some(dead)) = (live_gone, after.iter().find(|node| is_dead(node))) {
            panic!("{gone} is to vote no more in group {group}, and {dead} is, which is lost");
        }
    }

    /// What is not as it should be in the end, for people to read. Nothing if all is.
    pub(in crate::sim) fn flaws(&self, hosts: &[Host], scene: &Scene) -> Vec<String> {
        let mut flaws = Vec::new();
        if !self.is_content() {
            flaws.push(format!("people wait for {:?}", self.wishes));
        }
        let waits = self.lacks_room();
        for (node, record) in self.table.nodes() {
            if !waits && !matches!(record.state, NodeState::Up | NodeState::Draining) {
                flaws.push(format!("node {node} is {}", record.state));
            }
        }
        let of_groups = (0..scene.plan.groups).filter_map(|group| {
            let flaw = self.flaw_of(group, hosts, scene)?;
            Some(format!("group {} {flaw}", group + 1))
        });
        flaws.extend(of_groups);
        flaws
    }

    /// Whether fewer nodes keep replicas than a group is to have. Then those that are to be
    /// emptied, and one that was given up and is there again, keep theirs until there are more: no
    /// group is to have fewer live voters than before.
    fn lacks_room(&self) -> bool {
        self.keeping() < super::FOUNDERS
    }

    /// How many nodes keep replicas.
    fn keeping(&self) -> usize {
        self.table.nodes().filter(|(_, record)| record.state == NodeState::Up).count()
    }

    fn flaw_of(&self, group: usize, hosts: &[Host], scene: &Scene) -> Option<String> {
        let members = scene.checks.configuration(group);
        let (keeps, waits) = (self.keeping(), self.lacks_room());
        let most = if scene.plan.is_meta(group) && keeps >= 5 { 5 } else { 3 };
        let wanted = keeps.min(most);
        if members.members().iter().any(|member| member.role != MemberRole::Voter) {
            return Some(format!("is changing: {:?}", members.members()));
        }
        let count = voters(&members).count();
        if count != wanted && !(waits && (wanted..=most).contains(&count)) {
            return Some(format!("has {count} voters, not {wanted}"));
        }
        let is_well = |node: &NodeId| {
            let record = self.table.node(*node);
            let place = node.0 as usize - 1;
            if self.damaged.contains_key(&(place, group_id(group))) {
                return false;
            }
            let host = &hosts[place];
            let may_keep = record.is_some_and(|it| waits || it.state == NodeState::Up);
            may_keep && host.process.is_some()
        };
        if let Some(node) = voters(&members).find(|node| !is_well(node)) {
            return Some(format!("has a voter on node {node}"));
        }
        let known = self.table.members(group_of(&scene.plan, group)).map(|known| known.entry);
        (known != Some(members.id())).then(|| format!("is known by {known:?}"))
    }
}

fn voters(members: &Configuration) -> impl Iterator<Item = NodeId> {
    let voters = members.members().iter().filter(|member| member.role.is_voter());
    voters.map(|member| member.node)
}
