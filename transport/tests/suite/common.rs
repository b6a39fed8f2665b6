//! An inbox that remembers, and makers of parcels.

use bytes::Bytes;
use logboat_raft::{
    BootCount, BootNonce, Configuration, Conflict, Entry, EntryKind, Epoch, GroupId, Incarnation,
    Index, Introduction, LogId, LogPosition, Message, NodeId, Payload, ReadToken, Remembered,
    ReplicaId, SnapshotMeta, Start, Term, VotersDigest,
};
use logboat_transport::{
    Inbox, Outgoing, Parcel, SnapshotChunk, SnapshotSource, SnapshotTaken, Transport,
};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// After this a condition that never comes true fails its test.
const PATIENCE: Duration = Duration::from_secs(30);

/// The founders that all messages name.
pub(crate) const FOUNDERS: VotersDigest = VotersDigest(0x0403_0201);

/// What an inbox was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Received(NodeId, Parcel),
    LetInBy(NodeId),
    Connected(NodeId),
    Disconnected(NodeId),
    Ended(NodeId),
}

/// Remembers all that it is told.
#[derive(Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Event>>,
    changed: Condvar,
    remembered: Mutex<BTreeMap<NodeId, Remembered>>,
    /// What the node says of itself, if not [`BOOT`].
    introduction: Option<Introduction>,
    /// Whether nothing can be noted.
    pub(crate) unwritable: AtomicBool,
    /// Where it says that it has taken the chunks of snapshots, and hears that of others.
    pub(crate) transport: OnceLock<Weak<dyn Transport>>,
    /// Whether it says nothing of the kind by itself.
    pub(crate) takes_nothing: AtomicBool,
}

/// How every node of these tests introduces itself, unless they tell of others.
pub(crate) const BOOT: Introduction = Introduction {
    incarnation: Incarnation(0x77),
    newest: Start { count: BootCount(3), nonce: BootNonce(0x99) },
    let_in: None,
    log_end: LogPosition { segment: 2, offset: 4096 },
    cluster: None,
};

/// What every node of these tests remembers of its peers, unless they tell of others: [`BOOT`] was
/// let in.
pub(crate) const KNOWN: Remembered = Remembered {
    incarnation: BOOT.incarnation,
    let_in: Some(BOOT.newest),
    welcomed: None,
    heard: BOOT.log_end,
    fenced: false,
};

impl Recorder {
    /// An inbox that has recorded the nodes of these tests.
    pub(crate) fn new() -> Arc<Self> {
        let recorder = Self::default();
        *recorder.remembered.lock() = (1..=3).map(|node| (NodeId(node), KNOWN)).collect();
        Arc::new(recorder)
    }

    /// An inbox that has recorded no peer.
    pub(crate) fn of_nobody() -> Arc<Self> {
        Arc::default()
    }

    /// The inbox of a node that introduces itself like this.
    pub(crate) fn of(introduction: Introduction) -> Arc<Self> {
        let remembered = (1..=3).map(|node| (NodeId(node), KNOWN)).collect();
        let remembered = Mutex::new(remembered);
        Arc::new(Self { remembered, introduction: Some(introduction), ..Self::default() })
    }

    fn writable(&self) -> io::Result<()> {
        match self.unwritable.load(Relaxed) {
            true => Err(io::Error::other("no space left")),
            false => Ok(()),
        }
    }

    /// Notes how far the log of a peer has come.
    pub(crate) fn heard_of(&self, peer: u64, log_end: LogPosition) {
        self.remembered.lock().get_mut(&NodeId(peer)).unwrap().heard = log_end;
    }

