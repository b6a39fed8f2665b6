//! What only sockets show: handshakes, strangers, silence, resets and restarts.

use crate::common::{
    BOOT, Event, Gated, KNOWN, Recorder, append_of, eventually, number, numbered_batch, snapshot,
};
use crate::played_peer::{
    CLUSTER, HELLO_BYTES, NOWHERE, accept, answer, config, dial, frame_of, last_error, metric,
    node_facing, read_to_close, start,
};
use crate::wire::framed;
use logboat_raft::{GroupId, Introduction, NodeId, Remembered};
use logboat_transport::{
    Inbox, Outgoing, Parcel, RequestId, SendError, StartError, TcpTransport, Transport, decode,
};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Counts what arrives at once.
#[derive(Default)]
struct Scales {
    parcels: AtomicUsize,
    heaviest_bytes: AtomicUsize,
}

impl Inbox for Scales {
    fn receive(&self, _: NodeId, parcels: Vec<Parcel>) {
        let bytes = parcels.iter().map(Parcel::memory_bytes).sum();
        self.heaviest_bytes.fetch_max(bytes, Relaxed);
        self.parcels.fetch_add(parcels.len(), Relaxed);
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

    fn connected(&self, _: NodeId) {}

    fn disconnected(&self, _: NodeId) {}
}

#[test]
fn a_frame_of_small_parcels_arrives_in_portions() {
    const PARCELS: usize = 400_000;
    let inbox = Arc::new(Scales::default());
    let config = config(1, &[(2, NOWHERE.to_owned())]);
    let node = TcpTransport::start(config, inbox.clone()).unwrap();
    let mut stream = dial(node.local_addr());
    // `TimeoutNow` of group 1 in term 1.
    stream.write_all(&framed(&[13, 1, 1].repeat(PARCELS), b"")).unwrap();
    eventually("all arrived", || inbox.parcels.load(Relaxed) == PARCELS);
    let heaviest_bytes = inbox.heaviest_bytes.load(Relaxed);
    assert!(heaviest_bytes < 2 << 20, "{heaviest_bytes} bytes at once");
}

#[test]
fn a_peer_that_breaks_the_protocol_is_disconnected_and_may_come_back() {
    let (node, inbox) = node_facing(|config| config.backoff_min = Duration::from_secs(3600));
    let mut stream = dial(node.local_addr());
    stream.write_all(&frame_of(numbered_batch([1]))).unwrap();
    inbox.wait_parcels(2, 1);
    node.disconnect(NodeId(2), "an append over committed entries");
    assert_eq!(read_to_close(&mut stream), b"");
    assert!(last_error(&node, 2).ends_with("an append over committed entries"));
    assert_eq!(metric(&node, "transport_violations_total{peer=\"2\"}"), 1);
    let mut again = dial(node.local_addr());
    again.write_all(&frame_of(numbered_batch([2]))).unwrap();
    inbox.wait_parcels(2, 2);
}

#[test]
fn a_peer_is_dialed_at_once_when_a_connection_that_stood_is_lost() {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(1, &[(2, peer.local_addr().unwrap().to_string())]);
    (config.backoff_min, config.backoff_max) = (Duration::from_secs(3600), Duration::ZERO);
    let (_node, _) = start(config);
    for _ in 0..3 {
        drop(accept(&peer));
    }
}

#[test]
fn an_oversize_frame_closes_the_connection() {
    let (node, inbox) = node_facing(|_| {});
    let mut stream = dial(node.local_addr());
    stream.write_all(&[0xff; 12]).unwrap();
    assert_eq!(read_to_close(&mut stream), b"");
    eventually("counted", || metric(&node, "transport_bad_frames_total{peer=\"2\"}") == 1);
    assert!(inbox.parcels(2).is_empty());
}

#[test]
fn a_damaged_frame_closes_the_connection_and_delivers_nothing() {
    let (node, inbox) = node_facing(|_| {});
    let mut outgoing = numbered_batch([1]);
    outgoing.push_message(GroupId(7), &append_of(7, 100));
    let mut frame = frame_of(outgoing);
    let last = frame.len() - 1;
    frame[last] ^= 1;
    let mut stream = dial(node.local_addr());
    stream.write_all(&frame).unwrap();
    assert_eq!(read_to_close(&mut stream), b"");
    eventually("counted", || metric(&node, "transport_bad_frames_total{peer=\"2\"}") == 1);
    assert!(inbox.parcels(2).is_empty());
}

#[test]
fn frames_that_arrive_byte_by_byte_are_whole() {
    let (node, inbox) = node_facing(|_| {});
    let mut stream = dial(node.local_addr());
    stream.set_nodelay(true).unwrap();
    let mut outgoing = numbered_batch([1]);
    outgoing.push_message(GroupId(7), &append_of(7, 300));
    for byte in frame_of(outgoing) {
        stream.write_all(&[byte]).unwrap();
    }
    let parcels = inbox.wait_parcels(2, 2);
    assert_eq!(number(&parcels[0]), Some(1));
    let expected = Parcel::Message { group: GroupId(7), message: append_of(7, 300) };
    assert_eq!(parcels[1], expected);
}

#[test]
fn a_frame_cut_off_by_a_lost_connection_is_dropped() {
    let (node, inbox) = node_facing(|_| {});
    let mut stream = dial(node.local_addr());
    let frame = frame_of(numbered_batch([1]));
    stream.write_all(&frame[..frame.len() - 1]).unwrap();
    drop(stream);
    let mut stream = dial(node.local_addr());
    stream.write_all(&frame_of(numbered_batch([2]))).unwrap();
    let parcels = inbox.wait_parcels(2, 1);
    assert_eq!(number(&parcels[0]), Some(2));
}

#[test]
fn a_silent_peer_is_closed() {
    let (node, _) = node_facing(|config| config.idle_timeout = Duration::from_millis(50));
    let mut stream = dial(node.local_addr());
    assert_eq!(read_to_close(&mut stream), b"");
}

#[test]
fn a_new_connection_of_a_peer_replaces_the_old_one() {
    let (node, inbox) = node_facing(|_| {});
    let mut old = dial(node.local_addr());
    let second = frame_of(numbered_batch([2]));
    let (begin, rest) = second.split_at(second.len() / 2);
    old.write_all(&frame_of(numbered_batch([1]))).unwrap();
    old.write_all(begin).unwrap();
    inbox.wait_parcels(2, 1);
    let mut new = dial(node.local_addr());
    // The old connection may already refuse the rest.
    let _ = old.write_all(rest);
    new.write_all(&frame_of(numbered_batch([3]))).unwrap();
    inbox.wait_parcels(2, 2);
    read_to_close(&mut old);
    new.write_all(&frame_of(numbered_batch([4]))).unwrap();
    let parcels = inbox.wait_parcels(2, 3);
    assert!(parcels.iter().map(number).eq([1, 3, 4].map(Some)));
}

#[test]
fn a_peer_that_does_not_read_fills_its_own_queue_and_is_given_up() {
    const BOUND: usize = 1 << 20;
    let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let [stuck_address, other_address] =
        [&stuck, &other].map(|listener| listener.local_addr().unwrap().to_string());
    let mut config = config(1, &[(2, stuck_address), (3, other_address)]);
    config.max_queued_bytes = BOUND;
    config.idle_timeout = Duration::from_secs(1);
    let (node, inbox) = start(config);
    let _stuck = accept(&stuck);
    let (mut reader, _) = other.accept().unwrap();
    reader.read_exact(&mut [0; HELLO_BYTES]).unwrap();
    reader.write_all(&answer([CLUSTER.0, 3, 0], BOOT, KNOWN)).unwrap();
    inbox.wait_connected(2);
    inbox.wait_connected(3);

    let mut refused = None;
    eventually("full", || {
        let mut outgoing = Outgoing::new();
        outgoing.push_message(GroupId(7), &append_of(7, 100_000));
        refused = node.send(NodeId(2), outgoing).err();
        refused.is_some()
    });
    assert!(matches!(refused, Some(SendError::Full)), "{refused:?}");
    assert!(metric(&node, "transport_dropped_full_total{peer=\"2\"}") > 0);
    let queued = node.peers()[0].queued_bytes;
    assert!((BOUND / 2..=BOUND).contains(&queued), "{queued}");
    assert_eq!(metric(&node, "transport_queued_bytes{peer=\"2\"}"), queued as u64);

    let frame = frame_of(numbered_batch([5]));
    node.send(NodeId(3), numbered_batch([5])).unwrap();
    let mut received = vec![0; frame.len()];
    reader.read_exact(&mut received).unwrap();
    assert_eq!(received, frame);

    inbox.wait_event(&Event::Disconnected(NodeId(2)));
    assert_eq!(node.peers()[0].queued_bytes, 0);
    assert!(last_error(&node, 2).starts_with("connection lost"));
}

#[test]
fn a_peer_that_takes_no_answers_is_disconnected() {
    let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(1, &[(2, stuck.local_addr().unwrap().to_string())]);
    config.max_queued_bytes = 1 << 20;
    config.idle_timeout = Duration::from_secs(3600);
    let (node, inbox) = start(config);
    let _stuck = accept(&stuck);
    inbox.wait_connected(2);
    let disconnected = Event::Disconnected(NodeId(2));
    eventually("disconnected", || {
        let mut outgoing = Outgoing::new();
        outgoing.push_reply(RequestId(7), &[0; 10_000]);
        let sent = node.send(NodeId(2), outgoing);
        assert!(node.peers()[0].queued_bytes < 2 << 20);
        sent.is_err() || inbox.has(&disconnected)
    });
    inbox.wait_event(&disconnected);
    assert!(last_error(&node, 2).contains("takes no answers"));
}

#[test]
fn a_peer_that_restarts_is_reached_again() {
    let (two, first) = start(config(2, &[(1, NOWHERE.to_owned())]));
    let address = two.local_addr();
    let (one, inbox) = start(config(1, &[(2, address.to_string())]));
    inbox.wait_connected(2);
    one.send(NodeId(2), numbered_batch([1])).unwrap();
    first.wait_parcels(1, 1);
    two.shutdown();
    inbox.wait_event(&Event::Disconnected(NodeId(2)));
    let result = one.send(NodeId(2), numbered_batch([2]));
    assert!(matches!(result, Err(SendError::Unreachable)), "{result:?}");

    let second = Recorder::new();
    let mut again = config(2, &[(1, one.local_addr().to_string())]);
    again.listen = address;
    let two = TcpTransport::start(again, second.clone()).unwrap();
    inbox.wait_events(&Event::Connected(NodeId(2)), 2);
    assert_eq!(one.peers()[0].last_error, None);
    one.send(NodeId(2), numbered_batch([3])).unwrap();
    assert_eq!(number(&second.wait_parcels(1, 1)[0]), Some(3));
    second.wait_connected(1);
    two.send(NodeId(1), numbered_batch([4])).unwrap();
    assert_eq!(number(&inbox.wait_parcels(2, 1)[0]), Some(4));
    assert_eq!(metric(&one, "transport_connections_total{peer=\"2\"}"), 2);
}

#[test]
fn a_peer_has_ended_when_its_last_address_refuses_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_node, inbox) = start(config(1, &[(2, listener.local_addr().unwrap().to_string())]));
    let ended = Event::Ended(NodeId(2));
    // A lost connection alone says nothing, nor does a peer that hangs up on callers.
    drop(accept(&listener));
    inbox.wait_events(&Event::Disconnected(NodeId(2)), 1);
    drop(listener.accept().unwrap());
    let last = accept(&listener);
    inbox.wait_events(&Event::Connected(NodeId(2)), 2);
    assert!(!inbox.has(&ended));
    drop(listener);
    drop(last);
    inbox.wait_event(&ended);
}

