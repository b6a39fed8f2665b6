//! The rules of placement, one by one.

use super::{
    Cluster, Condition, GroupFacts, Heard, Need, NodeFacts, Replica, Settings, Space, StepRefusal,
};
use crate::table::NodeState;
use logboat::{GroupId, Index, LogId, MemberRole, NodeId, ReplicaId, Term};
use smallvec::SmallVec;
use std::time::Duration;

/// A cluster of nodes that are up, each written as its id and its zone: `1a 2b 3c`.
fn cluster(nodes: &str) -> Cluster {
    let mut cluster = Cluster::new(Settings::default());
    for node in nodes.split_whitespace() {
        let zone = node.trim_start_matches(|it: char| it.is_ascii_digit());
        let id = node.trim_end_matches(zone).parse().unwrap();
        cluster.set_node(NodeId(id), NodeFacts::up(zone));
    }
    cluster
}

/// A group of 1 MiB. Each replica is written as its node and what is special: `*` leads, `l` is a
/// new learner that has caught up, `c` one that is being copied, `x` a damaged voter.
fn group(replicas: &str) -> GroupFacts {
    let mut leader = None;
    let replica = |text: &str| {
        let special = text.trim_start_matches(|it: char| it.is_ascii_digit());
        let node = NodeId(text.trim_end_matches(special).parse().unwrap());
        let (role, condition) = match special {
            "" | "*" => (MemberRole::Voter, Condition::CaughtUp),
            "l" => (MemberRole::Learner, Condition::CaughtUp),
            "c" => (MemberRole::Learner, Condition::Behind),
            "x" => (MemberRole::Voter, Condition::Damaged),
            other => panic!("{other} means nothing"),
        };
        if special == "*" {
            leader = Some(node);
        }
        let id = match role {
            MemberRole::Learner => ReplicaId(LogId::new(Term(1), Index(1))),
            _ => ReplicaId::FOUNDER,
        };
        Replica { node, id, role, condition }
    };
    let mut replicas: SmallVec<[Replica; 4]> = replicas.split_whitespace().map(replica).collect();
    replicas.sort_unstable_by_key(|replica| replica.node);
    let (preferred, bytes, is_changing) = (leader, 1 << 20, false);
    let configuration = LogId::default();
    GroupFacts {
        configuration,
        replicas,
        leader,
        preferred,
        bytes,
        is_changing,
        wanted: None,
        declined: SmallVec::new(),
    }
}

impl Cluster {
    /// The next steps, in words without the reasons.
    fn acts(&self) -> Vec<String> {
        let steps = self.steps().steps;
        steps.iter().map(|step| format!("{}: {}", step.group, step.act)).collect()
    }

    /// Carries out steps until there are none, each copy at once. Returns all of them in words.
    fn settle(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        loop {
            let steps = self.steps().steps;
            if steps.is_empty() {
                return words;
            }
            for step in steps {
                assert_eq!(self.check(&step), Ok(()));
                words.push(step.to_string());
                let mut facts = self.group(step.group).unwrap().clone();
                facts.foresee(&step.act);
                for replica in facts.replicas.iter_mut() {
                    if replica.condition == Condition::Behind {
                        replica.condition = Condition::CaughtUp;
                    }
                }
                facts.configuration.index = facts.configuration.index.next();
                self.set_group(step.group, facts);
            }
            assert!(words.len() < 10_000, "there is no end: {:?}", &words[9_900..]);
        }
    }

    fn set_state(&mut self, node: u64, state: NodeState) {
        let facts = self.node(NodeId(node)).unwrap().clone();
        self.set_node(NodeId(node), NodeFacts { state, ..facts });
    }

    /// A silent node is given up.
    fn lose(&mut self, node: u64) {
        self.silence(node);
        self.set_state(node, NodeState::Lost);
    }

    fn silence(&mut self, node: u64) {
        let heard = Heard::SilentSince(self.now);
        let facts = self.node(NodeId(node)).unwrap().clone();
        self.set_node(NodeId(node), NodeFacts { heard, ..facts });
    }

    fn set(&mut self, number: u64, replicas: &str) {
        self.set_group(GroupId(number), group(replicas));
    }

    fn voters(&self, number: u64) -> Vec<u64> {
        self.group(GroupId(number)).unwrap().voters().map(|node| node.0).collect()
    }
}

