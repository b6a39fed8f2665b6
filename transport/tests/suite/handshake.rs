//! The handshake: which dialers are admitted or refused, and what either side learns.

use crate::common::{BOOT, Event, KNOWN, Recorder, eventually, number, numbered_batch};
use crate::played_peer::{
    ANSWER_BYTES, CLUSTER, HELLO_BYTES, NOWHERE, VERSION, accept, answer, config, connect, dial,
    frame_of, hello, hello_of_two, introduction, last_error, node_facing, read_to_close, refusals,
    start, welcome,
};
use logboat_raft::{
    BootCount, BootNonce, ClusterId, Incarnation, Introduction, LogPosition, NodeId, Remembered,
    Start,
};
use logboat_transport::{
    Inbox, MemoryNetwork, SendError, TcpTransport, Transport, TransportConfig,
};
use socket2::{Domain, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Starts node 2 with `listener`, then node 1 with a map in which node 2 is `as_node`. Waits until
/// both have the reason why they do not connect.
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
        let silent = ["cluster", "unknown_node"].contains(&label);
        (named || silent) && error.ends_with(text)
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
    let refusal = |code| answer([0, 0, code], Introduction::default(), Remembered::default());
    for (said, heard) in [
        (hello([0xabc, 2, 1], BOOT), refusal(2)),
        (hello([CLUSTER.0, 5, 1], BOOT), refusal(4)),
        (
            introduction(VERSION + 1, [CLUSTER.0, 2, 1, BOOT.incarnation.0]),
            introduction(VERSION, [0, 0, 1, 0]),
        ),
    ] {
        let mut stream = connect(node.local_addr());
        stream.write_all(&said).unwrap();
        assert_eq!(read_to_close(&mut stream), heard);
    }
}

#[test]
fn another_cluster_of_the_same_name_and_nodes_learns_who_this_is() {
    let of = |cluster| Introduction { cluster: Some(ClusterId(cluster)), ..BOOT };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config(1, &[(2, listener.local_addr().unwrap().to_string())]);
    let node = TcpTransport::start(config, Recorder::of(of(7))).unwrap();
    let nobody = Introduction { incarnation: Incarnation(0), ..Introduction::default() };
    let own = Introduction { cluster: Some(ClusterId(7)), ..nobody };
    let mut stream = connect(node.local_addr());
    stream.write_all(&hello([CLUSTER.0, 2, 1], of(8))).unwrap();
    let refusal = answer([CLUSTER.0, 1, 15], own, Remembered::default());
    assert_eq!(read_to_close(&mut stream), refusal);
    eventually("counted", || refusals(&node, "other_cluster") == 1);
    let words = "another cluster of the same name and nodes";
    // The dialer does not believe a welcome of such a node, and knows why it is refused.
    for code in [0, 15] {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = [0; HELLO_BYTES];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard.as_slice(), hello([CLUSTER.0, 1, 2], of(7)));
        stream.write_all(&answer([CLUSTER.0, 2, code], of(8), KNOWN)).unwrap();
        let drawn = "drawn 0000000000000008";
        eventually("known", || {
            let error = last_error(&node, 2);
            error.contains(drawn) && error.ends_with(words)
        });
        assert!(!node.peers()[0].connected);
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
    // A peer that never answers, so that no error of the dialer replaces the listener's.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (node, _) = start(config(1, &[(2, silent.local_addr().unwrap().to_string())]));
    drop(dial(node.local_addr()));
    let mut stream = connect(node.local_addr());
    let emptied = Introduction { incarnation: Incarnation(0x78), ..BOOT };
    stream.write_all(&hello([CLUSTER.0, 2, 1], emptied)).unwrap();
    let (nobody, nothing) = (Introduction::default(), Remembered::default());
    assert_eq!(read_to_close(&mut stream), answer([CLUSTER.0, 1, 5], nobody, nothing));
    eventually("counted", || refusals(&node, "incarnation") == 1);
    eventually("known", || last_error(&node, 2).contains("by another data directory"));
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
    stream.read_exact(&mut [0; HELLO_BYTES]).unwrap();
    let emptied = Introduction { incarnation: Incarnation(0x78), ..BOOT };
    stream.write_all(&answer([CLUSTER.0, 2, 0], emptied, KNOWN)).unwrap();
    eventually("known", || last_error(&node, 2).contains("by another data directory"));
}

#[test]
fn another_version_is_refused_by_the_listener() {
    let (node, _) = node_facing(|_| {});
    let mut stream = connect(node.local_addr());
    // What a node of version 2 says is all that it says.
    stream.write_all(&introduction(2, [CLUSTER.0, 2, 1, BOOT.incarnation.0])).unwrap();
    assert_eq!(read_to_close(&mut stream), introduction(VERSION, [0, 0, 1, 0]));
    eventually("counted", || refusals(&node, "version") == 1);
}

