//! The binary encoding of commands, queries and answers.
//!
//! An encoding starts with [`VERSION`] and a tag; fields follow in the order of their declaration.
//! What is for another database than 0 has [`IN_DATABASE`] and the database before its tag. Before
//! that, a command that goes by the time has [`STAMPED`] and the time.
//! Commands end up in the log, so a tag or a field never changes its meaning: new needs get new
//! tags. Decoding is total and bounded by the length of the input.

mod answer;
mod query;

use super::{Command, Condition, DATABASES, Deadline, ExpireIf, Lifetime, Proposal, VERSION};
use crate::kv::wire::{Reader, WireError, Writer};
use bytes::Bytes;

/// Stands before the number of a database, in the place of a tag.
const IN_DATABASE: u8 = 0xf0;

/// Stands before the time at which a command was proposed, in the place of a tag.
const STAMPED: u8 = 0xf1;

/// The tags of the commands that go by the time.
const SET_WITH_LIFETIME: u8 = 12;
const EXPIRE: u8 = 13;
const GET_EXPIRE: u8 = 15;
const ASK: u8 = 16;
const TICK: u8 = 17;

/// Commands that were without a limit or a lifetime at first have another tag with one.
const COPY: u8 = 10;
const COPY_WITH_LIMIT: u8 = 18;
const SET_WITH_LIMIT: u8 = 19;
const SET_WITH_LIFETIME_AND_LIMIT: u8 = 20;
const TAKE: u8 = 2;
const TAKE_WITH_LIMIT: u8 = 21;
const GET_EXPIRE_WITH_LIMIT: u8 = 22;

/// Whether an encoded command goes by the time, and has none yet.
pub(in crate::kv) fn needs_stamp(command: &[u8]) -> bool {
    let tag = match command {
        [VERSION, IN_DATABASE, _, tag, ..] | [VERSION, tag, ..] => *tag,
        _ => return false,
    };
    matches!(
        tag,
        SET_WITH_LIFETIME
            | SET_WITH_LIFETIME_AND_LIMIT
            | EXPIRE
            | GET_EXPIRE
            | GET_EXPIRE_WITH_LIMIT
            | ASK
            | TICK
    )
}

/// An encoded command with the time at which it is proposed. None if it is no command, or has a
/// time.
pub(in crate::kv) fn stamped(now_ms: u64, command: &[u8]) -> Option<Bytes> {
    let fields = match command {
        [VERSION, STAMPED, ..] => return None,
        [VERSION, fields @ ..] => fields,
        _ => return None,
    };
    let mut writer = start(STAMPED, fields.len());
    writer.varint(now_ms);
    writer.raw(fields);
    Some(writer.finish())
}

/// An encoded command without the times that it has.
pub(in crate::kv) fn unstamped(command: Bytes) -> Bytes {
    let [VERSION, STAMPED, ..] = command[..] else { return command };
    let mut fields = &command[1..];
    while let [STAMPED, after @ ..] = fields {
        let mut reader = Reader::copying(after);
        // Without a time behind it, it is no command, and stays none.
        if reader.varint().is_err() {
            break;
        }
        fields = reader.rest();
    }
    let mut writer = Writer::with_capacity(1 + fields.len());
    writer.byte(VERSION);
    writer.raw(fields);
    writer.finish()
}

