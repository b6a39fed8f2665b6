//! Directories that stand in for the one that a node wrote last: an old copy of it, or nothing.
//!
//! The node runs on it for a while, starts again and again, and then comes back on the original.
//! Its replicas are not started meanwhile: peers never let it in, so that they could do nothing. A
//! directory is put in the place of the original only where each peer has noted what it takes to
//! know that, since a peer that can't know lets it in (`docs/founding.md`).

use super::host::{Hardware, Host};
use super::options::Fault;
use super::scene::{Event, Scene, Target};
use logboat_raft::{Incarnation, Introduction, NodeId};
use logboat_storage::simulation::{InlineWal, SimDisk};
use logboat_storage::{BootRecord, PeerTable};
use parking_lot::Mutex;
use std::sync::Arc;

/// How often a copy is looked at, to see whether all peers can tell that it is old.
const MOST_LOOKS: u64 = 40;

/// The most starts on a directory that stands in.
const MOST_STARTS: u64 = 12;

/// The longest time from one of these starts to the next, in election timeouts.
const LONGEST_START: u64 = 3;

/// What a node's directory says, but for the snapshots.
#[derive(Debug)]
pub(super) struct Directory {
    disk: SimDisk,
    boot: BootRecord,
    incarnation: Incarnation,
    pub(super) peers: Arc<Mutex<PeerTable>>,
}

impl Directory {
    /// A copy of what is on the disk of a node that may run. It has some of what is not synced.
    fn copy_of(hardware: &Hardware, scene: &mut Scene) -> Self {
        let disk = hardware.disk.copy();
        let kept = [0, 500, 1_000][scene.random.place(3)];
        disk.crash(|| scene.random.per_mille(kept));
        disk.limit(None);
        disk.fail_sync(u64::MAX / 2);
        let peers = Arc::new(Mutex::new(hardware.peers.lock().clone()));
        Self { disk, boot: hardware.boot, incarnation: hardware.directory, peers }
    }

    /// A directory that was just made.
    fn empty(scene: &mut Scene) -> Self {
        Self {
            disk: SimDisk::default(),
            boot: BootRecord::default(),
            incarnation: Incarnation(scene.random.next()),
            peers: Arc::default(),
        }
    }

    /// How it would introduce itself to a peer at its first start.
    fn introduction(&self, peer: NodeId, scene: &Scene) -> Option<Introduction> {
        let opened = InlineWal::open(self.disk.copy(), scene.plan.wal.clone());
        let log_end = opened.ok()?.0.log().found_end();
        let newest = self.boot.start();
        let own = Introduction {
            incarnation: self.incarnation,
            newest,
            let_in: None,
            log_end,
            cluster: None,
        };
        Some(self.peers.lock().introduction(peer, own))
    }

    /// Whether this peer has noted durably what tells the directory from the one that it knows.
    fn is_told_apart_by(&self, peer: &Hardware, own: NodeId, scene: &Scene) -> bool {
        let Some(known) = peer.peers.lock().get(own) else { return false };
        if known.incarnation != self.incarnation {
            return true;
        }
        // From whom it never let in, it has no promise.
        let Some(let_in) = known.let_in else { return false };
        let Some(told) = self.introduction(peer.id(), scene) else { return false };
        let heard = scene.checks.known_end(peer.id(), own);
        told.let_in.is_none_or(|start| start.count < let_in.count) || heard > told.log_end
    }
}

/// Copies the directory of a node, to put it back when it is an old copy to all peers.
pub(super) fn copy(host: &Host, scene: &mut Scene) {
    let hardware = &host.hardware;
    let is_taken = scene.copies.iter().any(|(place, _)| *place == hardware.place);
    if is_taken || hardware.stands_in() || hardware.damaged || !hardware.boot.founded {
        return;
    }
    let directory = Directory::copy_of(hardware, scene);
    scene.copies.push((hardware.place, directory));
    look_later(hardware.place, MOST_LOOKS, scene);
}

fn look_later(place: usize, left: u64, scene: &mut Scene) {
    let later = scene.random.between(1_000, scene.plan.election_us());
    scene.after(later, Target::World, Event::PutBack { place, left });
}

/// Puts the copy of a node's directory in its place, if all peers can tell by now that it is old.
pub(super) fn put_back(place: usize, left: u64, hosts: &mut [Host], scene: &mut Scene) {
    let Some(at) = scene.copies.iter().position(|(of, _)| *of == place) else { return };
    if !scene.stormy {
        scene.copies.swap_remove(at);
        return;
    }
    if is_stood_in(hosts) || !is_told_apart(&scene.copies[at].1, place, hosts, scene) {
        if left > 0 {
            return look_later(place, left - 1, scene);
        }
        scene.copies.swap_remove(at);
        return;
    }
    let (_, directory) = scene.copies.swap_remove(at);
    scene.count(Fault::OldCopy);
    stand_in(&mut hosts[place], directory, scene);
}

/// Empties the directory of a node, if all peers know the node.
pub(super) fn wipe(place: usize, hosts: &mut [Host], scene: &mut Scene) -> bool {
    let directory = Directory::empty(scene);
    if is_stood_in(hosts) || !is_told_apart(&directory, place, hosts, scene) {
        return false;
    }
    stand_in(&mut hosts[place], directory, scene);
    true
}

/// One at a time, so that the others know what they have to.
fn is_stood_in(hosts: &[Host]) -> bool {
    hosts.iter().any(|host| host.hardware.stands_in())
}

fn is_told_apart(directory: &Directory, place: usize, hosts: &[Host], scene: &Scene) -> bool {
    let own = hosts[place].hardware.id();
    let mut others = hosts.iter().map(|host| &host.hardware).filter(|it| it.place != place);
    let is_usable = hosts[place].dead.is_none() && !hosts[place].hardware.damaged;
    is_usable && others.all(|other| directory.is_told_apart_by(other, own, scene))
}

/// The node loses power, and comes back on another directory, for some starts.
fn stand_in(host: &mut Host, directory: Directory, scene: &mut Scene) {
    host.crash(scene);
    let hardware = &mut host.hardware;
    hardware.disk.limit(None);
    hardware.disk.fail_sync(u64::MAX / 2);
    hardware.failing_sync = false;
    hardware.original = Some(exchange(hardware, directory));
    let (mut at, longest) = (0, LONGEST_START * scene.plan.election_us());
    for _ in 0..scene.random.between(1, MOST_STARTS) {
        scene.after(at, Target::Host(hardware.place), Event::Restart);
        at += scene.random.between(1_000, longest);
        scene.after(at, Target::World, Event::CutStandIn(hardware.place));
        at += 1_000;
    }
    scene.after(at, Target::World, Event::Original(hardware.place));
}

/// The node comes back on what it wrote last.
pub(super) fn bring_back(host: &mut Host, scene: &mut Scene) {
    let Some(original) = host.hardware.original.take() else { return };
    host.crash(scene);
    host.dead = None;
    exchange(&mut host.hardware, original);
    host.hardware.failing_sync = false;
    let soon = scene.random.between(1, 100_000);
    scene.after(soon, Target::Host(host.hardware.place), Event::Restart);
}

/// Gives a node another directory, and returns the one that it had.
fn exchange(hardware: &mut Hardware, directory: Directory) -> Directory {
    let Directory { disk, boot, incarnation, peers } = directory;
    Directory {
        disk: std::mem::replace(&mut hardware.disk, disk),
        boot: std::mem::replace(&mut hardware.boot, boot),
        incarnation: std::mem::replace(&mut hardware.directory, incarnation),
        peers: std::mem::replace(&mut hardware.peers, peers),
    }
}
