//! The table of the cluster as a group of the simulation: the router's state machine behind what
//! the simulation wants to know of every command.

use crate::sim::disk_machine::{Surroundings, new_machine};
use crate::sim::machine::{AS_ASKED, Breakage, Journal, Marking, take_query_id};
use bytes::{Buf, BufMut, Bytes};
use logboat::{CommandAdmission, SnapshotWriter, StateMachine};
use logboat_router::internals::{Command, Feed, MetaMachine};
use std::io;
use std::sync::Arc;

/// A state machine for a replica of a group (by place). That of the meta group fills the feed.
pub(in crate::sim) fn machine_of(
    group: usize,
    feed: &Arc<Feed>,
    surroundings: Surroundings<'_>,
) -> Box<dyn StateMachine> {
    if surroundings.plan.is_meta(group) {
        let (machine, journal) = (MetaMachine::new(Arc::clone(feed)), surroundings.journal);
        return Box::new(TableMachine { machine, journal: Arc::clone(journal), count: 0 });
    }
    new_machine(group, surroundings)
}

/// A command of the table, with its number.
pub(super) fn encode(number: u64, command: &Command) -> Bytes {
    let mut bytes = vec![AS_ASKED];
    bytes.put_u64_le(number);
    bytes.put_slice(&command.encode());
    bytes.into()
}

struct TableMachine {
    machine: MetaMachine,
    journal: Journal,
    /// How many commands it was given.
    count: u64,
}

impl StateMachine for TableMachine {
    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        Some(Arc::new(Marking))
    }

    fn apply(&mut self, mut command: Bytes) -> Bytes {
        let breaks = self.journal.lock().breaks;
        assert_ne!(breaks, Some(Breakage::Apply), "simulated panic at a command");
        let crc = crc32fast::hash(&command);
        command.advance(1);
        let number = command.get_u64_le();
        self.journal.lock().applied.push((self.count, number, crc));
        self.count += 1;
        self.machine.apply(command)
    }

    fn query(&self, query: Bytes) -> Bytes {
        self.journal.lock().answered.push(take_query_id(&mut query.clone()));
        self.machine.query(query)
    }

    fn snapshot(&self) -> SnapshotWriter {
        let (count, table) = (self.count, self.machine.snapshot());
        Box::new(move |writer| {
            writer.write_all(&count.to_le_bytes())?;
            table(writer)
        })
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut count = [0; 8];
        reader.read_exact(&mut count)?;
        self.count = u64::from_le_bytes(count);
        self.machine.restore(reader)
    }
}