#[test]
fn a_peer_that_was_never_reached_has_not_ended() {
    let vacant = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (node, inbox) = start(config(1, &[(2, vacant.to_string())]));
    eventually("a refused dial", || last_error(&node, 2).contains("refused"));
    assert!(!inbox.has(&Event::Ended(NodeId(2))));
}

#[test]
fn a_peer_that_calls_is_called_back_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(1, &[(2, listener.local_addr().unwrap().to_string())]);
    config.backoff_min = Duration::from_secs(3600);
    config.backoff_max = Duration::from_secs(3600);
    let (node, inbox) = start(config);
    drop(accept(&listener));
    inbox.wait_event(&Event::Disconnected(NodeId(2)));
    let _call = dial(node.local_addr());
    let _answered = accept(&listener);
    inbox.wait_events(&Event::Connected(NodeId(2)), 2);
}

#[test]
fn a_shutdown_writes_what_is_queued_and_then_refuses() {
    const ROUNDS: u64 = 20_000;
    let (two, received) = start(config(2, &[(1, NOWHERE.to_owned())]));
    let mut config = config(1, &[(2, two.local_addr().to_string())]);
    config.flush_timeout = Duration::from_secs(60);
    let (one, inbox) = start(config);
    inbox.wait_connected(2);
    for round in 0..ROUNDS {
        one.send(NodeId(2), numbered_batch([round])).unwrap();
    }
    one.shutdown();
    let result = one.send(NodeId(2), numbered_batch([1]));
    assert!(matches!(result, Err(SendError::Closed)), "{result:?}");
    let parcels = received.wait_parcels(1, ROUNDS as usize);
    assert!(parcels.iter().map(number).eq((0..ROUNDS).map(Some)));
}

