//! The configuration of a node.

use crate::budget::Budget;
use crate::error::ConfigError;
use crate::founding::Founding;
use logboat_raft::{ClusterId, NodeId, Tuning};
use logboat_security::{ClusterSecret, Own, PortTls};
use logboat_storage::WalOptions;
use logboat_transport::MAX_FRAME_BYTES;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A node's place in its cluster and its limits. [`NodeConfig::new`] fills in the defaults.
///
/// ```
/// use logboat::{ConfigError, NodeConfig, NodeId};
/// use std::collections::BTreeMap;
/// use std::time::Duration;
///
/// let members = BTreeMap::from([
///     (NodeId(1), "10.0.0.1:7000".to_owned()),
///     (NodeId(2), "10.0.0.2:7000".to_owned()),
///     (NodeId(3), "10.0.0.3:7000".to_owned()),
/// ]);
/// let mut config = NodeConfig::new(NodeId(2), members.clone(), "/var/lib/logboat")?;
/// assert_eq!(config.listen.to_string(), "10.0.0.2:7000");
/// config.request_timeout = Duration::from_secs(5);
///
/// let stranger = NodeConfig::new(NodeId(4), members, "/var/lib/logboat");
/// assert_eq!(stranger.err(), Some(ConfigError::NotAMember(NodeId(4))));
/// # Ok::<(), ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This node.
    pub node: NodeId,
    /// Every node of the cluster, this one among them, with the address (`host:port`) where its
    /// peers reach it. [`Node::add_peer`](crate::Node::add_peer) adds others while the node runs.
    pub members: BTreeMap<NodeId, String>,
    /// The nodes with which the cluster was made, if others have come since or some have gone: the
    /// cluster's id is made of them, and a directory keeps them. `None` if they are the members.
    pub founders: Option<BTreeSet<NodeId>>,
    /// Tells clusters with the same node ids apart.
    pub cluster_name: String,
    /// The id that was drawn for the cluster, if it is known before the node starts. A directory
    /// keeps the first one that it hears of, from here, from a peer or by
    /// [`Node::adopt_cluster`](crate::Node::adopt_cluster), and is refused with another one.
    pub drawn_cluster: Option<ClusterId>,
    /// Where log and snapshots live.
    pub data_dir: PathBuf,
    /// Who must have recorded this node before it promises anything, if `data_dir` is new.
    pub founding: Founding,
    /// TLS between nodes: each shows a certificate that says `logboat://CLUSTER/peer`. Without it,
    /// whoever reaches a node's port can read what nodes tell each other. It must have been opened
    /// for this node and this `cluster_name`.
    ///
    /// ```no_run
    /// use logboat::security::{Own, PortTls, Tls, TlsFiles};
    /// use logboat::{NodeConfig, NodeId};
    ///
    /// # let members = [(NodeId(2), "10.0.0.2:7000".to_owned())].into();
    /// let mut config = NodeConfig::new(NodeId(2), members, "/var/lib/logboat")?;
    /// let files = TlsFiles {
    ///     cert: "node.crt".into(),
    ///     key: "node.key".into(),
    ///     ca: "ca.crt".into(),
    /// };
    /// let tls = Tls::open(files, &*config.cluster_name, Own::Peer(2))?;
    /// config.tls = Some(PortTls { tls, required: true });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub tls: Option<PortTls>,
    /// What nodes prove to each other to know before anything else, so that strangers can't speak
    /// as nodes. All nodes have the same, or none has one.
    pub cluster_secret: Option<ClusterSecret>,
    /// Where to listen for peers.
    pub listen: SocketAddr,
    /// Threads that run groups; by default one a core.
    pub workers: usize,
    /// Time between two heartbeats to each peer, whatever the number of groups. Timeouts are told
    /// apart ten times as finely.
    pub heartbeat_interval: Duration,
    /// Timeouts and limits of each replica. The election timeout is also how long a node that is
    /// not heard is supported: then the groups that it led elect others.
    pub tuning: Tuning,
    /// Whether the node promises its peers support for a time, so that leaders there may read on
    /// leases ([`ReadMode::lease`](crate::ReadMode::lease)). By default it does not, and withdraws
    /// its support as soon as a peer's process has ended; with leases, the groups led there have to
    /// wait for the election timeout. Give it the same value on all nodes: one that differs is
    /// named in the log and in [`NodeStatus`](crate::NodeStatus). A leader uses a lease only of
    /// peers that promised it, so that no mixture of settings makes a read stale.
    pub leases: bool,
    /// By which part of an election timeout the clocks of two nodes may drift apart within one, for
    /// the sake of lease reads. Nothing else relies on it.
    pub max_clock_drift: f64,
    /// How long a proposal may stay without an outcome before its caller hears
    /// [`RequestError::TimedOut`](crate::RequestError::TimedOut).
    pub request_timeout: Duration,
    /// How long a call of a state machine may take before it is taken for one that hangs. Its
    /// worker then goes on with its other groups on a fresh thread, and its replica does not lead
    /// until the call returns. Nor does one lead that could not read what it is to apply for so
    /// long, for want of descriptors or memory. A [`SnapshotWriter`](crate::SnapshotWriter) gets
    /// ten times as long, from one write to the next. At least 10 ms.
    pub state_machine_timeout: Duration,
    /// The largest command or query, in bytes. It must fit a frame between nodes, which takes
    /// 63 MiB.
    pub max_command_bytes: usize,
    /// How many bytes the node may hold for all that is under way: requests, messages, writes to
    /// the log. Beyond it, requests are refused as
    /// [`RequestError::Busy`](crate::RequestError::Busy) and messages of peers are dropped. A node
    /// that must refuse takes no more than it answers in a quarter of a second, however much memory
    /// there is, so that what it takes does not wait for long. What the state machines hold is not
    /// counted.
    pub memory_budget_bytes: usize,
    /// A group whose commands since its last snapshot exceed this, and the size of that snapshot,
    /// makes a new one. While a peer is being sent one, it takes 16 times as much.
    pub snapshot_log_bytes: u64,
    /// How many bytes of snapshots the node sends to its peers in a second at the most, and takes
    /// in. Copies give way to requests: on a busy machine they are slower. At least 1 MiB.
    /// [`Node::pace_snapshots`](crate::Node::pace_snapshots) changes it while the node runs.
    pub snapshot_bytes_per_s: u64,
    /// How many bytes of the log and of snapshots are read in a second to look for damage, so that
    /// it is found while other replicas are whole. A read counts as a page of 4 KiB at least, and
    /// some minutes may pass between two rounds. A replica whose data are damaged stops
    /// ([`GroupView::failure`](crate::GroupView::failure)). Zero for none.
    pub scrub_bytes_per_s: u64,
    /// The log's options.
    pub wal: WalOptions,
}

