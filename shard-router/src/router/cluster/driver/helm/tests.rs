//! What the driver wants, as tables, reports and ends of steps come.

use super::*;
use crate::plan::Plan;
use crate::table::{ClusterSettings, Command, Foundation, NodeCard};
use logboat::{ClusterId, Index, LogId, Term};

const ONE: GroupId = GroupId(1);

/// A helm, the table that it knows, and who is silent.
struct Bridge {
    helm: Helm,
    table: Arc<Table>,
    silent: BTreeSet<NodeId>,
    now: Duration,
}

impl Bridge {
    fn new(nodes: u64, groups: usize, replicas: usize) -> Self {
        let plan = Plan {
            layout: "hash".to_owned(),
            groups: Some(groups),
            keeps_layout: false,
            edge_bits: 16,
            split_keys: None,
            replicas,
        };
        let settings = ClusterSettings {
            lost_after: Some(Duration::from_secs(10)),
            ..ClusterSettings::default()
        };
        let nodes = (1..=nodes).map(|node| (NodeId(node), format!("10.0.0.{node}:1")));
        let found = TableChange::Found(Foundation::new(ClusterId(7), &plan, &settings, nodes));
        let mut bridge = Self {
            helm: Helm::new(),
            table: Arc::default(),
            silent: BTreeSet::new(),
            now: Duration::ZERO,
        };
        bridge.change(found);
        bridge
    }

    fn change(&mut self, change: TableChange) {
        Arc::make_mut(&mut self.table).apply(&Command::new(change, "a test"));
    }

    fn join(&mut self, node: u64) {
        let card = NodeCard { peers: format!("10.0.0.{node}:1"), ..NodeCard::default() };
        let (incarnation, id) = (node, NodeId(node));
        self.change(TableChange::Join { incarnation, card: card.clone() });
        self.change(TableChange::Announce { node: id, incarnation, card });
    }

    fn set_state(&mut self, node: u64, state: NodeState) {
        let node = NodeId(node);
        let based_on = self.table.node(node).unwrap().changed;
        self.change(TableChange::SetState { node, based_on, state });
    }

