//! A running node, for those who use it. [`replicas`] has its replicas, which come and go, and
//! [`administration`] what is asked of the leaders of groups.

mod administration;
mod cluster;
mod replicas;

use crate::background::scrubber::{Scrubber, Scrubbing};
use crate::batch::{Answers, Batch};
use crate::config::{LEAST_SNAPSHOT_BYTES_PER_S, NodeConfig};
use crate::error::{PeerError, RequestError, StartError};
use crate::events::Events;
use crate::handle::GroupHandle;
use crate::liveness::node_time::NodeTime;
use crate::metrics::EngineMetrics;
use crate::request::GroupRequest;
use crate::service::{NodeService, SERVICE};
use crate::start::{Link, Parts, Threads, assemble};
use crate::status::{NodeStatus, OtherVoters, StuckReplica, WalStatus};
use crate::view::GroupView;
use crate::worker::event::Event;
use bytes::Bytes;
use logboat_raft::{
    Configuration, GroupId, Incarnation, NodeId, Remembered, RoleKind, Start, Tuning,
};
use logboat_storage::Identity;
use logboat_transport::{
    Inbox, StartError as TransportError, TcpTransport, TransportConfig, Visit,
};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
pub use replicas::GroupSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// A running node. Clones stand for the same node, which runs until [`Node::stop`] or until the
/// last of them is dropped.
///
/// ```
/// use logboat::{Bytes, GroupId, GroupSpec, Node, NodeConfig, NodeId, StateMachine};
/// use std::collections::BTreeMap;
///
/// # struct Counter(u8);
/// # impl StateMachine for Counter {
/// #     fn apply(&mut self, command: Bytes) -> Bytes {
/// #         self.0 += command[0];
/// #         Bytes::copy_from_slice(&[self.0])
/// #     }
/// #     fn query(&self, _: Bytes) -> Bytes { Bytes::copy_from_slice(&[self.0]) }
/// #     fn snapshot(&self) -> logboat::SnapshotWriter { Box::new(|_| Ok(())) }
/// #     fn restore(&mut self, _: &mut dyn std::io::Read) -> std::io::Result<()> { Ok(()) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = tempfile::tempdir()?;
/// // A cluster of one node, which has no peers to listen for.
/// let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
/// let node = Node::start(NodeConfig::new(NodeId(1), members, dir.path())?)?;
/// let counter = node.create_group(GroupSpec {
///     group: GroupId(1),
///     replicas: vec![NodeId(1)],
///     preferred: None,
///     machine: Box::new(Counter(0)),
/// })?;
/// assert_eq!(counter.view().led().await, NodeId(1));
/// assert_eq!(node.groups(), [GroupId(1)]);
/// node.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    config: NodeConfig,
    tuning: Arc<Tuning>,
    parts: Parts,
    /// Founding configurations, each once however many groups have it.
    founding: Mutex<BTreeSet<Arc<Configuration>>>,
    /// What a replica goes by that has yet to hear of its group.
    unknown: Arc<Configuration>,
    /// Held while a peer is added or removed.
    changing_peers: Mutex<()>,
    /// Looks for damage.
    scrubber: Mutex<Option<Scrubber>>,
    threads: Mutex<Option<Threads>>,
}

/// How long a stopping node waits for others to take over another of the groups that it leads, and
/// ten times that for all of them.
const HANDOVER_LIMIT: Duration = Duration::from_millis(500);

/// After how long the groups that are left are offered again.
const HANDOVER_ROUND: Duration = Duration::from_millis(50);

/// How long a stopping node waits for its threads, beyond the handover and the last sync.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What the transport is told: its limits follow from the node's budget and timeouts.
fn transport_config(config: &NodeConfig, identity: &Identity) -> TransportConfig {
    let Identity { node, cluster, .. } = *identity;
    let peers = config.members.clone();
    let max_queued_bytes = config.budget().leaving(peers.len() - 1);
    let transport = TransportConfig {
        tls: config.tls.clone(),
        secret: config.cluster_secret.clone(),
        ..TransportConfig::new(node, cluster, config.listen, peers)
    };
    TransportConfig { max_queued_bytes, ..transport }
        .with_election_timeout(config.tuning.election_timeout)
}

