//! The frame: what stands on the wire, and how batches become frames and frames parcels.
//!
//! ```text
//! fields: u32 | data: u32 | checksum: u32 | fields … | data …
//! ```
//! The header is little-endian. The first part holds the fields of all parcels, one after another,
//! and the bodies of requests, replies and snapshot chunks. The second holds the data of log
//! entries, in the order in which the fields mention them. The frame's CRC-32 covers the two
//! lengths and the first part; entry data have checksums of their own, made by their leader, which
//! the first part carries. So every byte is covered, none twice, and the data of an entry are
//! copied once on each side: into the frame, and out of the network.

use crate::DecodeError;
use crate::codec::{
    Reader, most_field_bytes, most_message_bytes, put_log_id, put_message, put_varint,
};
use crate::support::put_support;
use bytes::Bytes;
use logboat_raft::{GroupId, LogId, Message, SupportMessage};

/// Bytes of a frame before its first part.
pub(crate) const HEADER_BYTES: usize = 12;

/// Parcels are gathered in one frame until it reaches this many bytes. Larger frames would only
/// make the receiver wait for the end of one before it can use its beginning.
pub(crate) const FRAME_TARGET_BYTES: usize = 1 << 20;

/// What the first part of a frame allocates at first: enough for a turn of a few groups.
const FIRST_BYTES: usize = 256;

/// Up to this size a frame is copied into the one queued before it; a larger one travels by itself.
const MERGE_BYTES: usize = 4 << 10;

/// The first byte of a parcel that is neither a message of a group nor word about liveness, which
/// have their own numbers, below and above these.
mod kind {
    pub(super) const REQUEST: u8 = 32;
    pub(super) const REPLY: u8 = 33;
    pub(super) const SNAPSHOT: u8 = 34;
    pub(super) const SNAPSHOT_REFUSED: u8 = 35;
}

/// Pairs a reply with its request. The engine chooses it; the transport only carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One thing that a peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parcel {
    /// A message from a replica on the peer to the replica here.
    Message {
        /// The group of both.
        group: GroupId,
        /// What is said.
        message: Message,
    },
    /// A request of the peer's engine, for instance a forwarded proposal.
    Request {
        /// What the reply must carry.
        id: RequestId,
        /// The group that it concerns.
        group: GroupId,
        /// Opaque to the transport.
        body: Bytes,
    },
    /// The answer to a request of this node.
    Reply {
        /// The request's.
        id: RequestId,
        /// Opaque to the transport.
        body: Bytes,
    },
    /// A piece of a snapshot. The pieces of one arrive in order, unless the connection is lost,
    /// after which a stream begins again at offset zero.
    Snapshot(SnapshotChunk),
    /// The peer has no use for a snapshot that this node streams to it.
    SnapshotRefused {
        /// The snapshot's group.
        group: GroupId,
        /// The last entry that the snapshot covers.
        last: LogId,
    },
    /// Word about the peer's liveness, or about this node's.
    Support(SupportMessage),
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// The group whose state it is.
    pub group: GroupId,
    /// The last entry that the snapshot covers.
    pub last: LogId,
    /// Where the piece lies in the snapshot.
    pub offset: u64,
    /// The length of the whole snapshot. It is complete with the piece that ends here.
    pub total_bytes: u64,
    /// The piece.
    pub data: Bytes,
}

impl SnapshotChunk {
    /// The piece as the frame that stands on the wire, for whoever carries it by other means than a
    /// transport.
    ///
    /// # Panics
    /// When the piece is larger than 4 GiB.
    #[must_use]
    pub fn to_frame(&self) -> Bytes {
        let place = (self.offset, self.total_bytes);
        let data = &self.data;
        let frame = Frame::of_snapshot(self.group, self.last, place, data.len(), |buffer| {
            buffer.copy_from_slice(data);
            Ok::<_, std::convert::Infallible>(())
        });
        match frame {
            Ok(frame) => frame.to_bytes(),
            Err(never) => match never {},
        }
    }
}

/// What one turn has for one peer, already encoded.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Frames that are large enough, in order. They come before `open`.
    full: Vec<Draft>,
    open: Draft,
}

