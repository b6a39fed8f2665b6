//! What the clients of a simulated node ask of its process, and what they are answered.

use super::host::Hardware;
use super::machine::take_query_id;
use super::process::{Process, group_place};
use super::scene::{Event, Scene, Target};
use super::worker::WorkerEvent;
use bytes::Bytes;
use logboat::internals::{GroupEvent, Request, encode_request};
use logboat::{ReadMode, RequestError, RequestKind};
use logboat_raft::{GroupId, NodeId};
use logboat_transport::{Outgoing, RequestId};
use tokio::sync::oneshot;

/// Who asked: a client, and its attempt.
pub(super) type Caller = (usize, u64);

impl Process {
    /// Asks a replica, here or on another node, in the name of a client of this node.
    pub(super) fn ask(
        &mut self,
        hardware: &Hardware,
        caller: Caller,
        to: usize,
        group: GroupId,
        (kind, body): (RequestKind, Bytes),
        scene: &mut Scene,
    ) {
        if to == hardware.place {
            let admitted = self.admission.admit(body.len());
            match (admitted, self.by_group.get(&group)) {
                (Err(busy), _) => answer(caller, Err(busy), scene),
                (Ok(_), None) => answer(caller, Err(RequestError::NoSuchGroup(group)), scene),
                (Ok(permit), Some(place)) => {
                    let place = *place;
                    self.note_read(place, kind, &body, scene);
                    let (request, receiver) = Request::local(body, permit);
                    self.waiting.push((caller, receiver));
                    self.post(place, GroupEvent::request(kind, request));
                    self.schedule_turns(hardware, scene);
                }
            }
            return;
        }
        self.next_call += 1;
        let id = RequestId(self.next_call);
        let mut outgoing = Outgoing::new();
        outgoing.push_request(id, group, &encode_request(kind, &body));
        let frames = outgoing.into_frames();
        if frames.into_iter().all(|frame| scene.send_frame(hardware.place, to, frame, false)) {
            self.calls.insert(id.0, (caller, to));
        } else {
            answer(caller, Err(RequestError::Unreachable(NodeId(to as u64 + 1))), scene);
        }
    }

    /// A request comes to a replica here, which may be a read that no lease can serve.
    pub(super) fn note_read(
        &mut self,
        place: usize,
        kind: RequestKind,
        body: &Bytes,
        scene: &Scene,
    ) {
        let RequestKind::Read(ReadMode { lease, .. }) = kind else { return };
        let id = take_query_id(&mut body.clone());
        let cell = &mut self.cells[place];
        if !lease {
            let next_round = self.workers[cell.worker].turn.support.next_round;
            cell.reads.came(id, next_round, scene.now);
        }
        let group = group_place(cell.id);
        if cell.leads_in().is_some_and(|term| scene.checks.handed_over(group, term)) {
            cell.reads.came_late(id);
        }
    }

    /// The connection to a node is lost: what was asked over it has an unknown outcome.
    pub(super) fn disconnected(&mut self, hardware: &Hardware, to: usize, scene: &mut Scene) {
        self.calls.retain(|_, (caller, asked)| {
            if *asked == to {
                answer(*caller, Err(RequestError::TimedOut), scene);
            }
            *asked != to
        });
        self.tell_all(|| WorkerEvent::Disconnected(NodeId(to as u64 + 1)));
        self.schedule_turns(hardware, scene);
    }

    /// Hands the answers of this turn to the clients of this node.
    pub(super) fn collect_answers(&mut self, scene: &mut Scene) {
        self.waiting.retain_mut(|(caller, receiver)| match receiver.try_recv() {
            Ok(result) => {
                answer(*caller, result, scene);
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => {
                answer(*caller, Err(RequestError::TimedOut), scene);
                false
            }
        });
    }
}

pub(super) fn answer(
    (client, attempt): Caller,
    result: Result<Bytes, RequestError>,
    scene: &mut Scene,
) {
    scene.after(1, Target::World, Event::Answer { client, attempt, result });
}
