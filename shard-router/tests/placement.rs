//! Placement in a simulated cluster to which anything happens. The simulation asserts at every step
//! that it does no harm; what is asserted here is where it all ends.

use logboat::{GroupId, NodeId};
use logboat_router::NodeState;
use logboat_router::placement::simulation::{Simulation, Speeds};
use logboat_router::placement::{Cluster, Condition, GroupFacts, Need, Settings};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use std::time::Duration;

const GROUPS: u64 = 60;

/// Something that happens. Nodes and groups are chosen among those that there are.
#[derive(Clone, Debug)]
enum Event {
    Join { zone: usize },
    Kill(usize),
    Revive(usize),
    State(usize, NodeState),
    Damage(u64, usize),
    Replicas(usize),
    Pass(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let node = any::<usize>;
    let states =
        prop_oneof![Just(NodeState::Up), Just(NodeState::Draining), Just(NodeState::Leaving)];
    prop_oneof![
        2 => (0..3_usize).prop_map(|zone| Event::Join { zone }),
        3 => node().prop_map(Event::Kill),
        2 => node().prop_map(Event::Revive),
        4 => (node(), states).prop_map(|(node, state)| Event::State(node, state)),
        3 => (0..GROUPS, node()).prop_map(|(group, node)| Event::Damage(group, node)),
        1 => prop_oneof![Just(1), Just(3), Just(5)].prop_map(Event::Replicas),
        6 => (1..40_usize).prop_map(Event::Pass),
    ]
}

/// A simulation and the nodes that it had.
struct World {
    simulation: Simulation,
    nodes: Vec<NodeId>,
    zones: usize,
}

impl World {
    fn new(nodes: u64, zones: usize) -> Self {
        let settings = Settings { lost_after: Duration::from_secs(5), ..Settings::default() };
        let (change, round) = (Duration::from_millis(30), Duration::from_millis(200));
        let speeds = Speeds { bytes_per_s: 1e8, change, round };
        let mut world =
            Self { simulation: Simulation::new(settings, speeds), nodes: Vec::new(), zones };
        (0..nodes).for_each(|zone| world.join(zone as usize));
        for group in 0..GROUPS {
            let voters = [0, 1, 2].map(|next| NodeId((group + next) % nodes + 1));
            let bytes = (group % 5 + 1) << 24;
            world.simulation.found(GroupId(group), &voters[..nodes.min(3) as usize], bytes);
        }
        world
    }

    fn join(&mut self, zone: usize) {
        let node = NodeId(self.nodes.len() as u64 + 1);
        self.simulation.join(node, ["a", "b", "c"][zone % self.zones]);
        self.nodes.push(node);
    }

    /// The nodes that belong to the cluster.
    fn present(&self) -> Vec<NodeId> {
        let is_there = |node: &NodeId| {
            let facts = self.simulation.cluster.node(*node);
            facts.is_some_and(|facts| facts.state != NodeState::Lost)
        };
        self.nodes.iter().copied().filter(is_there).collect()
    }

    fn chosen(&self, number: usize) -> NodeId {
        let present = self.present();
        present[number % present.len()]
    }

    fn group(&self, group: GroupId) -> &GroupFacts {
        self.simulation.cluster.group(group).expect("a known group")
    }

    /// Whether all groups with a replica on the node have a majority without it.
    fn can_spare(&self, node: NodeId, groups: impl IntoIterator<Item = u64>) -> bool {
        groups.into_iter().all(|group| {
            let mut facts = self.group(GroupId(group)).clone();
            for replica in &mut facts.replicas {
                if replica.node == node {
                    replica.condition = Condition::Damaged;
                }
            }
            // Until a change is over, either half may count.
            !facts.is_changing && self.simulation.has_majority(&facts)
        })
    }

    fn meet(&mut self, event: &Event) {
        match *event {
            Event::Join { zone } if self.nodes.len() < 14 => self.join(zone),
            Event::Join { .. } => {}
            Event::Kill(number) => {
                let node = self.chosen(number);
                if self.can_spare(node, 0..GROUPS) {
                    self.simulation.kill(node);
                }
            }
            Event::Revive(number) => self.simulation.revive(self.chosen(number)),
            Event::State(number, state) => {
                let node = self.chosen(number);
                if state != NodeState::Leaving
                    || self.simulation.cluster.check_leaving(&[node]).is_ok()
                {
                    self.simulation.set_state(node, state);
                }
            }
            Event::Damage(group, number) => {
                let node = self.chosen(number);
                if self.can_spare(node, [group]) {
                    self.simulation.damage(GroupId(group), node);
                }
            }
            Event::Replicas(replicas) => {
                self.simulation.cluster.set_settings(Settings {
                    replicas,
                    lost_after: Duration::from_secs(5),
                    ..Settings::default()
                });
            }
            Event::Pass(rounds) => {
                for _ in 0..rounds {
                    self.simulation.round();
                }
            }
        }
    }

