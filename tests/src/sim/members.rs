//! Changes of members that leaders are asked for: at random, or one after the other to an end that
//! random ones seldom come to. And what goes wrong in the middle of them.

use super::cells::ReplicaCell;
use super::host::{Hardware, Host};
use super::options::Fault;
use super::process::group_place;
use super::scene::{Event, Heal, Scene, Target};
use logboat::internals::{ChangeRequest, GroupEvent, Request, encode_change_request};
use logboat_raft::{Change, Configuration, GroupId, MemberRole, NodeId, ReplicaId, RoleKind};

/// What the members of a group are to become, by several changes.
#[derive(Clone, Debug)]
pub(super) enum Aim {
    /// Another replica on a node takes the place of this one, and votes.
    Replace(NodeId, ReplicaId),
    /// Nobody votes of those who do now, and all others do.
    Exchange(Vec<NodeId>),
    /// A node votes alone, whether it is a member yet or not.
    Alone(NodeId),
    /// All nodes vote.
    All,
}

impl Aim {
    fn draw(configuration: &Configuration, scene: &mut Scene) -> Option<Self> {
        let members = configuration.members();
        let voters = members.iter().filter(|member| member.role.is_voter());
        let voters: Vec<_> = voters.copied().collect();
        let one = voters.get(scene.random.place(voters.len().max(1)))?;
        Some(match scene.random.below(5) {
            0 | 1 => Self::Replace(one.node, one.replica),
            2 => Self::Exchange(voters.iter().map(|member| member.node).collect()),
            3 => Self::Alone(NodeId(scene.random.between(1, scene.plan.nodes as u64))),
            _ => Self::All,
        })
    }

    /// The next changes to ask for; none if there is nothing left to do.
    fn next(&self, configuration: &Configuration, nodes: u64) -> Vec<Change> {
        let members = configuration.members().iter();
        let voters = || members.clone().filter(|it| it.role.is_voter()).map(|it| it.node);
        let learners = || members.clone().filter(|it| it.role == MemberRole::Learner);
        let strangers = || {
            let strangers = (1..=nodes).map(NodeId);
            strangers.filter(|node| configuration.member(*node).is_none()).map(Change::AddLearner)
        };
        match self {
            Self::Replace(node, replica) => {
                let change = match configuration.member(*node) {
                    None => Change::AddLearner(*node),
                    Some(it) if it.replica == *replica && it.role.is_voter() => {
                        Change::Demote(*node)
                    }
                    Some(it) if it.replica == *replica => Change::Remove(*node),
                    Some(it) if it.role == MemberRole::Learner => Change::Promote(*node),
                    Some(_) => return Vec::new(),
                };
                vec![change]
            }
            Self::Exchange(former) => {
                let leaving = voters().filter(|node| former.contains(node)).map(Change::Demote);
                let added: Vec<_> = strangers().collect();
                if !added.is_empty() {
                    return added;
                }
                let coming = learners().filter(|it| !former.contains(&it.node));
                let coming = coming.map(|it| Change::Promote(it.node));
                coming.chain(leaving).collect()
            }
            Self::Alone(node) => {
                let coming = match configuration.role(*node) {
                    None => return vec![Change::AddLearner(*node)],
                    Some(MemberRole::Learner) => Some(Change::Promote(*node)),
                    Some(_) => None,
                };
                let leaving = voters().filter(|voter| voter != node).map(Change::Demote);
                coming.into_iter().chain(leaving).collect()
            }
            Self::All => strangers().chain(learners().map(|it| Change::Promote(it.node))).collect(),
        }
    }
}

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
    ask(host, place, hosts, scene)
}

fn ask(host: usize, place: usize, hosts: &mut [Host], scene: &mut Scene) -> bool {
    let Host { process: Some(process), .. } = &hosts[host] else {
        return false;
    };
    let cell = &process.cells[place];
    let (group, configuration) = (cell.id, cell.group.raft().configuration());
    let changes = choose(group_place(group), configuration, scene);
    precede(host, group, &changes, hosts, scene);
    let Host { process: Some(process), hardware, .. } = &mut hosts[host] else {
        return false;
    };
    let body = encode_change_request(&ChangeRequest::Make { from: None, changes });
    let Ok(permit) = process.admission.admit(body.len()) else {
        return false;
    };
    // Nobody waits for the answer.
    let (request, _) = Request::local(body, permit);
    process.post(place, GroupEvent::Change(request));
    process.schedule_turns(hardware, scene);
    if scene.random.per_mille(400) {
        let soon = 4 * (scene.plan.delay_us + scene.plan.sync_us);
        let soon = scene.random.between(1, soon);
        scene.after(soon, Target::World, Event::Interfere { host, place });
    }
    true
}

/// What comes just before a leader is asked for changes. It is cut off, so that others go on
/// without what it appends. Or a replica that is to be removed makes a snapshot, which may not be
/// written yet when it is gone.
fn precede(host: usize, group: GroupId, changes: &[Change], hosts: &mut [Host], scene: &mut Scene) {
    if scene.may(Fault::Partition) && scene.random.per_mille(100) {
        let lasts = scene.random.between(1, 6) * scene.plan.election_us();
        cut(|node| node == host, lasts, scene);
    }
    for change in changes {
        let Change::Remove(node) = change else { continue };
        let Host { process: Some(process), hardware, .. } = &mut hosts[node.0 as usize - 1] else {
            continue;
        };
        if scene.random.per_mille(500) {
            process.post_to_group(group, GroupEvent::Compact);
            process.schedule_turns(hardware, scene);
        }
    }
}

