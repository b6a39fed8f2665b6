//! How a frame becomes parcels again.

use crate::error::DecodeError;
use crate::wire::frame::{HEADER_BYTES, announced, checksum, words};
use crate::wire::kind;
use crate::wire::message::read_message;
use crate::wire::parcel::{Parcel, RequestId, SnapshotChunk};
use crate::wire::reader::Reader;
use crate::wire::support::read_support;
use bytes::Bytes;

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
            kind::SNAPSHOT_CHUNK => Parcel::Snapshot(decode_chunk(&mut reader)?),
            kind::SNAPSHOT_REFUSED => {
                Parcel::SnapshotRefused { group: reader.group()?, last: reader.log_id()? }
            }
            _ => {
                if let Some((group, message)) = read_message(&mut reader, kind)? {
                    Parcel::Message { group, message }
                } else if let Some(message) = read_support(&mut reader, kind)? {
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
