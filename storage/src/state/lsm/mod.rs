//! The engine: one tree of `lsm-tree`, driven so that its known dangers can't happen.
//!
//! The tree has no log, no batches and no idea of what is durable for whom. What makes those of it:
//!
//! - **The gate** is the lock of what was written and is not flushed. A batch is written under it
//!   from its first key to its last, with one number, and so is a rotation (the memtable is sealed
//!   and a fresh one begins). So no rotation, flush or ingestion parts a batch, and no number is
//!   given before a rotation and written after it.
//! - **What readers see** is a number of our own, which moves on when a batch is whole. The tree's
//!   own would show halves of batches; it gets a counter that nobody reads.
//! - **Structural changes** (a flush, a compaction) take numbers as well. Afterwards a fresh number
//!   is taken and shown, or readers would go on with the tables of before.
//! - **The watermark**, below which overwritten values may go, is the oldest live view or else what
//!   readers see, never less. It is read before the change begins, and again before files go.
//! - **Numbers go on** after the highest in the tables *and* after one that each rotation writes
//!   into the tree, so that no damage sets them back.
//! - **A deleted namespace** is masked by a mark that stays for ever. Its tables go, and the values
//!   beside others are dropped as tables are merged, only when the mark is durable. Otherwise a
//!   crash could bring back a namespace without some of its values. The tree's `drop_range` would
//!   bring back older values of a range, and here nobody sees that range any more.
//! - **An error of a flush, a compaction or the end of an ingestion** poisons the engine: nothing
//!   is tried again in place, since that can destroy the manifest. After a failed sync nobody knows
//!   what the page cache holds, so each opening drops it for all files of the tree. A panic of the
//!   tree counts as such an error.
//! - **A shortage passes**, so no flush and no merge begins without room and descriptors.
//! - **A damaged table** ends merging, since every merge would meet it. Writes go on until the
//!   first level is full, and then name the table.
//! - **The manifest** is compared with the checksum that the tree writes beside it and never reads.
//!
//! Within the tree a key is the number of its namespace, a byte, and the user's key. Below the byte
//! 0 stands the applied entry of the namespace, so it comes first; the user's keys are below 1.
//! Namespace 0 is the engine's own.

mod filter;
mod keys;
mod memory;
mod open;
mod room;
mod views;

use crate::state::batch::{MAX_KEY_BYTES, Namespace, StateBatch};
use crate::state::engine::{Pair, Pressure, StateEngine, StateStatistics, StateView};
use crate::state::error::StateError;
use crate::state::lsm::filter::Destroyable;
use crate::state::lsm::memory::{Memory, Sealed};
use crate::state::lsm::open::Opened;
use crate::state::lsm::views::{LsmView, Views};
use crate::state::options::StateOptions;
use bytes::Bytes;
use logboat_raft::{Incarnation, LogId};
use lsm_tree::compaction::Leveled;
use lsm_tree::{AbstractTree, AnyTree, SeqNo, SequenceNumberCounter};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_128;

/// So many sealed memtables wait for their flush at the most.
const MAX_SEALED: usize = 4;

/// From so many runs in the first level on, writers are slowed down.
const MANY_RUNS: usize = 8;

/// With so many runs in the first level, batches are refused.
const MAX_RUNS: usize = 24;

/// From so many runs in the first level on, a merge of them may be due.
const MERGED_RUNS: usize = 4;

/// How long a writer waits at the most before a batch that is not refused.
const MAX_DELAY: Duration = Duration::from_millis(10);

/// A state engine on disk. It locks its directory for as long as it lives.
pub struct LsmState {
    tree: Arc<Tree>,
    /// Closing it releases the lock.
    _lock: File,
}

/// What the engine and its views share.
pub(super) struct Tree {
    /// The directory of the tree.
    path: PathBuf,
    tree: AnyTree,
    options: StateOptions,
    /// Numbers of batches and of structural changes.
    numbers: SequenceNumberCounter,
    /// The gate.
    memory: Mutex<Memory>,
    views: Arc<Views>,
    /// Namespaces that were deleted, and at which number.
    deleted: RwLock<FxHashMap<Namespace, SeqNo>>,
    /// Those of them that stay deleted whatever happens.
    destroyable: Arc<Destroyable>,
    durable: Mutex<FxHashMap<Namespace, LogId>>,
    /// Held during a flush or the end of an ingestion.
    flushing: Mutex<()>,
    /// Held during a compaction.
    compacting: Mutex<()>,
    poisoned: OnceLock<Arc<str>>,
    /// The damage that a merge has met.
    damage: OnceLock<StateError>,
    lacks_room: AtomicBool,
    runs: AtomicUsize,
    flushes: AtomicU64,
    compactions: AtomicU64,
    refused: AtomicU64,
}

