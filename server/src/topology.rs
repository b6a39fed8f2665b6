//! What clients of a cluster are told of its nodes. Where they reach each of them stands in the
//! table of the cluster.

use crate::options::split_address;
use std::ops::RangeInclusive;

/// Where clients reach a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// A name or an IP address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What a client of a cluster is told.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// The node that tells it.
    pub me: u64,
    /// All nodes whose addresses are known.
    pub nodes: Vec<TopologyNode>,
    /// Which slots each leader has, in the order of the slots.
    pub spans: Vec<SlotSpan>,
}

/// A node of the topology.
#[derive(Clone, Debug)]
pub struct TopologyNode {
    /// Its id.
    pub id: u64,
    /// Where clients reach it.
    pub address: ClientAddress,
    /// Whether the node that tells of it reaches it.
    pub is_reached: bool,
}

/// Neighbouring slots whose groups have the same leader and the same replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSpan {
    /// The slots.
    pub slots: RangeInclusive<u16>,
    /// The leader's id.
    pub leader: u64,
    /// The ids of the nodes with the other replicas.
    pub others: Vec<u64>,
}

impl ClientAddress {
    /// Reads `host:port`. None if it is something else.
    pub(crate) fn read(address: &str) -> Option<Self> {
        let (host, port) = split_address(address)?;
        Some(Self { host: host.to_owned(), port })
    }
}
