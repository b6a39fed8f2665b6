//! The headers of segments and batches.

use super::bits::{salted_crc, u32_at, u64_at};
use crate::wal::disk::BLOCK_BYTES;
use logboat_raft::LogPosition;
use std::fmt;

/// Bytes of a batch header.
pub(crate) const BATCH_HEADER_BYTES: usize = 32;
/// Batches start at multiples of this, so that they can be found again behind a damaged one.
pub(crate) const BATCH_ALIGN: usize = 8;

const SEGMENT_MAGIC: [u8; 8] = *b"LOGBOAT\x01";
pub(super) const BATCH_MAGIC: [u8; 4] = *b"LBat";
const VERSION: u32 = 7;
const CLOSED: u32 = 1;

/// Why the header of a segment can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// It is not what was written.
    Damaged(String),
    /// Its checksum fits, so this is the version that was written.
    OtherVersion(u32),
}

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(what) => f.write_str(what),
            Self::OtherVersion(version) => {
                write!(f, "format version {version} instead of {VERSION}")
            }
        }
    }
}

/// What a segment's header block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) segment: u32,
    pub(crate) salt: u64,
    pub(crate) bytes: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_BYTES as usize);
        block.extend(SEGMENT_MAGIC);
        block.extend(VERSION.to_le_bytes());
        block.extend(self.segment.to_le_bytes());
        block.extend(self.salt.to_le_bytes());
        block.extend(self.bytes.to_le_bytes());
        block.resize(BLOCK_BYTES as usize - 4, 0);
        block.extend(crc32fast::hash(&block).to_le_bytes());
        block
    }

    /// Reads the header block of the file that should be `segment`; the error says what is wrong.
    pub(crate) fn decode(file: &[u8], segment: u32) -> Result<Self, BadHeader> {
        let damaged = |what: String| Err(BadHeader::Damaged(what));
        let Some((block, _)) = file.split_at_checked(BLOCK_BYTES as usize) else {
            return damaged("the file is shorter than a segment header".to_owned());
        };
        let (content, crc) = block.split_at(block.len() - 4);
        if content[..8] != SEGMENT_MAGIC {
            return damaged("this is no segment of a Logboat log".to_owned());
        }
        if crc32fast::hash(content) != u32_at(crc, 0) {
            return damaged("the segment header fails its checksum".to_owned());
        }
        let version = u32_at(content, 8);
        if version != VERSION {
            return Err(BadHeader::OtherVersion(version));
        }
        let header = Self {
            segment: u32_at(content, 12),
            salt: u64_at(content, 16),
            bytes: u64_at(content, 24),
        };
        if header.segment != segment {
            return damaged(format!("the file holds segment {}", header.segment));
        }
        if header.bytes != file.len() as u64 {
            let (found, written) = (file.len(), header.bytes);
            return damaged(format!("the file has {found} bytes instead of {written}"));
        }
        Ok(header)
    }
}

/// What a batch header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// Bytes after the header, a multiple of [`BATCH_ALIGN`].
    pub(crate) body_bytes: u32,
    /// Everything before was durable when the batch was written.
    pub(crate) durable: LogPosition,
    /// Segments before this one were not needed when the batch was written.
    pub(crate) oldest: u32,
    /// The number of records.
    pub(crate) records: u32,
    /// The log was closed by this batch: whatever was submitted stands before it.
    pub(crate) closed: bool,
}

impl BatchHeader {
    pub(crate) fn encode(&self, salt: u64, offset: u64) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        bytes[..4].copy_from_slice(&BATCH_MAGIC);
        bytes[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.durable.pack().to_le_bytes());
        bytes[16..20].copy_from_slice(&self.oldest.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.records.to_le_bytes());
        bytes[24..28].copy_from_slice(&(u32::from(self.closed) * CLOSED).to_le_bytes());
        let crc = salted_crc(salt, &offset.to_le_bytes(), &bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header at `offset` of a segment file, if a valid one stands there whose body lies
    /// within the file.
    pub(crate) fn decode(file: &[u8], salt: u64, offset: u64) -> Option<Self> {
        let rest = file.get(offset as usize..)?;
        let bytes = rest.get(..BATCH_HEADER_BYTES)?;
        if bytes[..4] != BATCH_MAGIC
            || salted_crc(salt, &offset.to_le_bytes(), &bytes[..28]) != u32_at(bytes, 28)
        {
            return None;
        }
        let header = Self {
            body_bytes: u32_at(bytes, 4),
            durable: LogPosition::unpack(u64_at(bytes, 8)),
            oldest: u32_at(bytes, 16),
            records: u32_at(bytes, 20),
            closed: u32_at(bytes, 24) & CLOSED != 0,
        };
        (header.body_bytes as usize <= rest.len() - BATCH_HEADER_BYTES).then_some(header)
    }

    /// Whether a log can have written this at `place`: it knows of nothing durable, and needs no
    /// segment, that comes later.
    pub(crate) const fn is_possible(&self, place: LogPosition) -> bool {
        self.durable.pack() <= place.pack()
            && self.oldest <= place.segment
            && (self.body_bytes as usize).is_multiple_of(BATCH_ALIGN)
    }

    /// Bytes of the batch, this header included.
    pub(crate) const fn bytes(&self) -> u64 {
        BATCH_HEADER_BYTES as u64 + self.body_bytes as u64
    }
}
