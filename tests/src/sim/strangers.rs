//! Nodes that a node does not know as peers for a while: it started without one, or one was taken
//! out. What it promised that one before stands.

use super::host::{Hardware, Host};
use super::options::Fault;
use super::process::Process;
use super::scene::{Event, Scene};
use logboat_raft::NodeId;

/// The peer that a node starts without, if any.
pub(super) fn draw_stranger(hardware: &Hardware, scene: &mut Scene) -> Option<NodeId> {
    let may = scene.may(Fault::Peers) && hardware.boot.founded && !hardware.stands_in();
    if !may || !scene.random.per_mille(250) {
        return None;
    }
    let peer = NodeId(scene.random.between(1, scene.plan.nodes as u64));
    (peer != hardware.id()).then(|| {
        scene.count(Fault::Peers);
        come_back_later(hardware, scene);
        peer
    })
}

fn come_back_later(hardware: &Hardware, scene: &mut Scene) {
    let later = scene.random.between(1, 3 * scene.plan.election_us());
    scene.after(later, hardware.target(), Event::AddPeer);
}

/// Takes a peer out of a node that shares no group with it.
pub(super) fn remove_peer(host: &mut Host, scene: &mut Scene) -> bool {
    let Host { process: Some(process), hardware, .. } = host else { return false };
    let peer = scene.random.place(scene.plan.nodes);
    let shares = |group| {
        let hosts = scene.plan.hosts(group);
        hosts.contains(&peer) && hosts.contains(&hardware.place)
    };
    let is_free = peer != hardware.place && !(0..scene.plan.groups).any(shares);
    if !is_free || process.stranger.is_some() || !hardware.boot.founded || hardware.stands_in() {
        return false;
    }
    scene.parted.insert((hardware.place, peer));
    process.forget_peer(hardware, NodeId(peer as u64 + 1), scene);
    scene.disconnect(hardware.place, peer);
    scene.disconnect(peer, hardware.place);
    come_back_later(hardware, scene);
    true
}

impl Process {
    /// Knows the stranger as a peer from now on.
    pub(super) fn know_stranger(&mut self, hardware: &Hardware, scene: &Scene) {
        if let Some(stranger) = self.stranger.take() {
            self.liveness.add_peer(stranger, hardware.time(scene.now));
        }
    }
}
