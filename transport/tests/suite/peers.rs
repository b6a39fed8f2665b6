//! Peers that come, move and go while the transport runs.

use crate::common::{Event, Recorder, eventually, number, numbered_batch};
use crate::played_peer::{NOWHERE, config, last_error, refusals, start};
use logboat_raft::NodeId;
use logboat_transport::{SendError, TcpTransport, Transport};

const TWO: NodeId = NodeId(2);

#[test]
fn a_peer_that_is_added_is_reached_and_one_that_is_removed_is_turned_away() {
    let (one, inbox) = start(config(1, &[]));
    let (two, other) = start(config(2, &[(1, one.local_addr().to_string())]));
    eventually("a stranger is refused", || refusals(&one, "unknown_node") > 0);
    assert!(one.peers().is_empty());
    one.add_peer(TWO, &two.local_addr().to_string());
    inbox.wait_connected(2);
    other.wait_connected(1);
    one.send(TWO, numbered_batch([1])).unwrap();
    assert_eq!(number(&other.wait_parcels(1, 1)[0]), Some(1));
    two.send(NodeId(1), numbered_batch([2])).unwrap();
    assert_eq!(number(&inbox.wait_parcels(2, 1)[0]), Some(2));

    one.remove_peer(TWO);
    inbox.wait_event(&Event::Disconnected(TWO));
    other.wait_event(&Event::Disconnected(NodeId(1)));
    let refused = one.send(TWO, numbered_batch([3]));
    assert!(matches!(refused, Err(SendError::UnknownPeer(TWO))), "{refused:?}");
    eventually("it is refused", || last_error(&two, 1).contains("unknown node"));
    one.remove_peer(TWO);

    // It may come back.
    one.add_peer(TWO, &two.local_addr().to_string());
    inbox.wait_events(&Event::Connected(TWO), 2);
    other.wait_events(&Event::Connected(NodeId(1)), 2);
    one.send(TWO, numbered_batch([4])).unwrap();
    assert_eq!(number(&other.wait_parcels(1, 2)[1]), Some(4));
    // A shutdown writes what is queued for it as for any other.
    one.send(TWO, numbered_batch([5])).unwrap();
    one.shutdown();
    assert_eq!(number(&other.wait_parcels(1, 3)[2]), Some(5));
    one.add_peer(NodeId(3), NOWHERE);
}

#[test]
fn a_peer_that_moves_is_dialled_where_it_is() {
    let (one, inbox) = start(config(1, &[(2, NOWHERE.to_owned())]));
    eventually("it is not there", || !last_error(&one, 2).is_empty());
    let at_one = || [(1, one.local_addr().to_string())];
    let (two, _) = start(config(2, &at_one()));
    one.add_peer(TWO, &two.local_addr().to_string());
    inbox.wait_connected(2);
    two.shutdown();
    inbox.wait_event(&Event::Disconnected(TWO));
    let moved = Recorder::new();
    let two = TcpTransport::start(config(2, &at_one()), moved.clone()).unwrap();
    one.add_peer(TWO, &two.local_addr().to_string());
    inbox.wait_events(&Event::Connected(TWO), 2);
    assert_eq!(one.peers()[0].address, two.local_addr().to_string());
    one.send(TWO, numbered_batch([1])).unwrap();
    assert_eq!(number(&moved.wait_parcels(1, 1)[0]), Some(1));
    // A node is no peer of its own.
    one.add_peer(NodeId(1), NOWHERE);
    assert_eq!(one.peers().len(), 1);
}
