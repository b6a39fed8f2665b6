//! A whole cluster in one thread: hosts with disks that lose what was not synced, and a network
//! that the test controls. The Raft properties are checked after every step.

mod checks;
mod host;
mod liveness;
mod show;

use bytes::Bytes;
use checks::Checks;
use host::{Disk, Host, Snapshot};
use liveness::Rounds;
use logboat_raft::{
    Change, Config, Configuration, Entries, Entry, EntryKind, GroupId, Index, Input, LogId,
    Message, NodeId, Output, Payload, Raft, ReadMode, ReadToken, ReplicaId, Term, Time, Tuning,
    WriteSeq,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const GROUP: GroupId = GroupId(1);

/// What is in flight between two nodes.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Message(Message),
    Snapshot(ReplicaId, Term, Snapshot),
}

pub(crate) struct Cluster {
    pub(crate) now: Time,
    pub(crate) hosts: BTreeMap<NodeId, Host>,
    pub(crate) network: BTreeMap<(NodeId, NodeId), VecDeque<Packet>>,
    /// What is in flight for longer than anything else.
    delayed: BTreeMap<(NodeId, NodeId), VecDeque<Packet>>,
    /// Links that lose everything.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    /// Rounds of confirmations under way, by the node that opened them and the node that answers.
    rounds: BTreeMap<(NodeId, NodeId), Rounds>,
    /// The configuration that the group was founded with.
    founding: Arc<Configuration>,
    /// What happened, for transcripts; `None` keeps nothing.
    pub(crate) events: Option<Vec<String>>,
    tuning: Arc<Tuning>,
    seed: u64,
    starts: u64,
    checks: Checks,
}

impl Cluster {
    /// A cluster in which all nodes are up, and each supports each other at epoch 1. The first of
    /// them, `voters` in number, found the group. The others wait to be added to it.
    pub(crate) fn new(nodes: u64, voters: u64, preferred: u64, tuning: Tuning, seed: u64) -> Self {
        let founders: Vec<_> = (1..=voters).map(NodeId).collect();
        let founding = Configuration::founding(&founders, Some(NodeId(preferred))).into();
        let mut cluster = Self {
            now: Time(0),
            hosts: BTreeMap::new(),
            network: BTreeMap::new(),
            delayed: BTreeMap::new(),
            cut: BTreeSet::new(),
            rounds: BTreeMap::new(),
            founding,
            events: None,
            tuning: Arc::new(tuning),
            seed,
            starts: 0,
            checks: Checks::default(),
        };
        for node in (1..=nodes).map(NodeId) {
            let host = Host::new(Disk::new(cluster.base(node)));
            cluster.hosts.insert(node, host);
        }
        for node in cluster.nodes() {
            cluster.start(node);
        }
        cluster.renew();
        cluster
    }

    /// What a replica goes by before its log says anything else.
    fn base(&self, node: NodeId) -> Arc<Configuration> {
        let is_buried = self.hosts.get(&node).is_some_and(|host| host.tombstone.is_some());
        if !is_buried && self.founding.member(node).is_some() {
            return Arc::clone(&self.founding);
        }
        Configuration::unknown().into()
    }

    /// The smallest id that a replica on a node may have.
    fn lowest_id(&self, node: NodeId) -> ReplicaId {
        let is_founder = self.founding.member(node).is_some();
        let lowest = if is_founder { ReplicaId::FOUNDER } else { ReplicaId::FOUNDER.next() };
        self.hosts[&node].tombstone.unwrap_or(lowest)
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.hosts.keys().copied().collect()
    }

    pub(crate) fn host(&mut self, node: NodeId) -> &mut Host {
        self.hosts.get_mut(&node).expect("no such node")
    }

    pub(crate) fn raft(&self, node: NodeId) -> Option<&Raft> {
        self.hosts[&node].raft.as_ref()
    }

    /// Lets a node begin with a log of entries with these terms, as the paper's figures do.
    pub(crate) fn preset(&mut self, node: NodeId, term: Term, terms: &[u64]) {
        self.checks.has_presets = true;
        self.crash(node, 0);
        let entry = |(index, &term): (u64, &u64)| {
            let id = LogId::new(Term(term), Index(index));
            let data = Bytes::from(format!("t{term}i{index}"));
            Entry::new(GROUP, id, EntryKind::Command, data)
        };
        let mut disk = Disk::new(self.base(node));
        disk.hard_state.term = term;
        disk.entries = (1..).zip(terms).map(entry).collect();
        let host = self.host(node);
        let (boot, grants) = (host.boot, mem::take(&mut host.grants));
        *host = Host { boot, grants, ..Host::new(disk) };
        self.start(node);
    }

