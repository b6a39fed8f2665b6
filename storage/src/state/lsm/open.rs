//! Opening a tree: whose it is, whether it is what was written, and what it holds.

use crate::files::{
    TextFields, lock_file, make_directory, read_checked, sync_directory, write_checked,
};
use crate::state::batch::Namespace;
use crate::state::error::StateError;
use crate::state::lsm::filter::{Destroyable, Filters};
use crate::state::lsm::keys;
use crate::state::options::StateOptions;
use logboat_raft::{Incarnation, LogId};
use lsm_tree::{
    AbstractTree, AnyTree, Cache, Config, DescriptorTable, Guard, SeqNo, SequenceNumberCounter,
};
use rustc_hash::FxHashMap;
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// Held for as long as the engine lives.
const LOCK: &str = "LOCK";

/// Says whose tree it is. It is written when there is a tree.
const STATE: &str = "STATE";

/// Where the tree is.
const TREE: &str = "tree";

/// Within the tree: names the manifest, and holds its checksum.
pub(super) const CURRENT: &str = "current";

/// Within the tree: where its tables are.
const TABLES: &str = "tables";

/// A tree that was opened.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) path: PathBuf,
    pub(super) tree: AnyTree,
    pub(super) numbers: SequenceNumberCounter,
    pub(super) destroyable: Arc<Destroyable>,
}

/// What a tree holds.
pub(super) struct Contents {
    pub(super) next_number: SeqNo,
    pub(super) next_namespace: u64,
    pub(super) deleted: FxHashMap<Namespace, SeqNo>,
    /// The deleted namespaces of which something is left.
    pub(super) remains: Vec<Namespace>,
    pub(super) applied: FxHashMap<Namespace, LogId>,
}

/// Opens the tree of a directory, or makes one.
pub(super) fn open(
    directory: &Path,
    owner: Incarnation,
    options: &StateOptions,
) -> Result<Opened, StateError> {
    make_directory(directory).map_err(|error| StateError::io(directory, error))?;
    let lock = lock(directory)?;
    let (marker, path) = (directory.join(STATE), directory.join(TREE));
    let text = read_checked(&marker).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => StateError::damaged(&marker, error.to_string()),
        _ => StateError::io(&marker, error),
    })?;
    let is_new = text.is_none();
    match text {
        Some(text) => {
            check_owner(&text, owner).map_err(|what| StateError::foreign(&marker, what))?;
            check_manifest(&path)?;
            prepare(&path).map_err(|error| unreadable(&path, error))?;
        }
        None => clear(&marker, &path)?,
    }
    let numbers = SequenceNumberCounter::new(1);
    let destroyable = Arc::new(Destroyable::default());
    let tree = open_tree(&path, options, &numbers, &destroyable)?;
    if is_new {
        let text = format!("logboat state 1\nincarnation {:016x}\n", owner.0);
        let made = make_directory(&path).and_then(|()| write_checked(directory, STATE, &text));
        made.map_err(|error| StateError::io(&marker, error))?;
    }
    Ok(Opened { lock, path, tree, numbers, destroyable })
}

fn open_tree(
    path: &Path,
    options: &StateOptions,
    numbers: &SequenceNumberCounter,
    destroyable: &Arc<Destroyable>,
) -> Result<AnyTree, StateError> {
    // The other counter shows halves of batches: nobody reads it.
    let config = Config::new(path, numbers.clone(), SequenceNumberCounter::default())
        .use_cache(Arc::new(Cache::with_capacity_bytes(options.cache_bytes)))
        .use_descriptor_table(Some(Arc::new(DescriptorTable::new(options.descriptors))))
        .with_compaction_filter_factory(Some(Arc::new(Filters(Arc::clone(destroyable)))));
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(tree)) => Ok(tree),
        Ok(Err(lsm_tree::Error::Io(error))) => Err(unreadable(path, error)),
        Ok(Err(lsm_tree::Error::InvalidVersion(version))) => {
            Err(StateError::foreign(path, format!("format version {version}")))
        }
        Ok(Err(error)) => Err(StateError::damaged(path, error.to_string())),
        Err(_) => Err(StateError::damaged(path, "what it holds contradicts itself")),
    }
}

fn lock(directory: &Path) -> Result<File, StateError> {
    let locked = lock_file(&directory.join(LOCK));
    let locked = locked.map_err(|error| StateError::io(directory.join(LOCK), error))?;
    locked.map_err(|text| {
        let pid: Option<u32> = text.trim().parse().ok();
        let holder = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
        StateError::InUse { path: directory.to_owned(), holder }
    })
}