impl Command {
    /// Encodes it for database 0.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.encode_in(0)
    }

    /// Encodes it for a database.
    #[must_use]
    pub fn encode_in(&self, database: u8) -> Bytes {
        let start = |tag, payload_bytes| start_in(database, tag, payload_bytes);
        match self {
            Self::Set { key, value, condition, want_old, lifetime } => {
                encode_set(database, (key, value), condition, *want_old, *lifetime)
            }
            Self::Delete { keys } => build_in(database, 1, |w| w.list(keys)),
            Self::Take { key, limit_bytes } => build_in(database, TAKE_WITH_LIMIT, |w| {
                w.bytes(key);
                w.varint(*limit_bytes);
            }),
            Self::Append { key, value, limit_bytes } => {
                let mut writer = start(3, key.len() + value.len());
                writer.bytes(key);
                writer.bytes(value);
                writer.varint(*limit_bytes);
                writer.finish()
            }
            Self::SetRange { key, offset, value, limit_bytes } => {
                let mut writer = start(4, key.len() + value.len());
                writer.bytes(key);
                writer.varint(*offset);
                writer.bytes(value);
                writer.varint(*limit_bytes);
                writer.finish()
            }
            Self::Increment { key, by } => build_in(database, 5, |w| {
                w.bytes(key);
                w.signed(*by);
            }),
            Self::IncrementFloat { key, by } => build_in(database, 6, |w| w.pair(key, by)),
            Self::SetMany { pairs, only_if_missing } => build_in(database, 7, |w| {
                w.pairs(pairs);
                w.flag(*only_if_missing);
            }),
            Self::Clear => build_in(database, 8, |_| ()),
            Self::Rename { from, to, only_if_missing } => build_in(database, 9, |w| {
                w.pair(from, to);
                w.flag(*only_if_missing);
            }),
            Self::Copy { from, to, to_database, replace, limit_bytes } => {
                build_in(database, COPY_WITH_LIMIT, |w| {
                    w.pair(from, to);
                    w.byte(*to_database);
                    w.flag(*replace);
                    w.varint(*limit_bytes);
                })
            }
            Self::ClearAll => build_in(database, 11, |_| ()),
            Self::Expire { key, deadline, condition } => build_in(database, EXPIRE, |w| {
                w.bytes(key);
                deadline.write(w);
                w.byte(condition.bits());
            }),
            Self::Persist { key } => build_in(database, 14, |w| w.bytes(key)),
            Self::GetExpire { key, lifetime, limit_bytes } => {
                build_in(database, GET_EXPIRE_WITH_LIMIT, |w| {
                    w.bytes(key);
                    lifetime.write(w);
                    w.varint(*limit_bytes);
                })
            }
            Self::Ask { query } => build_in(database, ASK, |w| w.bytes(query)),
            Self::Tick => build_in(database, TICK, |_| ()),
        }
    }

    fn read(tag: u8, r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match tag {
            0 | SET_WITH_LIFETIME | SET_WITH_LIMIT | SET_WITH_LIFETIME_AND_LIMIT => Self::Set {
                key: r.bytes()?,
                value: r.bytes()?,
                condition: Condition::read(r)?,
                want_old: match tag {
                    0 | SET_WITH_LIFETIME => r.flag()?.then_some(u64::MAX),
                    _ => Some(r.varint()?),
                },
                lifetime: match tag {
                    0 | SET_WITH_LIMIT => Lifetime::Endless,
                    _ => Lifetime::read(r)?,
                },
            },
            1 => Self::Delete { keys: r.list()? },
            TAKE | TAKE_WITH_LIMIT => Self::Take {
                key: r.bytes()?,
                limit_bytes: if tag == TAKE { u64::MAX } else { r.varint()? },
            },
            3 => Self::Append { key: r.bytes()?, value: r.bytes()?, limit_bytes: r.varint()? },
            4 => Self::SetRange {
                key: r.bytes()?,
                offset: r.varint()?,
                value: r.bytes()?,
                limit_bytes: r.varint()?,
            },
            5 => Self::Increment { key: r.bytes()?, by: r.signed()? },
            6 => Self::IncrementFloat { key: r.bytes()?, by: r.bytes()? },
            7 => Self::SetMany { pairs: r.pairs()?, only_if_missing: r.flag()? },
            8 => Self::Clear,
            9 => Self::Rename { from: r.bytes()?, to: r.bytes()?, only_if_missing: r.flag()? },
            COPY | COPY_WITH_LIMIT => Self::Copy {
                from: r.bytes()?,
                to: r.bytes()?,
                to_database: read_database(r)?,
                replace: r.flag()?,
                limit_bytes: if tag == COPY { u64::MAX } else { r.varint()? },
            },
            11 => Self::ClearAll,
            EXPIRE => Self::Expire {
                key: r.bytes()?,
                deadline: Deadline::read(r)?,
                condition: ExpireIf::of_bits(r.byte()?)?,
            },
            14 => Self::Persist { key: r.bytes()? },
            GET_EXPIRE | GET_EXPIRE_WITH_LIMIT => Self::GetExpire {
                key: r.bytes()?,
                lifetime: Lifetime::read(r)?,
                limit_bytes: if tag == GET_EXPIRE { u64::MAX } else { r.varint()? },
            },
            ASK => Self::Ask { query: r.bytes()? },
            TICK => Self::Tick,
            tag => return Err(WireError::UnknownTag(tag)),
        })
    }
}

impl Proposal {
    /// Decodes what [`Command::encode_in`] wrote.
    ///
    /// # Errors
    /// Anything else is refused with the reason.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        Self::read(Reader::copying(bytes))
    }

    /// Like [`decode`](Self::decode), but keys and values share the buffer of `bytes`.
    ///
    /// # Errors
    /// As there.
    pub fn decode_shared(bytes: &Bytes) -> Result<Self, WireError> {
        Self::read(Reader::sharing(bytes))
    }

    fn read(reader: Reader<'_>) -> Result<Self, WireError> {
        let (stamp_ms, (database, tag, mut r)) = match open(reader)? {
            (STAMPED, mut reader) => {
                let stamp_ms = reader.varint()?;
                let tag = reader.byte()?;
                (Some(stamp_ms), in_database(tag, reader)?)
            }
            (tag, reader) => (None, in_database(tag, reader)?),
        };
        let command = Command::read(tag, &mut r)?;
        r.finish().map(|()| Self { stamp_ms, database, command })
    }

    /// Encodes it, as a leader does.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let command = self.command.encode_in(self.database);
        match self.stamp_ms {
            None => command,
            Some(stamp_ms) => stamped(stamp_ms, &command).unwrap_or(command),
        }
    }
}

