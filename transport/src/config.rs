//! The configuration of a node's transport.

use logboat_raft::{ClusterId, NodeId};
use logboat_security::{ClusterSecret, PortTls};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The longest frame that nodes exchange, if they are not told otherwise.
pub const MAX_FRAME_BYTES: u32 = 64 << 20;

/// The least time after which a connection counts as idle.
const LEAST_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Identity, addresses and limits of one node's transport.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// This node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Where peers reach this node; port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// The peers at the start, with their addresses as `host:port`, resolved anew at each dial. An
    /// entry for this node itself is ignored, so that all nodes can be given the same map.
    pub peers: BTreeMap<NodeId, String>,
    /// TLS, unless it is off. Both sides show certificates of peers of the cluster.
    pub tls: Option<PortTls>,
    /// What nodes prove to each other to know, within TLS or without it.
    pub secret: Option<ClusterSecret>,
    /// Longest frame accepted and written, at least 1 MiB. A parcel that would exceed it is not
    /// sent.
    pub max_frame_bytes: u32,
    /// Most bytes that wait for one peer. The frames of a batch that would exceed it are dropped. A
    /// single frame is queued whatever its size when nothing else waits.
    pub max_queued_bytes: usize,
    /// Most connections at a time that have not yet introduced themselves. A single source address
    /// gets a quarter of them. Those from the addresses of peers have places of their own.
    pub max_handshakes: usize,
    /// How long dialing, and introducing oneself, may take.
    pub handshake_timeout: Duration,
    /// The idle timeout. An incoming connection is closed when it brings nothing for so long, and
    /// an outgoing one when nothing can be written or the peer acknowledges nothing. The timeout
    /// must be several times the heartbeat interval.
    pub idle_timeout: Duration,
    /// The wait between the first failed dial and the next one.
    pub backoff_min: Duration,
    /// The wait between dials doubles up to this.
    pub backoff_max: Duration,
    /// How long a shutdown goes on writing what is queued.
    pub flush_timeout: Duration,
}

impl TransportConfig {
    /// A configuration with the default limits.
    #[must_use]
    pub fn new(
        node: NodeId,
        cluster: ClusterId,
        listen: SocketAddr,
        peers: BTreeMap<NodeId, String>,
    ) -> Self {
        Self {
            node,
            cluster,
            listen,
            peers,
            tls: None,
            secret: None,
            max_frame_bytes: MAX_FRAME_BYTES,
            max_queued_bytes: 64 << 20,
            max_handshakes: 64,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: LEAST_IDLE_TIMEOUT,
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(2),
            flush_timeout: Duration::from_millis(500),
        }
    }

    /// Sets the idle timeout to twice the time after which nodes withdraw their support, and to 15
    /// s at least. Heartbeats come several times as often.
    #[must_use]
    pub fn with_election_timeout(self, election_timeout: Duration) -> Self {
        Self { idle_timeout: LEAST_IDLE_TIMEOUT.max(election_timeout * 2), ..self }
    }
}
