//! The dialer of a transport, on a real socket, with arbitrary answers of a listener. The dialer
//! counts the listener as its peer exactly when the answer is a welcome of that node. The
//! connection ends in any case.

use crate::handshakes::{
    BOOT, CLUSTER, HELLO_BYTES, KNOWN, NODE, PEER, PEERS_BOOT, VERSION, answer_numbers,
    handshake_bytes, hello, said, text,
};
use arbitrary::Unstructured;
use logboat_raft::{ClusterId, Introduction, NodeId, Remembered};
use logboat_transport::{Inbox, Parcel, TcpTransport, TransportConfig, judge};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Answers bytes as they are, or an answer that is well-formed and the bytes behind it.
pub fn dialers(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let welcome = answer_numbers([CLUSTER, PEER, 0], PEERS_BOOT, KNOWN);
    let answer = handshake_bytes(&mut input, welcome).unwrap_or_default();
    let welcome = is_welcome(&answer);
    let dialer = dialer().lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    dialer.answer(&answer);
    let events: Vec<Event> = dialer.events.try_iter().collect();
    let expected: &[Event] = if welcome { &[Event::Connected, Event::Disconnected] } else { &[] };
    assert_eq!(events, expected);
}

/// Whether it is whole, of the node that was wanted, and of a start that can follow the one that is
/// remembered. What it says of this node does not matter then.
fn is_welcome(answer: &[u8]) -> bool {
    let numbers: Vec<u64> = [12, 20, 28, 36, 48, 56, 64, 72, 80, 88, 96, 104]
        .into_iter()
        .filter_map(|at| answer.get(at..at + 8))
        .map(|number| u64::from_le_bytes(number.try_into().expect("eight bytes")))
        .collect();
    let [cluster, node, code, a, b, c, d, e, f, g, _, _] = numbers[..] else {
        return false;
    };
    let claimed = said([a, b, c, d, e, f, g]);
    answer.starts_with(&text(VERSION, &numbers))
        && (cluster, node, code) == (CLUSTER, PEER, 0)
        && [None, BOOT.cluster].contains(&claimed.cluster)
        && judge(Some(KNOWN), claimed).is_ok()
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
        let mut heard = [0; HELLO_BYTES];
        stream.read_exact(&mut heard).expect("the dialer introduces itself");
        assert_eq!(heard, *hello([CLUSTER, NODE, PEER], BOOT));
        // A dialer that has read enough closes before all is sent.
        let _ = stream.write_all(answer);
        let _ = stream.shutdown(Shutdown::Write);
        match stream.read_to_end(&mut Vec::new()) {
            Ok(read) => assert_eq!(read, 0, "there was nothing to send"),
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

    fn introduction(&self, _: NodeId) -> Introduction {
        BOOT
    }

    fn remembered(&self, _: NodeId) -> Option<Remembered> {
        Some(KNOWN)
    }

    fn remember(&self, _: NodeId, _: Remembered) -> io::Result<()> {
        Ok(())
    }

    fn let_in_by(&self, _: NodeId) -> io::Result<()> {
        Ok(())
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