impl Condition {
    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Always => writer.byte(0),
            Self::Missing => writer.byte(1),
            Self::Present => writer.byte(2),
            Self::Equals(value) => {
                writer.byte(3);
                writer.bytes(value);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match reader.byte()? {
            0 => Ok(Self::Always),
            1 => Ok(Self::Missing),
            2 => Ok(Self::Present),
            3 => Ok(Self::Equals(reader.bytes()?)),
            tag => Err(WireError::UnknownTag(tag)),
        }
    }
}

impl Deadline {
    fn write(self, writer: &mut Writer) {
        let (tag, milliseconds) = match self {
            Self::At(milliseconds) => (0, milliseconds),
            Self::In(milliseconds) => (1, milliseconds),
        };
        writer.byte(tag);
        writer.signed(milliseconds);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match reader.byte()? {
            0 => Ok(Self::At(reader.signed()?)),
            1 => Ok(Self::In(reader.signed()?)),
            tag => Err(WireError::UnknownTag(tag)),
        }
    }
}

impl Lifetime {
    fn write(self, writer: &mut Writer) {
        match self {
            Self::Endless => writer.byte(0),
            Self::Kept => writer.byte(1),
            Self::Until(deadline) => {
                writer.byte(2);
                deadline.write(writer);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match reader.byte()? {
            0 => Ok(Self::Endless),
            1 => Ok(Self::Kept),
            2 => Deadline::read(reader).map(Self::Until),
            tag => Err(WireError::UnknownTag(tag)),
        }
    }
}

impl ExpireIf {
    fn bits(self) -> u8 {
        let flags = [self.endless, self.expiring, self.later, self.earlier];
        (0..).zip(flags).map(|(bit, flag)| u8::from(flag) << bit).sum()
    }

    const fn of_bits(bits: u8) -> Result<Self, WireError> {
        if bits > 0b1111 {
            return Err(WireError::UnknownTag(bits));
        }
        Ok(Self {
            endless: bits & 1 != 0,
            expiring: bits & 2 != 0,
            later: bits & 4 != 0,
            earlier: bits & 8 != 0,
        })
    }
}

fn read_database(reader: &mut Reader<'_>) -> Result<u8, WireError> {
    match reader.byte()? {
        database if database < DATABASES => Ok(database),
        tag => Err(WireError::UnknownTag(tag)),
    }
}

/// A message for a database, with `tag` and room for about `payload_bytes` of keys and values.
fn start_in(database: u8, tag: u8, payload_bytes: usize) -> Writer {
    if database == 0 {
        return start(tag, payload_bytes);
    }
    let mut writer = start(IN_DATABASE, payload_bytes);
    writer.byte(database);
    writer.byte(tag);
    writer
}

fn build_in(database: u8, tag: u8, fields: impl FnOnce(&mut Writer)) -> Bytes {
    let mut writer = start_in(database, tag, 0);
    fields(&mut writer);
    writer.finish()
}

fn encode_set(
    database: u8,
    (key, value): (&Bytes, &Bytes),
    condition: &Condition,
    want_old: Option<u64>,
    lifetime: Lifetime,
) -> Bytes {
    let is_endless = lifetime == Lifetime::Endless;
    let tag = match (is_endless, want_old) {
        (true, None) => 0,
        (false, None) => SET_WITH_LIFETIME,
        (true, Some(_)) => SET_WITH_LIMIT,
        (false, Some(_)) => SET_WITH_LIFETIME_AND_LIMIT,
    };
    let mut writer = start_in(database, tag, key.len() + value.len());
    writer.bytes(key);
    writer.bytes(value);
    condition.write(&mut writer);
    match want_old {
        None => writer.flag(false),
        Some(limit_bytes) => writer.varint(limit_bytes),
    }
    if !is_endless {
        lifetime.write(&mut writer);
    }
    writer.finish()
}

/// A message with `tag` and room for about `payload_bytes` of keys and values.
fn start(tag: u8, payload_bytes: usize) -> Writer {
    let mut writer = Writer::with_capacity(payload_bytes + 32);
    writer.byte(VERSION);
    writer.byte(tag);
    writer
}

fn build(tag: u8, fields: impl FnOnce(&mut Writer)) -> Bytes {
    let mut writer = start(tag, 0);
    fields(&mut writer);
    writer.finish()
}

/// The database that stands in the place of a tag, if one does, and the tag; the fields follow.
fn in_database(tag: u8, mut reader: Reader<'_>) -> Result<(u8, u8, Reader<'_>), WireError> {
    if tag != IN_DATABASE {
        return Ok((0, tag, reader));
    }
    let database = read_database(&mut reader)?;
    Ok((database, reader.byte()?, reader))
}

/// Checks the version and returns the tag; the fields follow.
fn open(mut reader: Reader<'_>) -> Result<(u8, Reader<'_>), WireError> {
    match reader.byte()? {
        VERSION => Ok((reader.byte()?, reader)),
        other => Err(WireError::UnknownTag(other)),
    }
}

#[cfg(test)]
mod tests;