    /// Waits until `found` finds something in the events.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        mut found: impl FnMut(&[Event]) -> Option<T>,
    ) -> T {
        let mut events = self.events.lock();
        loop {
            if let Some(value) = found(&events) {
                return value;
            }
            let late = self.changed.wait_for(&mut events, PATIENCE).timed_out();
            assert!(!late, "no {what} in {events:?}");
        }
    }

    pub(crate) fn wait_event(&self, event: &Event) {
        self.wait_for("such event", |events| events.contains(event).then_some(()));
    }

    pub(crate) fn wait_events(&self, event: &Event, times: usize) {
        self.wait_for("such events", |events| {
            (events.iter().filter(|it| *it == event).count() >= times).then_some(())
        });
    }

    pub(crate) fn wait_connected(&self, peer: u64) {
        self.wait_event(&Event::Connected(NodeId(peer)));
    }

    /// Waits until so many parcels came from `peer` and answers them.
    pub(crate) fn wait_parcels(&self, peer: u64, count: usize) -> Vec<Parcel> {
        self.wait_for("parcels", |events| {
            let parcels = parcels_of(events, peer);
            (parcels.len() >= count).then_some(parcels)
        })
    }

    pub(crate) fn parcels(&self, peer: u64) -> Vec<Parcel> {
        parcels_of(&self.events.lock(), peer)
    }

    /// Whether `event` has happened by now.
    pub(crate) fn has(&self, event: &Event) -> bool {
        self.events.lock().contains(event)
    }

    /// Tells the sender of a chunk that it was taken.
    pub(crate) fn take_chunk(&self, from: NodeId, chunk: &SnapshotChunk, window_bytes: u64) {
        let SnapshotChunk { group, last, .. } = *chunk;
        let mut outgoing = Outgoing::new();
        let taken = SnapshotTaken { group, last, end: chunk.end(), window_bytes };
        outgoing.push_snapshot_taken(&taken);
        if let Some(transport) = self.transport.get().and_then(Weak::upgrade) {
            // Without a connection the sender waits.
            let _ = transport.send(from, outgoing);
        }
    }

    /// Sees to what a node does with chunks. Returns what is left.
    fn see_to_chunks(&self, from: NodeId, mut parcels: Vec<Parcel>) -> Vec<Parcel> {
        for parcel in &parcels {
            match parcel {
                Parcel::Snapshot(chunk) if !self.takes_nothing.load(Relaxed) => {
                    self.take_chunk(from, chunk, u64::MAX);
                }
                Parcel::SnapshotTaken(taken) => {
                    if let Some(transport) = self.transport.get().and_then(Weak::upgrade) {
                        transport.snapshot_taken(from, taken);
                    }
                }
                _ => {}
            }
        }
        parcels.retain(|parcel| !matches!(parcel, Parcel::SnapshotTaken(_)));
        parcels
    }

    fn add(&self, events: impl IntoIterator<Item = Event>) {
        self.events.lock().extend(events);
        self.changed.notify_all();
    }
}

fn parcels_of(events: &[Event], peer: u64) -> Vec<Parcel> {
    let parcels = events.iter().filter_map(|event| match event {
        Event::Received(from, parcel) if from.0 == peer => Some(parcel.clone()),
        _ => None,
    });
    parcels.collect()
}

impl Inbox for Recorder {
    fn receive(&self, from: NodeId, parcels: Vec<Parcel>) {
        let parcels = self.see_to_chunks(from, parcels);
        self.add(parcels.into_iter().map(|parcel| Event::Received(from, parcel)));
    }

    fn introduction(&self, _: NodeId) -> Introduction {
        self.introduction.unwrap_or(BOOT)
    }

    fn remembered(&self, peer: NodeId) -> Option<Remembered> {
        self.remembered.lock().get(&peer).copied()
    }

    fn remember(&self, peer: NodeId, remembered: Remembered) -> io::Result<()> {
        self.writable()?;
        self.remembered.lock().insert(peer, remembered);
        Ok(())
    }

    fn let_in_by(&self, peer: NodeId) -> io::Result<()> {
        self.writable()?;
        self.add([Event::LetInBy(peer)]);
        Ok(())
    }

    fn connected(&self, peer: NodeId) {
        self.add([Event::Connected(peer)]);
    }

    fn disconnected(&self, peer: NodeId) {
        self.add([Event::Disconnected(peer)]);
    }

    fn peer_ended(&self, peer: NodeId) {
        self.add([Event::Ended(peer)]);
    }
}

/// Waits, without events to go by, until something is true.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}

/// A message that carries a number.
pub(crate) fn numbered(round: u64) -> Message {
    let payload = Payload::Fortify { commit: Index(round), founders: FOUNDERS };
    Message::of_founder(Term(1), payload)
}

/// The number that a parcel carries.
pub(crate) fn number(parcel: &Parcel) -> Option<u64> {
    match parcel {
        Parcel::Message { message, .. } => match message.payload {
            Payload::Fortify { commit, .. } => Some(commit.0),
            _ => None,
        },
        _ => None,
    }
}

pub(crate) fn numbered_batch(rounds: impl IntoIterator<Item = u64>) -> Outgoing {
    let mut outgoing = Outgoing::new();
    for round in rounds {
        outgoing.push_message(GroupId(1), &numbered(round));
    }
    outgoing
}

