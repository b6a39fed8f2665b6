//! TLS and secrets between two transports, in every mixture.

use crate::common::{Recorder, eventually, number, numbered_batch};
use crate::played_peer::{NOWHERE, config, hello_of_two, last_error, node_facing, refusals, start};
use logboat_raft::NodeId;
use logboat_security::{CertificateAuthority, ClusterSecret, Own, PortTls, Role, Tls};
use logboat_transport::{TcpTransport, Transport, TransportConfig};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// The certificates of a cluster.
pub(crate) struct Certificates(CertificateAuthority);

impl Certificates {
    pub(crate) fn new() -> Self {
        Self(CertificateAuthority::new("c", DAY).unwrap().0)
    }

    /// What node `node` shows, whose certificate has this id.
    pub(crate) fn of(&self, node: u64, certified: Option<u64>) -> Tls {
        let dir = tempfile::tempdir().unwrap();
        let role = Role::Peer(certified);
        let files = self.0.issue_files(dir.path(), "node", role, &[], DAY).unwrap();
        // A node notices at its own start that its certificate is another's.
        let own = if certified.is_none_or(|id| id == node) { Own::Peer(node) } else { Own::Any };
        Tls::open(files, "c", own).unwrap()
    }
}

fn secret(letter: &str) -> ClusterSecret {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), letter.repeat(32)).unwrap();
    ClusterSecret::open(file.path()).unwrap()
}

/// Nodes 1 and 2, with what each shows.
struct Meeting {
    nodes: [TcpTransport; 2],
    inboxes: [Arc<Recorder>; 2],
}

impl Meeting {
    fn of(shown: [impl Fn(&mut TransportConfig); 2]) -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = listeners.map(|listener| listener.local_addr().unwrap());
        let started = [0, 1].map(|at| {
            let peers = [(1, addresses[0].to_string()), (2, addresses[1].to_string())];
            let mut config = config(at as u64 + 1, &peers);
            config.listen = addresses[at];
            shown[at](&mut config);
            start(config)
        });
        let [(first, one), (second, other)] = started;
        Self { nodes: [first, second], inboxes: [one, other] }
    }

    /// Waits until both are connected, and sends something each way.
    fn holds(&self) {
        for (from, to) in [(0, 1), (1, 0)] {
            let peer = NodeId(to as u64 + 1);
            self.inboxes[from].wait_connected(peer.0);
            self.nodes[from].send(peer, numbered_batch(0..1_000)).unwrap();
            let parcels = self.inboxes[to].wait_parcels(from as u64 + 1, 1_000);
            assert!(parcels.iter().filter_map(number).eq(0..1_000));
        }
    }

    /// Waits until node `at` says this of the other one.
    fn waits_for(&self, at: usize, error: &str) {
        let peer = 2 - at as u64;
        eventually(error, || last_error(&self.nodes[at], peer).contains(error));
    }
}

#[test]
fn nodes_meet_while_a_cluster_is_switched_over() {
    let certificates = Certificates::new();
    let (one, two) = (certificates.of(1, Some(1)), certificates.of(2, None));
    let port = |tls: &Tls, required| Some(PortTls { tls: tls.clone(), required });
    for (first, second) in [
        (None, None),
        (port(&one, false), None),
        (None, port(&two, false)),
        (port(&one, false), port(&two, false)),
        (port(&one, true), port(&two, false)),
        (port(&one, true), port(&two, true)),
    ] {
        let shown = [first, second];
        Meeting::of([0, 1].map(|at| {
            let tls = shown[at].clone();
            move |config: &mut TransportConfig| config.tls.clone_from(&tls)
        }))
        .holds();
    }
}

#[test]
fn a_plain_node_and_one_that_requires_tls_say_so() {
    let tls = Certificates::new().of(1, None);
    let meeting = Meeting::of([true, false].map(|required| {
        let tls = required.then(|| PortTls { tls: tls.clone(), required });
        move |config: &mut TransportConfig| config.tls.clone_from(&tls)
    }));
    eventually("both refuse", || {
        refusals(&meeting.nodes[0], "plain") > 0 && refusals(&meeting.nodes[1], "encrypted") > 0
    });
    assert!(meeting.nodes.iter().all(|node| !node.peers()[0].connected));
}

#[test]
fn a_certificate_of_another_node_is_refused_on_both_sides() {
    let certificates = Certificates::new();
    // Node 2 shows the certificate of node 3.
    let shown = [certificates.of(1, Some(1)), certificates.of(2, Some(3))];
    let meeting = Meeting::of([0, 1].map(|at| {
        let tls = Some(PortTls { tls: shown[at].clone(), required: true });
        move |config: &mut TransportConfig| config.tls.clone_from(&tls)
    }));
    meeting.waits_for(0, "the certificate of another node");
    eventually("the listener refuses", || refusals(&meeting.nodes[0], "certificate") > 0);
    assert!(!meeting.nodes[0].peers()[0].connected);
}

#[test]
fn nodes_of_one_secret_meet_and_others_do_not() {
    let with = |letters: [Option<&'static str>; 2]| {
        Meeting::of(letters.map(|letter| {
            let secret = letter.map(secret);
            move |config: &mut TransportConfig| config.secret.clone_from(&secret)
        }))
    };
    with([Some("a"), Some("a")]).holds();
    let strangers = with([Some("a"), Some("b")]);
    strangers.waits_for(0, "another cluster's secret");
    strangers.waits_for(1, "another cluster's secret");
    let half = with([Some("a"), None]);
    eventually("both refuse", || half.nodes.iter().all(|node| refusals(node, "secret") > 0));
    assert!(half.nodes.iter().all(|node| !node.peers()[0].connected));
}

#[test]
fn a_stranger_learns_nothing_from_a_node_with_a_secret() {
    let (node, _) = node_facing(|config| config.secret = Some(secret("a")));
    for sent in [hello_of_two(), b"GET / HTTP/1.1\r\n".to_vec()] {
        let mut stream = TcpStream::connect(node.local_addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&sent).unwrap();
        let mut heard = Vec::new();
        // The rest that was not read resets the connection.
        let _ = stream.read_to_end(&mut heard);
        assert_eq!(heard, b"");
    }
    eventually("both are counted", || refusals(&node, "secret") == 2);
}

#[test]
fn strangers_of_one_address_leave_room_for_others() {
    let (node, _) = node_facing(|config| {
        config.peers.insert(NodeId(2), NOWHERE.replace("127.0.0.1", "127.0.0.2"));
        config.handshake_timeout = Duration::from_secs(60);
    });
    let from = |address: [u8; 4]| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
        socket.connect(&node.local_addr().into()).unwrap();
        TcpStream::from(socket)
    };
    let _silent: Vec<_> = (0..16).map(|_| from([127, 0, 0, 3])).collect();
    let mut one_more = from([127, 0, 0, 3]);
    let mut heard = Vec::new();
    let _ = one_more.read_to_end(&mut heard);
    assert_eq!((heard.len(), refusals(&node, "capacity")), (0, 1));
    let mut other = from([127, 0, 0, 4]);
    other.write_all(&hello_of_two()).unwrap();
    other.read_exact(&mut [0; 48]).unwrap();
}
