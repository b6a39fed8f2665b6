//! Nodes of an elastic cluster that are lost for good, or away for so long that they are given up,
//! and replicas whose data are damaged: never so many that a group is without a majority.

use super::operator::{FEWEST, connect, staying};
use crate::sim::host::Host;
use crate::sim::options::Fault;
use crate::sim::process::group_id;
use crate::sim::scene::{Event, Scene, Target};
use logboat::internals::GroupEvent;
use logboat_raft::NodeId;

/// Why a node does not start that comes back, and one that does not.
const AWAY: &str = "it is away";
const LOST: &str = "it is lost";

/// How long a node is there that was given up, in microseconds.
const REVIVED_US: u64 = 60_000_000;

/// Takes a node away, for good or for long. Returns whether the cluster can do without it.
pub(super) fn lose(fault: Fault, place: usize, hosts: &mut [Host], scene: &mut Scene) -> bool {
    let node = NodeId(place as u64 + 1);
    let left = staying(hosts, &scene.elastic).into_iter().filter(|it| *it != node);
    let is_there = hosts[place].process.is_some() && hosts[place].dead.is_none();
    let is_there = is_there && !scene.elastic.is_given_up(place);
    if !is_there || left.count() < FEWEST || !majorities_stay(None, place, hosts, scene) {
        return false;
    }
    scene.elastic.went(node, scene.now);
    if fault == Fault::Lose {
        hosts[place].end(LOST.to_owned());
    } else {
        hosts[place].end(AWAY.to_owned());
        let longest = 4 * scene.plan.lost_after.as_micros() as u64;
        let lasts = scene.random.between(longest / 8, longest);
        scene.after(lasts, Target::World, Event::Return(place));
    }
    true
}

/// A person carries out a recovery: all nodes that are left stop, and give up one that is lost, or
/// is now. That one comes back all the same, for a while, on what it had.
pub(super) fn give_up(place: usize, hosts: &mut [Host], scene: &mut Scene) -> bool {
    let is_lost = |host: &Host| host.dead.as_deref() == Some(LOST) && host.hardware.boot.founded;
    let is_news = |place: &usize| !scene.elastic.is_given_up(*place);
    let lost = (0..hosts.len()).filter(|place| is_lost(&hosts[*place])).find(is_news);
    let lost = match lost {
        Some(lost) => lost,
        None if lose(Fault::Lose, place, hosts, scene) => place,
        None => return false,
    };
    let (node, now) = (NodeId(lost as u64 + 1), scene.now);
    scene.trace.note(now, &[node.0], format_args!("{node} is given up"));
    for (place, host) in hosts.iter_mut().enumerate() {
        let is_left = host.dead.as_deref().is_none_or(|reason| reason == AWAY);
        if is_left && !scene.elastic.is_given_up(place) {
            host.crash(scene);
            host.hardware.peers.lock().fence(node);
            scene.elastic.given_up.insert((place, lost));
        }
    }
    hosts[lost].crash(scene);
    hosts[lost].dead = None;
    scene.after(1, Target::Host(lost), Event::Restart);
    let stays = scene.random.between(1, REVIVED_US);
    scene.after(stays, Target::World, Event::Return(lost));
    connect(lost, hosts, scene);
    true
}

/// A node that was away is there again, or one that was given up has been there for long enough.
pub(in crate::sim) fn come_back(place: usize, hosts: &mut [Host], scene: &mut Scene) {
    if scene.elastic.is_given_up(place) && hosts[place].dead.is_none() {
        return hosts[place].end(LOST.to_owned());
    }
    if hosts[place].dead.as_deref() != Some(AWAY) {
        return;
    }
    hosts[place].dead = None;
    scene.elastic.came(NodeId(place as u64 + 1), scene.now);
    scene.after(1, Target::Host(place), Event::Restart);
    connect(place, hosts, scene);
}

/// Damages the data of a voter on a node, for good.
pub(super) fn damage(place: usize, hosts: &mut [Host], scene: &mut Scene) -> bool {
    let Some(process) = &hosts[place].process else { return false };
    let me = NodeId(place as u64 + 1);
    let groups = process.by_group.values().filter(|cell| {
        let cell = &process.cells[**cell];
        !cell.failed && cell.group.raft().configuration().is_voter(me)
    });
    let cells: Vec<usize> = groups.copied().collect();
    if cells.is_empty() || scene.elastic.is_given_up(place) {
        return false;
    }
    let cell = cells[scene.random.place(cells.len())];
    let group = process.cells[cell].id;
    if !majorities_stay(Some(group.0 as usize - 1), place, hosts, scene) {
        return false;
    }
    scene.elastic.damaged.insert((place, group), scene.now);
    if let Host { process: Some(process), hardware, .. } = &mut hosts[place] {
        process.post(cell, GroupEvent::Fail("simulated damage".to_owned()));
        process.schedule_turns(hardware, scene);
    }
    true
}

/// Whether this group, or every one, has a majority on nodes that are there or will be soon,
/// without the replica in this place.
fn majorities_stay(group: Option<usize>, without: usize, hosts: &[Host], scene: &Scene) -> bool {
    let mut groups = (0..scene.plan.groups).filter(|it| group.is_none_or(|group| group == *it));
    groups.all(|group| {
        scene.checks.has_majority(group, |place| {
            let is_whole = !scene.elastic.damaged.contains_key(&(place, group_id(group)));
            let is_there = hosts[place].dead.is_none() && !scene.elastic.is_given_up(place);
            place != without && is_there && is_whole
        })
    })
}

/// All who were away are there again.
pub(in crate::sim) fn end_absences(hosts: &mut [Host], scene: &mut Scene) {
    (0..hosts.len()).for_each(|place| come_back(place, hosts, scene));
}
