//! What a transport counts.

use logboat_raft::NodeId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics of a transport. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct TransportMetrics {
    messages_sent: Family<PeerLabel, Counter>,
    frames_sent: Family<PeerLabel, Counter>,
    bytes_sent: Family<PeerLabel, Counter>,
    messages_received: Family<PeerLabel, Counter>,
    frames_received: Family<PeerLabel, Counter>,
    bytes_received: Family<PeerLabel, Counter>,
    queued_bytes: Family<PeerLabel, Gauge>,
    connections: Family<PeerLabel, Counter>,
    dropped_full: Family<PeerLabel, Counter>,
    bad_frames: Family<PeerLabel, Counter>,
    violations: Family<PeerLabel, Counter>,
    refused_handshakes: Family<CauseLabel, Counter>,
    refused_dials: Family<CauseLabel, Counter>,
}

impl TransportMetrics {
    /// Adds the metrics to a registry, their names beginning with `transport_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("transport");
        let mut counter = |name: &str, help: &str, family: &Family<PeerLabel, Counter>| {
            registry.register(name, help, family.clone());
        };
        counter("messages_sent", "Parcels handed to the network", &self.messages_sent);
        counter("frames_sent", "Frames handed to the network", &self.frames_sent);
        counter("bytes_sent", "Bytes handed to the network", &self.bytes_sent);
        counter("messages_received", "Parcels received", &self.messages_received);
        counter("frames_received", "Frames received", &self.frames_received);
        counter("bytes_received", "Bytes received", &self.bytes_received);
        counter("connections", "Connections made to the peer", &self.connections);
        counter("dropped_full", "Batches dropped at a full queue", &self.dropped_full);
        counter("bad_frames", "Incoming connections closed for a bad frame", &self.bad_frames);
        let help = "Incoming connections closed because the peer broke the protocol";
        counter("violations", help, &self.violations);
        registry.register(
            "queued_bytes",
            "Bytes that wait for the network",
            self.queued_bytes.clone(),
        );
        registry.register(
            "refused_handshakes",
            "Incoming connections refused, by cause",
            self.refused_handshakes.clone(),
        );
        let help = "Dials that ended because this node or the peer refused the other, by cause";
        registry.register("refused_dials", help, self.refused_dials.clone());
    }

    /// The metrics of one peer, so that counting looks up no label.
    pub(crate) fn of_peer(&self, peer: NodeId) -> PeerMetrics {
        let label = PeerLabel { peer: peer.0 };
        PeerMetrics {
            messages_sent: self.messages_sent.get_or_create_owned(&label),
            frames_sent: self.frames_sent.get_or_create_owned(&label),
            bytes_sent: self.bytes_sent.get_or_create_owned(&label),
            messages_received: self.messages_received.get_or_create_owned(&label),
            frames_received: self.frames_received.get_or_create_owned(&label),
            bytes_received: self.bytes_received.get_or_create_owned(&label),
            queued_bytes: self.queued_bytes.get_or_create_owned(&label),
            connections: self.connections.get_or_create_owned(&label),
            dropped_full: self.dropped_full.get_or_create_owned(&label),
            bad_frames: self.bad_frames.get_or_create_owned(&label),
            violations: self.violations.get_or_create_owned(&label),
        }
    }

    /// Counts an incoming connection that was turned away.
    pub(crate) fn refused(&self, cause: &'static str) {
        self.refused_handshakes.get_or_create(&CauseLabel { cause }).inc();
    }

    /// Counts a dial that ended because one side refused the other.
    pub(crate) fn refused_by_peer(&self, cause: &'static str) {
        self.refused_dials.get_or_create(&CauseLabel { cause }).inc();
    }
}

/// The metrics of one peer.
#[derive(Debug)]
pub(crate) struct PeerMetrics {
    pub(crate) messages_sent: Counter,
    pub(crate) frames_sent: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) messages_received: Counter,
    pub(crate) frames_received: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) queued_bytes: Gauge,
    pub(crate) connections: Counter,
    pub(crate) dropped_full: Counter,
    pub(crate) bad_frames: Counter,
    pub(crate) violations: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerLabel {
    peer: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}
