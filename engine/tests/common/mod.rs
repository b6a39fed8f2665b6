//! A cluster for tests: nodes on an in-memory network, each with a log in a temporary directory.

#![allow(dead_code, reason = "each test file uses its part")]

use bytes::Bytes;
use logboat::transport::Link;
use logboat::{
    GroupHandle, GroupId, GroupSpec, Index, Node, NodeConfig, NodeId, RequestError, RoleKind,
    SnapshotWriter, StateMachine, Tuning,
};
use logboat_raft::{Introduction, Payload, Remembered, SupportMessage};
use logboat_transport::{Inbox, MemoryNetwork, Parcel};
use parking_lot::Mutex as SyncMutex;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// What a test returns.
pub(crate) type TestResult = Result<(), Box<dyn Error>>;

/// Waits a moment for something to happen.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// One worker, so that the groups are neighbours, and nobody is taken for one that hangs.
pub(crate) fn patient(config: &mut NodeConfig) {
    config.workers = 1;
    config.state_machine_timeout = Duration::from_secs(600);
}

/// One worker, so that the groups are neighbours, and little patience.
pub(crate) fn impatient(config: &mut NodeConfig) {
    config.workers = 1;
    config.state_machine_timeout = Duration::from_millis(100);
}

/// The largest command of these clusters.
pub(crate) const MAX_COMMAND_BYTES: usize = 64 << 10;

/// How much these clusters hold pending.
pub(crate) const MEMORY_BUDGET_BYTES: usize = 4 << 20;

/// Counts commands; some make it panic, at once or later.
#[derive(Default)]
pub(crate) struct Counter {
    count: u64,
    panics_at_snapshots: bool,
    panics_in_writers: bool,
    panics_at_queries: bool,
}

impl Counter {
    fn answer(&self) -> Bytes {
        Bytes::copy_from_slice(&self.count.to_le_bytes())
    }
}

impl StateMachine for Counter {
    fn apply(&mut self, command: Bytes) -> Bytes {
        assert_ne!(&command[..], b"panic", "as the command says");
        self.panics_at_snapshots |= &command[..] == b"panic at snapshots";
        self.panics_in_writers |= &command[..] == b"panic in writers";
        self.panics_at_queries |= &command[..] == b"panic at queries";
        self.count += 1;
        self.answer()
    }

    fn query(&self, _query: Bytes) -> Bytes {
        assert!(!self.panics_at_queries, "as a command said");
        self.answer()
    }

    fn snapshot(&self) -> SnapshotWriter {
        assert!(!self.panics_at_snapshots, "as a command said");
        let (value, panics) = (self.count, self.panics_in_writers);
        Box::new(move |writer| {
            assert!(!panics, "as a command said");
            writer.write_all(&value.to_le_bytes())
        })
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        let mut value = [0; 8];
        reader.read_exact(&mut value)?;
        self.count = u64::from_le_bytes(value);
        Ok(())
    }
}

/// The number that a counter answered with.
pub(crate) fn number(answer: &Bytes) -> u64 {
    u64::from_le_bytes(answer[..].try_into().unwrap())
}

/// Nodes, their directories, and the network between them.
pub(crate) struct Cluster {
    network: MemoryNetwork,
    dirs: BTreeMap<NodeId, TempDir>,
    nodes: BTreeMap<NodeId, Node>,
    watch: Arc<Watch>,
    configure: fn(&mut NodeConfig),
}

/// What arrives at the nodes, and whether it gets through.
#[derive(Default)]
pub(crate) struct Watch {
    appends: SyncMutex<Vec<Append>>,
    /// Messages of groups that arrived, and requests for support.
    arrivals: SyncMutex<Arrivals>,
    /// Who said what in the place of a replica that is no more, or never was.
    partings: SyncMutex<BTreeSet<(NodeId, &'static str)>>,
    /// Nodes that were asked to confirm leaderships.
    asked: SyncMutex<BTreeSet<NodeId>>,
    /// A node at which nothing gets through any more, after so many appends.
    silent: SyncMutex<Option<(NodeId, usize)>>,
}

/// How much arrived at all nodes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrivals {
    /// Messages of groups.
    pub(crate) messages: usize,
    /// Requests for support, one a pair of nodes and interval in either direction.
    pub(crate) requests: usize,
}

