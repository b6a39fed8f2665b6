//! The queue of a peer and the writer that empties it, under every order of their threads that
//! [`logboat_locks`] tries.

use crate::net_thread::Stop;
use crate::transfer::Transfer;
use crate::wire::Frame;
use crate::{
    Outgoing, Parcel, RequestId, SendError, SnapshotSource, TransportMetrics, decode, metrics,
};
use logboat_locks::future::block_on;
use logboat_locks::{Condvar, Mutex, MutexGuard, explore, thread};
use logboat_raft::{GroupId, LogId, NodeId};
use outbox::Outbox;
use pump::{Link, pump};
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

#[expect(clippy::duplicate_mod, reason = "here it has other locks")]
#[expect(dead_code, reason = "not all of it concerns threads")]
#[path = "outbox.rs"]
mod outbox;
#[expect(clippy::duplicate_mod, reason = "here it empties the other outbox")]
#[path = "pump.rs"]
mod pump;

/// What arrives at the peer, by the numbers of the replies that it consists of.
#[derive(Default)]
struct Wire {
    arrived: Mutex<Vec<u64>>,
    more: Condvar,
}

impl Wire {
    /// Waits until so much arrived.
    fn wait_for(&self, count: usize) -> Vec<u64> {
        let mut arrived = self.arrived.lock();
        while arrived.len() < count {
            self.more.wait(&mut arrived);
        }
        arrived.clone()
    }
}

/// The way there, which breaks instead of carrying the frame with the number `breaks`.
struct WireLink {
    wire: Arc<Wire>,
    breaks: usize,
}

impl Link for WireLink {
    async fn write(&mut self, frames: &[Frame]) -> io::Result<()> {
        for frame in frames {
            if self.breaks == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            self.breaks -= 1;
            let mut parcels = Vec::new();
            decode(frame.to_bytes(), &mut parcels).unwrap();
            self.wire.arrived.lock().extend(parcels.iter().map(number_of));
            self.wire.more.notify_one();
        }
        Ok(())
    }

    async fn closed(&mut self) -> io::Error {
        std::future::pending().await
    }
}

fn number_of(parcel: &Parcel) -> u64 {
    match parcel {
        Parcel::Request { id, .. } => id.0,
        other => panic!("{other:?} was not sent"),
    }
}

fn new_outbox(max_queued_bytes: usize) -> Arc<Outbox> {
    let metrics: metrics::PeerMetrics = TransportMetrics::default().of_peer(NodeId(2));
    Arc::new(Outbox::new(1 << 20, max_queued_bytes, metrics))
}

/// Pushes a batch with one request of this number.
fn push(outbox: &Outbox, number: u64) -> Result<(), SendError> {
    let mut outgoing = Outgoing::new();
    outgoing.push_request(RequestId(number), GroupId(1), b"command");
    outbox.push(outgoing)
}

/// A thread that pushes `count` numbers from `first` on; it says which ones were taken.
fn sender(outbox: &Arc<Outbox>, first: u64, count: u64) -> thread::JoinHandle<Vec<u64>> {
    let outbox = Arc::clone(outbox);
    thread::spawn(move || {
        (first..first + count).filter(|number| push(&outbox, *number).is_ok()).collect()
    })
}

/// A thread that does what a connection does: writes until the link is lost or the node stops.
fn writer(outbox: &Arc<Outbox>, mut link: WireLink, stop: Stop) -> thread::JoinHandle<()> {
    let outbox = Arc::clone(outbox);
    thread::spawn(move || {
        if let Err(error) = block_on(pump(&outbox, &mut link, stop)) {
            outbox.lose(error.to_string());
        }
    })
}

fn queued_bytes(outbox: &Outbox) -> usize {
    outbox.status(NodeId(2), "").queued_bytes
}

#[test]
fn the_writer_is_woken_for_all_that_is_sent() {
    explore(|| {
        let (outbox, wire) = (new_outbox(1 << 20), Arc::<Wire>::default());
        let (stop, stopped) = watch::channel(false);
        assert!(outbox.open());
        let link = WireLink { wire: Arc::clone(&wire), breaks: usize::MAX };
        let writer = writer(&outbox, link, Stop(stopped));
        let senders = [sender(&outbox, 200, 3), sender(&outbox, 300, 3)];
        // Nobody tells the writer anything else meanwhile.
        let arrived = wire.wait_for(6);
        for (sender, first) in senders.into_iter().zip([200, 300]) {
            let sent = sender.join().unwrap();
            let of_one = arrived.iter().copied().filter(|number| number / 100 * 100 == first);
            assert_eq!(of_one.collect::<Vec<_>>(), sent, "in order, each once");
        }
        outbox.close();
        assert!(matches!(push(&outbox, 1), Err(SendError::Closed)));
        stop.send_replace(true);
        writer.join().unwrap();
        assert_eq!(queued_bytes(&outbox), 0);
    });
}

