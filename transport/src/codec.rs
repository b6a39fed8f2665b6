//! How numbers, identities and messages are written: variable-length integers (seven bits a byte,
//! least significant first) for all but checksums.

use crate::DecodeError;
use bytes::{Buf, Bytes};
use logboat_raft::{
    Conflict, Entries, Entry, EntryKind, Epoch, GroupId, Index, LogId, Message, Payload, ReadToken,
    Term,
};

/// The least that one entry takes among the fields: kind, term, length and checksum.
const MIN_ENTRY_BYTES: usize = 1 + 1 + 1 + 4;

/// The first byte of a message, which says what kind it is. The numbers are the wire format:
/// never change or reuse one without a new protocol version.
mod kind {
    pub(super) const PRE_VOTE: u8 = 1;
    pub(super) const PRE_VOTE_REPLY: u8 = 2;
    pub(super) const VOTE: u8 = 3;
    pub(super) const VOTE_REPLY: u8 = 4;
    pub(super) const APPEND: u8 = 5;
    pub(super) const APPENDED: u8 = 6;
    pub(super) const REJECTED: u8 = 7;
    pub(super) const FORTIFY: u8 = 8;
    pub(super) const FORTIFIED: u8 = 9;
    pub(super) const SNAPSHOT: u8 = 10;
    pub(super) const READ_INDEX: u8 = 11;
    pub(super) const READ_INDEX_REPLY: u8 = 12;
    pub(super) const TIMEOUT_NOW: u8 = 13;
    pub(super) const RESIGN: u8 = 14;
}

/// Bounds what `fields` numbers take.
pub(crate) const fn most_field_bytes(fields: usize) -> usize {
    10 * fields
}

/// Bounds what a message takes in both parts of a frame.
pub(crate) fn most_message_bytes(message: &Message) -> usize {
    let entries = match &message.payload {
        Payload::Append { entries, .. } => entries.as_slice(),
        Payload::PreVote { .. }
        | Payload::PreVoteReply { .. }
        | Payload::Vote { .. }
        | Payload::VoteReply { .. }
        | Payload::Appended { .. }
        | Payload::Rejected { .. }
        | Payload::Fortify { .. }
        | Payload::Fortified { .. }
        | Payload::ReadIndex { .. }
        | Payload::ReadIndexReply { .. }
        | Payload::Snapshot { .. }
        | Payload::TimeoutNow
        | Payload::Resign { .. } => &[],
    };
    let entry_bytes = |entry: &Entry| most_field_bytes(3) + entry.data.len();
    most_field_bytes(8) + entries.iter().map(entry_bytes).sum::<usize>()
}

/// Appends a number.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the identity of an entry.
pub(crate) fn put_log_id(out: &mut Vec<u8>, id: LogId) {
    put_varint(out, id.term.0);
    put_varint(out, id.index.0);
}

/// Appends a message of `group`: its fields to `fields`, the data of its entries to `data`.
pub(crate) fn put_message(
    fields: &mut Vec<u8>,
    data: &mut Vec<u8>,
    group: GroupId,
    message: &Message,
) {
    fields.push(kind_of(&message.payload));
    put_varint(fields, group.0);
    put_varint(fields, message.term.0);
    match &message.payload {
        Payload::PreVote { last } | Payload::Snapshot { last } => put_log_id(fields, *last),
        Payload::PreVoteReply { granted } | Payload::VoteReply { granted } => {
            fields.push(u8::from(*granted));
        }
        Payload::Vote { last, transfer } => {
            put_log_id(fields, *last);
            fields.push(u8::from(*transfer));
        }
        Payload::Append { prev, entries, commit } => {
            put_log_id(fields, *prev);
            put_varint(fields, commit.0);
            put_entries(fields, data, *prev, entries);
        }
        Payload::Appended { through, applied } => {
            put_varint(fields, through.0);
            put_varint(fields, applied.0);
        }
        Payload::Rejected { prev, conflict } => {
            put_varint(fields, prev.0);
            put_conflict(fields, conflict);
        }
        Payload::Fortify { commit } => put_varint(fields, commit.0),
        Payload::Fortified { epoch, applied } => {
            put_epoch(fields, *epoch);
            put_varint(fields, applied.0);
        }
        Payload::ReadIndex { token, lease } => {
            put_varint(fields, token.0);
            fields.push(u8::from(*lease));
        }
        Payload::ReadIndexReply { token, index, commit } => {
            put_varint(fields, token.0);
            put_option(fields, index.map(|index| index.0));
            put_varint(fields, commit.0);
        }
        Payload::TimeoutNow => {}
        Payload::Resign { epoch } => put_varint(fields, epoch.0),
    }
}