#[test]
fn a_refusal_for_the_version_is_understood_by_the_dialer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (node, _) = start(config(1, &[(2, address)]));
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; HELLO_BYTES]).unwrap();
    stream.write_all(&introduction(VERSION + 1, [CLUSTER.0, 2, 1, BOOT.incarnation.0])).unwrap();
    // Later attempts meet a listener that never answers, which is another error.
    let text = format!("protocol {}: wrong protocol version", VERSION + 1);
    eventually("known", || last_error(&node, 2).ends_with(&text));
}

#[test]
fn an_answer_of_another_node_or_cluster_is_not_believed() {
    for (numbers, text) in [([CLUSTER.0, 3, 0], "wrong node"), ([7, 2, 0], "wrong cluster")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (node, _) = start(config(1, &[(2, address)]));
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; HELLO_BYTES]).unwrap();
        stream.write_all(&answer(numbers, BOOT, KNOWN)).unwrap();
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
    for (at, count) in [(20, 1), (50, 2)] {
        let mut hello = hello_of_two();
        hello[at] ^= 1;
        let mut stream = connect(node.local_addr());
        stream.write_all(&hello).unwrap();
        assert_eq!(read_to_close(&mut stream), b"");
        eventually("counted", || refusals(&node, "damaged") == count);
    }
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
        stream.write_all(&hello_of_two()).is_ok()
            && stream.read_exact(&mut [0; ANSWER_BYTES]).is_ok()
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
    stream.write_all(&hello_of_two()).unwrap();
    let mut heard = [0; ANSWER_BYTES];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard.as_slice(), welcome());
}

#[test]
fn a_strangers_hello_takes_no_place() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let inbox = Recorder::of_nobody();
    let mut config = config(1, &[(2, address)]);
    config.backoff_min = Duration::from_secs(3600);
    let node = TcpTransport::start(config, inbox.clone()).unwrap();
    // Node 2 is down, as far as node 1 can tell, and somebody claims to be node 2.
    drop(listener.accept().unwrap());
    let stranger = Introduction { incarnation: Incarnation(0x78), ..BOOT };
    let mut stream = connect(node.local_addr());
    stream.write_all(&hello([CLUSTER.0, 2, 1], stranger)).unwrap();
    let not_recorded = answer([CLUSTER.0, 1, 6], BOOT, Remembered::default());
    assert_eq!(read_to_close(&mut stream), not_recorded);
    assert_eq!(inbox.remembered(NodeId(2)), None);
    // It is dialled back at its own address, where the real one answers, and that is recorded.
    let _first = accept(&listener);
    inbox.wait_connected(2);
    let recorded = Remembered { let_in: None, ..KNOWN };
    assert_eq!(inbox.remembered(NodeId(2)), Some(recorded));
    drop(dial(node.local_addr()));
    let welcomed = Remembered { welcomed: Some(BOOT.newest), ..recorded };
    assert_eq!(inbox.remembered(NodeId(2)), Some(welcomed));
}

#[test]
fn two_nodes_that_know_nobody_record_each_other_at_once() {
    let (one_inbox, two_inbox) = (Recorder::of_nobody(), Recorder::of_nobody());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    // Nothing here waits for a timer.
    let patient = |mut config: TransportConfig| {
        config.backoff_min = Duration::from_secs(3600);
        config.backoff_max = config.backoff_min;
        config
    };
    let one_config = patient(config(1, &[(2, address.to_string())]));
    let one_listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one_address = one_listener.local_addr().unwrap();
    drop(one_listener);
    let one_config = TransportConfig { listen: one_address, ..one_config };
    let one = TcpTransport::start(one_config, one_inbox.clone()).unwrap();
    eventually("the first dial has failed", || !last_error(&one, 2).is_empty());
    let two_config = patient(config(2, &[(1, one_address.to_string())]));
    let two_config = TransportConfig { listen: address, ..two_config };
    let _two = TcpTransport::start(two_config, two_inbox.clone()).unwrap();
    for (inbox, peer) in [(&one_inbox, 2), (&two_inbox, 1)] {
        inbox.wait_event(&Event::LetInBy(NodeId(peer)));
        inbox.wait_connected(peer);
    }
    for (inbox, peer) in [(one_inbox, 2), (two_inbox, 1)] {
        assert_eq!(inbox.remembered(NodeId(peer)).unwrap().newest(), Some(BOOT.newest));
    }
}

