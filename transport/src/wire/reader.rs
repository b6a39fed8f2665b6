//! Reads the fields of a frame: variable-length integers, and values made of them.

use crate::error::DecodeError;
use crate::wire::frame::FRAME_TARGET_BYTES;
use bytes::{Buf, Bytes};
use logboat_raft::{Epoch, GroupId, Index, LogId, MAX_COUNT, Term};

/// Reads fields off the front of a frame, and entry data off the front of its second part.
pub(super) struct Reader {
    pub(super) fields: Bytes,
    pub(super) data: Bytes,
    /// The length of the whole frame.
    pub(super) frame_bytes: usize,
}

impl Reader {
    /// Reads one byte.
    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.fields.try_get_u8().map_err(|_| DecodeError::Truncated)
    }

    /// Reads a number.
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let (number, bytes) = logboat_varint::decode(&self.fields)?;
        self.fields.advance(bytes);
        Ok(number)
    }

    /// Reads a group.
    pub(super) fn group(&mut self) -> Result<GroupId, DecodeError> {
        self.varint().map(GroupId)
    }

    /// Reads the identity of an entry.
    pub(super) fn log_id(&mut self) -> Result<LogId, DecodeError> {
        Ok(LogId::new(self.term()?, self.index()?))
    }

    /// Reads bytes that stand among the fields, with their length before them.
    pub(super) fn body(&mut self) -> Result<Bytes, DecodeError> {
        let bytes = self.varint()?;
        let body = take(&mut self.fields, bytes)?;
        Ok(self.unpinned(body))
    }

    /// Reads the data of an entry, from the second part.
    pub(super) fn entry_data(&mut self, bytes: u64) -> Result<Bytes, DecodeError> {
        let data = take(&mut self.data, bytes)?;
        Ok(self.unpinned(data))
    }

    /// Copies a small slice of a large frame, so that it does not keep the whole frame in memory. A
    /// node puts a large parcel alone in its frame, so what nodes send is never copied.
    fn unpinned(&self, slice: Bytes) -> Bytes {
        let is_small = slice.len() < self.frame_bytes / 2;
        match is_small && self.frame_bytes > 2 * FRAME_TARGET_BYTES {
            true => Bytes::copy_from_slice(&slice),
            false => slice,
        }
    }

    /// Reads a number that only ever grows from zero by ones: a term, an index, a round.
    ///
    /// # Errors
    /// [`DecodeError::Implausible`] when no peer can have counted so far.
    pub(super) fn count(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        match self.varint()? {
            value if value <= MAX_COUNT => Ok(value),
            value => Err(DecodeError::Implausible { field, value }),
        }
    }

    /// Reads an epoch.
    pub(super) fn epoch(&mut self) -> Result<Epoch, DecodeError> {
        self.count("epoch").map(Epoch)
    }

    /// Reads an epoch, if there is one.
    pub(super) fn maybe_epoch(&mut self) -> Result<Option<Epoch>, DecodeError> {
        Ok(if self.bool()? { Some(self.epoch()?) } else { None })
    }

    /// Reads an index, if there is one.
    pub(super) fn maybe_index(&mut self) -> Result<Option<Index>, DecodeError> {
        Ok(if self.bool()? { Some(self.index()?) } else { None })
    }

    /// Reads a term, if there is one.
    pub(super) fn maybe_term(&mut self) -> Result<Option<Term>, DecodeError> {
        Ok(if self.bool()? { Some(self.term()?) } else { None })
    }

    /// Reads a yes or no.
    pub(super) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            byte => Err(DecodeError::Value { field: "yes or no", value: u64::from(byte) }),
        }
    }

    /// Reads a term.
    pub(super) fn term(&mut self) -> Result<Term, DecodeError> {
        self.count("term").map(Term)
    }

    /// Reads the index of an entry.
    pub(super) fn index(&mut self) -> Result<Index, DecodeError> {
        self.count("index").map(Index)
    }
}

/// Splits `bytes` off the front of a part, which may hold fewer.
fn take(part: &mut Bytes, bytes: u64) -> Result<Bytes, DecodeError> {
    match usize::try_from(bytes) {
        Ok(bytes) if bytes <= part.len() => Ok(part.split_to(bytes)),
        _ => Err(DecodeError::Truncated),
    }
}
