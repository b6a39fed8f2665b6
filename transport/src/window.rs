//! The window of the snapshots to one peer (flow control, as HTTP/2 and TCP have it): how much of
//! them may be on its way and not yet taken.
//!
//! A peer may write more slowly than the network brings. Whatever it has no memory for it has to
//! drop, and with it the whole snapshot, which would begin again for ever. So it says of each chunk
//! when that takes no memory there any more, and how much it has memory for. That holds for the
//! connection, not for a snapshot: many small ones may follow each other.

use crate::transfer::CHUNK_BYTES;
use crate::wire::{ChunkPlace, SnapshotTaken};
use logboat_raft::{GroupId, LogId};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a chunk takes in memory besides its bytes, for both sides.
pub(crate) const CHUNK_OVERHEAD_BYTES: usize = 1 << 10;

/// The window until the peer has named one, and the smallest: one chunk of the usual length.
pub(crate) const LEAST_WINDOW_BYTES: usize = CHUNK_BYTES + CHUNK_OVERHEAD_BYTES;

/// The largest window. At 50 ms to the peer and back, a snapshot travels at 80 MB/s.
pub(crate) const MOST_WINDOW_BYTES: usize = 4 << 20;

/// For how long the peer may take nothing. What it said may be lost, and it would not be asked
/// again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How much of snapshots a node that has `memory_bytes` for all that `peers` send lets each of them
/// have on its way.
#[must_use]
pub fn snapshot_window_bytes(memory_bytes: usize, peers: usize) -> usize {
    (memory_bytes / peers.max(1)).clamp(LEAST_WINDOW_BYTES, MOST_WINDOW_BYTES)
}

/// What is on its way to a peer.
#[derive(Debug)]
pub(crate) struct Window {
    window_bytes: usize,
    /// The chunks that have left and were not taken, in their order.
    chunks: VecDeque<Departed>,
    /// The sum of what they take.
    bytes: usize,
    /// When the last one was taken, or the first one left.
    progress: Instant,
    /// For how long the peer may take nothing.
    patience: Duration,
}

/// A chunk on its way.
#[derive(Debug)]
struct Departed {
    group: GroupId,
    last: LogId,
    end: u64,
    bytes: usize,
}

impl Window {
    /// Of a new connection.
    pub(crate) fn new(patience: Duration) -> Self {
        let (chunks, progress) = (VecDeque::new(), Instant::now());
        Self { window_bytes: LEAST_WINDOW_BYTES, chunks, bytes: 0, progress, patience }
    }

    /// Whether a chunk of so many bytes may leave. Alone, any may.
    pub(crate) fn has_room(&self, chunk_bytes: usize) -> bool {
        self.chunks.is_empty() || self.bytes + taking(chunk_bytes) <= self.window_bytes
    }

    /// A chunk leaves.
    pub(crate) fn left(&mut self, chunk: &ChunkPlace) {
        if self.chunks.is_empty() {
            self.progress = Instant::now();
        }
        let (group, last, bytes) = (chunk.group, chunk.last, taking(chunk.chunk_bytes));
        let end = chunk.offset + chunk.chunk_bytes as u64;
        self.bytes += bytes;
        self.chunks.push_back(Departed { group, last, end, bytes });
    }

    /// The peer has taken a chunk, and all before it. Word of an earlier connection may be late and
    /// is mostly of no chunk that is on its way. If it is, a little more leaves than should.
    pub(crate) fn taken(&mut self, taken: &SnapshotTaken) {
        let SnapshotTaken { group, last, end, window_bytes } = *taken;
        let is_it = |it: &Departed| (it.group, it.last, it.end) == (group, last, end);
        let Some(at) = self.chunks.iter().position(is_it) else { return };
        self.bytes -= self.chunks.drain(..=at).map(|it| it.bytes).sum::<usize>();
        let window_bytes = usize::try_from(window_bytes).unwrap_or(usize::MAX);
        self.window_bytes = window_bytes.clamp(LEAST_WINDOW_BYTES, MOST_WINDOW_BYTES);
        self.progress = Instant::now();
    }

    /// Until when to wait for room.
    pub(crate) fn patience_ends(&self) -> Instant {
        self.progress + self.patience
    }
}

