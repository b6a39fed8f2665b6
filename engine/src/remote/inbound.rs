//! Inbound traffic: what arrives from the peers is sorted by worker and handed to the replicas.

use crate::admission::gate::AdmissionGate;
use crate::error::RequestError;
use crate::liveness::manager::LivenessManager;
use crate::remote::calls::Calls;
use crate::remote::relays::{Origin, Relays};
use crate::replica::event::GroupEvent;
use crate::replica::request::Request;
use crate::request::encoding::{decode_request, encode_reply};
use crate::turn::jobs::{SnapshotJob, SnapshotQueue};
use crate::worker::event::Event;
use crate::worker::inbox::Workers;
use bytes::Bytes;
use logboat_raft::{Entry, GroupId, Incarnation, Message, NodeId, Payload};
use logboat_storage::KnownPeers;
use logboat_transport::{Inbox, Outgoing, Parcel, RequestId, SendError, Transport};
use std::sync::{Arc, OnceLock, Weak};

/// Sorts what arrives by worker, so that each worker is woken once a frame.
pub(crate) struct Inbound {
    pub(crate) workers: Workers,
    pub(crate) calls: Arc<Calls>,
    pub(crate) relays: Relays,
    pub(crate) snapshots: SnapshotQueue,
    pub(crate) gate: Arc<AdmissionGate>,
    pub(crate) liveness: Arc<LivenessManager>,
    pub(crate) known_peers: KnownPeers,
    /// Where refusals leave; set as soon as the transport stands, which holds this inbox in turn.
    pub(crate) transport: OnceLock<Weak<dyn Transport>>,
}

impl Inbox for Inbound {
    fn receive(&self, from: NodeId, parcels: Vec<Parcel>) {
        let mut sorted: Vec<Sorted> = Vec::new();
        sorted.resize_with(self.workers.len(), Sorted::default);
        let log_is_behind = self.gate.log_is_behind();
        for parcel in parcels {
            match parcel {
                Parcel::Message { group, message } => {
                    if matches!(message.payload, Payload::Snapshot { .. }) {
                        self.snapshots.submit(SnapshotJob::Offer { from, group, message });
                    } else if log_is_behind && carries_entries(&message) {
                        self.gate.metrics.messages_dropped.inc();
                    } else {
                        sorted[self.workers.number_of(group)].add(group, message);
                    }
                }
                Parcel::Request { id, group, body } => self.request(from, id, group, body),
                Parcel::Forward { id, to, group, body } => {
                    self.forward(Origin { node: from, id }, to, group, body);
                }
                Parcel::Reply { id, body } => match self.relays.answered(from, id) {
                    Some(origin) => self.reply(origin, &body),
                    None => self.calls.answered(from, id, body),
                },
                Parcel::Snapshot(chunk) => {
                    self.snapshots.submit(SnapshotJob::Chunk { from, chunk });
                }
                Parcel::Support(message) => self.liveness.receive(from, message),
                Parcel::SnapshotRefused { group, last: _ } => {
                    let event = GroupEvent::SnapshotSent { to: from, last: None };
                    self.workers.of(group).post(Event::Group(group, event));
                }
            }
        }
        for (worker, Sorted { messages, bytes }) in self.workers.iter().zip(sorted) {
            let count = messages.len() as u64;
            let event = Event::Messages { from, messages };
            if count > 0 && !worker.post_weighed(event, bytes) {
                self.gate.metrics.messages_dropped.inc_by(count);
            }
        }
    }

    /// A peer whose incarnation can't be recorded is refused: a later start with an emptied disk
    /// could not be told from it.
    fn verify(&self, peer: NodeId, incarnation: Incarnation) -> bool {
        self.known_peers.verify(peer, incarnation).unwrap_or_else(|error| {
            tracing::error!("recording the first connection of node {peer}: {error}");
            false
        })
    }

    /// Nothing waits for a connection: whoever has something to say tries again.
    fn connected(&self, _peer: NodeId) {}

    fn disconnected(&self, peer: NodeId) {
        self.calls.disconnected(peer);
        for origin in self.relays.disconnected(peer) {
            self.reply(origin, &encode_reply(&Err(RequestError::TimedOut)));
        }
        self.workers.iter().for_each(|worker| worker.post(Event::Disconnected(peer)));
    }
}

/// Messages of one frame for one worker, and what they take in memory, about.
#[derive(Default)]
struct Sorted {
    messages: Vec<(GroupId, Message)>,
    bytes: usize,
}

impl Sorted {
    fn add(&mut self, group: GroupId, message: Message) {
        self.bytes += size_of::<(GroupId, Message)>();
        if let Payload::AppendEntries { entries, .. } = &message.payload {
            let entry_bytes = |entry: &Entry| size_of::<Entry>() + entry.data.len();
            self.bytes += entries.iter().map(entry_bytes).sum::<usize>();
        }
        self.messages.push((group, message));
    }
}

fn carries_entries(message: &Message) -> bool {
    matches!(&message.payload, Payload::AppendEntries { entries, .. } if !entries.is_empty())
}

impl Inbound {
    /// Sends a peer's request on to another node, once: what that node can't answer goes back.
    fn forward(&self, origin: Origin, to: NodeId, group: GroupId, body: Bytes) {
        if let Err(error) = self.try_forward(origin, to, group, body) {
            self.reply(origin, &encode_reply(&Err(error)));
        }
    }

    fn try_forward(
        &self,
        origin: Origin,
        to: NodeId,
        group: GroupId,
        body: Bytes,
    ) -> Result<(), RequestError> {
        let (kind, query) = decode_request(body.clone()).ok_or(RequestError::Stopped)?;
        let permit = self.gate.admit(kind, &query)?;
        let id = self.calls.next_id();
        let mut outgoing = Outgoing::new();
        outgoing.push_request(id, group, &body);
        let transport =
            self.transport.get().and_then(Weak::upgrade).ok_or(RequestError::Stopped)?;
        self.relays.begin(id, origin, to, permit);
        transport.send(to, outgoing).map_err(|error| {
            self.relays.answered(to, id);
            match error {
                SendError::Full => RequestError::Busy,
                _ => RequestError::Unreachable(to),
            }
        })
    }

    /// Without a connection the caller learns of it by the loss of its own.
    fn reply(&self, origin: Origin, body: &[u8]) {
        let mut outgoing = Outgoing::new();
        outgoing.push_reply(origin.id, body);
        if let Some(transport) = self.transport.get().and_then(Weak::upgrade) {
            let _ = transport.send(origin.node, outgoing);
        }
    }

    fn request(&self, from: NodeId, id: RequestId, group: GroupId, body: Bytes) {
        match self.admit(from, id, body) {
            Ok(event) => {
                self.workers.of(group).post(Event::Remote { from, id, group, event });
            }
            Err(error) => self.reply(Origin { node: from, id }, &encode_reply(&Err(error))),
        }
    }

    fn admit(&self, node: NodeId, id: RequestId, body: Bytes) -> Result<GroupEvent, RequestError> {
        // A request that this version can't read is one that it can't serve.
        let (kind, body) = decode_request(body).ok_or(RequestError::Stopped)?;
        let permit = self.gate.admit(kind, &body)?;
        Ok(GroupEvent::request(kind, Request::remote(body, node, id, permit)))
    }
}
