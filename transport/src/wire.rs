//! The wire format: batches become frames, and frames become parcels.
//!
//! ```text
//! fields: u32 | data: u32 | checksum: u32 | fields … | data …
//! ```
//! The header is little-endian. The first part holds the fields of all parcels, one after another,
//! and the bodies of requests, replies and snapshot chunks. The second holds the data of log
//! entries, in the order in which the fields mention them. The frame's CRC-32 covers the two
//! lengths and the first part. Entry data have checksums of their own, made by their leader and
//! carried in the first part. So every byte is covered, and none twice. The data of an entry are
//! copied once on each side: into the frame, and out of the network.

mod decode;
mod fields;
mod frame;
mod kind;
mod message;
mod outgoing;
mod parcel;
mod portions;
mod reader;
mod support;

pub use decode::decode;
pub(crate) use frame::{ChunkPlace, FRAME_TARGET_BYTES, Frame, HEADER_BYTES, frame_bytes};
pub use outgoing::Outgoing;
pub use parcel::{Founders, Parcel, RequestId, SnapshotChunk, SnapshotTaken};
pub(crate) use portions::Portions;
