//! A disk in memory that crashes, fails and fills up on demand, for tests and simulation.

use super::{BLOCK_BYTES, Disk, SegmentFile, Unreadable, check_blocks};
use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// The unit in which a crash keeps or loses what was written and not synced.
const PAGE_BYTES: usize = 512;

/// A simulated disk. Clones are the same disk, as a restarted process finds it.
///
/// It keeps what is durable apart from what is only cached. [`SimDisk::crash`] keeps any subset of
/// the unsynced pages and any prefix of the unsynced directory operations. A failed sync leaves
/// pages in the cache that are neither durable nor ever written back, as on Linux.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<u64, Node>,
    /// Name to node, as processes see it.
    names: BTreeMap<String, u64>,
    /// Name to node, as a crash would leave it if it lost everything unsynced.
    durable_names: BTreeMap<String, u64>,
    unsynced: Vec<Operation>,
    next_node: u64,
    salt: u64,
    capacity_bytes: Option<u64>,
    /// Whether there are no descriptors for files.
    no_descriptors: bool,
    failing_sync: Option<u64>,
    syncs: u64,
}

#[derive(Clone, Debug)]
enum Operation {
    Link(String, u64),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone, Debug)]
struct Node {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// The pages that a sync under way writes back, as they were when it began.
    syncing: BTreeMap<usize, Vec<u8>>,
    /// The offsets of the blocks that the device has lost.
    lost: BTreeSet<u64>,
    /// Whether somebody else has changed it.
    damaged: bool,
}

impl SimDisk {
    /// Cuts the power. `keep` decides for each unsynced page and directory operation, in a fixed
    /// order, whether it reached the disk. All directory operations behind the first lost one are
    /// lost, too. Files opened before are not to be used any more.
    pub fn crash(&self, mut keep: impl FnMut() -> bool) {
        let mut state = self.state.lock();
        let operations = std::mem::take(&mut state.unsynced);
        for operation in operations {
            if !keep() {
                break;
            }
            operation.apply(&mut state.durable_names);
        }
        state.names = state.durable_names.clone();
        for node in state.nodes.values_mut() {
            for (page, content) in std::mem::take(&mut node.syncing) {
                if keep() {
                    node.put_durable(page, &content);
                }
            }
            for page in std::mem::take(&mut node.dirty) {
                if keep() {
                    node.write_back(page);
                }
            }
            node.cached = node.durable.clone();
        }
    }

    /// Allows this many bytes of files and no more; `None` for any number.
    pub fn limit(&self, capacity_bytes: Option<u64>) {
        self.state.lock().capacity_bytes = capacity_bytes;
    }

    /// Opens and makes no files while this is so, as in a process that has no descriptors left.
    pub fn refuse_files(&self, refuse: bool) {
        self.state.lock().no_descriptors = refuse;
    }

    /// Makes the `countdown`th sync of a file from now on fail (1 is the next one). Its pages stay
    /// in the cache, pass for clean and never reach the disk.
    pub fn fail_sync(&self, countdown: u64) {
        let mut state = self.state.lock();
        state.failing_sync = Some(state.syncs + countdown);
    }

    /// Inverts a bit of what is on the disk, behind everybody's back.
    ///
    /// # Panics
    /// When there is no such file or it is shorter.
    pub fn flip(&self, name: &str, offset: u64, bit: u8) {
        self.edit(name, |node| {
            node.durable[offset as usize] ^= 1 << bit;
            node.cached[offset as usize] ^= 1 << bit;
            node.damaged = true;
        });
    }