#[test]
fn a_group_gets_as_many_replicas_as_there_are_nodes_and_more_when_nodes_come() {
    let mut cluster = cluster("1 2");
    cluster.set(1, "1*");
    assert_eq!(cluster.acts(), ["1: add a learner on node 2"]);
    cluster.settle();
    assert_eq!(cluster.voters(1), [1, 2]);
    cluster.set_node(NodeId(3), NodeFacts::up(""));
    cluster.settle();
    assert_eq!(cluster.voters(1), [1, 2, 3]);
    cluster.set_node(NodeId(4), NodeFacts::up(""));
    assert_eq!(cluster.acts(), [""; 0]);
}

#[test]
fn a_learner_is_promoted_when_it_has_caught_up_in_one_change_with_the_demotion() {
    let mut cluster = cluster("1 2 3 4");
    cluster.lose(3);
    cluster.set(1, "1* 2 3 4c");
    assert_eq!(cluster.need(GroupId(1)), Some(Need::Copying));
    assert_eq!(cluster.acts(), [""; 0]);
    cluster.set(1, "1* 2 3 4l");
    assert_eq!(cluster.acts(), ["1: promote 4 and demote 3"]);
    assert_eq!(cluster.steps().steps[0].why.to_string(), "node 3 is lost");
}

#[test]
fn replicas_of_a_silent_node_are_replaced_when_it_counts_as_lost() {
    let mut cluster = cluster("1 2 3 4");
    cluster.set(1, "1* 2 3");
    cluster.silence(3);
    cluster.set_now(Duration::from_secs(299));
    assert_eq!((cluster.acts().len(), cluster.lost().count()), (0, 0));
    cluster.set_now(Duration::from_mins(5));
    assert_eq!(cluster.lost().collect::<Vec<_>>(), [NodeId(3)]);
    assert_eq!(cluster.acts(), ["1: add a learner on node 4"]);
    assert_eq!(cluster.need(GroupId(1)), Some(Need::CriticalCopy));
    cluster.settle();
    assert_eq!(cluster.voters(1), [1, 2, 4]);
    assert_eq!(cluster.group(GroupId(1)).unwrap().replicas.len(), 3);
}

#[test]
fn a_node_that_was_given_up_and_is_there_again_votes_until_it_is_replaced() {
    let mut cluster = cluster("1 2 3 4 5");
    cluster.lose(2);
    cluster.lose(3);
    cluster.set(1, "1* 2 3");
    assert_eq!(cluster.acts(), ["1: add a learner on node 4"]);
    cluster.set(1, "1* 2 3 4l");
    assert_eq!(cluster.acts(), [""; 0], "the group has no majority");
    let facts = cluster.node(NodeId(3)).unwrap().clone();
    cluster.set_node(NodeId(3), NodeFacts { heard: Heard::Now, ..facts });
    assert_eq!(cluster.lost().collect::<Vec<_>>(), [NodeId(2)]);
    assert_eq!(cluster.acts(), ["1: promote 4 and demote 2"]);
    cluster.settle();
    assert_eq!(cluster.voters(1), [1, 4, 5]);
    assert_eq!(cluster.emptied().collect::<Vec<_>>(), [NodeId(2), NodeId(3)]);
}

#[test]
fn nobody_is_lost_while_half_of_the_nodes_are_silent() {
    let mut cluster = cluster("1 2 3 4");
    cluster.silence(3);
    cluster.silence(4);
    cluster.set_now(Duration::from_hours(1));
    assert_eq!(cluster.lost().count(), 0);
    cluster.set_node(NodeId(4), NodeFacts::up(""));
    assert_eq!(cluster.lost().count(), 1);
}

#[test]
fn without_another_node_a_lost_voter_is_demoted_and_removed() {
    let mut cluster = cluster("1 2 3");
    cluster.set(1, "1* 2 3");
    cluster.lose(3);
    let words = cluster.settle();
    assert_eq!(
        words,
        [
            "group 1: demote 3: node 3 is lost",
            "group 1: remove the learner on node 3: node 3 is lost",
        ]
    );
    assert_eq!(cluster.emptied().collect::<Vec<_>>(), [NodeId(3)]);
    cluster.remove_node(NodeId(3));
    cluster.set_node(NodeId(4), NodeFacts::up(""));
    cluster.settle();
    assert_eq!(cluster.voters(1), [1, 2, 4]);
}

