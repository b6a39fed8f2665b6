//! Inbound traffic: what arrives from the peers is sorted by worker and handed to the replicas.

use crate::admission::gate::AdmissionGate;
use crate::admission::{Admission, Permit};
use crate::background::guard::Guard;
use crate::error::RequestError;
use crate::founding::Founder;
use crate::groups::Groups;
use crate::liveness::manager::LivenessManager;
use crate::remote::calls::Calls;
use crate::remote::relays::{Origin, Relays};
use crate::replica::event::{GroupEvent, SnapshotOffer};
use crate::replica::group::founding::founders_of;
use crate::replica::request::{Request, fitting};
use crate::request::encoding::{decode_request, encode_reply, push_answer};
use crate::request::kind::RequestKind;
use crate::service::{Reply, SERVICE, Services};
use crate::turn::jobs::{PartPlace, SnapshotJob, SnapshotQueue};
use crate::worker::event::Event;
use crate::worker::inbox::Workers;
use bytes::Bytes;
use logboat_raft::{
    ClusterId, Entry, GroupId, Introduction, LogId, Message, NodeId, Payload, Remembered,
    SupportMessage,
};
use logboat_storage::{ClusterFile, KnownPeers};
use logboat_transport::{
    Founders, Inbox, Outgoing, Parcel, RequestId, SendError, SnapshotChunk, Transport, VisitAnswer,
};
use std::io;
use std::sync::{Arc, OnceLock, Weak};

/// The most messages about liveness that are taken at once, which is a few for each worker.
const MAX_SUPPORT_MESSAGES: usize = 1_024;

/// The most bytes of entries that a message may bring while the log has no segment to go on in.
/// What is left of the last one serves what frees space, and what a new leader writes to be one.
const MOST_WHILE_SHORT: usize = 16 << 10;

/// Sorts what arrives by worker, so that each worker is woken once a frame.
pub(crate) struct Inbound {
    pub(crate) workers: Workers,
    pub(crate) calls: Arc<Calls>,
    pub(crate) relays: Relays,
    pub(crate) snapshots: SnapshotQueue,
    /// Of the parts of snapshots that wait for the snapshot thread.
    pub(crate) parts: Arc<Admission>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) gate: Arc<AdmissionGate>,
    pub(crate) liveness: Arc<LivenessManager>,
    pub(crate) guard: Guard,
    pub(crate) known_peers: Arc<KnownPeers>,
    /// How this node introduces itself to a peer that never let it in.
    pub(crate) introduction: Introduction,
    pub(crate) cluster: Arc<ClusterFile>,
    pub(crate) founder: Arc<Founder>,
    /// What answers requests that go to nodes, once there is something.
    pub(crate) services: Services,
    /// Where refusals leave; set as soon as the transport stands, which holds this inbox in turn.
    pub(crate) transport: OnceLock<Weak<dyn Transport>>,
}

impl Inbox for Inbound {
    fn receive(&self, from: NodeId, parcels: Vec<Parcel>) {
        let mut sorted: Vec<Sorted> = Vec::new();
        sorted.resize_with(self.workers.len(), Sorted::default);
        let mut newest = NewestSupport::default();
        let mut replies = Vec::new();
        let mut answers = Outgoing::new();
        let log_is_behind = self.gate.log_is_behind();
        let is_short = self.gate.wal.stalled();
        for parcel in parcels {
            match parcel {
                Parcel::Message { group, message } => {
                    if matches!(message.payload, Payload::Snapshot { .. }) {
                        self.offered(from, group, message);
                    } else if (log_is_behind && carries_entries(&message))
                        || (is_short && entry_bytes(&message) > MOST_WHILE_SHORT)
                    {
                        self.gate.metrics.messages_dropped.inc();
                    } else {
                        sorted[self.workers.number_of(group)].add(group, message);
                    }
                }
                Parcel::Request { id, group: SERVICE, body } => {
                    let origin = Origin { node: from, id };
                    if let Err(error) = self.serve(&origin, body) {
                        self.reply(origin, &encode_reply(&Err(error)));
                    }
                }
                Parcel::Request { id, group, body } => match self.admit(from, id, body) {
                    Ok(event) => sorted[self.workers.number_of(group)]
                        .requests
                        .push(Event::Remote { from, id, group, event }),
                    Err(error) => self.reply(Origin { node: from, id }, &encode_reply(&Err(error))),
                },
                Parcel::Forward { id, to, group, body } => {
                    self.forward(Origin { node: from, id }, to, group, body);
                }
                Parcel::Reply { id, body } => replies.push((id, body)),
                Parcel::Snapshot(chunk) => self.chunk(from, chunk),
                Parcel::Support(message) => newest.add(message),
                Parcel::Founders { group, founders, asks } => {
                    self.founders(from, group, founders, asks.then_some(&mut answers));
                }
                Parcel::SnapshotTaken(taken) => {
                    if let Some(transport) = self.transport.get().and_then(Weak::upgrade) {
                        transport.snapshot_taken(from, &taken);
                    }
                }
                Parcel::SnapshotRefused { group, last } => self.snapshot_refused(from, group, last),
            }
        }
        for message in newest.0 {
            self.support(from, message);
        }
        self.answered(from, replies);
        if !answers.is_empty()
            && let Some(transport) = self.transport.get().and_then(Weak::upgrade)
        {
            // Who is not answered asks again.
            let _ = transport.send(from, answers);
        }
        for (worker, Sorted { messages, bytes, requests }) in self.workers.iter().zip(sorted) {
            worker.post_all(requests);
            let count = messages.len() as u64;
            let event = Event::Messages { from, messages };
            if count > 0 && !worker.post_weighed(event, bytes) {
                self.gate.metrics.messages_dropped.inc_by(count);
            }
        }
    }