#[test]
fn a_shutdown_does_not_wait_for_a_peer_that_does_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(1, &[(2, listener.local_addr().unwrap().to_string())]);
    config.flush_timeout = Duration::from_millis(50);
    config.idle_timeout = Duration::from_secs(3600);
    let (node, inbox) = start(config);
    let _stuck = accept(&listener);
    inbox.wait_connected(2);
    for _ in 0..16 {
        let mut outgoing = Outgoing::new();
        outgoing.push_message(GroupId(7), &append_of(7, 1 << 20));
        node.send(NodeId(2), outgoing).unwrap();
    }
    node.shutdown();
    assert_eq!(node.peers()[0].queued_bytes, 0);
}

/// Shuts its transport down as soon as it hears of a connection.
struct Quitter {
    transport: OnceLock<Arc<TcpTransport>>,
    quit: Sender<()>,
}

impl Inbox for Quitter {
    fn receive(&self, _: NodeId, _: Vec<Parcel>) {}

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

    fn connected(&self, _: NodeId) {
        self.transport.get().unwrap().shutdown();
        self.quit.send(()).unwrap();
    }

    fn disconnected(&self, _: NodeId) {}
}

#[test]
fn a_shutdown_by_the_inbox_does_not_wait_for_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config(1, &[(2, listener.local_addr().unwrap().to_string())]);
    let (quit, has_quit) = channel();
    let inbox = Arc::new(Quitter { transport: OnceLock::new(), quit });
    let transport = TcpTransport::start(config, inbox.clone()).unwrap();
    assert!(inbox.transport.set(Arc::new(transport)).is_ok());
    let mut stream = accept(&listener);
    has_quit.recv().unwrap();
    assert_eq!(read_to_close(&mut stream), b"");
}