#[test]
fn a_damaged_replica_is_removed_and_joined_anew() {
    let mut cluster = cluster("1 2 3");
    cluster.set(1, "1* 2 3x");
    let words = cluster.settle();
    assert_eq!(
        words,
        [
            "group 1: demote 3: the replica on node 3 is damaged",
            "group 1: remove the learner on node 3: the replica on node 3 is damaged",
            "group 1: add a learner on node 3: the group has 2 sound replicas that stay, of 3",
            "group 1: promote 3: the new replica has caught up",
        ]
    );
}

#[test]
fn draining_moves_leaders_and_then_replicas_and_can_be_cancelled() {
    let mut cluster = cluster("1 2 3 4");
    cluster.set(1, "1* 2 3");
    cluster.set_state(1, NodeState::Draining);
    assert_eq!(cluster.acts(), ["1: transfer from node 1 to node 2"]);
    cluster.set(1, "1 2* 3");
    assert_eq!(cluster.acts(), ["1: add a learner on node 4"]);
    cluster.set(1, "1 2* 3 4c");
    assert_eq!(cluster.acts(), [""; 0]);
    cluster.set_state(1, NodeState::Up);
    cluster.set(1, "1 2* 3 4l");
    assert_eq!(cluster.acts(), ["1: remove the learner on node 4"]);
    cluster.set_state(1, NodeState::Draining);
    assert_eq!(cluster.acts(), ["1: promote 4 and demote 1"]);
}

#[test]
fn a_drained_node_keeps_replicas_that_nobody_can_take() {
    let mut cluster = cluster("1 2 3");
    cluster.set(1, "1* 2 3");
    cluster.set_state(1, NodeState::Draining);
    cluster.settle();
    assert_eq!(cluster.voters(1), [1, 2, 3]);
    assert_eq!(cluster.group(GroupId(1)).unwrap().leader, Some(NodeId(2)));
    assert_eq!(cluster.need(GroupId(1)), Some(Need::NoRoom));
    cluster.set_node(NodeId(4), NodeFacts::up(""));
    cluster.settle();
    assert_eq!(cluster.voters(1), [2, 3, 4]);
}

#[test]
fn several_nodes_leave_at_once() {
    let mut cluster = cluster("1 2 3 4 5");
    for number in 0..20 {
        let nodes = [0, 1, 2].map(|next| (number + next) % 5 + 1);
        cluster.set(number, &format!("{}* {} {}", nodes[0], nodes[1], nodes[2]));
    }
    assert!(cluster.check_leaving(&[NodeId(1), NodeId(2)]).is_ok());
    let error = cluster.check_leaving(&[NodeId(1), NodeId(2), NodeId(3)]).unwrap_err();
    assert_eq!(error.to_string(), "2 nodes would be left, and a group has 3 replicas");
    cluster.set_state(1, NodeState::Leaving);
    cluster.set_state(2, NodeState::Leaving);
    cluster.settle();
    assert_eq!(cluster.emptied().collect::<Vec<_>>(), [NodeId(1), NodeId(2)]);
    for number in 0..20 {
        assert_eq!(cluster.voters(number), [3, 4, 5], "{:?}", cluster.group(GroupId(number)));
    }
}

#[test]
fn a_group_does_not_shrink_when_a_node_is_lost_while_another_leaves() {
    let mut cluster = cluster("1 2 3 4");
    cluster.set(1, "1* 2 4");
    cluster.set_state(4, NodeState::Leaving);
    cluster.lose(3);
    cluster.settle();
    assert_eq!(cluster.voters(1), [1, 2, 4]);
}

#[test]
fn a_dead_surplus_voter_goes_before_a_live_one() {
    let mut cluster = cluster("1 2 3 4 5");
    cluster.lose(4);
    cluster.set_state(5, NodeState::Leaving);
    cluster.silence(3);
    cluster.set(1, "1* 2 3 4 5");
    assert_eq!(cluster.acts(), ["1: demote 4"]);
    let step = super::Step {
        group: GroupId(1),
        configuration: LogId::default(),
        act: super::Act::Voters { promote: SmallVec::new(), demote: [NodeId(2)].as_slice().into() },
        why: super::Why::Ready,
    };
    assert_eq!(cluster.check(&step), Err(StepRefusal::NoQuorum));
    cluster.set_node(NodeId(3), NodeFacts::up(""));
    assert_eq!(cluster.check(&step), Err(StepRefusal::DeadFirst(NodeId(2))));
}

