//! The format of a snapshot: a magic word with the version, the clock of the group, then the
//! databases that are not empty. Each has its number, the number of its entries, then each key and
//! value with its length, and the deadline of the key. A last number that is no database's ends the
//! snapshot. Numbers, times and lengths are 64-bit little-endian. Checksums are left to the
//! snapshot store.
//!
//! Version 1 knew database 0 alone: the number of its entries and the entries follow its magic.

use super::clock::{LATEST_MS, NEVER};
use super::entries::{Entry, Map};
use super::key::Key;
use super::message::ALL_DATABASES;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// Writes one captured state.
pub type SnapshotWriter = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

const MAGIC: [u8; 8] = *b"logbKV\x00\x02";

/// The magic word of version 1.
const MAGIC_1: [u8; 8] = *b"logbKV\x00\x01";

/// Stands behind the last database.
const END: u64 = u64::MAX;

/// What a snapshot holds.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) clock_ms: u64,
    /// By their numbers.
    pub(super) databases: BTreeMap<usize, Map>,
}

/// Writes a state. The databases may be empty.
pub(super) fn write(state: &State, writer: &mut dyn Write) -> io::Result<()> {
    writer.write_all(&MAGIC)?;
    writer.write_all(&state.clock_ms.to_le_bytes())?;
    for (number, entries) in state.databases.iter().filter(|(_, map)| !map.is_empty()) {
        writer.write_all(&(*number as u64).to_le_bytes())?;
        writer.write_all(&(entries.len() as u64).to_le_bytes())?;
        for (key, Entry { value, deadline_ms }) in entries {
            for bytes in [&key[..], value] {
                writer.write_all(&(bytes.len() as u64).to_le_bytes())?;
                writer.write_all(bytes)?;
            }
            writer.write_all(&deadline_ms.to_le_bytes())?;
        }
    }
    writer.write_all(&END.to_le_bytes())
}

pub(super) fn read(reader: &mut dyn Read) -> io::Result<State> {
    let mut magic = [0; 8];
    reader.read_exact(&mut magic)?;
    let state = match magic {
        MAGIC => {
            let clock_ms = read_number(reader)?;
            if clock_ms > LATEST_MS {
                return Err(invalid("the clock of the snapshot shows what no clock does"));
            }
            State { clock_ms, databases: read_databases(reader)? }
        }
        MAGIC_1 => {
            let entries = read_entries(reader, |_| Ok(NEVER))?;
            State { clock_ms: 0, databases: BTreeMap::from([(0, entries)]) }
        }
        _ => return Err(invalid("not a snapshot of the key-value store, or of another version")),
    };
    if reader.read(&mut [0])? != 0 {
        return Err(invalid("bytes follow the end of the snapshot"));
    }
    Ok(state)
}

fn read_databases(reader: &mut dyn Read) -> io::Result<BTreeMap<usize, Map>> {
    let mut databases = BTreeMap::new();
    loop {
        let number = match read_number(reader)? {
            END => return Ok(databases),
            number if number < u64::from(ALL_DATABASES) => number as usize,
            _ => return Err(invalid("the snapshot has a database of an unknown number")),
        };
        if databases.last_key_value().is_some_and(|(last, _)| *last >= number) {
            return Err(invalid("the databases of the snapshot are out of order"));
        }
        let entries = read_entries(reader, read_number)?;
        if entries.is_empty() {
            return Err(invalid("the snapshot has a database without entries"));
        }
        databases.insert(number, entries);
    }
}

/// Entries whose deadlines `read_deadline` reads.
fn read_entries(
    reader: &mut dyn Read,
    read_deadline: fn(&mut dyn Read) -> io::Result<u64>,
) -> io::Result<Map> {
    let count = read_number(reader)?;
    let mut entries = Map::new();
    for _ in 0..count {
        let key = Key::from(&read_bytes(reader)?[..]);
        if entries.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(invalid("the keys of the snapshot are out of order"));
        }
        let value = read_bytes(reader)?;
        let deadline_ms = read_deadline(reader)?;
        entries.insert(key, Entry { value, deadline_ms });
    }
    Ok(entries)
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

    fn maps(store: &Store) -> Vec<Map> {
        store.databases.iter().map(|entries| entries.map().clone()).collect()
    }

    fn written(store: &Store) -> Vec<u8> {
        let mut bytes = Vec::new();
        store.snapshot()(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_snapshot_is_the_state_at_its_capture() {
        let mut store = sample();
        let before = maps(&store);
        let writer = store.snapshot();
        store.apply(&Command::ClearAll.encode());
        let mut bytes = Vec::new();
        writer(&mut bytes).unwrap();
        store.restore(&mut &bytes[..]).unwrap();
        assert_eq!(maps(&store), before);
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
        let before = maps(&store);
        let mut beyond = bytes.clone();
        beyond[16] = ALL_DATABASES;
        let mut late = bytes.clone();
        late[8..16].fill(0xff);
        let cut = &bytes[..bytes.len() - 1];
        for damaged in [cut, &trailing, &claims, &foreign, &beyond, &late, &[]] {
            store.restore(&mut &damaged[..]).unwrap_err();
            assert_eq!(maps(&store), before);
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
        let entry = Entry { value: Bytes::from("v"), deadline_ms: NEVER };
        assert_eq!(*store.databases[0].map(), Map::from([(Key::from(&b"k"[..]), entry)]));
        assert!(store.databases[1..].iter().all(|entries| entries.map().is_empty()));
    }
}
