//! Tests of the table.

use super::*;
use crate::plan::Plan;
use logboat::{ClusterId, Index, LogId, Term};
use proptest::prelude::*;

fn card(port: u16) -> NodeCard {
    NodeCard { peers: format!("10.0.0.1:{port}"), ..NodeCard::default() }
}

fn founded(nodes: u64) -> Table {
    let plan = Plan {
        layout: "hash".to_owned(),
        groups: Some(8),
        keeps_layout: false,
        edge_bits: 16,
        split_keys: None,
        replicas: 3,
    };
    let nodes = (1..=nodes).map(|node| (NodeId(node), format!("10.0.0.{node}:1")));
    let mut table = Table::default();
    let foundation =
        Change::Found(Foundation::new(ClusterId(7), &plan, &ClusterSettings::default(), nodes));
    assert!(is_done(&mut table, foundation));
    table
}

fn make(table: &mut Table, change: Change) -> Outcome {
    table.apply(&Command::new(change, "a test"))
}

fn is_done(table: &mut Table, change: Change) -> bool {
    matches!(make(table, change), Outcome::Done { .. })
}

fn set(table: &Table, node: u64, state: NodeState) -> Change {
    let node = NodeId(node);
    Change::SetState { node, based_on: table.node(node).map_or(0, |it| it.changed), state }
}

fn members(index: u64, voters: &[u64]) -> Members {
    Members {
        entry: LogId::new(Term(1), Index(index)),
        ..Members::founders(voters.iter().copied().map(NodeId).collect())
    }
}

#[test]
fn the_meta_group_has_three_to_five_founders() {
    for (nodes, expected) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (9, 5)] {
        assert_eq!(founded(nodes).meta().unwrap().voters.len(), expected, "{nodes} nodes");
    }
}

#[test]
fn an_incarnation_gets_one_id_and_an_id_is_given_once() {
    let mut table = founded(3);
    let join = |incarnation| Change::Join { incarnation, card: card(7) };
    assert_eq!(make(&mut table, join(77)), Outcome::Done { version: 2, node: Some(4) });
    assert_eq!(make(&mut table, join(77)), Outcome::Unchanged { version: 2, node: Some(4) });
    assert_eq!(make(&mut table, join(78)), Outcome::Done { version: 3, node: Some(5) });
    let lost = set(&table, 5, NodeState::Lost);
    assert!(is_done(&mut table, lost));
    let forget = |node, based_on| Change::Forget { node: NodeId(node), based_on };
    let changed = table.node(NodeId(5)).unwrap().changed;
    assert!(is_done(&mut table, forget(5, changed)));
    assert!(table.has_left(NodeId(5)) && !table.has_left(NodeId(6)));
    assert!(!table.was_decommissioned(NodeId(5)));
    assert_eq!(table.incarnation(NodeId(5)), Some(78), "that of one that has left stays known");
    assert_eq!((table.incarnation(NodeId(1)), table.incarnation(NodeId(9))), (None, None));
    assert_eq!(make(&mut table, join(79)), Outcome::Done { version: 6, node: Some(6) });
    for change in [set(&table, 6, NodeState::Leaving), forget(6, 7)] {
        assert!(is_done(&mut table, change));
    }
    assert!(table.was_decommissioned(NodeId(6)));
}

#[test]
fn a_node_that_is_lost_while_it_leaves_was_decommissioned() {
    let mut table = founded(5);
    for state in [NodeState::Leaving, NodeState::Up, NodeState::Lost] {
        let change = set(&table, 4, state);
        assert!(is_done(&mut table, change));
        assert_eq!(table.was_decommissioned(NodeId(4)), state == NodeState::Leaving, "{state}");
    }
    for state in [NodeState::Leaving, NodeState::Lost] {
        let change = set(&table, 5, state);
        assert!(is_done(&mut table, change));
        assert!(table.was_decommissioned(NodeId(5)), "{state}");
    }
}

#[test]
fn the_table_keeps_that_a_node_has_resigned() {
    let mut table = founded(3);
    for incarnation in [44, 55] {
        assert!(is_done(&mut table, Change::Join { incarnation, card: card(4) }));
    }
    let changed = |table: &Table, node| table.node(node).unwrap().changed;
    let resign = |node, based_on| Change::Resign { node, based_on };
    let lost = set(&table, 4, NodeState::Lost);
    assert!(is_done(&mut table, lost));
    let based_on = changed(&table, NodeId(4));
    assert!(!is_done(&mut table, resign(NodeId(4), based_on)), "it was lost before");
    assert!(!table.has_resigned(NodeId(4)));
    let based_on = changed(&table, NodeId(5));
    assert!(is_done(&mut table, resign(NodeId(5), based_on)));
    assert_eq!(table.node(NodeId(5)).unwrap().state, NodeState::Lost);
    let based_on = changed(&table, NodeId(5));
    assert!(is_done(&mut table, Change::Forget { node: NodeId(5), based_on }));
    assert!(table.has_resigned(NodeId(5)));
}

