//! A directory in memory that crashes, fails and fills up on demand, for tests and simulation.

use super::{SnapshotDisk, SnapshotFile};
use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// The unit in which a crash keeps or loses what was written and not synced.
const PAGE_BYTES: usize = 512;

/// A simulated directory of snapshot files. Clones are the same directory, as one process uses it.
///
/// It keeps what is durable apart from what is only cached. When the power goes, any subset of the
/// unsynced pages and of the unsynced sizes stays, and any prefix of the unsynced changes of names.
#[derive(Clone, Debug, Default)]
pub struct SimSnapshotDisk {
    state: Arc<Mutex<State>>,
    /// The power cut after which the process began.
    run: u64,
}

#[derive(Debug, Default)]
struct State {
    /// As processes see them.
    names: Names,
    /// As a crash would leave them if it lost everything unsynced.
    durable_names: Names,
    unsynced: Vec<Change>,
    /// How often the power was cut.
    run: u64,
    /// How many operations are left until the power goes.
    left: Option<u64>,
    /// How many syncs are left until one fails.
    failing_sync: Option<u64>,
    full: bool,
    /// Whether there are no descriptors for files.
    no_descriptors: bool,
}

type Names = BTreeMap<String, Inode>;
type Inode = Arc<Mutex<Content>>;

/// An unsynced change of names.
#[derive(Debug)]
enum Change {
    Link(String, Inode),
    Rename(String, String),
    Remove(String),
}

/// What is in a file.
#[derive(Debug, Default)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl SimSnapshotDisk {
    /// Cuts the power. `keep` decides for each unsynced change of a name, size and page, in a fixed
    /// order, whether it reached the disk. All changes of names behind the first lost one are lost,
    /// too. Clones and open files of before get errors from now on.
    pub fn crash(&mut self, keep: impl FnMut() -> bool) {
        let mut state = self.state.lock();
        let names = state.after_crash(keep);
        let (run, full) = (state.run + 1, state.full);
        *state = State { durable_names: names.clone(), names, run, full, ..State::default() };
        self.run = run;
    }

    /// A directory of its own, as it would be after a power cut that loses all that is not synced.
    #[must_use]
    pub fn copy_durable(&self) -> Self {
        let names = self.state.lock().after_crash(|| false);
        let state = State { durable_names: names.clone(), names, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), run: 0 }
    }

    /// Has the power go instead of the `countdown`th operation from now on (1 is the next one), or
    /// of none.
    pub fn cut_at(&self, countdown: Option<u64>) {
        self.state.lock().left = countdown;
    }

    /// Whether the power is gone for whoever uses this directory.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        let state = self.state.lock();
        state.run != self.run || state.left == Some(0)
    }

    /// Makes the `countdown`th sync of a file or of the directory from now on fail (1 is the next
    /// one), or none. Pages that it should have covered pass for clean, and never reach the disk.
    pub fn fail_sync(&self, countdown: Option<u64>) {
        self.state.lock().failing_sync = countdown;
    }

    /// Takes no more bytes and no new files while this is so.
    pub fn fill(&self, full: bool) {
        self.state.lock().full = full;
    }

    /// Opens and makes no files while this is so, as in a process that has no descriptors left.
    pub fn refuse_files(&self, refuse: bool) {
        self.state.lock().no_descriptors = refuse;
    }

    /// Counts an operation, which may not come to pass.
    fn operate(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        if let Some(left) = &mut state.left {
            *left = left.saturating_sub(1);
        }
        match state.run != self.run || state.left == Some(0) {
            true => Err(io::Error::other("the power is gone")),
            false => Ok(state),
        }
    }
}

impl State {
    fn after_crash(&self, mut keep: impl FnMut() -> bool) -> Names {
        let mut names = self.durable_names.clone();
        for change in &self.unsynced {
            if !keep() {
                break;
            }
            change.apply(&mut names);
        }
        for inode in names.values_mut() {
            let content = inode.lock().after_crash(&mut keep);
            *inode = Arc::new(Mutex::new(content));
        }
        names
    }

