//! Reads the fields of a frame: variable-length integers and what is made of them.

use crate::error::DecodeError;
use bytes::{Buf, Bytes};
use logboat_raft::{Epoch, GroupId, Index, LogId, Term};

/// Reads fields off the front of a frame, and entry data off the front of its second part.
pub(super) struct Reader {
    pub(super) fields: Bytes,
    pub(super) data: Bytes,
}

impl Reader {
    /// Reads one byte.
    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.fields.try_get_u8().map_err(|_| DecodeError::Truncated)
    }

    /// Reads a number.
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Value { field: "number of 64 bits", value })
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
        take(&mut self.fields, bytes)
    }

    /// Reads an epoch, if there is one.
    pub(super) fn epoch(&mut self) -> Result<Option<Epoch>, DecodeError> {
        Ok(self.option()?.map(Epoch))
    }

    /// Reads a number, if there is one.
    pub(super) fn option(&mut self) -> Result<Option<u64>, DecodeError> {
        Ok(if self.bool()? { Some(self.varint()?) } else { None })
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
        self.varint().map(Term)
    }

    /// Reads the index of an entry.
    pub(super) fn index(&mut self) -> Result<Index, DecodeError> {
        self.varint().map(Index)
    }
}

/// Splits `bytes` off the front of a part, which may hold fewer.
pub(super) fn take(part: &mut Bytes, bytes: u64) -> Result<Bytes, DecodeError> {
    match usize::try_from(bytes) {
        Ok(bytes) if bytes <= part.len() => Ok(part.split_to(bytes)),
        _ => Err(DecodeError::Truncated),
    }
}
