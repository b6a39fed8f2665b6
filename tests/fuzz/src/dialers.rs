//! The dialer of a transport, on a real socket: whatever a listener answers, the dialer counts it
//! as its peer exactly when the answer is a welcome of that node, and the connection ends.

use crate::handshakes::{
    CLUSTER, INCARNATION, NODE, PEER, PEERS_INCARNATION, TEXT_BYTES, VERSION, said, text,
};
use arbitrary::Unstructured;
use logboat_raft::{ClusterId, Incarnation, NodeId};
use logboat_transport::{Inbox, Parcel, TcpTransport, TransportConfig};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Answers bytes as they are, or an answer that is well-formed and the bytes behind it.
pub fn dialers(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let answer = said(&mut input, [CLUSTER, PEER, 0, PEERS_INCARNATION]).unwrap_or_default();
    let welcome = answer.starts_with(&text(VERSION, [CLUSTER, PEER, 0, PEERS_INCARNATION]));
    let dialer = dialer().lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    dialer.answer(&answer);
    let events: Vec<Event> = dialer.events.try_iter().collect();
    let expected: &[Event] = if welcome { &[Event::Connected, Event::Disconnected] } else { &[] };
    assert_eq!(events, expected);
}

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Connected,
    Disconnected,
}

/// A transport that dials for as long as the process lives, and where it finds its peer.
struct Dialer {
    listener: TcpListener,
    events: Receiver<Event>,
    _transport: TcpTransport,
}

impl Dialer {
    fn start() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(any).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let mut config = TransportConfig::new(
            NodeId(NODE),
            ClusterId(CLUSTER),
            Incarnation(INCARNATION),
            any,
            BTreeMap::from([(NodeId(PEER), address.to_string())]),
        );
        config.backoff_min = Duration::from_micros(100);
        config.backoff_max = config.backoff_min;
        let (sender, events) = channel();
        let transport = TcpTransport::start(config, Arc::new(Witness(sender)));
        let _transport = transport.expect("loopback has a free port");
        Self { listener, events, _transport }
    }

    /// Takes the next connection, answers on it, and waits for its end. What follows from it has
    /// happened by then.
    fn answer(&self, answer: &[u8]) {
        let (mut stream, _) = self.listener.accept().expect("the dialer tries again");
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).expect("a wait that is not zero");
        let mut hello = [0; TEXT_BYTES];
        stream.read_exact(&mut hello).expect("the dialer introduces itself");
        assert_eq!(hello, *text(VERSION, [CLUSTER, NODE, PEER, INCARNATION]));
        // A dialer that has heard enough closes before all is said.
        let _ = stream.write_all(answer);
        let _ = stream.shutdown(Shutdown::Write);
        match stream.read_to_end(&mut Vec::new()) {
            Ok(said) => assert_eq!(said, 0, "there was nothing to send"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("it keeps the connection")
            }
            Err(_) => {}
        }
    }
}

fn dialer() -> &'static Mutex<Dialer> {
    static DIALER: OnceLock<Mutex<Dialer>> = OnceLock::new();
    DIALER.get_or_init(|| Mutex::new(Dialer::start()))
}

/// Notes when the peer comes and goes.
struct Witness(Sender<Event>);

impl Inbox for Witness {
    fn receive(&self, from: NodeId, _: Vec<Parcel>) {
        unreachable!("node {from} has not dialed");
    }

    fn verify(&self, peer: NodeId, incarnation: Incarnation) -> bool {
        (peer, incarnation) == (NodeId(PEER), Incarnation(PEERS_INCARNATION))
    }

    fn connected(&self, peer: NodeId) {
        assert_eq!(peer, NodeId(PEER));
        // Whoever fuzzes may have ended.
        let _ = self.0.send(Event::Connected);
    }

    fn disconnected(&self, _: NodeId) {
        let _ = self.0.send(Event::Disconnected);
    }
}
