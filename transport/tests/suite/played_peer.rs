//! A transport over TCP whose peer is played by the test, byte by byte.

use crate::common::{BOOT, KNOWN, Recorder};
use logboat_raft::{ClusterId, Introduction, NodeId, Remembered};
use logboat_transport::{Outgoing, TcpTransport, Transport, TransportConfig};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CLUSTER: ClusterId = ClusterId(0x1234);

/// Nobody listens there.
pub(crate) const NOWHERE: &str = "127.0.0.1:1";

pub(crate) fn config(node: u64, peers: &[(u64, String)]) -> TransportConfig {
    let peers = peers.iter().map(|(node, address)| (NodeId(*node), address.clone()));
    let listen = "127.0.0.1:0".parse().unwrap();
    let mut config = TransportConfig::new(NodeId(node), CLUSTER, listen, peers.collect());
    config.backoff_min = Duration::from_millis(1);
    config.backoff_max = Duration::from_millis(20);
    config
}

pub(crate) fn start(config: TransportConfig) -> (TcpTransport, Arc<Recorder>) {
    let inbox = Recorder::new();
    let transport = TcpTransport::start(config, inbox.clone()).unwrap();
    (transport, inbox)
}

/// Node 1 with a peer, node 2, that the test plays, and of which it only sees one direction.
pub(crate) fn node_facing(
    adjust: impl FnOnce(&mut TransportConfig),
) -> (TcpTransport, Arc<Recorder>) {
    let mut config = config(1, &[(2, NOWHERE.to_owned())]);
    adjust(&mut config);
    start(config)
}

/// The value of a metric, whose name with its labels begins like this.
pub(crate) fn metric(transport: &TcpTransport, name: &str) -> u64 {
    let mut registry = Registry::default();
    transport.metrics().register(&mut registry);
    let mut lines = String::new();
    text::encode(&mut lines, &registry).unwrap();
    let line = lines.lines().find(|line| line.starts_with(name));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

pub(crate) fn refusals(transport: &TcpTransport, cause: &str) -> u64 {
    let name = format!("transport_refused_handshakes_total{{cause=\"{cause}\"}}");
    metric(transport, &name)
}

pub(crate) fn last_error(transport: &TcpTransport, peer: u64) -> String {
    let peers = transport.peers();
    let status = peers.iter().find(|it| it.node == NodeId(peer)).unwrap();
    status.last_error.clone().unwrap_or_default()
}

/// The protocol's version.
pub(crate) const VERSION: u32 = 9;

/// The length of a hello.
pub(crate) const HELLO_BYTES: usize = 100;

/// The length of an answer.
pub(crate) const ANSWER_BYTES: usize = 116;

/// A hello of this version: cluster, from, to, and who says it.
pub(crate) fn hello(names: [u64; 3], own: Introduction) -> Vec<u8> {
    let [cluster, from, to] = names;
    longer(introduction(VERSION, [cluster, from, to, own.incarnation.0]), &numbers(own))
}

fn numbers(own: Introduction) -> [u64; 6] {
    let Introduction { newest, let_in, log_end, cluster, .. } = own;
    let let_in = let_in.unwrap_or_default();
    let cluster = cluster.map_or(0, |cluster| cluster.0);
    [newest.count.0, newest.nonce.0, let_in.count.0, let_in.nonce.0, log_end.pack(), cluster]
}

/// An answer of this version: cluster, node, code, who says it, and what it remembers.
pub(crate) fn answer(names: [u64; 3], own: Introduction, remembered: Remembered) -> Vec<u8> {
    let [cluster, node, code] = names;
    let newest = remembered.newest().unwrap_or_default();
    let rest = [&numbers(own)[..], &[newest.count.0, remembered.heard.pack()]].concat();
    longer(introduction(VERSION, [cluster, node, code, own.incarnation.0]), &rest)
}

/// Node 2's hello to node 1.
pub(crate) fn hello_of_two() -> Vec<u8> {
    hello([CLUSTER.0, 2, 1], BOOT)
}

/// How node 1 welcomes node 2.
pub(crate) fn welcome() -> Vec<u8> {
    answer([CLUSTER.0, 1, 0], BOOT, KNOWN)
}

fn longer(mut text: Vec<u8>, numbers: &[u64]) -> Vec<u8> {
    text.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    let checksum = crc32fast::hash(&text);
    text.extend_from_slice(&checksum.to_le_bytes());
    text
}

/// What a hello and an answer begin with in every version: the layout is pinned here, independently
/// of the code under test.
pub(crate) fn introduction(version: u32, numbers: [u64; 4]) -> Vec<u8> {
    let mut text = b"LOGBOAT\n".to_vec();
    text.extend_from_slice(&version.to_le_bytes());
    for number in numbers {
        text.extend_from_slice(&number.to_le_bytes());
    }
    let checksum = crc32fast::hash(&text);
    text.extend_from_slice(&checksum.to_le_bytes());
    text
}

/// Connects to node 1 as node 2, without a word.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Dials node 1 as node 2 and is welcome.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(&hello_of_two()).unwrap();
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer.as_slice(), welcome());
    stream
}

/// Takes node 1's call as node 2.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    let mut heard = [0; HELLO_BYTES];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard.as_slice(), hello([CLUSTER.0, 1, 2], BOOT));
    stream.write_all(&answer([CLUSTER.0, 2, 0], BOOT, KNOWN)).unwrap();
    stream
}

/// Waits until the other side has closed the connection, and answers what it said before.
pub(crate) fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => said,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => said,
        Err(error) => panic!("not closed: {error}"),
    }
}

pub(crate) fn frame_of(outgoing: Outgoing) -> Vec<u8> {
    outgoing.into_frames().concat()
}
