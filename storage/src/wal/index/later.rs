//! The configurations that the entries of a group's log hold.

use logboat_raft::{Configuration, Index};
use std::sync::Arc;

/// Configurations by the indexes of their entries. They are kept as they stand in the log, which
/// takes a fifth of the memory: a group that has moved has some, and the next start asks for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Later(Vec<Held>);

#[derive(Clone, Debug)]
struct Held {
    index: Index,
    encoded: Box<[u8]>,
}

impl Later {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Arc<Configuration>> + '_ {
        self.0.iter().map(|held| {
            let configuration = Configuration::decode(&held.encoded);
            configuration.expect("one was encoded").into()
        })
    }

    /// How many are of entries before `index`.
    fn before(&self, index: Index) -> usize {
        self.0.partition_point(|held| held.index < index)
    }

    /// Takes in that of another entry. One that is here already stays.
    pub(super) fn hold(&mut self, configuration: &Configuration) {
        let index = configuration.id().index;
        let at = self.before(index);
        if self.0.get(at).is_none_or(|known| known.index != index) {
            let encoded = configuration.encode()[..].into();
            self.0.insert(at, Held { index, encoded });
        }
    }

    /// Drops those of the entries from `first` on.
    pub(super) fn truncate(&mut self, first: Index) {
        self.0.truncate(self.before(first));
    }

    /// Drops those of the entries up to `last`.
    pub(super) fn forget(&mut self, last: Index) {
        drop(self.0.drain(..self.before(last.next())));
    }
}
