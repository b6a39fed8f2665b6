//! The simulated state machine with its state on a disk of its own. A crash leaves the state as it
//! was at the last sync, or at a later moment at which it was written by itself.

use super::key_machine::{KeyMachine, StoredKeys};
use super::machine::{Journal, Machine};
use super::options::Plan;
use bytes::Bytes;
use logboat::{
    ApplyError, CommandAdmission, CommandBatch, DiskStateMachine, OnDisk, SnapshotWriter,
    StateMachine, StateReader,
};
use logboat_raft::LogId;
use logboat_server::kv::NodeClock;
use logboat_storage::simulation::SimSnapshotDisk;
use logboat_storage::state::ModelDisk;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The disks of a node's state machines, by the places of their groups.
#[derive(Clone, Default)]
pub(super) struct MachineDisks(Arc<Mutex<BTreeMap<usize, MachineDisk>>>);

impl MachineDisks {
    pub(super) fn of(&self, group: usize) -> MachineDisk {
        self.0.lock().entry(group).or_default().clone()
    }
}

/// What survives of a state. Clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct MachineDisk(Arc<Mutex<Saved>>);

#[derive(Clone, Default)]
struct Saved {
    /// The last entry of the state that a crash leaves, and the state, if it is not in the tables.
    state: Option<(LogId, Bytes)>,
    /// Those of a store of keys.
    tables: ModelDisk,
    /// What was written by itself, and what was called durable, since that was last asked.
    kept: Vec<LogId>,
    synced: Vec<LogId>,
}

impl MachineDisk {
    /// As it is now, for another machine.
    pub(super) fn copy(&self) -> Self {
        let mut saved = self.0.lock().clone();
        saved.tables = saved.tables.copy();
        Self(Arc::new(Mutex::new(saved)))
    }

    /// The tables of a store of keys.
    pub(super) fn tables(&self) -> ModelDisk {
        self.0.lock().tables.clone()
    }

    /// The last entry that a crash leaves.
    pub(super) fn holds(&self) -> LogId {
        self.0.lock().state.as_ref().map(|(last, _)| *last).unwrap_or_default()
    }

    /// Where the state was written by itself, and where it was called durable, since the last call.
    pub(super) fn take_positions(&self) -> (Vec<LogId>, Vec<LogId>) {
        let mut saved = self.0.lock();
        (std::mem::take(&mut saved.kept), std::mem::take(&mut saved.synced))
    }
}

/// A state as it is on its disk and in memory.
pub(super) trait DiskState: Send + 'static {
    /// Takes up what a crash has left, and returns the last entry of that.
    fn open(&mut self, disk: &MachineDisk) -> io::Result<Option<LogId>>;

    /// Applies the command of an entry.
    fn apply(&mut self, id: LogId, command: Bytes) -> Bytes;

    /// Has the state survive a crash, which stands at `last`, and returns the last entry that will.
    fn save(&mut self, last: LogId) -> io::Result<Option<(LogId, Bytes)>>;

    /// What answers queries.
    fn reader(&self) -> Arc<dyn StateReader>;

    /// Captures the state.
    fn snapshot(&self) -> io::Result<SnapshotWriter>;

    /// Takes over a state that stands at `last`.
    fn restore(&mut self, reader: &mut dyn io::Read, last: LogId) -> io::Result<()>;

    /// Forgets what it is.
    fn clear(&mut self) -> io::Result<()>;

    /// What decides about commands.
    fn admission(&self) -> Option<Arc<dyn CommandAdmission>>;
}

impl DiskState for Machine {
    fn open(&mut self, disk: &MachineDisk) -> io::Result<Option<LogId>> {
        let saved = disk.0.lock().state.clone();
        Ok(saved.map(|(last, content)| {
            self.load(content);
            last
        }))
    }

    fn apply(&mut self, _: LogId, command: Bytes) -> Bytes {
        StateMachine::apply(self, command)
    }

    fn save(&mut self, last: LogId) -> io::Result<Option<(LogId, Bytes)>> {
        let mut content = Vec::new();
        StateMachine::snapshot(self)(&mut content)?;
        Ok(Some((last, content.into())))
    }

    fn reader(&self) -> Arc<dyn StateReader> {
        Arc::new(self.clone())
    }

    fn snapshot(&self) -> io::Result<SnapshotWriter> {
        Ok(StateMachine::snapshot(self))
    }

    fn restore(&mut self, reader: &mut dyn io::Read, _: LogId) -> io::Result<()> {
        StateMachine::restore(self, reader)
    }

    fn clear(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        self.command_admission()
    }
}

