//! What every transport does, run against each.

use crate::common::{
    Event, Gated, Recorder, append_of, every_message, number, numbered_batch, snapshot,
};
use crate::locked::Certificates;
use bytes::Bytes;
use logboat_raft::{ClusterId, GroupId, LogId, Message, NodeId, Payload};
use logboat_security::PortTls;
use logboat_transport::{
    MemoryNetwork, Outgoing, Parcel, RequestId, SendError, SnapshotChunk, StartError, TcpTransport,
    Transport, TransportConfig,
};
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Nodes 1 and 2, connected both ways, and what each was told.
struct Pair {
    transports: [Arc<dyn Transport>; 2],
    inboxes: [Arc<Recorder>; 2],
}

type Start = fn(max_queued_bytes: usize) -> Pair;

impl Pair {
    fn connected(start: Start) -> Self {
        Self::bounded(start, 64 << 20)
    }

    fn bounded(start: Start, max_queued_bytes: usize) -> Self {
        let pair = start(max_queued_bytes);
        for (inbox, transport) in pair.inboxes.iter().zip(&pair.transports) {
            inbox.transport.get_or_init(|| Arc::downgrade(transport));
        }
        pair.inboxes[0].wait_connected(2);
        pair.inboxes[1].wait_connected(1);
        pair
    }

    /// Sends from node 1 to node 2.
    fn send(&self, outgoing: Outgoing) -> Result<(), SendError> {
        self.transports[0].send(NodeId(2), outgoing)
    }

    /// The pieces of snapshots that node 2 received, waiting for `bytes` of them.
    fn wait_snapshot_bytes(&self, bytes: usize) -> Vec<SnapshotChunk> {
        self.inboxes[1].wait_for("whole snapshot", |events| {
            let chunks: Vec<_> = events.iter().filter_map(chunk_of).collect();
            let received: usize = chunks.iter().map(|chunk| chunk.data.len()).sum();
            (received >= bytes).then_some(chunks)
        })
    }
}

fn chunk_of(event: &Event) -> Option<SnapshotChunk> {
    match event {
        Event::Received(_, Parcel::Snapshot(chunk)) => Some(chunk.clone()),
        _ => None,
    }
}

fn in_memory(max_queued_bytes: usize) -> Pair {
    let network = MemoryNetwork::bounded(max_queued_bytes).unwrap();
    let inboxes = [Recorder::new(), Recorder::new()];
    let transports =
        [network.join(NodeId(1), inboxes[0].clone()), network.join(NodeId(2), inboxes[1].clone())];
    Pair { transports, inboxes }
}

fn over_tcp(max_queued_bytes: usize) -> Pair {
    on_free_ports(max_queued_bytes, None)
}

fn over_tls(max_queued_bytes: usize) -> Pair {
    on_free_ports(max_queued_bytes, Some(&Certificates::new()))
}

fn on_free_ports(max_queued_bytes: usize, certificates: Option<&Certificates>) -> Pair {
    // Another program may take a port between its choice and its use.
    for _ in 0..10 {
        if let Ok(pair) = try_over_tcp(max_queued_bytes, certificates) {
            return pair;
        }
    }
    panic!("found no free ports");
}

fn try_over_tcp(
    max_queued_bytes: usize,
    certificates: Option<&Certificates>,
) -> Result<Pair, StartError> {
    /// Tests run at once and must not meet each other.
    static CLUSTERS: AtomicU64 = AtomicU64::new(0);
    let cluster = ClusterId(CLUSTERS.fetch_add(1, Relaxed));
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = listeners.map(|listener| listener.local_addr().unwrap());
    let names = addresses.map(|address| address.to_string());
    let peers: BTreeMap<_, _> = [NodeId(1), NodeId(2)].into_iter().zip(names).collect();
    let inboxes = [Recorder::new(), Recorder::new()];
    let start = |at: usize| -> Result<Arc<dyn Transport>, StartError> {
        let node = NodeId(at as u64 + 1);
        let mut config = TransportConfig::new(node, cluster, addresses[at], peers.clone());
        config.max_queued_bytes = max_queued_bytes;
        config.backoff_min = Duration::from_millis(1);
        config.tls = certificates.map(|certificates| PortTls {
            tls: certificates.of(node.0, Some(node.0)),
            required: true,
        });
        Ok(Arc::new(TcpTransport::start(config, inboxes[at].clone())?))
    };
    let transports = [start(0)?, start(1)?];
    Ok(Pair { transports, inboxes })
}

