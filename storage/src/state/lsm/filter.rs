//! Drops what belongs to deleted namespaces when tables are merged.

use crate::state::batch::Namespace;
use crate::state::lsm::keys;
use lsm_tree::compaction::filter::Context;
use lsm_tree::compaction::{CompactionFilter, Factory, ItemAccessor, Verdict};
use rustc_hash::FxHashSet;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Namespaces whose deletion is durable: nothing of them is ever read again, whatever happens. The
/// locks are of the standard library because those of a filter must be safe to unwind through.
#[derive(Default)]
pub(super) struct Destroyable {
    namespaces: RwLock<Arc<FxHashSet<Namespace>>>,
    /// Whose tables are to go.
    to_drop: Mutex<VecDeque<Namespace>>,
}

impl Destroyable {
    pub(super) fn add(&self, deleted: impl IntoIterator<Item = Namespace>) {
        let mut namespaces = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut namespaces).extend(deleted);
    }

    /// Adds them, and has the tables go that hold nothing else.
    pub(super) fn add_to_drop(&self, deleted: &[Namespace]) {
        if !deleted.is_empty() {
            self.add(deleted.iter().copied());
            self.lock().extend(deleted);
        }
    }

    pub(super) fn next_to_drop(&self) -> Option<Namespace> {
        self.lock().pop_front()
    }

    pub(super) fn has_to_drop(&self) -> bool {
        !self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Namespace>> {
        self.to_drop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a filter for each compaction.
pub(super) struct Filters(pub(super) Arc<Destroyable>);

impl Factory for Filters {
    fn name(&self) -> &'static str {
        "deleted namespaces"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        let namespaces = self.0.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        Box::new(Filter(Arc::clone(&namespaces)))
    }
}

struct Filter(Arc<FxHashSet<Namespace>>);

impl CompactionFilter for Filter {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Verdict> {
        if self.0.is_empty() {
            return Ok(Verdict::Keep);
        }
        let namespace = keys::namespace(item.key());
        let is_deleted = namespace.is_some_and(|namespace| self.0.contains(&namespace));
        Ok(if is_deleted { Verdict::Destroy } else { Verdict::Keep })
    }
}
