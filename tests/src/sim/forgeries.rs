//! Words that nobody says. Some are in the name of replicas that are no more, and count for
//! nothing even if another replica of the same group lives on their node by now. Some are of nodes
//! that were not asked. And some are of a node that names later terms.

use super::host::Host;
use super::options::Fault;
use super::process::group_place;
use super::scene::{Event, Scene, Target};
use logboat_raft::{Epoch, GroupId, Index, MAX_STEP, Message, NodeId, Payload, ReplicaId, Term};
use logboat_transport::Outgoing;

/// How many of a thousand messages are answered by those who can't.
const ANSWERED: u64 = 300;

/// The replica on a node (by place) has sent this to another: at times it is answered in the name
/// of those that have nothing to say.
pub(super) fn forge(way: (usize, usize), group: GroupId, message: &Message, scene: &mut Scene) {
    if !scene.may(Fault::Forgery) || !scene.random.per_mille(ANSWERED) {
        return;
    }
    let (asker, _) = way;
    let payload = match &message.payload {
        Payload::PreVote { .. } => Payload::PreVoteReply { granted: true },
        Payload::Vote { .. } => Payload::VoteReply { granted: true },
        Payload::AppendEntries { prev, entries, .. } => {
            let through = prev.index.plus(entries.len() as u64);
            Payload::Appended { through, applied: Index(0) }
        }
        Payload::ReadIndex { token, .. } => {
            let token = *token;
            let index = Some(Index(0));
            let answer = Payload::ReadIndexReply { token, index, commit: Index(0) };
            return answer_unasked(way, group, message, answer, scene);
        }
        _ => return,
    };
    for (node, former) in scene.checks.formers(group_place(group), asker) {
        let (to, term, payload) = (message.from, message.term, payload.clone());
        let answer = Message { from: former, to, term, payload };
        deliver((node.0 as usize - 1, asker), group, &answer, scene);
    }
}

/// Whether a replica waits to be called. Nobody knows its id, so it says nothing, in truth or not.
fn waits(replica: ReplicaId) -> bool {
    replica.0.term == Term(0) && replica != ReplicaId::FOUNDER
}

/// A node answers that was not asked.
fn answer_unasked(
    (asker, asked): (usize, usize),
    group: GroupId,
    question: &Message,
    payload: Payload,
    scene: &mut Scene,
) {
    let others = scene.plan.hosts(group_place(group)).into_iter();
    let others: Vec<usize> = others.filter(|other| ![asker, asked].contains(other)).collect();
    let other = others[scene.random.place(others.len())];
    let from = scene.checks.replica_on(group_place(group), other);
    if waits(from) {
        return;
    }
    let answer = Message { from, to: question.from, term: question.term, payload };
    deliver((other, asker), group, &answer, scene);
}

fn deliver((from, to): (usize, usize), group: GroupId, answer: &Message, scene: &mut Scene) {
    if !scene.checks.is_founded(NodeId(from as u64 + 1)) {
        return;
    }
    scene.count(Fault::Forgery);
    let mut outgoing = Outgoing::new();
    outgoing.push_message(group, answer);
    let soon = scene.random.between(1, scene.plan.delay_us);
    for bytes in outgoing.into_frames() {
        scene.after(soon, Target::Host(to), Event::Frame { from, bytes, connection: None });
    }
}

/// A node tells a replica of a later term, in which it led and does no more. Once in a simulation,
/// so that all others may follow, that is far ahead, and a second one is further ahead than is left
/// to be believed.
pub(super) fn lie(hosts: &mut [Host], liar: usize, scene: &mut Scene) -> bool {
    let group = GroupId(scene.random.between(1, scene.plan.groups as u64));
    let place = draw_listener(hosts, group, scene);
    let Host { process: Some(process), hardware, .. } = &mut hosts[place] else { return false };
    let Some(cell) = process.cell_of(group).filter(|cell| liar != place && !cell.failed) else {
        return false;
    };
    let (number, raft) = (group_place(group), cell.group.raft());
    let (to, known) = (raft.id(), raft.term().0);
    let terms = if scene.lie.is_none() && scene.random.per_mille(200) {
        let term = known + MAX_STEP / 2;
        let unbelievable = Term(term + MAX_STEP * 3 / 4);
        scene.lie = Some(unbelievable);
        vec![Term(term), unbelievable]
    } else {
        vec![Term(known + scene.random.between(1, 3))]
    };
    let from: ReplicaId = scene.checks.replica_on(number, liar);
    if waits(from) {
        return false;
    }
    scene.checks.entered(number, terms[0].next());
    let liar = NodeId(liar as u64 + 1);
    for term in terms {
        let payload = Payload::Resign { epoch: Epoch(0), term };
        process.hand_over_message(liar, group, Message { from, to, term, payload });
    }
    process.schedule_turns(hardware, scene);
    true
}

/// The node (by place) to lie to. Mostly it is one that is bound to a leader which votes no more.
fn draw_listener(hosts: &[Host], group: GroupId, scene: &mut Scene) -> usize {
    let is_bound_outside = |host: &Host| {
        let raft = host.process.as_ref()?.cell_of(group)?.group.raft();
        let bond = raft.fortified()?;
        Some(!raft.configuration().is_voter(bond.leader))
    };
    let fitting = hosts.iter().position(|host| is_bound_outside(host) == Some(true));
    fitting.unwrap_or_else(|| scene.random.place(hosts.len()))
}
