//! The encoding of queries.

use super::{build_in, in_database, open};
use crate::kv::message::{Query, Question};
use crate::kv::wire::{Reader, WireError, Writer};
use crate::layout::Partition;
use bytes::Bytes;

impl Query {
    /// Encodes it for database 0.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.encode_in(0)
    }

    /// Encodes it for a database.
    #[must_use]
    pub fn encode_in(&self, database: u8) -> Bytes {
        match self {
            Self::Get { key, limit_bytes } => up_to(database, 0, key, *limit_bytes),
            Self::GetMany { keys, limit_bytes } => build_in(database, 1, |w| {
                w.list(keys);
                w.varint(*limit_bytes);
            }),
            Self::Exists { keys } => build_in(database, 2, |w| w.list(keys)),
            Self::Length { key } => build_in(database, 3, |w| w.bytes(key)),
            Self::Slice { key, start, end, limit_bytes } => build_in(database, 4, |w| {
                w.bytes(key);
                w.signed(*start);
                w.signed(*end);
                w.varint(*limit_bytes);
            }),
            Self::Count => build_in(database, 5, |_| ()),
            Self::Usage { key } => build_in(database, 9, |w| w.bytes(key)),
            Self::Expiry { key } => build_in(database, 12, |w| w.bytes(key)),
            Self::Keyspace => build_in(database, 13, |_| ()),
            Self::Beginning { key, bytes } => up_to(database, 11, key, *bytes),
            Self::Random { partition, seed } => build_in(database, 10, |w| {
                write_partition(*partition, w);
                w.varint(*seed);
            }),
            Self::Scan { partition, from, until, count, pattern } => build_in(database, 6, |w| {
                write_partition(*partition, w);
                w.varint(*from);
                w.optional_number(*until);
                w.varint(*count);
                w.optional(pattern.as_ref());
            }),
            Self::Places { partition, from, until, after, pattern, limit_keys } => {
                build_in(database, 15, |w| {
                    write_partition(*partition, w);
                    w.varint(*from);
                    w.varint(*until);
                    w.optional(after.as_ref());
                    w.optional(pattern.as_ref());
                    w.varint(*limit_keys);
                })
            }
            Self::Keys { partition, after, pattern, limit_keys } => build_in(database, 7, |w| {
                write_partition(*partition, w);
                w.optional(after.as_ref());
                w.bytes(pattern);
                w.varint(*limit_keys);
            }),
            Self::Stretch { partition, start, after_start, end, limit_keys, with_names } => {
                build_in(database, 14, |w| {
                    write_partition(*partition, w);
                    w.bytes(start);
                    w.flag(*after_start);
                    w.optional(end.as_ref());
                    w.varint(*limit_keys);
                    w.flag(*with_names);
                })
            }
            Self::Ordered { partition, start, after_start, end, limit_pairs, limit_bytes } => {
                build_in(database, 8, |w| {
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

    fn read(tag: u8, r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match tag {
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
                partition: read_partition(r)?,
                from: r.varint()?,
                until: r.optional_number()?,
                count: r.varint()?,
                pattern: r.optional()?,
            },
            7 => Self::Keys {
                partition: read_partition(r)?,
                after: r.optional()?,
                pattern: r.bytes()?,
                limit_keys: r.varint()?,
            },
            8 => Self::Ordered {
                partition: read_partition(r)?,
                start: r.bytes()?,
                after_start: r.flag()?,
                end: r.optional()?,
                limit_pairs: r.varint()?,
                limit_bytes: r.varint()?,
            },
            9 => Self::Usage { key: r.bytes()? },
            12 => Self::Expiry { key: r.bytes()? },
            13 => Self::Keyspace,
            11 => Self::Beginning { key: r.bytes()?, bytes: r.varint()? },
            10 => Self::Random { partition: read_partition(r)?, seed: r.varint()? },
            15 => Self::Places {
                partition: read_partition(r)?,
                from: r.varint()?,
                until: r.varint()?,
                after: r.optional()?,
                pattern: r.optional()?,
                limit_keys: r.varint()?,
            },
            14 => Self::Stretch {
                partition: read_partition(r)?,
                start: r.bytes()?,
                after_start: r.flag()?,
                end: r.optional()?,
                limit_keys: r.varint()?,
                with_names: r.flag()?,
            },
            tag => return Err(WireError::UnknownTag(tag)),
        })
    }
}

impl Question {
    /// Decodes what [`Query::encode_in`] wrote.
    ///
    /// # Errors
    /// Anything else is refused with the reason.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        Self::read(Reader::copying(bytes))
    }

    /// Like [`decode`](Self::decode), but keys share the buffer of `bytes`.
    ///
    /// # Errors
    /// As there.
    pub fn decode_shared(bytes: &Bytes) -> Result<Self, WireError> {
        Self::read(Reader::sharing(bytes))
    }

    fn read(reader: Reader<'_>) -> Result<Self, WireError> {
        let (tag, reader) = open(reader)?;
        let (database, tag, mut r) = in_database(tag, reader)?;
        let query = Query::read(tag, &mut r)?;
        r.finish().map(|()| Self { database, query })
    }
}

/// A query for a value of a key, or for a part of it, of so many bytes at the most.
fn up_to(database: u8, tag: u8, key: &Bytes, bytes: u64) -> Bytes {
    build_in(database, tag, |w| {
        w.bytes(key);
        w.varint(bytes);
    })
}

fn write_partition(partition: Partition, writer: &mut Writer) {
    writer.byte(match partition {
        Partition::Hash => 0,
        Partition::Range => 1,
        Partition::Slots => 2,
    });
}

fn read_partition(reader: &mut Reader<'_>) -> Result<Partition, WireError> {
    match reader.byte()? {
        0 => Ok(Partition::Hash),
        1 => Ok(Partition::Range),
        2 => Ok(Partition::Slots),
        tag => Err(WireError::UnknownTag(tag)),
    }
}