impl Outgoing {
    /// An empty batch. It allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages() == 0
    }

    /// What it takes on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.drafts().map(Draft::bytes).sum()
    }

    /// How many parcels were pushed.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.drafts().map(|draft| draft.parcels).sum()
    }

    /// Adds a message from the replica of `group` on this node.
    ///
    /// # Panics
    /// When the entries of an append do not follow its `prev` without a gap.
    pub fn push_message(&mut self, group: GroupId, message: &Message) {
        self.push(most_message_bytes(message), |fields, data| {
            put_message(fields, data, group, message);
        });
    }

    /// Adds a request to the peer's engine.
    pub fn push_request(&mut self, id: RequestId, group: GroupId, body: &[u8]) {
        self.push(most_field_bytes(4) + body.len(), |fields, _| {
            fields.push(kind::REQUEST);
            put_varint(fields, id.0);
            put_varint(fields, group.0);
            put_varint(fields, body.len() as u64);
            fields.extend_from_slice(body);
        });
    }

    /// Adds the answer to a request of the peer's engine.
    pub fn push_reply(&mut self, id: RequestId, body: &[u8]) {
        self.push(most_field_bytes(3) + body.len(), |fields, _| {
            fields.push(kind::REPLY);
            put_varint(fields, id.0);
            put_varint(fields, body.len() as u64);
            fields.extend_from_slice(body);
        });
    }

    /// Tells the peer that the snapshot it streams is of no use here.
    pub fn push_snapshot_refused(&mut self, group: GroupId, last: LogId) {
        self.push(most_field_bytes(4), |fields, _| {
            fields.push(kind::SNAPSHOT_REFUSED);
            put_varint(fields, group.0);
            put_log_id(fields, last);
        });
    }

    /// Adds word about liveness.
    pub fn push_support(&mut self, message: &SupportMessage) {
        self.push(most_field_bytes(5), |fields, _| put_support(fields, message));
    }

    /// Moves everything out of `other` to the end of this batch.
    pub fn append(&mut self, other: &mut Self) {
        for draft in other.full.drain(..) {
            self.append_draft(draft);
        }
        self.append_draft(std::mem::take(&mut other.open));
    }

    /// The frames as they stand on the wire, each in one piece, for whoever carries them by other
    /// means than a transport. A parcel above 4 GiB, which no frame can hold, is left out.
    #[must_use]
    pub fn into_frames(mut self) -> Vec<Bytes> {
        self.remove_oversize(u32::MAX);
        self.take_frames().iter().map(Frame::to_bytes).collect()
    }

    /// Takes out the frames above the limit, each of which holds a single parcel, and answers
    /// the size of the largest.
    pub(crate) fn remove_oversize(&mut self, max_frame_bytes: u32) -> Option<usize> {
        let fits = |draft: &Draft| draft.bytes() <= max_frame_bytes as usize;
        let largest = self.drafts().map(Draft::bytes).max()?;
        if largest <= max_frame_bytes as usize {
            return None;
        }
        self.full.retain(fits);
        if !fits(&self.open) {
            self.open = Draft::default();
        }
        Some(largest)
    }

    /// Closes and removes all frames. Those above 4 GiB must have been removed before.
    pub(crate) fn take_frames(&mut self) -> Vec<Frame> {
        let full = std::mem::take(&mut self.full).into_iter();
        let open = std::mem::take(&mut self.open);
        full.chain((open.parcels > 0).then_some(open)).map(Draft::close).collect()
    }

    fn drafts(&self) -> impl Iterator<Item = &Draft> {
        self.full.iter().chain((self.open.parcels > 0).then_some(&self.open))
    }

    /// Encodes one parcel at the end of the open frame. `most_bytes` bounds what it takes: one that
    /// would not fit beside the others begins a new frame, so that a parcel above the limit takes
    /// no other with it.
    fn push(&mut self, most_bytes: usize, encode: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
        if self.open.parcels > 0 && self.open.bytes() + most_bytes > FRAME_TARGET_BYTES {
            self.full.push(std::mem::take(&mut self.open));
        }
        self.open.begin();
        encode(&mut self.open.fields, &mut self.open.data);
        self.open.parcels += 1;
    }

    fn append_draft(&mut self, mut draft: Draft) {
        if draft.parcels == 0 {
            return;
        }
        if self.open.parcels == 0 {
            self.open = draft;
        } else if draft.bytes() <= MERGE_BYTES
            && self.open.bytes() + draft.bytes() <= FRAME_TARGET_BYTES
        {
            self.open.fields.extend_from_slice(&draft.fields[HEADER_BYTES..]);
            self.open.data.append(&mut draft.data);
            self.open.parcels += draft.parcels;
        } else {
            self.full.push(std::mem::replace(&mut self.open, draft));
        }
    }
}

/// A frame that still grows.
#[derive(Debug, Default)]
struct Draft {
    /// Room for the header, and the first part.
    fields: Vec<u8>,
    /// The second part.
    data: Vec<u8>,
    parcels: usize,
}

impl Draft {
    /// Leaves room for the header, if this has not happened.
    fn begin(&mut self) {
        if self.fields.is_empty() {
            self.fields.reserve(FIRST_BYTES);
            self.fields.resize(HEADER_BYTES, 0);
        }
    }

