//! How the messages about the liveness of nodes are written and read.

use crate::error::DecodeError;
use crate::wire::fields::{put_epoch, put_varint};
use crate::wire::kind;
use crate::wire::reader::Reader;
use logboat_raft::{Epoch, Run, SupportMessage};

/// Appends a message, its kind first.
pub(super) fn put_support(fields: &mut Vec<u8>, message: &SupportMessage) {
    match *message {
        SupportMessage::Request { run, round, heard } => {
            fields.push(kind::SUPPORT_REQUEST);
            put_varint(fields, run.0);
            put_varint(fields, round);
            fields.push(u8::from(heard));
        }
        SupportMessage::Granted { run, round, epoch, prolonged } => {
            fields.push(kind::SUPPORT_GRANTED);
            put_varint(fields, run.0);
            put_varint(fields, round);
            put_varint(fields, epoch.0);
            fields.push(u8::from(prolonged));
        }
        SupportMessage::Confirm { run, worker, round } => {
            fields.push(kind::SUPPORT_CONFIRM);
            put_varint(fields, run.0);
            put_varint(fields, worker.into());
            put_varint(fields, round);
        }
        SupportMessage::Confirmed { run, worker, round, epoch } => {
            fields.push(kind::SUPPORT_CONFIRMED);
            put_varint(fields, run.0);
            put_varint(fields, worker.into());
            put_varint(fields, round);
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
    let run = Run(reader.varint()?);
    Ok(Some(match kind {
        kind::SUPPORT_REQUEST => {
            SupportMessage::Request { run, round: reader.varint()?, heard: reader.bool()? }
        }
        kind::SUPPORT_GRANTED => {
            let (round, epoch) = (reader.varint()?, Epoch(reader.varint()?));
            SupportMessage::Granted { run, round, epoch, prolonged: reader.bool()? }
        }
        kind::SUPPORT_CONFIRM => {
            SupportMessage::Confirm { run, worker: read_worker(reader)?, round: reader.varint()? }
        }
        // Checked above: no other kind is left.
        _ => SupportMessage::Confirmed {
            run,
            worker: read_worker(reader)?,
            round: reader.varint()?,
            epoch: reader.epoch()?,
        },
    }))
}

fn read_worker(reader: &mut Reader) -> Result<u32, DecodeError> {
    let value = reader.varint()?;
    u32::try_from(value).map_err(|_| DecodeError::Value { field: "worker", value })
}
