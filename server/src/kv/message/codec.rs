//! The binary encoding of commands, queries and answers.
//!
//! An encoding starts with [`VERSION`] and a tag; fields follow in the order of their declaration.
//! Commands end up in the log, so a tag or a field never changes its meaning: new needs get new
//! tags. Decoding is total and bounded by the length of the input.

use super::{Answer, Command, Condition, Failure, Query, VERSION};
use crate::kv::wire::{Reader, WireError, Writer};
use crate::layout::Partition;
use bytes::Bytes;

impl Command {
    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Set { key, value, condition, want_old } => {
                let mut writer = start(0, key.len() + value.len());
                writer.bytes(key);
                writer.bytes(value);
                condition.write(&mut writer);
                writer.flag(*want_old);
                writer.finish()
            }
            Self::Delete { keys } => build(1, |w| w.list(keys)),
            Self::Take { key } => build(2, |w| w.bytes(key)),
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
            Self::Increment { key, by } => build(5, |w| {
                w.bytes(key);
                w.signed(*by);
            }),
            Self::IncrementFloat { key, by } => build(6, |w| {
                w.bytes(key);
                w.bytes(by);
            }),
            Self::SetMany { pairs, only_if_missing } => build(7, |w| {
                w.pairs(pairs);
                w.flag(*only_if_missing);
            }),
            Self::Clear => build(8, |_| ()),
        }
    }

    /// Decodes what [`encode`](Self::encode) wrote.
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
        let (tag, mut r) = open(reader)?;
        let command = match tag {
            0 => Self::Set {
                key: r.bytes()?,
                value: r.bytes()?,
                condition: Condition::read(&mut r)?,
                want_old: r.flag()?,
            },
            1 => Self::Delete { keys: r.list()? },
            2 => Self::Take { key: r.bytes()? },
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
            tag => return Err(WireError::UnknownTag(tag)),
        };
        r.finish().map(|()| command)
    }
}

impl Query {
    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Get { key, limit_bytes } => build(0, |w| {
                w.bytes(key);
                w.varint(*limit_bytes);
            }),
            Self::GetMany { keys, limit_bytes } => build(1, |w| {
                w.list(keys);
                w.varint(*limit_bytes);
            }),
            Self::Exists { keys } => build(2, |w| w.list(keys)),
            Self::Length { key } => build(3, |w| w.bytes(key)),
            Self::Slice { key, start, end, limit_bytes } => build(4, |w| {
                w.bytes(key);
                w.signed(*start);
                w.signed(*end);
                w.varint(*limit_bytes);
            }),
            Self::Count => build(5, |_| ()),
            Self::Scan { partition, from, until, count, pattern } => build(6, |w| {
                write_partition(*partition, w);
                w.varint(*from);
                w.optional_number(*until);
                w.varint(*count);
                w.optional(pattern.as_ref());
            }),
            Self::Keys { partition, after, pattern, limit_keys } => build(7, |w| {
                write_partition(*partition, w);
                w.optional(after.as_ref());
                w.bytes(pattern);
                w.varint(*limit_keys);
            }),
            Self::Ordered { partition, start, after_start, end, limit_pairs, limit_bytes } => {
                build(8, |w| {
                    write_partition(*partition, w);
                    w.bytes(start);
                    w.flag(*after_start);
                    w.optional(end.as_ref());
                    w.varint(*limit_pairs);
                    w.varint(*limit_bytes);
                })
            }
        }
    }

    /// Decodes what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Anything else is refused with the reason.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (tag, mut r) = open(Reader::copying(bytes))?;
        let query = match tag {
            0 => Self::Get { key: r.bytes()?, limit_bytes: r.varint()? },
            1 => Self::GetMany { keys: r.list()?, limit_bytes: r.varint()? },
            2 => Self::Exists { keys: r.list()? },
            3 => Self::Length { key: r.bytes()? },
            4 => Self::Slice {
                key: r.bytes()?,
                start: r.signed()?,
                end: r.signed()?,
                limit_bytes: r.varint()?,
            },
            5 => Self::Count,
            6 => Self::Scan {
                partition: read_partition(&mut r)?,
                from: r.varint()?,
                until: r.optional_number()?,
                count: r.varint()?,
                pattern: r.optional()?,
            },
            7 => Self::Keys {
                partition: read_partition(&mut r)?,
                after: r.optional()?,
                pattern: r.bytes()?,
                limit_keys: r.varint()?,
            },
            8 => Self::Ordered {
                partition: read_partition(&mut r)?,
                start: r.bytes()?,
                after_start: r.flag()?,
                end: r.optional()?,
                limit_pairs: r.varint()?,
                limit_bytes: r.varint()?,
            },
            tag => return Err(WireError::UnknownTag(tag)),
        };
        r.finish().map(|()| query)
    }
}