    /// Lets the device lose the block at `offset` of a file: it can't be read any more. A view of
    /// it panics, where a mapped file would end the process.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn lose_block(&self, name: &str, offset: u64) {
        self.edit(name, |node| {
            node.lost.insert(offset / BLOCK_BYTES * BLOCK_BYTES);
        });
    }

    /// The durable content of a file.
    ///
    /// # Panics
    /// When there is no such file.
    #[must_use]
    pub fn durable(&self, name: &str) -> Vec<u8> {
        let mut content = Vec::new();
        self.edit(name, |node| content.clone_from(&node.durable));
        content
    }

    /// Puts a file with this durable content in place, as somebody else would.
    pub fn plant(&self, name: &str, content: &[u8]) {
        let mut state = self.state.lock();
        let id = state.link(name, content.to_vec());
        state.durable_names.insert(name.to_owned(), id);
    }

    /// A disk of its own with the same content.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state.lock();
        Self {
            state: Arc::new(Mutex::new(State {
                nodes: state.nodes.clone(),
                names: state.names.clone(),
                durable_names: state.durable_names.clone(),
                unsynced: state.unsynced.clone(),
                ..*state
            })),
        }
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Node)) {
        let mut state = self.state.lock();
        let id = *state.names.get(name).expect("the file exists");
        change(state.nodes.get_mut(&id).expect("a named node exists"));
    }
}

impl State {
    fn check_descriptors(&self) -> io::Result<()> {
        match self.no_descriptors {
            true => Err(Errno::MFILE.into()),
            false => Ok(()),
        }
    }

    fn link(&mut self, name: &str, durable: Vec<u8>) -> u64 {
        self.next_node += 1;
        let id = self.next_node;
        let node = Node {
            cached: durable.clone(),
            durable,
            dirty: BTreeSet::new(),
            syncing: BTreeMap::new(),
            lost: BTreeSet::new(),
            damaged: false,
        };
        self.nodes.insert(id, node);
        self.names.insert(name.to_owned(), id);
        id
    }

    fn used_bytes(&self) -> u64 {
        let linked: BTreeSet<u64> = self.names.values().copied().collect();
        linked
            .iter()
            .filter_map(|id| self.nodes.get(id))
            .map(|node| node.durable.len() as u64)
            .sum()
    }

    /// Counts a sync; says whether it is the one that fails.
    fn next_sync_fails(&mut self) -> bool {
        self.syncs += 1;
        self.failing_sync == Some(self.syncs)
    }

    fn operate(&mut self, operation: Operation) {
        operation.apply(&mut self.names);
        self.unsynced.push(operation);
    }
}

