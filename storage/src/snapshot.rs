//! Snapshot files: one a group, switched by a rename.
//!
//! `<group>.snap` is the current snapshot. A new one is written under a temporary name, synced and
//! renamed over it, so a crash leaves the one or the other. What a peer sends is kept under a name of
//! its own, `<group>-<index>-<term>.received`, from the moment when it is whole, verified and durable
//! until it is adopted or discarded: a second one may arrive before the replica has come to the first.
//!
//! ```text
//! file = magic, version, group, term, index, content length, CRC-32 of the content,
//!        CRC-32 of all before; content
//! ```

use crate::files::{make_directory, sync_directory};
use logboat_raft::{GroupId, Index, LogId, Term};
use parking_lot::Mutex;
use rustix::fs::fdatasync;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: [u8; 8] = *b"LOGBOATS";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 52;
const COPY_BYTES: usize = 64 << 10;

const CURRENT: &str = "snap";
const RECEIVED: &str = "received";
const TEMPORARY: &str = "tmp";

/// Why a snapshot can't be written, read or taken over.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is not what was written.
    #[error("{}: {what}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The group has a snapshot that covers as much or more.
    #[error("group {group} already has a snapshot up to {current}")]
    Superseded {
        /// The group.
        group: GroupId,
        /// The last entry of the current snapshot.
        current: LogId,
    },
    /// Nothing of the kind was received.
    #[error("no snapshot of group {group} up to {last} was received")]
    NotReceived {
        /// The group.
        group: GroupId,
        /// The last entry that it should cover.
        last: LogId,
    },
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
}

/// What is known of a snapshot without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The last entry that it covers.
    pub last: LogId,
    /// The size of the whole file in bytes, which is what a peer is sent.
    pub bytes: u64,
}

/// The snapshots of all groups of a node. A cheap handle, whose clones are the same store; methods
/// may be called from any thread and block on the disk, but for [`Self::latest`] and
/// [`Self::received`].
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    known: Mutex<Known>,
    /// Makes temporary names differ.
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    current: HashMap<GroupId, SnapshotInfo>,
    received: HashMap<(GroupId, LogId), SnapshotInfo>,
}

impl SnapshotStore {
    /// Opens the store in a directory, making it if need be. Removes what a crash left unfinished
    /// and reads headers; contents are checked when they are read. A file that is torn or whose
    /// header is damaged is logged as an error and left alone, as if it were not there.
    ///
    /// # Errors
    /// When the directory can't be made or read.
    pub fn open(directory: &Path) -> Result<Self, SnapshotError> {
        let shared = Shared {
            directory: directory.to_owned(),
            known: Mutex::default(),
            next: AtomicU64::new(0),
        };
        shared.scan().map_err(|source| SnapshotError::Io { path: directory.to_owned(), source })?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The group's current snapshot.
    #[must_use]
    pub fn latest(&self, group: GroupId) -> Option<SnapshotInfo> {
        self.shared.known.lock().current.get(&group).copied()
    }

    /// The snapshot up to `last` that was received for the group and neither adopted nor discarded.
    #[must_use]
    pub fn received(&self, group: GroupId, last: LogId) -> Option<SnapshotInfo> {
        self.shared.known.lock().received.get(&(group, last)).copied()
    }

    /// Begins a snapshot of this node's own state, up to `last`.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn create(&self, group: GroupId, last: LogId) -> Result<SnapshotWriter, SnapshotError> {
        let mut temporary = self.shared.temporary(group)?;
        // The header comes last, when length and checksum are known.
        temporary.write(&[0; HEADER_BYTES])?;
        Ok(SnapshotWriter {
            temporary,
            group,
            last,
            content_bytes: 0,
            crc: crc32fast::Hasher::new(),
        })
    }