impl Answer {
    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Done => build(0, |_| ()),
            Self::Integer(value) => build(1, |w| w.signed(*value)),
            Self::Value(value) => {
                let mut writer = start(2, value.as_ref().map_or(0, Bytes::len));
                writer.optional(value.as_ref());
                writer.finish()
            }
            Self::Values(values) => build(3, |w| {
                w.varint(values.len() as u64);
                for value in values {
                    w.optional(value.as_ref());
                }
            }),
            Self::Stored { done, old } => build(4, |w| {
                w.flag(*done);
                w.optional(old.as_ref());
            }),
            Self::Page { keys, examined, next } => build(5, |w| {
                w.list(keys);
                w.varint(*examined);
                w.optional_number(*next);
            }),
            Self::Listing { keys, last } => build(6, |w| {
                w.list(keys);
                w.optional(last.as_ref());
            }),
            Self::Pairs { pairs, more } => build(7, |w| {
                w.varint(pairs.len() as u64);
                for (key, value) in pairs {
                    w.bytes(key);
                    w.optional(value.as_ref());
                }
                w.flag(*more);
            }),
            Self::Failed(failure) => build(8, |w| w.byte(failure.code())),
            Self::Withheld { bytes } => build(9, |w| w.varint(*bytes)),
        }
    }

    /// Decodes what [`encode`](Self::encode) wrote. Values share the buffer of `bytes`.
    ///
    /// # Errors
    /// Anything else is refused with the reason.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let (tag, mut r) = open(Reader::sharing(bytes))?;
        let answer = match tag {
            0 => Self::Done,
            1 => Self::Integer(r.signed()?),
            2 => Self::Value(r.optional()?),
            3 => Self::Values(r.repeated(1, Reader::optional)?),
            4 => Self::Stored { done: r.flag()?, old: r.optional()? },
            5 => Self::Page { keys: r.list()?, examined: r.varint()?, next: r.optional_number()? },
            6 => Self::Listing { keys: r.list()?, last: r.optional()? },
            7 => Self::Pairs {
                pairs: r.repeated(2, |r| Ok((r.bytes()?, r.optional()?)))?,
                more: r.flag()?,
            },
            8 => Self::Failed(Failure::from_code(r.byte()?)?),
            9 => Self::Withheld { bytes: r.varint()? },
            tag => return Err(WireError::UnknownTag(tag)),
        };
        r.finish().map(|()| answer)
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

impl Failure {
    const fn code(self) -> u8 {
        match self {
            Self::Malformed => 0,
            Self::NotAnInteger => 1,
            Self::Overflow => 2,
            Self::NotAFloat => 3,
            Self::Infinite => 4,
            Self::TooLong => 5,
            Self::OutOfMemory => 6,
        }
    }

    const fn from_code(code: u8) -> Result<Self, WireError> {
        Ok(match code {
            0 => Self::Malformed,
            1 => Self::NotAnInteger,
            2 => Self::Overflow,
            3 => Self::NotAFloat,
            4 => Self::Infinite,
            5 => Self::TooLong,
            6 => Self::OutOfMemory,
            tag => return Err(WireError::UnknownTag(tag)),
        })
    }
}

fn write_partition(partition: Partition, writer: &mut Writer) {
    writer.byte(match partition {
        Partition::Hash => 0,
        Partition::Range => 1,
    });
}

