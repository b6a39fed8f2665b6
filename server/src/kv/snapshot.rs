//! The format of a snapshot: a magic word with the version, the clock of the group, then the
//! databases that are not empty. Each has its number, the number of its entries, then each key and
//! value with its length, and the deadline of the key. A last number that is no database's ends the
//! snapshot. Numbers, times and lengths are 64-bit little-endian. Checksums are left to the
//! snapshot store.
//!
//! Version 1 knew database 0 alone: the number of its entries and the entries follow its magic.

use super::clock::{LATEST_MS, NEVER};
use super::key::Key;
use super::keys::Entry;
use super::message::DATABASES;
use bytes::Bytes;
use std::io::{self, Read, Write};

/// Writes one captured state.
pub type SnapshotWriter = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

const MAGIC: [u8; 8] = *b"logbKV\x00\x02";

/// The magic word of version 1.
const MAGIC_1: [u8; 8] = *b"logbKV\x00\x01";

/// Stands behind the last database.
const END: u64 = u64::MAX;

/// Writes what stands before the databases.
pub(crate) fn write_head(writer: &mut dyn Write, clock_ms: u64) -> io::Result<()> {
    writer.write_all(&MAGIC)?;
    writer.write_all(&clock_ms.to_le_bytes())
}

/// Writes what stands before the entries of a database that is not empty.
pub(crate) fn write_database(writer: &mut dyn Write, number: usize, count: u64) -> io::Result<()> {
    writer.write_all(&(number as u64).to_le_bytes())?;
    writer.write_all(&count.to_le_bytes())
}

pub(crate) fn write_entry(writer: &mut dyn Write, key: &[u8], entry: &Entry) -> io::Result<()> {
    for bytes in [key, &entry.value] {
        writer.write_all(&(bytes.len() as u64).to_le_bytes())?;
        writer.write_all(bytes)?;
    }
    writer.write_all(&entry.deadline_ms.to_le_bytes())
}

/// Writes what stands behind the last database.
pub(crate) fn write_end(writer: &mut dyn Write) -> io::Result<()> {
    writer.write_all(&END.to_le_bytes())
}

/// Reads a snapshot entry by entry.
pub(crate) struct SnapshotReader<'a> {
    reader: &'a mut dyn Read,
    clock_ms: u64,
    is_first_version: bool,
    /// The last database that was begun.
    database: Option<usize>,
    /// How many of its entries are left.
    left: u64,
    /// The last key of it.
    last: Option<Key>,
}

impl<'a> SnapshotReader<'a> {
    /// Reads what stands before the databases.
    pub(crate) fn new(reader: &'a mut dyn Read) -> io::Result<Self> {
        let mut magic = [0; 8];
        reader.read_exact(&mut magic)?;
        let (is_first_version, clock_ms) = match magic {
            MAGIC => (false, read_number(reader)?),
            MAGIC_1 => (true, 0),
            _ => {
                let what = "not a snapshot of the key-value store, or of another version";
                return Err(invalid(what));
            }
        };
        if clock_ms > LATEST_MS {
            return Err(invalid("the clock of the snapshot shows what no clock does"));
        }
        Ok(Self { reader, clock_ms, is_first_version, database: None, left: 0, last: None })
    }

    /// The clock of the group.
    pub(crate) const fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// The next database that has entries, by its number, when those of the one before have been
    /// read. At the end it makes sure that nothing follows.
    pub(crate) fn next_database(&mut self) -> io::Result<Option<usize>> {
        let number = match (self.is_first_version, self.database) {
            (true, None) => 0,
            (true, Some(_)) => END,
            (false, _) => read_number(self.reader)?,
        };
        if number == END {
            return match self.reader.read(&mut [0])? {
                0 => Ok(None),
                _ => Err(invalid("bytes follow the end of the snapshot")),
            };
        }
        let known = usize::try_from(number).ok().filter(|it| *it < usize::from(DATABASES));
        let number =
            known.ok_or_else(|| invalid("the snapshot has a database of an unknown number"))?;
        if self.database.is_some_and(|last| last >= number) {
            return Err(invalid("the databases of the snapshot are out of order"));
        }
        (self.left, self.last) = (read_number(self.reader)?, None);
        if self.left == 0 && !self.is_first_version {
            return Err(invalid("the snapshot has a database without entries"));
        }
        self.database = Some(number);
        Ok(self.database)
    }

