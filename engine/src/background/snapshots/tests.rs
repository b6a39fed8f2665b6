use super::*;
use crate::admission::Admission;
use crate::background::pace::Paces;
use crate::background::pool::{Pool, PoolKind};
use crate::background::stuck_calls::StuckCalls;
use crate::peers::Peers;
use crate::replica::event::offered_snapshot;
use crate::status::UserCode;
use crate::turn::slot::Slot;
use logboat_raft::{ClusterId, Configuration, Incarnation, Index, Payload, SnapshotMeta, Term};
use logboat_storage::{DataDir, Identity, Wal, WalOptions};
use logboat_transport::{Parcel, PeerStatus, SendError, SnapshotTaken, decode};
use parking_lot::Mutex;
use std::fs;
use std::io::Read;
use std::path::Path;

const PEER: NodeId = NodeId(2);

/// Keeps what is sent, and the snapshots that are to be.
#[derive(Default)]
struct Wire(Mutex<Vec<Parcel>>, Mutex<Vec<SnapshotSource>>);

impl Wire {
    /// How many refusals have left.
    fn refusals(&self) -> usize {
        let is_refusal = |parcel: &&Parcel| matches!(parcel, Parcel::SnapshotRefused { .. });
        self.0.lock().iter().filter(is_refusal).count()
    }

    /// How many parts the sender heard of.
    fn taken(&self) -> usize {
        let is_taken = |parcel: &&Parcel| matches!(parcel, Parcel::SnapshotTaken(_));
        self.0.lock().iter().filter(is_taken).count()
    }
}

impl Transport for Wire {
    fn send(&self, _: NodeId, outgoing: Outgoing) -> Result<(), SendError> {
        for frame in outgoing.into_frames() {
            decode(frame, &mut self.0.lock()).unwrap();
        }
        Ok(())
    }

    fn send_snapshot(&self, _: NodeId, source: SnapshotSource) {
        self.1.lock().push(source);
    }

    fn snapshot_taken(&self, _: NodeId, _: &SnapshotTaken) {}
    fn disconnect(&self, _: NodeId, _: &str) {}

    fn peers(&self) -> Vec<PeerStatus> {
        Vec::new()
    }
}

/// The snapshot thread of a node that has nothing else.
struct Bench {
    directory: tempfile::TempDir,
    wal: Wal,
    store: SnapshotStore,
    wire: Arc<Wire>,
    workers: Workers,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() };
        let (wal, _) = Wal::open(&directory.path().join("log"), options, |_| {}).unwrap();
        let store = SnapshotStore::open(&directory.path().join("snapshots")).unwrap();
        let workers = Workers::new(1, 1 << 20);
        Self { directory, wal, store, wire: Arc::default(), workers }
    }

    fn thread(&self) -> SnapshotThread {
        let identity = Identity {
            cluster: ClusterId(1),
            name: "test".to_owned(),
            node: NodeId(1),
            members: [NodeId(1), PEER].to_vec(),
            incarnation: Incarnation(1),
        };
        let data_dir = DataDir::open(&self.directory.path().join("data"), &identity).unwrap().0;
        let kind =
            PoolKind { name: "pool", threads: 1, code: UserCode::SnapshotWriter, patience: 3 };
        let stuck = StuckCalls::new(Arc::default());
        let writers = SnapshotWriters {
            store: self.store.clone(),
            pool: Pool::new(kind, self.workers.clone(), stuck),
            metrics: Arc::default(),
            directory: Arc::new(data_dir),
            paces: Paces::new(u64::MAX),
        };
        let peers = Arc::new(Peers::new([NodeId(1), PEER]));
        let taken = TakenParts::new(self.wire.clone(), peers, 64 << 20);
        let guard = Guard::new(self.wal.clone(), self.workers.clone());
        SnapshotThread::new(writers, self.wire.clone(), taken, self.workers.clone(), &guard)
    }

    /// Waits until the thread has taken in all that it was asked for.
    fn settle(&self, jobs: &Sender<SnapshotJob>) {
        let (group, slot) = (GroupId(u64::MAX), Slot::default());
        jobs.send(SnapshotJob::Send { group, slot, to: NodeId(3) }).unwrap();
        let mut events = Vec::new();
        let is_answer = |event: &Event| {
            matches!(event, Event::Local(_, GroupEvent::SnapshotSent { to: NodeId(3), .. }))
        };
        while !events.iter().any(is_answer) {
            self.workers.of(group).take(&mut events);
            thread::yield_now();
        }
    }

    /// How many snapshots are arriving or wait to be checked.
    fn open(&self) -> usize {
        let files = fs::read_dir(self.directory.path().join("snapshots")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".tmp")).count()
    }
}

/// A peer's snapshot of a group: its only part, and the offer.
fn sent(directory: &Path, group: GroupId, memory: &Arc<Admission>) -> [SnapshotJob; 2] {
    let store = SnapshotStore::open(directory).unwrap();
    let configuration = Configuration::founding(&[NodeId(1), PEER], None).into();
    let meta = SnapshotMeta { last: LogId::new(Term(1), Index(9)), configuration };
    let mut writer = store.create(group, meta.clone()).unwrap();
    writer.write_all(b"state").unwrap();
    writer.finish().unwrap();
    let mut data = Vec::new();
    let OpenSnapshot { bytes: total_bytes, mut file, .. } = store.file(group).unwrap().unwrap();
    file.read_to_end(&mut data).unwrap();
    let (last, permit) = (meta.last, || memory.admit(0).unwrap());
    let chunk = SnapshotChunk { group, last, offset: 0, total_bytes, data: data.into() };
    let message = Message::of_founder(Term(1), Payload::Snapshot { meta });
    [
        SnapshotJob::Chunk { from: PEER, chunk, permit: permit() },
        SnapshotJob::Offer { from: PEER, group, message, permit: permit() },
    ]
}

