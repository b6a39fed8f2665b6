//! The bytes of segment and batch headers.
//!
//! ```text
//! segment  = header block (4,096 bytes), batches, whatever the file held before
//! block    = magic, version, segment id, salt, capacity, zeros, CRC-32 of all before
//! batch    = header (32 bytes), records, zeros up to a multiple of 8
//! header   = magic, body length, durable mark, oldest segment, records, flags, CRC-32
//! ```
//! All numbers are little-endian. The CRC of a batch header also covers the segment's salt and the
//! batch's offset, which stand nowhere in it: a header that was written in an earlier use of the
//! file, or that an entry's data imitates, does not verify. Records are in [`super::record`].

use std::fmt;

/// What is written begins and ends at multiples of this, in the file and in memory, as files that are
/// written past the page cache ask for. A segment's header block is one, never written again in one
/// use.
pub(super) const BLOCK_BYTES: u64 = 4096;
/// Bytes of a batch header.
pub(super) const BATCH_HEADER_BYTES: usize = 32;
/// Batches start at multiples of this, so that they can be found again behind a damaged one.
pub(super) const BATCH_ALIGN: usize = 8;
/// The largest segment that [`Position`] can address.
pub(super) const MAX_SEGMENT_BYTES: u64 = 1 << 31;

const SEGMENT_MAGIC: [u8; 8] = *b"LOGBOAT\x01";
const BATCH_MAGIC: [u8; 4] = *b"LBat";
const VERSION: u32 = 2;
const CLOSED: u32 = 1;

/// A place in the log. Segments are numbered from 1 on, so that the default comes before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The segment.
    pub segment: u32,
    /// The offset in its file.
    pub offset: u32,
}

impl Position {
    pub(super) const fn new(segment: u32, offset: u64) -> Self {
        Self { segment, offset: offset as u32 }
    }

    /// One number that orders as the position does.
    pub(super) const fn pack(self) -> u64 {
        (self.segment as u64) << 32 | self.offset as u64
    }

    pub(super) const fn unpack(packed: u64) -> Self {
        Self { segment: (packed >> 32) as u32, offset: packed as u32 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// The file name of a segment.
pub(super) fn segment_name(segment: u32) -> String {
    format!("{segment:010}.wal")
}

/// The segment that a file name stands for. The last number is none, so that each has a next one.
pub(super) fn segment_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".wal")?;
    let segment = digits.parse().ok()?;
    (segment_name(segment) == name && (1..u32::MAX).contains(&segment)).then_some(segment)
}

/// What a segment's header block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) segment: u32,
    pub(super) salt: u64,
    pub(super) bytes: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
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
    pub(super) fn decode(file: &[u8], segment: u32) -> Result<Self, String> {
        let Some((block, _)) = file.split_at_checked(BLOCK_BYTES as usize) else {
            return Err("the file is shorter than a segment header".to_owned());
        };
        let (content, crc) = block.split_at(block.len() - 4);
        if content[..8] != SEGMENT_MAGIC {
            return Err("this is no segment of a Logboat log".to_owned());
        }
        if crc32fast::hash(content) != u32_at(crc, 0) {
            return Err("the segment header fails its checksum".to_owned());
        }
        let version = u32_at(content, 8);
        if version != VERSION {
            return Err(format!("format version {version} instead of {VERSION}"));
        }
        let header = Self {
            segment: u32_at(content, 12),
            salt: u64_at(content, 16),
            bytes: u64_at(content, 24),
        };
        if header.segment != segment {
            return Err(format!("the file holds segment {}", header.segment));
        }
        if header.bytes != file.len() as u64 {
            return Err(format!("the file has {} bytes instead of {}", file.len(), header.bytes));
        }
        Ok(header)
    }
}

/// What a batch header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// Bytes after the header, a multiple of [`BATCH_ALIGN`].
    pub(super) body_bytes: u32,
    /// Everything before was durable when the batch was written.
    pub(super) durable: Position,
    /// Segments before this one were not needed when the batch was written.
    pub(super) oldest: u32,
    /// The number of records.
    pub(super) records: u32,
    /// The log was closed by this batch: whatever was submitted stands before it.
    pub(super) closed: bool,
}

impl BatchHeader {
    pub(super) fn encode(&self, salt: u64, offset: u64) -> [u8; BATCH_HEADER_BYTES] {
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
    pub(super) fn decode(file: &[u8], salt: u64, offset: u64) -> Option<Self> {
        let rest = file.get(offset as usize..)?;
        let bytes = rest.get(..BATCH_HEADER_BYTES)?;
        if bytes[..4] != BATCH_MAGIC
            || salted_crc(salt, &offset.to_le_bytes(), &bytes[..28]) != u32_at(bytes, 28)
        {
            return None;
        }
        let header = Self {
            body_bytes: u32_at(bytes, 4),
            durable: Position::unpack(u64_at(bytes, 8)),
            oldest: u32_at(bytes, 16),
            records: u32_at(bytes, 20),
            closed: u32_at(bytes, 24) & CLOSED != 0,
        };
        (header.body_bytes as usize <= rest.len() - BATCH_HEADER_BYTES).then_some(header)
    }

    /// Whether a log can have written this at `place`: it knows of nothing durable, and needs no
    /// segment, that comes later.
    pub(super) const fn is_possible(&self, place: Position) -> bool {
        self.durable.pack() <= place.pack()
            && self.oldest <= place.segment
            && (self.body_bytes as usize).is_multiple_of(BATCH_ALIGN)
    }

    /// Bytes of the batch, this header included.
    pub(super) const fn bytes(&self) -> u64 {
        BATCH_HEADER_BYTES as u64 + self.body_bytes as u64
    }
}

/// CRC-32 of the salt, a prefix and the content, in this order.
pub(super) fn salted_crc(salt: u64, prefix: &[u8], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(prefix);
    hasher.update(content);
    hasher.finalize()
}

/// The number at `offset`, which the caller knows to lie within `bytes`.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}