    fn check_room(&self) -> io::Result<()> {
        if self.full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn check_descriptors(&self) -> io::Result<()> {
        if self.no_descriptors { Err(Errno::MFILE.into()) } else { Ok(()) }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.unsynced.push(change);
    }

    /// Counts a sync, which may fail.
    fn sync(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.failing_sync {
            *left -= 1;
            if *left == 0 {
                self.failing_sync = None;
                return Err(io::Error::other("simulated failure to write back"));
            }
        }
        Ok(())
    }
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link(name, inode) => {
                names.insert(name.clone(), Arc::clone(inode));
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Content {
    fn after_crash(&self, mut keep: impl FnMut() -> bool) -> Self {
        let mut durable = self.durable.clone();
        // A size that is written before its pages leaves zeros.
        if self.cached.len() > durable.len() && keep() {
            durable.resize(self.cached.len(), 0);
        }
        for page in self.dirty.iter().filter(|_| keep()) {
            let start = page * PAGE_BYTES;
            let end = (start + PAGE_BYTES).min(durable.len());
            if start < end {
                durable[start..end].copy_from_slice(&self.cached[start..end]);
            }
        }
        Self { cached: durable.clone(), durable, dirty: BTreeSet::new() }
    }

    fn write(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        self.cached[start..end].copy_from_slice(bytes);
        self.dirty.extend(start / PAGE_BYTES..end.div_ceil(PAGE_BYTES));
    }
}

impl SnapshotDisk for SimSnapshotDisk {
    type File = SimSnapshotFile;

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.operate()?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<SimSnapshotFile> {
        let mut state = self.operate()?;
        state.check_descriptors()?;
        state.check_room()?;
        let inode = Inode::default();
        state.change(Change::Link(name.to_owned(), Arc::clone(&inode)));
        Ok(SimSnapshotFile { disk: self.clone(), inode, offset: 0 })
    }

    fn open(&self, name: &str) -> io::Result<SimSnapshotFile> {
        let state = self.operate()?;
        state.check_descriptors()?;
        let inode = Arc::clone(state.names.get(name).ok_or(ErrorKind::NotFound)?);
        Ok(SimSnapshotFile { disk: self.clone(), inode, offset: 0 })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.operate()?;
        if !state.names.contains_key(from) {
            return Err(ErrorKind::NotFound.into());
        }
        state.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.operate()?;
        if !state.names.contains_key(name) {
            return Err(ErrorKind::NotFound.into());
        }
        state.change(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.operate()?;
        state.sync()?;
        state.unsynced.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

/// An open file of a [`SimSnapshotDisk`].
#[derive(Debug)]
pub struct SimSnapshotFile {
    disk: SimSnapshotDisk,
    inode: Inode,
    offset: u64,
}

impl SnapshotFile for SimSnapshotFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.inode.lock().cached.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.operate()?;
        let mut content = self.inode.lock();
        let synced = state.sync();
        if synced.is_ok() {
            *content = content.after_crash(|| true);
        }
        content.dirty.clear();
        synced
    }
}

impl Read for SimSnapshotFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let _state = self.disk.operate()?;
        let content = self.inode.lock();
        let read = content.cached.get(self.offset as usize..).unwrap_or_default().read(buffer)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl Write for SimSnapshotFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let state = self.disk.operate()?;
        let mut content = self.inode.lock();
        let end = self.offset as usize + bytes.len();
        if end > content.cached.len() {
            state.check_room()?;
        }
        content.write(self.offset as usize, bytes);
        self.offset = end as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for SimSnapshotFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let offset = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(by) => self.size_bytes()?.checked_add_signed(by),
            SeekFrom::Current(by) => self.offset.checked_add_signed(by),
        };
        self.offset = offset.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.offset)
    }
}