    /// Lets time pass until nothing is left to do.
    fn settle(&mut self) {
        for node in self.present() {
            self.simulation.revive(node);
        }
        let mut quiet = 0;
        for _ in 0..5_000 {
            let steps = self.simulation.round();
            quiet = if steps == 0 && self.simulation.is_quiet() { quiet + 1 } else { 0 };
            if quiet > 30 {
                return;
            }
        }
        panic!("there is no end");
    }

    /// Asserts that every group has what it can have.
    fn assert_whole(&self) {
        let cluster = &self.simulation.cluster;
        for group in (0..GROUPS).map(GroupId) {
            let need = cluster.need(group).expect("a known group");
            let facts = self.group(group);
            assert!(
                matches!(need, Need::Nothing | Need::NoRoom | Need::Spread),
                "{need:?} {facts:?}"
            );
            assert!(facts.leader.is_some(), "{facts:?}");
        }
    }

    /// Asserts that a cluster that is told everything at once, backwards, says the same.
    fn assert_pure(&self, settings: Settings) {
        let told = &self.simulation.cluster;
        let mut other = Cluster::new(settings);
        for group in (0..GROUPS).rev().map(GroupId) {
            other.set_group(group, self.group(group).clone());
        }
        for node in self.nodes.iter().rev() {
            if let Some(facts) = told.node(*node) {
                other.set_node(*node, facts.clone());
            }
        }
        other.set_now(self.simulation.now());
        assert_eq!(other.steps(), told.steps());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_step_does_harm_and_all_groups_end_whole(
        nodes in 1..8_u64,
        zones in 1..4_usize,
        events in vec(event(), 1..40),
    ) {
        let mut world = World::new(nodes, zones);
        for event in &events {
            world.meet(event);
        }
        world.settle();
        world.assert_whole();
    }

    #[test]
    fn steps_follow_from_what_is_known_alone(events in vec(event(), 1..20)) {
        let settings = Settings { lost_after: Duration::from_secs(5), ..Settings::default() };
        let mut world = World::new(6, 3);
        for event in events.iter().filter(|event| !matches!(event, Event::Replicas(_))) {
            world.meet(event);
            world.simulation.cluster.set_now(world.simulation.now());
            world.assert_pure(settings.clone());
        }
    }
}

#[test]
fn a_lost_node_is_replaced_and_joining_ones_take_their_share() {
    let mut world = World::new(6, 3);
    world.settle();
    world.simulation.kill(NodeId(2));
    for _ in 0..200 {
        world.simulation.round();
    }
    world.assert_whole();
    assert!(world.simulation.cluster.node(NodeId(2)).is_none(), "it is forgotten");
    // As many nodes in each zone as in the others.
    [1, 0, 1, 2].into_iter().for_each(|zone| world.join(zone));
    world.settle();
    let shares: Vec<_> =
        world.present().iter().map(|node| world.simulation.cluster.replicas_on(*node)).collect();
    assert!(shares.iter().all(|share| (19..=21).contains(share)), "{shares:?}");
}

/// Two moves between the same nodes, of groups with one replica each, took each other back.
#[test]
fn groups_of_one_replica_come_to_rest() {
    let mut world = World::new(4, 1);
    let events = [
        Event::Kill(9127388574905246881),
        Event::State(8471983548148285927, NodeState::Draining),
        Event::Join { zone: 2 },
        Event::State(17420793988577725135, NodeState::Leaving),
        Event::Join { zone: 0 },
        Event::Join { zone: 2 },
        Event::Join { zone: 1 },
        Event::Pass(37),
        Event::Replicas(1),
        Event::Pass(76),
        Event::Join { zone: 1 },
        Event::State(18429520493123444545, NodeState::Up),
    ];
    events.iter().for_each(|event| world.meet(event));
    world.settle();
    world.assert_whole();
}
