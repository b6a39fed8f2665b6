//! The map of a store, which keeps account of what it takes.

use super::footprint::entry_bytes;
use super::memory::DataMemory;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// Keys and values. What they take is counted in the memory of the node.
#[derive(Debug, Default)]
pub(super) struct Entries {
    map: BTreeMap<Bytes, Bytes>,
    bytes: u64,
    memory: Arc<DataMemory>,
}

impl Entries {
    /// No entries, which will be counted in `memory`.
    pub(super) fn new(memory: Arc<DataMemory>) -> Self {
        Self { map: BTreeMap::new(), bytes: 0, memory }
    }

    pub(super) fn memory(&self) -> Arc<DataMemory> {
        Arc::clone(&self.memory)
    }

    pub(super) fn insert(&mut self, key: Bytes, value: Bytes) {
        let (key_bytes, value_bytes) = (key.len(), value.len());
        let old = self.map.insert(key, value);
        self.count(entry_bytes(key_bytes, value_bytes));
        if let Some(old) = old {
            self.discount(entry_bytes(key_bytes, old.len()));
        }
    }

    pub(super) fn remove(&mut self, key: &Bytes) -> Option<Bytes> {
        let old = self.map.remove(key)?;
        self.discount(entry_bytes(key.len(), old.len()));
        Some(old)
    }

    /// Takes these entries in place of all others.
    pub(super) fn replace(&mut self, map: BTreeMap<Bytes, Bytes>) {
        self.discount(self.bytes);
        self.map = map;
        self.count(self.map.iter().map(|(key, value)| entry_bytes(key.len(), value.len())).sum());
    }

    fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.memory.add(bytes);
    }

    fn discount(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.memory.subtract(bytes);
    }
}

impl Deref for Entries {
    type Target = BTreeMap<Bytes, Bytes>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        self.memory.subtract(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_account_is_what_the_entries_take(changes in vec((0..5usize, 0..9usize), 0..50)) {
            let memory = Arc::new(DataMemory::default());
            let mut entries = Entries::new(Arc::clone(&memory));
            for (key, size) in changes {
                let key = Bytes::from(vec![b'k'; key]);
                match size {
                    0 => drop(entries.remove(&key)),
                    1 => entries.replace(BTreeMap::from([(key, Bytes::new())])),
                    _ => entries.insert(key, Bytes::from(vec![0; size])),
                }
                let taken = entries.iter().map(|(key, value)| entry_bytes(key.len(), value.len()));
                prop_assert_eq!(memory.held_bytes(), taken.sum::<u64>());
            }
            drop(entries);
            prop_assert_eq!(memory.held_bytes(), 0);
        }
    }
}
