//! The state machine of the benches: counts commands and keeps the last one.

use bytes::Bytes;
use logboat::{SnapshotWriter, StateMachine};
use std::io;

/// A state machine that does as little as it can.
#[derive(Default)]
pub(crate) struct Counter {
    commands: u64,
    last: Vec<u8>,
}

impl StateMachine for Counter {
    fn apply(&mut self, command: Bytes) -> Bytes {
        self.commands += 1;
        // A copy: the command is a slice of a buffer of the network.
        self.last.clear();
        self.last.extend_from_slice(&command);
        Bytes::new()
    }

    fn query(&self, _query: Bytes) -> Bytes {
        Bytes::copy_from_slice(&self.last)
    }

    fn snapshot(&self) -> SnapshotWriter {
        let (commands, last) = (self.commands, self.last.clone());
        Box::new(move |writer| {
            writer.write_all(&commands.to_le_bytes())?;
            writer.write_all(&last)
        })
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut commands = [0; 8];
        reader.read_exact(&mut commands)?;
        let mut last = Vec::new();
        reader.read_to_end(&mut last)?;
        *self = Self { commands: u64::from_le_bytes(commands), last };
        Ok(())
    }
}
