//! What was written and is not flushed yet.

use crate::state::batch::{Namespace, StateBatch, Write};
use crate::state::lsm::keys;
use crate::state::options::StateOptions;
use logboat_raft::LogId;
use lsm_tree::{AbstractTree, AnyTree, Memtable, SeqNo};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// What the gate guards.
pub(super) struct Memory {
    pub(super) next_namespace: u64,
    /// Of all namespaces, durable or not.
    pub(super) applied: FxHashMap<Namespace, LogId>,
    pub(super) active: Unflushed,
    /// In the order in which they were sealed.
    pub(super) sealed: VecDeque<Sealed>,
}

/// What a memtable holds.
#[derive(Default)]
pub(super) struct Unflushed {
    bytes: u64,
    /// When the first of it was written.
    since: Option<Instant>,
    pub(super) applied: FxHashMap<Namespace, LogId>,
    pub(super) deleted: Vec<Namespace>,
}

/// A memtable that takes no more writes.
pub(super) struct Sealed {
    /// Keeps the memory until it can be freed outside of the tree's locks.
    pub(super) _memtable: Arc<Memtable>,
    pub(super) unflushed: Unflushed,
}

impl Memory {
    pub(super) fn new(next_namespace: u64, applied: FxHashMap<Namespace, LogId>) -> Self {
        Self { next_namespace, applied, active: Unflushed::default(), sealed: VecDeque::new() }
    }

    /// Whether there was ever such a namespace.
    pub(super) fn has(&self, namespace: Namespace) -> bool {
        namespace != keys::OWN && namespace.0 < self.next_namespace
    }

    /// Bytes of all memtables.
    pub(super) fn bytes(&self) -> u64 {
        let sealed = self.sealed.iter().map(|sealed| sealed.unflushed.bytes);
        self.active.bytes + sealed.sum::<u64>()
    }

    /// Writes a batch into the tree's memtable, all of it with one number.
    pub(super) fn insert(&mut self, tree: &AnyTree, batch: &StateBatch, number: SeqNo) {
        for write in &batch.writes {
            self.active.wrote(match write {
                Write::Put { namespace, key, value } => {
                    tree.insert(&keys::data(*namespace, key)[..], &value[..], number)
                }
                Write::Delete { namespace, key } => {
                    tree.remove(&keys::data(*namespace, key)[..], number)
                }
            });
        }
        for (namespace, last) in &batch.applied {
            let (key, value) = (keys::applied(*namespace), keys::encode_id(*last));
            self.active.wrote(tree.insert(key, value, number));
            self.active.applied.insert(*namespace, *last);
            self.applied.insert(*namespace, *last);
        }
        for namespace in &batch.deleted {
            let mark = keys::deleted(*namespace);
            self.active.wrote(tree.insert(&mark[..], [0; 0], number));
            self.active.applied.remove(namespace);
            self.active.deleted.push(*namespace);
            self.applied.remove(namespace);
        }
    }
}

impl Unflushed {
    /// Counts what an insertion into the tree has added. The tree's own sum counts some twice.
    pub(super) fn wrote(&mut self, (added, _): (u64, u64)) {
        self.bytes += added;
        if self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is large or old enough for a flush.
    pub(super) fn is_due(&self, now: Instant, options: &StateOptions) -> bool {
        let age = self.since.map(|since| now.saturating_duration_since(since));
        self.bytes >= options.memtable_bytes || age.is_some_and(|age| age >= options.max_age)
    }
}