impl NodeConfig {
    /// The configuration of `node` in the cluster of `members`, with data in `data_dir`. It listens
    /// on the address that `members` gives for it.
    ///
    /// The default timeouts suit a loaded machine: heartbeats every 500 ms, and after 2.5 s without
    /// one the groups led from there elect other leaders.
    ///
    /// # Errors
    /// [`ConfigError::NotAMember`] and [`ConfigError::Address`].
    pub fn new(
        node: NodeId,
        members: BTreeMap<NodeId, String>,
        data_dir: impl Into<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let address = members.get(&node).ok_or(ConfigError::NotAMember(node))?;
        let listen =
            address.parse().map_err(|_| ConfigError::Address { node, address: address.clone() })?;
        Ok(Self {
            node,
            members,
            founders: None,
            cluster_name: "logboat".to_owned(),
            drawn_cluster: None,
            data_dir: data_dir.into(),
            founding: Founding::All,
            tls: None,
            cluster_secret: None,
            listen,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            heartbeat_interval: Duration::from_millis(500),
            tuning: Tuning { election_timeout: Duration::from_millis(2_500), ..Tuning::default() },
            leases: false,
            max_clock_drift: 0.1,
            request_timeout: Duration::from_secs(10),
            state_machine_timeout: Duration::from_secs(1),
            max_command_bytes: 9 << 20,
            memory_budget_bytes: 1 << 30,
            snapshot_log_bytes: 8 << 20,
            snapshot_bytes_per_s: 160 << 20,
            scrub_bytes_per_s: 1 << 20,
            wal: WalOptions::default(),
        })
    }

