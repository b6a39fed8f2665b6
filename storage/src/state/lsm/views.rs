//! What readers see, and who still looks at what is older.

use crate::state::batch::Namespace;
use crate::state::engine::{StateScan, StateView};
use crate::state::error::StateError;
use crate::state::lsm::{Tree, keys, room};
use bytes::Bytes;
use logboat_raft::LogId;
use lsm_tree::{AbstractTree, Guard, IterGuardImpl, SeqNo};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// The numbers at which there are readers.
pub(super) struct Views(Mutex<Numbers>);

struct Numbers {
    /// Readers see what has a smaller number.
    visible: SeqNo,
    /// Where there are readers, and how many.
    live: BTreeMap<SeqNo, usize>,
}

impl Views {
    pub(super) const fn new(visible: SeqNo) -> Self {
        Self(Mutex::new(Numbers { visible, live: BTreeMap::new() }))
    }

    /// All that has a smaller number is whole.
    pub(super) fn show(&self, visible: SeqNo) {
        self.0.lock().visible = visible;
    }

    /// Below it nobody needs what was overwritten.
    pub(super) fn watermark(&self) -> SeqNo {
        let numbers = self.0.lock();
        let oldest = numbers.live.first_key_value().map(|(number, _)| *number);
        oldest.unwrap_or(numbers.visible).min(numbers.visible)
    }

    /// A reader of the present state.
    pub(super) fn register(self: &Arc<Self>) -> Registered {
        let mut numbers = self.0.lock();
        let number = numbers.visible;
        *numbers.live.entry(number).or_default() += 1;
        drop(numbers);
        Registered { views: Arc::clone(self), number }
    }
}

/// A reader's place, until it is dropped.
pub(super) struct Registered {
    views: Arc<Views>,
    number: SeqNo,
}

impl Registered {
    pub(super) const fn number(&self) -> SeqNo {
        self.number
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut numbers = self.views.0.lock();
        if let Some(readers) = numbers.live.get_mut(&self.number) {
            *readers -= 1;
            if *readers == 0 {
                numbers.live.remove(&self.number);
            }
        }
    }
}

/// The states of a moment.
pub(super) struct LsmView {
    pub(super) tree: Arc<Tree>,
    pub(super) at: Registered,
}

impl StateView for LsmView {
    fn get(&self, namespace: Namespace, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.tree.get(self.at.number(), namespace, key)
    }

    fn scan(
        &self,
        namespace: Namespace,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Result<StateScan, StateError> {
        let at = self.at.number();
        if self.tree.is_deleted(namespace, at) {
            return Ok(Box::new(std::iter::empty()));
        }
        let tree = Arc::clone(&self.tree);
        // It pins the version of the tree that it began with, and no later one.
        let pairs = tree.tree.range(keys::range(namespace, range), at, None);
        Ok(Box::new(pairs.map(move |pair: IterGuardImpl| {
            let (key, value) = pair.into_inner().map_err(|error| tree.describe(error))?;
            let key = Bytes::copy_from_slice(&key[keys::PREFIX_BYTES..]);
            Ok((key, Bytes::copy_from_slice(&value)))
        })))
    }

    fn applied(&self, namespace: Namespace) -> Result<Option<LogId>, StateError> {
        let at = self.at.number();
        if self.tree.is_deleted(namespace, at) {
            return Ok(None);
        }
        let key = keys::applied(namespace);
        let found = room::read_patiently(|| self.tree.tree.get(key, at));
        let found = found.map_err(|error| self.tree.name_damage(&key, error))?;
        Ok(found.and_then(|bytes| keys::decode_id(&bytes)))
    }
}