#[test]
fn a_full_queue_takes_again_what_the_writer_made_room_for() {
    explore(|| {
        let mut one = Outgoing::new();
        one.push_request(RequestId(200), GroupId(1), b"command");
        let (outbox, wire) = (new_outbox(2 * one.bytes()), Arc::<Wire>::default());
        let (stop, stopped) = watch::channel(false);
        assert!(outbox.open());
        let link = WireLink { wire: Arc::clone(&wire), breaks: usize::MAX };
        let writer = writer(&outbox, link, Stop(stopped));
        let senders = [sender(&outbox, 200, 3), sender(&outbox, 300, 3)];
        let sent: Vec<u64> =
            senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
        assert!(sent.len() >= 2, "there is room for two");
        let mut arrived = wire.wait_for(sent.len());
        arrived.sort_unstable();
        assert_eq!(arrived, sent, "what was taken arrives, and nothing else");
        outbox.close();
        stop.send_replace(true);
        writer.join().unwrap();
        assert_eq!(queued_bytes(&outbox), 0);
    });
}

#[test]
fn what_is_queued_when_the_node_stops_still_leaves() {
    explore(|| {
        let (outbox, wire) = (new_outbox(1 << 20), Arc::<Wire>::default());
        let (stop, stopped) = watch::channel(false);
        assert!(outbox.open());
        let link = WireLink { wire: Arc::clone(&wire), breaks: usize::MAX };
        let writer = writer(&outbox, link, Stop(stopped));
        let sender = sender(&outbox, 100, 4);
        thread::yield_now();
        outbox.close();
        stop.send_replace(true);
        let sent = sender.join().unwrap();
        writer.join().unwrap();
        assert_eq!(wire.wait_for(0), sent);
    });
}

#[test]
fn a_connection_that_follows_a_lost_one_is_served() {
    explore(|| {
        let (outbox, wire) = (new_outbox(1 << 20), Arc::<Wire>::default());
        let (stop, stopped) = watch::channel(false);
        assert!(outbox.open());
        let link = WireLink { wire: Arc::clone(&wire), breaks: 1 };
        let lost = writer(&outbox, link, Stop(stopped.clone()));
        let meanwhile = sender(&outbox, 200, 6);
        while push(&outbox, 1).is_ok() {
            thread::yield_now();
        }
        lost.join().unwrap();
        assert_eq!(queued_bytes(&outbox), 0, "what is lost counts no more");
        assert!(outbox.open());
        let link = WireLink { wire: Arc::clone(&wire), breaks: usize::MAX };
        let again = writer(&outbox, link, Stop(stopped));
        let before = wire.wait_for(0).len();
        push(&outbox, 2).unwrap();
        wire.wait_for(before + 1);
        let sent = meanwhile.join().unwrap();
        outbox.close();
        stop.send_replace(true);
        again.join().unwrap();
        assert_eq!(queued_bytes(&outbox), 0);
        let arrived = wire.wait_for(0);
        assert!(arrived.contains(&2));
        let theirs: Vec<_> = arrived.into_iter().filter(|number| *number >= 200).collect();
        assert!(theirs.is_sorted_by(|a, b| a < b), "in order, each once: {theirs:?}");
        assert!(theirs.iter().all(|number| sent.contains(number)));
    });
}

#[test]
fn every_snapshot_hears_once_what_became_of_it() {
    explore(|| {
        let outbox = new_outbox(1 << 20);
        assert!(outbox.open());
        let told = Arc::new(Mutex::new(Vec::new()));
        let senders: Vec<_> = (0..3)
            .map(|number| {
                let (outbox, told) = (Arc::clone(&outbox), Arc::clone(&told));
                let done = Box::new(move |result: Result<(), SendError>| {
                    told.lock().push((number, result.is_ok()));
                });
                let source = SnapshotSource {
                    group: GroupId(number),
                    last: LogId::default(),
                    total_bytes: 0,
                    reader: Box::new(io::empty()),
                    done,
                };
                thread::spawn(move || outbox.push_transfer(Transfer::new(source)))
            })
            .collect();
        let taken = outbox.take_transfer();
        let went = taken.is_some();
        if let Some(transfer) = taken {
            transfer.finish(Ok(()));
        }
        outbox.lose("connection lost".to_owned());
        outbox.close();
        for sender in senders {
            sender.join().unwrap();
        }
        outbox.discard();
        let mut told = told.lock().clone();
        told.sort_unstable();
        assert_eq!(told.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(told.iter().filter(|(_, ok)| *ok).count(), usize::from(went));
    });
}
