//! The bytes of a snapshot file, and how they are verified.

use super::disk::{SnapshotDisk, SnapshotFile};
use super::error::{SnapshotError, failure};
use logboat_raft::{GroupId, Index, LogId, Term};
use std::io::{Read, Seek, SeekFrom};

const MAGIC: [u8; 8] = *b"LOGBOATS";
const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 52;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) group: GroupId,
    pub(super) last: LogId,
    pub(super) content_bytes: u64,
    pub(super) crc: u32,
}

impl Header {
    pub(super) const fn info(&self) -> SnapshotInfo {
        SnapshotInfo { last: self.last, bytes: HEADER_BYTES as u64 + self.content_bytes }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.group.0.to_le_bytes());
        bytes.extend(self.last.term.0.to_le_bytes());
        bytes.extend(self.last.index.0.to_le_bytes());
        bytes.extend(self.content_bytes.to_le_bytes());
        bytes.extend(self.crc.to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, String> {
        let u32_at = |at: usize| {
            let mut number = [0; 4];
            number.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(number)
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[..8] != MAGIC {
            return Err("this is no Logboat snapshot".to_owned());
        }
        if crc32fast::hash(&bytes[..48]) != u32_at(48) {
            return Err("the header fails its checksum".to_owned());
        }
        if u32_at(8) != VERSION {
            return Err(format!("format version {} instead of {VERSION}", u32_at(8)));
        }
        Ok(Self {
            group: GroupId(u64_at(12)),
            last: LogId::new(Term(u64_at(20)), Index(u64_at(28))),
            content_bytes: u64_at(36),
            crc: u32_at(44),
        })
    }
}

/// Opens a file, checks its header and its length, and leaves it at the beginning.
pub(super) fn open_header<D: SnapshotDisk>(
    disk: &D,
    name: &str,
    group: GroupId,
) -> Result<(Header, D::File), SnapshotError> {
    let damaged = |what| SnapshotError::Damaged { file: disk.path(name), what };
    let open = || {
        let mut file = disk.open(name)?;
        let mut header = [0; HEADER_BYTES];
        let bytes = file.size_bytes()?;
        if bytes >= HEADER_BYTES as u64 {
            file.read_exact(&mut header)?;
            file.rewind()?;
        }
        Ok((file, header, bytes))
    };
    let (file, header, bytes) = open().map_err(|e| failure(disk.path(name), e))?;
    let header = Header::decode(&header).map_err(damaged)?;
    if header.group != group {
        return Err(damaged(format!("it is of group {}", header.group)));
    }
    if header.content_bytes.checked_add(HEADER_BYTES as u64) != Some(bytes) {
        return Err(damaged(format!("{bytes} bytes for a content of {}", header.content_bytes)));
    }
    Ok((header, file))
}

/// Opens a file after checking all of it; leaves it anywhere.
pub(super) fn open_verified<D: SnapshotDisk>(
    disk: &D,
    name: &str,
    group: GroupId,
) -> Result<(Header, D::File), SnapshotError> {
    let (header, mut file) = open_header(disk, name, group)?;
    let mut sum = || {
        let mut crc = crc32fast::Hasher::new();
        let mut buffer = vec![0; COPY_BYTES];
        file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(crc.finalize()),
                read => crc.update(&buffer[..read]),
            }
        }
    };
    let found = sum().map_err(|e| failure(disk.path(name), e))?;
    if found != header.crc {
        let what = "the content fails its checksum".to_owned();
        return Err(SnapshotError::Damaged { file: disk.path(name), what });
    }
    Ok((header, file))
}
