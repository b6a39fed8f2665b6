//! Outgoing messages, batched by peer.

use logboat_raft::NodeId;
use logboat_storage::Refusals;
use logboat_transport::{Outgoing, Parcel, Transport, decode};

/// Buffers by peer. A node has few peers, so a scan is faster than a hash map.
#[derive(Default)]
pub struct PeerBuffers(Vec<(NodeId, Outgoing)>);

impl PeerBuffers {
    /// The buffer of `peer`.
    pub fn to(&mut self, peer: NodeId) -> &mut Outgoing {
        let found = self.0.iter().position(|(node, _)| *node == peer);
        let at = found.unwrap_or_else(|| {
            self.0.push((peer, Outgoing::new()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// Whether there is nothing to send.
    #[cfg(feature = "internals")]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, outgoing)| outgoing.is_empty())
    }

    /// Takes out what there is to send.
    pub fn take(&mut self) -> Vec<(NodeId, Outgoing)> {
        self.0
            .iter_mut()
            .filter(|(_, outgoing)| !outgoing.is_empty())
            .map(|(node, outgoing)| (*node, std::mem::take(outgoing)))
            .collect()
    }
}

/// Hands each peer's buffer to the transport. Raft survives the loss of any message. So a message
/// that can't be queued is dropped, and the transport counts it.
pub(crate) fn send_all(transport: &dyn Transport, buffers: Vec<(NodeId, Outgoing)>) {
    for (peer, outgoing) in buffers {
        let _ = transport.send(peer, outgoing);
    }
}

/// Promises, which are messages alone, without those of groups whose writes the log refuses.
pub(crate) fn without_refused(
    promises: Vec<(NodeId, Outgoing)>,
    refusals: &Refusals,
) -> Vec<(NodeId, Outgoing)> {
    if refusals.is_empty() {
        return promises;
    }
    let kept = |outgoing: Outgoing| {
        let (mut kept, mut parcels) = (Outgoing::new(), Vec::new());
        for frame in outgoing.into_frames() {
            // What can't be read is lost, as a message may be.
            if let Err(error) = decode(frame, &mut parcels) {
                tracing::error!("promises that are dropped: {error}");
            }
        }
        for parcel in parcels {
            if let Parcel::Message { group, message } = parcel
                && refusals.of(group).is_none()
            {
                kept.push_message(group, &message);
            }
        }
        kept
    };
    let promises = promises.into_iter().map(|(peer, outgoing)| (peer, kept(outgoing)));
    promises.filter(|(_, outgoing)| !outgoing.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use logboat_raft::{
        Entry, EntryKind, GroupId, Index, LogId, LogWrite, Message, Payload, Persist, Term,
        WriteSeq,
    };
    use logboat_storage::WalOptions;
    use logboat_storage::simulation::{InlineWal, SimDisk};

    #[test]
    fn promises_of_a_group_whose_writes_are_refused_are_not_made() {
        let (mut wal, _) = InlineWal::open(SimDisk::default(), WalOptions::default()).unwrap();
        let promises = || {
            let mut buffers = PeerBuffers::default();
            for (peer, group) in [(2, 1), (2, 7), (2, 3), (3, 7)] {
                let payload = Payload::VoteReply { granted: true };
                let message = Message::of_founder(Term(group), payload);
                buffers.to(NodeId(peer)).push_message(GroupId(group), &message);
            }
            buffers.take()
        };
        let kept = |refusals: &Refusals| -> Vec<(NodeId, Vec<u64>)> {
            let kept = without_refused(promises(), refusals).into_iter();
            kept.map(|(peer, outgoing)| {
                let mut parcels = Vec::new();
                for frame in outgoing.into_frames() {
                    decode(frame, &mut parcels).unwrap();
                }
                let group = |parcel: &Parcel| match parcel {
                    Parcel::Message { group, message } if message.term.0 == group.0 => group.0,
                    other => panic!("{other:?}"),
                };
                (peer, parcels.iter().map(group).collect())
            })
            .collect()
        };
        let all = [(NodeId(2), vec![1, 7, 3]), (NodeId(3), vec![7])];
        assert_eq!(kept(wal.log().refusals()), all);
        let id = LogId::new(Term(1), Index(9));
        let entry = Entry::new(GroupId(7), id, EntryKind::Noop, Bytes::new());
        let log = LogWrite::Append([entry].into());
        let write = Persist { seq: WriteSeq(1), hard_state: None, log };
        wal.write(&[], &[(GroupId(7), write)]).unwrap();
        assert_eq!(kept(wal.log().refusals()), [(NodeId(2), vec![1, 3])]);
    }
}
