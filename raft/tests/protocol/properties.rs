//! Random runs of whole clusters: messages lost, doubled and reordered, writes delayed, crashes
//! that lose what was not synced, compactions, changes of members. After every step the properties
//! of Raft are checked; at the end everything is healed, and the cluster must go on where it was.
//!
//! `PROPTEST_CASES=20000 cargo test --release -p logboat-raft --test protocol properties` runs more
//! of them. A failing case is shrunk and printed. Its seed is kept in
//! `properties.proptest-regressions` and run first the next time. With `LOGBOAT_TRACE=1` all that
//! happened is printed.

use crate::cluster::Cluster;
use bytes::Bytes;
use logboat_raft::{
    Change, Configuration, Input, Member, MemberRole, NodeId, Raft, ReadFrom, ReadMode, RoleKind,
    Tuning, WriteSeq,
};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(50);

/// Cases that failed once; the newest code must pass them first.
const SEEDS: &str = "tests/protocol/properties.proptest-regressions";

#[derive(Clone, Debug)]
enum Action {
    /// Delivers the packet at this place of the link's queue.
    Deliver(u64, u64, usize),
    DeliverRound,
    Drop(u64, u64, usize),
    Duplicate(u64, u64, usize),
    Tick,
    TickOne(u64),
    Skip(u16),
    Campaign(u64),
    MayLead(u64, bool),
    Propose(u64, u8),
    /// A read, which the node may serve itself whatever its role.
    Read(u64, bool),
    Transfer(u64, u64),
    /// A leader is asked for these changes of members, each a kind and a node.
    Change(u64, Vec<(u8, u64)>),
    /// A leader is asked to have all learners vote in the place of the voters.
    Succeed(u64),
    /// Whether the node's writes are durable at once.
    Disk(u64, bool),
    /// Makes the oldest writes of a node durable.
    Sync(u64, u8),
    Load(u64),
    Compact(u64),
    /// Takes a node down; so many of its writes under way survive.
    Crash(u64, usize),
    Start(u64),
    Cut(u64, u64),
    Isolate(u64),
    Heal,
    Unreachable(u64, u64),
    SnapshotFailed(u64, u64),
    /// The first node supports the second, if they reach each other.
    Support(u64, u64),
    Withdraw(u64, u64),
    /// The first node counts no longer on the second's support.
    Lapse(u64, u64),
    /// All support over links that are cut ends on both sides.
    Expire,
    /// All support over links that work begins anew.
    Renew,
    /// A node opens a round, and all that it reaches answer.
    Confirm(u64),
    /// The same, but the questions and the answers are under way until these come.
    Open(u64),
    Answer(u64, u64),
    Hear(u64, u64),
}

fn action() -> impl Strategy<Value = Action> {
    use Action::*;
    let node = || 0u64..5;
    let link = || (0u64..5, 0u64..5, 0usize..4);
    prop_oneof![
        30 => Just(DeliverRound),
        20 => link().prop_map(|(from, to, place)| Deliver(from, to, place)),
        5 => link().prop_map(|(from, to, place)| Drop(from, to, place)),
        5 => link().prop_map(|(from, to, place)| Duplicate(from, to, place)),
        12 => Just(Tick),
        4 => node().prop_map(TickOne),
        3 => (0u16..400).prop_map(Skip),
        3 => node().prop_map(Campaign),
        2 => (node(), any::<bool>()).prop_map(|(node, may)| MayLead(node, may)),
        20 => (node(), 1u8..4).prop_map(|(node, count)| Propose(node, count)),
        8 => (node(), any::<bool>()).prop_map(|(node, any)| Read(node, any)),
        2 => (node(), node()).prop_map(|(node, to)| Transfer(node, to)),
        10 => (node(), changes()).prop_map(|(node, changes)| Change(node, changes)),
        2 => node().prop_map(Succeed),
        4 => (node(), any::<bool>()).prop_map(|(node, fast)| Disk(node, fast)),
        10 => (node(), 1u8..4).prop_map(|(node, count)| Sync(node, count)),
        5 => node().prop_map(Load),
        5 => node().prop_map(Compact),
        3 => (node(), 0usize..4).prop_map(|(node, survivors)| Crash(node, survivors)),
        5 => node().prop_map(Start),
        2 => (node(), node()).prop_map(|(from, to)| Cut(from, to)),
        2 => node().prop_map(Isolate),
        3 => Just(Heal),
        2 => (node(), node()).prop_map(|(node, other)| Unreachable(node, other)),
        2 => (node(), node()).prop_map(|(node, to)| SnapshotFailed(node, to)),
        5 => (node(), node()).prop_map(|(node, peer)| Support(node, peer)),
        5 => (node(), node()).prop_map(|(node, peer)| Withdraw(node, peer)),
        3 => (node(), node()).prop_map(|(node, peer)| Lapse(node, peer)),
        2 => Just(Expire),
        3 => Just(Renew),
        5 => node().prop_map(Confirm),
        3 => node().prop_map(Open),
        6 => (node(), node()).prop_map(|(node, peer)| Answer(node, peer)),
        6 => (node(), node()).prop_map(|(node, peer)| Hear(node, peer)),
    ]
}

