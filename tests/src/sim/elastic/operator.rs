//! What people do to an elastic cluster: they start nodes that join, and empty others, through any
//! node of the cluster, and ask again until they know that it was heard.

use super::office::card_of;
use super::{Elastic, MOST_NODES};
use crate::sim::host::Host;
use crate::sim::options::Fault;
use crate::sim::process::Process;
use crate::sim::scene::{Event, Scene, Target};
use bytes::Bytes;
use logboat::RequestError;
use logboat_raft::NodeId;
use logboat_router::internals::{Change, Outcome, may_leave};
use logboat_router::{NodeState, Table};

/// The caller of what people ask for.
pub(in crate::sim) const OPERATOR: usize = super::NODES << 1;

/// After which time something is asked for again, in microseconds.
const AGAIN_US: u64 = 1_000_000;

/// How many nodes keep replicas at least, whatever people do.
pub(super) const FEWEST: usize = 3;

/// Something that people want.
#[derive(Debug)]
pub(super) struct Wish {
    want: Want,
    /// The number of the last attempt.
    attempt: u64,
}

#[derive(Debug)]
enum Want {
    /// A node in this place.
    Join(usize),
    /// Something else of these nodes, one after the other.
    State(Vec<NodeId>, NodeState),
}

/// Begins one of the faults that people are. Returns whether there is an occasion.
pub(super) fn operate(fault: Fault, hosts: &[Host], scene: &mut Scene) -> bool {
    if scene.elastic.table.version() == 0 {
        return false;
    }
    let want = match fault {
        Fault::Join => join(scene),
        Fault::Drain => empty(1, NodeState::Draining, hosts, scene),
        Fault::Decommission => {
            let spare = staying(hosts, &scene.elastic).len().saturating_sub(FEWEST);
            let count = if spare > 1 { 1 + scene.random.place(2) } else { 1 };
            empty(count, NodeState::Leaving, hosts, scene)
        }
        _ => {
            let is_emptied = |state| matches!(state, NodeState::Draining | NodeState::Leaving);
            pick(&in_state(&scene.elastic.table, is_emptied), scene)
                .map(|node| Want::State(vec![node], NodeState::Up))
        }
    };
    let Some(want) = want else { return false };
    let number = scene.elastic.number();
    let text = format_args!("people want {want:?}");
    scene.trace.note(scene.now, &[number], text);
    scene.elastic.wishes.insert(number, Wish { want, attempt: 0 });
    scene.after(1, Target::World, Event::Wish(number));
    true
}

/// One node joins at a time, so that each gets the id of its place.
fn join(scene: &mut Scene) -> Option<Want> {
    let elastic = &mut scene.elastic;
    let joins = elastic.wishes.values().any(|wish| matches!(wish.want, Want::Join(_)));
    if joins || elastic.used == MOST_NODES {
        return None;
    }
    elastic.used += 1;
    Some(Want::Join(elastic.used - 1))
}

/// Nodes that are to be emptied, if enough others stay.
fn empty(count: usize, state: NodeState, hosts: &[Host], scene: &mut Scene) -> Option<Want> {
    let mut staying = staying(hosts, &scene.elastic);
    if staying.len() < FEWEST + count {
        return None;
    }
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(staying.swap_remove(scene.random.place(staying.len())));
    }
    let refused = state == NodeState::Leaving && may_leave(&scene.elastic.table, &nodes).is_err();
    (!refused).then_some(Want::State(nodes, state))
}

/// The nodes that keep replicas, and that nobody wants to empty.
pub(super) fn staying(hosts: &[Host], elastic: &Elastic) -> Vec<NodeId> {
    let mut nodes = in_state(&elastic.table, |state| state == NodeState::Up);
    nodes.retain(|node| {
        let is_wanted_away = |wish: &Wish| match &wish.want {
            Want::State(nodes, NodeState::Draining | NodeState::Leaving) => nodes.contains(node),
            _ => false,
        };
        let place = node.0 as usize - 1;
        let is_there = hosts[place].dead.is_none() && !elastic.is_given_up(place);
        is_there && !elastic.wishes.values().any(is_wanted_away)
    });
    nodes
}

