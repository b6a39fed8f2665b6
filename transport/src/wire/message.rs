//! Encodes and decodes the messages between the replicas of a group.

use crate::error::DecodeError;
use crate::wire::fields::{most_field_bytes, put_epoch, put_log_id, put_option, put_varint};
use crate::wire::kind;
use crate::wire::reader::Reader;
use bytes::Buf;
use logboat_raft::{
    Configuration, Conflict, Entries, Entry, EntryKind, GroupId, Index, LogId, Message, Payload,
    ReadToken, ReplicaId, SnapshotMeta, VotersDigest,
};

/// The least that one entry takes among the fields: kind, term, length and checksum.
const MIN_ENTRY_BYTES: usize = 1 + 1 + 1 + 4;

/// The most entries of an append. Leaders send far fewer, since the bytes of an append are limited.
/// The bound is needed because an entry in memory takes ten times what the smallest one takes in a
/// frame.
const MAX_ENTRIES: usize = 1 << 20;

/// Bounds what a message takes in both parts of a frame.
pub(super) fn most_message_bytes(message: &Message) -> usize {
    let entries = match &message.payload {
        Payload::AppendEntries { entries, .. } => entries.as_slice(),
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
        | Payload::TimeoutNow
        | Payload::Resign { .. }
        | Payload::Resigned { .. }
        | Payload::Gone { .. }
        | Payload::Left => &[],
        Payload::Snapshot { meta } => {
            let members = meta.configuration.members().len();
            return most_field_bytes(16) + members * most_field_bytes(4);
        }
    };
    let entry_bytes = |entry: &Entry| most_field_bytes(3) + entry.data.len();
    most_field_bytes(12) + entries.iter().map(entry_bytes).sum::<usize>()
}