    fn introduction(&self, peer: NodeId) -> Introduction {
        let cluster = self.cluster.id();
        self.known_peers.introduction(peer, Introduction { cluster, ..self.introduction })
    }

    fn remembered(&self, peer: NodeId) -> Option<Remembered> {
        let known = self.known_peers.get(peer)?;
        Some(Remembered { heard: known.heard.max(self.liveness.log_end(peer)), ..known })
    }

    fn remember(&self, peer: NodeId, remembered: Remembered) -> io::Result<()> {
        self.known_peers.remember(peer, remembered)
    }

    fn let_in_by(&self, peer: NodeId) -> io::Result<()> {
        self.known_peers.let_in_by(peer, self.introduction.newest)?;
        self.founder.recorded_by(peer);
        Ok(())
    }

    fn belongs_to(&self, cluster: ClusterId) -> io::Result<()> {
        self.cluster.adopt(cluster)
    }

    fn failed(&self, reason: &str) {
        self.guard.halt(reason);
    }

    fn visited(&self, question: Bytes, answer: VisitAnswer) {
        if let Some(service) = self.services.get()
            && let Ok(permit) = self.gate.admit(RequestKind::ReadLocal, &question)
        {
            // Without an answer the connection is closed.
            let answer = |said: Result<Bytes, _>| said.map(answer).unwrap_or_default();
            service.asked(None, question, Reply::new(permit, answer));
        }
    }

    fn connected(&self, peer: NodeId) {
        self.snapshots.submit(SnapshotJob::Connected { peer });
    }

    fn peer_ended(&self, peer: NodeId) {
        self.liveness.peer_ended(peer);
    }

    fn disconnected(&self, peer: NodeId) {
        self.end_requests(peer);
        self.workers.iter().for_each(|worker| worker.post(Event::Disconnected(peer)));
    }

    fn incoming_closed(&self, peer: NodeId) {
        self.end_requests(peer);
        self.snapshots.submit(SnapshotJob::Closed { peer });
    }
}

/// Messages of one frame for one worker, and what they take in memory, about. Requests hold permits
/// instead.
#[derive(Default)]
struct Sorted {
    messages: Vec<(GroupId, Message)>,
    bytes: usize,
    requests: Vec<Event>,
}

impl Sorted {
    fn add(&mut self, group: GroupId, message: Message) {
        self.bytes += size_of::<(GroupId, Message)>();
        self.bytes += entry_bytes(&message);
        self.messages.push((group, message));
    }
}

/// What the entries of a message take in memory.
fn entry_bytes(message: &Message) -> usize {
    let Payload::AppendEntries { entries, .. } = &message.payload else { return 0 };
    entries.iter().map(|entry| size_of::<Entry>() + entry.data.len()).sum()
}

fn carries_entries(message: &Message) -> bool {
    matches!(&message.payload, Payload::AppendEntries { entries, .. } if !entries.is_empty())
}