fn read_partition(reader: &mut Reader<'_>) -> Result<Partition, WireError> {
    match reader.byte()? {
        0 => Ok(Partition::Hash),
        1 => Ok(Partition::Range),
        tag => Err(WireError::UnknownTag(tag)),
    }
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

/// Checks the version and returns the tag; the fields follow.
fn open(mut reader: Reader<'_>) -> Result<(u8, Reader<'_>), WireError> {
    match reader.byte()? {
        VERSION => Ok((reader.byte()?, reader)),
        other => Err(WireError::UnknownTag(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    fn optional() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::of(bytes())
    }

    fn pairs() -> impl Strategy<Value = Vec<(Bytes, Bytes)>> {
        vec((bytes(), bytes()), 0..5)
    }

    fn partition() -> impl Strategy<Value = Partition> {
        prop_oneof![Just(Partition::Hash), Just(Partition::Range)]
    }

    fn condition() -> impl Strategy<Value = Condition> {
        prop_oneof![
            Just(Condition::Always),
            Just(Condition::Missing),
            Just(Condition::Present),
            bytes().prop_map(Condition::Equals),
        ]
    }

    fn command() -> impl Strategy<Value = Command> {
        prop_oneof![
            (bytes(), bytes(), condition(), any::<bool>()).prop_map(
                |(key, value, condition, want_old)| Command::Set {
                    key,
                    value,
                    condition,
                    want_old
                }
            ),
            vec(bytes(), 0..5).prop_map(|keys| Command::Delete { keys }),
            bytes().prop_map(|key| Command::Take { key }),
            (bytes(), bytes(), any::<u64>()).prop_map(|(key, value, limit_bytes)| {
                Command::Append { key, value, limit_bytes }
            }),
            (bytes(), any::<u64>(), bytes(), any::<u64>()).prop_map(
                |(key, offset, value, limit_bytes)| Command::SetRange {
                    key,
                    offset,
                    value,
                    limit_bytes
                }
            ),
            (bytes(), any::<i64>()).prop_map(|(key, by)| Command::Increment { key, by }),
            (bytes(), bytes()).prop_map(|(key, by)| Command::IncrementFloat { key, by }),
            (pairs(), any::<bool>())
                .prop_map(|(pairs, only_if_missing)| Command::SetMany { pairs, only_if_missing }),
            Just(Command::Clear),
        ]
    }

    fn query() -> impl Strategy<Value = Query> {
        prop_oneof![
            (bytes(), any::<u64>()).prop_map(|(key, limit_bytes)| Query::Get { key, limit_bytes }),
            (vec(bytes(), 0..5), any::<u64>())
                .prop_map(|(keys, limit_bytes)| Query::GetMany { keys, limit_bytes }),
            vec(bytes(), 0..5).prop_map(|keys| Query::Exists { keys }),
            bytes().prop_map(|key| Query::Length { key }),
            (bytes(), any::<i64>(), any::<i64>(), any::<u64>()).prop_map(
                |(key, start, end, limit_bytes)| Query::Slice { key, start, end, limit_bytes }
            ),
            Just(Query::Count),
            (
                partition(),
                any::<u64>(),
                proptest::option::of(any::<u64>()),
                any::<u64>(),
                optional()
            )
                .prop_map(|(partition, from, until, count, pattern)| Query::Scan {
                    partition,
                    from,
                    until,
                    count,
                    pattern
                }),
            (partition(), optional(), bytes(), any::<u64>()).prop_map(
                |(partition, after, pattern, limit_keys)| Query::Keys {
                    partition,
                    after,
                    pattern,
                    limit_keys
                }
            ),
            (partition(), bytes(), any::<bool>(), optional(), any::<u64>(), any::<u64>()).prop_map(
                |(partition, start, after_start, end, limit_pairs, limit_bytes)| {
                    Query::Ordered { partition, start, after_start, end, limit_pairs, limit_bytes }
                }
            ),
        ]
    }

    fn answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            Just(Answer::Done),
            any::<i64>().prop_map(Answer::Integer),
            optional().prop_map(Answer::Value),
            vec(optional(), 0..5).prop_map(Answer::Values),
            (any::<bool>(), optional()).prop_map(|(done, old)| Answer::Stored { done, old }),
            (vec(bytes(), 0..5), any::<u64>(), proptest::option::of(any::<u64>()))
                .prop_map(|(keys, examined, next)| Answer::Page { keys, examined, next }),
            (vec(bytes(), 0..5), optional())
                .prop_map(|(keys, last)| Answer::Listing { keys, last }),
            (vec((bytes(), optional()), 0..5), any::<bool>())
                .prop_map(|(pairs, more)| Answer::Pairs { pairs, more }),
            any::<u64>().prop_map(|bytes| Answer::Withheld { bytes }),
            (0..=6u8).prop_map(|code| Answer::Failed(Failure::from_code(code).unwrap())),
        ]
    }

    proptest! {
        #[test]
        fn commands_round_trip(command in command()) {
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command));
        }

        #[test]
        fn queries_round_trip(query in query()) {
            prop_assert_eq!(Query::decode(&query.encode()), Ok(query));
        }

        #[test]
        fn answers_round_trip(answer in answer()) {
            prop_assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }

        #[test]
        fn a_cut_command_is_refused(command in command(), cut in 1..8usize) {
            let bytes = command.encode();
            let cut = bytes.len().saturating_sub(cut);
            prop_assert!(Command::decode(&bytes[..cut]).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(tag in 0..12u8, tail in vec(any::<u8>(), 0..64)) {
            let mut bytes = vec![VERSION, tag];
            bytes.extend(tail);
            let bytes = Bytes::from(bytes);
            let _ = (Command::decode(&bytes), Query::decode(&bytes), Answer::decode(&bytes));
        }
    }

    #[test]
    fn a_claimed_count_allocates_nothing() {
        // A list of 2^62 items in a message of 11 bytes.
        let mut bytes = vec![VERSION, 1];
        bytes.extend([0x80; 8]);
        bytes.push(0x40);
        assert_eq!(Command::decode(&bytes), Err(WireError::Truncated));
    }

    #[test]
    fn trailing_bytes_and_foreign_versions_are_refused() {
        let mut bytes = Command::Clear.encode().to_vec();
        bytes.push(0);
        assert_eq!(Command::decode(&bytes), Err(WireError::TrailingBytes));
        assert_eq!(Command::decode(&[9, 8]), Err(WireError::UnknownTag(9)));
    }
}
