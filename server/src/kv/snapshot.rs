//! The format of a snapshot: a magic word with the version, the number of entries, then each key
//! and value with its length. Lengths are 64-bit little-endian. Checksums are left to the snapshot
//! store.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// Writes one captured state.
pub type SnapshotWriter = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

const MAGIC: [u8; 8] = *b"logbKV\x00\x01";

pub(super) fn write(entries: &BTreeMap<Bytes, Bytes>, writer: &mut dyn Write) -> io::Result<()> {
    writer.write_all(&MAGIC)?;
    writer.write_all(&(entries.len() as u64).to_le_bytes())?;
    for (key, value) in entries {
        for bytes in [key, value] {
            writer.write_all(&(bytes.len() as u64).to_le_bytes())?;
            writer.write_all(bytes)?;
        }
    }
    Ok(())
}

pub(super) fn read(reader: &mut dyn Read) -> io::Result<BTreeMap<Bytes, Bytes>> {
    let mut magic = [0; 8];
    reader.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(invalid("not a snapshot of the key-value store, or of another version"));
    }
    let count = read_number(reader)?;
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let key = read_bytes(reader)?;
        if entries.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(invalid("the keys of the snapshot are out of order"));
        }
        entries.insert(key, read_bytes(reader)?);
    }
    if reader.read(&mut [0])? != 0 {
        return Err(invalid("bytes follow the last entry of the snapshot"));
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
    use super::super::{Command, Store};
    use super::*;

    fn sample() -> Store {
        let mut store = Store::new();
        let pair = |i: u32| (Bytes::from(format!("k{i}")), Bytes::from(vec![7; i as usize]));
        let pairs = (0..100).map(pair).collect();
        store.apply(&Command::SetMany { pairs, only_if_missing: false }.encode());
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
        let before = store.entries.clone();
        let writer = store.snapshot();
        store.apply(&Command::Clear.encode());
        let mut bytes = Vec::new();
        writer(&mut bytes).unwrap();
        store.restore(&mut &bytes[..]).unwrap();
        assert_eq!(*store.entries, before);
    }

    #[test]
    fn damaged_snapshots_are_refused_and_change_nothing() {
        let bytes = written(&sample());
        let mut trailing = bytes.clone();
        trailing.push(0);
        let mut claims = bytes.clone();
        claims[16..24].fill(0xff);
        let mut foreign = bytes.clone();
        foreign[7] = 9;
        let mut store = sample();
        let before = store.entries.clone();
        for damaged in [&bytes[..bytes.len() - 1], &trailing, &claims, &foreign, &[]] {
            store.restore(&mut &damaged[..]).unwrap_err();
            assert_eq!(*store.entries, before);
        }
    }
}
