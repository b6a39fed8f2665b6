//! State on disk: ordered tables for the states of many groups, without a write-ahead log of their
//! own.
//!
//! The log of the groups is the log of their states. So an engine keeps what is written in memory
//! until it flushes it, says how far each state is *durable*, and loses the rest in a crash: the
//! groups apply that again. What it keeps is a prefix of what was written, never a part of a batch.
//!
//! [`StateEngine`] is the interface. [`LsmState`] is the engine: `lsm-tree`, driven as its module
//! explains. [`ModelState`] is the same in memory, for tests and simulation, with crashes and
//! failures on demand. One suite of tests (`storage/tests/state`) runs against both.
//!
//! States live in **namespaces**, which the engine numbers. A number is given once. A state that is
//! replaced, by a peer's snapshot, moves to a fresh namespace: [`StateEngine::ingest`] fills it,
//! and one [`StateBatch`] deletes the old one and notes the new one where the caller keeps such
//! notes.

mod batch;
mod engine;
mod error;
mod lsm;
mod model;
mod options;
mod upkeep;

pub use batch::{Namespace, StateBatch, Write};
pub use engine::{Pair, Pressure, StateEngine, StateScan, StateStatistics, StateView};
pub use error::StateError;
pub use lsm::LsmState;
pub use model::{Failure, ModelDisk, ModelState};
pub use options::StateOptions;
pub use upkeep::{StateUpkeep, UpkeepReport};