/// An append with entries that arrived at a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Append {
    to: NodeId,
    /// Whether it got through.
    pub(crate) through: bool,
    /// The first of its entries.
    pub(crate) first: Index,
    /// How many there are.
    pub(crate) entries: u64,
    /// Of the commands in it.
    pub(crate) bytes: usize,
}

impl Cluster {
    /// A cluster of nodes with ids from 1 on.
    pub(crate) fn new(count: u64) -> Result<Self, Box<dyn Error>> {
        Self::configured(count, |_| {})
    }

    /// A cluster whose nodes are configured a little otherwise.
    pub(crate) fn configured(
        count: u64,
        configure: fn(&mut NodeConfig),
    ) -> Result<Self, Box<dyn Error>> {
        let ids = || (1..=count).map(NodeId);
        let mut cluster = Self {
            network: MemoryNetwork::new()?,
            dirs: ids().map(|id| Ok((id, tempfile::tempdir()?))).collect::<io::Result<_>>()?,
            nodes: BTreeMap::new(),
            watch: Arc::default(),
            configure,
        };
        for id in ids() {
            cluster.start_node(id)?;
        }
        Ok(cluster)
    }

    fn start_node(&mut self, id: NodeId) -> Result<(), Box<dyn Error>> {
        let members = self.dirs.keys().map(|id| (*id, "127.0.0.1:0".to_owned())).collect();
        let mut config = NodeConfig::new(id, members, self.dirs[&id].path())?;
        config.heartbeat_interval = Duration::from_millis(20);
        config.tuning =
            Tuning { election_timeout: Duration::from_millis(300), ..Tuning::default() };
        config.max_command_bytes = MAX_COMMAND_BYTES;
        config.memory_budget_bytes = MEMORY_BUDGET_BYTES;
        config.snapshot_log_bytes = 16 << 10;
        config.wal.segment_bytes = 1 << 20;
        config.workers = 2;
        (self.configure)(&mut config);
        let network = self.network.clone();
        let watch = Arc::clone(&self.watch);
        let node = Node::start_on(config, move |_, inbox| {
            let inbox = Arc::new(Watched { node: id, inbox, watch });
            let transport = network.join(id, inbox);
            Ok(Link { transport, metrics: None, close: Box::new(move || network.leave(id)) })
        })?;
        self.nodes.insert(id, node);
        Ok(())
    }

    /// What arrives.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// The directory of a node.
    pub(crate) fn dir(&self, node: NodeId) -> &Path {
        self.dirs[&node].path()
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.dirs.keys().copied().collect()
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[&id]
    }

    /// The data directory of a node.
    pub(crate) fn directory(&self, node: NodeId) -> &Path {
        self.dirs[&node].path()
    }

    pub(crate) fn handle(&self, node: NodeId, group: GroupId) -> GroupHandle {
        self.nodes[&node].group(group).unwrap()
    }

    /// Starts a replica of `group` on every node.
    pub(crate) fn start_group(&self, group: GroupId) -> Result<(), Box<dyn Error>> {
        self.nodes.keys().try_for_each(|node| self.start_replica(*node, group))
    }

    fn start_replica(&self, node: NodeId, group: GroupId) -> Result<(), Box<dyn Error>> {
        self.start_with(node, group, Box::<Counter>::default())
    }

    /// Starts a replica of `group` with this state machine.
    pub(crate) fn start_with(
        &self,
        node: NodeId,
        group: GroupId,
        machine: Box<dyn StateMachine>,
    ) -> Result<(), Box<dyn Error>> {
        let replicas = self.ids();
        let preferred = Some(replicas[group.0 as usize % replicas.len()]);
        self.nodes[&node].create_group(GroupSpec { group, replicas, preferred, machine })?;
        Ok(())
    }

    pub(crate) fn stop(&mut self, node: NodeId) {
        self.nodes[&node].stop();
    }

