//! What a copy of a group holds: how many keys, and which.

use crate::kv::{Entry, SnapshotReader};
use crate::layout::Partition;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::ops::AddAssign;
use xxhash_rust::xxh3::Xxh3;

/// Room for what is read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// The keys of a copy that had not expired when it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// How many there are.
    pub(crate) keys: u64,
    /// How many of them expire some day.
    pub(crate) expiring: u64,
    /// How many each database has.
    pub(crate) databases: BTreeMap<u8, u64>,
    /// The sum of the checksums of all keys with their databases, values and deadlines. It is the
    /// same for the same keys, however they are spread over groups.
    pub(crate) digest: Checksum,
}

impl Tally {
    fn add(&mut self, database: u8, key: &[u8], entry: &Entry) {
        self.keys += 1;
        self.expiring += u64::from(entry.expires());
        *self.databases.entry(database).or_default() += 1;
        let mut hasher = Xxh3::new();
        hasher.update(&[database]);
        for bytes in [key, &entry.value] {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
        hasher.update(&entry.deadline_ms.to_le_bytes());
        self.digest.0 = self.digest.0.wrapping_add(hasher.digest128());
    }
}

impl AddAssign<&Self> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.keys += other.keys;
        self.expiring += other.expiring;
        for (database, keys) in &other.databases {
            *self.databases.entry(*database).or_default() += keys;
        }
        self.digest.0 = self.digest.0.wrapping_add(other.digest.0);
    }
}

/// A checksum of 128 bits (XXH3), in hexadecimal digits where it is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Checksum(pub(crate) u128);

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

impl TryFrom<String> for Checksum {
    type Error = std::num::ParseIntError;

    fn try_from(digits: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&digits, 16).map(Self)
    }
}

/// Reads a copy to its end and hands each key that had not expired to `each`, with its database.
/// Keys are as they were stored. Returns the clock of the group, in milliseconds since 1970.
pub(crate) fn read_copy(
    copy: &mut dyn Read,
    mut each: impl FnMut(u8, &[u8], Entry) -> io::Result<()>,
) -> io::Result<u64> {
    let mut buffered = BufReader::with_capacity(BUFFER_BYTES, copy);
    let mut reader = SnapshotReader::new(&mut buffered)?;
    let clock_ms = reader.clock_ms();
    while let Some(database) = reader.next_database()? {
        let database = u8::try_from(database).map_err(io::Error::other)?;
        while let Some((key, entry)) = reader.next_entry()? {
            if entry.is_there_at(clock_ms) {
                each(database, &key, entry)?;
            }
        }
    }
    Ok(clock_ms)
}

/// Reads a copy to its end, and says what it holds and what the clock of the group was.
pub(crate) fn tally(copy: &mut dyn Read, partition: Partition) -> io::Result<(Tally, u64)> {
    let mut tally = Tally::default();
    let clock_ms = read_copy(copy, |database, key, entry| {
        tally.add(database, partition.client_key(key), &entry);
        Ok(())
    })?;
    Ok((tally, clock_ms))
}

/// Passes bytes on, and keeps their number and their checksum.
pub(crate) struct Summed<R> {
    inner: R,
    hasher: Xxh3,
    pub(crate) bytes: u64,
}

impl<R> Summed<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hasher: Xxh3::new(), bytes: 0 }
    }

    /// Where the bytes come from.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// Of all bytes so far.
    pub(crate) fn checksum(&self) -> Checksum {
        Checksum(self.hasher.digest128())
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Command, Deadline, ExpireIf, Proposal, Store};
    use bytes::Bytes;

    fn copy_of(store: &Store) -> Vec<u8> {
        let mut copy = Vec::new();
        store.snapshot()(&mut copy).unwrap();
        copy
    }

    /// A store with these keys in databases 0 and 3, laid out by `partition`.
    fn store_with(partition: Partition, keys: &[&str]) -> Store {
        let mut store = Store::new();
        for database in [0, 3] {
            let pair = |key: &&str| (partition.stored(key.as_bytes()), Bytes::from("value"));
            let pairs = keys.iter().map(pair).collect();
            let command = Command::SetMany { pairs, only_if_missing: false };
            store.apply(&command.encode_in(database));
        }
        store
    }

    fn tally_of(store: &Store, partition: Partition) -> Tally {
        tally(&mut &copy_of(store)[..], partition).unwrap().0
    }

    #[test]
    fn equal_keys_have_an_equal_digest_however_they_are_spread() {
        let whole = tally_of(&store_with(Partition::Slots, &["a", "b", "c"]), Partition::Slots);
        assert_eq!((whole.keys, whole.expiring), (6, 0));
        assert_eq!(whole.databases, BTreeMap::from([(0, 3), (3, 3)]));
        let mut spread = Tally::default();
        for keys in [&["c"][..], &["b", "a"]] {
            spread += &tally_of(&store_with(Partition::Range, keys), Partition::Range);
        }
        assert_eq!(spread, whole);
        let other = tally_of(&store_with(Partition::Slots, &["a", "b", "d"]), Partition::Slots);
        assert_ne!(other.digest, whole.digest);
    }

    #[test]
    fn what_had_expired_and_was_not_swept_does_not_count() {
        let mut store = store_with(Partition::Range, &["a", "b"]);
        let (key, condition) = (Bytes::from("b"), ExpireIf::default());
        let command = Command::Expire { key, deadline: Deadline::At(2_000), condition };
        store.apply(&Proposal { stamp_ms: Some(1_000), database: 3, command }.encode());
        let before = tally_of(&store, Partition::Range);
        assert_eq!((before.keys, before.expiring), (4, 1));
        // A time in the log that removes nothing: the sweep looks at what its budget allows.
        let mut copy = copy_of(&store);
        copy[8..16].copy_from_slice(&2_000_u64.to_le_bytes());
        let (after, clock_ms) = tally(&mut &copy[..], Partition::Range).unwrap();
        assert_eq!((after.keys, after.expiring, clock_ms), (3, 0, 2_000));
    }

    #[test]
    fn checksums_are_written_in_digits() {
        let checksum = Checksum(0xfe);
        let text = serde_json::to_string(&checksum).unwrap();
        assert_eq!(text, format!("\"{}fe\"", "0".repeat(30)));
        assert_eq!(serde_json::from_str::<Checksum>(&text).unwrap(), checksum);
        serde_json::from_str::<Checksum>("\"xyz\"").unwrap_err();
    }
}
