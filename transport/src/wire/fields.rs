//! Writes the fields of a frame. All but checksums are variable-length integers (LEB128).

use logboat_raft::{Epoch, LogId};
pub(super) use logboat_varint::put as put_varint;

/// Bounds what `fields` numbers take.
pub(super) const fn most_field_bytes(fields: usize) -> usize {
    logboat_varint::MAX_BYTES * fields
}

/// Appends the identity of an entry.
pub(super) fn put_log_id(out: &mut Vec<u8>, id: LogId) {
    put_varint(out, id.term.0);
    put_varint(out, id.index.0);
}

/// Appends an epoch, if there is one.
pub(super) fn put_epoch(fields: &mut Vec<u8>, epoch: Option<Epoch>) {
    put_option(fields, epoch.map(|epoch| epoch.0));
}

/// Appends whether there is a number, and the number.
pub(super) fn put_option(fields: &mut Vec<u8>, number: Option<u64>) {
    fields.push(u8::from(number.is_some()));
    if let Some(number) = number {
        put_varint(fields, number);
    }
}