impl Node {
    /// Starts a node: locks its directory, recovers its log, opens its port. Blocks for as long as
    /// the recovery takes.
    ///
    /// # Errors
    /// See [`StartError`]; whatever was begun has ended then.
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        let for_transport = config.clone();
        Self::start_on(config, move |identity, inbox| {
            let config = transport_config(&for_transport, identity);
            let tcp = Arc::new(TcpTransport::start(config, inbox)?);
            let closing = Arc::clone(&tcp);
            let metrics = Some(tcp.metrics().clone());
            Ok(Link { transport: tcp, metrics, close: Box::new(move || closing.shutdown()) })
        })
    }

    /// Starts a node over the transport that `connect` makes for its identity and its
    /// inbox.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start_on(
        config: NodeConfig,
        connect: impl FnOnce(&Identity, Arc<dyn Inbox>) -> Result<Link, TransportError>,
    ) -> Result<Self, StartError> {
        config.check()?;
        let (parts, threads) = assemble(&config, connect)?;
        let scrubber = Scrubber::start(Scrubbing {
            wal: parts.wal.clone(),
            snapshots: parts.snapshots.clone(),
            groups: Arc::clone(&parts.groups),
            bytes_per_s: config.scrub_bytes_per_s,
        });
        Ok(Self(Arc::new(Inner {
            tuning: Arc::new(config.tuning.clone()),
            config,
            parts,
            founding: Mutex::default(),
            unknown: Arc::new(Configuration::unknown()),
            changing_peers: Mutex::default(),
            scrubber: Mutex::new(scrubber?),
            threads: Mutex::new(Some(threads)),
        })))
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.0.config.node
    }

    /// What tells this node's data directory from others that were made under its id.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.0.parts.identity.incarnation
    }

    /// The name of the node's cluster.
    #[must_use]
    pub fn cluster_name(&self) -> &str {
        &self.0.config.cluster_name
    }

    /// Where the nodes of the cluster are reached that this node knows, this one among them.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<NodeId, String> {
        let peers = self.0.parts.transport.peers().into_iter();
        let own = self.0.config.members.get(&self.id()).cloned().unwrap_or_default();
        peers.map(|peer| (peer.node, peer.address)).chain([(self.id(), own)]).collect()
    }

    /// Where the node's data are.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.0.config.data_dir
    }

    /// The nodes with which the cluster was made.
    #[must_use]
    pub fn founders(&self) -> &[NodeId] {
        &self.0.parts.identity.members
    }

    /// Somebody who passes what guards the ports of this node's cluster.
    #[must_use]
    pub fn visit(&self) -> Visit {
        let NodeConfig { tls, cluster_secret, .. } = &self.0.config;
        Visit { tls: tls.clone(), secret: cluster_secret.clone() }
    }

    /// Has requests that go to this node answered: those of [`Node::ask`], and those of visitors.
    /// The first service stays.
    pub fn serve(&self, service: Arc<dyn NodeService>) {
        // A second one is not needed.
        let _ = self.0.parts.inbound.services.set(service);
    }

    /// All nodes of the cluster that this node knows, this one among them.
    #[must_use]
    pub fn members(&self) -> Vec<NodeId> {
        let peers = self.0.parts.shared.peers.all();
        let mut members: Vec<_> = peers.iter().copied().chain([self.id()]).collect();
        members.sort_unstable();
        members
    }

    /// Knows `node` as a peer from now on, reached at `address` (`host:port`), or has a peer
    /// dialled at another address from now on. It holds until the node stops: give
    /// [`NodeConfig::members`] accordingly at the next start, and [`NodeConfig::founders`] along
    /// with it. Both nodes have to know each other before anything gets through.
    ///
    /// A peer that is added may have as much waiting for it as each of those at the start.
    ///
    /// # Errors
    /// [`PeerError::NodeZero`] and [`PeerError::Itself`].
    ///
    /// ```no_run
    /// use logboat::{Node, NodeConfig, NodeId};
    ///
    /// # fn grow(one: Node) -> Result<(), Box<dyn std::error::Error>> {
    /// let addresses = [(NodeId(1), "10.0.0.1:7000"), (NodeId(2), "10.0.0.2:7000")];
    /// let members = addresses.map(|(node, address)| (node, address.to_owned())).into();
    /// // Node 2 is new in a cluster that node 1 was alone in. It takes part when node 1 has
    /// // recorded its directory.
    /// let mut config = NodeConfig::new(NodeId(2), members, "/var/lib/logboat")?;
    /// config.founders = Some([NodeId(1)].into());
    /// let two = Node::start(config)?;
    /// // In the process of node 1.
    /// one.add_peer(NodeId(2), "10.0.0.2:7000")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn add_peer(&self, node: NodeId, address: &str) -> Result<(), PeerError> {
        if node == NodeId(0) {
            return Err(PeerError::NodeZero);
        }
        if node == self.id() {
            return Err(PeerError::Itself(node));
        }
        let parts = &self.0.parts;
        let _changing = self.0.changing_peers.lock();
        parts.shared.peers.add(node);
        parts.liveness.add_peer(node);
        parts.transport.add_peer(node, address);
        Ok(())
    }

    /// Has the node send snapshots to its peers, and take them in, at this rate from now on: see
    /// [`NodeConfig::snapshot_bytes_per_s`], whose least value holds here, too.
    pub fn pace_snapshots(&self, bytes_per_s: u64) {
        self.0.parts.user_code.paces.set(bytes_per_s.max(LEAST_SNAPSHOT_BYTES_PER_S));
    }

    /// Like [`Self::add_peer`], with the incarnation of the peer's data directory. That is recorded
    /// before anything is heard of the peer, so no other directory can speak under its id.
    ///
    /// # Errors
    /// Those of [`Self::add_peer`], [`PeerError::OtherIncarnation`] and [`PeerError::Unrecorded`].
    pub fn add_known_peer(
        &self,
        node: NodeId,
        address: &str,
        incarnation: Incarnation,
    ) -> Result<(), PeerError> {
        let known_peers = &self.0.parts.inbound.known_peers;
        match known_peers.get(node) {
            Some(known) if known.incarnation != incarnation => {
                return Err(PeerError::OtherIncarnation(node));
            }
            Some(_) => {}
            None => {
                let remembered = Remembered { incarnation, ..Remembered::default() };
                known_peers
                    .remember(node, remembered)
                    .map_err(|error| PeerError::Unrecorded { node, reason: error.to_string() })?;
            }
        }
        self.add_peer(node, address)
    }

    /// Whether a recovery of lost majorities has given up this peer: it is never let in again.
    #[must_use]
    pub fn is_given_up(&self, peer: NodeId) -> bool {
        let known = self.0.parts.inbound.known_peers.get(peer);
        known.is_some_and(|remembered| remembered.fenced)
    }

    /// The peers that recoveries of lost majorities have given up here.
    #[must_use]
    pub fn given_up(&self) -> Vec<NodeId> {
        let known_peers = &self.0.parts.inbound.known_peers;
        known_peers.nodes().into_iter().filter(|peer| self.is_given_up(*peer)).collect()
    }

    /// The starts of its peers that this node has last let in, or told that they are let in.
    #[must_use]
    pub fn starts_let_in(&self) -> BTreeMap<NodeId, Start> {
        let known_peers = &self.0.parts.inbound.known_peers;
        let newest = |node| Some((node, known_peers.get(node)?.newest()?));
        known_peers.nodes().into_iter().filter_map(newest).collect()
    }

    /// Knows `node` as a peer no longer. Its connections end, and it is turned away. It must hold
    /// no replica of a group that has one here.
    ///
    /// # Errors
    /// [`PeerError::Unknown`] and [`PeerError::HoldsReplica`].
    ///
    /// ```no_run
    /// use logboat::{Node, NodeId, PeerError};
    ///
    /// # fn shrink(node: Node) {
    /// match node.remove_peer(NodeId(4)) {
    ///     Err(PeerError::HoldsReplica { group, .. }) => println!("group {group} moves first"),
    ///     Err(error) => println!("{error}"),
    ///     Ok(()) => {}
    /// }
    /// # }
    /// ```
    pub fn remove_peer(&self, node: NodeId) -> Result<(), PeerError> {
        let parts = &self.0.parts;
        let _changing = self.0.changing_peers.lock();
        if !parts.shared.peers.contains(node) {
            return Err(PeerError::Unknown(node));
        }
        let stored = parts.groups.stored().into_iter();
        let mut holding = stored.filter(|it| it.members.contains(node)).map(|it| it.group);
        if let Some(group) = holding.next() {
            return Err(PeerError::HoldsReplica { node, group });
        }
        parts.shared.peers.remove(node);
        parts.liveness.remove_peer(node);
        parts.transport.remove_peer(node);
        Ok(())
    }

    /// Sends a request to the replica of `group` on another node and waits for its answer, for as
    /// long as the connections to and from that node stand: bound the wait.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn call(
        &self,
        to: NodeId,
        group: GroupId,
        request: &GroupRequest,
    ) -> Result<Bytes, RequestError> {
        let mut batch = self.batch();
        batch.call(to, group, request);
        only_answer(batch.send()).await
    }

    /// Like [`Self::call`], but has the node `via` forward the request, once, since this node does
    /// not reach `to`.
    ///
    /// # Errors
    /// See [`RequestError`]. [`RequestError::Unreachable`] names the node that was not reached.
    pub async fn call_via(
        &self,
        via: NodeId,
        to: NodeId,
        group: GroupId,
        request: &GroupRequest,
    ) -> Result<Bytes, RequestError> {
        let mut batch = self.batch();
        batch.call_via(via, to, group, request);
        only_answer(batch.send()).await
    }

    /// Asks what [serves](Self::serve) another node, for as long as the connections to and from
    /// that node stand: bound the wait.
    ///
    /// # Errors
    /// See [`RequestError`]; [`RequestError::NoSuchGroup`] where nothing serves.
    pub async fn ask(&self, to: NodeId, request: Bytes) -> Result<Bytes, RequestError> {
        self.call(to, SERVICE, &GroupRequest::read_local(request)).await
    }

    /// A batch of requests, to replicas on this node and on others.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(&self.0.parts)
    }

    /// Whether this node and `peer` have heard each other within the election timeout. A connection
    /// that stands says less: it may lead nowhere.
    #[must_use]
    pub fn reaches(&self, peer: NodeId) -> bool {
        self.0.parts.liveness.reaches(peer)
    }

    /// What happens to the replicas of this node from now on. Any number of receivers may listen,
    /// each at its own pace.
    #[must_use]
    pub fn events(&self) -> Events {
        self.0.parts.shared.events.listen()
    }

    /// The clock of this node: the time since 1970, as nodes hand it on to each other.
    #[must_use]
    pub fn time(&self) -> NodeTime {
        self.0.parts.liveness.time().clone()
    }

    /// How the node is.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let parts = &self.0.parts;
        let groups = self.0.parts.groups.all_started();
        let views = || groups.iter().map(GroupHandle::view);
        let lacks_leader = |handle: &&GroupHandle| handle.view().leader().is_none();
        let leaderless = || groups.iter().filter(lacks_leader).map(GroupHandle::group);
        NodeStatus {
            node_id: self.id().0,
            cluster_id: self.drawn_cluster().unwrap_or(parts.identity.cluster).to_string(),
            waiting_for: parts.founder.waiting_for(),
            groups: groups.len(),
            leaders: views().filter(|view| view.role() == RoleKind::Leader).count(),
            groups_without_leader: leaderless().count(),
            leaderless: leaderless().collect(),
            has_quorum: parts.liveness.has_quorum(),
            disk_silence: parts.liveness.disk_silence(),
            pending_bytes: parts.gate.admission.used_bytes(),
            apply_lag: views().map(GroupView::lag).sum(),
            other_voters: groups.iter().filter_map(other_voters).collect(),
            failed: self.0.parts.groups.failed(),
            mended: parts.shared.mending.mended(),
            stuck: parts.user_code.restores.stuck().list(),
            failure: parts.wal.poisoned().map(|poisoned| poisoned.to_string()),
            wal: WalStatus::of(&parts.wal),
            peers: parts.transport.peers(),
            differing_settings: parts.liveness.differing_settings(),
        }
    }

    /// What this node's groups count.
    #[must_use]
    pub fn metrics(&self) -> &EngineMetrics {
        &self.0.parts.gate.metrics
    }

    /// Adds everything that this node counts to `registry`, by names that begin with `logboat_`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        let parts = &self.0.parts;
        let registry = registry.sub_registry_with_prefix("logboat");
        parts.gate.metrics.register(registry);
        parts.wal.metrics().register(registry);
        if let Some(metrics) = &parts.transport_metrics {
            metrics.register(registry);
        }
    }

    /// How long a node that is not heard is supported.
    #[must_use]
    pub fn election_timeout(&self) -> Duration {
        self.0.tuning.election_timeout
    }

    /// Hands the leaderships of this node to the others, and tells them to hand none back. Blocks
    /// until that is done or can't be done, for a few seconds at most. What is left of a node that
    /// is about to stop: [`Node::stop`] does the same.
    pub fn hand_over(&self) {
        self.0.hand_over();
    }

    /// Stops the node: hands over leaderships, answers what is pending, makes the log durable, ends
    /// all threads. Blocks for a few seconds at most besides the last sync. Later calls do nothing.
    ///
    /// User code that hangs is not waited for: [`Self::status`] names its replicas, and its threads
    /// end when it returns. A [`SnapshotWriter`](crate::SnapshotWriter) that hangs keeps the data
    /// directory locked.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Inner {
    fn stop(&self) {
        let Some(threads) = self.threads.lock().take() else {
            return;
        };
        let scrubber = self.scrubber.lock().take().map(Scrubber::stop);
        self.hand_over();
        self.parts.gate.stopped.store(true, Ordering::Relaxed);
        self.parts.user_code.disk_machines.close();
        let (done, stopped) = mpsc::channel();
        for worker in self.parts.workers.iter() {
            worker.post(Event::Stop(done.clone()));
        }
        drop(done);
        let deadline = Instant::now() + STOP_LIMIT;
        for _ in self.parts.workers.iter() {
            // A worker that is gone has nothing left to hand over.
            let _ = stopped.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        self.parts.wal.clone().close();
        threads.note_stop(&self.parts.wal);
        let has_scrubbed = scrubber.is_none_or(|scrubber| scrubber.join(deadline));
        let have_ended = threads.stop(&self.parts.snapshot_queue, deadline) && has_scrubbed;
        self.parts.shared.events.close();
        for StuckReplica { group, code, .. } in self.parts.user_code.restores.stuck().list() {
            tracing::error!(group = group.0, "the node has stopped without {code}");
        }
        if !have_ended {
            tracing::error!("the node has stopped, and some of its threads go on");
        }
    }

    /// Lets the peers that are there take over, so that clients need not wait for an election.
    ///
    /// Peers whose replicas are not up to date come last. What was not taken is offered again, for
    /// as long as some of it is taken.
    fn hand_over(&self) {
        let leaders = || self.parts.gate.metrics.leaders.get();
        if self.parts.transport.peers().iter().all(|peer| !peer.connected) {
            return;
        }
        self.parts.liveness.leave();
        let start = Instant::now();
        let (mut fewest, mut progress) = (leaders(), start);
        for round in 0.. {
            let (left, now) = (leaders(), Instant::now());
            if left < fewest {
                (fewest, progress) = (left, now);
            }
            let is_vain = now - progress >= HANDOVER_LIMIT;
            if left <= 0 || is_vain || now - start >= HANDOVER_LIMIT * 10 {
                return;
            }
            for worker in self.parts.workers.iter() {
                worker.post(Event::Transfer { round });
            }
            let next = now + HANDOVER_ROUND;
            while leaders() > 0 && Instant::now() < next {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The answer to the only request of a batch.
async fn only_answer(mut answers: Answers) -> Result<Bytes, RequestError> {
    let answer = answers.next().await.and_then(|mut answers| answers.pop());
    answer.map_or(Err(RequestError::TimedOut), |(_, answer)| answer)
}

fn other_voters(handle: &GroupHandle) -> Option<OtherVoters> {
    let node = handle.view().other_voters()?;
    Some(OtherVoters { group: handle.group(), node })
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::ClusterId;

    #[test]
    fn a_connection_may_be_idle_for_several_heartbeats_whatever_the_timeouts() {
        let members = BTreeMap::from([(NodeId(1), "127.0.0.1:1".to_owned())]);
        let mut config = NodeConfig::new(NodeId(1), members, "data").unwrap();
        let identity = Identity {
            cluster: ClusterId(1),
            name: String::new(),
            node: NodeId(1),
            members: vec![NodeId(1)],
            incarnation: Incarnation(1),
        };
        for election_timeout_ms in [300, 2_500, 100_000] {
            config.tuning.election_timeout = Duration::from_millis(election_timeout_ms);
            // The longest heartbeat interval that goes with it.
            let heartbeat_interval = config.tuning.election_timeout / 3;
            let idle_timeout = transport_config(&config, &identity).idle_timeout;
            assert!(idle_timeout > heartbeat_interval * 5, "{idle_timeout:?}");
        }
    }
}
