//! The state machines on disk that a node has. A group has one at a time: two would write to the
//! same state.
//!
//! A replica ends at once, whatever its state machine does. A call of that may wait in the pool, or
//! run for long, and goes on writing to the state. So who starts another replica of the group waits
//! until the former state machine is dropped.

use crate::state_machine::{
    ApplyError, ApplyOn, CommandAdmission, CommandBatch, DiskStateMachine, SnapshotWriter,
    StateMachine, StateReader,
};
use bytes::Bytes;
use logboat_raft::GroupId;
use logboat_storage::DataDir;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};

/// The state machines on disk that are not dropped yet.
pub(crate) struct DiskMachines {
    state: Mutex<State>,
    changed: Condvar,
    /// The lock of the directory, which no other node gets while a state machine is there.
    directory: Weak<DataDir>,
}

#[derive(Default)]
struct State {
    /// How many a group has.
    living: BTreeMap<GroupId, usize>,
    is_closed: bool,
}

impl DiskMachines {
    pub(crate) fn new(directory: &Arc<DataDir>) -> Arc<Self> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Arc::new(Self { state, changed, directory: Arc::downgrade(directory) })
    }

    /// Waits until a group has none. Returns whether that is so: it is not when the node stops
    /// first.
    pub(crate) fn await_none(&self, group: GroupId) -> bool {
        let mut state = self.state.lock();
        if state.living.contains_key(&group) {
            tracing::warn!(group = group.0, "a former state machine of the group is still called");
        }
        while state.living.contains_key(&group) && !state.is_closed {
            self.changed.wait(&mut state);
        }
        !state.is_closed
    }

    /// Counts a state machine from now on, until it is dropped. One in memory is returned as it is.
    pub(crate) fn count(
        self: &Arc<Self>,
        group: GroupId,
        mut machine: Box<dyn StateMachine>,
    ) -> Box<dyn StateMachine> {
        if machine.on_disk().is_none() {
            return machine;
        }
        *self.state.lock().living.entry(group).or_default() += 1;
        let (machines, directory) = (Arc::clone(self), self.directory.upgrade());
        Box::new(Counted { machine, _living: Living { machines, group, _directory: directory } })
    }

    /// Nobody waits any more.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }
}

/// A state machine that is counted. What counts it is dropped last.
struct Counted {
    machine: Box<dyn StateMachine>,
    _living: Living,
}

struct Living {
    machines: Arc<DiskMachines>,
    group: GroupId,
    _directory: Option<Arc<DataDir>>,
}

impl Drop for Living {
    fn drop(&mut self) {
        let mut state = self.machines.state.lock();
        if let Some(count) = state.living.get_mut(&self.group) {
            *count -= 1;
            if *count == 0 {
                state.living.remove(&self.group);
            }
        }
        self.machines.changed.notify_all();
    }
}

impl StateMachine for Counted {
    fn apply_batch(&mut self, commands: &mut CommandBatch<'_>) -> Result<(), ApplyError> {
        self.machine.apply_batch(commands)
    }

    fn query(&self, query: Bytes) -> Bytes {
        self.machine.query(query)
    }

    fn reader(&self) -> Option<Arc<dyn StateReader>> {
        self.machine.reader()
    }

    fn snapshot(&self) -> SnapshotWriter {
        self.machine.snapshot()
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        self.machine.restore(reader)
    }

    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        self.machine.command_admission()
    }

    fn apply_on(&self) -> ApplyOn {
        self.machine.apply_on()
    }

    fn on_disk(&mut self) -> Option<&mut dyn DiskStateMachine> {
        self.machine.on_disk()
    }
}
