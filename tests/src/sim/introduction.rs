//! How simulated nodes get to know each other: the judgement of who is let in, and the founding, as
//! they are, over directories in memory. Power may go between any two steps.

use super::host::{CrashPoint, Hardware, Host};
use super::process::Process;
use super::scene::Scene;
use logboat_raft::{Introduction, LogPosition, NodeId, Remembered, Start};
use logboat_storage::PeerTable;
use logboat_transport::introductions::{Rejection, admit, confirm, note_welcome, record};
use logboat_transport::{Inbox, Parcel};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What a node knows of its peers, as the handshake asks for it.
struct Acquaintances {
    peers: Arc<Mutex<PeerTable>>,
    own: Introduction,
    heard: BTreeMap<NodeId, LogPosition>,
}

impl Acquaintances {
    fn of(hardware: &Hardware, process: &Process) -> Self {
        let peers = process.liveness.peers();
        let heard = peers.map(|peer| (peer, process.liveness.log_end(peer))).collect();
        Self { peers: Arc::clone(&hardware.peers), own: process.introduction, heard }
    }
}

impl Inbox for Acquaintances {
    fn receive(&self, from: NodeId, _: Vec<Parcel>) {
        unreachable!("the frames of {from} take another way");
    }

    fn introduction(&self, peer: NodeId) -> Introduction {
        self.peers.lock().introduction(peer, self.own)
    }

    fn remembered(&self, peer: NodeId) -> Option<Remembered> {
        let known = self.peers.lock().get(peer)?;
        let heard = self.heard.get(&peer).copied().unwrap_or_default();
        Some(Remembered { heard: known.heard.max(heard), ..known })
    }

    fn remember(&self, peer: NodeId, remembered: Remembered) -> io::Result<()> {
        self.peers.lock().remember(peer, remembered)
    }

    fn let_in_by(&self, peer: NodeId) -> io::Result<()> {
        self.peers.lock().let_in_by(peer, self.own.newest)
    }

    fn connected(&self, _: NodeId) {}

    fn disconnected(&self, _: NodeId) {}
}

/// One node dials another. Returns the start that was let in, if there is a connection now.
///
/// Two nodes that both run on what they wrote last let each other in sooner or later. A directory
/// that stands in for another one is never let in.
pub(super) fn introduce(from: &mut Host, to: &mut Host, scene: &mut Scene) -> Option<Start> {
    let (dialer, listener) = (from.process.as_ref()?, to.process.as_ref()?);
    let (own, peer) = (from.hardware.id(), to.hardware.id());
    let here = Acquaintances::of(&from.hardware, dialer);
    let there = Acquaintances::of(&to.hardware, listener);
    let (dials, listens) = (from.hardware.place, to.hardware.place);
    let is_given_up = scene.elastic.has_given_up(listens, dials);
    let gives_up = scene.elastic.has_given_up(dials, listens);
    let stranger = from.hardware.stands_in() || to.hardware.stands_in() || is_given_up || gives_up;
    let (remembered, told) = (here.remembered(peer), here.introduction(peer));
    let known = there.remembered(own);
    let admitted = admit(&there, peer, own, told);
    assert!(
        !from.hardware.stands_in() || admitted.is_err(),
        "{peer} lets in {own} on a directory that is not its newest: {told:?}, by {known:?}, with \
         its log known to be durable up to {}",
        scene.checks.known_end(peer, own)
    );
    assert!(!is_given_up || admitted.is_err(), "{peer} lets in {own}, which it has given up");
    let is_recorded = judged(admitted, stranger, (own, peer), scene)?;
    if is_recorded && !stranger {
        can_come_again(there.remembered(own), (own, peer), told);
    }
    let is_news = known.is_some_and(|known| known.newest() != Some(told.newest));
    // What is noted on a directory that stands in is gone with it.
    if is_recorded && is_news && !to.hardware.stands_in() {
        scene.checks.knows_end(peer, own, told.log_end);
    }
    if to.hardware.crashes(CrashPoint::Welcomed) {
        return None;
    }
    let answer = there.introduction(own);
    let recorded = record(&here, own, peer, remembered, answer);
    assert!(
        !to.hardware.stands_in() || recorded.is_err(),
        "{own} takes {peer} for itself, on a directory that is not its newest"
    );
    assert!(!gives_up || recorded.is_err(), "{own} goes to {peer}, which it has given up");
    judged(recorded, stranger, (peer, own), scene)?;
    if remembered.is_none() && !from.hardware.stands_in() {
        scene.checks.knows_end(own, peer, answer.log_end);
    }
    if !is_recorded || from.hardware.crashes(CrashPoint::Answered) {
        return None;
    }
    note_welcome(&here, peer).expect("a directory in memory takes what it is given");
    if from.hardware.crashes(CrashPoint::LetIn) {
        return None;
    }
    let process = from.process.as_mut()?;
    process.recorded_by(&mut from.hardware, peer, scene);
    Some(told.newest)
}

/// A node that was let in may lose power before it has noted that. Then it tells the same of the
/// start that was let in before, which its peer has to remember, beside the start that it welcomes.
fn can_come_again(
    remembered: Option<Remembered>,
    (node, peer): (NodeId, NodeId),
    told: Introduction,
) {
    let known = remembered.unwrap_or_default();
    assert!(
        [known.let_in, known.welcomed].contains(&told.let_in),
        "{peer} has let in {node}, and forgets what that knows of it: {told:?}, {known:?}"
    );
}

/// What was found out about `subject`, unless it was refused, which only a stranger may be.
fn judged<T>(
    result: Result<T, Rejection>,
    stranger: bool,
    (subject, witness): (NodeId, NodeId),
    scene: &mut Scene,
) -> Option<T> {
    match result {
        Ok(found) => Some(found),
        Err(rejection) => {
            assert!(stranger, "{witness} refuses {subject} for no reason: {rejection}");
            scene.trace.note(scene.now, &[subject.0, witness.0], format_args!("{rejection}"));
            None
        }
    }
}

/// The first frame of a start that `to` has welcomed arrives. Returns whether it may be taken.
pub(super) fn goes_on(from: NodeId, start: Start, to: &mut Host) -> bool {
    let Some(process) = &to.process else { return false };
    let there = Acquaintances::of(&to.hardware, process);
    confirm(&there, from, start).is_ok() && !to.hardware.crashes(CrashPoint::Confirmed)
}

/// Somebody who is no node dials in under the id of a node.
pub(super) fn pose_as(claimed: NodeId, stranger: Introduction, at: &Host) -> bool {
    let Some(process) = at.process.as_ref().filter(|_| claimed != at.hardware.id()) else {
        return false;
    };
    let there = Acquaintances::of(&at.hardware, process);
    let admitted = admit(&there, at.hardware.id(), claimed, stranger);
    let is_known = there.remembered(claimed).map(|it| it.incarnation) == Some(stranger.incarnation);
    assert!(!is_known && !matches!(admitted, Ok(true)), "a stranger took the place of {claimed}");
    true
}
