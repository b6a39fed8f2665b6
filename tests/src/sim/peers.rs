//! What comes to a simulated process from its peers.

use super::forgeries::forge;
use super::host::Hardware;
use super::process::{Process, group_place};
use super::requests::answer;
use super::scene::{Resignation, Scene};
use bytes::Bytes;
use logboat::RequestError;
use logboat::internals::{
    GroupEvent, Request, decode_reply, decode_request, encode_reply, founders_of,
};
use logboat_raft::{GroupId, Message, NodeId, Payload, Term};
use logboat_transport::{Founders, Outgoing, Parcel, RequestId, decode};

impl Process {
    /// Takes what a peer sent.
    pub(super) fn receive(
        &mut self,
        hardware: &mut Hardware,
        from: usize,
        frame: Bytes,
        scene: &mut Scene,
    ) {
        let mut parcels = Vec::new();
        decode(frame.clone(), &mut parcels).expect("a frame arrives as it was sent");
        let peer = NodeId(from as u64 + 1);
        let promises = parcels
            .iter()
            .any(|parcel| matches!(parcel, Parcel::Message { .. } | Parcel::Support(_)));
        assert!(!promises || scene.checks.is_founded(peer), "{peer} speaks before it is founded");
        for (group, term) in resignations(&parcels) {
            let (to, frame) = (hardware.place, frame.clone());
            scene.keep_resignation(Resignation { from, to, group, term, frame });
        }
        let mut asked = None;
        for parcel in parcels {
            match parcel {
                Parcel::Message { group, message } => {
                    if matches!(message.payload, Payload::Vote { transfer: false, .. }) {
                        asked = Some(group);
                    }
                    let times = (scene.now, scene.plan.retransmit_us());
                    let way = (from, hardware.place);
                    self.note_answer(peer, group, &message, scene);
                    scene.checks.promised(way, group_place(group), &message, times);
                    forge(way, group, &message, scene);
                    if matches!(message.payload, Payload::Snapshot { .. }) {
                        self.offered(hardware, peer, group, message, scene);
                    } else {
                        self.hand_over_message(peer, group, message);
                    }
                }
                Parcel::Request { id, group, body } => {
                    self.requested(hardware, peer, id, group, body, scene);
                }
                Parcel::Forward { .. } => unreachable!("clients ask the leader's machine directly"),
                Parcel::Reply { id, body } => {
                    let asked = self.calls.get(&id.0).is_some_and(|(_, asked)| *asked == from);
                    if asked && let Some((caller, _)) = self.calls.remove(&id.0) {
                        answer(caller, decode_reply(body), scene);
                    }
                }
                Parcel::Support(message) => self.heard(hardware, peer, message, scene),
                Parcel::Founders { group, founders, asks } => {
                    self.founders_named(hardware, peer, group, (founders, asks), scene);
                }
                Parcel::Snapshot(chunk) => self.piece_arrived(peer, chunk, scene),
                Parcel::SnapshotTaken(_) => unreachable!("no piece waits for another here"),
                Parcel::SnapshotRefused { group, last: _ } => {
                    self.post_to_group(group, GroupEvent::SnapshotSent { to: peer, meta: None });
                }
            }
        }
        if let Some(place) = asked.and_then(|group| self.by_group.get(&group).copied()) {
            self.withdraw_for_a_vote(hardware, place, scene);
        }
        self.schedule_turns(hardware, scene);
    }

    /// A peer says by whom a group was founded, and may ask.
    fn founders_named(
        &mut self,
        hardware: &Hardware,
        from: NodeId,
        group: GroupId,
        (founders, asks): (Option<Founders>, bool),
        scene: &mut Scene,
    ) {
        let plan = &scene.plan;
        let is_founder = plan.voters(group_place(group)).contains(&hardware.place);
        let own = is_founder.then(|| founders_of(&plan.founding(group_place(group)))).flatten();
        if asks {
            let mut outgoing = Outgoing::new();
            outgoing.push_founders(group, own.as_ref(), false);
            scene.send(hardware.place, from, outgoing);
        } else {
            self.post_to_group(group, GroupEvent::Founders { from, founders });
        }
    }

    fn requested(
        &mut self,
        hardware: &Hardware,
        from: NodeId,
        id: RequestId,
        group: GroupId,
        body: Bytes,
        scene: &mut Scene,
    ) {
        let refusal = match (self.admission.admit(body.len()), decode_request(body)) {
            (Ok(_), _) if !self.by_group.contains_key(&group) => RequestError::NoSuchGroup(group),
            (Ok(permit), Some((kind, body))) => {
                self.note_read(self.by_group[&group], kind, &body, scene);
                let request = Request::remote(body, from, id, permit);
                return self.post_to_group(group, GroupEvent::request(kind, request));
            }
            (Ok(_), None) => RequestError::Stopped,
            (Err(busy), _) => busy,
        };
        let mut outgoing = Outgoing::new();
        outgoing.push_reply(id, &encode_reply(&Err(refusal)));
        scene.send(hardware.place, from, outgoing);
    }

    /// A leader may name an index to read at.
    fn note_answer(&mut self, from: NodeId, group: GroupId, message: &Message, scene: &Scene) {
        let is_answer = matches!(message.payload, Payload::ReadIndexReply { index: Some(_), .. });
        if let Some(place) = self.by_group.get(&group).filter(|_| is_answer) {
            self.cells[*place].reads.answered(from, scene.now);
        }
    }
}

/// The groups in which the sender of a frame resigns, each with its term, if the frame is one that
/// may come twice: it holds no request.
fn resignations(parcels: &[Parcel]) -> Vec<(GroupId, Term)> {
    if parcels.iter().any(|parcel| matches!(parcel, Parcel::Request { .. })) {
        return Vec::new();
    }
    let resignation = |parcel: &Parcel| match parcel {
        Parcel::Message { group, message } => {
            let Payload::Resign { term, .. } = message.payload else { return None };
            Some((*group, term))
        }
        _ => None,
    };
    parcels.iter().filter_map(resignation).collect()
}