const fn kind_of(payload: &Payload) -> u8 {
    match payload {
        Payload::PreVote { .. } => kind::PRE_VOTE,
        Payload::PreVoteReply { .. } => kind::PRE_VOTE_REPLY,
        Payload::Vote { .. } => kind::VOTE,
        Payload::VoteReply { .. } => kind::VOTE_REPLY,
        Payload::Append { .. } => kind::APPEND,
        Payload::Appended { .. } => kind::APPENDED,
        Payload::Rejected { .. } => kind::REJECTED,
        Payload::Fortify { .. } => kind::FORTIFY,
        Payload::Fortified { .. } => kind::FORTIFIED,
        Payload::ReadIndex { .. } => kind::READ_INDEX,
        Payload::ReadIndexReply { .. } => kind::READ_INDEX_REPLY,
        Payload::Snapshot { .. } => kind::SNAPSHOT,
        Payload::TimeoutNow => kind::TIMEOUT_NOW,
        Payload::Resign { .. } => kind::RESIGN,
    }
}

/// Entries are consecutive, so their indexes need not travel.
fn put_entries(fields: &mut Vec<u8>, data: &mut Vec<u8>, prev: LogId, entries: &[Entry]) {
    put_varint(fields, entries.len() as u64);
    data.reserve(entries.iter().map(|entry| entry.data.len()).sum());
    let mut index = prev.index;
    for entry in entries {
        index = index.next();
        assert_eq!(entry.index, index, "the entries of an append are consecutive");
        fields.push(entry.kind as u8);
        put_varint(fields, entry.term.0);
        put_varint(fields, entry.data.len() as u64);
        fields.extend_from_slice(&entry.checksum.to_le_bytes());
        data.extend_from_slice(&entry.data);
    }
}

fn put_conflict(fields: &mut Vec<u8>, conflict: &Conflict) {
    put_option(fields, conflict.x_term.map(|term| term.0));
    put_varint(fields, conflict.x_index.0);
    put_varint(fields, conflict.x_len.0);
}

/// Appends an epoch, if there is one.
pub(crate) fn put_epoch(fields: &mut Vec<u8>, epoch: Option<Epoch>) {
    put_option(fields, epoch.map(|epoch| epoch.0));
}

fn put_option(fields: &mut Vec<u8>, number: Option<u64>) {
    fields.push(u8::from(number.is_some()));
    if let Some(number) = number {
        put_varint(fields, number);
    }
}

/// Reads fields off the front of a frame, and entry data off the front of its second part.
pub(crate) struct Reader {
    pub(crate) fields: Bytes,
    pub(crate) data: Bytes,
}