/// The state machine.
struct DiskMachine<S> {
    state: S,
    disk: MachineDisk,
    /// Whether the node still has power.
    power: SimSnapshotDisk,
    last: LogId,
    /// Commands that it was given.
    given: u64,
    /// The command that it has asked to be given again.
    refused: Option<LogId>,
}

/// What a state machine works with.
pub(super) struct Surroundings<'a> {
    pub(super) plan: &'a Plan,
    pub(super) journal: &'a Journal,
    /// Its disk, if it keeps its state itself.
    pub(super) disk: MachineDisk,
    /// Whether the node still has power.
    pub(super) power: SimSnapshotDisk,
    /// The clock of the node.
    pub(super) clock: &'a Arc<NodeClock>,
}

/// The state machine of a group (by place), in memory, or on this disk while there is power.
pub(super) fn new_machine(group: usize, surroundings: Surroundings<'_>) -> Box<dyn StateMachine> {
    let Surroundings { plan, journal, disk, power, clock } = surroundings;
    let (journal, clock) = (Arc::clone(journal), Arc::clone(clock));
    match (plan.keys, plan.is_on_disk(group)) {
        (false, false) => Box::new(Machine::new(journal)),
        (false, true) => Box::new(OnDisk(DiskMachine::new(Machine::new(journal), disk, power))),
        (true, false) => Box::new(KeyMachine::new(journal, clock)),
        (true, true) => {
            let keys = StoredKeys::new(group, journal, clock, &disk.tables());
            Box::new(OnDisk(DiskMachine::new(keys, disk, power)))
        }
    }
}

impl<S: DiskState> DiskMachine<S> {
    fn new(state: S, disk: MachineDisk, power: SimSnapshotDisk) -> Self {
        Self { state, disk, power, last: LogId::default(), given: 0, refused: None }
    }

    /// Whether the node has power.
    fn is_powered(&self) -> io::Result<()> {
        match self.power.is_cut() {
            true => Err(io::Error::other("there is no power")),
            false => Ok(()),
        }
    }

    /// Writes the state.
    fn save(&mut self) -> io::Result<()> {
        self.is_powered()?;
        let saved = self.state.save(self.last)?;
        self.disk.0.lock().state = saved;
        Ok(())
    }

    /// Whether it does something unusual with this command, about so seldom.
    fn picks(&self, id: LogId, seldom: u64) -> bool {
        (id.index.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.given) >> 7 & 0xff < 256 / seldom
    }
}

impl<S: DiskState> DiskStateMachine for DiskMachine<S> {
    fn open(&mut self) -> io::Result<Option<LogId>> {
        let opened = self.state.open(&self.disk)?;
        self.last = opened.unwrap_or(self.last);
        Ok(opened)
    }

    fn apply(&mut self, commands: &mut CommandBatch<'_>) -> Result<(), ApplyError> {
        while let Some((id, command)) = commands.peek().map(|(id, command)| (id, command.clone())) {
            self.given += 1;
            if self.refused != Some(id) && self.picks(id, 32) {
                self.refused = Some(id);
                let long = if self.picks(id, 2) { 1_000 } else { 50 };
                return Err(ApplyError::Retry(Duration::from_millis(self.given * 37 % long)));
            }
            assert!(id.index > self.last.index, "{id} is applied to a state of {}", self.last);
            let answer = self.state.apply(id, command);
            commands.answer(answer);
            self.last = id;
            if self.picks(id, 8) && self.save().is_ok() {
                self.disk.0.lock().kept.push(id);
            }
        }
        self.last = commands.last();
        Ok(())
    }

    fn reader(&self) -> Option<Arc<dyn StateReader>> {
        Some(self.state.reader())
    }

    /// Now and then it leaves the newest entries out.
    fn sync(&mut self) -> io::Result<Option<LogId>> {
        if self.disk.holds() == LogId::default() || !self.picks(self.last, 4) {
            self.save()?;
        }
        let mut saved = self.disk.0.lock();
        // A store of keys that has applied nothing has nothing to save.
        let Some((last, _)) = saved.state else { return Ok(None) };
        saved.synced.push(last);
        Ok(Some(last))
    }

    fn snapshot(&self) -> io::Result<SnapshotWriter> {
        self.state.snapshot()
    }

    fn restore(&mut self, reader: &mut dyn io::Read, last: LogId) -> io::Result<()> {
        self.is_powered()?;
        self.state.restore(reader, last)?;
        self.last = last;
        self.save()
    }

    fn clear(&mut self) -> io::Result<()> {
        self.state.clear()?;
        self.disk.0.lock().state = None;
        Ok(())
    }

    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        self.state.admission()
    }
}