const fn start_of(count: u64, nonce: u64) -> Start {
    Start { count: BootCount(count), nonce: BootNonce(nonce) }
}

/// Old copies of the directory of node 2, which was let in as [`BOOT`] and has come as far as
/// `AHEAD`, and what is said of them.
fn old_copies() -> [(Introduction, &'static str); 6] {
    let let_in = Some(BOOT.newest);
    let later = LogPosition { segment: 9, offset: 0 };
    let start = |newest| Introduction { newest, ..BOOT };
    [
        (start(start_of(2, 0x98)), "an old copy of its directory"),
        (start(start_of(3, 1)), "one of two copies of its directory"),
        (start(start_of(4, 2)), "node 1 let in start 3 of node 2, and the directory of node 2"),
        (start(start_of(900, 2)), "node 1 let in start 3 of node 2, and the directory of node 2"),
        (Introduction { let_in, ..start(start_of(900, 2)) }, "as durable up to 5:8"),
        (
            Introduction { let_in, log_end: later, ..start(start_of(u64::MAX, 2)) },
            "can't have come since",
        ),
    ]
}

const AHEAD: LogPosition = LogPosition { segment: 5, offset: 8 };

/// An address at which nobody listens yet.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn an_old_copy_is_refused_by_all_and_told_so() {
    for (copy, text) in old_copies() {
        let address = free_address();
        let (one, inbox) = start(config(1, &[(2, address.to_string())]));
        inbox.heard_of(2, AHEAD);
        let config = config(2, &[(1, one.local_addr().to_string())]);
        let config = TransportConfig { listen: address, ..config };
        let two = TcpTransport::start(config, Recorder::of(copy)).unwrap();
        eventually("both know", || {
            last_error(&one, 2).contains(text) && last_error(&two, 1).contains(text)
        });
        assert!(!one.peers()[0].connected && !two.peers()[0].connected);
    }
}

#[test]
fn an_old_copy_is_refused_in_memory_too() {
    for (copy, text) in old_copies() {
        let network = MemoryNetwork::new().unwrap();
        let inboxes = [Recorder::new(), Recorder::of(copy)];
        inboxes[0].heard_of(2, AHEAD);
        let one = network.join(NodeId(1), inboxes[0].clone());
        let two = network.join(NodeId(2), inboxes[1].clone());
        let knows = |transport: &dyn Transport| {
            let error = transport.peers().remove(0).last_error;
            error.is_some_and(|error| error.contains(text))
        };
        eventually("both know", || knows(&*one) && knows(&*two));
        assert!(!one.peers()[0].connected && !two.peers()[0].connected);
    }
}

#[test]
fn a_node_that_does_not_know_whom_it_let_in_is_told_that_it_is_the_old_copy() {
    let address = free_address();
    let (one, _) = start(config(1, &[(2, address.to_string())]));
    let config = config(2, &[(1, one.local_addr().to_string())]);
    let config = TransportConfig { listen: address, ..config };
    let newest = start_of(9, 2);
    let newer = Introduction { newest, let_in: Some(start_of(8, 2)), ..BOOT };
    let two = TcpTransport::start(config, Recorder::of(newer)).unwrap();
    let text = "and the directory of node 1 does not know that: an old copy";
    eventually("both know", || {
        last_error(&one, 2).contains(text) && last_error(&two, 1).contains(text)
    });
    assert!(!one.peers()[0].connected && !two.peers()[0].connected);
}

#[test]
fn a_welcome_counts_when_the_dialer_goes_on() {
    let (node, inbox) = node_facing(|_| {});
    let newest = start_of(5, 1);
    let later = Introduction { newest, let_in: Some(BOOT.newest), ..BOOT };
    let mut stream = connect(node.local_addr());
    stream.write_all(&hello([CLUSTER.0, 2, 1], later)).unwrap();
    let welcomed = Remembered { welcomed: Some(newest), ..KNOWN };
    let mut heard = [0; ANSWER_BYTES];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard.as_slice(), answer([CLUSTER.0, 1, 0], BOOT, welcomed));
    assert_eq!(inbox.remembered(NodeId(2)), Some(welcomed));
    stream.write_all(&frame_of(numbered_batch([1]))).unwrap();
    inbox.wait_parcels(2, 1);
    let let_in = Remembered { let_in: Some(newest), ..KNOWN };
    assert_eq!(inbox.remembered(NodeId(2)), Some(let_in));
}

