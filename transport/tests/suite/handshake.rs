//! Who is let in, who is refused, and what either side learns of it.

use crate::common::{eventually, numbered_batch};
use crate::tcp::{
    CLUSTER, INCARNATION, NOWHERE, VERSION, accept, config, connect, dial, introduction,
    last_error, node_facing, read_to_close, refusals, start,
};
use logboat_raft::{ClusterId, NodeId};
use logboat_transport::{SendError, Transport, TransportConfig};
use socket2::{Domain, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Starts node 2 with `listener`, then node 1 with a map in which it is `as_node`, and waits until
/// both know why they do not come together.
fn refused(
    mut listener: TransportConfig,
    mut dialer: TransportConfig,
    as_node: u64,
    cause: (&str, &str),
) {
    // What node 2 meets when it dials itself shall not hide what it refuses.
    listener.backoff_min = Duration::from_secs(3600);
    let (two, _) = start(listener);
    dialer.peers.insert(NodeId(as_node), two.local_addr().to_string());
    let (one, inbox) = start(dialer);
    let (label, text) = cause;
    eventually("refused", || refusals(&two, label) > 0);
    eventually("dialer knows", || {
        let error = last_error(&one, as_node);
        let named = error.starts_with("refused by node 2 of cluster");
        (named || label == "cluster") && error.ends_with(text)
    });
    if two.peers().iter().any(|peer| peer.node == NodeId(1)) {
        eventually("listener knows", || {
            let error = last_error(&two, 1);
            error.starts_with("refused node 1 of cluster") && error.ends_with(text)
        });
    }
    let result = one.send(NodeId(as_node), numbered_batch([1]));
    assert!(matches!(result, Err(SendError::Unreachable)), "{result:?}");
    assert!(inbox.parcels(2).is_empty());
}

#[test]
fn a_foreign_cluster_is_refused() {
    let mut listener = config(2, &[(1, NOWHERE.to_owned())]);
    listener.cluster = ClusterId(0xabc);
    refused(listener, config(1, &[]), 2, ("cluster", "wrong cluster"));
}

#[test]
fn a_foreign_cluster_learns_nothing() {
    let (node, _) = node_facing(|_| {});
    for (version, code) in [(VERSION, 2), (VERSION + 1, 1)] {
        let mut stream = connect(node.local_addr());
        stream.write_all(&introduction(version, [0xabc, 2, 1, INCARNATION.0])).unwrap();
        assert_eq!(read_to_close(&mut stream), introduction(VERSION, [0, 0, code, 0]));
    }
}

#[test]
fn a_node_that_is_not_the_one_wanted_is_refused() {
    let listener = config(2, &[(1, NOWHERE.to_owned())]);
    refused(listener, config(1, &[]), 3, ("node", "wrong node"));
}

#[test]
fn an_unknown_node_is_refused() {
    refused(config(2, &[]), config(1, &[]), 2, ("unknown_node", "unknown node"));
}

#[test]
fn a_peer_that_lost_its_disk_is_refused() {
    // One that never answers, so that no error of the dialer takes the place of the listener's.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (node, _) = start(config(1, &[(2, silent.local_addr().unwrap().to_string())]));
    drop(dial(node.local_addr()));
    let mut stream = connect(node.local_addr());
    stream.write_all(&introduction(VERSION, [CLUSTER.0, 2, 1, 0x78])).unwrap();
    let refusal = introduction(VERSION, [CLUSTER.0, 1, 5, 0]);
    assert_eq!(read_to_close(&mut stream), refusal);
    eventually("counted", || refusals(&node, "incarnation") == 1);
    eventually("known", || {
        last_error(&node, 2).ends_with("came back with another disk than it had")
    });
}

#[test]
fn a_listener_that_lost_its_disk_is_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (node, inbox) = start(config(1, &[(2, address)]));
    let first = accept(&listener);
    inbox.wait_connected(2);
    drop(first);
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; 48]).unwrap();
    stream.write_all(&introduction(VERSION, [CLUSTER.0, 2, 0, 0x78])).unwrap();
    eventually("known", || {
        last_error(&node, 2).ends_with("came back with another disk than it had")
    });
}

#[test]
fn another_version_is_refused_by_the_listener() {
    let (node, _) = node_facing(|_| {});
    let mut stream = connect(node.local_addr());
    stream.write_all(&introduction(3, [CLUSTER.0, 2, 1, INCARNATION.0])).unwrap();
    assert_eq!(read_to_close(&mut stream), introduction(VERSION, [CLUSTER.0, 1, 1, 0]));
    eventually("counted", || refusals(&node, "version") == 1);
}

