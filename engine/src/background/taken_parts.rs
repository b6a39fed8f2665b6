//! Word to the senders of snapshots of which parts were taken (flow control): each keeps to a
//! window, so that there is memory for all that arrives, however slow the disk.

use crate::peers::Peers;
use crate::turn::jobs::PartPlace;
use logboat_raft::NodeId;
use logboat_transport::{Outgoing, SnapshotTaken, Transport, snapshot_window_bytes};
use std::collections::HashMap;
use std::sync::Arc;

/// What of the memory for parts is kept for offers and the like: one part of so many.
const KEPT_PART: usize = 8;

/// What was taken, and how much more may come.
pub(crate) struct TakenParts {
    transport: Arc<dyn Transport>,
    peers: Arc<Peers>,
    /// The memory for parts of all peers.
    memory_bytes: usize,
    /// The last part of each peer's connection.
    newest: HashMap<NodeId, PartPlace>,
}

impl TakenParts {
    /// All peers may have so much on its way together.
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        peers: Arc<Peers>,
        memory_bytes: usize,
    ) -> Self {
        let memory_bytes = memory_bytes - memory_bytes / KEPT_PART;
        Self { transport, peers, memory_bytes, newest: HashMap::new() }
    }

    /// A part takes no memory any more, and those that came before it from the same peer don't
    /// either.
    pub(crate) fn taken(&mut self, from: NodeId, part: PartPlace) {
        self.newest.insert(from, part);
        self.say(from, part);
    }

    /// What was said to a peer may be lost, along with an earlier connection. The last word holds
    /// for what came before it, too.
    pub(crate) fn connected(&self, peer: NodeId) {
        if let Some(part) = self.newest.get(&peer) {
            self.say(peer, *part);
        }
    }

    /// The peer's connection to this node has ended: it waits for no word about it.
    pub(crate) fn closed(&mut self, peer: NodeId) {
        self.newest.remove(&peer);
    }

    fn say(&self, to: NodeId, PartPlace { group, last, end }: PartPlace) {
        let window_bytes = snapshot_window_bytes(self.memory_bytes, self.peers.all().len()) as u64;
        let mut outgoing = Outgoing::new();
        outgoing.push_snapshot_taken(&SnapshotTaken { group, last, end, window_bytes });
        // Without a connection it is said again when there is one.
        let _ = self.transport.send(to, outgoing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::{GroupId, Index, LogId, Term};
    use logboat_transport::{Parcel, PeerStatus, SendError, SnapshotSource, decode};
    use parking_lot::Mutex;

    /// Keeps what is sent while a connection stands.
    #[derive(Default)]
    struct Wire(Mutex<Option<Vec<(NodeId, SnapshotTaken)>>>);

    impl Transport for Wire {
        fn send(&self, to: NodeId, outgoing: Outgoing) -> Result<(), SendError> {
            let mut sent = self.0.lock();
            let sent = sent.as_mut().ok_or(SendError::Unreachable)?;
            let mut parcels = Vec::new();
            for frame in outgoing.into_frames() {
                decode(frame, &mut parcels).unwrap();
            }
            sent.extend(parcels.into_iter().map(|parcel| match parcel {
                Parcel::SnapshotTaken(taken) => (to, taken),
                other => panic!("{other:?}"),
            }));
            Ok(())
        }

        fn send_snapshot(&self, _: NodeId, _: SnapshotSource) {}
        fn snapshot_taken(&self, _: NodeId, _: &SnapshotTaken) {}
        fn disconnect(&self, _: NodeId, _: &str) {}

        fn peers(&self) -> Vec<PeerStatus> {
            Vec::new()
        }
    }

    fn part(end: u64) -> PartPlace {
        PartPlace { group: GroupId(7), last: LogId::new(Term(1), Index(5)), end }
    }

    #[test]
    fn what_a_lost_connection_took_along_is_said_again() {
        let [one, two] = [NodeId(1), NodeId(2)];
        let (wire, peers) = (Arc::<Wire>::default(), Arc::new(Peers::new([one, two])));
        let sent = || {
            let sent = std::mem::take(wire.0.lock().as_mut().unwrap());
            sent.into_iter().map(|(to, taken)| (to, taken.end)).collect::<Vec<_>>()
        };
        let mut parts = TakenParts::new(wire.clone(), peers, 64 << 20);
        parts.taken(one, part(10));
        parts.taken(one, part(20));
        *wire.0.lock() = Some(Vec::new());
        parts.connected(one);
        parts.connected(two);
        assert_eq!(sent(), [(one, 20)]);
        parts.taken(one, part(30));
        parts.connected(one);
        assert_eq!(sent(), [(one, 30), (one, 30)]);
        parts.closed(one);
        parts.connected(one);
        assert_eq!(sent(), []);
    }
}