/// Appends a message of `group`: its fields to `fields`, the data of its entries to `data`.
pub(super) fn put_message(
    fields: &mut Vec<u8>,
    data: &mut Vec<u8>,
    group: GroupId,
    message: &Message,
) {
    put_envelope(fields, group, message);
    match &message.payload {
        Payload::Snapshot { meta } => {
            put_log_id(fields, meta.last);
            let configuration = meta.configuration.encode();
            put_varint(fields, configuration.len() as u64);
            fields.extend_from_slice(&configuration);
        }
        Payload::PreVote { last, founders } => {
            put_log_id(fields, *last);
            put_founders(fields, *founders);
        }
        Payload::PreVoteReply { granted } | Payload::VoteReply { granted } => {
            fields.push(u8::from(*granted));
        }
        Payload::Vote { last, transfer, founders } => {
            put_log_id(fields, *last);
            fields.push(u8::from(*transfer));
            put_founders(fields, *founders);
        }
        Payload::AppendEntries { prev, entries, commit, founders } => {
            put_log_id(fields, *prev);
            put_varint(fields, commit.0);
            put_founders(fields, *founders);
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
        Payload::Fortify { commit, founders } => {
            put_varint(fields, commit.0);
            put_founders(fields, *founders);
        }
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
        Payload::Resign { epoch, term } => {
            put_varint(fields, epoch.0);
            put_varint(fields, term.0);
        }
        Payload::Resigned { term } => put_varint(fields, term.0),
        Payload::Gone { floor, founders } => {
            put_log_id(fields, floor.0);
            put_founders(fields, *founders);
        }
        Payload::Left => {}
    }
}

/// What every message begins with. A founder's id is not written.
fn put_envelope(fields: &mut Vec<u8>, group: GroupId, message: &Message) {
    let was_added = |replica: ReplicaId, flag| if replica == ReplicaId::FOUNDER { 0 } else { flag };
    let sender = was_added(message.from, kind::SENDER_WAS_ADDED);
    let receiver = was_added(message.to, kind::RECEIVER_WAS_ADDED);
    fields.push(kind_of(&message.payload) | sender | receiver);
    put_varint(fields, group.0);
    put_varint(fields, message.term.0);
    for replica in [message.from, message.to] {
        if replica != ReplicaId::FOUNDER {
            put_log_id(fields, replica.0);
        }
    }
}

const fn kind_of(payload: &Payload) -> u8 {
    match payload {
        Payload::PreVote { .. } => kind::PRE_VOTE,
        Payload::PreVoteReply { .. } => kind::PRE_VOTE_REPLY,
        Payload::Vote { .. } => kind::VOTE,
        Payload::VoteReply { .. } => kind::VOTE_REPLY,
        Payload::AppendEntries { .. } => kind::APPEND,
        Payload::Appended { .. } => kind::APPENDED,
        Payload::Rejected { .. } => kind::REJECTED,
        Payload::Fortify { .. } => kind::FORTIFY,
        Payload::Fortified { .. } => kind::FORTIFIED,
        Payload::ReadIndex { .. } => kind::READ_INDEX,
        Payload::ReadIndexReply { .. } => kind::READ_INDEX_REPLY,
        Payload::Snapshot { .. } => kind::SNAPSHOT,
        Payload::TimeoutNow => kind::TIMEOUT_NOW,
        Payload::Resign { .. } => kind::RESIGN,
        Payload::Resigned { .. } => kind::RESIGNED,
        Payload::Gone { .. } => kind::GONE,
        Payload::Left => kind::LEFT,
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

pub(super) fn put_founders(fields: &mut Vec<u8>, founders: VotersDigest) {
    fields.extend_from_slice(&founders.0.to_le_bytes());
}

fn put_conflict(fields: &mut Vec<u8>, conflict: &Conflict) {
    put_option(fields, conflict.x_term.map(|term| term.0));
    put_varint(fields, conflict.x_index.0);
    put_varint(fields, conflict.x_len.0);
}

/// Reads what follows the first byte of a message; `None` if that is not one of a message.
pub(super) fn read_message(
    reader: &mut Reader,
    first: u8,
) -> Result<Option<(GroupId, Message)>, DecodeError> {
    let kind = first & !(kind::SENDER_WAS_ADDED | kind::RECEIVER_WAS_ADDED);
    if !(kind::PRE_VOTE..=kind::LEFT).contains(&kind) {
        return Ok(None);
    }
    let group = reader.group()?;
    let term = reader.term()?;
    let from = read_replica(reader, first & kind::SENDER_WAS_ADDED != 0)?;
    let to = read_replica(reader, first & kind::RECEIVER_WAS_ADDED != 0)?;
    let payload = match kind {
        kind::PRE_VOTE => {
            Payload::PreVote { last: reader.log_id()?, founders: read_founders(reader)? }
        }
        kind::PRE_VOTE_REPLY => Payload::PreVoteReply { granted: reader.bool()? },
        kind::VOTE => Payload::Vote {
            last: reader.log_id()?,
            transfer: reader.bool()?,
            founders: read_founders(reader)?,
        },
        kind::VOTE_REPLY => Payload::VoteReply { granted: reader.bool()? },
        kind::APPEND => read_append(reader, group)?,
        kind::APPENDED => Payload::Appended { through: reader.index()?, applied: reader.index()? },
        kind::REJECTED => {
            Payload::Rejected { prev: reader.index()?, conflict: read_conflict(reader)? }
        }
        kind::FORTIFY => {
            Payload::Fortify { commit: reader.index()?, founders: read_founders(reader)? }
        }
        kind::FORTIFIED => {
            Payload::Fortified { epoch: reader.maybe_epoch()?, applied: reader.index()? }
        }
        kind::READ_INDEX => {
            Payload::ReadIndex { token: read_token(reader)?, lease: reader.bool()? }
        }
        kind::READ_INDEX_REPLY => Payload::ReadIndexReply {
            token: read_token(reader)?,
            index: reader.maybe_index()?,
            commit: reader.index()?,
        },
        kind::SNAPSHOT => Payload::Snapshot { meta: read_snapshot_meta(reader)? },
        kind::TIMEOUT_NOW => Payload::TimeoutNow,
        kind::RESIGN => Payload::Resign { epoch: reader.epoch()?, term: reader.term()? },
        kind::RESIGNED => Payload::Resigned { term: reader.term()? },
        kind::GONE => {
            Payload::Gone { floor: ReplicaId(reader.log_id()?), founders: read_founders(reader)? }
        }
        // Checked above: no other kind is left.
        _ => Payload::Left,
    };
    Ok(Some((group, Message { from, to, term, payload })))
}

/// A founder's id is not written.
fn read_replica(reader: &mut Reader, was_added: bool) -> Result<ReplicaId, DecodeError> {
    if was_added { reader.log_id().map(ReplicaId) } else { Ok(ReplicaId::FOUNDER) }
}

fn read_append(reader: &mut Reader, group: GroupId) -> Result<Payload, DecodeError> {
    let prev = reader.log_id()?;
    let (commit, founders) = (reader.index()?, read_founders(reader)?);
    let count = reader.varint()?;
    let most = (reader.fields.len() / MIN_ENTRY_BYTES).min(MAX_ENTRIES) as u64;
    if count > most {
        return Err(DecodeError::Value { field: "number of entries", value: count });
    }
    let mut entries = Entries::with_capacity(count as usize);
    for offset in 1..=count {
        let entry = read_entry(reader, prev.index.plus(offset))?;
        entry.verify(group)?;
        entries.push(entry);
    }
    Ok(Payload::AppendEntries { prev, entries, commit, founders })
}

fn read_entry(reader: &mut Reader, index: Index) -> Result<Entry, DecodeError> {
    let byte = reader.byte()?;
    let kind = EntryKind::from_u8(byte)
        .ok_or(DecodeError::Value { field: "kind of an entry", value: u64::from(byte) })?;
    let term = reader.term()?;
    let bytes = reader.varint()?;
    let checksum = reader.fields.try_get_u32_le();
    Ok(Entry {
        term,
        index,
        kind,
        data: reader.entry_data(bytes)?,
        checksum: checksum.map_err(|_| DecodeError::Truncated)?,
    })
}

fn read_snapshot_meta(reader: &mut Reader) -> Result<SnapshotMeta, DecodeError> {
    let last = reader.log_id()?;
    let configuration = Configuration::decode(&reader.body()?)?;
    Ok(SnapshotMeta { last, configuration: configuration.into() })
}

fn read_conflict(reader: &mut Reader) -> Result<Conflict, DecodeError> {
    Ok(Conflict { x_term: reader.maybe_term()?, x_index: reader.index()?, x_len: reader.index()? })
}

pub(super) fn read_founders(reader: &mut Reader) -> Result<VotersDigest, DecodeError> {
    let digest = reader.fields.try_get_u32_le();
    digest.map(VotersDigest).map_err(|_| DecodeError::Truncated)
}

fn read_token(reader: &mut Reader) -> Result<ReadToken, DecodeError> {
    reader.varint().map(ReadToken)
}