    /// Checks that the parts agree with each other.
    ///
    /// # Errors
    /// All of [`ConfigError`] but [`ConfigError::Address`].
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.cluster_name.contains('\n') {
            return Err(ConfigError::ClusterName);
        }
        if let Some(PortTls { tls, .. }) = &self.tls
            && (tls.own() != Own::Peer(self.node.0) || tls.cluster() != self.cluster_name)
        {
            return Err(ConfigError::Tls);
        }
        if !self.members.contains_key(&self.node) {
            return Err(ConfigError::NotAMember(self.node));
        }
        if self.members.contains_key(&NodeId(0)) {
            return Err(ConfigError::NodeZero);
        }
        if self.founders.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(ConfigError::NoFounders);
        }
        if self.workers == 0 {
            return Err(ConfigError::NoWorkers);
        }
        let (interval, timeout) = (self.heartbeat_interval, self.tuning.election_timeout);
        if interval < LEAST_HEARTBEAT_INTERVAL || interval > timeout / 3 {
            return Err(ConfigError::HeartbeatInterval(interval));
        }
        if self.state_machine_timeout < LEAST_STATE_MACHINE_TIMEOUT {
            return Err(ConfigError::StateMachineTimeout(self.state_machine_timeout));
        }
        if self.snapshot_bytes_per_s < LEAST_SNAPSHOT_BYTES_PER_S {
            return Err(ConfigError::SnapshotRate(self.snapshot_bytes_per_s));
        }
        if self.max_command_bytes > LARGEST_BODY {
            let command_bytes = self.max_command_bytes;
            return Err(ConfigError::CommandTooLarge { command_bytes, limit: LARGEST_BODY });
        }
        let (budget_bytes, command_bytes) = (self.memory_budget_bytes, self.max_command_bytes);
        if self.budget().least_share(self.members.len()) < command_bytes {
            return Err(ConfigError::MemoryBudget { budget_bytes, command_bytes });
        }
        self.founding.awaited(self)?;
        Ok(())
    }

    /// What may wait for each worker of what peers send.
    pub(crate) fn arriving_bytes(&self) -> usize {
        self.budget().arriving(self.workers, self.max_command_bytes)
    }

    pub(crate) const fn budget(&self) -> Budget {
        Budget { total_bytes: self.memory_budget_bytes }
    }

    /// The nodes with which the cluster was made.
    pub(crate) fn founding_nodes(&self) -> Vec<NodeId> {
        match &self.founders {
            Some(founders) => founders.iter().copied().collect(),
            None => self.members.keys().copied().collect(),
        }
    }

    /// What follows of the cluster's identity from its name and its founders: a hash (FNV-1a) of
    /// them. Addresses don't count, since nodes may reach each other by different ones, and may
    /// move. Two clusters may have the same until an id was drawn for them.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        let ids = self.founding_nodes().into_iter().flat_map(|node| node.0.to_le_bytes());
        let hash = self.cluster_name.bytes().chain(ids).fold(0xcbf2_9ce4_8422_2325, fnv_1a);
        ClusterId(hash)
    }
}

/// The shortest time between two heartbeats, which is as finely as a node looks for deadlines.
const LEAST_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(1);

