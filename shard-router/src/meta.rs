//! The state machine of the meta group: the table of the cluster.

use crate::table::{Command, Feed, Outcome, Table};
use bytes::Bytes;
use logboat::{SnapshotWriter, StateMachine};
use std::io;
use std::sync::Arc;

/// Applies the commands of the table, and publishes each table that results. The answer to a
/// command is its [`Outcome`], and that to a query the version of the table.
pub struct MetaMachine {
    table: Arc<Table>,
    feed: Arc<Feed>,
}

impl MetaMachine {
    /// A machine that fills this feed.
    #[must_use]
    pub fn new(feed: Arc<Feed>) -> Self {
        Self { table: Arc::default(), feed }
    }
}

impl StateMachine for MetaMachine {
    fn apply(&mut self, command: Bytes) -> Bytes {
        let Some(command) = Command::decode(&command) else {
            return Outcome::Refused("not a command of the table".to_owned()).encode();
        };
        // Copies what changes, where somebody else looks at the table.
        let outcome = Arc::make_mut(&mut self.table).apply(&command);
        if matches!(outcome, Outcome::Done { .. }) {
            self.feed.publish(Arc::clone(&self.table), vec![Arc::new(command)]);
        }
        outcome.encode()
    }

    fn query(&self, _query: Bytes) -> Bytes {
        Bytes::copy_from_slice(&self.table.version().to_le_bytes())
    }

    fn snapshot(&self) -> SnapshotWriter {
        let table = Arc::clone(&self.table);
        Box::new(move |writer| table.write(writer))
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        self.table = Arc::new(Table::read(&bytes)?);
        self.feed.publish(Arc::clone(&self.table), Vec::new());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::table::{Change, ClusterSettings, Foundation};
    use logboat::{ClusterId, NodeId};

    fn found(groups: usize) -> Command {
        let plan = Plan {
            layout: "hash".to_owned(),
            groups: Some(groups),
            keeps_layout: false,
            edge_bits: 16,
            split_keys: None,
            replicas: 3,
        };
        let nodes = [(NodeId(1), "here:1".to_owned())];
        Command::new(
            Change::Found(Foundation::new(
                ClusterId(7),
                &plan,
                &ClusterSettings::default(),
                nodes.into_iter(),
            )),
            "",
        )
    }

    #[test]
    fn the_first_foundation_stays() {
        let feed = Feed::new();
        let mut machine = MetaMachine::new(Arc::clone(&feed));
        let done = Outcome::Done { version: 1, node: None };
        assert_eq!(Outcome::decode(&machine.apply(found(4).encode())), Some(done));
        let unchanged = Outcome::Unchanged { version: 1, node: None };
        assert_eq!(Outcome::decode(&machine.apply(found(5).encode())), Some(unchanged));
        let junk = Outcome::decode(&machine.apply(Bytes::from_static(b"junk")));
        assert!(matches!(junk, Some(Outcome::Refused(_))));
        assert_eq!(feed.newest().ranges().len(), 4);
    }

    #[test]
    fn the_table_survives_a_snapshot() {
        for commands in [vec![], vec![found(7)]] {
            let mut machine = MetaMachine::new(Feed::new());
            commands.iter().for_each(|command| drop(machine.apply(command.encode())));
            let mut bytes = Vec::new();
            machine.snapshot()(&mut bytes).unwrap();
            let feed = Feed::new();
            let mut restored = MetaMachine::new(Arc::clone(&feed));
            restored.restore(&mut &bytes[..]).unwrap();
            assert_eq!(restored.table, machine.table);
            assert_eq!(feed.newest(), machine.table);
        }
    }

    #[test]
    fn a_table_of_an_earlier_build_is_refused() {
        let mut machine = MetaMachine::new(Feed::new());
        let error = machine.restore(&mut &[1, 0, 0, 0][..]).unwrap_err().to_string();
        assert!(error.contains("an earlier build"), "{error}");
    }
}
