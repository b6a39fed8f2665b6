//! Nodes of an elastic cluster that are lost for good, or away for so long that they are given up,
//! and replicas whose data are damaged: never so many that a group is without a majority.

use super::operator::{FEWEST, connect, staying};
use crate::sim::host::Host;
use crate::sim::options::Fault;
use crate::sim::process::group_id;
use crate::sim::scene::{Event, Scene, Target};
use logboat::internals::GroupEvent;
use logboat_raft::NodeId;

/// Why a node does not start that comes back.
const AWAY: &str = "it is away";

/// Takes a node away, for good or for long. Returns whether the cluster can do without it.
pub(super) fn lose(fault: Fault, place: usize, hosts: &mut [Host], scene: &mut Scene) -> bool {
    let node = NodeId(place as u64 + 1);
    let left = staying(hosts, &scene.elastic).into_iter().filter(|it| *it != node);
    let is_there = hosts[place].process.is_some() && hosts[place].dead.is_none();
    if !is_there || left.count() < FEWEST || !majorities_stay(None, place, hosts, scene) {
        return false;
    }
    scene.elastic.went(node, scene.now);
    if fault == Fault::Lose {
        hosts[place].end("it is lost".to_owned());
    } else {
        hosts[place].end(AWAY.to_owned());
        let longest = 4 * scene.plan.lost_after.as_micros() as u64;
        let lasts = scene.random.between(longest / 8, longest);
        scene.after(lasts, Target::World, Event::Return(place));
    }
    true
}

/// A node that was away is there again.
pub(in crate::sim) fn come_back(place: usize, hosts: &mut [Host], scene: &mut Scene) {
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
    if cells.is_empty() {
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
            place != without && hosts[place].dead.is_none() && is_whole
        })
    })
}

/// All who were away are there again.
pub(in crate::sim) fn end_absences(hosts: &mut [Host], scene: &mut Scene) {
    (0..hosts.len()).for_each(|place| come_back(place, hosts, scene));
}
