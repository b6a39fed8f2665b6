//! The nodes of the table are the peers of this node.

use super::RETRY;
use crate::router::Inner;
use crate::table::{NodeRecord, Table};
use logboat::transport::Incarnation;
use logboat::{NodeId, PeerError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::timeout;

/// What is known of a peer: its directory, and where it is.
type Known = (Option<u64>, String);

/// Adds and removes peers as the table says, for as long as the router runs. Where the node was
/// told at its start to find a peer counts, until the table says something else than `at_start`.
pub(super) async fn keep(inner: Arc<Inner>, at_start: Arc<Table>) {
    let mut tables = inner.feed.watch();
    let known = |(node, record): (NodeId, &NodeRecord)| (node, of(record));
    let members = inner.node.members();
    let mut done: BTreeMap<NodeId, Known> = at_start.nodes().map(known).collect();
    // Not all of them need be among those of the configuration.
    done.retain(|node, _| members.contains(node));
    loop {
        let table = Arc::clone(&tables.borrow_and_update());
        let is_done = inner.follow_peers(&table, &mut done);
        match is_done {
            true if tables.changed().await.is_err() => return,
            true => {}
            // Something could not be done yet.
            false => _ = timeout(RETRY, tables.changed()).await,
        }
    }
}

fn of(record: &NodeRecord) -> Known {
    (record.incarnation, record.card.peers.clone())
}

impl Inner {
    /// Returns whether all is done.
    fn follow_peers(&self, table: &Table, done: &mut BTreeMap<NodeId, Known>) -> bool {
        let mut is_done = true;
        for (node, record) in table.nodes().filter(|(node, _)| *node != self.node.id()) {
            let known = of(record);
            if done.get(&node) == Some(&known) || known.1.is_empty() {
                continue;
            }
            // Only the incarnation may be new. Then the node is where this one was told to find it.
            let before = done.get(&node).filter(|(_, address)| *address == known.1);
            let address = before.and_then(|_| self.node.addresses().remove(&node));
            let address = address.unwrap_or_else(|| known.1.clone());
            let added = match known.0 {
                Some(incarnation) => {
                    self.node.add_known_peer(node, &address, Incarnation(incarnation))
                }
                None => self.node.add_peer(node, &address),
            };
            match added {
                Ok(()) => {}
                Err(PeerError::Unrecorded { .. }) => {
                    is_done = false;
                    continue;
                }
                Err(error) => tracing::error!("{error}"),
            }
            done.insert(node, known);
        }
        for node in self.node.members() {
            if node != self.node.id() && table.has_left(node) {
                match self.node.remove_peer(node) {
                    Ok(()) => _ = done.remove(&node),
                    // A replica here has not heard yet that its group is without that node.
                    Err(PeerError::HoldsReplica { .. }) => is_done = false,
                    Err(error) => tracing::error!("{error}"),
                }
            }
        }
        is_done
    }
}
