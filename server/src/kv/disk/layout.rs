//! How keys, values and notes are written.

use crate::kv::clock::{LATEST_MS, NEVER};
use crate::kv::key::Key;
use crate::kv::keys::Entry;
use crate::kv::message::DATABASES;
use crate::kv::wire::{Reader, WireError, Writer};
use bytes::{BufMut, Bytes, BytesMut};
use logboat::GroupId;
use logboat::state::{Namespace, StateBatch, StateError};
use std::ops::Bound;
use std::path::PathBuf;

/// What stands before a key.
const DATA: u8 = 0;

/// What stands before a deadline.
const DEADLINE: u8 = 1;

/// The first byte of a value whose key does not expire, and of one that begins with a deadline.
const ENDLESS: u8 = 0;
const EXPIRING: u8 = 1;

/// The version of notes.
const VERSION: u8 = 1;

/// A key in its namespace.
pub(super) fn data_key(key: &[u8]) -> Bytes {
    [&[DATA], key].concat().into()
}

/// The stored key of one in its namespace.
pub(super) fn key_of(data_key: &[u8]) -> Key {
    Key::from(data_key.get(1..).unwrap_or_default())
}

/// A stretch of keys in their namespace.
pub(super) fn data_range(
    (start, end): (Bound<&[u8]>, Bound<&[u8]>),
) -> (Bound<Bytes>, Bound<Bytes>) {
    let start = match start {
        Bound::Unbounded => Bound::Included(data_key(b"")),
        start => start.map(data_key),
    };
    let end = match end {
        Bound::Unbounded => Bound::Excluded(Bytes::from_static(&[DEADLINE])),
        end => end.map(data_key),
    };
    (start, end)
}

/// A deadline in its namespace.
pub(super) fn deadline_key(deadline_ms: u64, key: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(9 + key.len());
    bytes.put_u8(DEADLINE);
    bytes.put_u64(deadline_ms);
    bytes.put_slice(key);
    bytes.freeze()
}

/// The deadlines from this time on.
pub(super) fn deadlines_from(start_ms: u64) -> (Bound<Bytes>, Bound<Bytes>) {
    (Bound::Included(deadline_key(start_ms, b"")), Bound::Unbounded)
}

/// The deadline and the key of a deadline in its namespace.
pub(super) fn deadline_of(deadline_key: &[u8]) -> Option<(u64, Key)> {
    let (deadline, key) = deadline_key.get(1..)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*deadline), Key::from(key)))
}

pub(super) fn encode_entry(entry: &Entry) -> Bytes {
    let mut bytes = BytesMut::with_capacity(9 + entry.value.len());
    if entry.expires() {
        bytes.put_u8(EXPIRING);
        bytes.put_u64(entry.deadline_ms);
    } else {
        bytes.put_u8(ENDLESS);
    }
    bytes.put_slice(&entry.value);
    bytes.freeze()
}

pub(super) fn decode_entry(mut bytes: Bytes) -> Result<Entry, StateError> {
    let head = match bytes.first() {
        Some(&ENDLESS) => 1,
        Some(&EXPIRING) if bytes.len() >= 9 => 9,
        _ => return Err(foreign("a value")),
    };
    let deadline = bytes.split_to(head)[1..].first_chunk().map(|it| u64::from_be_bytes(*it));
    Ok(Entry { value: bytes, deadline_ms: deadline.unwrap_or(NEVER) })
}

/// Something is there that no store writes.
pub(super) fn foreign(what: &str) -> StateError {
    let path = PathBuf::from("the tables");
    StateError::Damaged { path, what: format!("{what} is none of the key-value store") }
}

/// The key of what a group notes.
pub(super) fn note_of(group: GroupId) -> Bytes {
    Bytes::copy_from_slice(&group.0.to_be_bytes())
}

/// What a group notes of its databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Catalog {
    /// Whose applied entry is the group's.
    pub(super) root: Namespace,
    /// The clock of the group.
    pub(super) clock_ms: u64,
    /// The databases by their numbers, in ascending order.
    pub(super) databases: Vec<(u8, Listed)>,
}

/// What is noted of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Where it is.
    pub(super) namespace: Namespace,
    /// How many keys it has.
    pub(super) count: u64,
    /// How many of them expire.
    pub(super) expiring: u64,
}

