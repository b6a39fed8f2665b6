//! The outbox: the bounded queue of what waits for one peer (flow control to the peer). Any thread
//! fills it; the network thread empties it.

use super::{Mutex, MutexGuard};
use crate::api::PeerStatus;
use crate::error::SendError;
use crate::metrics::PeerMetrics;
use crate::transfer::Transfer;
use crate::window::{PATIENCE, Window};
use crate::wire::{ChunkPlace, Frame, Outgoing, SnapshotTaken};
use logboat_raft::NodeId;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Which part of the bound small answers may take beyond it.
const REPLIES_PART: usize = 4;

/// The queue of one peer, bounded by bytes.
pub(crate) struct Outbox {
    max_frame_bytes: u32,
    max_queued_bytes: usize,
    /// For how long the peer may take nothing of snapshots.
    patience: Duration,
    metrics: PeerMetrics,
    state: Mutex<State>,
    /// Wakes the writer.
    wake: Notify,
    /// Says that the peer takes its answers too slowly.
    overflow: Notify,
}

struct State {
    phase: Phase,
    /// Frames that no writer has taken yet.
    batch: Outgoing,
    /// The bytes of `batch`, and of what the writer has taken but not yet written.
    queued_bytes: usize,
    transfers: VecDeque<Transfer>,
    /// What of snapshots is on its way.
    window: Window,
    /// The writer found nothing and must be woken. Senders wake it only then.
    writer_waits: bool,
    /// Answers wait for the peer beyond what may wait.
    overflows: bool,
    last_error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    Up,
    /// The transport was shut down: nothing comes in any more, what is queued may still leave.
    Closed,
}

/// What a writer takes at once.
pub(crate) struct Turn {
    pub(crate) frames: Vec<Frame>,
    /// The bytes that these count for in the queue.
    queued_bytes: usize,
}