fn check_owner(text: &str, owner: Incarnation) -> Result<(), String> {
    let mut fields = TextFields::of(text, "logboat state 1")?;
    let stored = fields.number("incarnation", 16)?;
    if stored == owner.0 {
        return Ok(());
    }
    Err("the tables beside it belong to another data directory".to_owned())
}

/// Why a part of a tree can't be read. What is missing was deleted, or what names it is damaged.
fn unreadable(path: &Path, error: io::Error) -> StateError {
    match error.kind() {
        io::ErrorKind::NotFound => StateError::damaged(path, "it, or a part of it, is missing"),
        _ => StateError::io(path, error),
    }
}

/// Compares the manifest with the checksum that stands beside its name.
fn check_manifest(path: &Path) -> Result<(), StateError> {
    let current = path.join(CURRENT);
    let read = |path: &Path| fs::read(path).map_err(|error| unreadable(path, error));
    let content = read(&current)?;
    // A number, a checksum, and the kind of the checksum.
    let parts = content.split_first_chunk::<8>().and_then(|(version, rest)| {
        let (checksum, kind) = rest.split_first_chunk::<16>()?;
        (kind == [0]).then_some((u64::from_le_bytes(*version), u128::from_le_bytes(*checksum)))
    });
    let (version, checksum) =
        parts.ok_or_else(|| StateError::damaged(&current, "it names no manifest"))?;
    let manifest = path.join(format!("v{version}"));
    if xxh3_128(&read(&manifest)?) != checksum {
        return Err(StateError::damaged(&manifest, "the manifest fails its checksum"));
    }
    Ok(())
}

/// Forgets what the page cache holds of the tree, since a sync may have failed, and removes what a
/// crash has left behind. The names of what is believed from here on are made durable: a process
/// may have been killed before it did so.
fn prepare(path: &Path) -> io::Result<()> {
    File::open(path.join(CURRENT))?.sync_all()?;
    for directory in [path, &path.join(TABLES)] {
        sync_directory(directory)?;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with(".tmp") {
                fs::remove_file(entry.path())?;
                continue;
            }
            fadvise(File::open(entry.path())?, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// There is no word whose tree it is: its making was cut short, or the word was lost.
fn clear(marker: &Path, path: &Path) -> Result<(), StateError> {
    let has_tables = match fs::read_dir(path.join(TABLES)) {
        Ok(mut tables) => tables.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(StateError::io(path, error)),
    };
    if has_tables {
        let what = format!("it is missing, though there are tables in {}", path.display());
        return Err(StateError::damaged(marker, what));
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StateError::io(path, error)),
        _ => Ok(()),
    }
}

/// Reads what the engine keeps in the tree for itself. That is a look at each namespace.
pub(super) fn contents(path: &Path, tree: &AnyTree) -> Result<Contents, StateError> {
    let failed = |error| match error {
        lsm_tree::Error::Io(error) => StateError::io(path, error),
        other => StateError::damaged(path, other.to_string()),
    };
    let highest = tree.get_highest_persisted_seqno().unwrap_or_default();
    let own = tree.get(keys::NUMBER, SeqNo::MAX).map_err(failed)?;
    let own = own.and_then(|bytes| keys::decode_number(&bytes)).unwrap_or_default();
    let next = tree.get(keys::NEXT_NAMESPACE, SeqNo::MAX).map_err(failed)?;
    let next = next.and_then(|bytes| keys::decode_number(&bytes));
    let next_namespace = next.unwrap_or(Namespace::NOTES.0 + 1);
    let mut deleted = FxHashMap::default();
    for mark in tree.prefix(keys::DELETED, SeqNo::MAX, None) {
        let key = mark.key().map_err(failed)?;
        let namespace = keys::decode_number(&key[keys::DELETED.len()..]);
        deleted.extend(namespace.map(|namespace| (Namespace(namespace), 0)));
    }
    let (mut applied, mut remains) = (FxHashMap::default(), Vec::new());
    let mut from = Namespace(1);
    loop {
        let range = (Bound::Included(keys::applied(from)), Bound::Unbounded);
        let Some(first) = tree.range(range, SeqNo::MAX, None).next() else { break };
        let (key, value) = first.into_inner().map_err(failed)?;
        let Some(namespace) = keys::namespace(&key) else { break };
        if deleted.contains_key(&namespace) {
            remains.push(namespace);
        } else if key[..] == keys::applied(namespace) {
            let last = keys::decode_id(&value);
            let what = || format!("namespace {namespace} has no applied entry");
            let last = last.ok_or_else(|| StateError::damaged(path, what()))?;
            applied.insert(namespace, last);
        }
        from = Namespace(namespace.0 + 1);
    }
    let next_number = highest.max(own) + 1;
    Ok(Contents { next_number, next_namespace, deleted, remains, applied })
}
