//! The five properties of Raft (paper, figure 3) over all replicas, and what Logboat adds: nothing
//! leaves a node that rests on what its disk does not hold, and commands are applied once.

mod acquaintances;
mod bonds;
mod disk;
mod elections;
mod group;
mod keys;
mod members;
mod messages;
mod recovery;
mod search;
mod support;

use super::key_machine::KeyEvent;
use super::model::ReplicaModel;
use super::options::Plan;
use acquaintances::Acquaintances;
use bonds::{Bonds, Counted};
use elections::Elections;
use keys::KeyBook;
use logboat_raft::{BootCount, Configuration, Grant, Index, LogId, NodeId, Raft, RoleKind, Term};
use members::Members;
use search::Search;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Everything that is known of the groups. Each method panics with a sentence when a property is
/// violated.
#[derive(Debug, Default)]
pub(super) struct Checks {
    groups: Vec<GroupChecks>,
    /// What nodes promised to peers, durably.
    grants: HashMap<(NodeId, NodeId), Grant>,
    /// What nodes know of each other.
    acquaintances: Acquaintances,
    /// The boots that nodes are in.
    boots: HashMap<NodeId, BootCount>,
    /// The nodes that have left an elastic cluster, or were lost and are replaced.
    pub(super) left: BTreeSet<NodeId>,
    /// How many conditions were looked at.
    pub(super) steps: u64,
    /// The moment, in microseconds.
    pub(super) now_us: u64,
}

#[derive(Debug)]
struct GroupChecks {
    /// The nodes that hold a replica.
    hosts: Vec<usize>,
    members: Members,
    leaders: BTreeMap<Term, usize>,
    /// The latest term in which anybody campaigned, or that follows one in which a replica
    /// resigned.
    entered: Term,
    /// Checksum, and term of the entry before, of every entry ever seen, by index and term. What
    /// two logs have in common is equal up to there if each entry names the same one before it.
    entries: HashMap<LogId, (u32, Term)>,
    /// Term and checksum of what a leader called committed, from index 1 on.
    committed: Vec<(Term, u32)>,
    /// Operation and checksum of what state machines were given.
    applied: Vec<(u64, u32)>,
    /// Where each operation was applied.
    operations: HashMap<u64, u64>,
    /// The operations that have to stand right behind others.
    follow: HashMap<u64, u64>,
    /// The checksum of the state after an entry, of which a snapshot was made.
    states: HashMap<LogId, u32>,
    /// What is known of its keys, if it has a store of keys.
    keys: Option<KeyBook>,
    replicas: Vec<Replica>,
    bonds: Bonds,
    elections: Elections,
}

#[derive(Debug, Default)]
struct Replica {
    model: ReplicaModel,
    commit: Index,
    /// The term in which it leads.
    leads: Option<Term>,
    /// The followers that it counts on then.
    counted: Vec<Counted>,
    search: Search,
}

impl Replica {
    fn new(plan: &Plan, group: usize, node: usize) -> Self {
        let model = ReplicaModel::new(plan.voters(group).contains(&node));
        Self { model, ..Self::default() }
    }
}

impl Checks {
    pub(super) fn new(plan: &Plan) -> Self {
        let group = |group| GroupChecks {
            hosts: plan.hosts(group),
            members: Members::new(plan.founding(group)),
            leaders: BTreeMap::new(),
            entered: Term(0),
            entries: HashMap::new(),
            committed: Vec::new(),
            applied: Vec::new(),
            operations: HashMap::new(),
            follow: HashMap::new(),
            states: HashMap::new(),
            keys: plan.keys.then(KeyBook::default),
            replicas: (0..plan.nodes).map(|node| Replica::new(plan, group, node)).collect(),
            bonds: Bonds::default(),
            elections: Elections::default(),
        };
        Self { groups: (0..plan.groups).map(group).collect(), ..Self::default() }
    }

    /// The nodes (by place) that belong to a group by what is committed.
    pub(super) fn members(&self, group: usize) -> Vec<usize> {
        let members = self.groups[group].members.committed().members().iter();
        members.map(|member| place_of(member.node)).collect()
    }

    /// The newest configuration of a group that is committed.
    pub(super) fn configuration(&self, group: usize) -> Arc<Configuration> {
        Arc::clone(self.groups[group].members.committed())
    }

    /// The configuration of a group that an entry holds, if any replica has had it.
    pub(super) fn configuration_of(&self, group: usize, id: LogId) -> Option<Arc<Configuration>> {
        self.groups[group].members.known(id).cloned()
    }

    /// Whether these nodes (by place) are majorities of what is committed and of whatever is in
    /// force at a replica of them. Then they can elect a leader.
    pub(super) fn has_majority(&self, group: usize, lives: impl Fn(usize) -> bool) -> bool {
        let GroupChecks { members, replicas, .. } = &self.groups[group];
        let committed = members.committed();
        let in_force = replicas.iter().enumerate().filter(|(place, _)| lives(*place));
        let in_force = in_force.filter_map(|(_, replica)| {
            let view = &replica.model.view;
            let newest = view.configuration_at(view.last().index)?;
            (newest.id().index >= committed.id().index).then_some(newest)
        });
        in_force.chain([committed]).all(|it| it.is_quorum(|node| lives(place_of(node))))
    }

    /// A term is entered that a node has named.
    pub(super) fn entered(&mut self, group: usize, term: Term) {
        let entered = &mut self.groups[group].entered;
        *entered = term.max(*entered);
    }