impl Default for Catalog {
    /// That of a group of which nothing is noted.
    fn default() -> Self {
        Self { root: Namespace(0), clock_ms: 0, databases: Vec::new() }
    }
}

impl Catalog {
    /// All namespaces of the group.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = Namespace> {
        let databases = self.databases.iter().map(|(_, listed)| listed.namespace);
        databases.chain([self.root])
    }

    /// Deletes the namespaces of the group.
    pub(super) fn delete(&self, batch: &mut StateBatch) {
        self.namespaces().for_each(|namespace| batch.delete_namespace(namespace));
    }

    /// What is noted of a database.
    pub(super) fn database(&self, number: u8) -> Option<Listed> {
        let found = self.databases.iter().find(|(other, _)| *other == number);
        found.map(|(_, listed)| *listed)
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(16 + 16 * self.databases.len());
        writer.byte(VERSION);
        writer.varint(self.root.0);
        writer.varint(self.clock_ms);
        for (number, Listed { namespace, count, expiring }) in &self.databases {
            writer.byte(*number);
            [namespace.0, *count, *expiring].into_iter().for_each(|number| writer.varint(number));
        }
        writer.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        Self::read(&mut Reader::copying(bytes)).map_err(|_| foreign("the note of a group"))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match reader.byte()? {
            VERSION => {}
            other => return Err(WireError::UnknownTag(other)),
        }
        let (root, clock_ms) = (Namespace(reader.varint()?), reader.varint()?);
        if clock_ms > LATEST_MS {
            return Err(WireError::Overlong);
        }
        let mut databases: Vec<(u8, Listed)> = Vec::new();
        while !reader.rest().is_empty() {
            let number = reader.byte()?;
            let is_next = databases.last().is_none_or(|(last, _)| *last < number);
            if number >= DATABASES || !is_next {
                return Err(WireError::UnknownTag(number));
            }
            let namespace = Namespace(reader.varint()?);
            let (count, expiring) = (reader.varint()?, reader.varint()?);
            databases.push((number, Listed { namespace, count, expiring }));
        }
        Ok(Self { root, clock_ms, databases })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_and_deadlines_come_back(
            value in vec(any::<u8>(), 0..20),
            key in vec(any::<u8>(), 0..20),
            deadline_ms in prop_oneof![Just(NEVER), any::<u64>()],
        ) {
            let entry = Entry { value: value.into(), deadline_ms };
            prop_assert_eq!(decode_entry(encode_entry(&entry)).unwrap(), entry);
            let found = deadline_of(&deadline_key(deadline_ms, &key));
            prop_assert_eq!(found, Some((deadline_ms, Key::from(&key[..]))));
            prop_assert_eq!(&key_of(&data_key(&key))[..], &key);
        }

        #[test]
        fn notes_come_back_and_other_bytes_are_refused(
            numbers in proptest::collection::btree_set(0..DATABASES, 0..5),
            counts in any::<[u64; 3]>(),
            cut in 1..9usize,
        ) {
            let [namespace, count, expiring] = counts;
            let listed = Listed { namespace: Namespace(namespace), count, expiring };
            let databases = numbers.into_iter().map(|number| (number, listed)).collect();
            let catalog = Catalog { root: Namespace(7), clock_ms: 9, databases };
            let bytes = catalog.encode();
            prop_assert_eq!(Catalog::decode(&bytes).unwrap(), catalog);
            let cut = &bytes[..bytes.len().saturating_sub(cut)];
            prop_assert!(Catalog::decode(cut).map_or(true, |it| it.encode() == cut));
        }
    }

    #[test]
    fn what_no_store_writes_is_refused() {
        for bytes in [&[][..], &[2, 0], &[EXPIRING, 1, 2]] {
            decode_entry(Bytes::copy_from_slice(bytes)).unwrap_err();
        }
        for bytes in
            [&[][..], &[2, 1, 1], &[1, 1, 1, 99, 1, 1, 1], &[1, 1, 1, 3, 1, 1, 1, 3, 1, 1, 1]]
        {
            Catalog::decode(bytes).unwrap_err();
        }
    }
}
