//! The bytes of a snapshot file, and how they are verified.

use super::disk::{SnapshotDisk, SnapshotFile};
use super::error::{SnapshotError, failure};
use logboat_raft::{Configuration, GroupId, Index, LogId, SnapshotMeta, Term};
use std::io::ErrorKind;
use std::path::Path;

const MAGIC: [u8; 8] = *b"LOGBOATS";
const VERSION: u32 = 2;
/// Bytes before the configuration.
const FIXED_BYTES: usize = 56;
const NO_SNAPSHOT: &str = "this is no Logboat snapshot";
/// The longest configuration that is believed.
const MAX_CONFIGURATION_BYTES: usize = 4 << 10;
pub(super) const COPY_BYTES: usize = 64 << 10;

/// What is known of a snapshot without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The last entry that it covers.
    pub last: LogId,
    /// The size of the whole file in bytes, which is what a peer is sent.
    pub bytes: u64,
}

/// What stands before the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) group: GroupId,
    pub(super) meta: SnapshotMeta,
    pub(super) content_bytes: u64,
    pub(super) crc: u32,
}

impl Header {
    pub(super) fn info(&self) -> SnapshotInfo {
        SnapshotInfo { last: self.meta.last, bytes: self.bytes() as u64 + self.content_bytes }
    }

    /// The length of the header, the configuration included.
    pub(super) fn bytes(&self) -> usize {
        FIXED_BYTES + self.meta.configuration.encode().len()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let configuration = self.meta.configuration.encode();
        let mut bytes = Vec::with_capacity(FIXED_BYTES + configuration.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.group.0.to_le_bytes());
        bytes.extend(self.meta.last.term.0.to_le_bytes());
        bytes.extend(self.meta.last.index.0.to_le_bytes());
        bytes.extend(self.content_bytes.to_le_bytes());
        bytes.extend(self.crc.to_le_bytes());
        bytes.extend((configuration.len() as u32).to_le_bytes());
        bytes.extend(checksum(&bytes, &configuration).to_le_bytes());
        bytes.extend(configuration);
        bytes
    }

    fn decode(fixed: &[u8; FIXED_BYTES], configuration: &[u8]) -> Result<Self, String> {
        if checksum(&fixed[..FIXED_BYTES - 4], configuration) != u32_at(fixed, 52) {
            return Err("the header fails its checksum".to_owned());
        }
        let configuration = Configuration::decode(configuration).map_err(|e| e.to_string())?;
        let last = LogId::new(Term(u64_at(fixed, 20)), Index(u64_at(fixed, 28)));
        Ok(Self {
            group: GroupId(u64_at(fixed, 12)),
            meta: SnapshotMeta { last, configuration: configuration.into() },
            content_bytes: u64_at(fixed, 36),
            crc: u32_at(fixed, 44),
        })
    }
}

/// The length of the configuration that stands behind these bytes. They are not verified yet.
fn configuration_bytes(fixed: &[u8; FIXED_BYTES]) -> Result<usize, String> {
    if fixed[..8] != MAGIC {
        return Err(NO_SNAPSHOT.to_owned());
    }
    if u32_at(fixed, 8) != VERSION {
        return Err(format!("format version {} instead of {VERSION}", u32_at(fixed, 8)));
    }
    let bytes = u32_at(fixed, 48) as usize;
    if bytes > MAX_CONFIGURATION_BYTES {
        return Err("the header fails its checksum".to_owned());
    }
    Ok(bytes)
}

/// What the header's checksum is: of all that stands before it, and of the configuration.
fn checksum(before: &[u8], configuration: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(before);
    crc.update(configuration);
    crc.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Opens a file, checks its header and its length, and leaves it at the beginning.
pub(super) fn open_header<D: SnapshotDisk>(
    disk: &D,
    name: &str,
    group: GroupId,
) -> Result<(Header, D::File), SnapshotError> {
    let path = disk.path(name);
    let mut file = disk.open(name).map_err(|error| failure(path.clone(), error))?;
    let header = read_header(&mut file, &path, group)?;
    Ok((header, file))
}

/// Checks the header and the length of an open file, and leaves it at the beginning.
pub(super) fn read_header<F: SnapshotFile>(
    file: &mut F,
    path: &Path,
    group: GroupId,
) -> Result<Header, SnapshotError> {
    let damaged = |what| SnapshotError::Damaged { file: path.to_owned(), what };
    let failed = |error| failure(path.to_owned(), error);
    file.rewind().map_err(failed)?;
    let bytes = file.size_bytes().map_err(failed)?;
    let mut read = |bytes: &mut [u8]| match file.read_exact(bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(damaged(NO_SNAPSHOT.to_owned()))
        }
        other => other.map_err(failed),
    };
    let mut fixed = [0; FIXED_BYTES];
    read(&mut fixed)?;
    let mut configuration = vec![0; configuration_bytes(&fixed).map_err(damaged)?];
    read(&mut configuration)?;
    file.rewind().map_err(failed)?;
    let header = Header::decode(&fixed, &configuration).map_err(damaged)?;
    if header.group != group {
        return Err(damaged(format!("it is of group {}", header.group)));
    }
    if header.content_bytes.checked_add(header.bytes() as u64) != Some(bytes) {
        return Err(damaged(format!("{bytes} bytes for a content of {}", header.content_bytes)));
    }
    Ok(header)
}
