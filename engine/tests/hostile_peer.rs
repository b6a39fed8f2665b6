//! A peer that is let in and says what can't be true does no lasting harm.

use logboat::transport::{
    BootCount, Inbox, Incarnation, Introduction, Link, MemoryNetwork, Outgoing, Parcel, Remembered,
    Start, Transport,
};
use logboat::{Node, NodeConfig, NodeId, SupportSettings};
use logboat_raft::{LogPosition, RequestSeq, SupportMessage};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

const NODE: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);

/// The start of the peer.
const START: BootCount = BootCount(3);

/// Remembers the node, and the answers to requests for support.
#[derive(Default)]
struct Hostile {
    known: Mutex<Option<Remembered>>,
    granted: Mutex<Vec<BootCount>>,
}

impl Inbox for Hostile {
    fn receive(&self, _: NodeId, parcels: Vec<Parcel>) {
        for parcel in parcels {
            if let Parcel::Support(SupportMessage::Granted { boot, .. }) = parcel {
                self.granted.lock().push(boot);
            }
        }
    }

    fn introduction(&self, _: NodeId) -> Introduction {
        let newest = Start { count: START, ..Start::default() };
        Introduction { incarnation: Incarnation(9), newest, ..Introduction::default() }
    }

    fn remembered(&self, _: NodeId) -> Option<Remembered> {
        *self.known.lock()
    }

    fn remember(&self, _: NodeId, remembered: Remembered) -> io::Result<()> {
        *self.known.lock() = Some(remembered);
        Ok(())
    }

    fn let_in_by(&self, _: NodeId) -> io::Result<()> {
        Ok(())
    }

    fn connected(&self, _: NodeId) {}
    fn disconnected(&self, _: NodeId) {}
}

/// Asks the node for support, in the name of that start of the peer.
fn ask(transport: &dyn Transport, boot: BootCount) {
    let settings = SupportSettings { timeout: Duration::from_secs(1), leases: false };
    let (seq, log_end) = (RequestSeq(1), LogPosition::default());
    let (heard, leaving) = (true, false);
    let mut outgoing = Outgoing::new();
    outgoing.push_support(&SupportMessage::Request {
        boot,
        seq,
        heard,
        settings,
        log_end,
        leaving,
    });
    let _not_connected_yet = transport.send(NODE, outgoing);
}

fn eventually(mut done: impl FnMut() -> bool) {
    while !done() {
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_later_start_than_the_peer_introduced_itself_as_is_not_believed() {
    let network = MemoryNetwork::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let members = BTreeMap::from([NODE, PEER].map(|id| (id, "127.0.0.1:0".to_owned())));
    let config = NodeConfig::new(NODE, members, dir.path()).unwrap();
    let nodes = network.clone();
    let node = Node::start_on(config, move |_, inbox| {
        let transport = nodes.join(NODE, inbox);
        Ok(Link { transport, metrics: None, close: Box::new(move || nodes.leave(NODE)) })
    })
    .unwrap();
    let hostile = Arc::<Hostile>::default();
    let transport = network.join(PEER, Arc::clone(&hostile) as Arc<dyn Inbox>);

    let error = || node.status().peers[0].last_error.clone().unwrap_or_default();
    eventually(|| {
        ask(&*transport, BootCount(START.0 + 1));
        error().contains("start 4 in the connection of start 3")
    });
    // The true one is supported.
    eventually(|| {
        ask(&*transport, START);
        hostile.granted.lock().contains(&START)
    });
    assert!(!hostile.granted.lock().contains(&BootCount(START.0 + 1)));
    node.stop();
}