impl Outbox {
    pub(crate) fn new(max_frame_bytes: u32, max_queued_bytes: usize, metrics: PeerMetrics) -> Self {
        Self {
            max_frame_bytes,
            max_queued_bytes,
            patience: PATIENCE,
            metrics,
            state: Mutex::new(State {
                phase: Phase::Down,
                batch: Outgoing::new(),
                queued_bytes: 0,
                transfers: VecDeque::new(),
                window: Window::new(PATIENCE),
                writer_waits: false,
                overflows: false,
                last_error: None,
            }),
            wake: Notify::new(),
            overflow: Notify::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Queues a batch; see [`Transport::send`](crate::Transport::send).
    pub(crate) fn push(&self, mut outgoing: Outgoing) -> Result<(), SendError> {
        let oversize = outgoing.remove_oversize(self.max_frame_bytes);
        let mut state = self.state.lock();
        state.admit()?;
        let room = self.max_queued_bytes.saturating_sub(state.queued_bytes);
        // A frame alone may exceed the bound, since it would never leave otherwise.
        let is_empty = state.queued_bytes == 0;
        let dropped = outgoing.shed(room, is_empty);
        let bytes = outgoing.bytes();
        state.batch.append(&mut outgoing);
        self.set_queued(&mut state, |queued| queued + bytes);
        let wake = bytes > 0 && std::mem::take(&mut state.writer_waits);
        let most = self.max_queued_bytes + self.max_queued_bytes / REPLIES_PART;
        let overflows = state.queued_bytes > most && !is_empty;
        let ends = overflows && !std::mem::replace(&mut state.overflows, overflows);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        if ends {
            self.overflow.notify_one();
        }
        if dropped {
            self.metrics.dropped_full.inc();
            return Err(SendError::Full);
        }
        oversize.map_or(Ok(()), |bytes| Err(SendError::TooLarge { bytes }))
    }

    /// Puts a snapshot at the end of the line.
    pub(crate) fn push_transfer(&self, transfer: Transfer) {
        let mut state = self.state.lock();
        if let Err(error) = state.admit() {
            drop(state);
            transfer.finish(Err(error));
            return;
        }
        state.transfers.push_back(transfer);
        drop(state);
        self.wake.notify_one();
    }

    /// A connection is up, and batches are accepted. Returns false after a shutdown, when nothing
    /// is left to write.
    pub(crate) fn open(&self) -> bool {
        let mut state = self.state.lock();
        if state.phase == Phase::Closed {
            return false;
        }
        state.phase = Phase::Up;
        state.overflows = false;
        state.window = Window::new(self.patience);
        state.last_error = None;
        self.metrics.connections.inc();
        true
    }

    /// The connection is lost, and with it everything queued.
    pub(crate) fn lose(&self, error: String) {
        let mut state = self.state.lock();
        if state.phase == Phase::Up {
            state.phase = Phase::Down;
        }
        state.last_error = Some(error);
        self.clear(state);
    }

    /// Lets nothing in any more.
    pub(crate) fn close(&self) {
        self.state.lock().phase = Phase::Closed;
    }

    /// Drops what is left after a [`close`](Self::close), once no writer is left either.
    pub(crate) fn discard(&self) {
        self.clear(self.state.lock());
    }

    /// Remembers why an attempt to connect failed.
    pub(crate) fn note_error(&self, error: String) {
        self.state.lock().last_error = Some(error);
    }

    /// Takes everything queued. When that is nothing, the next push will wake the writer.
    pub(crate) fn take(&self) -> Turn {
        let mut state = self.state.lock();
        state.writer_waits = state.batch.is_empty();
        let queued_bytes = state.queued_bytes;
        let mut batch = std::mem::take(&mut state.batch);
        drop(state);
        Turn { frames: batch.take_frames(), queued_bytes }
    }

    /// What was taken last has been written.
    pub(crate) fn written(&self, turn: &Turn) {
        self.count_written(&turn.frames);
        let mut state = self.state.lock();
        self.set_queued(&mut state, |queued| queued - turn.queued_bytes);
    }

    /// Counts frames that left.
    pub(crate) fn count_written(&self, frames: &[Frame]) {
        let bytes: usize = frames.iter().map(Frame::bytes).sum();
        let parcels: usize = frames.iter().map(|frame| frame.parcels).sum();
        self.metrics.bytes_sent.inc_by(bytes as u64);
        self.metrics.messages_sent.inc_by(parcels as u64);
        self.metrics.frames_sent.inc_by(frames.len() as u64);
    }

    /// Takes the snapshot that is next in line.
    pub(crate) fn take_transfer(&self) -> Option<Transfer> {
        self.state.lock().transfers.pop_front()
    }

    /// Has a chunk of a snapshot leave, if the peer has room for it.
    ///
    /// # Errors
    /// Until when to wait for room.
    pub(crate) fn let_leave(&self, chunk: &ChunkPlace) -> Result<(), Instant> {
        let mut state = self.state.lock();
        if !state.window.has_room(chunk.chunk_bytes) {
            return Err(state.window.patience_ends());
        }
        state.window.left(chunk);
        Ok(())
    }

    /// The peer has taken a chunk.
    pub(crate) fn snapshot_taken(&self, taken: &SnapshotTaken) {
        self.state.lock().window.taken(taken);
        self.wake.notify_one();
    }

    /// The peer takes nothing any more. What comes next finds out anew.
    pub(crate) fn not_taken(&self) {
        self.state.lock().window = Window::new(self.patience);
    }

    /// Waits until a sender has something for a writer that found nothing.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Waits until so many answers wait that the connection has to end: none of them is dropped
    /// while it stands. Those who wait for them hear of its end.
    pub(crate) async fn overflowed(&self) {
        loop {
            self.overflow.notified().await;
            // It may be meant for an earlier connection.
            if self.state.lock().overflows {
                return;
            }
        }
    }

    pub(crate) const fn metrics(&self) -> &PeerMetrics {
        &self.metrics
    }

    /// The state of the connection to the peer, which has this name and address.
    pub(crate) fn status(&self, node: NodeId, address: &str) -> PeerStatus {
        let state = self.state.lock();
        PeerStatus {
            node,
            address: address.to_owned(),
            connected: state.phase == Phase::Up,
            queued_bytes: state.queued_bytes,
            last_error: state.last_error.clone(),
        }
    }

    /// Empties the queue. Snapshots report their end when they are dropped, which must not happen
    /// under the lock.
    fn clear(&self, mut state: MutexGuard<'_, State>) {
        let batch = std::mem::take(&mut state.batch);
        let transfers = std::mem::take(&mut state.transfers);
        self.set_queued(&mut state, |_| 0);
        drop(state);
        drop((batch, transfers));
    }

    fn set_queued(&self, state: &mut State, change: impl FnOnce(usize) -> usize) {
        state.queued_bytes = change(state.queued_bytes);
        self.metrics.queued_bytes.set(state.queued_bytes as i64);
    }
}

impl State {
    fn admit(&self) -> Result<(), SendError> {
        match self.phase {
            // The connection is about to end. What comes meanwhile would only take memory.
            Phase::Up if self.overflows => Err(SendError::Unreachable),
            Phase::Up => Ok(()),
            Phase::Down => Err(SendError::Unreachable),
            Phase::Closed => Err(SendError::Closed),
        }
    }
}