#[test]
fn a_node_is_announced_by_its_own_directory_alone() {
    let mut table = founded(3);
    let announce = |node, incarnation, port| Change::Announce {
        node: NodeId(node),
        incarnation,
        card: card(port),
    };
    assert!(is_done(&mut table, announce(1, 11, 1)), "a founder is recorded at first");
    assert!(matches!(make(&mut table, announce(1, 12, 1)), Outcome::Refused(_)));
    assert!(is_done(&mut table, announce(1, 11, 2)), "it has moved");
    assert!(matches!(make(&mut table, announce(1, 11, 2)), Outcome::Unchanged { .. }));
    assert!(matches!(make(&mut table, announce(9, 11, 2)), Outcome::Refused(_)));
    make(&mut table, Change::Join { incarnation: 44, card: card(4) });
    assert_eq!(table.node(NodeId(4)).unwrap().state, NodeState::Joining);
    assert!(is_done(&mut table, announce(4, 44, 4)));
    assert_eq!(table.node(NodeId(4)).unwrap().state, NodeState::Up);
    let lost = set(&table, 4, NodeState::Lost);
    assert!(is_done(&mut table, lost));
    assert!(matches!(make(&mut table, announce(4, 44, 4)), Outcome::Refused(_)));
}

#[test]
fn a_change_that_is_based_on_something_else_is_a_conflict() {
    let mut table = founded(3);
    let (drain, leave) = (set(&table, 2, NodeState::Draining), set(&table, 2, NodeState::Leaving));
    assert!(is_done(&mut table, drain.clone()));
    assert_eq!(make(&mut table, leave), Outcome::Conflict);
    assert!(matches!(make(&mut table, drain), Outcome::Unchanged { .. }));
    let lost = set(&table, 2, NodeState::Lost);
    assert!(is_done(&mut table, lost));
    let up = set(&table, 2, NodeState::Up);
    assert!(matches!(make(&mut table, up), Outcome::Refused(_)), "the lost stay lost");
}

#[test]
fn the_members_of_the_later_entry_count() {
    let mut table = founded(3);
    let group = GroupId(2);
    let of = |group: GroupId, index, voters: &[u64]| Change::Members {
        groups: vec![(group.0, members(index, voters))],
    };
    let with = |index, voters: &[u64]| of(group, index, voters);
    assert!(is_done(&mut table, with(9, &[1, 2, 4])));
    assert!(matches!(make(&mut table, with(9, &[1, 2])), Outcome::Unchanged { .. }));
    assert!(matches!(make(&mut table, with(8, &[1, 2])), Outcome::Unchanged { .. }));
    assert!(matches!(make(&mut table, with(10, &[])), Outcome::Refused(_)));
    assert_eq!(table.members(group).unwrap().voters, [1, 2, 4].map(NodeId));
    assert_eq!(table.map().unwrap().ranges()[1].replicas, [1, 2, 4].map(NodeId));
    let meta = of(META_GROUP, 3, &[2, 3, 4]);
    assert!(is_done(&mut table, meta));
    assert_eq!(table.meta().unwrap().voters, [2, 3, 4].map(NodeId));
    let leave = set(&table, 2, NodeState::Leaving);
    assert!(is_done(&mut table, leave));
    let forget =
        Change::Forget { node: NodeId(2), based_on: table.node(NodeId(2)).unwrap().changed };
    assert!(matches!(make(&mut table, forget), Outcome::Refused(_)), "it holds replicas");
}

#[test]
fn a_change_of_a_group_copies_little_of_a_table_that_others_look_at() {
    let plan = Plan {
        layout: "hash".to_owned(),
        groups: Some(2_000),
        keeps_layout: false,
        edge_bits: 16,
        split_keys: None,
        replicas: 3,
    };
    let nodes = (1..=3).map(|node| (NodeId(node), String::new()));
    let mut table = Table::default();
    make(
        &mut table,
        Change::Found(Foundation::new(ClusterId(7), &plan, &ClusterSettings::default(), nodes)),
    );
    let before = table.clone();
    let groups = vec![(700, members(4, &[1, 2, 4])), (701, members(4, &[1, 2, 4]))];
    assert!(is_done(&mut table, Change::Members { groups }));
    let changed = table.ranges().changed_since(before.ranges());
    assert_eq!(changed.map(|range| range.group.0).collect::<Vec<_>>(), [700, 701]);
    let shared = table.ranges().shared_pieces(before.ranges());
    assert_eq!(shared, 2_000 / 256, "all pieces but one");
    assert!(Arc::ptr_eq(&table.nodes, &before.nodes));
    let again = vec![(700, members(4, &[1, 2, 4])), (702, members(3, &[1, 2, 4]))];
    assert!(is_done(&mut table, Change::Members { groups: again.clone() }));
    assert!(matches!(
        make(&mut table, Change::Members { groups: again }),
        Outcome::Unchanged { .. }
    ));
    assert_eq!(table.ranges().iter().map(|range| range.group.0).max(), Some(2_000));
}

