//! Encodes and decodes the messages about node liveness, heartbeats among them.

use crate::error::DecodeError;
use crate::wire::fields::{put_epoch, put_varint};
use crate::wire::kind;
use crate::wire::reader::Reader;
use logboat_raft::{
    BootCount, ClockReading, LogPosition, RequestSeq, Round, SupportMessage, SupportSettings,
};
use std::time::Duration;

/// Appends a message, its kind first.
pub(super) fn put_support(fields: &mut Vec<u8>, message: &SupportMessage) {
    match *message {
        SupportMessage::Request { boot, seq, heard, settings, log_end, leaving } => {
            fields.push(kind::SUPPORT_REQUEST);
            put_varint(fields, boot.0);
            put_varint(fields, seq.0);
            fields.push(u8::from(heard));
            put_duration(fields, settings.timeout);
            fields.push(u8::from(settings.leases));
            put_varint(fields, log_end.pack());
            fields.push(u8::from(leaving));
        }
        SupportMessage::Granted { boot, seq, epoch, lease, clock } => {
            fields.push(kind::SUPPORT_GRANTED);
            put_varint(fields, boot.0);
            put_varint(fields, seq.0);
            put_varint(fields, epoch.0);
            put_duration(fields, lease);
            put_varint(fields, clock.unix_ms);
            fields.push(u8::from(clock.is_settled));
        }
        SupportMessage::Confirm { boot, worker, round } => {
            fields.push(kind::SUPPORT_CONFIRM);
            put_varint(fields, boot.0);
            put_varint(fields, worker.into());
            put_varint(fields, round.0);
        }
        SupportMessage::Confirmed { boot, worker, round, epoch } => {
            fields.push(kind::SUPPORT_CONFIRMED);
            put_varint(fields, boot.0);
            put_varint(fields, worker.into());
            put_varint(fields, round.0);
            put_epoch(fields, epoch);
        }
    }
}

/// Reads what follows the kind of a message; `None` if `kind` is not one about liveness.
pub(super) fn read_support(
    reader: &mut Reader,
    kind: u8,
) -> Result<Option<SupportMessage>, DecodeError> {
    if !(kind::SUPPORT_REQUEST..=kind::SUPPORT_CONFIRMED).contains(&kind) {
        return Ok(None);
    }
    let boot = BootCount(reader.count("boot count")?);
    Ok(Some(match kind {
        kind::SUPPORT_REQUEST => SupportMessage::Request {
            boot,
            seq: RequestSeq(reader.count("request number")?),
            heard: reader.bool()?,
            settings: SupportSettings { timeout: read_duration(reader)?, leases: reader.bool()? },
            log_end: LogPosition::unpack(reader.varint()?),
            leaving: reader.bool()?,
        },
        kind::SUPPORT_GRANTED => {
            let (seq, epoch) = (RequestSeq(reader.count("request number")?), reader.epoch()?);
            let lease = read_duration(reader)?;
            let clock = ClockReading { unix_ms: reader.varint()?, is_settled: reader.bool()? };
            SupportMessage::Granted { boot, seq, epoch, lease, clock }
        }
        kind::SUPPORT_CONFIRM => SupportMessage::Confirm {
            boot,
            worker: read_worker(reader)?,
            round: Round(reader.count("round")?),
        },
        // Checked above: no other kind is left.
        _ => SupportMessage::Confirmed {
            boot,
            worker: read_worker(reader)?,
            round: Round(reader.count("round")?),
            epoch: reader.maybe_epoch()?,
        },
    }))
}

fn put_duration(fields: &mut Vec<u8>, duration: Duration) {
    put_varint(fields, u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
}

fn read_duration(reader: &mut Reader) -> Result<Duration, DecodeError> {
    reader.varint().map(Duration::from_micros)
}

fn read_worker(reader: &mut Reader) -> Result<u32, DecodeError> {
    let value = reader.varint()?;
    u32::try_from(value).map_err(|_| DecodeError::Value { field: "worker", value })
}