    /// Starts a stopped node again, with the groups that it had.
    pub(crate) fn restart(&mut self, id: NodeId) -> Result<(), Box<dyn Error>> {
        let old = self.nodes.remove(&id).unwrap();
        let groups = old.groups();
        drop(old);
        self.start_node(id)?;
        groups.into_iter().try_for_each(|group| self.start_replica(id, group))
    }

    /// Starts a node again, with none of the groups that it had.
    pub(crate) fn restart_without_groups(&mut self, id: NodeId) -> Result<(), Box<dyn Error>> {
        drop(self.nodes.remove(&id));
        self.start_node(id)
    }

    pub(crate) fn isolate(&self, node: NodeId) {
        for other in self.ids().into_iter().filter(|other| *other != node) {
            self.network.cut(node, other);
            self.network.cut(other, node);
        }
    }

    /// Loses what one node sends to another, but not what comes back.
    pub(crate) fn cut(&self, from: NodeId, to: NodeId) {
        self.network.cut(from, to);
    }

    /// Lets `node` hear nobody, though it is heard.
    pub(crate) fn deafen(&self, node: NodeId) {
        for other in self.ids().into_iter().filter(|other| *other != node) {
            self.network.cut(other, node);
        }
    }

    pub(crate) fn heal(&self, node: NodeId) {
        for other in self.ids().into_iter().filter(|other| *other != node) {
            self.network.heal(node, other);
            self.network.heal(other, node);
        }
    }

    /// Waits for a leader and returns it.
    pub(crate) async fn leader(&self, group: GroupId) -> NodeId {
        self.leader_among(&self.ids(), group).await
    }