/// What befalls a small group, whose members take each other's place again and again. Handovers
/// come late, so that its only voter may be bound to a leader that votes no more.
fn action_in_small_group() -> impl Strategy<Value = Action> {
    use Action::*;
    let node = || 0u64..3;
    prop_oneof![
        12 => action(),
        6 => Just(DeliverRound),
        4 => node().prop_map(Succeed),
        4 => node().prop_map(Campaign),
        2 => (300u16..400).prop_map(Skip),
        2 => node().prop_map(TickOne),
        2 => node().prop_map(|node| Propose(node, 1)),
    ]
}

/// Mostly changes that the leader's configuration allows, see [`change`].
fn changes() -> impl Strategy<Value = Vec<(u8, u64)>> {
    prop::collection::vec((0u8..5, 0u64..5), 1..4)
}

/// What becomes of a node by a change of this kind, depending on what it is to the group: a
/// stranger is added, a learner promoted or removed, a voter demoted or preferred.
fn change(configuration: &Configuration, kind: u8, node: NodeId) -> Change {
    match (configuration.role(node), kind) {
        (_, 0) => Change::Prefer(node),
        (None, _) => Change::AddLearner(node),
        (Some(MemberRole::Learner), 1..=3) => Change::Promote(node),
        (Some(MemberRole::Learner), _) => Change::Remove(node),
        (Some(_), _) => Change::Demote(node),
    }
}

/// Limits that nearly every run reaches, or none.
fn tuning(tight: bool) -> Tuning {
    let limits = Tuning {
        election_timeout: Duration::from_millis(300),
        campaign_stagger: Duration::from_millis(60),
        commit_delay: Duration::from_millis(60),
        retransmit_timeout: Duration::from_millis(150),
        ..Tuning::default()
    };
    if !tight {
        return limits;
    }
    Tuning {
        max_append_bytes: 12,
        max_inflight_messages: 3,
        max_inflight_bytes: 24,
        max_uncommitted_bytes: 64,
        max_unapplied_entries: 16,
        max_unwritten_commits: 3,
        ..limits
    }
}

/// What a run counts on the way.
#[derive(Default)]
struct Run {
    proposals: u32,
    reads: u64,
}

