//! A state machine over the engine's own tables, which many groups share: the state may be larger
//! than memory, and a snapshot is a walk over a point in time.
//!
//! `cargo run -p logboat --example tables`

use logboat::state::{
    LsmState, Namespace, StateBatch, StateEngine, StateError, StateOptions, StateUpkeep,
};
use logboat::transport::Incarnation;
use logboat::{
    ApplyError, Bytes, CommandBatch, DiskStateMachine, GroupId, GroupSpec, LogId, Node, NodeConfig,
    NodeId, OnDisk, SnapshotWriter, StateReader,
};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// Counters by name: a command is a name, and adds one to its counter. Names are 8 bytes long.
struct Counters {
    engine: Arc<dyn StateEngine>,
    group: GroupId,
    namespace: Namespace,
}

impl Counters {
    fn new(engine: &Arc<dyn StateEngine>, group: GroupId) -> Self {
        Self { engine: Arc::clone(engine), group, namespace: Namespace(0) }
    }

    /// Where the engine's user notes which namespace has the group's state.
    fn note(&self) -> Bytes {
        Bytes::copy_from_slice(&self.group.0.to_be_bytes())
    }

    fn noted(&self) -> io::Result<Option<Namespace>> {
        let note = self.engine.get(Namespace::NOTES, &self.note()).map_err(io::Error::other)?;
        let number = note.and_then(|note| note[..].try_into().ok()).map(u64::from_be_bytes);
        Ok(number.map(Namespace))
    }

    /// Has another namespace take the place of the group's, in one step and durably.
    fn switch_to(&mut self, namespace: Namespace) -> io::Result<()> {
        let mut batch = StateBatch::default();
        if let Some(former) = self.noted()? {
            batch.delete_namespace(former);
        }
        let number = Bytes::copy_from_slice(&namespace.0.to_be_bytes());
        batch.put(Namespace::NOTES, self.note(), number);
        let written = self.engine.write(&batch).and_then(|()| self.engine.flush());
        written.map_err(io::Error::other)?;
        self.namespace = namespace;
        Ok(())
    }
}

impl DiskStateMachine for Counters {
    fn open(&mut self) -> io::Result<Option<LogId>> {
        match self.noted()? {
            Some(namespace) => self.namespace = namespace,
            None => self.clear()?,
        }
        Ok(self.engine.applied(self.namespace))
    }

    fn apply(&mut self, commands: &mut CommandBatch<'_>) -> Result<(), ApplyError> {
        let failed = |error: StateError| ApplyError::Fail(error.to_string());
        while let Some((id, name)) = commands.peek().map(|(id, name)| (id, name.clone())) {
            let value = self.engine.get(self.namespace, &name).map_err(failed)?;
            let count =
                value.and_then(|value| value[..].try_into().ok()).map_or(0, u64::from_be_bytes);
            let count = Bytes::copy_from_slice(&(count + 1).to_be_bytes());
            let mut batch = StateBatch::default();
            batch.put(self.namespace, name, count.clone());
            batch.applied(self.namespace, id);
            match self.engine.write(&batch) {
                Err(StateError::Busy) => return Err(ApplyError::Retry(Duration::from_millis(5))),
                written => written.map_err(failed)?,
            }
            commands.answer(count);
        }
        let mut batch = StateBatch::default();
        batch.applied(self.namespace, commands.last());
        match self.engine.write(&batch) {
            Err(StateError::Busy) => Err(ApplyError::Retry(Duration::from_millis(5))),
            written => written.map_err(failed),
        }
    }

    fn reader(&self) -> Option<Arc<dyn StateReader>> {
        Some(Arc::new(Reader { engine: Arc::clone(&self.engine), namespace: self.namespace }))
    }

    /// The flush of one group makes the states of all durable. On a full disk that waits.
    fn sync(&mut self) -> io::Result<Option<LogId>> {
        match self.engine.flush() {
            Ok(()) | Err(StateError::NoRoom(_)) => Ok(self.engine.durable(self.namespace)),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn snapshot(&self) -> io::Result<SnapshotWriter> {
        let view = self.engine.view().map_err(io::Error::other)?;
        let all = (Bound::Unbounded, Bound::Unbounded);
        let pairs = view.scan(self.namespace, all).map_err(io::Error::other)?;
        Ok(Box::new(move |writer| {
            for pair in pairs {
                let (name, count) = pair.map_err(io::Error::other)?;
                writer.write_all(&name).and_then(|()| writer.write_all(&count))?;
            }
            Ok(())
        }))
    }

    fn restore(&mut self, reader: &mut dyn Read, last: LogId) -> io::Result<()> {
        let mut pairs = std::iter::from_fn(|| {
            let mut pair = Vec::new();
            match reader.take(16).read_to_end(&mut pair) {
                Ok(0) => None,
                Ok(_) => {
                    let count = pair.split_off(pair.len().min(8));
                    Some(Ok((pair.into(), count.into())))
                }
                Err(error) => Some(Err(error)),
            }
        });
        let fresh = self.engine.create().map_err(io::Error::other)?;
        self.engine.ingest(fresh, last, &mut pairs).map_err(io::Error::other)?;
        self.switch_to(fresh)
    }

    fn clear(&mut self) -> io::Result<()> {
        let fresh = self.engine.create().map_err(io::Error::other)?;
        self.switch_to(fresh)
    }
}

/// Answers queries on other threads: a read that waits for the disk holds up nobody.
struct Reader {
    engine: Arc<dyn StateEngine>,
    namespace: Namespace,
}

impl StateReader for Reader {
    fn query(&self, name: Bytes) -> io::Result<Bytes> {
        let value = self.engine.get(self.namespace, &name).map_err(io::Error::other)?;
        Ok(value.unwrap_or_default())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (log, tables) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
    for start in 1..=2_u64 {
        let engine = LsmState::open(tables.path(), Incarnation(1), StateOptions::default())?;
        let engine: Arc<dyn StateEngine> = Arc::new(engine);
        let upkeep = StateUpkeep::start(Arc::clone(&engine), Box::new(|_| {}));
        let node = Node::start(NodeConfig::new(NodeId(1), members.clone(), log.path())?)?;
        for group in [GroupId(1), GroupId(2)] {
            let group = node.create_group(GroupSpec {
                group,
                replicas: vec![NodeId(1)],
                preferred: Some(NodeId(1)),
                machine: Box::new(OnDisk(Counters::new(&engine, group))),
            })?;
            group.view().led().await;
            group.propose(Bytes::from_static(b"visitors")).await?;
            let count = group.read(Bytes::from_static(b"visitors")).await?;
            println!("start {start}, group {}: {count:?}", group.group());
            assert_eq!(count, &start.to_be_bytes()[..]);
        }
        node.stop();
        drop(upkeep);
    }
    Ok(())
}

/// `cargo test` runs the example, too.
#[test]
fn counters_outlive_a_restart() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
