//! Decodes a frame into parcels.

use crate::error::DecodeError;
use crate::wire::frame::{HEADER_BYTES, announced, checksum, words};
use crate::wire::kind;
use crate::wire::message::{read_founders, read_message};
use crate::wire::parcel::{Founders, Parcel, RequestId, SnapshotChunk, SnapshotTaken};
use crate::wire::reader::Reader;
use crate::wire::support::read_support;
use bytes::Bytes;
use logboat_raft::{MAX_MEMBERS, NodeId};

/// Decodes a frame and appends its parcels. Entry data and bodies are slices of `frame`, not
/// copies. Each of them keeps the memory of the whole frame. Small slices of a frame larger than
/// nodes make them are copied instead. The checksum of every entry is verified.
///
/// # Errors
/// A frame with anything wrong in it is refused as a whole, and `parcels` stays as it was.
pub fn decode(frame: Bytes, parcels: &mut Vec<Parcel>) -> Result<(), DecodeError> {
    let before = parcels.len();
    let decoded = decode_each(frame, |parcel| parcels.push(parcel));
    decoded.inspect_err(|_| parcels.truncate(before))
}

/// Decodes a frame and hands its parcels over one by one, up to the first one that is not valid.
///
/// # Errors
/// What is wrong with the frame. Nothing was handed over unless the frame's checksum is right.
pub(crate) fn decode_each(mut frame: Bytes, each: impl FnMut(Parcel)) -> Result<(), DecodeError> {
    let frame_bytes = frame.len();
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
    let reader = Reader { fields: frame.split_off(HEADER_BYTES), data, frame_bytes };
    decode_parcels(reader, each)
}

fn decode_parcels(mut reader: Reader, mut each: impl FnMut(Parcel)) -> Result<(), DecodeError> {
    while !reader.fields.is_empty() {
        let kind = reader.byte()?;
        let parcel = match kind {
            kind::REQUEST => Parcel::Request {
                id: RequestId(reader.varint()?),
                group: reader.group()?,
                body: reader.body()?,
            },
            kind::FORWARD => Parcel::Forward {
                id: RequestId(reader.varint()?),
                to: NodeId(reader.varint()?),
                group: reader.group()?,
                body: reader.body()?,
            },
            kind::REPLY => Parcel::Reply { id: RequestId(reader.varint()?), body: reader.body()? },
            kind::SNAPSHOT_CHUNK => Parcel::Snapshot(decode_chunk(&mut reader)?),
            kind::SNAPSHOT_TAKEN => Parcel::SnapshotTaken(SnapshotTaken {
                group: reader.group()?,
                last: reader.log_id()?,
                end: reader.varint()?,
                window_bytes: reader.varint()?,
            }),
            kind::SNAPSHOT_REFUSED => {
                Parcel::SnapshotRefused { group: reader.group()?, last: reader.log_id()? }
            }
            kind::FOUNDERS => decode_founders(&mut reader)?,
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
        each(parcel);
    }
    match reader.data.len() {
        0 => Ok(()),
        left => Err(DecodeError::Trailing(left)),
    }
}

fn decode_founders(reader: &mut Reader) -> Result<Parcel, DecodeError> {
    let (group, asks) = (reader.group()?, reader.bool()?);
    let founders = match reader.varint()? {
        0 => None,
        count if count <= MAX_MEMBERS as u64 => {
            let digest = read_founders(reader)?;
            let members = (0..count).map(|_| reader.varint().map(NodeId)).collect::<Result<_, _>>();
            Some(Founders { digest, members: members? })
        }
        value => return Err(DecodeError::Value { field: "number of founders", value }),
    };
    Ok(Parcel::Founders { group, founders, asks })
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
