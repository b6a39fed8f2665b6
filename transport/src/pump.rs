//! Moves what waits for a peer onto its link: messages first, snapshots in between.

use super::outbox::Outbox;
use crate::error::SendError;
use crate::net_thread::Stop;
use crate::transfer::{Chunk, Transfer};
use crate::wire::Frame;
use std::future::pending;
use std::io;
use std::time::Instant;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::sleep_until;

/// What carries frames to one peer.
pub(crate) trait Link {
    /// Hands frames to the network, in order.
    ///
    /// # Errors
    /// When the link is lost or takes nothing any more.
    async fn write(&mut self, frames: &[Frame]) -> io::Result<()>;

    /// Waits until the other side ends the link. Dropping the future loses nothing.
    async fn closed(&mut self) -> io::Error;
}

/// Writes until the link is lost or the node stops. In the latter case all that was queued before
/// is written, too. Between two lots of messages goes one chunk of a snapshot, if one is ready. So
/// neither can starve the other.
///
/// # Errors
/// Those of the link, and that the peer does not take its answers.
pub(crate) async fn pump(outbox: &Outbox, link: &mut impl Link, stop: Stop) -> io::Result<()> {
    tokio::select! {
        ended = carry(outbox, link, stop) => ended,
        () = outbox.overflowed() => Err(io::Error::other("the peer takes no answers")),
    }
}

async fn carry(outbox: &Outbox, link: &mut impl Link, mut stop: Stop) -> io::Result<()> {
    let mut stream = Stream::Idle;
    loop {
        let wrote_turn = write_turn(outbox, link).await?;
        let wrote_chunk = match stream.next(outbox).await {
            Some(chunk) => {
                stream = write_chunk(chunk, outbox, link).await?;
                true
            }
            None => false,
        };
        if wrote_turn || wrote_chunk {
            continue;
        }
        tokio::select! {
            () = outbox.woken() => {}
            () = stream.ready(outbox) => {}
            error = link.closed() => return Err(error),
            () = stop.wait() => return write_turn(outbox, link).await.map(drop),
        }
    }
}

/// Writes everything queued. Returns whether there was anything.
async fn write_turn(outbox: &Outbox, link: &mut impl Link) -> io::Result<bool> {
    let turn = outbox.take();
    if turn.frames.is_empty() {
        return Ok(false);
    }
    link.write(&turn.frames).await?;
    outbox.written(&turn);
    Ok(true)
}

/// Writes a chunk while the next one is read. Returns how the stream goes on.
async fn write_chunk(chunk: Chunk, outbox: &Outbox, link: &mut impl Link) -> io::Result<Stream> {
    let Chunk { frame, rest, .. } = chunk;
    let frames = std::slice::from_ref(&frame);
    let (next, complete) =
        if rest.is_complete() { (Stream::Idle, Some(rest)) } else { (Stream::read(rest), None) };
    link.write(frames).await?;
    outbox.count_written(frames);
    if let Some(transfer) = complete {
        transfer.finish(Ok(()));
    }
    Ok(next)
}

/// The snapshot that is under way, if there is one. Chunks are read on a thread that may block.
enum Stream {
    Idle,
    Reading(JoinHandle<Option<Chunk>>),
    /// `None` when the reader failed, which it has reported.
    Read(Option<Box<Chunk>>),
    /// A chunk that the peer has no room for yet, and until when it is waited for.
    Waiting(Box<Chunk>, Instant),
}

impl Stream {
    fn read(transfer: Transfer) -> Self {
        Self::Reading(tokio::task::spawn_blocking(|| transfer.read_chunk()))
    }

    /// The chunk to write now, if one is ready and the peer has room for it. When no snapshot is
    /// under way, begins the next one in line.
    async fn next(&mut self, outbox: &Outbox) -> Option<Chunk> {
        let chunk = match std::mem::replace(self, Self::Idle) {
            Self::Idle => None,
            Self::Reading(task) if !task.is_finished() => {
                *self = Self::Reading(task);
                return None;
            }
            Self::Reading(task) => chunk_of(task.await),
            Self::Read(chunk) => chunk,
            Self::Waiting(chunk, _) => Some(chunk),
        };
        match chunk {
            Some(chunk) => match outbox.let_leave(&chunk.place) {
                Ok(()) => return Some(*chunk),
                Err(until) => *self = Self::Waiting(chunk, until),
            },
            None => {
                if let Some(transfer) = outbox.take_transfer() {
                    *self = Self::read(transfer);
                }
            }
        }
        None
    }

    /// Waits until [`Self::next`] may go on by itself: the chunk that is being read is there, or
    /// was waited for in vain. The outbox wakes the writer when the peer has room.
    async fn ready(&mut self, outbox: &Outbox) {
        match self {
            Self::Idle => pending().await,
            Self::Reading(task) => {
                let chunk = chunk_of(task.await);
                *self = Self::Read(chunk);
            }
            Self::Read(_) => {}
            Self::Waiting(_, until) => {
                sleep_until((*until).into()).await;
                if let Self::Waiting(chunk, _) = std::mem::replace(self, Self::Idle) {
                    outbox.not_taken();
                    chunk.rest.finish(Err(SendError::NotTaken));
                }
            }
        }
    }
}

/// The chunk that was read. A reader that panicked dropped its transfer, which reported the end.
fn chunk_of(read: Result<Option<Chunk>, JoinError>) -> Option<Box<Chunk>> {
    read.ok().flatten().map(Box::new)
}