macro_rules! conformance {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $test() { super::$test(super::in_memory); })*
        }
        mod tcp {
            $(#[test] fn $test() { super::$test(super::over_tcp); })*
        }
        mod tls {
            $(#[test] fn $test() { super::$test(super::over_tls); })*
        }
    };
}

conformance!(
    everything_arrives_as_it_was_sent,
    batches_of_one_thread_keep_their_order_when_the_queue_is_often_full,
    a_frame_above_the_bound_goes_when_nothing_else_waits,
    a_batch_above_the_bound_goes_as_far_as_there_is_room,
    a_parcel_above_the_frame_limit_takes_no_other_with_it,
    a_full_queue_takes_all_answers_and_a_small_one_for_each_large_one,
    nobody_else_is_a_peer,
    status_tells_of_the_connection,
    snapshots_arrive_whole_and_one_after_another,
    an_empty_snapshot_arrives,
    messages_pass_a_snapshot_that_is_slow_to_read,
    a_snapshot_makes_progress_under_a_flood_of_messages,
    no_more_of_a_snapshot_leaves_than_the_peer_takes,
    a_snapshot_that_cannot_be_read_ends_with_the_cause,
    a_snapshot_to_nobody_ends_at_once,
);

fn everything_arrives_as_it_was_sent(start: Start) {
    let pair = Pair::connected(start);
    let mut expected = Vec::new();
    let mut outgoing = Outgoing::new();
    let is_offer = |message: &Message| matches!(message.payload, Payload::Snapshot { .. });
    let (offers, others): (Vec<_>, Vec<_>) = every_message().into_iter().partition(is_offer);
    for message in offers.iter().chain(&others) {
        outgoing.push_message(GroupId(7), message);
    }
    let parcel = |message| Parcel::Message { group: GroupId(7), message };
    expected.extend(others.into_iter().map(parcel));
    outgoing.push_request(RequestId(1), GroupId(3), b"request");
    expected.push(Parcel::Request {
        id: RequestId(1),
        group: GroupId(3),
        body: Bytes::from_static(b"request"),
    });
    outgoing.push_snapshot_refused(GroupId(4), LogId::default());
    expected.push(Parcel::SnapshotRefused { group: GroupId(4), last: LogId::default() });
    // Replies and offers have frames of their own, behind the others.
    expected.extend(offers.into_iter().map(parcel));
    outgoing.push_reply(RequestId(2), b"reply");
    expected.push(Parcel::Reply { id: RequestId(2), body: Bytes::from_static(b"reply") });
    pair.send(outgoing).unwrap();
    assert_eq!(pair.inboxes[1].wait_parcels(1, expected.len()), expected);
    pair.transports[1].send(NodeId(1), numbered_batch([5])).unwrap();
    let back = pair.inboxes[0].wait_parcels(2, 1);
    assert_eq!(number(&back[0]), Some(5));
}