#[test]
fn settings_that_somebody_else_has_changed_are_a_conflict() {
    let mut table = founded(3);
    let set = |based_on, move_mib_per_s| Change::SetSettings {
        based_on,
        settings: ClusterSettings { move_mib_per_s, ..ClusterSettings::default() },
    };
    let seen = table.settings_changed();
    assert!(is_done(&mut table, set(seen, 7)));
    assert_eq!(table.settings().move_mib_per_s, 7);
    assert_eq!(make(&mut table, set(seen, 8)), Outcome::Conflict);
    assert!(matches!(make(&mut table, set(seen, 7)), Outcome::Unchanged { .. }));
    let seen = table.settings_changed();
    assert!(is_done(&mut table, set(seen, 8)));
    assert!(table.history().any(|entry| entry.what.contains("8 MiB/s")));
}

#[test]
fn a_move_that_makes_no_sense_is_refused_with_the_reason() {
    let mut table = founded(4);
    make(&mut table, Change::Join { incarnation: 5, card: card(5) });
    let group = table.ranges()[0].group;
    let members = table.members(group).unwrap().clone();
    assert!(!members.contains(NodeId(4)));
    let want = |group, from, to| Change::WantMove { group, from: NodeId(from), to: NodeId(to) };
    for (change, reason) in [
        (want(group, 1, 9), "no node 9"),
        (want(GroupId(99), 1, 4), "no group 99"),
        (want(group, 4, 4), "node 4 holds no voter"),
        (want(group, 1, 2), "node 2 holds a replica"),
        (want(group, 1, 5), "node 5 is joining"),
    ] {
        match make(&mut table, change) {
            Outcome::Refused(text) => assert!(text.contains(reason), "{text}"),
            outcome => panic!("{reason}: {outcome:?}"),
        }
    }
    assert!(is_done(&mut table, want(group, 1, 4)));
    assert!(matches!(make(&mut table, want(group, 1, 4)), Outcome::Unchanged { .. }));
    assert!(matches!(make(&mut table, want(group, 2, 4)), Outcome::Refused(_)));
    assert!(is_done(&mut table, Change::EndMove { group }));
    assert!(table.wanted_moves().next().is_none());
}

#[test]
fn the_history_is_bounded() {
    let mut table = founded(3);
    for number in 0..HISTORY + 5 {
        assert!(is_done(
            &mut table,
            Change::Notes(vec![Note::new(number.to_string(), "a test".to_owned())])
        ));
    }
    assert_eq!(table.history().count(), HISTORY);
    assert_eq!(table.history().next_back().unwrap().what, (HISTORY + 4).to_string());
}

#[test]
fn who_follows_has_the_same_table() {
    let (leader, follower) = (Feed::new(), Feed::new());
    let mut table = founded(3);
    leader.publish(Arc::new(table.clone()), Vec::new());
    let follow = || {
        let since = follower.newest().version();
        let news = leader.since(since);
        let is_whole = matches!(news, News::Whole(_));
        let text = serde_json::to_vec(&news).unwrap();
        follower.take(since, serde_json::from_slice(&text).unwrap());
        assert_eq!(follower.newest(), leader.newest());
        is_whole
    };
    assert!(follow(), "there is nothing to go on from");
    for incarnation in 1..=3_000 {
        let command = Command::new(Change::Join { incarnation, card: card(1) }, "");
        table.apply(&command);
        leader.publish(Arc::new(table.clone()), vec![Arc::new(command)]);
        if incarnation % 100 == 0 {
            assert!(!follow(), "the changes are enough");
        }
    }
    assert!(!follow());
    let late = Feed::new();
    late.publish(Arc::new(founded(3)), Vec::new());
    assert!(matches!(leader.since(1), News::Whole(_)), "too much has happened since");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_table_and_no_command(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert!(Table::read(&bytes).is_err());
        prop_assert!(Command::decode(&bytes).is_none());
    }

    #[test]
    fn a_table_survives_its_encoding(nodes in 1_u64..9, joins in 0_u64..4) {
        let mut table = founded(nodes);
        for incarnation in 1..=joins {
            make(&mut table, Change::Join { incarnation, card: card(2) });
        }
        let mut bytes = Vec::new();
        table.write(&mut bytes).unwrap();
        prop_assert_eq!(Table::read(&bytes).unwrap(), table);
        prop_assert!(Table::read(&bytes[..bytes.len() / 2]).is_err());
    }
}