impl LsmState {
    /// Opens the engine in a directory, which is made if need be. `owner` is the incarnation of the
    /// node's data directory.
    ///
    /// # Errors
    /// [`StateError`], naming the file, when the directory is in use, another node's, damaged or
    /// can't be read.
    pub fn open(
        path: &Path,
        owner: Incarnation,
        options: StateOptions,
    ) -> Result<Self, StateError> {
        let Opened { lock, path, tree, numbers, destroyable } = open::open(path, owner, &options)?;
        let found = open::contents(&path, &tree)?;
        numbers.set(found.next_number.max(1));
        let views = Arc::new(Views::new(numbers.get()));
        destroyable.add(found.deleted.keys().copied());
        destroyable.add_to_drop(&found.remains);
        let runs = AtomicUsize::new(tree.l0_run_count());
        let tree = Tree {
            path,
            tree,
            options,
            numbers,
            memory: Mutex::new(Memory::new(found.next_namespace, found.applied.clone())),
            views,
            deleted: RwLock::new(found.deleted),
            destroyable,
            durable: Mutex::new(found.applied),
            flushing: Mutex::default(),
            compacting: Mutex::default(),
            poisoned: OnceLock::new(),
            damage: OnceLock::new(),
            lacks_room: AtomicBool::new(false),
            runs,
            flushes: AtomicU64::default(),
            compactions: AtomicU64::default(),
            refused: AtomicU64::default(),
        };
        Ok(Self { tree: Arc::new(tree), _lock: lock })
    }

    /// Reads all tables whole and compares their checksums.
    ///
    /// # Errors
    /// [`StateError::Damaged`], naming the first file that is not what was written.
    pub fn verify(&self) -> Result<(), StateError> {
        let version = self.tree.tree.current_version();
        for table in version.iter_tables() {
            self.tree.verify(&table.path, table.checksum().into_u128())?;
        }
        Ok(())
    }
}

impl Tree {
    fn verify(&self, path: &Path, checksum: u128) -> Result<(), StateError> {
        let content = std::fs::read(path).map_err(|error| StateError::io(path, error))?;
        if xxh3_128(&content) == checksum {
            return Ok(());
        }
        Err(StateError::damaged(path, "the table fails its checksum"))
    }

    fn healthy(&self) -> Result<(), StateError> {
        match self.poisoned.get() {
            Some(reason) => Err(StateError::Poisoned(Arc::clone(reason))),
            None => Ok(()),
        }
    }

    /// The engine can't go on.
    fn poison(&self, doing: &str, error: lsm_tree::Error) -> StateError {
        let error = self.describe(error);
        self.stop(format!("{doing}: {error}"));
        error
    }

    fn stop(&self, reason: String) {
        let reason = self.poisoned.get_or_init(|| reason.into());
        tracing::error!("the state engine stops: {reason}");
    }

    /// Changes the structure of the tree. A panic in there poisons the engine.
    fn contain<T>(
        &self,
        doing: &str,
        change: impl FnOnce() -> lsm_tree::Result<T>,
    ) -> Result<lsm_tree::Result<T>, StateError> {
        catch_unwind(AssertUnwindSafe(change)).map_err(|_| {
            self.stop(format!("{doing}: the tree in {} panicked", self.path.display()));
            StateError::damaged(&self.path, "what it holds contradicts itself")
        })
    }

    /// Whether there is room for a flush or a merge of so many bytes.
    fn has_room(&self, bytes: u64) -> bool {
        let bytes = bytes.saturating_add(self.options.reserve_bytes);
        let lacks_room = room::lacks(&self.path, bytes, &self.path.join(open::CURRENT));
        if self.lacks_room.swap(lacks_room, Ordering::Relaxed) != lacks_room {
            let (path, now) = (self.path.display(), if lacks_room { "no" } else { "again" });
            tracing::warn!("there is {now} room for more tables in {path}");
        }
        !lacks_room
    }

