//! The encoding of answers.

use super::{build, open, read_database};
use crate::kv::message::{Answer, DatabaseSize, Expiry, Failure, VERSION};
use crate::kv::wire::{Reader, WireError, Writer};
use bytes::Bytes;

impl Answer {
    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Done => Bytes::from_static(&[VERSION, 0]),
            Self::Integer(value) => build(1, |w| w.signed(*value)),
            Self::Value(None) => Bytes::from_static(&[VERSION, 2, 0]),
            Self::Value(Some(value)) => {
                // Room that is left over would cost another allocation.
                let length_bytes = logboat_varint::bytes(value.len() as u64);
                let mut writer = Writer::with_capacity(3 + length_bytes + value.len());
                writer.byte(VERSION);
                writer.byte(2);
                writer.optional(Some(value));
                writer.finish()
            }
            Self::Values(values) => build(3, |w| {
                w.varint(values.len() as u64);
                for value in values {
                    w.optional(value.as_ref());
                }
            }),
            // Every replica makes this answer to every ordinary SET, and one of them sends it.
            Self::Stored { done: true, old: None } => Bytes::from_static(&[VERSION, 4, 1, 0]),
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
            Self::Stretch { keys, count, last } => build(13, |w| {
                w.list(keys);
                w.varint(*count);
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
            Self::Late => build(10, |_| ()),
            Self::Expiry(Expiry::Missing) => build(11, |w| w.byte(0)),
            Self::Expiry(Expiry::Never) => build(11, |w| w.byte(1)),
            Self::Expiry(Expiry::At { deadline_ms, left_ms }) => build(11, |w| {
                w.byte(2);
                w.varint(*deadline_ms);
                w.varint(*left_ms);
            }),
            Self::Keyspace(sizes) => build(12, |w| {
                w.varint(sizes.len() as u64);
                for DatabaseSize { database, keys, expiring } in sizes {
                    w.byte(*database);
                    w.varint(*keys);
                    w.varint(*expiring);
                }
            }),
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
            10 => Self::Late,
            11 => Self::Expiry(match r.byte()? {
                0 => Expiry::Missing,
                1 => Expiry::Never,
                2 => Expiry::At { deadline_ms: r.varint()?, left_ms: r.varint()? },
                tag => return Err(WireError::UnknownTag(tag)),
            }),
            12 => Self::Keyspace(r.repeated(3, |r| {
                let database = read_database(r)?;
                Ok(DatabaseSize { database, keys: r.varint()?, expiring: r.varint()? })
            })?),
            13 => Self::Stretch { keys: r.list()?, count: r.varint()?, last: r.optional()? },
            tag => return Err(WireError::UnknownTag(tag)),
        };
        r.finish().map(|()| answer)
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
            Self::NoSuchKey => 7,
        }
    }

    pub(super) const fn from_code(code: u8) -> Result<Self, WireError> {
        Ok(match code {
            0 => Self::Malformed,
            1 => Self::NotAnInteger,
            2 => Self::Overflow,
            3 => Self::NotAFloat,
            4 => Self::Infinite,
            5 => Self::TooLong,
            6 => Self::OutOfMemory,
            7 => Self::NoSuchKey,
            tag => return Err(WireError::UnknownTag(tag)),
        })
    }
}