impl Run {
    fn act(&mut self, cluster: &mut Cluster, nodes: u64, action: &Action) {
        let node = |number: u64| NodeId(number % nodes + 1);
        match *action {
            Action::Deliver(from, to, place) => cluster.deliver(node(from), node(to), place),
            Action::DeliverRound => cluster.deliver_round(),
            Action::Drop(from, to, place) => cluster.lose(node(from), node(to), place),
            Action::Duplicate(from, to, place) => {
                let queue = cluster.network.entry((node(from), node(to))).or_default();
                queue.extend(queue.get(place).cloned());
            }
            Action::Tick => cluster.tick(TICK),
            Action::TickOne(at) => cluster.step(node(at), Input::Tick),
            Action::Skip(ms) => cluster.now = cluster.now + Duration::from_millis(ms.into()),
            Action::Campaign(at) => cluster.step(node(at), Input::Campaign),
            Action::MayLead(at, may) => cluster.step(node(at), Input::MayLead(may)),
            Action::Propose(at, count) => {
                self.propose(cluster, leader_or(cluster, node(at)), count)
            }
            Action::Read(at, any) => {
                self.reads += 1;
                let from = if any { ReadFrom::Any } else { ReadFrom::Leader };
                let at = if any { node(at) } else { leader_or(cluster, node(at)) };
                cluster.read(at, self.reads, ReadMode { from, lease: false });
            }
            Action::Transfer(at, _) | Action::Change(at, _) | Action::Succeed(at) => {
                Self::rule(cluster, leader_or(cluster, node(at)), node, action);
            }
            Action::Disk(at, fast) => cluster.host(node(at)).sync = fast,
            Action::Sync(at, count) => {
                let durable = cluster.host(node(at)).durable.0;
                let newest = cluster.host(node(at)).newest.0;
                cluster.sync_to(node(at), WriteSeq(newest.min(durable + u64::from(count))));
            }
            Action::Load(at) => cluster.answer_loads(node(at)),
            Action::Compact(at) => cluster.compact(node(at)),
            Action::Crash(at, survivors) => cluster.crash(node(at), survivors),
            Action::Start(at) => {
                if cluster.raft(node(at)).is_none() {
                    cluster.start(node(at));
                }
            }
            Action::Cut(from, to) => {
                cluster.cut.insert((node(from), node(to)));
            }
            Action::Isolate(at) => {
                for other in cluster.nodes() {
                    cluster.cut.insert((node(at), other));
                    cluster.cut.insert((other, node(at)));
                }
            }
            Action::Heal => cluster.cut.clear(),
            Action::Unreachable(at, other) => {
                cluster.step(node(at), Input::Unreachable { node: node(other) });
            }
            Action::SnapshotFailed(at, to) => {
                cluster.step(node(at), Input::SnapshotFailed { to: node(to) })
            }
            Action::Support(..)
            | Action::Withdraw(..)
            | Action::Lapse(..)
            | Action::Expire
            | Action::Renew
            | Action::Confirm(..)
            | Action::Open(..)
            | Action::Answer(..)
            | Action::Hear(..) => Self::live(cluster, node, action),
        }
    }

    /// What nodes promise each other.
    fn live(cluster: &mut Cluster, node: impl Fn(u64) -> NodeId, action: &Action) {
        match *action {
            Action::Support(at, peer) => {
                if cluster.are_linked(node(at), node(peer)) {
                    cluster.support(node(at), node(peer));
                }
            }
            Action::Withdraw(at, peer) => cluster.withdraw(node(at), node(peer)),
            Action::Lapse(at, peer) => cluster.lapse(node(at), node(peer)),
            Action::Expire => cluster.expire(),
            Action::Renew => cluster.renew(),
            Action::Confirm(at) => cluster.confirm(node(at), &cluster.linked(node(at))),
            Action::Open(at) => cluster.open_round(node(at), &cluster.linked(node(at))),
            Action::Answer(at, peer) => cluster.answer_round(node(at), node(peer)),
            Action::Hear(at, peer) => cluster.hear_round(node(at), node(peer)),
            _ => unreachable!("{action:?} is not about liveness"),
        }
    }

    /// Who is to lead, and who belongs to the group.
    fn rule(cluster: &mut Cluster, leader: NodeId, node: impl Fn(u64) -> NodeId, action: &Action) {
        match *action {
            Action::Transfer(_, to) => cluster.step(leader, Input::Transfer { to: node(to) }),
            Action::Change(_, ref changes) => Self::change(cluster, leader, node, changes),
            Action::Succeed(_) => Self::succeed(cluster, leader),
            _ => unreachable!("{action:?} is not about members"),
        }
    }

    /// A node is asked for changes that its configuration mostly allows.
    fn change(
        cluster: &mut Cluster,
        at: NodeId,
        node: impl Fn(u64) -> NodeId,
        changes: &[(u8, u64)],
    ) {
        if let Some(raft) = cluster.raft(at) {
            let to = |&(kind, it): &(u8, u64)| change(raft.configuration(), kind, node(it));
            let changes = changes.iter().map(to).collect();
            cluster.change(at, changes);
        }
    }

    /// A node is asked to have the learners vote in the place of the voters.
    fn succeed(cluster: &mut Cluster, at: NodeId) {
        if let Some(raft) = cluster.raft(at) {
            let turn = |member: &Member| match member.role {
                MemberRole::Learner => Change::Promote(member.node),
                _ => Change::Demote(member.node),
            };
            let changes = raft.configuration().members().iter().map(turn).collect();
            cluster.change(at, changes);
        }
    }

    fn propose(&mut self, cluster: &mut Cluster, node: NodeId, count: u8) {
        let mut command = || {
            self.proposals += 1;
            Bytes::from(format!("c{}", self.proposals))
        };
        let commands = (0..count).map(|_| command()).collect();
        cluster.propose(node, commands);
    }
}