    /// The first voters that are heard lead, and each group is as large as this.
    fn report(&mut self, bytes: u64) {
        let ranges = self.table.ranges().iter().map(|range| range.group);
        let groups: Vec<_> = ranges.chain([META_GROUP]).collect();
        let nodes: Vec<_> = self.table.nodes().map(|(node, _)| node).collect();
        for node in nodes {
            let led = groups.iter().copied().filter(|group| {
                let voters = &self.table.members(*group).unwrap().voters;
                voters.iter().find(|it| !self.silent.contains(it)) == Some(&node)
            });
            let led = led.map(|group| (group, bytes)).collect();
            self.helm.reported(node, Reported { led, ..Reported::default() });
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        let silent = &self.silent;
        self.helm.learn(self.now, &self.table, |node| !silent.contains(&node));
    }

    /// The orders after some time.
    fn orders(&mut self, millis: u64) -> Vec<Order> {
        self.pass(millis);
        self.helm.orders()
    }

    /// Carries out an order, and tells so.
    fn carry_out(&mut self, order: &Order) -> Members {
        let mut members = self.table.members(order.group).unwrap().clone();
        let index = members.entry.index.0 + 1;
        members.entry = LogId::new(Term(1), Index(index));
        for change in &order.changes {
            let node = change.node();
            members.learners.retain(|it| *it != node);
            match change {
                Change::AddLearner(_) => {
                    members.learners.push(node);
                    members.founding.retain(|it| *it != node);
                    members.added.insert(node.0, (1, index));
                }
                Change::Promote(_) => members.voters.push(node),
                Change::Demote(_) => {
                    members.prefers_first &= members.voters.first() != Some(&node);
                    members.voters.retain(|it| *it != node);
                    members.learners.push(node);
                }
                Change::Remove(_) => {}
                Change::Prefer(_) => {
                    members.voters.sort_by_key(|it| *it != node);
                    members.prefers_first = true;
                }
            }
        }
        let groups = vec![(order.group.0, members.clone())];
        self.change(TableChange::Members { groups });
        members
    }

    /// Carries out all orders, and has each learner catch up at once, until nothing is wanted.
    fn settle(&mut self) {
        for _ in 0..500 {
            let orders = self.orders(100);
            if orders.is_empty() && self.helm.learners.values().all(|learner| learner.is_ready) {
                return;
            }
            for order in orders {
                let members = self.carry_out(&order);
                let ended = match order.successor {
                    Some(to) => Ended::Transferred { members, to },
                    None => Ended::Changed(members),
                };
                self.helm.ended(self.now, order.group, ended);
            }
            for (_, learners) in self.helm.learners_to_ask() {
                for (group, node) in learners {
                    self.helm.progressed(Progress { group, node, is_ready: true, matched: 1 });
                }
            }
        }
        panic!("it goes on for ever");
    }

    fn voters(&self, group: GroupId) -> BTreeSet<u64> {
        self.table.members(group).unwrap().voters.iter().map(|node| node.0).collect()
    }
}

fn learners(orders: &[Order]) -> usize {
    let adds = |order: &&Order| matches!(order.changes[..], [Change::AddLearner(_)]);
    orders.iter().filter(adds).count()
}

#[test]
fn a_group_is_left_alone_until_its_nodes_have_said_what_has_failed() {
    let mut bridge = Bridge::new(3, 1, 3);
    bridge.join(4);
    bridge.set_state(1, NodeState::Draining);
    bridge.pass(0);
    let led = vec![(ONE, 1), (META_GROUP, 1)];
    bridge.helm.reported(NodeId(2), Reported { led, ..Reported::default() });
    for node in [1, 4] {
        bridge.helm.reported(NodeId(node), Reported::default());
    }
    // The replica on node 3 may have failed.
    assert_eq!(bridge.orders(300), []);
    assert_eq!(bridge.orders(5_000), []);
    let failed = vec![ONE];
    bridge.helm.reported(NodeId(3), Reported { failed, ..Reported::default() });
    let orders = bridge.orders(300);
    let first = orders.iter().find(|order| order.group == ONE).expect("there is something to do");
    assert_eq!(first.changes, [Change::Demote(NodeId(3))]);
}

#[test]
fn what_a_node_said_before_it_was_away_counts_no_more() {
    let mut bridge = Bridge::new(3, 1, 3);
    bridge.join(4);
    bridge.report(1);
    bridge.pass(20_000);
    bridge.silent.insert(NodeId(3));
    bridge.pass(1);
    bridge.silent.clear();
    bridge.set_state(1, NodeState::Draining);
    assert_eq!(bridge.orders(1), [], "its replica may have failed when it was started");
    bridge.helm.reported(NodeId(3), Reported::default());
    assert!(!bridge.orders(300).is_empty());
}

#[test]
fn a_node_that_says_nothing_of_its_replicas_holds_up_a_driver_for_a_while() {
    let mut bridge = Bridge::new(3, 1, 3);
    bridge.join(4);
    bridge.set_state(1, NodeState::Draining);
    bridge.pass(0);
    let led = vec![(ONE, 1), (META_GROUP, 1)];
    bridge.helm.reported(NodeId(2), Reported { led, ..Reported::default() });
    assert_eq!(bridge.orders(9_000), []);
    assert!(!bridge.orders(1_300).is_empty());
}

#[test]
fn copies_begin_as_the_bandwidth_allows_by_the_size_of_groups() {
    let mut bridge = Bridge::new(3, 100, 3);
    // 128 MiB a second, for each node: 16 of these groups. At the begin a tenth of a second more.
    bridge.report(8 << 20);
    bridge.join(4);
    let mut begun = learners(&bridge.orders(0));
    assert!((1..=8).contains(&begun), "copies under way are bounded by bytes: {begun}");
    for _ in 0..20 {
        // All that has begun is there at once.
        let learning = bridge.helm.busy.clone();
        for group in learning {
            bridge.helm.ended(bridge.now, group, Ended::Stale);
        }
        begun += learners(&bridge.orders(50));
    }
    assert!((14..=19).contains(&begun), "in a second: {begun}");
}

#[test]
fn a_learner_counts_as_a_copy_until_its_leader_says_that_it_is_ready() {
    let mut bridge = Bridge::new(3, 40, 3);
    bridge.report(32 << 20);
    bridge.join(4);
    let mut begun = 0;
    for _ in 0..200 {
        let orders = bridge.orders(100);
        begun += learners(&orders);
        for order in &orders {
            let members = bridge.carry_out(order);
            bridge.helm.ended(bridge.now, order.group, Ended::Changed(members));
        }
    }
    // Bandwidth allows more, but these copies are under way.
    assert_eq!(begun, COPIES);
    let asked: Vec<_> = bridge.helm.learners_to_ask().into_values().flatten().collect();
    assert_eq!(asked.len(), begun);
    let (group, node) = asked[0];
    bridge.helm.progressed(Progress { group, node, is_ready: true, matched: 9 });
    let orders = bridge.orders(100);
    let promotes = |order: &Order| matches!(order.changes[..], [Change::Promote(_), ..]);
    assert!(orders.iter().any(|order| order.group == group && promotes(order)), "{orders:?}");
    assert_eq!(orders[0].from, bridge.table.members(orders[0].group).unwrap().entry);
}

#[test]
fn a_learner_that_gets_no_further_gives_way() {
    let mut bridge = Bridge::new(3, 1, 3);
    bridge.report(1 << 20);
    bridge.join(4);
    bridge.set_state(3, NodeState::Draining);
    let orders = bridge.orders(0);
    let order = orders.iter().find(|order| order.group == ONE).unwrap().clone();
    assert_eq!(order.changes, [Change::AddLearner(NodeId(4))]);
    let members = bridge.carry_out(&order);
    bridge.helm.ended(bridge.now, ONE, Ended::Changed(members));
    let behind = |matched| Progress { group: ONE, node: NodeId(4), is_ready: false, matched };
    for matched in 1..50 {
        bridge.helm.progressed(behind(matched));
        assert!(bridge.orders(10_000).iter().all(|order| order.group != ONE), "it gets on");
    }
    let mut removed = None;
    for _ in 0..20 {
        bridge.helm.progressed(behind(49));
        removed = removed.or(bridge.orders(10_000).into_iter().find(|order| order.group == ONE));
    }
    assert_eq!(removed.unwrap().changes, [Change::Remove(NodeId(4))]);
}

#[test]
fn who_did_not_take_over_is_not_asked_again_at_once() {
    let mut bridge = Bridge::new(4, 1, 4);
    bridge.report(1);
    bridge.set_state(1, NodeState::Draining);
    let mut asked = Vec::new();
    for _ in 0..3 {
        let orders = bridge.orders(10);
        let order = orders.iter().find(|order| order.group == ONE).cloned().unwrap();
        let to = order.successor.unwrap();
        asked.push(to.0);
        let members = bridge.carry_out(&order);
        bridge.helm.ended(bridge.now, ONE, Ended::NotTaken { members, to });
    }
    asked.sort_unstable();
    assert_eq!(asked, [2, 3, 4]);
    let is_asked = |orders: Vec<Order>| orders.iter().any(|order| order.group == ONE);
    assert!(!is_asked(bridge.orders(1_000)));
    assert!(is_asked(bridge.orders(60_000)), "they may have recovered");
}

#[test]
fn the_meta_group_has_three_to_five_voters_whatever_the_others_have() {
    for replicas in [1, 2, 3] {
        let mut bridge = Bridge::new(3, 4, replicas);
        bridge.report(1);
        bridge.settle();
        assert_eq!(bridge.voters(META_GROUP).len(), 3);
        bridge.join(4);
        bridge.report(1);
        bridge.settle();
        assert_eq!(bridge.voters(META_GROUP).len(), 3);
        bridge.join(5);
        bridge.report(1);
        bridge.settle();
        assert_eq!(bridge.voters(META_GROUP), (1..=5).collect(), "{replicas} replicas");
        bridge.set_state(1, NodeState::Draining);
        bridge.set_state(2, NodeState::Leaving);
        bridge.settle();
        assert_eq!(bridge.voters(META_GROUP), (3..=5).collect(), "{replicas} replicas");
        let left = bridge.helm.settlements(|_| false);
        assert!(matches!(left[..], [(TableChange::Forget { node: NodeId(2), .. }, _)]), "{left:?}");
    }
}

#[test]
fn a_node_with_the_meta_group_can_be_drained_with_few_replicas() {
    for (nodes, replicas) in [(3, 1), (3, 2), (2, 1)] {
        let mut bridge = Bridge::new(nodes, 6, replicas);
        bridge.report(1);
        bridge.settle();
        bridge.set_state(1, NodeState::Draining);
        bridge.settle();
        for group in 0..=6 {
            let voters = bridge.voters(GroupId(group));
            assert!(!voters.contains(&1), "{nodes} nodes, group {group}: {voters:?}");
        }
    }
}

#[test]
fn lost_nodes_leave_the_table_when_they_have_been_replaced() {
    let mut bridge = Bridge::new(4, 8, 3);
    bridge.report(1);
    bridge.settle();
    bridge.silent.insert(NodeId(4));
    bridge.pass(1);
    bridge.pass(9_000);
    assert!(bridge.helm.settlements(|_| false).is_empty(), "it may come back");
    bridge.pass(2_000);
    let lost = bridge.helm.settlements(|_| false);
    assert!(matches!(lost[..], [(TableChange::SetState { node: NodeId(4), .. }, _)]), "{lost:?}");
    bridge.set_state(4, NodeState::Lost);
    bridge.report(1);
    bridge.settle();
    let left = bridge.helm.settlements(|_| false);
    assert!(matches!(left[..], [(TableChange::Forget { node: NodeId(4), .. }, _)]), "{left:?}");
}

#[test]
fn nodes_that_a_recovery_has_given_up_leave_the_table() {
    let mut bridge = Bridge::new(3, 4, 3);
    bridge.silent.extend([NodeId(2), NodeId(3)]);
    for group in 0..=4 {
        let only =
            Members { entry: LogId::new(Term(9), Index(1)), ..Members::founders(vec![NodeId(1)]) };
        bridge.change(TableChange::Members { groups: vec![(group, only)] });
    }
    bridge.report(1);
    bridge.pass(60_000);
    assert!(bridge.helm.settlements(|_| false).is_empty(), "most nodes are silent");
    let is_given_up = |node| node != NodeId(1);
    for (change, _) in bridge.helm.settlements(is_given_up) {
        assert!(matches!(change, TableChange::SetState { state: NodeState::Lost, .. }));
        bridge.change(change);
    }
    bridge.settle();
    for (change, _) in bridge.helm.settlements(is_given_up) {
        assert!(matches!(change, TableChange::Forget { .. }));
        bridge.change(change);
    }
    assert_eq!(bridge.table.nodes().count(), 1);
}

#[test]
fn a_node_that_another_one_reaches_is_not_silent() {
    let mut bridge = Bridge::new(3, 4, 3);
    bridge.report(1);
    bridge.settle();
    bridge.silent.insert(NodeId(3));
    let reaches: BTreeSet<_> = [1, 3].map(NodeId).into();
    for seconds in [1, 60, 600] {
        let report = Reported { reaches: reaches.clone(), ..Reported::default() };
        bridge.helm.reported(NodeId(2), report);
        bridge.pass(seconds * 1_000);
        assert!(bridge.helm.settlements(|_| false).is_empty());
    }
    // Nobody reaches it any more.
    bridge.helm.reported(NodeId(2), Reported::default());
    bridge.pass(1_000);
    bridge.pass(11_000);
    let lost = bridge.helm.settlements(|_| false);
    assert!(matches!(lost[..], [(TableChange::SetState { node: NodeId(3), .. }, _)]), "{lost:?}");
}

#[test]
fn a_node_that_has_left_counts_no_more_whether_it_is_reached_or_not() {
    let mut bridge = Bridge::new(4, 4, 3);
    bridge.report(1);
    bridge.settle();
    bridge.set_state(4, NodeState::Leaving);
    bridge.settle();
    let (forget, _) = bridge.helm.settlements(|_| false).pop().unwrap();
    bridge.change(forget);
    bridge.pass(1);
    assert!(bridge.helm.cluster.node(NodeId(4)).is_none());
}

/// Somebody wants a move of group 1 to node 4, which joins.
fn want_move(bridge: &mut Bridge) {
    bridge.join(4);
    bridge.set_state(4, NodeState::Draining);
    bridge.settle();
    bridge.set_state(4, NodeState::Up);
    let from = bridge.table.members(ONE).unwrap().voters[1];
    bridge.change(TableChange::WantMove { group: ONE, from, to: NodeId(4) });
}

/// Whether that move ends.
fn ends(bridge: &Bridge) -> bool {
    let settled = bridge.helm.settlements(|_| false);
    settled.iter().any(|(change, _)| matches!(change, TableChange::EndMove { group: ONE }))
}

#[test]
fn a_move_waits_for_as_long_as_the_disk_of_the_other_node_is_full() {
    let mut bridge = Bridge::new(3, 1, 3);
    bridge.report(1);
    want_move(&mut bridge);
    let of_one = |bridge: &mut Bridge, millis| {
        bridge.orders(millis).into_iter().find(|order| order.group == ONE)
    };
    let full = |is_full| Reported { is_full, ..Reported::default() };
    // It fills before the copy, and in the middle of it.
    bridge.helm.reported(NodeId(4), full(true));
    assert!(of_one(&mut bridge, 100_000).is_none() && !ends(&bridge));
    bridge.helm.reported(NodeId(4), full(false));
    let order = of_one(&mut bridge, 1).unwrap();
    assert_eq!(order.changes, [Change::AddLearner(NodeId(4))]);
    let members = bridge.carry_out(&order);
    bridge.helm.ended(bridge.now, ONE, Ended::Changed(members));
    let progress = |bridge: &mut Bridge, is_ready| {
        let (node, matched) = (NodeId(4), 1);
        bridge.helm.progressed(Progress { group: ONE, node, is_ready, matched });
        bridge.pass(1);
    };
    progress(&mut bridge, false);
    bridge.helm.reported(NodeId(4), full(true));
    for _ in 0..10 {
        bridge.pass(30_000);
        progress(&mut bridge, false);
        assert!(of_one(&mut bridge, 1).is_none() && !ends(&bridge));
    }
    bridge.helm.reported(NodeId(4), full(false));
    progress(&mut bridge, true);
    let order = of_one(&mut bridge, 1).unwrap();
    assert!(order.changes.contains(&Change::Promote(NodeId(4))), "{order:?}");
    // One that has room and gets no further is given up as before.
    progress(&mut bridge, false);
    bridge.pass(100_000);
    progress(&mut bridge, false);
    assert!(ends(&bridge));
}

#[test]
fn a_move_ends_when_the_other_node_takes_it_no_more() {
    // Before anything has begun: no learner is added on a node that takes none.
    let mut bridge = Bridge::new(3, 1, 3);
    bridge.report(1);
    want_move(&mut bridge);
    bridge.set_state(4, NodeState::Draining);
    assert!(bridge.orders(1).iter().all(|order| order.group != ONE));
    assert!(ends(&bridge));

    // The node has left meanwhile.
    bridge.set_state(4, NodeState::Leaving);
    let based_on = bridge.table.node(NodeId(4)).unwrap().changed;
    bridge.change(TableChange::Forget { node: NodeId(4), based_on });
    assert!(bridge.table.wanted_move(ONE).is_none());

    // Its replica there has failed.
    let mut bridge = Bridge::new(3, 1, 3);
    bridge.report(1);
    want_move(&mut bridge);
    let orders = bridge.orders(1);
    let order = orders.iter().find(|order| order.group == ONE).unwrap();
    assert_eq!(order.changes, [Change::AddLearner(NodeId(4))]);
    let members = bridge.carry_out(order);
    bridge.helm.ended(bridge.now, ONE, Ended::Changed(members));
    assert!(!ends(&bridge));
    bridge.helm.reported(NodeId(4), Reported { failed: vec![ONE], ..Reported::default() });
    bridge.pass(1);
    assert!(ends(&bridge));
}

#[test]
fn nothing_is_done_for_a_lost_node_before_the_table_says_so() {
    let mut bridge = Bridge::new(4, 4, 3);
    bridge.report(1);
    bridge.settle();
    bridge.silent.insert(NodeId(4));
    bridge.pass(1);
    // The change of the table is refused: another driver has made one, or the node was heard.
    for _ in 0..3 {
        assert!(bridge.orders(11_000).is_empty());
        let settled = bridge.helm.settlements(|_| false);
        assert!(matches!(settled[..], [(TableChange::SetState { node: NodeId(4), .. }, _)]));
    }
    bridge.set_state(4, NodeState::Lost);
    let orders = bridge.orders(1);
    assert!(!orders.is_empty());
    assert!(orders.iter().all(|order| order.why.contains("node 4 is lost")), "{orders:?}");
}

#[test]
fn leaders_are_even_after_the_loss_of_a_preferred_one() {
    let mut bridge = Bridge::new(4, 12, 3);
    bridge.report(1);
    bridge.settle();
    bridge.silent.insert(NodeId(1));
    bridge.pass(1);
    bridge.pass(11_000);
    bridge.set_state(1, NodeState::Lost);
    bridge.report(1);
    bridge.settle();
    let mut led = BTreeMap::<_, usize>::new();
    for group in 1..=12 {
        let leader = bridge.table.members(GroupId(group)).unwrap().preferred();
        *led.entry(leader.expect("a preferred leader")).or_default() += 1;
    }
    assert_eq!(led, [2, 3, 4].map(|node| (NodeId(node), 4)).into(), "{led:?}");
}

#[test]
fn a_group_that_prefers_nobody_counts_where_it_leads() {
    let mut bridge = Bridge::new(3, 6, 3);
    bridge.report(1);
    bridge.settle();
    let groups: Vec<_> = (1..=6).map(GroupId).collect();
    let orphans = groups.iter().map(|group| {
        let members = bridge.table.members(*group).unwrap();
        let entry = LogId::new(Term(5), Index(50));
        (group.0, Members { entry, prefers_first: false, ..members.clone() })
    });
    let orphans = orphans.collect();
    bridge.change(TableChange::Members { groups: orphans });
    let led = groups.iter().map(|group| (*group, 1)).collect();
    bridge.helm.reported(NodeId(2), Reported { led, ..Reported::default() });
    let orders = bridge.orders(1);
    assert!(orders.len() >= 3, "{orders:?}");
    assert!(orders.iter().all(|order| order.successor.is_some()), "{orders:?}");
}

#[test]
fn a_member_that_is_gone_is_replaced_and_a_later_one_is_not() {
    let mut bridge = Bridge::new(3, 4, 3);
    bridge.report(1);
    bridge.settle();
    let floor = ReplicaId::FOUNDER.next();
    let gone = |bridge: &mut Bridge, groups: &[GroupId]| {
        let gone = groups.iter().map(|group| (*group, floor)).collect();
        let led = vec![];
        bridge.helm.reported(NodeId(3), Reported { led, gone, ..Reported::default() });
    };
    gone(&mut bridge, &[ONE]);
    bridge.settle();
    let later = bridge.table.members(ONE).unwrap().replica(NodeId(3));
    assert!(later >= floor && bridge.voters(ONE).contains(&3), "{later:?}");
    gone(&mut bridge, &[ONE]);
    assert!(bridge.orders(100).is_empty());
}

#[test]
fn a_full_node_takes_nothing() {
    let mut bridge = Bridge::new(3, 8, 3);
    bridge.report(1);
    bridge.join(4);
    let full = Reported { is_full: true, ..Reported::default() };
    bridge.helm.reported(NodeId(4), full);
    bridge.settle();
    for group in 1..=8 {
        assert!(!bridge.voters(GroupId(group)).contains(&4));
    }
    bridge.helm.reported(NodeId(4), Reported::default());
    bridge.settle();
    assert!((1..=8).any(|group| bridge.voters(GroupId(group)).contains(&4)));
}