#[test]
fn a_refusal_for_the_version_is_understood_by_the_dialer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (node, _) = start(config(1, &[(2, address)]));
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; 48]).unwrap();
    stream.write_all(&introduction(9, [CLUSTER.0, 2, 1, INCARNATION.0])).unwrap();
    // Later attempts meet a listener that never answers, which is another error.
    eventually("known", || last_error(&node, 2).ends_with("protocol 9: wrong protocol version"));
}

#[test]
fn an_answer_of_another_node_or_cluster_is_not_believed() {
    for (answer, text) in [
        ([CLUSTER.0, 3, 0, INCARNATION.0], "wrong node"),
        ([7, 2, 0, INCARNATION.0], "wrong cluster"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (node, _) = start(config(1, &[(2, address)]));
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 48]).unwrap();
        stream.write_all(&introduction(VERSION, answer)).unwrap();
        eventually("known", || last_error(&node, 2).ends_with(text));
        assert!(!node.peers()[0].connected);
    }
}

#[test]
fn a_foreign_protocol_is_closed_and_counted() {
    let (node, inbox) = node_facing(|config| config.handshake_timeout = Duration::from_secs(60));
    let strangers: [&[u8]; 3] = [b"GET / HTTP/1.1\r\n\r\n", b"*1\r\n$4\r\nPING\r\n", &[0; 4096]];
    for stranger in strangers {
        let mut stream = connect(node.local_addr());
        stream.write_all(stranger).unwrap();
        assert_eq!(read_to_close(&mut stream), b"");
    }
    eventually("counted", || refusals(&node, "foreign") == 3);
    assert!(inbox.parcels(2).is_empty());
}

#[test]
fn a_damaged_hello_is_closed_and_counted() {
    let (node, _) = node_facing(|_| {});
    let mut hello = introduction(VERSION, [CLUSTER.0, 2, 1, INCARNATION.0]);
    hello[20] ^= 1;
    let mut stream = connect(node.local_addr());
    stream.write_all(&hello).unwrap();
    assert_eq!(read_to_close(&mut stream), b"");
    eventually("counted", || refusals(&node, "damaged") == 1);
}

#[test]
fn a_dialer_that_never_finishes_its_hello_is_closed() {
    let (node, _) = node_facing(|config| config.handshake_timeout = Duration::from_millis(50));
    let mut stream = connect(node.local_addr());
    stream.write_all(b"LOGBO").unwrap();
    assert_eq!(read_to_close(&mut stream), b"");
    eventually("counted", || refusals(&node, "timeout") == 1);
}

#[test]
fn connections_without_a_hello_are_capped() {
    let (node, _) = node_facing(|config| {
        // The test dials from another address than that, as a stranger does.
        config.peers.insert(NodeId(2), "127.0.0.2:1".to_owned());
        config.max_handshakes = 2;
        config.handshake_timeout = Duration::from_secs(60);
    });
    let silent = [connect(node.local_addr()), connect(node.local_addr())];
    let mut third = connect(node.local_addr());
    assert_eq!(read_to_close(&mut third), b"");
    assert_eq!(refusals(&node, "capacity"), 1);
    drop(silent);
    eventually("slots are free", || {
        let mut stream = connect(node.local_addr());
        let hello = introduction(VERSION, [CLUSTER.0, 2, 1, INCARNATION.0]);
        stream.write_all(&hello).is_ok() && stream.read_exact(&mut [0; 48]).is_ok()
    });
}

#[test]
fn strangers_do_not_take_the_slots_of_peers() {
    let peer = IpAddr::from([127, 0, 0, 2]);
    let listener = TcpListener::bind((peer, 0)).unwrap();
    let mut config = config(1, &[(2, listener.local_addr().unwrap().to_string())]);
    config.max_handshakes = 2;
    config.handshake_timeout = Duration::from_secs(60);
    let (node, _) = start(config);
    // It has been dialled, so its address is known.
    let _dialled = accept(&listener);
    let _silent = [connect(node.local_addr()), connect(node.local_addr())];
    assert_eq!(read_to_close(&mut connect(node.local_addr())), b"");
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((peer, 0)).into()).unwrap();
    socket.connect(&node.local_addr().into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(&introduction(VERSION, [CLUSTER.0, 2, 1, INCARNATION.0])).unwrap();
    let mut answer = [0; 48];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer.as_slice(), introduction(VERSION, [CLUSTER.0, 1, 0, INCARNATION.0]));
}
