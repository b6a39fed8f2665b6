//! The transfer of a snapshot: it is read a chunk at a time, off the network thread, and its
//! outcome is reported.

use crate::api::{SnapshotDone, SnapshotSource};
use crate::error::SendError;
use crate::wire::{ChunkPlace, Frame};
use logboat_raft::{GroupId, LogId};
use std::io::Read;

/// How much of a snapshot travels in one frame. A message may have to wait for that much.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;

/// A source and how far it has been read. `done` is called however the transfer ends. A transfer
/// that is dropped before its end, along with its connection, reports that the peer is unreachable.
pub(crate) struct Transfer {
    group: GroupId,
    last: LogId,
    offset: u64,
    total_bytes: u64,
    reader: Box<dyn Read + Send>,
    /// `None` once the outcome is reported.
    done: Option<SnapshotDone>,
}

/// A piece read and encoded, and what remains.
pub(crate) struct Chunk {
    pub(crate) frame: Frame,
    pub(crate) place: ChunkPlace,
    pub(crate) rest: Transfer,
}

impl Transfer {
    pub(crate) fn new(source: SnapshotSource) -> Self {
        Self {
            group: source.group,
            last: source.last,
            offset: 0,
            total_bytes: source.total_bytes,
            reader: source.reader,
            done: Some(source.done),
        }
    }

    /// Whether the last piece has been read.
    pub(crate) fn is_complete(&self) -> bool {
        self.offset == self.total_bytes
    }

    /// Reports the outcome.
    pub(crate) fn finish(mut self, result: Result<(), SendError>) {
        self.report(result);
    }

    /// Reads and encodes the next piece; may block. A failure is reported to the source.
    pub(crate) fn read_chunk(mut self) -> Option<Chunk> {
        let left = self.total_bytes - self.offset;
        let chunk_bytes = left.min(CHUNK_BYTES as u64) as usize;
        let place = ChunkPlace {
            group: self.group,
            last: self.last,
            offset: self.offset,
            total_bytes: self.total_bytes,
            chunk_bytes,
        };
        match Frame::of_snapshot(&place, |buffer| self.reader.read_exact(buffer)) {
            Ok(frame) => {
                self.offset += chunk_bytes as u64;
                Some(Chunk { frame, place, rest: self })
            }
            Err(error) => {
                self.finish(Err(SendError::Read(error)));
                None
            }
        }
    }

    fn report(&mut self, result: Result<(), SendError>) {
        if let Some(done) = self.done.take() {
            done(result);
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.report(Err(SendError::Unreachable));
    }
}