    /// Verifies all of the group's current snapshot and opens its content.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when it is not what was written.
    pub fn read(&self, group: GroupId) -> Result<Option<(LogId, SnapshotReader)>, SnapshotError> {
        let Some(info) = self.latest(group) else {
            return Ok(None);
        };
        let path = self.shared.path(group, CURRENT);
        let (header, mut file) = open_verified(&path, group)?;
        let start = SeekFrom::Start(HEADER_BYTES as u64);
        file.seek(start).map_err(|e| failure(&path, e))?;
        debug_assert!(header.last.index >= info.last.index, "it only goes forward");
        let content = BufReader::with_capacity(COPY_BYTES, file.take(header.content_bytes));
        Ok(Some((header.last, SnapshotReader { content })))
    }

    /// Opens the whole file of the group's current snapshot, header and checksum included, as a
    /// peer is to be sent it for [`Self::receive`]. The peer verifies it. The file stays readable
    /// when a newer snapshot takes its place.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn file(&self, group: GroupId) -> Result<Option<(SnapshotInfo, File)>, SnapshotError> {
        if self.latest(group).is_none() {
            return Ok(None);
        }
        let path = self.shared.path(group, CURRENT);
        let (header, file) = open_header(&path, group)?;
        Ok(Some((header.info(), file)))
    }

    /// Begins to receive the whole file, `total_bytes` long, of a peer's snapshot up to `last`.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn receive(
        &self,
        group: GroupId,
        last: LogId,
        total_bytes: u64,
    ) -> Result<SnapshotReceiver, SnapshotError> {
        Ok(SnapshotReceiver {
            temporary: self.shared.temporary(group)?,
            group,
            last,
            total_bytes,
            left_bytes: total_bytes,
        })
    }

    /// Makes the received snapshot the current one, atomically. Done already is done, so that it
    /// can be repeated after a crash.
    ///
    /// # Errors
    /// [`SnapshotError::NotReceived`] when no snapshot up to `last` was received;
    /// [`SnapshotError::Superseded`] when the current one covers more.
    pub fn adopt(&self, group: GroupId, last: LogId) -> Result<SnapshotInfo, SnapshotError> {
        let mut known = self.shared.known.lock();
        let current = known.current.get(&group).copied();
        if let Some(current) = current.filter(|current| current.last == last) {
            return Ok(current);
        }
        let info = known.received.get(&(group, last)).copied();
        let info = info.ok_or(SnapshotError::NotReceived { group, last })?;
        let path = self.shared.received_path(group, last);
        self.shared.make_current(&mut known, group, info, &path)?;
        known.received.remove(&(group, last));
        Ok(info)
    }

    /// Removes the snapshot up to `last` that was received for the group and not adopted, if it is
    /// there.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub fn discard(&self, group: GroupId, last: LogId) -> Result<(), SnapshotError> {
        let mut known = self.shared.known.lock();
        if known.received.remove(&(group, last)).is_some() {
            let path = self.shared.received_path(group, last);
            fs::remove_file(&path).map_err(|e| failure(&path, e))?;
        }
        Ok(())
    }
}

/// A snapshot being written; its content goes in by [`Write`]. Dropped unfinished, it leaves
/// nothing.
#[derive(Debug)]
pub struct SnapshotWriter {
    temporary: Temporary,
    group: GroupId,
    last: LogId,
    content_bytes: u64,
    crc: crc32fast::Hasher,
}

impl SnapshotWriter {
    /// Makes the snapshot durable and the group's current one.
    ///
    /// # Errors
    /// [`SnapshotError::Superseded`] when there is one as new by now; when the disk refuses. The
    /// previous snapshot stays.
    pub fn finish(self) -> Result<SnapshotInfo, SnapshotError> {
        let header = Header {
            group: self.group,
            last: self.last,
            content_bytes: self.content_bytes,
            crc: self.crc.finalize(),
        };
        let mut temporary = self.temporary;
        temporary.complete(Some(&header))?;
        let mut known = temporary.shared.known.lock();
        let shared = &temporary.shared;
        shared.make_current(&mut known, self.group, header.info(), &temporary.path)?;
        Ok(header.info())
    }
}