/// The shortest time that a state machine may be given. Below it, threads that wait for the
/// processor would be taken for some that hang.
const LEAST_STATE_MACHINE_TIMEOUT: Duration = Duration::from_millis(10);

/// The lowest rate of snapshots. Below it, a part of one could take longer than its receiver waits.
pub(crate) const LEAST_SNAPSHOT_BYTES_PER_S: u64 = 1 << 20;

/// The largest command or answer that a frame has room for, beside what travels with it.
pub(crate) const LARGEST_BODY: usize = MAX_FRAME_BYTES as usize - (1 << 20);

fn fnv_1a(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_security::{CertificateAuthority, Role, Tls};

    fn config(members: u64) -> NodeConfig {
        let address = |id| (NodeId(id), format!("127.0.0.1:{}", 7000 + id));
        let members = (1..=members).map(address).collect();
        NodeConfig::new(NodeId(1), members, "data").unwrap()
    }

    #[test]
    fn the_defaults_fit_any_number_of_cores_and_nodes() {
        for members in 1..=9 {
            for workers in 1..=128 {
                let config = NodeConfig { workers, ..config(members) };
                assert_eq!(config.check(), Ok(()), "{members} nodes, {workers} workers");
            }
        }
    }

    #[test]
    fn tls_is_of_this_node_and_this_cluster() {
        let day = Duration::from_secs(86_400);
        let (authority, _) = CertificateAuthority::new("orders", day).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let files = authority.issue_files(dir.path(), "node", Role::Peer(None), &[], day).unwrap();
        let with = |own, cluster_name: &str| {
            let tls = Tls::open(files.clone(), "orders", own).unwrap();
            let tls = Some(PortTls { tls, required: true });
            NodeConfig { tls, cluster_name: cluster_name.to_owned(), ..config(3) }.check()
        };
        assert_eq!(with(Own::Peer(1), "orders"), Ok(()));
        assert_eq!(with(Own::Peer(2), "orders"), Err(ConfigError::Tls));
        assert_eq!(with(Own::Any, "orders"), Err(ConfigError::Tls));
        assert_eq!(with(Own::Peer(1), "others"), Err(ConfigError::Tls));
    }

    #[test]
    fn heartbeats_fit_the_clock_and_the_election_timeout() {
        let with = |heartbeat_interval| {
            let election_timeout = Duration::from_millis(300);
            let tuning = Tuning { election_timeout, ..Tuning::default() };
            NodeConfig { heartbeat_interval, tuning, ..config(3) }.check()
        };
        for fits in [1, 20, 100].map(Duration::from_millis) {
            assert_eq!(with(fits), Ok(()));
        }
        let off = [Duration::ZERO, Duration::from_micros(999), Duration::from_millis(101)];
        for interval in off {
            assert_eq!(with(interval), Err(ConfigError::HeartbeatInterval(interval)));
        }
    }

    #[test]
    fn a_state_machine_gets_some_time() {
        let state_machine_timeout = Duration::from_millis(9);
        let short = NodeConfig { state_machine_timeout, ..config(3) };
        assert_eq!(short.check(), Err(ConfigError::StateMachineTimeout(state_machine_timeout)));
    }

    #[test]
    fn snapshots_get_on() {
        let slow = NodeConfig { snapshot_bytes_per_s: (1 << 20) - 1, ..config(3) };
        assert_eq!(slow.check(), Err(ConfigError::SnapshotRate((1 << 20) - 1)));
    }

    #[test]
    fn a_command_that_no_frame_can_carry_is_refused_at_the_start() {
        let large = NodeConfig { memory_budget_bytes: 4 << 30, ..config(3) };
        let fits = NodeConfig { max_command_bytes: LARGEST_BODY, ..large.clone() };
        assert_eq!(fits.check(), Ok(()));
        let too_large = NodeConfig { max_command_bytes: 64 << 20, ..large };
        assert!(matches!(too_large.check(), Err(ConfigError::CommandTooLarge { .. })));
    }
}