fn batches_of_one_thread_keep_their_order_when_the_queue_is_often_full(start: Start) {
    const ROUNDS: u64 = 30_000;
    let pair = Pair::bounded(start, 600);
    let mut full = 0;
    let mut next = 0;
    while next < ROUNDS {
        let end = (next + 1 + next % 29).min(ROUNDS);
        match pair.send(numbered_batch(next..end)) {
            Ok(()) => next = end,
            Err(SendError::Full) => {
                full += 1;
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(full > 0, "the bound was never met");
    let parcels = pair.inboxes[1].wait_parcels(1, ROUNDS as usize);
    assert!(parcels.iter().map(number).eq((0..ROUNDS).map(Some)));
}

fn a_frame_above_the_bound_goes_when_nothing_else_waits(start: Start) {
    let pair = Pair::bounded(start, 1000);
    let mut large = Outgoing::new();
    large.push_message(GroupId(7), &append_of(7, 1000));
    pair.send(large).unwrap();
    pair.inboxes[1].wait_parcels(1, 1);
}

fn a_batch_above_the_bound_goes_as_far_as_there_is_room(start: Start) {
    const PARCEL_BYTES: usize = 900 << 10;
    let pair = Pair::bounded(start, 2 * PARCEL_BYTES + (64 << 10));
    let mut batch = Outgoing::new();
    for id in 1..=3 {
        batch.push_request(RequestId(id), GroupId(1), &vec![0; PARCEL_BYTES]);
    }
    batch.append(&mut numbered_batch([4]));
    let result = pair.send(batch);
    assert!(matches!(result, Err(SendError::Full)), "{result:?}");
    pair.inboxes[1].wait_parcels(1, 2);
    pair.send(numbered_batch([5])).unwrap();
    let parcels = pair.inboxes[1].wait_parcels(1, 3);
    assert_eq!(parcels.iter().filter_map(number).collect::<Vec<_>>(), [5]);
}

fn a_parcel_above_the_frame_limit_takes_no_other_with_it(start: Start) {
    let pair = Pair::bounded(start, 200 << 20);
    let mut outgoing = numbered_batch([1]);
    outgoing.push_request(RequestId(1), GroupId(1), &vec![0; 64 << 20]);
    outgoing.append(&mut numbered_batch([2]));
    let result = pair.send(outgoing);
    assert!(matches!(result, Err(SendError::TooLarge { bytes }) if bytes > 64 << 20), "{result:?}");
    pair.send(numbered_batch([3])).unwrap();
    let parcels = pair.inboxes[1].wait_parcels(1, 3);
    assert!(parcels.iter().map(number).eq([Some(1), Some(2), Some(3)]));
}

fn a_full_queue_takes_all_answers_and_a_small_one_for_each_large_one(start: Start) {
    const BOUND: usize = 100_000;
    let pair = Pair::bounded(start, BOUND);
    let mut batch = Outgoing::new();
    batch.push_reply_or(RequestId(1), &vec![b'x'; BOUND / 2], b"no room");
    batch.push_reply_or(RequestId(2), &vec![b'x'; BOUND], b"no room");
    batch.push_reply_or(RequestId(3), &vec![b'x'; 65 << 20], b"no frame");
    batch.push_message(GroupId(7), &append_of(7, 2 * BOUND));
    batch.push_reply(RequestId(4), b"small");
    // If the offer of a snapshot were lost, all of the snapshot would be sent again.
    let is_offer = |message: &Message| matches!(message.payload, Payload::Snapshot { .. });
    let offer = every_message().into_iter().find(is_offer).unwrap();
    batch.push_message(GroupId(7), &offer);
    let result = pair.send(batch);
    assert!(matches!(result, Err(SendError::Full)), "{result:?}");
    let (mut arrived, mut messages) = (Vec::new(), Vec::new());
    for parcel in pair.inboxes[1].wait_parcels(1, 5) {
        match parcel {
            Parcel::Reply { id, body } => arrived.push((id.0, body)),
            Parcel::Message { message, .. } => messages.push(message),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(messages, [offer]);
    arrived.sort();
    let large = Bytes::from(vec![b'x'; BOUND / 2]);
    let [no_room, no_frame, small] =
        [&b"no room"[..], b"no frame", b"small"].map(Bytes::from_static);
    assert_eq!(arrived, [(1, large), (2, no_room), (3, no_frame), (4, small)]);
}

fn nobody_else_is_a_peer(start: Start) {
    let pair = Pair::connected(start);
    for stranger in [NodeId(1), NodeId(3)] {
        let result = pair.transports[0].send(stranger, numbered_batch([1]));
        assert!(
            matches!(result, Err(SendError::UnknownPeer(node)) if node == stranger),
            "{result:?}"
        );
    }
}

fn status_tells_of_the_connection(start: Start) {
    let pair = Pair::connected(start);
    let peers = pair.transports[0].peers();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].node, NodeId(2));
    assert!(peers[0].connected);
    assert_eq!(peers[0].last_error, None);
}

fn snapshots_arrive_whole_and_one_after_another(start: Start) {
    let pair = Pair::connected(start);
    let contents: Vec<Vec<u8>> = [700_001, 256 << 10, 3]
        .into_iter()
        .map(|bytes| (0..bytes).map(|at: u32| (at ^ bytes) as u8).collect())
        .collect();
    let outcomes: Vec<_> = contents
        .iter()
        .map(|content| {
            let (source, outcome) =
                snapshot(io::Cursor::new(content.clone()), content.len() as u64);
            pair.transports[0].send_snapshot(NodeId(2), source);
            outcome
        })
        .collect();
    let whole = contents.concat();
    let chunks = pair.wait_snapshot_bytes(whole.len());
    let received: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.data.to_vec()).collect();
    assert!(received == whole);
    let mut expected_offset = 0;
    for chunk in &chunks {
        assert_eq!(chunk.group, GroupId(9));
        assert_eq!(chunk.offset, expected_offset);
        let end = chunk.offset + chunk.data.len() as u64;
        expected_offset = if end == chunk.total_bytes { 0 } else { end };
    }
    for outcome in outcomes {
        outcome.recv().unwrap().unwrap();
    }
}

fn an_empty_snapshot_arrives(start: Start) {
    let pair = Pair::connected(start);
    let (source, outcome) = snapshot(io::empty(), 0);
    pair.transports[0].send_snapshot(NodeId(2), source);
    outcome.recv().unwrap().unwrap();
    let parcels = pair.inboxes[1].wait_parcels(1, 1);
    assert!(matches!(&parcels[0], Parcel::Snapshot(chunk) if chunk.total_bytes == 0));
}

fn messages_pass_a_snapshot_that_is_slow_to_read(start: Start) {
    let pair = Pair::connected(start);
    let (gate, gated) = channel();
    let (source, outcome) = snapshot(Gated::new(gated), 10);
    pair.transports[0].send_snapshot(NodeId(2), source);
    gate.send(vec![1; 9]).unwrap();
    pair.send(numbered_batch([1, 2, 3])).unwrap();
    pair.inboxes[1].wait_parcels(1, 3);
    gate.send(vec![1]).unwrap();
    outcome.recv().unwrap().unwrap();
    assert_eq!(pair.wait_snapshot_bytes(10).len(), 1);
}

fn a_snapshot_makes_progress_under_a_flood_of_messages(start: Start) {
    const BYTES: usize = 3 << 20;
    let pair = Pair::bounded(start, 64 << 10);
    let (source, outcome) = snapshot(io::repeat(7), BYTES as u64);
    pair.transports[0].send_snapshot(NodeId(2), source);
    let mut sent = 0;
    let result = loop {
        // The queue is kept as full as it may be until the snapshot is through.
        while pair.send(numbered_batch([sent])).is_ok() {
            sent += 1;
        }
        if let Ok(result) = outcome.try_recv() {
            break result;
        }
        std::thread::yield_now();
    };
    result.unwrap();
    pair.wait_snapshot_bytes(BYTES);
    let numbers = pair.inboxes[1].wait_for("all messages", |events| {
        let numbers: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Received(_, parcel) => number(parcel),
                _ => None,
            })
            .collect();
        (numbers.len() as u64 >= sent).then_some(numbers)
    });
    assert!(numbers.into_iter().eq(0..sent));
}