#[test]
fn a_surplus_voter_goes_from_the_fullest_node() {
    let mut cluster = cluster("1 2 3 4");
    cluster.set(1, "1* 2 3 4");
    cluster.set(2, "1 3* 4");
    assert_eq!(cluster.acts()[0], "1: demote 3");
}

#[test]
fn replicas_are_spread_over_zones_as_far_as_there_are_zones() {
    let mut cluster = cluster("1a 2a 3a 4b 5c");
    cluster.set(1, "1* 2 3");
    let words = cluster.settle();
    assert!(words[0].ends_with("node 1 shares its zone with another one"), "{words:?}");
    let voters = cluster.voters(1);
    assert!(voters.contains(&4) && voters.contains(&5), "{voters:?}");
    let mut cluster = self::cluster("1a 2a 3b");
    cluster.set(1, "1* 2 3");
    assert_eq!(cluster.acts(), [""; 0]);
    cluster.set_node(NodeId(4), NodeFacts::up("b"));
    assert_eq!(cluster.acts(), [""; 0]);
}

#[test]
fn replicas_and_leaders_even_out_when_a_node_joins() {
    let mut cluster = cluster("1 2 3");
    for number in 0..300 {
        let nodes = [0, 1, 2].map(|next| (number + next) % 3 + 1);
        cluster.set(number, &format!("{}* {} {}", nodes[0], nodes[1], nodes[2]));
    }
    assert_eq!(cluster.acts(), [""; 0]);
    cluster.set_node(NodeId(4), NodeFacts::up(""));
    cluster.set_node(NodeId(5), NodeFacts::up(""));
    cluster.settle();
    let nodes = [1, 2, 3, 4, 5].map(NodeId);
    let replicas = nodes.map(|node| cluster.replicas_on(node));
    let leaders = nodes.map(|node| cluster.leaders_on(node));
    assert!(replicas.iter().all(|count| (178..=182).contains(count)), "{replicas:?}");
    assert!(leaders.iter().all(|count| (58..=62).contains(count)), "{leaders:?}");
}

#[test]
fn nothing_moves_for_a_difference_of_one() {
    let mut cluster = cluster("1 2 3 4");
    cluster.set(1, "1* 2 3");
    cluster.set(2, "1 2* 4");
    assert_eq!(cluster.acts(), [""; 0]);
}

#[test]
fn copies_are_paced_at_both_ends() {
    let settings = Settings { copy_bytes: 0, replicas: 2, ..Settings::default() };
    let mut cluster = cluster("1 2");
    cluster.set_settings(settings.clone());
    (0..10).for_each(|number| cluster.set(number, "1*"));
    let round = cluster.steps();
    assert_eq!((round.steps.len(), round.paced), (2, 8));
    round.steps.iter().for_each(|step| cluster.begin(step));
    assert_eq!(cluster.acts(), [""; 0]);
    // One more comes when one has arrived.
    cluster.set(round.steps[0].group.0, "1* 2l");
    assert_eq!(cluster.acts().len(), 2);
    cluster.set_settings(Settings { copy_bytes: 5 << 20, ..settings });
    assert_eq!(cluster.acts().len(), 1 + 4);
}

#[test]
fn small_groups_are_copied_many_at_a_time() {
    let mut cluster = cluster("1 2");
    (0..100).for_each(|number| cluster.set(number, "1*"));
    assert_eq!(cluster.acts().len(), 64);
}

#[test]
fn a_full_node_takes_nothing_and_keeps_what_it_has() {
    let mut cluster = cluster("1 2 3 4");
    let space = Some(Space { used_bytes: 91, capacity_bytes: 100 });
    cluster.set_node(NodeId(4), NodeFacts { space, ..NodeFacts::up("") });
    cluster.set(1, "1* 2 4");
    assert_eq!(cluster.acts(), [""; 0]);
    cluster.lose(3);
    cluster.set(2, "1* 2 3");
    assert_eq!(cluster.acts(), ["2: demote 3"]);
}

