//! The decoder of frames: what it takes for a frame is one, and whatever else is refused whole.

use crate::messages::{group, message};
use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use logboat_raft::{
    BootCount, ClockReading, LogPosition, MAX_COUNT, MAX_MEMBERS, NodeId, RequestSeq, Round,
    SupportMessage, SupportSettings, VotersDigest,
};
use logboat_transport::{Founders, Outgoing, Parcel, RequestId, SnapshotTaken, decode};
use std::time::Duration;

/// Bytes of a frame before its first part: two lengths and the checksum of all that follows but
/// the data of entries.
const HEADER_BYTES: usize = 12;

/// Decodes bytes as they are, behind a header that fits them, and as a frame of arbitrary parcels
/// of which a bit was turned over.
pub fn frames(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else {
        return;
    };
    match mode % 3 {
        0 => check(Bytes::copy_from_slice(rest)),
        1 => check(sealed(rest)),
        // Arbitrary parcels end where the data do.
        _ => _ = written(&mut Unstructured::new(rest)),
    }
}

/// The bytes behind a header that says that they are a frame; the first two tell where the data of
/// entries begin.
fn sealed(data: &[u8]) -> Bytes {
    let (place, body) = data.split_at(data.len().min(2));
    let place = place.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let fields = body.len() - place % (body.len() + 1);
    let lengths = [fields as u32, (body.len() - fields) as u32].map(u32::to_le_bytes).concat();
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&lengths);
    checksum.update(&body[..fields]);
    [&lengths, checksum.finalize().to_le_bytes().as_slice(), body].concat().into()
}

/// What decodes says the same when it is written again.
fn check(frame: Bytes) {
    let mut parcels = Vec::new();
    if decode(frame, &mut parcels).is_err() {
        return assert!(parcels.is_empty(), "a frame that is refused leaves nothing");
    }
    let mut again = Vec::new();
    for frame in frames_of(&parcels) {
        decode(frame, &mut again).expect("what was decoded can be encoded");
    }
    assert_eq!(again, parcels);
}

/// Writes arbitrary parcels; they arrive as they are, and not at all with a bit turned over.
fn written(input: &mut Unstructured<'_>) -> Result<()> {
    let (at, bit): (usize, u8) = input.arbitrary()?;
    let mut parcels = Vec::new();
    while !input.is_empty() {
        parcels.push(parcel(input)?);
    }
    let mut arrived = Vec::new();
    for frame in frames_of(&parcels) {
        let mut damaged = frame.to_vec();
        damaged[at % frame.len()] ^= 1 << (bit % 8);
        let refused = decode(damaged.into(), &mut arrived);
        assert!(refused.is_err(), "all of a frame is covered by checksums");
        assert!(frame.len() > HEADER_BYTES, "a frame holds something");
        decode(frame, &mut arrived).expect("what is written can be read");
    }
    assert_eq!(arrived, parcels);
    Ok(())
}

fn parcel(input: &mut Unstructured<'_>) -> Result<Parcel> {
    let id = RequestId(input.arbitrary()?);
    let body = Bytes::from(input.arbitrary::<Vec<u8>>()?);
    let group = group(input)?;
    Ok(match input.int_in_range(0..=7)? {
        7 => Parcel::SnapshotTaken(SnapshotTaken {
            group,
            last: crate::messages::log_id(input)?,
            end: input.arbitrary()?,
            window_bytes: input.arbitrary()?,
        }),
        6 => {
            let members = input.arbitrary_iter()?.take(MAX_MEMBERS).collect::<Result<Vec<_>>>()?;
            let digest = VotersDigest(input.arbitrary()?);
            let members: Vec<_> = members.into_iter().map(NodeId).collect();
            let founders = (!members.is_empty()).then_some(Founders { digest, members });
            Parcel::Founders { group, founders, asks: input.arbitrary()? }
        }
        5 => Parcel::Forward { id, to: NodeId(input.arbitrary()?), group, body },
        0 => Parcel::Request { id, group, body },
        1 => Parcel::Reply { id, body },
        2 => Parcel::SnapshotRefused { group, last: crate::messages::log_id(input)? },
        3 => Parcel::Support(support(input)?),
        _ => Parcel::Message { group, message: message(input, group)? },
    })
}

fn support(input: &mut Unstructured<'_>) -> Result<SupportMessage> {
    let mut count = || input.int_in_range(0..=MAX_COUNT);
    let (boot, number) = (BootCount(count()?), count()?);
    let (seq, round) = (RequestSeq(number), Round(number));
    let worker = input.arbitrary()?;
    let epoch = crate::messages::epoch(input)?;
    Ok(match input.int_in_range(0..=3)? {
        0 => {
            let (heard, leases) = (input.arbitrary()?, input.arbitrary()?);
            let timeout = Duration::from_micros(input.arbitrary()?);
            let settings = SupportSettings { timeout, leases };
            let log_end = LogPosition::unpack(input.arbitrary()?);
            let leaving = input.arbitrary()?;
            SupportMessage::Request { boot, seq, heard, settings, log_end, leaving }
        }
        1 => {
            let epoch = epoch.unwrap_or_default();
            let lease = Duration::from_micros(input.arbitrary()?);
            let (unix_ms, is_settled) = (input.arbitrary()?, input.arbitrary()?);
            let clock = ClockReading { unix_ms, is_settled };
            SupportMessage::Granted { boot, seq, epoch, lease, clock }
        }
        2 => SupportMessage::Confirm { boot, worker, round },
        _ => SupportMessage::Confirmed { boot, worker, round, epoch },
    })
}

/// The frames of the parcels, in order.
fn frames_of(parcels: &[Parcel]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut batch = Outgoing::new();
    for parcel in parcels {
        let mut outgoing = Outgoing::new();
        match parcel {
            Parcel::Message { group, message } => outgoing.push_message(*group, message),
            Parcel::Request { id, group, body } => outgoing.push_request(*id, *group, body),
            Parcel::Forward { id, to, group, body } => {
                outgoing.push_forward(*id, *to, *group, body);
            }
            Parcel::Reply { id, body } => outgoing.push_reply(*id, body),
            Parcel::SnapshotTaken(taken) => outgoing.push_snapshot_taken(taken),
            Parcel::SnapshotRefused { group, last } => {
                outgoing.push_snapshot_refused(*group, *last);
            }
            Parcel::Support(message) => outgoing.push_support(message),
            Parcel::Founders { group, founders, asks } => {
                outgoing.push_founders(*group, founders.as_ref(), *asks);
            }
            Parcel::Snapshot(chunk) => {
                frames.extend(std::mem::take(&mut batch).into_frames());
                frames.push(chunk.to_frame());
            }
        }
        batch.append(&mut outgoing);
    }
    frames.extend(batch.into_frames());
    frames
}