fn in_state(table: &Table, is_it: impl Fn(NodeState) -> bool) -> Vec<NodeId> {
    let nodes = table.nodes().filter(|(_, record)| is_it(record.state));
    nodes.map(|(node, _)| node).collect()
}

fn pick(nodes: &[NodeId], scene: &mut Scene) -> Option<NodeId> {
    (!nodes.is_empty()).then(|| nodes[scene.random.place(nodes.len())])
}

/// Asks for what people want, through a node that knows most.
pub(in crate::sim) fn ask(number: u64, hosts: &mut [Host], scene: &mut Scene) {
    if !scene.elastic.wishes.contains_key(&number) {
        return;
    }
    scene.after(AGAIN_US, Target::World, Event::Wish(number));
    let answers = |host: &&mut Host| {
        let is_part = !scene.elastic.is_given_up(host.hardware.place);
        host.process.is_some() && host.paused_until <= scene.now && is_part
    };
    let version = |process: &Process| process.office.as_ref().map(|it| it.feed.newest().version());
    let known = |host: &&mut Host| host.process.as_ref().and_then(|process| version(process));
    let Some(home) = hosts.iter_mut().filter(answers).max_by_key(known) else { return };
    let Host { process: Some(process), hardware, .. } = home else { return };
    let table = process.office().feed.newest();
    let attempt = scene.elastic.number();
    let Some(wish) = scene.elastic.wishes.get_mut(&number) else { return };
    wish.attempt = attempt;
    let change = match &wish.want {
        Want::Join(place) => {
            let node = NodeId(*place as u64 + 1);
            Some(Change::Join { incarnation: node.0, card: card_of(node) })
        }
        Want::State(nodes, state) => {
            let (node, state) = (nodes[0], *state);
            let based_on = table.node(node).map(|record| record.changed);
            based_on.map(|based_on| Change::SetState { node, based_on, state })
        }
    };
    match change {
        Some(change) => {
            process.propose_change(hardware, (OPERATOR, attempt), change, "people want it", scene);
        }
        // The node has left.
        None => drop(scene.elastic.wishes.remove(&number)),
    }
}

/// What people have asked for is answered.
pub(in crate::sim) fn answered(
    attempt: u64,
    answer: Result<Bytes, RequestError>,
    hosts: &mut [Host],
    scene: &mut Scene,
) {
    let asked = scene.elastic.wishes.iter_mut().find(|(_, wish)| wish.attempt == attempt);
    let Some((number, wish)) = asked else { return };
    let number = *number;
    match (answer.ok().and_then(|answer| Outcome::decode(&answer)), &mut wish.want) {
        (Some(Outcome::Done { node, .. } | Outcome::Unchanged { node, .. }), Want::Join(place)) => {
            let place = *place;
            assert_eq!(node, Some(place as u64 + 1), "ids are given in order");
            scene.elastic.wishes.remove(&number);
            begin(place, hosts, scene);
        }
        (Some(Outcome::Done { .. } | Outcome::Unchanged { .. }), Want::State(nodes, _)) => {
            nodes.remove(0);
            if nodes.is_empty() {
                scene.elastic.wishes.remove(&number);
            }
        }
        (Some(Outcome::Refused(_)), Want::State(..)) => {
            scene.elastic.wishes.remove(&number);
        }
        _ => {}
    }
}

/// A node that has its id starts. It needs nobody to record it.
fn begin(place: usize, hosts: &mut [Host], scene: &mut Scene) {
    let host = &mut hosts[place];
    host.dead = None;
    host.hardware.boot.founded = true;
    scene.checks.founded(host.hardware.id());
    scene.after(1, Target::Host(place), Event::Restart);
    connect(place, hosts, scene);
}

/// A node and the others dial each other from now on.
pub(super) fn connect(place: usize, hosts: &[Host], scene: &mut Scene) {
    for other in (0..hosts.len()).filter(|other| *other != place && hosts[*other].dead.is_none()) {
        for (from, to) in [(place, other), (other, place)] {
            let soon = scene.random.between(10, 20_000);
            scene.after(soon, Target::Host(from), Event::Reconnect { to });
        }
    }
}

impl Elastic {
    /// Whether nobody wants anything that is not done.
    pub(in crate::sim) fn is_content(&self) -> bool {
        self.wishes.is_empty()
    }
}