    /// The next entry of the database.
    pub(crate) fn next_entry(&mut self) -> io::Result<Option<(Key, Entry)>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let key = Key::from(&read_bytes(self.reader)?[..]);
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(invalid("the keys of the snapshot are out of order"));
        }
        self.last = Some(key.clone());
        let value = read_bytes(self.reader)?;
        let deadline_ms = if self.is_first_version { NEVER } else { read_number(self.reader)? };
        Ok(Some((key, Entry { value, deadline_ms })))
    }
}

fn read_number(reader: &mut dyn Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Reads a length and that many bytes. The buffer grows with what arrives, not with the claim.
fn read_bytes(reader: &mut dyn Read) -> io::Result<Bytes> {
    let length = read_number(reader)?;
    let mut bytes = Vec::with_capacity(length.min(64 * 1024) as usize);
    reader.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the snapshot ends too early"));
    }
    bytes.shrink_to_fit();
    Ok(Bytes::from(bytes))
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Deadline, ExpireIf, Proposal, Store};
    use super::*;

    fn sample() -> Store {
        let mut store = Store::new();
        let pair = |i: u32| (Bytes::from(format!("k{i}")), Bytes::from(vec![7; i as usize]));
        let pairs = (0..100).map(pair).collect();
        let command = Command::SetMany { pairs, only_if_missing: false };
        store.apply(&command.encode());
        store.apply(&command.encode_in(7));
        let deadline = Deadline::At(2_000_000_000_000);
        let (key, condition) = (Bytes::from("k7"), ExpireIf::default());
        let command = Command::Expire { key, deadline, condition };
        store.apply(&Proposal { stamp_ms: Some(1_000), database: 7, command }.encode());
        store
    }

    fn written(store: &Store) -> Vec<u8> {
        let mut bytes = Vec::new();
        store.snapshot()(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_snapshot_is_the_state_at_its_capture() {
        let mut store = sample();
        let before = written(&store);
        let writer = store.snapshot();
        store.apply(&Command::ClearAll.encode());
        let mut bytes = Vec::new();
        writer(&mut bytes).unwrap();
        assert_eq!(bytes, before);
        store.restore(&mut &bytes[..]).unwrap();
        assert_eq!(written(&store), before);
    }

    #[test]
    fn damaged_snapshots_are_refused_and_change_nothing() {
        let bytes = written(&sample());
        let mut trailing = bytes.clone();
        trailing.push(0);
        let mut claims = bytes.clone();
        claims[32..40].fill(0xff);
        let mut foreign = bytes.clone();
        foreign[7] = 9;
        let mut store = sample();
        let mut beyond = bytes.clone();
        beyond[16] = DATABASES;
        let mut late = bytes.clone();
        late[8..16].fill(0xff);
        let cut = &bytes[..bytes.len() - 1];
        for damaged in [cut, &trailing, &claims, &foreign, &beyond, &late, &[]] {
            store.restore(&mut &damaged[..]).unwrap_err();
            assert_eq!(written(&store), bytes);
        }
    }

    #[test]
    fn snapshots_of_the_first_version_are_read() {
        let mut bytes = b"logbKV\x00\x01".to_vec();
        bytes.extend(1_u64.to_le_bytes());
        for word in [b"k", b"v"] {
            bytes.extend(1_u64.to_le_bytes());
            bytes.extend(word);
        }
        let mut store = sample();
        store.restore(&mut &bytes[..]).unwrap();
        let mut expected = Store::new();
        let pairs = vec![(Bytes::from("k"), Bytes::from("v"))];
        expected.apply(&Command::SetMany { pairs, only_if_missing: false }.encode());
        assert_eq!(written(&store), written(&expected));
    }
}
