//! Engines to test, and what the tests write.

use bytes::Bytes;
use logboat_raft::{Incarnation, Index, LogId, Term};
use logboat_storage::state::{
    LsmState, ModelDisk, ModelState, Namespace, Pair, StateBatch, StateEngine, StateError,
    StateOptions,
};
use std::ops::Bound;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const OWNER: Incarnation = Incarnation(7);

pub(crate) const ALL: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Unbounded, Bound::Unbounded);

/// Where an engine lives. Dropping the engine is a crash of its process.
pub(crate) trait Home {
    type Engine: StateEngine;

    fn new() -> Self;

    fn try_open(&self) -> Result<Self::Engine, StateError>;

    fn open(&self) -> Self::Engine {
        self.try_open().expect("an engine")
    }
}

pub(crate) struct LsmHome(TempDir);

impl LsmHome {
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("state")
    }
}

impl Home for LsmHome {
    type Engine = LsmState;

    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn try_open(&self) -> Result<LsmState, StateError> {
        LsmState::open(&self.path(), OWNER, small())
    }
}

pub(crate) struct ModelHome(pub(crate) ModelDisk);

impl Home for ModelHome {
    type Engine = ModelState;

    fn new() -> Self {
        Self(ModelDisk::default())
    }

    fn try_open(&self) -> Result<ModelState, StateError> {
        Ok(ModelState::open(&self.0, small()))
    }
}

/// Memtables that are full soon.
pub(crate) fn small() -> StateOptions {
    StateOptions {
        memtable_bytes: 8 << 10,
        max_age: Duration::from_secs(60),
        table_bytes: 8 << 10,
        ..StateOptions::default()
    }
}

pub(crate) fn at(index: u64) -> LogId {
    LogId::new(Term(1), Index(index))
}

pub(crate) fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

/// Writes one value, and that it was the entry `index`.
pub(crate) fn put(
    engine: &dyn StateEngine,
    namespace: Namespace,
    key: &str,
    value: &str,
    index: u64,
) {
    let mut batch = StateBatch::default();
    batch.put(namespace, bytes(key), bytes(value));
    batch.applied(namespace, at(index));
    write(engine, &batch);
}

/// Writes a batch, and does what an engine wants that is full.
pub(crate) fn write(engine: &dyn StateEngine, batch: &StateBatch) {
    loop {
        match engine.write(batch) {
            Err(StateError::Busy) => {
                engine.flush().expect("flushed");
                while engine.compact().expect("compacted") {}
            }
            result => return result.expect("written"),
        }
    }
}

pub(crate) fn value(engine: &dyn StateEngine, namespace: Namespace, key: &str) -> Option<String> {
    let value = engine.get(namespace, key.as_bytes()).expect("a read");
    value.map(|value| String::from_utf8(value.to_vec()).expect("text"))
}

/// The pairs of a namespace, as text.
pub(crate) fn pairs(engine: &dyn StateEngine, namespace: Namespace) -> Vec<String> {
    let scan = engine.view().and_then(|view| view.scan(namespace, ALL)).expect("a scan");
    scan.map(|pair| show(&pair.expect("a pair"))).collect()
}

pub(crate) fn show((key, value): &Pair) -> String {
    format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value))
}

pub(crate) fn settle(engine: &dyn StateEngine) {
    engine.flush().expect("flushed");
    while engine.compact().expect("compacted") {}
}