/// One of those that believe to lead, or else this node.
fn leader_or(cluster: &Cluster, node: NodeId) -> NodeId {
    let leads = |node: &NodeId| {
        let raft = cluster.raft(*node);
        raft.is_some_and(|raft| raft.role() == RoleKind::Leader)
    };
    let leaders: Vec<_> = cluster.nodes().into_iter().filter(leads).collect();
    let choice = leaders.get(node.0 as usize % leaders.len().max(1));
    choice.copied().unwrap_or(node)
}

/// The newest leader.
fn newest_leader(cluster: &Cluster) -> Option<&Raft> {
    let rafts = cluster.nodes().into_iter().filter_map(|node| cluster.raft(node));
    rafts.filter(|raft| raft.role() == RoleKind::Leader).max_by_key(|raft| raft.term())
}

/// Whether the change of members is over, and every member has applied all that is committed.
fn has_recovered(cluster: &Cluster) -> bool {
    newest_leader(cluster).is_some_and(|leader| {
        let members = leader.configuration().members();
        let applied = |member: &Member| {
            cluster.hosts[&member.node].history.len() == cluster.committed().len()
        };
        let is_over = leader.configuration().id().index <= leader.commit();
        is_over && !leader.configuration().is_joint() && members.iter().all(applied)
    })
}

/// Whether no member of the group waits for a moment: nothing would ever happen again.
fn is_at_rest(cluster: &Cluster) -> bool {
    let rests = |member: &Member| {
        let host = &cluster.hosts[&member.node];
        host.raft.as_ref().is_some_and(|raft| raft.next_deadline(&host.support).is_none())
    };
    let leader = newest_leader(cluster);
    leader.is_some_and(|leader| leader.configuration().members().iter().all(rests))
}

/// Heals everything and lets time pass: the cluster must elect a leader, commit something new,
/// complete a change of members, bring the state machine of each member to the same place, and come
/// to rest.
fn must_recover(cluster: &mut Cluster, run: &mut Run) {
    cluster.cut.clear();
    for node in cluster.nodes() {
        cluster.host(node).sync = true;
        if cluster.raft(node).is_none() {
            cluster.start(node);
        }
        cluster.sync(node);
        cluster.answer_loads(node);
        cluster.step(node, Input::MayLead(true));
    }
    cluster.expire();
    let before = cluster.committed().len();
    for _ in 0..400 {
        let_time_pass(cluster);
        let committed = cluster.committed().len();
        if committed > before && has_recovered(cluster) {
            return must_rest(cluster);
        }
        if committed == before {
            run.propose(cluster, leader_or(cluster, NodeId(1)), 1);
        }
    }
    panic!("the cluster does not recover");
}

/// Lets time pass without faults.
fn let_time_pass(cluster: &mut Cluster) {
    cluster.renew();
    for node in cluster.nodes() {
        cluster.confirm(node, &cluster.linked(node));
    }
    cluster.tick(TICK);
    cluster.settle();
}

/// Lets time pass: a group of which nobody wants anything must come to cost nothing.
fn must_rest(cluster: &mut Cluster) {
    for _ in 0..400 {
        if is_at_rest(cluster) {
            return;
        }
        let_time_pass(cluster);
    }
    panic!("the group does not come to rest");
}

fn run_case(nodes: u64, voters: u64, tight: bool, seed: u64, actions: &[Action]) {
    let mut cluster = Cluster::new(nodes, voters, seed % voters + 1, tuning(tight), seed);
    cluster.events = std::env::var_os("LOGBOAT_TRACE").map(|_| Vec::new());
    let mut run = Run::default();
    for action in actions {
        run.act(&mut cluster, nodes, action);
    }
    must_recover(&mut cluster, &mut run);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(SEEDS))),
        cases: ProptestConfig::default().cases.max(1_000),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn safe_and_live_under_random_faults(
        nodes in prop_oneof![
            1 => Just(1u64), 1 => Just(2), 6 => Just(3), 2 => Just(4), 4 => Just(5),
        ],
        strangers in 0u64..3,
        tight in any::<bool>(),
        seed in any::<u64>(),
        actions in prop::collection::vec(action(), 0..400),
    ) {
        run_case(nodes, nodes.saturating_sub(strangers).max(1), tight, seed, &actions);
    }

    #[test]
    fn small_groups_are_safe_and_live_while_members_take_turns(
        nodes in 2u64..4,
        tight in any::<bool>(),
        seed in any::<u64>(),
        actions in prop::collection::vec(action_in_small_group(), 0..400),
    ) {
        run_case(nodes, 1, tight, seed, &actions);
    }
}
