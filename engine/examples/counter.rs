//! The library in one file: a replicated counter on a cluster of one node.
//!
//! `cargo run -p logboat --example counter`

use logboat::{Bytes, GroupId, GroupSpec, Node, NodeConfig, NodeId, SnapshotWriter, StateMachine};
use std::collections::BTreeMap;
use std::io::Read;

/// A number that commands add to.
#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, command: Bytes) -> Bytes {
        self.0 += command.len() as u64;
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }

    fn query(&self, _query: Bytes) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }

    fn snapshot(&self) -> SnapshotWriter {
        let value = self.0;
        Box::new(move |writer| writer.write_all(&value.to_le_bytes()))
    }

    fn restore(&mut self, reader: &mut dyn Read) -> std::io::Result<()> {
        let mut value = [0; 8];
        reader.read_exact(&mut value)?;
        self.0 = u64::from_le_bytes(value);
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
    let node = Node::start(NodeConfig::new(NodeId(1), members, dir.path())?)?;
    let group = node.create_group(GroupSpec {
        group: GroupId(1),
        replicas: vec![NodeId(1)],
        preferred: Some(NodeId(1)),
        machine: Box::new(Counter::default()),
    })?;
    group.view().led().await;
    group.propose(Bytes::from_static(b"one two three")).await?;
    let value = group.read(Bytes::new()).await?;
    println!("the counter stands at {:?}", value.first());
    node.stop();
    Ok(())
}

/// `cargo test` runs the example, too.
#[test]
fn the_counter_counts() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