/// Each snapshot that waits to be checked holds a file. If the disk is slower than the network, a
/// node with many groups would run out of descriptors.
#[test]
fn no_more_snapshots_arrive_than_can_be_checked() {
    const GROUPS: u64 = 100;
    let (bench, memory) = (Bench::new(), Admission::new(1 << 20));
    let mut thread = bench.thread();
    let (gate, shut) = unbounded::<()>();
    for _ in 0..4 {
        let shut = shut.clone();
        thread.finishers.submit(move || _ = shut.recv());
    }
    let (jobs, asked) = unbounded();
    let running = thread.start(asked).unwrap();
    let leader = tempfile::tempdir().unwrap();
    for group in (0..GROUPS).map(GroupId) {
        sent(leader.path(), group, &memory).into_iter().for_each(|job| jobs.send(job).unwrap());
    }
    bench.settle(&jobs);
    let (open, taken) = (bench.open(), bench.wire.taken());
    assert!((1..=16).contains(&open), "{open} are open");
    assert!(taken <= 16, "the sender heard of {taken}");

    drop(gate);
    let last = LogId::new(Term(1), Index(9));
    let is_here = |group| bench.store.received(group, last).is_some();
    while !(0..GROUPS).map(GroupId).all(is_here) {
        thread::yield_now();
    }
    assert_eq!((bench.open(), bench.wire.taken()), (0, GROUPS as usize));
    jobs.send(SnapshotJob::Stop).unwrap();
    running.join().unwrap();
    bench.wal.close();
}

/// The rest would travel for nothing, and the sender would not know before it has offered all.
#[test]
fn what_has_no_beginning_here_and_what_nobody_wants_is_refused_at_once() {
    let (bench, memory) = (Bench::new(), Admission::new(1 << 20));
    let mut thread = bench.thread();
    let last = LogId::new(Term(1), Index(9));
    let permit = || memory.admit(0).unwrap();
    let mut part = |group, offset| {
        let data = vec![7; 10].into();
        let chunk = SnapshotChunk { group, last, offset, total_bytes: 100, data };
        thread.work(SnapshotJob::Chunk { from: PEER, chunk, permit: permit() });
        bench.wire.refusals()
    };
    assert_eq!([10, 20, 30].map(|offset| part(GroupId(1), offset)), [1, 1, 1]);
    assert_eq!([10, 20].map(|offset| part(GroupId(2), offset)), [2, 2]);
    // It begins again, and a part is missing.
    assert_eq!([0, 10, 30, 40].map(|offset| part(GroupId(2), offset)), [2, 2, 3, 3]);

    let mut dropped = |is_first, end| {
        let part = PartPlace { group: GroupId(3), last, end };
        let (from, is_missed, permit) = (PEER, false, permit());
        thread.work(SnapshotJob::Dropped { from, part, is_first, is_missed, permit });
        bench.wire.refusals()
    };
    assert_eq!([dropped(true, 10), dropped(false, 20), dropped(true, 10)], [4, 4, 5]);
    bench.wal.close();
}

/// What the other peers have sent meanwhile has not been looked at.
#[test]
fn a_thread_that_stood_still_gives_up_nothing_that_is_arriving() {
    let (bench, memory) = (Bench::new(), Admission::new(1 << 20));
    let mut thread = bench.thread();
    let last = LogId::new(Term(1), Index(9));
    let part = |from| Part { group: GroupId(1), from, last, offset: 0, bytes: 10 };
    let receiver = bench.store.receive(GroupId(1), last, 20).unwrap();
    let long_ago = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
    thread.arrivals.begin(part(NodeId(3)), 20, receiver, long_ago);
    let leader = tempfile::tempdir().unwrap();
    let [chunk, _] = sent(leader.path(), GroupId(1), &memory);
    thread.take(chunk);
    assert!(thread.arrivals.next(part(NodeId(3)), Instant::now()).is_ok());
    bench.wal.close();
}

/// At the first word the leader asks for another. At a second one it would take that for failed.
#[test]
fn the_end_of_a_stream_that_was_refused_is_told_once() {
    let (bench, memory, group) = (Bench::new(), Admission::new(1 << 20), GroupId(1));
    let [_, offer] = sent(&bench.directory.path().join("snapshots"), group, &memory);
    let SnapshotJob::Offer { message, .. } = offer else { panic!("it offers") };
    let last = offered_snapshot(&message).unwrap();
    // The store has read its directory before the snapshot was there.
    let store = SnapshotStore::open(&bench.directory.path().join("snapshots")).unwrap();
    let bench = Bench { store, ..bench };
    let mut thread = bench.thread();
    for is_refused in [false, true] {
        thread.send(Departure { group, slot: Slot::default(), to: PEER });
        let source = bench.wire.1.lock().pop().unwrap();
        if is_refused {
            thread.refused(PEER, group, last);
        }
        (source.done)(Err(SendError::NotTaken));
        let mut events = Vec::new();
        bench.workers.of(group).take(&mut events);
        assert_eq!(events.len(), 1, "whether it is refused: {is_refused}");
    }
    bench.wal.close();
}
