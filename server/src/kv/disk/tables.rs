//! What the groups of a node share: the tables, and which groups use them.

use super::layout::{Catalog, note_of};
use super::restore::write_patiently;
use bytes::Bytes;
use logboat::GroupId;
use logboat::state::{Namespace, StateBatch, StateEngine, StateError};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

/// The tables that the groups of a node share. Clones are the same tables.
#[derive(Clone)]
pub struct SharedTables {
    engine: Arc<dyn StateEngine>,
    /// Held by a group that has them flushed for its log's sake. A flush serves all groups.
    flushing: Arc<Mutex<()>>,
    used: Arc<Mutex<FxHashMap<GroupId, Use>>>,
}

/// How a group uses the tables.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    /// How many stores of the group there are: two while one takes the place of the other.
    stores: usize,
    /// Whether what the group has here goes with the last of them.
    is_forgotten: bool,
}

impl SharedTables {
    /// The tables of this engine.
    #[must_use]
    pub fn new(engine: Arc<dyn StateEngine>) -> Self {
        Self { engine, flushing: Arc::default(), used: Arc::default() }
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &Arc<dyn StateEngine> {
        &self.engine
    }

    /// Has what a group has here deleted, when no store of the group uses it any more. The replica
    /// is gone. If another one of the group begins here first, that one clears what it finds.
    pub fn forget(&self, group: GroupId) {
        let mut used = self.used.lock();
        match used.get_mut(&group) {
            Some(it) => it.is_forgotten = true,
            None => self.delete(group),
        }
    }

    /// Deletes what no group has that is among these. To be called before any store is opened.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn retain(&self, groups: &BTreeSet<GroupId>) -> Result<(), StateError> {
        let mut known = BTreeSet::from([Namespace::NOTES]);
        let mut batch = StateBatch::default();
        let all = (Bound::Unbounded, Bound::Unbounded);
        for note in self.engine.view()?.scan(Namespace::NOTES, all)? {
            let (key, note) = note?;
            let catalog = Catalog::decode(&note)?;
            known.extend(catalog.namespaces());
            if !groups.iter().any(|group| note_of(*group) == key) {
                catalog.delete(&mut batch);
                batch.delete(Namespace::NOTES, key);
            }
        }
        // A crash while a snapshot was taken over leaves what nobody has noted.
        let unknown = self.engine.namespaces().into_iter().filter(|it| !known.contains(it));
        unknown.for_each(|namespace| batch.delete_namespace(namespace));
        if batch.is_empty() {
            return Ok(());
        }
        write_patiently(&*self.engine, &batch)
    }

    /// A store of the group begins to use the tables.
    pub(super) fn enter(&self, group: GroupId) {
        let mut used = self.used.lock();
        let it = used.entry(group).or_default();
        it.stores += 1;
        it.is_forgotten = false;
    }

    /// A store of the group uses the tables no more.
    pub(super) fn leave(&self, group: GroupId) {
        let mut used = self.used.lock();
        let Some(it) = used.get_mut(&group) else { return };
        it.stores -= 1;
        if it.stores == 0 && used.remove(&group).is_some_and(|it| it.is_forgotten) {
            self.delete(group);
        }
    }

    /// What a group has noted.
    pub(super) fn noted(&self, group: GroupId) -> Result<Option<Catalog>, StateError> {
        let note = self.engine.get(Namespace::NOTES, &note_of(group))?;
        note.map(|note: Bytes| Catalog::decode(&note)).transpose()
    }

    /// Flushes the tables, unless somebody else has done so meanwhile, or the disk has no room:
    /// then the log keeps what is not durable yet.
    pub(super) fn flush_unless(&self, is_done: impl Fn() -> bool) -> Result<(), StateError> {
        let _flushing = self.flushing.lock();
        if is_done() {
            return Ok(());
        }
        match self.engine.flush() {
            Err(StateError::NoRoom(_)) => Ok(()),
            flushed => flushed,
        }
    }

    fn delete(&self, group: GroupId) {
        let deleted = self.noted(group).and_then(|catalog| {
            let Some(catalog) = catalog else { return Ok(()) };
            let mut batch = StateBatch::default();
            catalog.delete(&mut batch);
            batch.delete(Namespace::NOTES, note_of(group));
            self.engine.write(&batch)
        });
        if let Err(error) = deleted {
            tracing::warn!("what group {group} had in the tables goes at the next start: {error}");
        }
    }
}