    /// Starts a node that is down from what it has on disk. This run is another to its peers.
    pub(crate) fn start(&mut self, node: NodeId) {
        let config = self.config(node);
        let now = self.now;
        let host = self.host(node);
        assert!(host.raft.is_none(), "the node is up");
        let restored = host.recover();
        host.raft = Some(Raft::new(config, restored, now));
        self.start_liveness(node);
        self.introduce(node);
    }

    fn config(&mut self, node: NodeId) -> Config {
        self.starts += 1;
        Config {
            group: GROUP,
            node,
            replica: self.lowest_id(node),
            founding: self.base(node),
            seed: self.seed ^ (node.0 << 32) ^ self.starts,
            tuning: self.tuning.clone(),
        }
    }

    /// Takes a node down; of its writes under way, the oldest `survivors` are durable. The others
    /// notice that their connections to it broke.
    pub(crate) fn crash(&mut self, node: NodeId, survivors: usize) {
        if self.host(node).raft.is_some() {
            self.host(node).crash(survivors);
            for other in self.nodes() {
                self.step(other, Input::Unreachable { node });
            }
        }
    }

    /// Hands an input to a node, carries out what follows from it, and checks the properties. If
    /// the node's disk is fast, its writes are durable when this returns.
    pub(crate) fn step(&mut self, node: NodeId, input: Input) {
        let now = self.now;
        if let Input::Read { token, .. } = input {
            self.checks.read_asked(node, token);
        }
        let Host { raft: Some(raft), support, .. } = self.host(node) else {
            return;
        };
        let is_early = raft.next_deadline(support).is_none_or(|deadline| now < deadline);
        let idles = is_early && matches!(input, Input::Tick);
        let mut out = Vec::new();
        raft.step(now, support, input.clone(), &mut out);
        let acts = |output: &Output| {
            matches!(
                output,
                Output::Send { .. } | Output::SendAfter { .. } | Output::RoleChanged { .. }
            )
        };
        assert!(!idles || !out.iter().any(acts), "a tick before the deadline did something");
        checks::keeps_bond(&self.hosts[&node], &input, &out);
        for output in out {
            self.carry_out(node, output);
        }
        self.checks.after_step(&self.hosts, node);
        if let Some(floor) = self.host(node).gone.take() {
            return self.bury(node, floor);
        }
        if self.hosts[&node].sync {
            self.sync(node);
            self.answer_loads(node);
        }
    }

    /// Ticks every node that is up.
    pub(crate) fn tick(&mut self, interval: Duration) {
        self.now = self.now + interval;
        for node in self.nodes() {
            self.step(node, Input::Tick);
            self.resign_departed(node);
        }
    }

    /// Makes all writes of a node durable.
    pub(crate) fn sync(&mut self, node: NodeId) {
        let newest = self.hosts[&node].newest;
        self.sync_to(node, newest);
    }

    /// Makes the writes of a node up to `seq` durable, and sends what waited for them.
    pub(crate) fn sync_to(&mut self, node: NodeId, seq: WriteSeq) {
        let host = self.host(node);
        if host.raft.is_none() || seq <= host.durable {
            return;
        }
        while let Some(persist) = host.unsynced.front()
            && persist.seq <= seq
        {
            host.disk.write(persist);
            host.unsynced.pop_front();
        }
        host.durable = seq;
        let ready = host.held.iter().take_while(|(after, ..)| *after <= seq).count();
        let ready: Vec<_> = host.held.drain(..ready).collect();
        for (_, to, message) in ready {
            self.enqueue(node, to, Packet::Message(message));
        }
        self.step(node, Input::Persisted { seq });
    }

    /// Answers the requests for entries on a node's disk.
    pub(crate) fn answer_loads(&mut self, node: NodeId) {
        while let Some((target, first, last, max_bytes)) = self.host(node).loads.pop_front() {
            let mut entries = Vec::new();
            let mut bytes = 0;
            for index in first.0..=last.0 {
                let Some(entry) = self.hosts[&node].disk.entry(Index(index)) else {
                    break;
                };
                bytes += entry.data.len();
                if bytes > max_bytes && !entries.is_empty() {
                    break;
                }
                entries.push(entry.clone());
            }
            let found: Vec<_> = entries.iter().map(Entry::id).collect();
            self.event(|| format!("{node} loaded {} for {target:?}", show::ids(&found)));
            self.step(node, Input::LogRead { target, entries: entries.into() });
        }
    }

    /// Answers the oldest of them as if the disk had none of the entries.
    pub(crate) fn lack_load(&mut self, node: NodeId) {
        if let Some((target, ..)) = self.host(node).loads.pop_front() {
            let entries = Entries::new();
            self.step(node, Input::LogRead { target, entries });
        }
    }