    /// About how many bytes the next merge of the first level writes.
    fn merge_bytes(&self, runs: usize) -> u64 {
        2 * runs as u64 * self.options.memtable_bytes + 8 * self.options.table_bytes
    }

    /// What the tree says, with the directory.
    fn describe(&self, error: lsm_tree::Error) -> StateError {
        match error {
            lsm_tree::Error::Io(error) => StateError::io(&self.path, error),
            other => StateError::damaged(&self.path, other.to_string()),
        }
    }

    /// Reading a key failed: the table is named, if it is damaged.
    fn name_damage(&self, key: &[u8], error: lsm_tree::Error) -> StateError {
        let version = self.tree.current_version();
        let runs = version.iter_levels().flat_map(|level| level.iter());
        for table in runs.filter_map(|run| run.get_for_key(key)) {
            if let Err(damage) = self.verify(&table.path, table.checksum().into_u128()) {
                return damage;
            }
        }
        self.describe(error)
    }

    /// The namespace was deleted for whoever looks at the state of `at`.
    fn is_deleted(&self, namespace: Namespace, at: SeqNo) -> bool {
        self.deleted.read().get(&namespace).is_some_and(|deleted| *deleted < at)
    }

    fn get(
        &self,
        at: SeqNo,
        namespace: Namespace,
        key: &[u8],
    ) -> Result<Option<Bytes>, StateError> {
        if self.is_deleted(namespace, at) {
            return Ok(None);
        }
        let key = keys::data(namespace, key);
        let value = room::read_patiently(|| self.tree.get(&key, at))
            .map_err(|error| self.name_damage(&key, error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// Seals what was written, under the gate.
    fn rotate(&self, memory: &mut Memory) {
        if memory.active.is_empty() {
            return;
        }
        let number = self.numbers.next();
        self.tree.insert(keys::NUMBER, number.to_be_bytes(), number);
        self.views.show(number + 1);
        if let Some(memtable) = self.tree.rotate_memtable() {
            let unflushed = std::mem::take(&mut memory.active);
            memory.sealed.push_back(Sealed { _memtable: memtable, unflushed });
        }
    }

    /// Flushes what is sealed. The caller holds the lock for that.
    fn flush_sealed(&self) -> Result<bool, StateError> {
        let count = self.memory.lock().sealed.len();
        if count == 0 {
            return Ok(false);
        }
        // Its memory is freed at the end, outside of the tree's locks.
        let version = self.tree.current_version();
        let watermark = self.views.watermark();
        let flush = || self.tree.flush(&self.tree.get_flush_lock(), watermark);
        let flushed = self.contain("flushing a memtable", flush)?;
        flushed.map_err(|error| self.poison("flushing a memtable", error))?;
        self.settle()?;
        self.flushed(count);
        drop(version);
        Ok(true)
    }

    /// The first `count` sealed memtables are in tables.
    fn flushed(&self, count: usize) {
        let sealed: Vec<_> = self.memory.lock().sealed.drain(..count).collect();
        let mut durable = self.durable.lock();
        for Sealed { unflushed, .. } in &sealed {
            for deleted in &unflushed.deleted {
                durable.remove(deleted);
            }
            durable.extend(unflushed.applied.iter());
            self.destroyable.add_to_drop(&unflushed.deleted);
        }
        drop(durable);
        self.flushes.fetch_add(1, Ordering::Relaxed);
    }

    /// After a structural change: shows it to readers, and frees what only it replaced.
    fn settle(&self) -> Result<(), StateError> {
        {
            let _gate = self.memory.lock();
            self.views.show(self.numbers.next() + 1);
        }
        let watermark = self.views.watermark();
        let freed = self.tree.get_version_history_lock().maintenance(&self.path, watermark);
        freed.map_err(|error| self.poison("freeing a manifest", error))?;
        self.runs.store(self.tree.l0_run_count(), Ordering::Relaxed);
        Ok(())
    }

    /// Refuses what can't be written. The caller holds the gate.
    fn check(&self, memory: &Memory, batch: &StateBatch) -> Result<(), StateError> {
        self.healthy()?;
        let bytes = batch.max_key_bytes();
        if bytes > MAX_KEY_BYTES {
            return Err(StateError::KeyTooLong(bytes));
        }
        let deleted = self.deleted.read();
        let named = batch.namespaces().chain(batch.deleted.iter().copied());
        for namespace in named {
            if !memory.has(namespace) || deleted.contains_key(&namespace) {
                return Err(StateError::NoNamespace(namespace));
            }
        }
        let runs = self.runs.load(Ordering::Relaxed);
        if memory.sealed.len() >= MAX_SEALED || runs >= MAX_RUNS {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let damage = self.damage.get().filter(|_| runs >= MAX_RUNS);
            return Err(damage.cloned().unwrap_or(StateError::Busy));
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StateError> {
        let _flushing = self.flushing.lock();
        self.healthy()?;
        let mut memory = self.memory.lock();
        if memory.active.is_empty() && memory.sealed.is_empty() {
            return Ok(());
        }
        if !self.has_room(memory.bytes()) {
            return Err(StateError::NoRoom(self.path.clone()));
        }
        self.rotate(&mut memory);
        drop(memory);
        self.flush_sealed().map(|_| ())
    }
}

impl StateEngine for LsmState {
    fn create(&self) -> Result<Namespace, StateError> {
        let tree = &*self.tree;
        let mut memory = tree.memory.lock();
        tree.healthy()?;
        let namespace = Namespace(memory.next_namespace);
        memory.next_namespace += 1;
        let (next, number) = (memory.next_namespace.to_be_bytes(), tree.numbers.next());
        let added = tree.tree.insert(keys::NEXT_NAMESPACE, next, number);
        memory.active.wrote(added);
        tree.views.show(number + 1);
        Ok(namespace)
    }

    fn namespaces(&self) -> Vec<Namespace> {
        let memory = self.tree.memory.lock();
        let mut namespaces: Vec<_> = memory.applied.keys().copied().collect();
        namespaces.sort_unstable();
        namespaces
    }

    fn write(&self, batch: &StateBatch) -> Result<(), StateError> {
        let tree = &*self.tree;
        let mut memory = tree.memory.lock();
        tree.check(&memory, batch)?;
        let number = tree.numbers.next();
        memory.insert(&tree.tree, batch, number);
        if !batch.deleted.is_empty() {
            let mut deleted = tree.deleted.write();
            deleted.extend(batch.deleted.iter().map(|namespace| (*namespace, number)));
        }
        tree.views.show(number + 1);
        if memory.active.bytes() >= tree.options.memtable_bytes {
            tree.rotate(&mut memory);
        }
        Ok(())
    }

    fn get(&self, namespace: Namespace, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let at = self.tree.views.register();
        self.tree.get(at.number(), namespace, key)
    }

    fn view(&self) -> Result<Box<dyn StateView>, StateError> {
        let at = self.tree.views.register();
        Ok(Box::new(LsmView { tree: Arc::clone(&self.tree), at }))
    }

    fn applied(&self, namespace: Namespace) -> Option<LogId> {
        self.tree.memory.lock().applied.get(&namespace).copied()
    }

    fn durable(&self, namespace: Namespace) -> Option<LogId> {
        self.tree.durable.lock().get(&namespace).copied()
    }

    fn flush(&self) -> Result<(), StateError> {
        self.tree.flush()
    }

    fn flush_if_due(&self, now: Instant) -> Result<bool, StateError> {
        let tree = &*self.tree;
        let _flushing = tree.flushing.lock();
        tree.healthy()?;
        let mut memory = tree.memory.lock();
        let is_due = memory.active.is_due(now, &tree.options);
        let is_idle = !is_due && memory.sealed.is_empty();
        if is_idle || !tree.has_room(memory.bytes()) {
            return Ok(false);
        }
        if is_due {
            tree.rotate(&mut memory);
        }
        drop(memory);
        tree.flush_sealed()
    }

    fn compact(&self) -> Result<bool, StateError> {
        let tree = &*self.tree;
        let _compacting = tree.compacting.lock();
        tree.healthy()?;
        let before = tree.tree.current_version();
        let to_drop = tree.destroyable.next_to_drop();
        let runs = tree.runs.load(Ordering::Relaxed);
        if to_drop.is_none() && runs >= MERGED_RUNS && !tree.has_room(tree.merge_bytes(runs)) {
            return Ok(false);
        }
        let compacted = tree.contain("compacting", || match to_drop {
            Some(namespace) => tree.tree.drop_range(keys::whole(namespace)),
            None => {
                let strategy = Leveled::default().with_table_target_size(tree.options.table_bytes);
                tree.tree.compact(Arc::new(strategy), tree.views.watermark())
            }
        });
        match compacted? {
            Ok(()) => {}
            Err(error @ lsm_tree::Error::Io(_)) => return Err(tree.poison("compacting", error)),
            // What is damaged stays as it is. Whoever reads it is told.
            Err(error) => {
                // Another error says nothing about the tables.
                let damaged = self.verify().err();
                let named = damaged.filter(|named| matches!(named, StateError::Damaged { .. }));
                let damage = named.unwrap_or_else(|| tree.describe(error));
                return Err(tree.damage.get_or_init(|| damage).clone());
            }
        }
        if tree.tree.current_version().id() == before.id() {
            return Ok(tree.destroyable.has_to_drop());
        }
        tree.settle()?;
        tree.compactions.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    fn ingest(
        &self,
        namespace: Namespace,
        applied: LogId,
        pairs: &mut dyn Iterator<Item = io::Result<Pair>>,
    ) -> Result<(), StateError> {
        let tree = &*self.tree;
        tree.healthy()?;
        if !tree.memory.lock().has(namespace) || tree.is_deleted(namespace, SeqNo::MAX) {
            return Err(StateError::NoNamespace(namespace));
        }
        let view = self.view()?;
        let mut present = view.scan(namespace, (Bound::Unbounded, Bound::Unbounded))?;
        if view.applied(namespace)?.is_some() || present.next().is_some() {
            return Err(StateError::NotFresh(namespace));
        }
        drop((view, present));
        if !tree.has_room(tree.options.memtable_bytes) {
            return Err(StateError::NoRoom(tree.path.clone()));
        }
        let failed = |error| tree.describe(error);
        let mut ingestion = tree.tree.ingestion().map_err(failed)?;
        let first = keys::applied(namespace);
        ingestion.write(first, keys::encode_id(applied)).map_err(failed)?;
        let mut last: Option<Bytes> = None;
        for pair in pairs {
            let (key, value) = pair.map_err(|error| StateError::Source(Arc::new(error)))?;
            if key.len() > MAX_KEY_BYTES {
                return Err(StateError::KeyTooLong(key.len()));
            }
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(StateError::Unordered);
            }
            ingestion.write(&keys::data(namespace, &key)[..], &value[..]).map_err(failed)?;
            last = Some(key);
        }
        // So that little is left to flush while nobody may write.
        tree.flush()?;
        let _flushing = tree.flushing.lock();
        let mut memory = tree.memory.lock();
        tree.healthy()?;
        tree.rotate(&mut memory);
        let count = memory.sealed.len();
        ingestion.finish().map_err(|error| tree.poison("taking in a state", error))?;
        memory.applied.insert(namespace, applied);
        tree.views.show(tree.numbers.next() + 1);
        drop(memory);
        tree.settle()?;
        tree.flushed(count);
        tree.durable.lock().insert(namespace, applied);
        Ok(())
    }

    fn pressure(&self) -> Pressure {
        let sealed = self.tree.memory.lock().sealed.len();
        let runs = self.tree.runs.load(Ordering::Relaxed);
        if sealed >= MAX_SEALED || runs >= MAX_RUNS {
            return Pressure::Full;
        }
        let behind = (sealed * sealed).max(runs.saturating_sub(MANY_RUNS));
        match u32::try_from(behind).unwrap_or(u32::MAX) {
            0 | 1 => Pressure::None,
            behind => Pressure::Slow(MAX_DELAY.min(Duration::from_micros(500) * behind)),
        }
    }

    fn statistics(&self) -> StateStatistics {
        let tree = &*self.tree;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StateStatistics {
            memtable_bytes: tree.memory.lock().bytes(),
            table_bytes: tree.tree.disk_space(),
            tables: tree.tree.table_count() as u64,
            first_level_runs: tree.tree.l0_run_count() as u64,
            flushes: count(&tree.flushes),
            compactions: count(&tree.compactions),
            refused: count(&tree.refused),
            lacks_room: tree.lacks_room.load(Ordering::Relaxed),
            is_damaged: tree.damage.get().is_some(),
        }
    }
}