impl Write for SnapshotWriter {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        let written = self.temporary.file.write(content)?;
        self.crc.update(&content[..written]);
        self.content_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.file.flush()
    }
}

/// The content of a snapshot that was verified.
#[derive(Debug)]
pub struct SnapshotReader {
    content: BufReader<io::Take<File>>,
}

impl Read for SnapshotReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer)
    }
}

/// A peer's snapshot on its way in; the bytes of the whole file go in by [`Write`]. Dropped
/// unfinished, it leaves nothing.
#[derive(Debug)]
pub struct SnapshotReceiver {
    temporary: Temporary,
    group: GroupId,
    last: LogId,
    total_bytes: u64,
    left_bytes: u64,
}

impl SnapshotReceiver {
    /// Verifies the file from end to end and makes it durable. [`SnapshotStore::adopt`] makes it
    /// current.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when it is not whole or not the one announced; when the disk
    /// refuses.
    pub fn finish(self) -> Result<SnapshotInfo, SnapshotError> {
        let mut temporary = self.temporary;
        temporary.complete(None)?;
        let damaged = |what: &str| SnapshotError::Damaged {
            file: temporary.path.clone(),
            what: what.to_owned(),
        };
        if self.left_bytes > 0 {
            return Err(damaged("the peer sent less than it announced"));
        }
        let (header, _) = open_verified(&temporary.path, self.group)?;
        let info = header.info();
        if info.last != self.last || info.bytes != self.total_bytes {
            return Err(damaged("the peer sent another snapshot than it announced"));
        }
        let shared = &temporary.shared;
        let mut known = shared.known.lock();
        let path = shared.received_path(self.group, self.last);
        shared.rename(&temporary.path, &path).map_err(|e| failure(&path, e))?;
        known.received.insert((self.group, info.last), info);
        Ok(info)
    }
}

impl Write for SnapshotReceiver {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left_bytes {
            let what = "the peer sent more of a snapshot than it announced";
            return Err(io::Error::new(ErrorKind::InvalidData, what));
        }
        let written = self.temporary.file.write(bytes)?;
        self.left_bytes -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.file.flush()
    }
}

impl Shared {
    fn scan(&self) -> io::Result<()> {
        make_directory(&self.directory)?;
        let mut known = self.known.lock();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            let group = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            match (group.map(GroupId), extension) {
                // What an earlier process received is offered again.
                (_, Some(TEMPORARY | RECEIVED)) => fs::remove_file(&path)?,
                (Some(group), Some(CURRENT)) => match open_header(&path, group) {
                    Ok((header, _)) => {
                        known.current.insert(group, header.info());
                    }
                    Err(error) => tracing::error!("a snapshot is ignored: {error}"),
                },
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self, group: GroupId, extension: &str) -> PathBuf {
        self.directory.join(format!("{group}.{extension}"))
    }

    fn received_path(&self, group: GroupId, last: LogId) -> PathBuf {
        let LogId { term, index } = last;
        self.directory.join(format!("{group}-{index}-{term}.{RECEIVED}"))
    }

    fn temporary(self: &Arc<Self>, group: GroupId) -> Result<Temporary, SnapshotError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{group}-{number}.{TEMPORARY}");
        let path = self.directory.join(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(|e| failure(&path, e))?;
        Ok(Temporary {
            shared: Arc::clone(self),
            file: BufWriter::with_capacity(COPY_BYTES, file),
            path,
        })
    }

    /// Renames a durable file over the group's current one, unless that is as new.
    fn make_current(
        &self,
        known: &mut Known,
        group: GroupId,
        info: SnapshotInfo,
        from: &Path,
    ) -> Result<(), SnapshotError> {
        if let Some(current) = known.current.get(&group).map(|current| current.last)
            && current.index >= info.last.index
        {
            return Err(SnapshotError::Superseded { group, current });
        }
        let path = self.path(group, CURRENT);
        self.rename(from, &path).map_err(|e| failure(&path, e))?;
        known.current.insert(group, info);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        sync_directory(&self.directory)
    }
}

/// A file under a temporary name, removed when it has not got another by the end.
#[derive(Debug)]
struct Temporary {
    shared: Arc<Shared>,
    file: BufWriter<File>,
    path: PathBuf,
}

impl Temporary {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let written = self.file.write_all(bytes);
        written.map_err(|e| failure(&self.path, e))
    }