impl Operation {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Link(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Node {
    /// The first block of a range that the device has lost.
    fn first_lost(&self, range: &Range<u64>) -> Option<u64> {
        let first = range.start / BLOCK_BYTES * BLOCK_BYTES;
        self.lost.range(first..range.end.max(first)).next().copied()
    }

    fn write_back(&mut self, page: usize) {
        let content = self.page(page);
        self.put_durable(page, &content);
    }

    fn page(&self, page: usize) -> Vec<u8> {
        let start = page * PAGE_BYTES;
        let end = (start + PAGE_BYTES).min(self.cached.len());
        self.cached[start..end].to_vec()
    }

    fn put_durable(&mut self, page: usize, content: &[u8]) {
        let start = page * PAGE_BYTES;
        self.durable[start..start + content.len()].copy_from_slice(content);
    }
}

impl Disk for SimDisk {
    type File = SimSegment;

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_descriptors()?;
        if state.capacity_bytes.is_some_and(|capacity| state.used_bytes() + bytes > capacity) {
            return Err(ErrorKind::StorageFull.into());
        }
        let id = state.link(name, vec![0; bytes as usize]);
        state.unsynced.push(Operation::Link(name.to_owned(), id));
        Ok(())
    }

    fn open(&self, name: &str, frozen: Option<u64>) -> io::Result<SimSegment> {
        let state = self.state.lock();
        state.check_descriptors()?;
        let id = *state.names.get(name).ok_or(ErrorKind::NotFound)?;
        let bytes = state.nodes[&id].durable.len() as u64;
        Ok(SimSegment {
            state: Arc::clone(&self.state),
            id,
            bytes,
            frozen: Mutex::new(frozen.unwrap_or(bytes)),
        })
    }

    fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Unreadable> {
        let unreadable = |offset, kind: ErrorKind| Unreadable { offset, source: kind.into() };
        let state = self.state.lock();
        let is_open = state.check_descriptors();
        is_open.map_err(|source| Unreadable { offset: range.start, source })?;
        let node = state.names.get(name).and_then(|id| state.nodes.get(id));
        let node = node.ok_or_else(|| unreadable(range.start, ErrorKind::NotFound))?;
        if let Some(offset) = node.first_lost(&range) {
            return Err(unreadable(offset, ErrorKind::Other));
        }
        let content = node.cached.get(range.start as usize..range.end as usize);
        let content = content.ok_or_else(|| unreadable(range.start, ErrorKind::UnexpectedEof))?;
        Ok(Bytes::copy_from_slice(content))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.names.contains_key(from) {
            return Err(ErrorKind::NotFound.into());
        }
        state.operate(Operation::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.names.contains_key(name) {
            return Err(ErrorKind::NotFound.into());
        }
        state.operate(Operation::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.unsynced.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn salt(&self) -> u64 {
        let mut state = self.state.lock();
        state.salt += 1;
        state.salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// An open file of a [`SimDisk`].
///
/// [`SegmentFile::sync`] is one that takes no time. `begin_sync` and `finish_sync`
/// are one that does.
#[derive(Debug)]
pub struct SimSegment {
    state: Arc<Mutex<State>>,
    id: u64,
    bytes: u64,
    frozen: Mutex<u64>,
}

impl SimSegment {
    /// Begins a sync, which covers what is written now and nothing that is written later.
    pub(crate) fn begin_sync(&self) {
        if let Some(node) = self.state.lock().nodes.get_mut(&self.id) {
            for page in std::mem::take(&mut node.dirty) {
                let content = node.page(page);
                node.syncing.insert(page, content);
            }
        }
    }

    /// Ends the sync that was begun, if no other one has covered as much.
    pub(crate) fn finish_sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let fails = state.next_sync_fails();
        let Some(node) = state.nodes.get_mut(&self.id) else {
            return Ok(());
        };
        let syncing = std::mem::take(&mut node.syncing);
        if fails {
            return Err(failed_sync());
        }
        for (page, content) in syncing {
            node.put_durable(page, &content);
        }
        Ok(())
    }
}

impl SegmentFile for SimSegment {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let frozen = self.frozen();
        check_blocks(offset, data, frozen..self.bytes)?;
        let mut state = self.state.lock();
        let Some(node) = state.nodes.get_mut(&self.id) else {
            return Ok(());
        };
        let (start, end) = (offset as usize, offset as usize + data.len());
        let kept = frozen.saturating_sub(offset) as usize;
        let same = data[..kept] == node.cached[start..start + kept];
        assert!(same || node.damaged, "the frozen bytes of a block are written as they are");
        node.cached[start..end].copy_from_slice(data);
        node.dirty.extend(start / PAGE_BYTES..end.div_ceil(PAGE_BYTES));
        Ok(())
    }

    fn freeze(&self, end: u64) {
        let mut frozen = self.frozen.lock();
        *frozen = end.max(*frozen);
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let fails = state.next_sync_fails();
        let Some(node) = state.nodes.get_mut(&self.id) else {
            return Ok(());
        };
        let mut dirty = std::mem::take(&mut node.dirty);
        dirty.extend(std::mem::take(&mut node.syncing).into_keys());
        if fails {
            return Err(failed_sync());
        }
        for page in dirty {
            node.write_back(page);
        }
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Some(node) = state.nodes.get_mut(&self.id) {
            let dirty: Vec<usize> = node.dirty.iter().copied().collect();
            let cached = std::mem::replace(&mut node.cached, node.durable.clone());
            for page in dirty {
                let start = page * PAGE_BYTES;
                let end = (start + PAGE_BYTES).min(cached.len());
                node.cached[start..end].copy_from_slice(&cached[start..end]);
            }
        }
        Ok(())
    }

    fn frozen(&self) -> u64 {
        *self.frozen.lock()
    }

    fn read_ahead(&self) {}

    fn view(self: &Arc<Self>, range: Range<u64>) -> Bytes {
        assert!(range.end <= self.frozen(), "a view lies within the frozen part");
        let state = self.state.lock();
        let node = state.nodes.get(&self.id).expect("an open file exists");
        assert_eq!(node.first_lost(&range), None, "SIGBUS: a view of a block that is lost");
        Bytes::copy_from_slice(&node.cached[range.start as usize..range.end as usize])
    }
}

fn failed_sync() -> io::Error {
    io::Error::other("simulated failure to write back")
}