fn no_more_of_a_snapshot_leaves_than_the_peer_takes(start: Start) {
    const CHUNK: usize = 256 << 10;
    let pair = Pair::connected(start);
    pair.inboxes[1].takes_nothing.store(true, Relaxed);
    let (source, outcome) = snapshot(io::repeat(7), 20 * CHUNK as u64);
    pair.transports[0].send_snapshot(NodeId(2), source);
    let mut next = 1;
    // The peer has not said what it has memory for, then says that, and then less.
    for (chunks, window_bytes) in [(1, 4 * CHUNK + 4096), (5, 4 * CHUNK + 4096), (9, 0), (10, 0)] {
        let arrived = pair.wait_snapshot_bytes(chunks * CHUNK);
        // Messages pass, and nothing else.
        for _ in 0..20 {
            pair.send(numbered_batch([next])).unwrap();
            pair.inboxes[1].wait_for("the message", |events| {
                let is_it = |event: &Event| match event {
                    Event::Received(_, parcel) => number(parcel) == Some(next),
                    _ => false,
                };
                events.iter().any(is_it).then_some(())
            });
            next += 1;
        }
        assert_eq!(pair.wait_snapshot_bytes(0).len(), chunks);
        assert!(outcome.try_recv().is_err());
        pair.inboxes[1].take_chunk(NodeId(1), &arrived[chunks - 1], window_bytes as u64);
    }
    pair.inboxes[1].takes_nothing.store(false, Relaxed);
    let arrived = pair.wait_snapshot_bytes(11 * CHUNK);
    pair.inboxes[1].take_chunk(NodeId(1), &arrived[10], 0);
    pair.wait_snapshot_bytes(20 * CHUNK);
    outcome.recv().unwrap().unwrap();
}

