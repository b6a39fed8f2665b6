//! The bytes of segment and batch headers.
//!
//! ```text
//! segment  = header block (4,096 bytes), batches, whatever the file held before
//! block    = magic, version, segment id, salt, capacity, zeros, CRC-32 of all before
//! batch    = header (32 bytes), records, zeros, second list; a multiple of 8 bytes
//! header   = magic, body length, durable mark, oldest segment, records, flags, CRC-32
//! ```
//! All numbers are little-endian. The CRC of a batch header also covers the segment's salt and the
//! batch's offset, which stand nowhere in it. So a header from an earlier use of the file does not
//! verify, nor does one that an entry's data imitates. Records are in [`record`], the second list
//! in [`contents`].

mod bits;
mod contents;
mod effect;
mod encoder;
mod header;
mod position;
mod record;

pub(crate) use contents::{Contents, ContentsPlace, MARK_BYTES, Named, places};
pub(crate) use effect::{Change, Effect};
pub(crate) use encoder::{Encoder, appended};
pub(crate) use header::{BATCH_ALIGN, BATCH_HEADER_BYTES, BadHeader, BatchHeader, SegmentHeader};
pub(crate) use position::{MAX_SEGMENT_BYTES, position, segment_name, segment_of};
pub(crate) use record::Record;