#[test]
fn nothing_is_asked_of_a_group_without_a_leader_or_under_change() {
    let mut cluster = cluster("1 2 3 4");
    cluster.set(1, "1 2 3");
    cluster.lose(3);
    assert_eq!(cluster.need(GroupId(1)), Some(Need::Leaderless));
    cluster.set_group(GroupId(1), GroupFacts { is_changing: true, ..group("1* 2 3") });
    assert_eq!(cluster.need(GroupId(1)), Some(Need::Changing));
    assert_eq!(cluster.acts(), [""; 0]);
}

#[test]
fn facts_of_an_earlier_configuration_are_ignored() {
    let mut cluster = cluster("1 2 3");
    let configuration = LogId::new(Term(2), Index(7));
    assert!(cluster.set_group(GroupId(1), GroupFacts { configuration, ..group("1* 2 3") }));
    assert!(!cluster.set_group(GroupId(1), group("1* 2")));
    assert_eq!(cluster.voters(1), [1, 2, 3]);
}

#[test]
fn a_step_for_another_configuration_is_refused() {
    let mut cluster = cluster("1 2 3 4");
    cluster.set(1, "1* 2");
    let step = cluster.steps().steps.remove(0);
    cluster.begin(&step);
    assert_eq!(cluster.check(&step), Err(StepRefusal::Changing));
    let configuration = LogId::new(Term(1), Index(7));
    cluster.set_group(GroupId(1), GroupFacts { configuration, ..group("1* 2 3c") });
    assert_eq!(cluster.check(&step), Err(StepRefusal::Stale));
}

#[test]
fn a_leader_hands_over_before_it_is_demoted() {
    let mut cluster = cluster("1 2 3 4");
    cluster.set_settings(Settings { replicas: 1, ..Settings::default() });
    cluster.set_state(1, NodeState::Leaving);
    cluster.set(1, "1*");
    let words = cluster.settle();
    let acts: Vec<_> = words.iter().map(|it| it.split(": ").nth(1).unwrap()).collect();
    assert_eq!(
        acts,
        [
            "add a learner on node 2",
            "promote 2",
            "transfer from node 1 to node 2",
            "demote 1",
            "remove the learner on node 1",
        ]
    );
}

#[test]
fn a_leader_hands_over_only_if_it_may_go_then() {
    // Node 1 is silent, and may be back. Until that is known no live voter may go, and node 3 is as
    // good a leader as node 2.
    let mut cluster = cluster("1 2 3 4 5");
    cluster.set(1, "1 2 3* 4");
    cluster.set_state(4, NodeState::Leaving);
    cluster.silence(1);
    for _ in 0..2 {
        assert_eq!(cluster.acts(), [""; 0]);
        cluster.set(1, "1 2* 3 4");
    }
    // It is, so node 4 goes.
    cluster.set_node(NodeId(1), NodeFacts::up(""));
    assert_eq!(cluster.acts(), ["1: demote 4"]);
    // A leader whose node is to be emptied hands over at once, to one that keeps it.
    cluster.silence(1);
    cluster.set(1, "1 2 3 4*");
    assert_eq!(cluster.acts(), ["1: transfer from node 4 to node 2"]);
}

#[test]
fn nodes_without_which_a_group_has_no_majority_are_not_given_up() {
    for (replicas, expected) in [("1* 4 5", vec![]), ("1* 2 5", vec![4, 5])] {
        let mut cluster = cluster("1a 2a 3a 4a 5a");
        cluster.set_group(GroupId(1), group(replicas));
        cluster.set_group(GroupId(2), group("1* 2 4"));
        for node in [4, 5].map(NodeId) {
            let heard = Heard::SilentSince(Duration::ZERO);
            cluster.set_node(node, NodeFacts { heard, ..NodeFacts::up("") });
        }
        cluster.set_now(Duration::from_secs(3_600));
        let lost: Vec<_> = cluster.lost().map(|node| node.0).collect();
        assert_eq!(lost, expected, "{replicas}");
        // A person may say so all the same.
        cluster.set_state(5, NodeState::Lost);
        assert!(cluster.lost().any(|node| node == NodeId(5)));
    }
}