/// The messages about liveness that came at once, but for those that a later one makes obsolete.
#[derive(Default)]
struct NewestSupport(Vec<SupportMessage>);

impl NewestSupport {
    fn add(&mut self, message: SupportMessage) {
        if let Some(known) = self.0.iter_mut().find(|known| is_obsolete(known, &message)) {
            *known = message;
        } else if self.0.len() < MAX_SUPPORT_MESSAGES {
            // No peer has more workers than that. What is dropped is said again.
            self.0.push(message);
        }
    }
}

/// Whether a message says nothing that counts beside a later one.
fn is_obsolete(known: &SupportMessage, later: &SupportMessage) -> bool {
    match (known, later) {
        (SupportMessage::Request { .. }, SupportMessage::Request { .. })
        | (SupportMessage::Granted { .. }, SupportMessage::Granted { .. }) => true,
        (
            SupportMessage::Confirm { worker, boot, .. },
            SupportMessage::Confirm { worker: of_later, boot: later, .. },
        )
        | (
            SupportMessage::Confirmed { worker, boot, .. },
            SupportMessage::Confirmed { worker: of_later, boot: later, .. },
        ) => worker == of_later && boot == later,
        _ => false,
    }
}

impl Inbound {
    /// A peer's message about liveness, unless it claims a later start than the one as which the
    /// peer introduced itself. The count is remembered for good, so it must be true.
    fn support(&self, from: NodeId, message: SupportMessage) {
        let SupportMessage::Request { boot, .. } = message else {
            return self.liveness.receive(from, message);
        };
        // Now and then, whether or not there is anything to forward.
        self.relays.forget_old();
        let let_in = self.known_peers.get(from).and_then(|known| known.let_in);
        match let_in {
            Some(start) if boot > start.count => {
                let reason = format!("start {boot} in the connection of start {}", start.count);
                if let Some(transport) = self.transport.get().and_then(Weak::upgrade) {
                    transport.disconnect(from, &reason);
                }
            }
            _ => self.liveness.receive(from, message),
        }
    }

    /// Ends the requests to a peer: they may not reach it, or their answers may be lost. Requests
    /// and answers travel on different connections.
    fn end_requests(&self, peer: NodeId) {
        self.calls.disconnected(peer);
        for origin in self.relays.disconnected(peer) {
            self.reply(origin, &encode_reply(&Err(RequestError::TimedOut)));
        }
    }

    /// A peer says by whom a group was founded, and may ask. Its replica here hears what concerns
    /// it: answers, and who has another founding.
    fn founders(
        &self,
        from: NodeId,
        group: GroupId,
        founders: Option<Founders>,
        answers: Option<&mut Outgoing>,
    ) {
        let is_answer = answers.is_none();
        let own = self.groups.founding(group).and_then(|group| founders_of(group.configuration()));
        if let Some(answers) = answers {
            answers.push_founders(group, own.as_ref(), false);
        }
        let differs = |(own, other): (&Founders, &Founders)| own.digest != other.digest;
        let is_other = own.as_ref().zip(founders.as_ref()).is_some_and(differs);
        if (is_answer || is_other) && self.groups.is_hosted(group) {
            let event = Event::Group(group, GroupEvent::Founders { from, founders });
            self.workers.of(group).post_weighed(event, size_of::<Event>());
        }
    }

    /// A part of a snapshot goes to the snapshot thread if it is of use here and there is memory.
    /// If not, the thread is told, since the sender waits to hear of each part, in their order.
    fn chunk(&self, from: NodeId, chunk: SnapshotChunk) {
        let is_wanted = self.groups.is_hosted(chunk.group);
        let admitted = is_wanted.then(|| self.parts.admit(chunk.data.len()).ok()).flatten();
        if let Some(permit) = admitted {
            return self.snapshots.submit(SnapshotJob::Chunk { from, chunk, permit });
        }
        self.gate.metrics.messages_dropped.inc_by(u64::from(is_wanted));
        let (part, is_first, is_missed) = (PartPlace::of(&chunk), chunk.offset == 0, is_wanted);
        if let Ok(permit) = self.parts.admit(0) {
            let dropped = SnapshotJob::Dropped { from, part, is_first, is_missed, permit };
            self.snapshots.submit(dropped);
        }
    }