    /// Delivers the packet at a place of a link's queue, if there is one and the node is up.
    pub(crate) fn deliver(&mut self, from: NodeId, to: NodeId, place: usize) {
        if self.cut.contains(&(from, to)) || self.hosts[&to].raft.is_none() {
            return self.lose(from, to, place);
        }
        let queue = self.network.entry((from, to)).or_default();
        let Some(packet) = queue.remove(place) else {
            return;
        };
        self.event(|| format!("{from}=>{to} {}", show::packet(&packet)));
        let message = match packet {
            Packet::Message(message) => message,
            Packet::Snapshot(id, term, snapshot) => {
                let payload = Payload::Snapshot { meta: snapshot.meta.clone() };
                self.host(to).arrived.push(snapshot);
                let receiver = self.raft(from).and_then(|raft| raft.configuration().member(to));
                let receiver = receiver.map(|member| member.replica).unwrap_or_default();
                Message { from: id, to: receiver, term, payload }
            }
        };
        checks::resigned(&self.hosts[&from], to, &message);
        self.host(to).departed.iter_mut().for_each(|(it, _)| it.receive(from, &message));
        let snapshot = match &message.payload {
            Payload::Snapshot { meta } => Some(meta.last.index),
            _ => None,
        };
        self.step(to, Input::Receive { from, message });
        // A replica that is gone may have been in the place of the one that it was for.
        if snapshot.is_some_and(|last| self.hosts[&to].view.last() < last) {
            self.step(from, Input::SnapshotFailed { to });
        }
    }

    /// Deletes the replica on a node, which is gone, and begins another one in its place that waits
    /// to be added. The followers of the former are told until they answer.
    fn bury(&mut self, node: NodeId, floor: ReplicaId) {
        self.event(|| format!("  {node} buries its replica"));
        let host = self.host(node);
        let resignation = host.raft.take().map(|raft| raft.resignation());
        host.crash(usize::MAX);
        host.tombstone = Some(floor);
        host.departed.extend(resignation.map(|resignation| (resignation, Time(0))));
        let disk = Disk::new(self.base(node));
        let host = self.host(node);
        host.snapshot = Snapshot::of_nothing(&disk);
        host.disk = disk;
        self.resign_departed(node);
        let config = self.config(node);
        let now = self.now;
        let host = self.host(node);
        host.raft = Some(Raft::new(config, host.recover(), now));
    }

    /// Repeats what the tombstones of a node have to say.
    pub(crate) fn resign_departed(&mut self, node: NodeId) {
        let (now, timeout) = (self.now, self.tuning.election_timeout);
        let Host { departed, support, .. } = self.host(node);
        departed.retain(|(departed, _)| !departed.is_over());
        let mut messages = Vec::new();
        for (departed, due) in departed.iter_mut().filter(|(_, due)| *due <= now) {
            *due = now + timeout;
            messages.extend(departed.messages(support));
        }
        for (to, message) in messages {
            self.event(|| format!("  {node}'s tombstone -> {to} {}", show::message(&message)));
            self.enqueue(node, to, Packet::Message(message));
        }
    }

    /// Loses the packet at a place of a link's queue. Of a snapshot, the sender gets to know.
    pub(crate) fn lose(&mut self, from: NodeId, to: NodeId, place: usize) {
        let queue = self.network.entry((from, to)).or_default();
        let Some(packet) = queue.remove(place) else {
            return;
        };
        self.event(|| format!("{from}=>{to} lost {}", show::packet(&packet)));
        if let Packet::Snapshot(..) = packet {
            self.step(from, Input::SnapshotFailed { to });
        }
    }

    /// Delivers everything that is in flight now; what it brings about stays in flight.
    pub(crate) fn deliver_round(&mut self) {
        let in_flight: Vec<_> = self.network.iter().map(|(&link, q)| (link, q.len())).collect();
        for ((from, to), count) in in_flight {
            for _ in 0..count {
                self.deliver(from, to, 0);
            }
        }
    }