/// An append of one entry of so many bytes.
pub(crate) fn append_of(group: u64, data_bytes: usize) -> Message {
    let data = (0..data_bytes).map(|at| at as u8).collect::<Vec<_>>();
    append(group, LogId::new(Term(3), Index(41)), vec![Bytes::from(data)])
}

/// An append of commands that follow `prev`.
pub(crate) fn append(group: u64, prev: LogId, commands: Vec<Bytes>) -> Message {
    let entries = commands.into_iter().zip(1..).map(|(data, offset)| {
        let id = LogId::new(prev.term, prev.index.plus(offset));
        Entry::new(GroupId(group), id, EntryKind::Command, data)
    });
    let (entries, commit) = (entries.collect(), prev.index);
    let payload = Payload::AppendEntries { prev, entries, commit, founders: FOUNDERS };
    Message::of_founder(prev.term, payload)
}

/// A replica that was added to its group.
const ADDED: ReplicaId = ReplicaId(LogId::new(Term(2), Index(300)));

/// One message of every kind, and of every kind of replica to every kind.
pub(crate) fn every_message() -> Vec<Message> {
    let last = LogId::new(Term(5), Index(300));
    let configuration = Configuration::founding(&[1, 2, 300].map(NodeId), None).into();
    let payloads = [
        Payload::PreVote { last, founders: FOUNDERS },
        Payload::PreVoteReply { granted: true },
        Payload::Vote { last, transfer: true, founders: FOUNDERS },
        Payload::VoteReply { granted: false },
        append(7, last, vec![Bytes::from_static(b"one"), Bytes::from_static(b"three")]).payload,
        Payload::Appended { through: Index(302), applied: Index(300) },
        Payload::Rejected {
            prev: Index(300),
            conflict: Conflict { x_term: Some(Term(4)), x_index: Index(250), x_len: Index(301) },
        },
        Payload::Rejected {
            prev: Index(300),
            conflict: Conflict { x_term: None, x_index: Index(0), x_len: Index(120) },
        },
        Payload::Fortify { commit: Index(300), founders: FOUNDERS },
        Payload::Fortified { epoch: Some(Epoch(9)), applied: Index(300) },
        Payload::ReadIndex { token: ReadToken(9), lease: true },
        Payload::ReadIndexReply {
            token: ReadToken(9),
            index: Some(Index(300)),
            commit: Index(299),
        },
        Payload::Snapshot { meta: SnapshotMeta { last, configuration } },
        Payload::TimeoutNow,
        Payload::Resign { epoch: Epoch(9), term: Term(5) },
        Payload::Resigned { term: Term(5) },
        Payload::Gone { floor: ADDED, founders: FOUNDERS },
        Payload::Left,
    ];
    let message = |payload| Message::of_founder(Term(6), payload);
    let of_added = [(ADDED, ReplicaId::FOUNDER), (ReplicaId::FOUNDER, ADDED), (ADDED, ADDED)];
    let of_added = of_added.map(|(from, to)| Message { from, to, ..message(Payload::TimeoutNow) });
    payloads.into_iter().map(message).chain(of_added).collect()
}

/// How a snapshot's stream ended.
pub(crate) type Outcome = Receiver<Result<(), logboat_transport::SendError>>;

/// A snapshot of group 9 up to entry 5@2, and where its outcome will be told.
pub(crate) fn snapshot(
    reader: impl Read + Send + 'static,
    total_bytes: u64,
) -> (SnapshotSource, Outcome) {
    let (done, outcome) = channel();
    let source = SnapshotSource {
        group: GroupId(9),
        last: LogId::new(Term(2), Index(5)),
        total_bytes,
        reader: Box::new(reader),
        done: Box::new(move |result| drop(done.send(result))),
    };
    (source, outcome)
}

/// Yields its bytes only when told to, by the other end of the channel.
pub(crate) struct Gated {
    gate: Receiver<Vec<u8>>,
    passed: Vec<u8>,
}

impl Gated {
    pub(crate) fn new(gate: Receiver<Vec<u8>>) -> Self {
        Self { gate, passed: Vec::new() }
    }
}

impl Read for Gated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.passed.is_empty() {
            self.passed = self.gate.recv().unwrap_or_default();
        }
        let count = buffer.len().min(self.passed.len());
        buffer[..count].copy_from_slice(&self.passed[..count]);
        self.passed.drain(..count);
        Ok(count)
    }
}
