//! The nodes of the table are the peers of this node.

use super::RETRY;
use crate::router::Inner;
use crate::table::{NodeRecord, Table};
use logboat::transport::Incarnation;
use logboat::{NodeId, PeerError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::timeout;

/// What was taken from the record of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    /// The version of the table that had changed the record last.
    changed: u64,
    incarnation: Option<u64>,
    address: String,
}

/// Adds and removes peers as the table says, for as long as the router runs. Where the node was
/// told at its start to find a peer counts, until the table has a later record of the peer than
/// `at_start`, with another address, and the peer is not reached where it was looked for. A record
/// may be later than the one that was known and be older than what a person knew.
pub(super) async fn keep(inner: Arc<Inner>, at_start: Arc<Table>) {
    let mut tables = inner.feed.watch();
    let taken = |(node, record): (NodeId, &NodeRecord)| (node, Taken::of(record));
    let members = inner.node.members();
    let mut done: BTreeMap<NodeId, Taken> = at_start.nodes().map(taken).collect();
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

impl Taken {
    fn of(record: &NodeRecord) -> Self {
        let NodeRecord { incarnation, card, changed, .. } = record;
        Self { changed: *changed, incarnation: *incarnation, address: card.peers.clone() }
    }
}

/// What a later record means for a peer.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// Nothing.
    Nothing,
    /// Nothing yet: the peer is reached where it was looked for.
    Later,
    /// The peer is to be looked for where it was.
    SamePlace,
    /// The peer is to be looked for there.
    OtherPlace,
}

fn news(record: &NodeRecord, before: Option<&Taken>, is_reached: bool) -> News {
    let address = &record.card.peers;
    let Some(before) = before else {
        return if address.is_empty() { News::Nothing } else { News::OtherPlace };
    };
    if record.changed <= before.changed || address.is_empty() {
        News::Nothing
    } else if *address != before.address {
        if is_reached { News::Later } else { News::OtherPlace }
    } else if record.incarnation != before.incarnation {
        News::SamePlace
    } else {
        News::Nothing
    }
}

impl Inner {
    /// Returns whether all is done.
    fn follow_peers(&self, table: &Table, done: &mut BTreeMap<NodeId, Taken>) -> bool {
        let mut is_done = true;
        for (node, record) in table.nodes().filter(|(node, _)| *node != self.node.id()) {
            let there = || record.card.peers.clone();
            let address = match news(record, done.get(&node), self.node.reaches(node)) {
                News::Nothing => continue,
                News::Later => {
                    is_done = false;
                    continue;
                }
                News::SamePlace => self.node.addresses().remove(&node).unwrap_or_else(there),
                News::OtherPlace => there(),
            };
            let added = match record.incarnation {
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
            done.insert(node, Taken::of(record));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{NodeCard, NodeState};

    #[test]
    fn a_later_record_is_news_and_a_peer_that_is_reached_is_left_where_it_is() {
        let record = |changed, incarnation, address: &str| NodeRecord {
            incarnation,
            card: NodeCard { peers: address.to_owned(), ..NodeCard::default() },
            state: NodeState::Up,
            changed,
        };
        let known = Taken::of(&record(5, None, "a:1"));
        for (record, is_reached, expected) in [
            (record(5, None, "a:1"), false, News::Nothing),
            (record(4, None, "a:2"), false, News::Nothing),
            (record(6, None, "a:1"), false, News::Nothing),
            (record(6, Some(7), "a:1"), false, News::SamePlace),
            (record(6, Some(7), "a:1"), true, News::SamePlace),
            (record(6, None, "a:2"), false, News::OtherPlace),
            // The middle one of two moves, while the node is where a person said that it is.
            (record(6, None, "a:2"), true, News::Later),
            (record(6, Some(7), ""), false, News::Nothing),
        ] {
            assert_eq!(news(&record, Some(&known), is_reached), expected, "{record:?}");
            assert_ne!(news(&record, None, is_reached), News::SamePlace);
        }
        assert_eq!(news(&record(1, None, "a:1"), None, true), News::OtherPlace);
    }
}
