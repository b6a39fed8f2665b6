//! The state machine of the meta group: the map of ranges.

use crate::map::RangeMap;
use bytes::Bytes;
use logboat::{SnapshotWriter, StateMachine};
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

/// Where the map is watched. There is none before the first command.
pub(crate) type MapWatch = watch::Receiver<Option<Arc<RangeMap>>>;

/// A command is an encoded map. It is accepted if its epoch follows that of the current map; the
/// first map has epoch 1. The answer to a command or a query is the map that is current then.
pub(crate) struct MetaMachine(watch::Sender<Option<Arc<RangeMap>>>);

impl MetaMachine {
    /// The machine, and where its map can be watched.
    pub(crate) fn new() -> (Self, MapWatch) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), receiver)
    }

    fn encoded(&self) -> Bytes {
        self.0.borrow().as_ref().map_or_else(Bytes::new, |map| map.encode())
    }

    fn epoch(&self) -> u64 {
        self.0.borrow().as_ref().map_or(0, |map| map.epoch())
    }
}

impl StateMachine for MetaMachine {
    fn apply(&mut self, command: Bytes) -> Bytes {
        match RangeMap::decode(command) {
            Ok(map) if Some(map.epoch()) == self.epoch().checked_add(1) => {
                self.0.send_replace(Some(Arc::new(map)));
            }
            Ok(_) | Err(_) => {}
        }
        self.encoded()
    }

    fn query(&self, _query: Bytes) -> Bytes {
        self.encoded()
    }

    fn snapshot(&self) -> SnapshotWriter {
        let map = self.encoded();
        Box::new(move |writer| writer.write_all(&map))
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        let map = match bytes.is_empty() {
            true => None,
            false => Some(Arc::new(RangeMap::decode(bytes.into()).map_err(io::Error::other)?)),
        };
        self.0.send_replace(map);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use logboat::NodeId;

    fn map(groups: usize) -> RangeMap {
        let plan = Plan {
            layout: "hash".to_owned(),
            groups: Some(groups),
            keeps_layout: false,
            edge_bits: 16,
            split_keys: None,
            replicas: 3,
        };
        plan.map(&[NodeId(1)]).unwrap()
    }

    #[test]
    fn the_first_map_stays() {
        let (mut machine, watch) = MetaMachine::new();
        assert_eq!(machine.query(Bytes::new()), Bytes::new());
        assert_eq!(machine.apply(map(4).encode()), map(4).encode());
        assert_eq!(machine.apply(map(5).encode()), map(4).encode());
        assert_eq!(machine.apply(Bytes::from_static(b"junk")), map(4).encode());
        assert_eq!(watch.borrow().as_deref(), Some(&map(4)));
    }

    #[test]
    fn the_map_survives_a_snapshot() {
        for commands in [vec![], vec![map(7).encode()]] {
            let (mut machine, _) = MetaMachine::new();
            commands.into_iter().for_each(|command| drop(machine.apply(command)));
            let mut bytes = Vec::new();
            machine.snapshot()(&mut bytes).unwrap();
            let (mut restored, watch) = MetaMachine::new();
            restored.restore(&mut &bytes[..]).unwrap();
            assert_eq!(*watch.borrow(), *machine.0.borrow());
        }
    }
}