    /// Writes out what is buffered, then the header, and makes it all durable.
    fn complete(&mut self, header: Option<&Header>) -> Result<(), SnapshotError> {
        let mut complete = || {
            self.file.flush()?;
            let file = self.file.get_ref();
            if let Some(header) = header {
                file.write_all_at(&header.encode(), 0)?;
            }
            Ok(fdatasync(file)?)
        };
        complete().map_err(|e| failure(&self.path, e))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing of this name, and a file that stays goes at the next
        // start.
        let _ = fs::remove_file(&self.path);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    group: GroupId,
    last: LogId,
    content_bytes: u64,
    crc: u32,
}

impl Header {
    const fn info(&self) -> SnapshotInfo {
        SnapshotInfo { last: self.last, bytes: HEADER_BYTES as u64 + self.content_bytes }
    }

    fn encode(&self) -> Vec<u8> {
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
fn open_header(path: &Path, group: GroupId) -> Result<(Header, File), SnapshotError> {
    let damaged = |what| SnapshotError::Damaged { file: path.to_owned(), what };
    let open = || {
        let file = File::open(path)?;
        let mut header = [0; HEADER_BYTES];
        let bytes = file.metadata()?.len();
        if bytes >= HEADER_BYTES as u64 {
            file.read_exact_at(&mut header, 0)?;
        }
        Ok((file, header, bytes))
    };
    let (file, header, bytes) = open().map_err(|e| failure(path, e))?;
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
fn open_verified(path: &Path, group: GroupId) -> Result<(Header, File), SnapshotError> {
    let (header, mut file) = open_header(path, group)?;
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
    let found = sum().map_err(|e| failure(path, e))?;
    if found != header.crc {
        return Err(SnapshotError::Damaged {
            file: path.to_owned(),
            what: "the content fails its checksum".to_owned(),
        });
    }
    Ok((header, file))
}

fn failure(path: &Path, source: io::Error) -> SnapshotError {
    SnapshotError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> LogId {
        LogId::new(Term(1), Index(index))
    }

    fn store(directory: &Path) -> SnapshotStore {
        SnapshotStore::open(directory).unwrap()
    }

    /// Streams a snapshot up to `index` from one store to another.
    fn stream(from: &SnapshotStore, to: &SnapshotStore, index: u64) {
        let mut writer = from.create(GroupId(1), id(index)).unwrap();
        writer.write_all(&[7; 100]).unwrap();
        writer.finish().unwrap();
        let (info, mut file) = from.file(GroupId(1)).unwrap().unwrap();
        let mut receiver = to.receive(GroupId(1), info.last, info.bytes).unwrap();
        io::copy(&mut file, &mut receiver).unwrap();
        receiver.finish().unwrap();
    }

    #[test]
    fn a_second_snapshot_leaves_the_first_one_that_waits_alone() {
        let (leader, follower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (leader, follower) = (store(leader.path()), store(follower.path()));
        stream(&leader, &follower, 13);
        stream(&leader, &follower, 26);
        assert_eq!(follower.adopt(GroupId(1), id(13)).unwrap().last, id(13));
        assert_eq!(follower.adopt(GroupId(1), id(26)).unwrap().last, id(26));
    }

    #[test]
    fn what_was_received_and_not_adopted_goes_at_the_next_start() {
        let (leader, follower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        stream(&store(leader.path()), &store(follower.path()), 13);
        assert!(fs::read_dir(follower.path()).unwrap().next().is_some());
        let restarted = store(follower.path());
        assert!(fs::read_dir(follower.path()).unwrap().next().is_none());
        assert!(restarted.adopt(GroupId(1), id(13)).is_err());
    }
}