impl Reader {
    /// Reads one byte.
    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.fields.try_get_u8().map_err(|_| DecodeError::Truncated)
    }

    /// Reads a number.
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Value { field: "number of 64 bits", value })
    }

    /// Reads a group.
    pub(crate) fn group(&mut self) -> Result<GroupId, DecodeError> {
        self.varint().map(GroupId)
    }

    /// Reads the identity of an entry.
    pub(crate) fn log_id(&mut self) -> Result<LogId, DecodeError> {
        Ok(LogId::new(self.term()?, self.index()?))
    }

    /// Reads bytes that stand among the fields, with their length before them.
    pub(crate) fn body(&mut self) -> Result<Bytes, DecodeError> {
        let bytes = self.varint()?;
        take(&mut self.fields, bytes)
    }

    /// Reads what follows the kind of a message; `None` if `kind` is not one of a message.
    pub(crate) fn message(&mut self, kind: u8) -> Result<Option<(GroupId, Message)>, DecodeError> {
        if !(kind::PRE_VOTE..=kind::RESIGN).contains(&kind) {
            return Ok(None);
        }
        let group = self.group()?;
        let term = self.term()?;
        let payload = match kind {
            kind::PRE_VOTE => Payload::PreVote { last: self.log_id()? },
            kind::PRE_VOTE_REPLY => Payload::PreVoteReply { granted: self.bool()? },
            kind::VOTE => Payload::Vote { last: self.log_id()?, transfer: self.bool()? },
            kind::VOTE_REPLY => Payload::VoteReply { granted: self.bool()? },
            kind::APPEND => self.append(group)?,
            kind::APPENDED => Payload::Appended { through: self.index()?, applied: self.index()? },
            kind::REJECTED => Payload::Rejected { prev: self.index()?, conflict: self.conflict()? },
            kind::FORTIFY => Payload::Fortify { commit: self.index()? },
            kind::FORTIFIED => Payload::Fortified { epoch: self.epoch()?, applied: self.index()? },
            kind::READ_INDEX => Payload::ReadIndex { token: self.token()?, lease: self.bool()? },
            kind::READ_INDEX_REPLY => Payload::ReadIndexReply {
                token: self.token()?,
                index: self.option()?.map(Index),
                commit: self.index()?,
            },
            kind::SNAPSHOT => Payload::Snapshot { last: self.log_id()? },
            kind::TIMEOUT_NOW => Payload::TimeoutNow,
            // Checked above: no other kind is left.
            _ => Payload::Resign { epoch: Epoch(self.varint()?) },
        };
        Ok(Some((group, Message { term, payload })))
    }

    fn append(&mut self, group: GroupId) -> Result<Payload, DecodeError> {
        let prev = self.log_id()?;
        let commit = self.index()?;
        let count = self.varint()?;
        let most = (self.fields.len() / MIN_ENTRY_BYTES) as u64;
        if count > most || prev.index.0.checked_add(count).is_none() {
            return Err(DecodeError::Value { field: "number of entries", value: count });
        }
        let mut entries = Entries::with_capacity(count as usize);
        for offset in 1..=count {
            let entry = self.entry(prev.index.plus(offset))?;
            entry.verify(group)?;
            entries.push(entry);
        }
        Ok(Payload::Append { prev, entries, commit })
    }

    fn entry(&mut self, index: Index) -> Result<Entry, DecodeError> {
        let byte = self.byte()?;
        let kind = EntryKind::from_u8(byte)
            .ok_or(DecodeError::Value { field: "kind of an entry", value: u64::from(byte) })?;
        let term = self.term()?;
        let bytes = self.varint()?;
        let checksum = self.fields.try_get_u32_le();
        Ok(Entry {
            term,
            index,
            kind,
            data: take(&mut self.data, bytes)?,
            checksum: checksum.map_err(|_| DecodeError::Truncated)?,
        })
    }

    fn conflict(&mut self) -> Result<Conflict, DecodeError> {
        Ok(Conflict {
            x_term: self.option()?.map(Term),
            x_index: self.index()?,
            x_len: self.index()?,
        })
    }

    /// Reads an epoch, if there is one.
    pub(crate) fn epoch(&mut self) -> Result<Option<Epoch>, DecodeError> {
        Ok(self.option()?.map(Epoch))
    }

    fn option(&mut self) -> Result<Option<u64>, DecodeError> {
        Ok(if self.bool()? { Some(self.varint()?) } else { None })
    }

    fn token(&mut self) -> Result<ReadToken, DecodeError> {
        self.varint().map(ReadToken)
    }

    /// Reads a yes or no.
    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            byte => Err(DecodeError::Value { field: "yes or no", value: u64::from(byte) }),
        }
    }

    fn term(&mut self) -> Result<Term, DecodeError> {
        self.varint().map(Term)
    }

    fn index(&mut self) -> Result<Index, DecodeError> {
        self.varint().map(Index)
    }
}

/// Splits `bytes` off the front of a part, which may hold fewer.
fn take(part: &mut Bytes, bytes: u64) -> Result<Bytes, DecodeError> {
    match usize::try_from(bytes) {
        Ok(bytes) if bytes <= part.len() => Ok(part.split_to(bytes)),
        _ => Err(DecodeError::Truncated),
    }
}