    /// An offer goes to the snapshot thread. The replica hears that it is under way: until the
    /// snapshot is checked, the leader is not to send it again.
    fn offered(&self, from: NodeId, group: GroupId, message: Message) {
        match self.admit_offer(group) {
            Some(permit) => {
                if let Some(offer) = SnapshotOffer::of(from, &message) {
                    let event = GroupEvent::SnapshotChecked { offer, is_over: false };
                    let event = Event::Group(group, event);
                    self.workers.of(group).post_weighed(event, size_of::<Event>());
                }
                self.snapshots.submit(SnapshotJob::Offer { from, group, message, permit });
            }
            None => _ = self.gate.metrics.messages_dropped.inc(),
        }
    }

    /// A part of the memory for snapshots is kept for offers and the like.
    fn admit_offer(&self, group: GroupId) -> Option<Permit> {
        self.groups.is_hosted(group).then(|| self.parts.admit(0).ok()).flatten()
    }

    /// The snapshot thread knows whether it has sent that one, and tells the replica.
    fn snapshot_refused(&self, from: NodeId, group: GroupId, last: LogId) {
        if let Some(permit) = self.admit_offer(group) {
            self.snapshots.submit(SnapshotJob::Refused { from, group, last, permit });
        }
    }

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
        let permit = self.gate.admit_passing(kind, &query)?;
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
        push_answer(&mut outgoing, origin.id, body, usize::MAX);
        if let Some(transport) = self.transport.get().and_then(Weak::upgrade) {
            let _ = transport.send(origin.node, outgoing);
        }
    }

    /// Hands answers to the callers here. Others are answers to requests that were forwarded.
    fn answered(&self, from: NodeId, replies: Vec<(RequestId, Bytes)>) {
        if replies.is_empty() {
            return;
        }
        for (id, body) in self.calls.answered(from, replies) {
            if let Some(origin) = self.relays.answered(from, id) {
                self.reply(origin, &body);
            }
        }
    }

    /// Has a request to this node answered by its service.
    fn serve(&self, origin: &Origin, body: Bytes) -> Result<(), RequestError> {
        let service = self.services.get().ok_or(RequestError::NoSuchGroup(SERVICE))?;
        let (kind, body) = decode_request(body).ok_or(RequestError::Stopped)?;
        let permit = self.gate.admit(kind, &body)?;
        let Origin { node, id } = *origin;
        let transport = self.transport.get().cloned();
        let answer = move |answer: Result<Bytes, RequestError>| {
            let mut outgoing = Outgoing::new();
            push_answer(&mut outgoing, id, &encode_reply(&fitting(answer)), usize::MAX);
            if let Some(transport) = transport.as_ref().and_then(Weak::upgrade) {
                // Without a connection the caller learns of it by the loss of its own.
                let _ = transport.send(node, outgoing);
            }
        };
        service.asked(Some(node), body, Reply::new(permit, answer));
        Ok(())
    }

    fn admit(&self, node: NodeId, id: RequestId, body: Bytes) -> Result<GroupEvent, RequestError> {
        // A request that this version can't read is one that it can't serve.
        let (kind, body) = decode_request(body).ok_or(RequestError::Stopped)?;
        let permit = self.gate.admit(kind, &body)?;
        Ok(GroupEvent::request(kind, Request::remote(body, node, id, permit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::{BootCount, LogPosition, RequestSeq, Round, SupportSettings};
    use std::time::Duration;

    #[test]
    fn of_a_flood_of_messages_about_liveness_the_newest_of_each_kind_and_worker_count() {
        let boot = BootCount(1);
        let settings = SupportSettings { timeout: Duration::ZERO, leases: false };
        let request = |seq| {
            let seq = RequestSeq(seq);
            let log_end = LogPosition::default();
            SupportMessage::Request { boot, seq, heard: true, settings, log_end, leaving: false }
        };
        let confirm = |worker, round| SupportMessage::Confirm { boot, worker, round: Round(round) };
        let mut newest = NewestSupport::default();
        for number in 0..1_000 {
            newest.add(request(number));
            newest.add(confirm((number % 2) as u32, number));
        }
        assert_eq!(newest.0, [request(999), confirm(0, 998), confirm(1, 999)]);
        (0..100_000).for_each(|worker| newest.add(confirm(worker, 1)));
        assert_eq!(newest.0.len(), MAX_SUPPORT_MESSAGES);
    }
}