    /// Delivers until nothing is in flight.
    pub(crate) fn settle(&mut self) {
        while self.in_flight() > 0 {
            self.deliver_round();
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.network.values().map(VecDeque::len).sum()
    }

    /// Takes a snapshot of a node's state machine and compacts the log up to it.
    pub(crate) fn compact(&mut self, node: NodeId) {
        let host = self.host(node);
        let snapshot = host.take_snapshot();
        let is_known = !snapshot.meta.configuration.members().is_empty();
        let is_news = snapshot.meta.last.index > host.snapshot.meta.last.index;
        if host.raft.is_none() || !is_known || !is_news {
            return;
        }
        let meta = snapshot.meta.clone();
        host.snapshot = snapshot;
        self.step(node, Input::Compact { meta });
    }

    /// Asks a node to change the group's members.
    pub(crate) fn change(&mut self, node: NodeId, changes: Vec<Change>) {
        self.step(node, Input::Change { changes });
    }

    pub(crate) fn read(&mut self, node: NodeId, token: u64, mode: ReadMode) {
        let token = ReadToken(token);
        self.step(node, Input::Read { token, mode });
    }

    pub(crate) fn propose(&mut self, node: NodeId, commands: Vec<Bytes>) {
        self.step(node, Input::Propose { commands: commands.into() });
    }

    /// Takes aside what is in flight on a link.
    pub(crate) fn hold(&mut self, from: NodeId, to: NodeId) {
        let packets = self.network.remove(&(from, to)).unwrap_or_default();
        self.delayed.entry((from, to)).or_default().extend(packets);
    }

    /// Puts what was held back into the link, behind what is in flight by now.
    pub(crate) fn release(&mut self, from: NodeId, to: NodeId) {
        let packets = self.delayed.remove(&(from, to)).unwrap_or_default();
        self.network.entry((from, to)).or_default().extend(packets);
    }

    /// Cuts these nodes off from the others, but not from each other.
    pub(crate) fn partition(&mut self, side: &[NodeId]) {
        for from in self.nodes() {
            for to in self.nodes() {
                if side.contains(&from) != side.contains(&to) {
                    self.cut.insert((from, to));
                }
            }
        }
    }

    /// The entries that are committed, as far as any state machine was given them.
    pub(crate) fn committed(&self) -> &[Entry] {
        self.checks.committed()
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> impl Iterator<Item = String> + '_ {
        self.events.iter_mut().flat_map(|events| events.drain(..))
    }

    fn event(&mut self, event: impl FnOnce() -> String) {
        if let Some(events) = &mut self.events {
            events.push(event());
        }
    }

    fn carry_out(&mut self, node: NodeId, output: Output) {
        self.event(|| format!("  {node} {}", show::output(&output)));
        match output {
            Output::Persist(persist) => {
                let host = self.host(node);
                host.newest = WriteSeq(host.newest.0 + 1);
                assert_eq!(persist.seq, host.newest, "writes have no gaps");
                host.view.write(&persist);
                host.unsynced.push_back(persist.clone());
                self.checks.persisting(&self.hosts[&node], &persist);
            }
            Output::Send { to, message } => {
                self.checks.sending(&self.hosts[&node], &message);
                self.enqueue(node, to, Packet::Message(message));
            }
            Output::SendAfter { after, to, message } => {
                let host = self.host(node);
                assert!(after <= host.newest && after > host.durable, "the write is under way");
                host.held.push_back((after, to, message));
                // What messages wait for need not ascend from message to message.
                host.held.make_contiguous().sort_by_key(|(after, ..)| *after);
            }
            Output::Apply { entries } => {
                for entry in entries {
                    self.checks.applying(&self.hosts, node, &entry);
                    self.host(node).history.push(entry);
                }
            }
            Output::ReadLog { target, first, last, max_bytes } => {
                let host = self.host(node);
                assert!(first <= last && last <= host.disk.last(), "what is asked for is on disk");
                assert!(host.loads.iter().all(|load| load.0 != target), "one load a target");
                host.loads.push_back((target, first, last, max_bytes));
            }
            Output::SendSnapshot { to } => {
                let host = self.host(node);
                let snapshot = host.snapshot.clone();
                let raft = host.raft.as_ref().expect("the node is up");
                let (id, term) = (raft.id(), raft.term());
                self.enqueue(node, to, Packet::Snapshot(id, term, snapshot));
            }
            Output::Gone { floor } => self.host(node).gone = Some(floor),
            Output::Violated { from, violation } => panic!("node {from} sent {violation}"),
            Output::OtherVoters { from, leads: _ } => panic!("node {from} has other founders"),
            Output::RestoreSnapshot { meta } => {
                let host = self.host(node);
                let found = host.arrived.iter().position(|arrived| arrived.meta == meta);
                host.snapshot = host.arrived.swap_remove(found.expect("the bytes arrived"));
                host.history.clone_from(&host.snapshot.history);
            }
            Output::Configured { configuration, is_committed } => {
                self.checks.configured(&configuration, is_committed);
            }
            Output::ReadReady { token } => self.checks.read_ready(&self.hosts[&node], node, token),
            Output::Proposed { .. }
            | Output::Refused { .. }
            | Output::ChangeProposed { .. }
            | Output::ChangeRefused { .. }
            | Output::ReadRefused { .. }
            | Output::RoleChanged { .. } => {}
        }
    }

    fn enqueue(&mut self, from: NodeId, to: NodeId, packet: Packet) {
        if !self.cut.contains(&(from, to)) || matches!(packet, Packet::Snapshot(..)) {
            self.network.entry((from, to)).or_default().push_back(packet);
        }
    }
}

/// The events of a run that fails are of use only if they are printed.
impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for event in self.take_events() {
                eprintln!("{event}");
            }
        }
    }
}
