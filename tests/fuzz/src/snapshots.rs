//! Snapshot files: as they are found in a directory, and as a peer sends them.

use logboat_raft::{Configuration, GroupId, Index, LogId, NodeId, Term};
use logboat_storage::SnapshotStore;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

const GROUP: GroupId = GroupId(7);

/// Bytes of the header before the configuration.
const FIXED_BYTES: usize = 56;

/// Finds bytes as a snapshot file, and receives them as one. They come as they are, and behind a
/// header that fits, of which a bit may be flipped. Only what was written is read.
pub fn snapshots(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else {
        return;
    };
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let last = LogId::new(Term(3), Index(9));
    if mode & 1 == 0 {
        let _ = found(directory.path(), rest);
        let _ = received(directory.path(), last, rest);
        return;
    }
    let mut file = header(last, rest);
    file.extend_from_slice(rest);
    if mode & 2 == 0 {
        assert_eq!(found(directory.path(), &file).as_deref(), Some(rest));
    } else {
        let at = usize::from(*mode) * 37 % file.len();
        file[at] ^= 1 << (mode >> 5);
        assert_eq!(found(directory.path(), &file), None, "a snapshot of what nobody wrote");
        fs::remove_file(directory.path().join("7.snap")).expect("the file is there");
        assert!(received(directory.path(), last, &file).is_err());
    }
}

/// The content of the file in place, if it is a snapshot.
fn found(directory: &Path, file: &[u8]) -> Option<Vec<u8>> {
    fs::write(directory.join("7.snap"), file).expect("there is room for a file");
    let store = SnapshotStore::open(directory).expect("a damaged file is left alone");
    let (meta, mut reader) = store.read(GROUP).ok()??;
    let mut content = Vec::new();
    reader.read_to_end(&mut content).expect("a verified file can be read");
    let header = FIXED_BYTES + meta.configuration.encode().len();
    assert!(file.ends_with(&content) && file.len() == header + content.len());
    Some(content)
}

/// Takes the bytes in as a peer's snapshot and reads them back.
fn received(directory: &Path, last: LogId, file: &[u8]) -> io::Result<()> {
    let store = SnapshotStore::open(directory).map_err(io::Error::other)?;
    let receiver = store.receive(GROUP, last, file.len() as u64);
    let mut receiver = receiver.map_err(io::Error::other)?;
    receiver.write_all(file)?;
    receiver.finish().map_err(io::Error::other)?;
    assert_eq!(store.adopt(GROUP, last).map_err(io::Error::other)?.last, last);
    Ok(())
}

/// The header of a snapshot: magic, version, group, term, index, length and checksum of the
/// content, length of the configuration, checksum of all these and of the configuration, which
/// follows.
fn header(last: LogId, content: &[u8]) -> Vec<u8> {
    let mut bytes = b"LOGBOATS".to_vec();
    bytes.extend(2_u32.to_le_bytes());
    for number in [GROUP.0, last.term.0, last.index.0, content.len() as u64] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(crc32fast::hash(content).to_le_bytes());
    let configuration = Configuration::founding(&[NodeId(1), NodeId(2)], None).encode();
    bytes.extend((configuration.len() as u32).to_le_bytes());
    let crc = crc32fast::hash(&[&bytes[..], &configuration].concat());
    bytes.extend(crc.to_le_bytes());
    bytes.extend(configuration);
    bytes
}