    fn bytes(&self) -> usize {
        self.fields.len() + self.data.len()
    }

    fn close(mut self) -> Frame {
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

/// A frame ready to be written: its two pieces follow each other on the wire.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) head: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) parcels: usize,
}

impl Frame {
    /// A frame with one piece of a snapshot, which `fill` reads into the buffer that it is given.
    ///
    /// # Errors
    /// Those of `fill`.
    pub(crate) fn of_snapshot<E>(
        group: GroupId,
        last: LogId,
        (offset, total_bytes): (u64, u64),
        chunk_bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut draft = Draft::default();
        draft.begin();
        let fields = &mut draft.fields;
        fields.reserve_exact(chunk_bytes + most_field_bytes(7));
        fields.push(kind::SNAPSHOT);
        put_varint(fields, group.0);
        put_log_id(fields, last);
        put_varint(fields, offset);
        put_varint(fields, total_bytes);
        put_varint(fields, chunk_bytes as u64);
        let begin = fields.len();
        fields.resize(begin + chunk_bytes, 0);
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

/// Decodes a frame and appends its parcels. Entry data and bodies are slices of `frame`, not
/// copies; each keeps the memory of the whole frame while it lives. The checksum of every entry
/// is verified.
///
/// # Errors
/// A frame with anything wrong in it is refused whole: `parcels` is as it was.
pub fn decode(mut frame: Bytes, parcels: &mut Vec<Parcel>) -> Result<(), DecodeError> {
    let Some(header) = frame.first_chunk::<HEADER_BYTES>() else {
        return Err(DecodeError::Truncated);
    };
    if announced(header) != frame.len() as u64 {
        return Err(DecodeError::Length { announced: announced(header), found: frame.len() });
    }
    let [fields_bytes, _, expected] = words(header);
    let data = frame.split_off(HEADER_BYTES + fields_bytes as usize);
    let found = checksum(&frame);
    if found != expected {
        return Err(DecodeError::Checksum { expected, found });
    }
    let reader = Reader { fields: frame.split_off(HEADER_BYTES), data };
    let before = parcels.len();
    decode_parcels(reader, parcels).inspect_err(|_| parcels.truncate(before))
}

fn decode_parcels(mut reader: Reader, parcels: &mut Vec<Parcel>) -> Result<(), DecodeError> {
    while !reader.fields.is_empty() {
        let kind = reader.byte()?;
        let parcel = match kind {
            kind::REQUEST => Parcel::Request {
                id: RequestId(reader.varint()?),
                group: reader.group()?,
                body: reader.body()?,
            },
            kind::REPLY => Parcel::Reply { id: RequestId(reader.varint()?), body: reader.body()? },
            kind::SNAPSHOT => Parcel::Snapshot(decode_chunk(&mut reader)?),
            kind::SNAPSHOT_REFUSED => {
                Parcel::SnapshotRefused { group: reader.group()?, last: reader.log_id()? }
            }
            _ => {
                if let Some((group, message)) = reader.message(kind)? {
                    Parcel::Message { group, message }
                } else if let Some(message) = reader.support(kind)? {
                    Parcel::Support(message)
                } else {
                    let value = u64::from(kind);
                    return Err(DecodeError::Value { field: "kind of a parcel", value });
                }
            }
        };
        parcels.push(parcel);
    }
    match reader.data.len() {
        0 => Ok(()),
        left => Err(DecodeError::Trailing(left)),
    }
}

fn decode_chunk(reader: &mut Reader) -> Result<SnapshotChunk, DecodeError> {
    let chunk = SnapshotChunk {
        group: reader.group()?,
        last: reader.log_id()?,
        offset: reader.varint()?,
        total_bytes: reader.varint()?,
        data: reader.body()?,
    };
    match chunk.offset.checked_add(chunk.data.len() as u64) {
        Some(end) if end <= chunk.total_bytes => Ok(chunk),
        _ => Err(DecodeError::Value { field: "offset in a snapshot", value: chunk.offset }),
    }
}

/// The frame's length by its header, the header included.
fn announced(header: &[u8; HEADER_BYTES]) -> u64 {
    let [fields, data, _] = words(header);
    HEADER_BYTES as u64 + u64::from(fields) + u64::from(data)
}

fn words(header: &[u8; HEADER_BYTES]) -> [u32; 3] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *header;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_le_bytes)
}

/// The checksum of a header and its first part: all of both but the checksum's own place.
fn checksum(head: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[..8]);
    hasher.update(&head[HEADER_BYTES..]);
    hasher.finalize()
}