#[test]
fn nothing_is_taken_from_a_peer_before_it_is_noted_that_it_was_let_in() {
    let (node, inbox) = node_facing(|_| {});
    let newest = start_of(5, 1);
    let later = Introduction { newest, let_in: Some(BOOT.newest), ..BOOT };
    let mut stream = connect(node.local_addr());
    stream.write_all(&hello([CLUSTER.0, 2, 1], later)).unwrap();
    stream.read_exact(&mut [0; ANSWER_BYTES]).unwrap();
    inbox.unwritable.store(true, Relaxed);
    stream.write_all(&frame_of(numbered_batch([1]))).unwrap();
    assert_eq!(read_to_close(&mut stream), b"");
    // What it noted meanwhile is compared at the next dial, and is not welcome before.
    let noted = Introduction { let_in: Some(newest), ..later };
    let again = || {
        let mut stream = connect(node.local_addr());
        stream.write_all(&hello([CLUSTER.0, 2, 1], noted)).unwrap();
        stream
    };
    let not_yet = answer([CLUSTER.0, 1, 6], BOOT, Remembered::default());
    assert_eq!(read_to_close(&mut again()), not_yet);
    inbox.unwritable.store(false, Relaxed);
    let mut stream = again();
    stream.write_all(&frame_of(numbered_batch([2]))).unwrap();
    let parcels = inbox.wait_parcels(2, 1);
    assert_eq!(number(&parcels[0]), Some(2));
}

#[test]
fn a_node_that_can_not_note_its_welcome_sends_nothing_and_waits_longer_and_longer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let inbox = Recorder::new();
    inbox.unwritable.store(true, Relaxed);
    let mut config = config(1, &[(2, address)]);
    config.backoff_max = Duration::from_secs(3600);
    let node = TcpTransport::start(config, inbox.clone()).unwrap();
    // The waits double, so that the last one of these is more than half of all together.
    let begin = Instant::now();
    let times: Vec<_> = (0..8).map(|_| (drop(accept(&listener)), begin.elapsed()).1).collect();
    assert!(times[7] - times[0] >= Duration::from_millis(63), "{times:?}");
    assert!(last_error(&node, 2).contains("no space left"), "{}", last_error(&node, 2));
    assert!(!inbox.has(&Event::Connected(NodeId(2))));
    inbox.unwritable.store(false, Relaxed);
    drop(accept(&listener));
    inbox.wait_connected(2);
}

#[test]
fn what_a_peer_told_before_it_started_again_does_not_make_it_an_old_copy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (node, inbox) = start(config(1, &[(2, listener.local_addr().unwrap().to_string())]));
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; HELLO_BYTES]).unwrap();
    let start =
        |count| Introduction { newest: start_of(count, 1), let_in: Some(BOOT.newest), ..BOOT };
    // The answer of start 5 is still on its way when start 6 is let in.
    let mut incoming = connect(node.local_addr());
    incoming.write_all(&hello([CLUSTER.0, 2, 1], start(6))).unwrap();
    incoming.read_exact(&mut [0; ANSWER_BYTES]).unwrap();
    incoming.write_all(&frame_of(numbered_batch([1]))).unwrap();
    inbox.wait_parcels(2, 1);
    stream.write_all(&answer([CLUSTER.0, 2, 0], start(5), KNOWN)).unwrap();
    inbox.wait_connected(2);
    assert_eq!(inbox.remembered(NodeId(2)).unwrap().let_in, Some(start_of(6, 1)));
}

#[test]
fn who_was_let_in_while_it_was_dialled_may_say_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (node, inbox) = start(config(1, &[(2, listener.local_addr().unwrap().to_string())]));
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; HELLO_BYTES]).unwrap();
    // Start 6 dials as well, and answers when it has noted its welcome.
    let told = |let_in| Introduction { newest: start_of(6, 1), let_in: Some(let_in), ..BOOT };
    let mut incoming = connect(node.local_addr());
    incoming.write_all(&hello([CLUSTER.0, 2, 1], told(BOOT.newest))).unwrap();
    incoming.read_exact(&mut [0; ANSWER_BYTES]).unwrap();
    stream.write_all(&answer([CLUSTER.0, 2, 0], told(start_of(6, 1)), KNOWN)).unwrap();
    inbox.wait_connected(2);
}

#[test]
fn nodes_in_memory_record_each_other() {
    let network = MemoryNetwork::new().unwrap();
    let inboxes = [Recorder::of_nobody(), Recorder::of_nobody()];
    let _one = network.join(NodeId(1), inboxes[0].clone());
    let _two = network.join(NodeId(2), inboxes[1].clone());
    for (inbox, peer) in inboxes.into_iter().zip([2, 1]) {
        inbox.wait_event(&Event::LetInBy(NodeId(peer)));
        inbox.wait_connected(peer);
    }
}
