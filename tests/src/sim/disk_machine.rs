//! The simulated state machine with its state on a disk of its own. A crash leaves the state as it
//! was at the last sync, or at a later moment at which it was written by itself.

use super::machine::{Journal, Machine};
use bytes::Bytes;
use logboat::{
    ApplyError, CommandAdmission, CommandBatch, DiskStateMachine, OnDisk, SnapshotWriter,
    StateMachine, StateReader,
};
use logboat_raft::LogId;
use logboat_storage::simulation::SimSnapshotDisk;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The disks of a node's state machines, by the places of their groups.
#[derive(Clone, Debug, Default)]
pub(super) struct MachineDisks(Arc<Mutex<BTreeMap<usize, MachineDisk>>>);

impl MachineDisks {
    pub(super) fn of(&self, group: usize) -> MachineDisk {
        self.0.lock().entry(group).or_default().clone()
    }
}

/// What survives of a state. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct MachineDisk(Arc<Mutex<Saved>>);

#[derive(Clone, Debug, Default)]
struct Saved {
    /// The last entry of the state that a crash leaves, and the state.
    state: Option<(LogId, Bytes)>,
    /// What was written by itself, and what was called durable, since that was last asked.
    kept: Vec<LogId>,
    synced: Vec<LogId>,
}

impl MachineDisk {
    /// As it is now, for another machine.
    pub(super) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
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

/// The state machine.
struct DiskMachine {
    machine: Machine,
    disk: MachineDisk,
    /// Whether the node still has power.
    power: SimSnapshotDisk,
    last: LogId,
    /// Commands that it was given.
    given: u64,
    /// The command that it has asked to be given again.
    refused: Option<LogId>,
}

/// A state machine in memory, or on this disk while there is power.
pub(super) fn new_machine(
    is_on_disk: bool,
    journal: &Journal,
    disk: MachineDisk,
    power: SimSnapshotDisk,
) -> Box<dyn StateMachine> {
    let journal = Arc::clone(journal);
    if is_on_disk {
        Box::new(OnDisk(DiskMachine::new(journal, disk, power)))
    } else {
        Box::new(Machine::new(journal))
    }
}

impl DiskMachine {
    fn new(journal: Journal, disk: MachineDisk, power: SimSnapshotDisk) -> Self {
        let machine = Machine::new(journal);
        Self { machine, disk, power, last: LogId::default(), given: 0, refused: None }
    }

    fn content(&self) -> io::Result<Bytes> {
        let mut content = Vec::new();
        StateMachine::snapshot(&self.machine)(&mut content)?;
        Ok(content.into())
    }

    /// Writes the state.
    fn save(&self) -> io::Result<()> {
        if self.power.is_cut() {
            return Err(io::Error::other("there is no power"));
        }
        self.disk.0.lock().state = Some((self.last, self.content()?));
        Ok(())
    }

    /// Whether it does something unusual with this command, about so seldom.
    fn picks(&self, id: LogId, seldom: u64) -> bool {
        (id.index.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.given) >> 7 & 0xff < 256 / seldom
    }
}

impl DiskStateMachine for DiskMachine {
    fn open(&mut self) -> io::Result<Option<LogId>> {
        let saved = self.disk.0.lock().state.clone();
        let Some((last, content)) = saved else { return Ok(None) };
        self.machine.load(content);
        self.last = last;
        Ok(Some(last))
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
            let answer = self.machine.apply(command);
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
        Some(Arc::new(self.machine.clone()))
    }

    /// Now and then it leaves the newest entries out.
    fn sync(&mut self) -> io::Result<Option<LogId>> {
        if self.disk.holds() == LogId::default() || !self.picks(self.last, 4) {
            self.save()?;
        }
        let last = self.disk.holds();
        self.disk.0.lock().synced.push(last);
        Ok(Some(last))
    }

    fn snapshot(&self) -> io::Result<SnapshotWriter> {
        Ok(self.machine.snapshot())
    }

    fn restore(&mut self, reader: &mut dyn io::Read, last: LogId) -> io::Result<()> {
        self.machine.restore(reader)?;
        self.last = last;
        self.save()
    }

    fn clear(&mut self) -> io::Result<()> {
        self.disk.0.lock().state = None;
        Ok(())
    }

    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        self.machine.command_admission()
    }
}
