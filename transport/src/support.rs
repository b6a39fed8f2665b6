//! How word about liveness is written.

use crate::DecodeError;
use crate::codec::{Reader, put_epoch, put_varint};
use logboat_raft::{Epoch, Run, SupportMessage};

/// The first byte of a parcel with word about liveness.
mod kind {
    pub(super) const REQUEST: u8 = 36;
    pub(super) const GRANTED: u8 = 37;
    pub(super) const CONFIRM: u8 = 38;
    pub(super) const CONFIRMED: u8 = 39;
}

/// Appends a message, its kind first.
pub(crate) fn put_support(fields: &mut Vec<u8>, message: &SupportMessage) {
    match *message {
        SupportMessage::Request { run, round, heard } => {
            fields.push(kind::REQUEST);
            put_varint(fields, run.0);
            put_varint(fields, round);
            fields.push(u8::from(heard));
        }
        SupportMessage::Granted { run, round, epoch, prolonged } => {
            fields.push(kind::GRANTED);
            put_varint(fields, run.0);
            put_varint(fields, round);
            put_varint(fields, epoch.0);
            fields.push(u8::from(prolonged));
        }
        SupportMessage::Confirm { run, worker, round } => {
            fields.push(kind::CONFIRM);
            put_varint(fields, run.0);
            put_varint(fields, worker.into());
            put_varint(fields, round);
        }
        SupportMessage::Confirmed { run, worker, round, epoch } => {
            fields.push(kind::CONFIRMED);
            put_varint(fields, run.0);
            put_varint(fields, worker.into());
            put_varint(fields, round);
            put_epoch(fields, epoch);
        }
    }
}

impl Reader {
    /// Reads what follows the kind of a message; `None` if `kind` is not one about liveness.
    pub(crate) fn support(&mut self, kind: u8) -> Result<Option<SupportMessage>, DecodeError> {
        if !(kind::REQUEST..=kind::CONFIRMED).contains(&kind) {
            return Ok(None);
        }
        let run = Run(self.varint()?);
        Ok(Some(match kind {
            kind::REQUEST => {
                SupportMessage::Request { run, round: self.varint()?, heard: self.bool()? }
            }
            kind::GRANTED => {
                let (round, epoch) = (self.varint()?, Epoch(self.varint()?));
                SupportMessage::Granted { run, round, epoch, prolonged: self.bool()? }
            }
            kind::CONFIRM => {
                SupportMessage::Confirm { run, worker: self.worker()?, round: self.varint()? }
            }
            // Checked above: no other kind is left.
            _ => SupportMessage::Confirmed {
                run,
                worker: self.worker()?,
                round: self.varint()?,
                epoch: self.epoch()?,
            },
        }))
    }

    fn worker(&mut self) -> Result<u32, DecodeError> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| DecodeError::Value { field: "worker", value })
    }
}
