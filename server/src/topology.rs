//! What clients of a cluster are told of its nodes.
//!
//! Each node writes where clients reach it into a database that clients don't see. The key of a
//! node's address lies in some group, as any key does. Whoever is asked for the topology reads the
//! addresses of all nodes, and remembers them for the time when one of these groups has no leader.

use crate::backend::{Backend, RangeId};
use crate::kv::{Answer, Command, Condition, Lifetime, NODES_DATABASE, Query};
use crate::options::split_address;
use bytes::Bytes;
use logboat::NodeId;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::time;

/// How long to wait before an address is written once more.
const RETRY: Duration = Duration::from_millis(500);

/// How long to wait for the addresses of others.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest address that counts, in bytes.
const MAX_ADDRESS_BYTES: u64 = 1_024;

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

/// The addresses of nodes, as far as they are known.
#[derive(Debug, Default)]
pub struct ClientAddresses {
    known: RwLock<BTreeMap<NodeId, ClientAddress>>,
}

impl ClientAddresses {
    /// Where clients reach a node.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Option<ClientAddress> {
        self.known.read().get(&node).cloned()
    }

    /// Notes where clients reach a node.
    pub fn note(&self, node: NodeId, address: &str) {
        if let Some((host, port)) = split_address(address) {
            let address = ClientAddress { host: host.to_owned(), port };
            self.known.write().insert(node, address);
        }
    }

    /// Reads the addresses of `nodes`. Those that can't be read in time stay what they were.
    pub async fn read(&self, backend: &impl Backend, nodes: &[NodeId]) {
        let reading = async {
            for node in nodes {
                let (range, key) = place(backend, *node);
                let query = Query::Get { key, limit_bytes: MAX_ADDRESS_BYTES };
                let answer = backend.read(range, query.encode_in(NODES_DATABASE)).await;
                if let Ok(Ok(Answer::Value(Some(address)))) = answer.map(|it| Answer::decode(&it)) {
                    self.note(*node, &String::from_utf8_lossy(&address));
                }
            }
        };
        // Who waits for the topology gets what is known.
        let _ = time::timeout(PATIENCE, reading).await;
    }
}

/// Writes where clients reach `node`, until that has succeeded.
pub async fn publish(backend: impl Backend, node: NodeId, address: String) {
    let (range, key) = place(&backend, node);
    let command = Command::Set {
        key,
        value: Bytes::from(address),
        condition: Condition::Always,
        want_old: None,
        lifetime: Lifetime::Endless,
    };
    let command = command.encode_in(NODES_DATABASE);
    while backend.propose(range, command.clone()).await.is_err() {
        time::sleep(RETRY).await;
    }
}

/// Where the address of a node is kept.
fn place(backend: &impl Backend, node: NodeId) -> (RangeId, Bytes) {
    let stored = backend.partition().stored(format!("client-address/{node}").as_bytes());
    (backend.range_of(&stored), stored)
}