/// The changes to ask for: the next ones towards what the group's members are to become, or some at
/// random.
fn choose(group: usize, configuration: &Configuration, scene: &mut Scene) -> Vec<Change> {
    let nodes = scene.plan.nodes as u64;
    if scene.aims[group].is_none() && scene.random.per_mille(500) {
        scene.aims[group] = Aim::draw(configuration, scene);
    }
    let aim = scene.aims[group].as_ref();
    let next = aim.map_or_else(Vec::new, |aim| aim.next(configuration, nodes));
    if !next.is_empty() {
        let soon = scene.random.between(1, 5_000 + 20 * (scene.plan.delay_us + scene.plan.sync_us));
        scene.after(soon, Target::World, Event::Change);
        return next;
    }
    scene.aims[group] = None;
    let count = scene.random.between(1, 3);
    (0..count).map(|_| draw(configuration, scene)).collect()
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

/// Something goes wrong shortly after a leader was asked for a change: it is cut off, the halves of
/// its configuration are cut off from each other, it loses power, or the disks of the voters that
/// come are slow.
pub(super) fn interfere(host: usize, place: usize, hosts: &mut [Host], scene: &mut Scene) {
    let process = hosts[host].process.as_ref();
    let Some(cell) = process.and_then(|process| process.cells.get(place)) else { return };
    let configuration = cell.group.raft().configuration();
    let members = configuration.members().iter();
    let in_role = |role| {
        let fitting = members.clone().filter(move |member| member.role == role);
        fitting.map(|member| member.node.0 as usize - 1).collect::<Vec<_>>()
    };
    let (incoming, outgoing) = (in_role(MemberRole::Incoming), in_role(MemberRole::Outgoing));
    let lasts = scene.random.between(1_000, 6 * scene.plan.election_us());
    let numbers = [host as u64, place as u64];
    scene.trace.note(scene.now, &numbers, format_args!("trouble with a change at {}", host + 1));
    match scene.random.below(4) {
        0 if scene.may(Fault::Partition) => cut(|node| node == host, lasts, scene),
        1 if scene.may(Fault::Partition) && configuration.is_joint() => {
            let sides = scene.random.next();
            let is_apart = |node: usize| match (incoming.contains(&node), outgoing.contains(&node))
            {
                (false, false) => (sides >> node) & 1 == 1,
                (is_incoming, _) => is_incoming,
            };
            cut(is_apart, lasts, scene);
        }
        2 if scene.may(Fault::Crash) => hosts[host].hardware.doomed = true,
        3 if scene.may(Fault::SlowDisk) => {
            incoming.into_iter().for_each(|node| slow_disk(node, lasts, hosts, scene));
        }
        _ => {}
    }
}

/// Syncs of a node take long for a while.
pub(super) fn slow_disk(host: usize, lasts: u64, hosts: &mut [Host], scene: &mut Scene) {
    scene.count(Fault::SlowDisk);
    hosts[host].hardware.slow_us = scene.random.below(3 * scene.plan.election_us());
    scene.after(lasts, Target::World, Event::Heal(Heal::Disk(host)));
}

/// Cuts some nodes off from the others for a while.
fn cut(is_apart: impl Fn(usize) -> bool, lasts: u64, scene: &mut Scene) {
    scene.count(Fault::Partition);
    let nodes = scene.plan.nodes;
    for from in 0..nodes {
        for to in (0..nodes).filter(|to| is_apart(from) != is_apart(*to)) {
            scene.link(from, to).blocked = true;
        }
    }
    scene.after(lasts, Target::World, Event::Heal(Heal::Network));
}

/// A replica has run: where a change leaves a leader that votes no more, something goes wrong at
/// times, once with each configuration. While the leader hands over, those who could take over
/// stand still, or they have not written all that it has when it begins. It completes the change
/// then. And when a single voter is left, which is bound to the leader, the leader stands still and
/// the voter hears of a later term.
pub(super) fn trouble(hardware: &Hardware, cell: &mut ReplicaCell, scene: &mut Scene) {
    if cell.failed || !scene.plan.members_change || !scene.may(Fault::Members) {
        return;
    }
    let raft = cell.group.raft();
    let configuration = raft.configuration();
    if cell.troubled == Some(configuration.id()) {
        return;
    }
    let own = hardware.id();
    let members = configuration.members().iter();
    let others = || members.clone().filter(|member| member.node != own);
    let election = scene.plan.election_us();
    if raft.role() == RoleKind::Leader {
        let is_committed = raft.commit() >= configuration.id().index;
        let is_leaving = configuration.role(own) == Some(MemberRole::Outgoing);
        // One kind of trouble before the commit, the other one after that.
        let is_early = scene.may(Fault::SlowDisk) && configuration.id().index.0.is_multiple_of(2);
        if !is_leaving || is_early == is_committed {
            return;
        }
        cell.troubled = Some(configuration.id());
        let lasts = scene.random.between(election, 3 * election);
        for member in others().filter(|member| member.role.is_incoming()) {
            let host = member.node.0 as usize - 1;
            if is_early {
                let lasts = 3 * lasts;
                scene.after(1, Target::World, Event::SlowDisk { host, lasts });
            } else if scene.random.per_mille(500) {
                scene.after(1, Target::World, Event::Stall { host, lasts });
            }
        }
        return;
    }
    let is_alone = configuration.is_voter(own) && !others().any(|member| member.role.is_voter());
    let bond = if is_alone { raft.fortified() } else { None };
    if let Some(bond) = bond.filter(|bond| raft.leader() == Some(bond.leader)) {
        cell.troubled = Some(configuration.id());
        if scene.random.per_mille(700) {
            let lasts = scene.random.between(2 * election, 5 * election);
            let host = bond.leader.0 as usize - 1;
            scene.after(1, Target::World, Event::Stall { host, lasts });
            scene.after(1, Target::World, Event::Lie);
        }
    }
}