/// What a chunk takes of the window.
const fn taking(chunk_bytes: usize) -> usize {
    chunk_bytes + CHUNK_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SnapshotSource;
    use crate::error::SendError;
    use crate::metrics::TransportMetrics;
    use crate::net_thread::Stop;
    use crate::outbox::Outbox;
    use crate::pump::{Link, pump};
    use crate::transfer::Transfer;
    use crate::wire::Frame;
    use logboat_raft::{Index, NodeId, Term};
    use std::future::pending;
    use std::io;
    use std::sync::mpsc::channel;
    use tokio::sync::watch;

    const GROUP: GroupId = GroupId(7);
    const LAST: LogId = LogId::new(Term(2), Index(9));

    fn chunk(number: u64) -> ChunkPlace {
        let (offset, total_bytes) = (number * CHUNK_BYTES as u64, 100 * CHUNK_BYTES as u64);
        ChunkPlace { group: GROUP, last: LAST, offset, total_bytes, chunk_bytes: CHUNK_BYTES }
    }

    fn taken(number: u64, window_bytes: u64) -> SnapshotTaken {
        let end = (number + 1) * CHUNK_BYTES as u64;
        SnapshotTaken { group: GROUP, last: LAST, end, window_bytes }
    }

    /// How many chunks leave from this one on.
    fn fill(window: &mut Window, from: u64) -> u64 {
        (from..)
            .take_while(|number| {
                let has_room = window.has_room(CHUNK_BYTES);
                has_room.then(|| window.left(&chunk(*number))).is_some()
            })
            .count() as u64
    }

    #[test]
    fn no_more_leaves_than_the_peer_has_memory_for() {
        let mut window = Window::new(PATIENCE);
        assert_eq!(fill(&mut window, 0), 1, "the peer has not named its memory yet");
        window.taken(&taken(0, 1 << 20));
        assert_eq!(fill(&mut window, 1), 3);
        window.taken(&taken(2, 1 << 20));
        assert_eq!(fill(&mut window, 4), 2, "the one before was taken, too");
        // Word that is late, or made up, changes nothing.
        window.taken(&taken(0, u64::MAX));
        window.taken(&taken(77, u64::MAX));
        assert_eq!(fill(&mut window, 6), 0);
        window.taken(&taken(5, u64::MAX));
        assert_eq!(fill(&mut window, 6), (MOST_WINDOW_BYTES / LEAST_WINDOW_BYTES) as u64);
        window.taken(&taken(20, 0));
        assert_eq!((window.chunks.len(), window.bytes), (0, 0));
        assert_eq!(fill(&mut window, 21), 1);
    }

    #[test]
    fn small_snapshots_fill_the_window_too_and_a_large_chunk_goes_alone() {
        let small = |group| ChunkPlace {
            group: GroupId(group),
            last: LAST,
            offset: 0,
            total_bytes: 0,
            chunk_bytes: 0,
        };
        let mut window = Window::new(PATIENCE);
        assert!(window.has_room(usize::MAX / 2));
        let count = (0..).take_while(|group| {
            let has_room = window.has_room(0);
            has_room.then(|| window.left(&small(*group))).is_some()
        });
        assert_eq!(count.count(), LEAST_WINDOW_BYTES / CHUNK_OVERHEAD_BYTES);
        let taken = SnapshotTaken { group: GroupId(99), last: LAST, end: 0, window_bytes: 0 };
        window.taken(&taken);
        assert_eq!(window.chunks.len(), LEAST_WINDOW_BYTES / CHUNK_OVERHEAD_BYTES - 100);
        assert!(!window.has_room(CHUNK_BYTES));
    }

    #[test]
    fn all_that_peers_may_have_on_its_way_fits_the_memory() {
        for (memory_bytes, peers) in [(64 << 20, 2), (64 << 20, 16), (64 << 20, 100), (1 << 20, 3)]
        {
            let all = snapshot_window_bytes(memory_bytes, peers) * peers;
            assert!(all <= memory_bytes, "{peers} peers fill {memory_bytes} with {all}");
        }
        assert_eq!(snapshot_window_bytes(64 << 20, 0), MOST_WINDOW_BYTES);
        assert_eq!(snapshot_window_bytes(0, 100), LEAST_WINDOW_BYTES);
    }

    /// A peer that reads everything and says nothing.
    struct Silent;

    impl Link for Silent {
        async fn write(&mut self, _: &[Frame]) -> io::Result<()> {
            Ok(())
        }

        async fn closed(&mut self) -> io::Error {
            pending().await
        }
    }

    #[tokio::test]
    async fn a_stream_that_nobody_takes_ends_and_the_next_one_has_its_turn() {
        let metrics = TransportMetrics::default().of_peer(NodeId(2));
        let outbox =
            Outbox::new(1 << 20, 1 << 20, metrics).with_patience(Duration::from_millis(10));
        assert!(outbox.open());
        let (stop, stopped) = watch::channel(false);
        let (done, outcome) = channel();
        for number in 0..2 {
            let done = done.clone();
            outbox.push_transfer(Transfer::new(SnapshotSource {
                group: GroupId(number),
                last: LogId::default(),
                total_bytes: 1 << 20,
                reader: Box::new(io::repeat(7)),
                done: Box::new(move |result| done.send((number, result)).unwrap()),
            }));
        }
        drop(done);
        let mut link = Silent;
        let told = async {
            let mut ended = Vec::new();
            while ended.len() < 2 {
                ended.extend(outcome.try_recv());
                tokio::task::yield_now().await;
            }
            stop.send_replace(true);
            ended
        };
        let (carried, ended) = tokio::join!(pump(&outbox, &mut link, Stop(stopped)), told);
        carried.unwrap();
        for ((number, result), expected) in ended.into_iter().zip(0..) {
            assert_eq!(number, expected);
            assert!(matches!(result, Err(SendError::NotTaken)), "{result:?}");
        }
    }
}
