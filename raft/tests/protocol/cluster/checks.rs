//! The five properties of Raft (paper, figure 3), and the promises that the core adds to them.

use super::host::Host;
use logboat_raft::{
    Configuration, Entry, Fortification, Index, Input, LogId, LogWrite, Message, NodeId, Output,
    Payload, Persist, Raft, ReadToken, ReplicaAddress, RoleKind, Term,
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct Checks {
    leaders: BTreeMap<Term, NodeId>,
    /// What state machines were given, which is the same everywhere.
    committed: Vec<Entry>,
    /// The configurations that were known to be committed, by their entries.
    configurations: BTreeMap<Index, Configuration>,
    /// The newest entry that any replica knew to be committed.
    newest: Index,
    /// The terms in which leaders had a successor campaign.
    abdicated: BTreeSet<Term>,
    /// Whether a disk was given contents by hand, so that it broke its word.
    pub(crate) has_presets: bool,
    /// What that was when a read was asked for.
    reads: BTreeMap<(NodeId, ReadToken), Index>,
}

impl Checks {
    pub(crate) fn committed(&self) -> &[Entry] {
        &self.committed
    }

    pub(crate) fn after_step(&mut self, hosts: &BTreeMap<NodeId, Host>, node: NodeId) {
        let host = &hosts[&node];
        let raft = host.raft.as_ref().expect("the node is up");
        assert_eq!(raft.last().index, host.view.last(), "the log in memory is what was written");
        assert_eq!(raft.applied().0, host.history.len() as u64, "applied is what was handed out");
        let newest = host.view.configuration_at(raft.last().index);
        assert_eq!(raft.configuration(), &newest, "the newest configuration is in force");
        self.newest = self.newest.max(raft.commit());
        if raft.role() == RoleKind::Leader {
            let first = *self.leaders.entry(raft.term()).or_insert(node);
            assert_eq!(first, node, "election safety: two leaders in term {}", raft.term());
            if self.leaders.keys().all(|&term| term <= raft.term()) {
                self.leader_completeness(host);
            }
            committed_is_on_a_majority(hosts, host, raft);
        }
        for (other_node, other) in hosts {
            if *other_node != node {
                logs_match(host, other);
            }
        }
        let latest = self.leaders.last_key_value();
        let serves = |term| !self.has_presets && !self.abdicated.contains(term);
        if let Some((&term, leader)) = latest.filter(|(term, _)| serves(term)) {
            bonds_stand(hosts, *leader, term);
        }
    }

    pub(crate) fn persisting(&self, host: &Host, persist: &Persist) {
        let raft = host.raft.as_ref().expect("the node is up");
        match &persist.log {
            LogWrite::Append(entries) => {
                let first = entries[0].index;
                assert!(first.0 > host.history.len() as u64, "applied entries are never replaced");
                if raft.role() == RoleKind::Leader && entries[0].term == raft.term() {
                    let end = entries[0].index.plus(entries.len() as u64 - 1);
                    assert_eq!(end, host.view.last(), "leader append-only");
                }
            }
            LogWrite::Reset(_) => assert_ne!(raft.role(), RoleKind::Leader),
            LogWrite::Keep
            | LogWrite::Compact(_)
            | LogWrite::Founding(_)
            | LogWrite::Tombstone(_) => {}
        }
    }

    /// A message that leaves at once may rest only on what is on disk, a leader's own excepted.
    pub(crate) fn sending(&mut self, host: &Host, message: &Message) {
        let disk = &host.disk;
        if message.payload == Payload::TimeoutNow {
            self.abdicated.insert(message.term);
        }
        match &message.payload {
            Payload::Appended { through, .. } => {
                assert!(*through <= disk.last(), "acknowledged before it was durable");
                assert_eq!(disk.hard_state.term, message.term);
            }
            Payload::Fortified { epoch, .. } => {
                assert_eq!(disk.hard_state.term, message.term);
                let bond = disk.hard_state.fortified.map(|bond| (bond.epoch, bond.term));
                let told = epoch.map(|epoch| (epoch, message.term));
                assert!(told.is_none() || told == bond, "bound before it was durable");
                let voted = disk.hard_state.vote.is_some();
                assert!(told.is_none() || voted, "bound without a vote of the term");
            }
            Payload::VoteReply { granted: true } | Payload::Vote { .. } => {
                assert_eq!(disk.hard_state.term, message.term);
                assert_eq!(disk.hard_state.vote, host.view.hard_state.vote);
            }
            Payload::VoteReply { granted: false }
            | Payload::PreVoteReply { granted: false }
            | Payload::Rejected { .. }
            | Payload::Fortify { .. }
            | Payload::ReadIndex { .. }
            | Payload::ReadIndexReply { .. }
            | Payload::TimeoutNow
            | Payload::Resign { .. }
            | Payload::Gone { .. } => assert_eq!(disk.hard_state.term, message.term),
            Payload::Resigned { term }
                if host.raft.as_ref().map(Raft::id) == Some(message.from) =>
            {
                assert_eq!(disk.hard_state.term, message.term);
                let bond = disk.hard_state.fortified.filter(|bond| bond.term == *term);
                let leader = host.raft.as_ref().and_then(Raft::leader);
                let is_led = leader.is_some() || bond.is_some();
                assert!(disk.hard_state.term > *term || is_led, "the term is still open");
            }
            // By a former replica.
            Payload::Resigned { .. } | Payload::Left => {}
            Payload::PreVote { .. } => {
                assert_eq!(disk.hard_state.term.next(), message.term, "the term may be lost");
            }
            Payload::AppendEntries { .. }
            | Payload::PreVoteReply { granted: true }
            | Payload::Snapshot { .. } => {}
        }
    }

    pub(crate) fn applying(&mut self, hosts: &BTreeMap<NodeId, Host>, node: NodeId, entry: &Entry) {
        let host = &hosts[&node];
        let place = host.history.len();
        assert_eq!(entry.index.0, place as u64 + 1, "applied once, and in order");
        let on_disk = host.disk.entry(entry.index).map(Entry::id);
        assert_eq!(on_disk, Some(entry.id()), "applied before it was durable");
        match self.committed.get(place) {
            Some(committed) => assert_eq!(committed, entry, "state machine safety"),
            None => self.committed.push(entry.clone()),
        }
    }

    /// A configuration came into force at a replica, or is known there to be committed.
    pub(crate) fn configured(&mut self, configuration: &Configuration, is_committed: bool) {
        if is_committed {
            let index = configuration.id().index;
            let first = self.configurations.entry(index).or_insert_with(|| configuration.clone());
            assert_eq!(first, configuration, "one configuration is committed");
        }
    }

    pub(crate) fn read_asked(&mut self, node: NodeId, token: ReadToken) {
        self.reads.insert((node, token), self.newest);
    }

    pub(crate) fn read_ready(&mut self, host: &Host, node: NodeId, token: ReadToken) {
        let asked = self.reads.remove(&(node, token)).expect("the read was asked for, and once");
        assert!(host.history.len() as u64 >= asked.0, "a read that misses a committed entry");
    }

    /// The newest leader has all that is committed; an older one that was deposed may not.
    fn leader_completeness(&self, host: &Host) {
        for entry in self.committed.iter().skip(host.view.start.index.0 as usize) {
            assert_eq!(host.view.entry(entry.index), Some(entry), "leader completeness");
        }
    }
}

/// If the leader of the latest term still leads, each bond that it counts on is on its follower's
/// disk, as long as the support that it rests on stands. All reads rest on this.
fn bonds_stand(hosts: &BTreeMap<NodeId, Host>, leader: NodeId, term: Term) {
    let host = &hosts[&leader];
    let Some(raft) = host.raft.as_ref() else { return };
    if raft.role() != RoleKind::Leader || raft.term() != term {
        return;
    }
    for peer in raft.status().peers {
        let follower = &hosts[&peer.node];
        let Some(grant) = follower.grants.get(&leader) else { continue };
        if grant.live && grant.boot == host.boot && peer.fortified == Some(grant.epoch) {
            let replica = raft.id();
            let bond = Fortification { leader, replica, epoch: grant.epoch, term };
            let found = follower.disk.hard_state.fortified;
            assert_eq!(
                found,
                Some(bond),
                "{leader} counts on a bond of {} that is gone",
                peer.node
            );
        }
    }
}

/// Who answers a resignation is bound to whoever has resigned no more, and never will be again by
/// what that one led.
pub(crate) fn resigned(host: &Host, to: NodeId, message: &Message) {
    let Payload::Resigned { term } = message.payload else { return };
    if host.raft.as_ref().map(Raft::id) != Some(message.from) {
        return; // By a former replica.
    }
    let grant = host.grants.get(&to).filter(|grant| grant.live);
    let is_left = |bond: &Fortification| {
        bond.address() == ReplicaAddress::new(to, message.to)
            && bond.term <= term
            && grant.is_some_and(|grant| grant.epoch == bond.epoch)
    };
    let left = host.disk.hard_state.fortified.filter(is_left);
    assert_eq!(left, None, "a resignation was answered, and the bond stands");
}

/// A bond lasts as long as the support that it rests on. It ends earlier only by a leader: another
/// one is heard, it wants another elected, or it asks for votes itself.
pub(crate) fn keeps_bond(host: &Host, input: &Input, out: &[Output]) {
    let mut before = host.view.hard_state;
    let Some(bond) = before.fortified else {
        return;
    };
    let stands = host.support.of(bond.leader).support_for == Some(bond.epoch);
    if !stands || releases(input, bond) {
        return;
    }
    for output in out {
        let Output::Persist(Persist { hard_state: Some(after), .. }) = output else {
            continue;
        };
        assert_eq!(after.fortified, Some(bond), "a bond that stands was forgotten");
        let voted = (after.term, after.vote) != (before.term, before.vote);
        let other = after.vote.is_some_and(|vote| vote != bond.address());
        assert!(!voted || !other, "voted against its bond");
        before = **after;
    }
}

/// Whether an input may free a replica from its bond with a leader.
fn releases(input: &Input, bond: Fortification) -> bool {
    let Input::Receive { from, message } = input else {
        return false;
    };
    let sender = ReplicaAddress::new(*from, message.from);
    let (is_later, is_same) = (message.term > bond.term, message.term == bond.term);
    match message.payload {
        Payload::AppendEntries { .. } | Payload::Fortify { .. } | Payload::Snapshot { .. } => {
            is_later || (is_same && sender == bond.address())
        }
        Payload::Vote { transfer: true, .. } => is_later,
        Payload::TimeoutNow => is_later || is_same,
        Payload::PreVote { .. } | Payload::Vote { transfer: false, .. } => {
            sender == bond.address() && is_later
        }
        Payload::Resign { epoch, term } => {
            (sender, epoch) == (bond.address(), bond.epoch) && term >= bond.term
        }
        Payload::PreVoteReply { .. }
        | Payload::VoteReply { .. }
        | Payload::Appended { .. }
        | Payload::Rejected { .. }
        | Payload::Fortified { .. }
        | Payload::ReadIndex { .. }
        | Payload::ReadIndexReply { .. }
        | Payload::Resigned { .. }
        | Payload::Gone { .. }
        | Payload::Left => false,
    }
}

/// What a leader calls committed is on the disks of a majority: of each half of the configuration
/// in force at that entry, or of the one after it, if that was in force already when it was
/// counted. A later leader need not have that one. After a joint one it is known; any other has the
/// voters of the one before in a half.
fn committed_is_on_a_majority(hosts: &BTreeMap<NodeId, Host>, leader: &Host, raft: &Raft) {
    let commit = raft.commit();
    let id = LogId::new(leader.view.term_at(commit).expect("it is in the log"), commit);
    let has = |node: NodeId| {
        hosts.get(&node).is_some_and(|host| {
            host.disk.start.index > commit
                || host.snapshot.meta.last.index > commit
                || host.snapshot.meta.last == id
                || host.disk.term_at(commit) == Some(id.term)
        })
    };
    let at = leader.view.configuration_at(commit);
    let left = at.is_joint() && at.leave(at.id()).is_quorum(has);
    let counted = left || at.is_quorum(has) || raft.configuration().is_quorum(has);
    assert!(commit == Index(0) || counted, "{id} is committed without a majority of {at}");
}

/// Log matching: where two logs have the same entry, they are the same up to it.
fn logs_match(one: &Host, other: &Host) {
    let start = one.view.start.index.max(other.view.start.index);
    let end = one.view.last().min(other.view.last());
    let same = |index: &u64| one.view.term_at(Index(*index)) == other.view.term_at(Index(*index));
    let Some(newest) = (start.0 + 1..=end.0).rev().find(same) else {
        return;
    };
    for index in start.0 + 1..=newest {
        let (one, other) = (one.view.entry(Index(index)), other.view.entry(Index(index)));
        assert_eq!(one, other, "log matching");
    }
}
