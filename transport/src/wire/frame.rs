//! An outgoing frame: while it grows, and ready to be written.

use crate::error::DecodeError;
use crate::wire::fields::{most_field_bytes, put_log_id, put_varint};
use crate::wire::kind;
use bytes::Bytes;
use logboat_raft::{GroupId, LogId};

/// Bytes of a frame before its first part.
pub(crate) const HEADER_BYTES: usize = 12;

/// Parcels are gathered in one frame until it reaches this many bytes. Larger frames would only
/// make the receiver wait for the end of one before it can use its beginning.
pub(crate) const FRAME_TARGET_BYTES: usize = 1 << 20;

/// What the first part of a frame allocates at first: enough for a turn of a few groups.
const FIRST_BYTES: usize = 256;

/// A frame that still grows.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Room for the header, and the first part.
    pub(super) fields: Vec<u8>,
    /// The second part.
    pub(super) data: Vec<u8>,
    pub(super) parcels: usize,
    /// Whether it holds replies, or the like. Somebody waits for each, so it is not dropped.
    pub(super) replies: bool,
    /// What goes in its place when the queue has no room for it.
    pub(super) instead: Option<Box<Self>>,
}

impl Draft {
    /// Leaves room for the header, if this has not happened.
    pub(super) fn begin(&mut self) {
        if self.fields.is_empty() {
            self.fields.reserve(FIRST_BYTES);
            self.fields.resize(HEADER_BYTES, 0);
        }
    }

    /// Begins a parcel for which somebody waits.
    pub(super) fn begin_reply(&mut self) {
        self.begin();
        self.parcels += 1;
        self.replies = true;
    }

    pub(super) fn bytes(&self) -> usize {
        self.fields.len() + self.data.len()
    }

    /// Fills the header in.
    pub(super) fn close(mut self) -> Frame {
        let length = |bytes: usize| {
            u32::try_from(bytes).expect("frames above 4 GiB are taken out of a batch before")
        };
        let fields_bytes = length(self.fields.len() - HEADER_BYTES);
        let data_bytes = length(self.data.len());
        self.fields[..4].copy_from_slice(&fields_bytes.to_le_bytes());
        self.fields[4..8].copy_from_slice(&data_bytes.to_le_bytes());
        let checksum = checksum(&self.fields);
        self.fields[8..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        Frame { head: self.fields, data: self.data, parcels: self.parcels }
    }
}

/// Which chunk of which snapshot a frame carries.
pub(crate) struct ChunkPlace {
    pub(crate) group: GroupId,
    /// The last entry that the snapshot covers.
    pub(crate) last: LogId,
    /// Where the chunk lies in the snapshot.
    pub(crate) offset: u64,
    /// The length of the whole snapshot.
    pub(crate) total_bytes: u64,
    /// The length of the chunk.
    pub(crate) chunk_bytes: usize,
}

/// A frame ready to be written: its two pieces follow each other on the wire.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) head: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) parcels: usize,
}

impl Frame {
    /// Makes a frame of one chunk of a snapshot, which `fill` reads into the buffer that it is
    /// given.
    ///
    /// # Errors
    /// Those of `fill`.
    pub(crate) fn of_snapshot<E>(
        place: &ChunkPlace,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut draft = Draft::default();
        draft.begin();
        let fields = &mut draft.fields;
        fields.reserve_exact(place.chunk_bytes + most_field_bytes(7));
        fields.push(kind::SNAPSHOT_CHUNK);
        put_varint(fields, place.group.0);
        put_log_id(fields, place.last);
        put_varint(fields, place.offset);
        put_varint(fields, place.total_bytes);
        put_varint(fields, place.chunk_bytes as u64);
        let begin = fields.len();
        fields.resize(begin + place.chunk_bytes, 0);
        fill(&mut fields[begin..])?;
        draft.parcels = 1;
        Ok(draft.close())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.head.len() + self.data.len()
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        [self.head.as_slice(), &self.data].concat().into()
    }
}

/// The length of the frame that begins with `header`, the header included.
///
/// # Errors
/// [`DecodeError::TooLarge`], before anything of that size was allocated.
pub(crate) fn frame_bytes(
    header: &[u8; HEADER_BYTES],
    max_frame_bytes: u32,
) -> Result<usize, DecodeError> {
    let bytes = announced(header);
    if bytes > u64::from(max_frame_bytes) {
        return Err(DecodeError::TooLarge { bytes, max_bytes: max_frame_bytes });
    }
    Ok(bytes as usize)
}

/// The frame's length by its header, the header included.
pub(super) fn announced(header: &[u8; HEADER_BYTES]) -> u64 {
    let [fields, data, _] = words(header);
    HEADER_BYTES as u64 + u64::from(fields) + u64::from(data)
}

/// The three numbers of a header.
pub(super) fn words(header: &[u8; HEADER_BYTES]) -> [u32; 3] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *header;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_le_bytes)
}

/// The checksum of a header and its first part: all of both but the checksum's own place.
pub(super) fn checksum(head: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[..8]);
    hasher.update(&head[HEADER_BYTES..]);
    hasher.finalize()
}
