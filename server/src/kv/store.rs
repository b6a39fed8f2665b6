//! The state machine of a group whose state is in memory.

use super::admission::StoreAdmission;
use super::clock::{GroupTime, NodeClock};
use super::memory::DataMemory;
use super::memory_keys::{Map, MemoryKeys};
use super::message::DATABASES;
use super::snapshot::{
    SnapshotReader, SnapshotWriter, write_database, write_end, write_entry, write_head,
};
use super::state::State;
use bytes::Bytes;
use std::array;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

/// The keys and values of one group, in memory.
#[derive(Debug)]
pub struct Store {
    state: State<MemoryKeys>,
    memory: Arc<DataMemory>,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that counts what it holds in `memory`.
    #[must_use]
    pub fn counted(memory: Arc<DataMemory>) -> Self {
        Self::timed(memory, Arc::new(GroupTime::new(Arc::new(NodeClock::start()))))
    }

    /// An empty store that counts what it holds in `memory`, and goes by `time`.
    #[must_use]
    pub fn timed(memory: Arc<DataMemory>, time: Arc<GroupTime>) -> Self {
        let keys = array::from_fn(|_| MemoryKeys::new(Arc::clone(&memory)));
        Self { state: State::new(keys, time, 0), memory }
    }

    /// What decides about commands on the node that leads the group.
    #[must_use]
    pub fn admission(&self) -> StoreAdmission {
        StoreAdmission::new(self.memory(), self.time())
    }

    /// The clock of the group, and that of the node.
    #[must_use]
    pub fn time(&self) -> Arc<GroupTime> {
        Arc::clone(self.state.time())
    }

    /// Where what it holds is counted.
    #[must_use]
    pub fn memory(&self) -> Arc<DataMemory> {
        Arc::clone(&self.memory)
    }

    /// Carries out an encoded [`Command`](super::Command) and returns the encoded
    /// [`Answer`](super::Answer). Deterministic and total: bytes that are no command change
    /// nothing, and are told so.
    pub fn apply(&mut self, command: &Bytes) -> Bytes {
        certain(self.state.apply(command))
    }

    /// Answers an encoded [`Query`](super::Query) with an encoded [`Answer`](super::Answer).
    #[must_use]
    pub fn query(&self, query: &Bytes) -> Bytes {
        certain(self.state.query(query))
    }

    /// Captures the state as it is now; the returned function writes it, later and on any thread.
    /// The capture copies the maps but neither keys nor values.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotWriter {
        let clock_ms = self.state.clock_ms();
        let databases: Vec<Map> = self.state.keys().map(|keys| keys.map().clone()).collect();
        Box::new(move |writer| {
            write_head(writer, clock_ms)?;
            let databases = databases.iter().enumerate();
            for (number, map) in databases.filter(|(_, map)| !map.is_empty()) {
                write_database(writer, number, map.len() as u64)?;
                map.iter().try_for_each(|(key, entry)| write_entry(writer, key, entry))?;
            }
            write_end(writer)
        })
    }

    /// Replaces the state by one that a [`snapshot`](Self::snapshot) wrote, or one of a store on
    /// disk.
    ///
    /// # Errors
    /// Fails if reading fails or the bytes are no snapshot of this version; the state is then what
    /// it was before.
    pub fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut reader = SnapshotReader::new(reader)?;
        let mut maps: [Map; DATABASES as usize] = Default::default();
        while let Some(database) = reader.next_database()? {
            while let Some((key, entry)) = reader.next_entry()? {
                maps[database].insert(key, entry);
            }
        }
        let clock_ms = reader.clock_ms();
        self.state.keys_mut().zip(maps).for_each(|(keys, map)| keys.replace(map));
        self.state.replaced(clock_ms);
        Ok(())
    }
}

fn certain<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::counted(Arc::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Command;

    #[test]
    fn a_store_that_was_cleared_takes_no_memory() {
        let mut store = Store::new();
        let pairs = vec![(Bytes::from("k"), Bytes::from("v"))];
        let command = Command::SetMany { pairs, only_if_missing: false };
        for database in [0, 7] {
            store.apply(&command.encode_in(database));
        }
        assert!(store.memory().held_bytes() > 0);
        store.apply(&Command::ClearAll.encode());
        assert_eq!(store.memory().held_bytes(), 0);
    }
}
