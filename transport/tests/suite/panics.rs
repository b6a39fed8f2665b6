//! A panic in what the transport calls costs a connection, which comes back.

use crate::common::{Recorder, number, numbered_batch};
use crate::played_peer::{NOWHERE, config, start};
use logboat_raft::{Introduction, NodeId, Remembered};
use logboat_transport::{Inbox, Parcel, TcpTransport, Transport};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Panics when the first connection stands.
struct Panicking {
    recorder: Arc<Recorder>,
    panicked: AtomicBool,
}

impl Inbox for Panicking {
    fn receive(&self, from: NodeId, parcels: Vec<Parcel>) {
        self.recorder.receive(from, parcels);
    }

    fn introduction(&self, peer: NodeId) -> Introduction {
        self.recorder.introduction(peer)
    }

    fn remembered(&self, peer: NodeId) -> Option<Remembered> {
        self.recorder.remembered(peer)
    }

    fn remember(&self, peer: NodeId, remembered: Remembered) -> io::Result<()> {
        self.recorder.remember(peer, remembered)
    }

    fn let_in_by(&self, peer: NodeId) -> io::Result<()> {
        self.recorder.let_in_by(peer)
    }

    fn connected(&self, peer: NodeId) {
        assert!(self.panicked.swap(true, Ordering::Relaxed), "as the test wants");
        self.recorder.connected(peer);
    }

    fn disconnected(&self, peer: NodeId) {
        self.recorder.disconnected(peer);
    }
}

#[test]
fn a_peer_is_dialed_again_after_a_panic() {
    let (receiver, received) = start(config(2, &[(1, NOWHERE.to_owned())]));
    let recorder = Recorder::new();
    let inbox = Panicking { recorder: Arc::clone(&recorder), panicked: AtomicBool::new(false) };
    let config = config(1, &[(2, receiver.local_addr().to_string())]);
    let sender = TcpTransport::start(config, Arc::new(inbox)).unwrap();
    recorder.wait_connected(2);
    sender.send(NodeId(2), numbered_batch([7])).unwrap();
    assert_eq!(number(&received.wait_parcels(1, 1)[0]), Some(7));
}