    /// Waits until one of `nodes` leads and returns it.
    pub(crate) async fn leader_among(&self, nodes: &[NodeId], group: GroupId) -> NodeId {
        let leads = |node: &&NodeId| {
            let handle = self.nodes[*node].group(group);
            handle.is_some_and(|handle| handle.view().role() == RoleKind::Leader)
        };
        loop {
            if let Some(leader) = nodes.iter().find(leads) {
                return *leader;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Proposes at the leader, whoever it is by then, until it is acknowledged. Only refusals are
    /// tried again.
    pub(crate) async fn propose(&self, group: GroupId, command: &[u8]) -> Bytes {
        self.at_leader(group, async |handle: GroupHandle| {
            handle.propose(Bytes::copy_from_slice(command)).await
        })
        .await
    }

    pub(crate) async fn propose_at(&self, node: NodeId, group: GroupId, command: &[u8]) -> Bytes {
        self.handle(node, group).propose(Bytes::copy_from_slice(command)).await.unwrap()
    }

    pub(crate) async fn read(&self, group: GroupId) -> Bytes {
        self.at_leader(group, async |handle: GroupHandle| handle.read(Bytes::new()).await).await
    }

    async fn at_leader(
        &self,
        group: GroupId,
        request: impl AsyncFn(GroupHandle) -> Result<Bytes, RequestError>,
    ) -> Bytes {
        loop {
            let leader = self.leader(group).await;
            match request(self.handle(leader, group)).await {
                Ok(answer) => return answer,
                Err(RequestError::NotLeader { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until the replica has applied so many commands and at least one leader's no-op. Each
    /// of them takes one index.
    pub(crate) async fn await_applied(&self, node: NodeId, group: GroupId, commands: u64) {
        let handle = self.handle(node, group);
        while handle.view().applied() <= Index(commands) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn snapshots_sent(&self) -> u64 {
        self.nodes.values().map(|node| node.metrics().snapshots_sent.get()).sum()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.values().for_each(Node::stop);
    }
}

impl Watch {
    /// When about so many more appends have arrived at `node`, nothing gets through to it, though
    /// connections stand.
    pub(crate) fn silence_after(&self, node: NodeId, appends: usize) {
        *self.silent.lock() = Some((node, appends));
    }

    /// Everything gets through again.
    pub(crate) fn end_silence(&self) {
        *self.silent.lock() = None;
    }

    /// The appends that arrived at `node`, whether they got through or not, in their order.
    pub(crate) fn appends_to(&self, node: NodeId) -> Vec<Append> {
        self.appends.lock().iter().filter(|append| append.to == node).copied().collect()
    }

    /// What arrived at all nodes up to now.
    pub(crate) fn arrivals(&self) -> Arrivals {
        *self.arrivals.lock()
    }

    /// Whether `node` has said to anybody that a replica on it is no more (`left`), or that it
    /// leads nothing by a former leader any more (`resigned`).
    pub(crate) fn has_parted(&self, node: NodeId, word: &'static str) -> bool {
        self.partings.lock().contains(&(node, word))
    }

    /// The nodes that were asked to confirm leaderships for reads.
    pub(crate) fn asked(&self) -> Vec<NodeId> {
        self.asked.lock().iter().copied().collect()
    }

    /// Forgets the appends that arrived up to now.
    pub(crate) fn forget(&self) {
        self.appends.lock().clear();
    }

    fn note_partings(&self, from: NodeId, parcels: &[Parcel]) {
        for parcel in parcels {
            let Parcel::Message { message, .. } = parcel else { continue };
            let word = match message.payload {
                Payload::Left => "left",
                Payload::Resigned { .. } => "resigned",
                _ => continue,
            };
            self.partings.lock().insert((from, word));
        }
    }

    /// Notes what arrived at `node`, and tells whether it gets through.
    fn note(&self, node: NodeId, parcels: &[Parcel]) -> bool {
        let mut arrivals = self.arrivals.lock();
        for parcel in parcels {
            let is_request =
                |parcel: &Parcel| matches!(parcel, Parcel::Support(SupportMessage::Request { .. }));
            arrivals.messages += usize::from(matches!(parcel, Parcel::Message { .. }));
            arrivals.requests += usize::from(is_request(parcel));
        }
        drop(arrivals);
        let is_question =
            |parcel: &Parcel| matches!(parcel, Parcel::Support(SupportMessage::Confirm { .. }));
        self.asked.lock().extend(parcels.iter().any(is_question).then_some(node));
        let mut silent = self.silent.lock();
        let through = *silent != Some((node, 0));
        let appends: Vec<_> =
            parcels.iter().filter_map(|parcel| Append::of(node, through, parcel)).collect();
        if let Some((silent, left)) = &mut *silent
            && *silent == node
        {
            *left = left.saturating_sub(appends.len());
        }
        self.appends.lock().extend(appends);
        through
    }
}

impl Append {
    fn of(to: NodeId, through: bool, parcel: &Parcel) -> Option<Self> {
        if let Parcel::Message { message, .. } = parcel
            && let Payload::AppendEntries { entries, .. } = &message.payload
            && let Some(first) = entries.first()
        {
            let bytes = entries.iter().map(|entry| entry.data.len()).sum();
            let (first, entries) = (first.index, entries.len() as u64);
            return Some(Self { to, through, first, entries, bytes });
        }
        None
    }
}

/// An inbox whose arrivals are watched.
struct Watched {
    node: NodeId,
    inbox: Arc<dyn Inbox>,
    watch: Arc<Watch>,
}

impl Inbox for Watched {
    fn receive(&self, from: NodeId, parcels: Vec<Parcel>) {
        self.watch.note_partings(from, &parcels);
        if self.watch.note(self.node, &parcels) {
            self.inbox.receive(from, parcels);
        }
    }

    fn introduction(&self, peer: NodeId) -> Introduction {
        self.inbox.introduction(peer)
    }

    fn remembered(&self, peer: NodeId) -> Option<Remembered> {
        self.inbox.remembered(peer)
    }

    fn remember(&self, peer: NodeId, remembered: Remembered) -> io::Result<()> {
        self.inbox.remember(peer, remembered)
    }

    fn let_in_by(&self, peer: NodeId) -> io::Result<()> {
        self.inbox.let_in_by(peer)
    }

    fn connected(&self, peer: NodeId) {
        self.inbox.connected(peer);
    }

    fn disconnected(&self, peer: NodeId) {
        self.inbox.disconnected(peer);
    }

    fn incoming_closed(&self, peer: NodeId) {
        self.inbox.incoming_closed(peer);
    }

    fn failed(&self, reason: &str) {
        self.inbox.failed(reason);
    }
}
