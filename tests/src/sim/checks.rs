//! The five properties of Raft (paper, figure 3) over all replicas, and what Logboat adds: nothing
//! leaves a node that rests on what its disk does not hold, and commands are applied once.

mod acquaintances;
mod bonds;
mod members;
mod recovery;
mod search;

use super::disk::FoundSnapshot;
use super::machine::was_let_in;
use super::model::ReplicaModel;
use super::options::Plan;
use acquaintances::Acquaintances;
use bonds::{Bonds, Counted};
use logboat_raft::{
    BootCount, Configuration, EntryKind, Fortification, Grant, HardState, Index, LogId, LogWrite,
    Message, NodeId, Payload, Persist, Raft, ReplicaId, Restored, RoleKind, SnapshotMeta,
    SupportMessage, Term, WriteSeq,
};
use members::Members;
use search::Search;
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

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
    replicas: Vec<Replica>,
    bonds: Bonds,
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
            replicas: (0..plan.nodes).map(|_| Replica::default()).collect(),
            bonds: Bonds::default(),
        };
        Self { groups: (0..plan.groups).map(group).collect(), ..Self::default() }
    }

    /// The nodes (by place) that belong to a group by what is committed.
    pub(super) fn members(&self, group: usize) -> Vec<usize> {
        let members = self.groups[group].members.committed().members().iter();
        members.map(|member| place_of(member.node)).collect()
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

    /// A replica wants to write.
    pub(super) fn writing(&mut self, node: usize, group: usize, persist: &Persist) {
        let group = &mut self.groups[group];
        let view = &group.replicas[node].model.view;
        if let LogWrite::Append(entries) = &persist.log {
            let first = &entries[0];
            // One that was started again may have lost what it appended as a leader.
            let leads = group.replicas[node].leads == Some(first.term);
            assert!(
                first.index > view.last().index || !leads,
                "leader append-only: a leader of term {} replaces entry {}",
                first.term,
                first.index
            );
            for index in first.index.0..=view.last().index.0 {
                let replaced = view.entry(Index(index)).expect("it lies in the log");
                assert!(
                    group.committed.get(index as usize - 1) != Some(&replaced)
                        || Index(index) > group.replicas[node].commit,
                    "a committed entry is replaced"
                );
            }
            let mut before = view.term_at(first.index.prev()).expect("an append leaves no gap");
            for entry in entries {
                let known = group.entries.entry(entry.id()).or_insert((entry.checksum, before));
                assert_eq!(
                    *known,
                    (entry.checksum, before),
                    "log matching: two logs differ at or before {}",
                    entry.id()
                );
                before = entry.term;
                match entry.kind {
                    EntryKind::Configuration => {
                        let held = Configuration::decode(&entry.data);
                        group.members.appended(held.expect("it was encoded"));
                    }
                    EntryKind::Command => assert!(
                        was_let_in(&entry.data),
                        "the command of {} was not let in by its leader",
                        entry.id()
                    ),
                    EntryKind::Noop => {}
                }
            }
        }
        if let Some(hard_state) = &persist.hard_state
            && hard_state.vote.is_some_and(|vote| place_of(vote.node) == node)
        {
            group.entered = group.entered.max(hard_state.term);
        }
        if let LogWrite::Compact(meta) | LogWrite::Reset(meta) = &persist.log {
            let last = meta.last;
            let committed = group.committed.get(last.index.0 as usize - 1);
            assert_eq!(
                committed.map(|(term, _)| *term),
                Some(last.term),
                "a snapshot covers {last}, which is not what was committed there"
            );
            let kept = group.replicas[node].model.snapshot;
            assert!(last.index <= kept.index, "a log is cut to {last}, the snapshot to {kept}");
        }
        group.replicas[node].model.view.write(persist);
    }

    /// A write was handed to the log.
    pub(super) fn submitted(&mut self, node: usize, group: usize, persist: &Persist) {
        self.groups[group].replicas[node].model.submit(persist.clone());
    }

    /// All writes of a replica up to `seq` are durable. Returns whether one of them replaced the
    /// log by a snapshot.
    pub(super) fn durable(&mut self, node: usize, group: usize, seq: WriteSeq) -> bool {
        let written = self.groups[group].replicas[node].model.synced(seq);
        self.hard_states_changed(node, group, &written);
        written.iter().any(|(_, persist)| matches!(persist.log, LogWrite::Reset(_)))
    }

    /// The tombstone of a replica is durable.
    pub(super) fn buried(&mut self, node: usize, group: usize) {
        let written = self.groups[group].replicas[node].model.buried();
        self.hard_states_changed(node, group, &written);
    }

    /// A replica's state goes to a file, which a crash may find in place from now on.
    pub(super) fn snapshot_captured(
        &mut self,
        node: usize,
        group: usize,
        meta: &SnapshotMeta,
        content: &[u8],
    ) {
        self.groups[group].snapshot_is(meta, content);
        self.snapshot_received(node, group, meta.last);
    }

    /// A leader's snapshot is there, which a crash may find in place from now on.
    pub(super) fn snapshot_received(&mut self, node: usize, group: usize, last: LogId) {
        self.groups[group].replicas[node].model.snapshot_coming(last);
    }

    /// A snapshot is current and durable.
    pub(super) fn snapshot_durable(&mut self, node: usize, group: usize, last: LogId) {
        self.groups[group].replicas[node].model.snapshot_durable(last);
    }

    /// A restart found this snapshot.
    pub(super) fn snapshot_found(
        &mut self,
        node: usize,
        group: usize,
        found: Option<&FoundSnapshot>,
    ) {
        let group = &mut self.groups[group];
        if let Some((meta, content)) = found {
            group.snapshot_is(meta, content);
        }
        let last = found.map(|(meta, _)| meta.last).unwrap_or_default();
        group.replicas[node].model.snapshot_found(last);
    }

    /// A restart found this on the disk, after the node's [grants](Self::started).
    pub(super) fn recovered(
        &mut self,
        node: usize,
        group: usize,
        restored: &Restored,
        tombstone: Option<ReplicaId>,
    ) {
        let replica = &mut self.groups[group].replicas[node];
        let written = replica.model.recovered(restored, tombstone);
        replica.commit = Index(0);
        replica.leads = None;
        self.hard_states_changed(node, group, &written);
    }

    /// The log that a restart found and its snapshot, if there is one, became `agreed`.
    pub(super) fn reconciled(
        &self,
        node: usize,
        group: usize,
        snapshot: Option<&SnapshotMeta>,
        agreed: &Restored,
    ) {
        self.groups[group].replicas[node].model.reconciled(snapshot, agreed);
    }

    /// A replica has run. It may have to be halted yet, since the log of its node has failed and
    /// takes nothing any more.
    pub(super) fn after_run(
        &mut self,
        node: usize,
        number: usize,
        raft: &Raft,
        log_has_failed: bool,
    ) {
        self.steps += 1;
        raft.invariants();
        let group = &mut self.groups[number];
        let view = &group.replicas[node].model.view;
        let is_written = raft.last() == view.last() || log_has_failed;
        assert!(is_written, "the log in memory is what was written");
        let term = raft.term();
        assert!(term <= group.entered, "term {term} was entered, and nobody campaigned in it");
        let leads = raft.role() == RoleKind::Leader;
        if leads {
            let leader = *group.leaders.entry(term).or_insert(node);
            assert_eq!(leader, node, "election safety: two leaders of group {number} in {term}");
            if group.replicas[node].leads != Some(term) {
                group.leader_completeness(node, term);
            }
        }
        let peers = raft.status().peers;
        // Without a log, a leader's snapshot may be taken over by the core alone.
        let most = if log_has_failed { view.last().index } else { raft.commit() };
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

    /// A message arrived: what it promises must be on its sender's disk.
    pub(super) fn promised(
        &mut self,
        (from, to): (usize, usize),
        group: usize,
        message: &Message,
        (now_us, retransmit_us): (u64, u64),
    ) {
        self.is_supported((node_id(from), node_id(to)), message);
        let Some(group) = self.groups.get_mut(group) else { return };
        group.heard(from, to, message);
        let Replica { model, search, .. } = &mut group.replicas[from];
        if model.is_of_another(message) {
            return;
        }
        let (term, last) = model.survives();
        let vote = model.durable.hard_state.vote;
        let voted_for = vote.map(|vote| place_of(vote.node));
        let names_term = match &message.payload {
            Payload::PreVote { .. } => {
                let is_durable = term.next() >= message.term;
                assert!(is_durable, "a pre-vote of a term that is not durable");
                false
            }
            Payload::PreVoteReply { granted: true } => false,
            Payload::AppendEntries { .. } | Payload::Snapshot { .. } => false,
            Payload::Vote { .. } => {
                assert!(
                    term > message.term || voted_for == Some(from),
                    "a candidate asked for votes before its own was durable"
                );
                true
            }
            Payload::VoteReply { granted: true } => {
                assert!(
                    term > message.term || voted_for == Some(to),
                    "a vote was given before it was durable"
                );
                true
            }
            Payload::Appended { through, .. } => {
                assert!(
                    term > message.term || last >= *through,
                    "entries up to {through} were acknowledged before they were durable"
                );
                *search = Search::default();
                true
            }
            Payload::Rejected { .. } => {
                search.rejected(message.term, now_us, retransmit_us);
                true
            }
            Payload::PreVoteReply { granted: false }
            | Payload::VoteReply { granted: false }
            | Payload::Fortify { .. }
            | Payload::Fortified { epoch: None, .. }
            | Payload::ReadIndex { .. }
            | Payload::Gone { .. }
            | Payload::Resign { .. }
            | Payload::TimeoutNow => true,
            Payload::Resigned { .. } | Payload::Left | Payload::ReadIndexReply { .. } => false,
            Payload::Fortified { epoch: Some(epoch), .. } => {
                let leader = NodeId(to as u64 + 1);
                let (replica, term) = (message.to, message.term);
                let bond = Fortification { leader, replica, epoch: *epoch, term };
                assert!(
                    model.bonds.contains(&bond),
                    "{bond:?} was announced before it was durable"
                );
                true
            }
        };
        assert!(!names_term || term >= message.term, "a message of a term that is not durable");
    }

    /// A node starts, with these grants on its disk.
    pub(super) fn started(
        &mut self,
        node: usize,
        boot: BootCount,
        grants: &BTreeMap<NodeId, Grant>,
    ) {
        self.boots.insert(node_id(node), boot);
        self.finds_grants(node, grants);
        for (peer, grant) in grants {
            // What the disk kept of a batch that nobody knew to be durable counts from now on.
            self.granted(node, *peer, *grant);
        }
    }

    /// A promise to a peer is durable. (What a node notes of itself is none.)
    pub(super) fn granted(&mut self, node: usize, peer: NodeId, grant: Grant) {
        let own = node_id(node);
        if peer == own {
            return;
        }
        let known = self.grants.get(&(own, peer)).copied().unwrap_or_default();
        assert!(
            grant.epoch > known.epoch
                || (grant.epoch == known.epoch && (known.live || !grant.live)),
            "support was given again at an epoch: {known:?}, then {grant:?}"
        );
        self.grants.insert((own, peer), grant);
        if known.live && (grant.epoch, grant.live) != (known.epoch, true) {
            for group in &mut self.groups {
                let bond = group.replicas[node].model.durable.hard_state.fortified;
                if bond.is_some_and(|bond| (bond.leader, bond.epoch) == (peer, known.epoch)) {
                    group.bonds.ended(own, peer, self.now_us);
                }
            }
        }
    }

    /// A read was served that came at the moment `since`, and that none but one of these `leaders`
    /// can have confirmed. Whoever did, a majority stood by that one then or later: its own replica
    /// and the followers with bonds. So nobody had been elected in its place when the read came.
    pub(super) fn read_served(&self, group: usize, leaders: &[NodeId], since: u64) {
        let is_safe = |leader: &NodeId| {
            let stood = |node| node == *leader || self.stood_by(group, node, *leader, since);
            self.groups[group].members.had_quorum(since, stood)
        };
        assert!(
            leaders.iter().any(is_safe),
            "a read was served, and no majority has stood by any of {leaders:?} since it came"
        );
    }

    /// Whether the bond of a follower with a leader stands on disk, or did so after `since`.
    fn stood_by(&self, group: usize, follower: NodeId, leader: NodeId, since: u64) -> bool {
        let GroupChecks { bonds, replicas, .. } = &self.groups[group];
        let grant = self.grants.get(&(follower, leader)).copied().unwrap_or_default();
        let bond = replicas[place_of(follower)].model.durable.hard_state.fortified;
        let stands = |bond: Fortification| (bond.leader, bond.epoch) == (leader, grant.epoch);
        (grant.live && bond.is_some_and(stands))
            || bonds.last_ended(follower, leader).is_some_and(|ended| ended >= since)
    }

    /// A node's word that it supports another arrived: it must be on its disk.
    pub(super) fn supports(&self, (from, to): (NodeId, NodeId), message: &SupportMessage) {
        let SupportMessage::Granted { epoch, .. } = *message else { return };
        let known = self.grants.get(&(from, to)).copied().unwrap_or_default();
        assert!(epoch <= known.epoch, "support at {epoch} was announced before it was durable");
    }

    /// The term of the newest entry that a leader called committed.
    pub(super) fn committed_term(&self, group: usize) -> Term {
        self.groups[group].committed.last().map_or(Term(0), |(term, _)| *term)
    }

    /// How many entries a leader called committed.
    pub(super) fn committed(&self, group: usize) -> u64 {
        self.groups[group].committed.len() as u64
    }

    /// The disk of a node has all grants that were durable, or later ones.
    fn finds_grants(&self, node: usize, grants: &BTreeMap<NodeId, Grant>) {
        for ((own, peer), known) in &self.grants {
            let found = grants.get(peer).copied().unwrap_or_default();
            assert!(
                *own != node_id(node) || (found.epoch, !found.live) >= (known.epoch, !known.live),
                "{own} forgot what it granted {peer}: {known:?}, then {found:?}"
            );
        }
    }

    /// Writes of a replica became durable, in this order, each with the hard state before it.
    fn hard_states_changed(
        &mut self,
        node: usize,
        number: usize,
        written: &[(HardState, Persist)],
    ) {
        let GroupChecks { bonds, leaders, .. } = &mut self.groups[number];
        let grant = |peer| self.grants.get(&(node_id(node), peer)).copied().unwrap_or_default();
        for (before, persist) in written {
            if let Some(after) = &persist.hard_state {
                let now_us = self.now_us;
                bonds.written(node_id(node), (*before, **after), grant, leaders, now_us);
            }
        }
        self.bonds_stand(number);
    }

    /// While the latest leader counts on a follower whose node supports the leader's at that epoch,
    /// on disk, the follower's bond is on its disk, too.
    fn bonds_stand(&self, number: usize) {
        let group = &self.groups[number];
        let Some((term, place)) = group.newest_leader() else { return };
        let leader = node_id(place);
        if group.replicas[place].leads != Some(term) || !group.bonds.serves(leader, term) {
            return;
        }
        for Counted { follower, epoch } in &group.replicas[place].counted {
            let grant = self.grants.get(&(*follower, leader)).copied().unwrap_or_default();
            let stands = grant.live && grant.epoch == *epoch;
            if !stands || self.boots.get(&leader) != Some(&grant.boot) {
                continue;
            }
            let bond = group.replicas[place_of(*follower)].model.durable.hard_state.fortified;
            assert!(
                bond.is_some_and(|bond| (bond.leader, bond.epoch) == (leader, *epoch)),
                "the leader {leader} of {term} counts on a bond with {follower} at {epoch}, whose \
                 disk has {bond:?}"
            );
        }
    }
}

const fn node_id(place: usize) -> NodeId {
    NodeId(place as u64 + 1)
}

const fn place_of(node: NodeId) -> usize {
    node.0 as usize - 1
}

impl GroupChecks {
    /// What a message says of leaders and terms.
    fn heard(&mut self, from: usize, to: usize, message: &Message) {
        self.bonds.heard(node_id(from), node_id(to), message);
        if matches!(
            message.payload,
            Payload::AppendEntries { .. } | Payload::Fortify { .. } | Payload::Snapshot { .. }
        ) {
            let leader = *self.leaders.entry(message.term).or_insert(from);
            assert_eq!(leader, from, "election safety: two lead in {}", message.term);
        }
        if let Payload::Resign { term, .. } = message.payload {
            // Whoever goes by it enters the next term, without a campaign.
            self.entered = self.entered.max(term.next());
        }
    }

    /// The leader of the latest term that had one.
    fn newest_leader(&self) -> Option<(Term, usize)> {
        self.leaders.last_key_value().map(|(term, place)| (*term, *place))
    }

    /// The content of a snapshot is the state after its last entry, which all replicas agree on, as
    /// they do on the configuration there.
    fn snapshot_is(&mut self, meta: &SnapshotMeta, content: &[u8]) {
        let last = meta.last;
        let crc = crc32fast::hash(&[content, &meta.configuration.encode()].concat());
        let known = *self.states.entry(last).or_insert(crc);
        assert_eq!(known, crc, "a snapshot up to {last} is not the state there");
    }

    /// What the latest leader counts as held by a follower is on that follower's disk.
    fn follower_holds(&self, leader: usize, follower: NodeId, matched: Index) {
        let Some(term) = self.replicas[leader].model.view.term_at(matched) else { return };
        let id = LogId::new(term, matched);
        assert!(
            self.replicas[place_of(follower)].model.holds(id),
            "a leader counts {id} as durable on {follower}, and it is not"
        );
    }

    /// The leader of the latest term has all that is committed. (One of an earlier term, which does
    /// not know yet that it was deposed, may not.)
    fn leader_completeness(&self, node: usize, term: Term) {
        if self.leaders.last_key_value().is_some_and(|(latest, _)| *latest > term) {
            return;
        }
        let view = &self.replicas[node].model.view;
        let begin = view.snapshot.index;
        for (place, entry) in self.committed.iter().enumerate().skip(begin.0 as usize) {
            let index = Index(place as u64 + 1);
            assert_eq!(
                view.entry(index).as_ref(),
                Some(entry),
                "leader completeness: the leader of {term} lacks committed entry {index}"
            );
        }
    }

    /// A replica's commit index moved. Only a leader, in the term that it led before its run or
    /// leads now, may call something committed that nobody did.
    fn commits(&mut self, node: usize, leads: [Option<Term>; 2], commit: Index, now_us: u64) {
        let replica = &self.replicas[node];
        let view = &replica.model.view;
        let from = replica.commit.max(view.snapshot.index);
        let mut newest = None;
        for index in from.0 + 1..=commit.0 {
            let entry = view.entry(Index(index)).expect("what is committed is in the log");
            match self.committed.get(index as usize - 1) {
                Some(known) => assert_eq!(
                    (index, entry),
                    (index, *known),
                    "two replicas call different entries committed"
                ),
                None => {
                    assert_eq!(index as usize, self.committed.len() + 1, "a gap is committed");
                    self.committed.push(entry);
                    let id = LogId::new(entry.0, Index(index));
                    self.members.committed_entry(id, now_us);
                    newest = Some(id);
                }
            }
        }
        if let Some(newest) = newest {
            assert!(leads != [None, None], "{newest} is called committed by no leader");
            assert!(
                leads.contains(&Some(newest.term)),
                "a leader committed {newest}, of an older term, by counting"
            );
            self.is_held(node, newest);
        }
    }

    /// What a leader calls committed is on the disks of a majority: of the configuration in force
    /// at that entry, or of a later one that the leader has had in this run. Of a joint one, both
    /// halves count, but when the leader has left it already.
    fn is_held(&self, leader: usize, id: LogId) {
        let view = &self.replicas[leader].model.view;
        let holds = |node: NodeId| self.replicas[place_of(node)].model.holds(id);
        let counted = [id.index, view.last().index]
            .into_iter()
            .any(|index| view.configuration_at(index).is_some_and(|it| it.is_quorum(holds)));
        assert!(counted, "{id} is called committed and is on the disks of no majority");
    }
}