#[test]
fn a_snapshot_ends_with_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (node, inbox) = start(config(1, &[(2, listener.local_addr().unwrap().to_string())]));
    let stream = accept(&listener);
    inbox.wait_connected(2);
    let (gate, gated) = channel();
    let (under_way, first) = snapshot(Gated::new(gated), 10);
    let (in_line, second) = snapshot(std::io::empty(), 0);
    node.send_snapshot(NodeId(2), under_way);
    node.send_snapshot(NodeId(2), in_line);
    drop(stream);
    inbox.wait_event(&Event::Disconnected(NodeId(2)));
    let result = second.recv().unwrap();
    assert!(matches!(result, Err(SendError::Unreachable)), "{result:?}");
    drop(gate);
    let result = first.recv().unwrap();
    assert!(matches!(result, Err(SendError::Read(_) | SendError::Unreachable)), "{result:?}");
}

#[test]
fn the_bytes_of_a_snapshot_are_pinned() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (node, inbox) = start(config(1, &[(2, listener.local_addr().unwrap().to_string())]));
    let mut stream = accept(&listener);
    inbox.wait_connected(2);
    let (source, _outcome) = snapshot(&b"state"[..], 5);
    node.send_snapshot(NodeId(2), source);
    // Kind, group 9, entry 5 of term 2, offset, whole length, length of the piece, the piece.
    let expected = framed(&[34, 9, 2, 5, 0, 5, 5, b's', b't', b'a', b't', b'e'], &[]);
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(received, expected);
    // An offset at which the piece would not fit into the snapshot is refused.
    let beyond = framed(&[34, 9, 2, 5, 1, 5, 5, b's', b't', b'a', b't', b'e'], &[]);
    decode(beyond, &mut Vec::new()).unwrap_err();
}

#[test]
fn a_busy_port_is_named() {
    let (node, _) = node_facing(|_| {});
    let mut second = config(2, &[]);
    second.listen = node.local_addr();
    let Err(error) = TcpTransport::start(second, Recorder::new()) else {
        panic!("two nodes listen on one port");
    };
    assert!(matches!(error, StartError::Listen { .. }));
    assert!(error.to_string().contains(&node.local_addr().to_string()), "{error}");
}

#[test]
fn a_frame_limit_below_a_batch_is_refused() {
    let mut small = config(1, &[]);
    small.max_frame_bytes = 1000;
    let result = TcpTransport::start(small, Recorder::new());
    assert!(matches!(result, Err(StartError::FrameLimit { bytes: 1000, .. })));
}

#[test]
fn traffic_is_counted_on_both_sides() {
    let (two, received) = start(config(2, &[(1, NOWHERE.to_owned())]));
    let (one, inbox) = start(config(1, &[(2, two.local_addr().to_string())]));
    inbox.wait_connected(2);
    let batch = numbered_batch(0..10);
    let bytes = batch.bytes() as u64;
    one.send(NodeId(2), batch).unwrap();
    received.wait_parcels(1, 10);
    eventually("counted as sent", || {
        metric(&one, "transport_bytes_sent_total{peer=\"2\"}") == bytes
    });
    assert_eq!(metric(&one, "transport_messages_sent_total{peer=\"2\"}"), 10);
    assert_eq!(metric(&one, "transport_frames_sent_total{peer=\"2\"}"), 1);
    assert_eq!(metric(&two, "transport_messages_received_total{peer=\"1\"}"), 10);
    assert_eq!(metric(&two, "transport_frames_received_total{peer=\"1\"}"), 1);
    assert_eq!(metric(&two, "transport_bytes_received_total{peer=\"1\"}"), bytes);
}
