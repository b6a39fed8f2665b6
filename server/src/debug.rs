//! Replicas that stand still when they are told so, to try out what others make of it: DEBUG SLEEP.
//!
//! A command that the log carries would stop all replicas of a group. So nothing of this is in the
//! log: it concerns the replicas of one node, and only how long they take.

use crate::kv::{DiskStore, Store};
use bytes::Bytes;
use clap::ValueEnum;
use logboat::{
    ApplyError, ApplyOn, CommandAdmission, CommandBatch, DiskStateMachine, LogId, SnapshotWriter,
    StateMachine, StateReader,
};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde::Deserialize;
use std::fmt::{self, Display};
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Who may use DEBUG, as `enable-debug-command` of Redis says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DebugCommand {
    /// Nobody.
    #[default]
    No,
    /// Clients on this machine.
    Local,
    /// All clients.
    Yes,
}

impl DebugCommand {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Local => "local",
            Self::Yes => "yes",
        }
    }
}

impl Display for DebugCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Until when replicas of this node stand still.
#[derive(Debug, Default)]
pub struct Sleeps {
    /// By the first keys of their ranges.
    until: Mutex<FxHashMap<Bytes, Instant>>,
}

impl Sleeps {
    /// Has the replica of the range that begins with this key stand still at its next command, for
    /// what is left of `time` then.
    pub fn begin(&self, range_start: Bytes, time: Duration) {
        self.until.lock().insert(range_start, Instant::now() + time);
    }

    /// Sleeps, if the replica is to stand still.
    fn sleep(&self, range_start: &Bytes) {
        let until = self.until.lock().remove(range_start);
        if let Some(until) = until {
            thread::sleep(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// A store that stands still when it is told so.
pub(crate) struct Sleepy<S> {
    pub(crate) store: S,
    pub(crate) sleeps: Arc<Sleeps>,
    pub(crate) range_start: Bytes,
}

impl StateMachine for Sleepy<Store> {
    fn apply(&mut self, command: Bytes) -> Bytes {
        self.sleeps.sleep(&self.range_start);
        StateMachine::apply(&mut self.store, command)
    }

    fn query(&self, query: Bytes) -> Bytes {
        StateMachine::query(&self.store, query)
    }

    fn snapshot(&self) -> SnapshotWriter {
        StateMachine::snapshot(&self.store)
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        StateMachine::restore(&mut self.store, reader)
    }

    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        self.store.command_admission()
    }
}

impl DiskStateMachine for Sleepy<DiskStore> {
    fn open(&mut self) -> io::Result<Option<LogId>> {
        self.store.open()
    }

    fn apply(&mut self, commands: &mut CommandBatch<'_>) -> Result<(), ApplyError> {
        if commands.peek().is_some() {
            self.sleeps.sleep(&self.range_start);
        }
        self.store.apply(commands)
    }

    fn reader(&self) -> Option<Arc<dyn StateReader>> {
        self.store.reader()
    }

    fn sync(&mut self) -> io::Result<Option<LogId>> {
        self.store.sync()
    }

    fn snapshot(&self) -> io::Result<SnapshotWriter> {
        self.store.snapshot()
    }

    fn restore(&mut self, reader: &mut dyn Read, last: LogId) -> io::Result<()> {
        self.store.restore(reader, last)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.store.clear()
    }

    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        self.store.command_admission()
    }

    fn apply_on(&self) -> ApplyOn {
        self.store.apply_on()
    }
}
