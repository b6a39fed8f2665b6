//! Changes of members that a leader is asked for.

use super::host::Host;
use super::process::ReplicaCell;
use super::scene::Scene;
use logboat::internals::{GroupEvent, Request, encode_changes};
use logboat_raft::{Change, Configuration, MemberRole, NodeId, RoleKind};

/// Asks some leader for changes of its group's members, which it may refuse.
pub(super) fn change(hosts: &mut [Host], scene: &mut Scene) -> bool {
    if !scene.plan.members_change {
        return false;
    }
    let leads = |cell: &ReplicaCell| cell.group.raft().role() == RoleKind::Leader;
    let cells = hosts.iter().enumerate().flat_map(|(host, it)| {
        let cells = it.process.iter().flat_map(|process| process.cells.iter().enumerate());
        cells.map(move |(place, cell)| (host, place, cell))
    });
    let leaders = cells.filter(|(.., cell)| leads(cell)).map(|(host, place, _)| (host, place));
    let leaders: Vec<(usize, usize)> = leaders.collect();
    if leaders.is_empty() {
        return false;
    }
    let (host, place) = leaders[scene.random.place(leaders.len())];
    let Host { process: Some(process), hardware, .. } = &mut hosts[host] else {
        return false;
    };
    let configuration = process.cells[place].group.raft().configuration();
    let count = scene.random.between(1, 3);
    let changes: Vec<_> = (0..count).map(|_| draw(configuration, scene)).collect();
    let body = encode_changes(&changes);
    let Ok(permit) = process.admission.admit(body.len()) else {
        return false;
    };
    // Nobody waits for the answer.
    let (request, _) = Request::local(body, permit);
    process.post(place, GroupEvent::Change(request));
    process.schedule_turns(hardware, scene);
    true
}

/// A change of a random node, of those that the configuration allows.
fn draw(configuration: &Configuration, scene: &mut Scene) -> Change {
    let node = NodeId(scene.random.between(1, scene.plan.nodes as u64));
    match configuration.role(node) {
        None => Change::AddLearner(node),
        Some(MemberRole::Learner) if scene.random.per_mille(700) => Change::Promote(node),
        Some(MemberRole::Learner) => Change::Remove(node),
        Some(_) if scene.random.per_mille(200) => Change::Prefer(node),
        Some(_) => Change::Demote(node),
    }
}