    /// A replica has run. It may have to be halted yet, since the log of its node has failed and
    /// takes nothing any more, or its log waits for the state machine.
    pub(super) fn after_run(
        &mut self,
        node: usize,
        number: usize,
        raft: &Raft,
        log_is_behind: bool,
    ) {
        self.steps += 1;
        raft.invariants();
        let group = &mut self.groups[number];
        let view = &group.replicas[node].model.view;
        let is_written = raft.last() == view.last() || log_is_behind;
        assert!(is_written, "the log in memory is what was written");
        let in_force = view.configuration_at(view.last().index);
        assert!(
            log_is_behind || in_force.is_none_or(|it| it == raft.configuration()),
            "{:?} is in force, and {in_force:?} is the newest in the log",
            raft.configuration()
        );
        let term = raft.term();
        assert!(term <= group.entered, "term {term} was entered, and nobody campaigned in it");
        let leads = raft.role() == RoleKind::Leader;
        if leads {
            let leader = *group.leaders.entry(term).or_insert(node);
            assert_eq!(leader, node, "election safety: two leaders of group {number} in {term}");
            if group.replicas[node].leads != Some(term) {
                assert!(
                    !self.left.contains(&node_id(node)),
                    "node {} leads, and has left",
                    node + 1
                );
                group.leader_completeness(node, term);
                group.is_elected(node, raft);
            }
        }
        let peers = raft.status().peers;
        // Without a log, a leader's snapshot may be taken over by the core alone.
        let most = if log_is_behind { view.last().index } else { raft.commit() };
        let commit = raft.commit().min(most);
        let led = group.replicas[node].leads;
        group.commits(node, [led, leads.then_some(term)], commit, self.now_us);
        let replica = &mut group.replicas[node];
        replica.leads = leads.then_some(term);
        replica.commit = commit;
        replica.counted = peers.iter().filter_map(Counted::of).collect();
        if leads && group.newest_leader() == Some((term, node)) {
            for peer in &peers {
                group.follower_holds(node, peer.node, peer.matched);
            }
        }
        self.bonds_stand(number);
    }

    /// A replica has stopped for good, though its node goes on. As a leader it may have told others
    /// of what it called committed before, also if it led no more when it stopped.
    pub(super) fn failed(&mut self, node: usize, group: usize, raft: &Raft) {
        let group = &mut self.groups[group];
        let leads = (raft.role() == RoleKind::Leader).then_some(raft.term());
        let leads = [group.replicas[node].leads, leads];
        if leads != [None, None] {
            // It may have stopped while it took over the snapshot of another leader.
            let commit = raft.commit().min(group.replicas[node].model.view.last().index);
            group.commits(node, leads, commit, self.now_us);
        }
        let replica = &mut group.replicas[node];
        replica.leads = None;
        replica.counted.clear();
    }

    /// Whether the leader of a term has had another replica campaign, and that one knows.
    pub(super) fn handed_over(&self, group: usize, term: Term) -> bool {
        self.groups[group].bonds.handed_over(term)
    }

    /// These operations are proposed together: what is applied of them is so in this order, with
    /// nothing between.
    pub(super) fn proposed_together(&mut self, group: usize, operations: RangeInclusive<u64>) {
        let behind_the_first = operations.skip(1);
        self.groups[group].follow.extend(behind_the_first.map(|number| (number, number - 1)));
    }

    /// A state machine was given a command.
    pub(super) fn applied(&mut self, group: usize, place: u64, operation: u64, crc: u32) {
        let group = &mut self.groups[group];
        match group.applied.get(place as usize) {
            Some(known) => {
                assert_eq!(*known, (operation, crc), "state machine safety at command {place}");
            }
            None => {
                assert_eq!(place as usize, group.applied.len(), "commands are applied in order");
                group.applied.push((operation, crc));
                let first = group.operations.insert(operation, place);
                assert_eq!(first, None, "operation {operation} was applied twice");
                if let Some(before) = group.follow.get(&operation) {
                    let expected = group.operations.get(before).map(|place| place + 1);
                    assert_eq!(expected, Some(place), "{operation} does not follow {before}");
                }
            }
        }
    }

    /// A store of keys has done something.
    pub(super) fn keys_happened(&mut self, group: usize, event: KeyEvent) {
        let keys = self.groups[group].keys.as_mut().expect("the group has a store of keys");
        keys.happened(event, self.now_us);
    }

    /// A client was told that its write succeeded.
    pub(super) fn acknowledged(&self, group: usize, operation: u64) {
        assert!(
            self.groups[group].operations.contains_key(&operation),
            "operation {operation} was acknowledged and never applied"
        );
    }

    /// How many commands a state machine was given, the furthest one. They are committed, so a read
    /// that is asked for now must reflect them.
    pub(super) fn commands(&self, group: usize) -> u64 {
        self.groups[group].applied.len() as u64
    }

    /// The term of the newest entry that a leader called committed.
    pub(super) fn committed_term(&self, group: usize) -> Term {
        self.groups[group].committed.last().map_or(Term(0), |(term, _)| *term)
    }

    /// How many entries a leader called committed.
    pub(super) fn committed(&self, group: usize) -> u64 {
        self.groups[group].committed.len() as u64
    }
}

const fn node_id(place: usize) -> NodeId {
    NodeId(place as u64 + 1)
}

const fn place_of(node: NodeId) -> usize {
    node.0 as usize - 1
}