fn a_snapshot_that_cannot_be_read_ends_with_the_cause(start: Start) {
    let pair = Pair::connected(start);
    let (source, outcome) = snapshot(io::Cursor::new(vec![1; 10]), 11);
    pair.transports[0].send_snapshot(NodeId(2), source);
    let result = outcome.recv().unwrap();
    assert!(
        matches!(&result, Err(SendError::Read(error)) if error.kind() == io::ErrorKind::UnexpectedEof),
        "{result:?}"
    );
    // The next in line has its turn.
    let (source, outcome) = snapshot(io::repeat(1), 5);
    pair.transports[0].send_snapshot(NodeId(2), source);
    outcome.recv().unwrap().unwrap();
    assert_eq!(pair.wait_snapshot_bytes(5).len(), 1);
}

fn a_snapshot_to_nobody_ends_at_once(start: Start) {
    let pair = Pair::connected(start);
    let (source, outcome) = snapshot(io::empty(), 0);
    pair.transports[0].send_snapshot(NodeId(3), source);
    let result = outcome.recv().unwrap();
    assert!(matches!(result, Err(SendError::UnknownPeer(NodeId(3)))), "{result:?}");
}

/// Only a network in memory can be cut at will.
mod cut {
    use super::*;
    use crate::common::eventually;

    #[test]
    fn a_cut_way_is_unreachable_until_healed_and_the_way_back_stays() {
        let network = MemoryNetwork::new().unwrap();
        let inboxes = [Recorder::new(), Recorder::new()];
        let one = network.join(NodeId(1), inboxes[0].clone());
        let two = network.join(NodeId(2), inboxes[1].clone());
        inboxes[0].wait_connected(2);
        inboxes[1].wait_connected(1);
        network.cut(NodeId(1), NodeId(2));
        inboxes[0].wait_event(&Event::Disconnected(NodeId(2)));
        let result = one.send(NodeId(2), numbered_batch([1]));
        assert!(matches!(result, Err(SendError::Unreachable)), "{result:?}");
        two.send(NodeId(1), numbered_batch([2])).unwrap();
        assert_eq!(number(&inboxes[0].wait_parcels(2, 1)[0]), Some(2));
        network.heal(NodeId(1), NodeId(2));
        inboxes[0].wait_events(&Event::Connected(NodeId(2)), 2);
        one.send(NodeId(2), numbered_batch([3])).unwrap();
        assert_eq!(number(&inboxes[1].wait_parcels(1, 1)[0]), Some(3));
    }

    #[test]
    fn what_a_lost_connection_had_on_its_way_holds_up_no_other_snapshot() {
        let network = MemoryNetwork::new().unwrap();
        let inboxes = [Recorder::new(), Recorder::new()];
        inboxes[1].takes_nothing.store(true, Relaxed);
        let one = network.join(NodeId(1), inboxes[0].clone());
        let _two = network.join(NodeId(2), inboxes[1].clone());
        inboxes[0].wait_connected(2);
        for times in 1..=2 {
            let (source, outcome) = snapshot(io::repeat(7), 1 << 20);
            one.send_snapshot(NodeId(2), source);
            inboxes[1].wait_parcels(1, times);
            network.cut(NodeId(1), NodeId(2));
            let result = outcome.recv().unwrap();
            assert!(matches!(result, Err(SendError::Unreachable)), "{result:?}");
            network.heal(NodeId(1), NodeId(2));
            inboxes[0].wait_events(&Event::Connected(NodeId(2)), times + 1);
        }
    }

    #[test]
    fn a_node_that_leaves_is_lost_and_may_join_again() {
        let network = MemoryNetwork::new().unwrap();
        let inboxes = [Recorder::new(), Recorder::new(), Recorder::new()];
        let one = network.join(NodeId(1), inboxes[0].clone());
        let two = network.join(NodeId(2), inboxes[1].clone());
        inboxes[0].wait_connected(2);
        network.leave(NodeId(2));
        inboxes[0].wait_event(&Event::Disconnected(NodeId(2)));
        let result = two.send(NodeId(1), numbered_batch([1]));
        assert!(matches!(result, Err(SendError::Closed)), "{result:?}");
        let _two = network.join(NodeId(2), inboxes[2].clone());
        eventually("sent to the new one", || one.send(NodeId(2), numbered_batch([2])).is_ok());
        assert_eq!(number(&inboxes[2].wait_parcels(1, 1)[0]), Some(2));
        assert!(inboxes[1].parcels(1).is_empty());
    }
}
