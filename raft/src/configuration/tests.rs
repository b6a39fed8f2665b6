use super::{
    Change, ChangeRefusal, Configuration, InvalidConfiguration, MAX_MEMBERS, Member, MemberRole,
};
use crate::{Index, LogId, NodeId, ReplicaAddress, ReplicaId, Term, VotersDigest};
use alloc::string::ToString;
use alloc::vec::Vec;
use proptest::prelude::*;

fn at(index: u64) -> LogId {
    LogId::new(Term(2), Index(index))
}

fn nodes(nodes: &[u64]) -> Vec<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

/// A configuration with these voters and learners.
fn plain(voters: &[u64], learners: &[u64]) -> Configuration {
    let founding = Configuration::founding(&nodes(voters), Some(NodeId(voters[0])));
    let add: Vec<_> = learners.iter().map(|&node| Change::AddLearner(NodeId(node))).collect();
    if add.is_empty() { founding } else { founding.change(at(4), &add).unwrap() }
}

/// `+4` adds a learner, `^4` promotes, `v4` demotes, `-4` removes, `*4` prefers.
fn changes(text: &str) -> Vec<Change> {
    let change = |word: &str| {
        let node = NodeId(word[1..].parse().unwrap());
        match &word[..1] {
            "+" => Change::AddLearner(node),
            "^" => Change::Promote(node),
            "v" => Change::Demote(node),
            "-" => Change::Remove(node),
            _ => Change::Prefer(node),
        }
    };
    text.split_whitespace().map(change).collect()
}

#[test]
fn each_change_leads_to_the_next_configuration() {
    type Row = (&'static [u64], &'static [u64], &'static str, &'static str, &'static str);
    let table: [Row; 12] = [
        (&[1], &[], "+2", "voters 1, learners 2", ""),
        (&[1], &[], "+2 +3", "voters 1, learners 2 3", ""),
        (&[1], &[2], "^2", "voters 1 2, outgoing 1", "voters 1 2"),
        (&[1], &[2], "-2", "voters 1", ""),
        (&[1], &[2], "-2 +3", "voters 1, learners 3", ""),
        (&[1, 2], &[], "v2", "voters 1, outgoing 1 2", "voters 1, learners 2"),
        (&[1], &[2], "^2 v1", "voters 2, outgoing 1", "voters 2, learners 1"),
        (&[1], &[2], "v1 ^2", "voters 2, outgoing 1", "voters 2, learners 1"),
        (&[1, 2, 3], &[4], "^4 v2", "voters 1 3 4, outgoing 1 2 3", "voters 1 3 4, learners 2"),
        (
            &[1, 2, 3],
            &[4, 5, 6],
            "^4 ^5 ^6 v1 v2 v3",
            "voters 4 5 6, outgoing 1 2 3",
            "voters 4 5 6, learners 1 2 3",
        ),
        (
            &[1, 2, 3],
            &[4, 5],
            "^4 v2 -5 +6",
            "voters 1 3 4, outgoing 1 2 3, learners 6",
            "voters 1 3 4, learners 2 6",
        ),
        (&[1, 2, 3], &[], "*2", "voters 1 2 3", ""),
    ];
    for (voters, learners, text, next, left) in table {
        let before = plain(voters, learners);
        let after = before.change(at(9), &changes(text)).unwrap();
        assert_eq!(after.to_string(), next, "{before}: {text}");
        assert_eq!(after.is_joint(), !left.is_empty(), "{before}: {text}");
        assert_eq!((after.id(), after.founders()), (at(9), before.founders()));
        if after.is_joint() {
            let after = after.leave(at(10));
            assert_eq!(after.to_string(), left, "{before}: {text}");
            assert!(!after.is_joint());
        }
    }
}

#[test]
fn what_contradicts_the_configuration_is_refused() {
    let node = NodeId(4);
    let table: [(&[u64], &[u64], &str, ChangeRefusal); 20] = [
        (&[1], &[], "", ChangeRefusal::Nothing),
        (&[1, 4], &[], "+4", ChangeRefusal::AlreadyMember { node }),
        (&[1], &[4], "+4", ChangeRefusal::AlreadyMember { node }),
        (&[1], &[], "^4", ChangeRefusal::NotMember { node }),
        (&[1], &[], "v4", ChangeRefusal::NotMember { node }),
        (&[1], &[], "-4", ChangeRefusal::NotMember { node }),
        (&[1, 4], &[], "^4", ChangeRefusal::NotLearner { node }),
        (&[1], &[4], "v4", ChangeRefusal::NotVoter { node }),
        (&[1, 4], &[], "-4", ChangeRefusal::VoterNotDemoted { node }),
        (&[4], &[], "-4", ChangeRefusal::VoterNotDemoted { node }),
        (&[1], &[], "v1", ChangeRefusal::NoVoterLeft),
        (&[1, 2], &[3], "v1 v2 -3", ChangeRefusal::NoVoterLeft),
        (&[1], &[4], "*4", ChangeRefusal::NotVoter { node }),
        (&[1], &[], "*4", ChangeRefusal::NotVoter { node }),
        (&[1, 4], &[], "v4 *4", ChangeRefusal::NotVoter { node }),
        // One replica a node, and one step for each change of it.
        (&[1], &[], "+4 +4", ChangeRefusal::NamedTwice { node }),
        (&[1], &[], "+4 ^4", ChangeRefusal::NamedTwice { node }),
        (&[1], &[4], "-4 +4", ChangeRefusal::NamedTwice { node }),
        (&[1, 4], &[], "v4 -4", ChangeRefusal::NamedTwice { node }),
        (&[1, 4], &[], "*1 *4", ChangeRefusal::NamedTwice { node }),
    ];
    for (voters, learners, text, expected) in table {
        let before = plain(voters, learners);
        assert_eq!(before.change(at(9), &changes(text)), Err(expected), "{before}: {text}");
    }
}

#[test]
fn a_joint_configuration_is_left_before_it_is_changed() {
    let joint = plain(&[1, 2], &[3]).change(at(9), &changes("^3")).unwrap();
    for text in ["+4", "v1", "-3", "*2", ""] {
        let refused = joint.change(at(10), &changes(text));
        assert_eq!(refused, Err(ChangeRefusal::InProgress { id: at(9) }));
    }
}

#[test]
fn a_group_is_bounded() {
    let all: Vec<_> = (1..=MAX_MEMBERS as u64).collect();
    let full = plain(&all, &[]);
    assert_eq!(full.change(at(9), &changes("+99")), Err(ChangeRefusal::TooManyMembers));
    let swapped = plain(&all[1..], &[99]).change(at(9), &changes("-99 +98"));
    assert_eq!(swapped.map(|after| after.members().len()), Ok(MAX_MEMBERS));
}

#[test]
fn a_replica_is_known_by_the_entry_that_added_it() {
    let id = |configuration: &Configuration, node| {
        configuration.member(NodeId(node)).map(|member| member.replica)
    };
    let first = plain(&[1], &[2]);
    assert_eq!(id(&first, 1), Some(ReplicaId::FOUNDER));
    assert_eq!(id(&first, 2), Some(ReplicaId(at(4))));
    let joint = first.change(at(5), &changes("^2")).unwrap();
    assert_eq!(id(&joint.leave(at(6)), 2), Some(ReplicaId(at(4))));
    let gone = first.change(at(7), &changes("-2")).unwrap();
    let back = gone.change(at(8), &changes("+2")).unwrap();
    assert_eq!(id(&back, 2), Some(ReplicaId(at(8))));
    let of = |term, index| ReplicaId(LogId::new(Term(term), Index(index)));
    assert!(ReplicaId::FOUNDER < of(1, 1) && of(1, 10) < of(2, 8));
}

#[test]
fn a_configuration_says_which_replicas_are_gone() {
    let founded = plain(&[1, 2], &[]);
    let added = founded.change(at(5), &changes("+3")).unwrap();
    let removed = added.change(at(8), &changes("-3")).unwrap();
    let again = removed.change(at(9), &changes("+3")).unwrap();
    let entry = |term, index| ReplicaId(LogId::new(Term(term), Index(index)));
    let (founder, first, second) = (ReplicaId::FOUNDER, ReplicaId(at(5)), ReplicaId(at(9)));
    for (configuration, node, replica, floor) in [
        // Members, and those that may be added yet.
        (&founded, 1, founder, None),
        (&founded, 3, founder, None),
        (&founded, 3, first, None),
        (&added, 3, first, None),
        (&removed, 3, second, None),
        (&again, 3, second, None),
        // One that was removed, or added by an entry that was truncated.
        (&removed, 3, first, Some(entry(2, 9))),
        (&again, 3, first, Some(second)),
        (&added, 4, first, Some(first.next())),
        (&added, 3, entry(2, 4), Some(first)),
        (&added, 3, founder, Some(first)),
        (&added, 4, founder, Some(first.next())),
        (&added, 1, entry(2, 4), Some(entry(2, 5))),
    ] {
        let address = ReplicaAddress::new(NodeId(node), replica);
        let found = configuration.floor_without(address);
        assert_eq!(found, floor, "{address} by {configuration}");
        assert!(found.is_none_or(|floor| floor > replica), "it is later than who is gone");
    }
}

#[test]
fn the_preferred_replica_is_a_voter() {
    let preferred = |text| {
        let after = plain(&[1, 2], &[3]).change(at(9), &changes(text)).unwrap();
        after.preferred().map(|node| node.0)
    };
    assert_eq!(preferred("-3"), Some(1));
    assert_eq!(preferred("*2"), Some(2));
    assert_eq!(preferred("^3 *3"), Some(3));
    assert_eq!(preferred("v1"), None);
    assert_eq!(preferred("v1 *2"), Some(2));
}

#[test]
fn what_is_no_configuration_is_refused() {
    let voter = |node, replica| Member { node: NodeId(node), replica, role: MemberRole::Voter };
    let of = |role, node| Member { role, ..voter(node, ReplicaId::FOUNDER) };
    let assemble = |preferred: Option<u64>, members: &[Member]| {
        let (founders, preferred) = (VotersDigest(7), preferred.map(NodeId));
        let made = Configuration::assemble(at(4), founders, preferred, members.to_vec());
        Configuration::decode(&made.encode()).map(|read| assert_eq!(read, made))
    };
    let (one, two) = (of(MemberRole::Voter, 1), of(MemberRole::Voter, 2));
    let many: Vec<_> = (0..=MAX_MEMBERS as u64).map(|node| of(MemberRole::Voter, node)).collect();
    let table = [
        (assemble(Some(1), &[one, two]), Ok(())),
        (assemble(None, &[]), Err(InvalidConfiguration::NoVoter)),
        (assemble(None, &[of(MemberRole::Learner, 1)]), Err(InvalidConfiguration::NoVoter)),
        (assemble(None, &[of(MemberRole::Incoming, 1)]), Err(InvalidConfiguration::NoVoter)),
        (assemble(None, &[of(MemberRole::Outgoing, 1)]), Err(InvalidConfiguration::NoVoter)),
        (assemble(None, &[two, one]), Err(InvalidConfiguration::Members)),
        (assemble(None, &[one, one]), Err(InvalidConfiguration::Members)),
        (assemble(None, &many), Err(InvalidConfiguration::Members)),
        (assemble(Some(3), &[one, two]), Err(InvalidConfiguration::Preferred)),
        (assemble(None, &[voter(1, ReplicaId(at(4)))]), Ok(())),
        (assemble(None, &[voter(1, ReplicaId(at(5)))]), Err(InvalidConfiguration::Replica)),
    ];
    for (at, (found, expected)) in table.into_iter().enumerate() {
        assert_eq!(found, expected, "row {at}");
    }
}

#[test]
fn damaged_encodings_are_refused() {
    let bytes = plain(&[1, 2, 300], &[4]).encode();
    assert_eq!(bytes.len(), 27);
    for end in 0..bytes.len() {
        let cut = Configuration::decode(&bytes[..end]);
        assert_eq!(cut, Err(InvalidConfiguration::Malformed), "cut at {end}");
    }
    let decode = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.to_vec();
        change(&mut bytes);
        Configuration::decode(&bytes)
    };
    assert_eq!(decode(&|bytes| bytes.push(0)), Err(InvalidConfiguration::Malformed));
    assert_eq!(decode(&|bytes| bytes[0] = 2), Err(InvalidConfiguration::Version(2)));
    assert_eq!(decode(&|bytes| bytes[7] = 2), Err(InvalidConfiguration::Malformed), "flags");
    assert_eq!(decode(&|bytes| bytes[11] = 4), Err(InvalidConfiguration::Malformed), "role");
    let absurd = |bytes: &mut Vec<u8>| {
        bytes.truncate(9);
        logboat_varint::put(bytes, u64::MAX);
    };
    assert_eq!(decode(&absurd), Err(InvalidConfiguration::Malformed), "count");
}

#[test]
#[should_panic(expected = "a half has no voter")]
fn nobody_founds_nothing() {
    let _ = Configuration::founding(&[], None);
}

proptest! {
    /// Whatever is asked for: what is accepted is a configuration, reads as it was written, and
    /// shares a voter with the one before in any two of their majorities.
    #[test]
    fn changes_keep_to_the_rules(
        steps in prop::collection::vec(prop::collection::vec((0u8..5, 1u64..6), 0..4), 0..12),
    ) {
        let mut configuration = plain(&[1, 2, 3], &[]);
        for (index, step) in steps.iter().enumerate() {
            let id = at(10 + index as u64);
            let change = |&(kind, node): &(u8, u64)| match kind {
                0 => Change::AddLearner(NodeId(node)),
                1 => Change::Promote(NodeId(node)),
                2 => Change::Demote(NodeId(node)),
                3 => Change::Remove(NodeId(node)),
                _ => Change::Prefer(NodeId(node)),
            };
            let changes: Vec<_> = step.iter().map(change).collect();
            let next = if configuration.is_joint() {
                configuration.leave(id)
            } else {
                configuration.change(id, &changes).unwrap_or_else(|_| configuration.clone())
            };
            prop_assert_eq!(Configuration::decode(&next.encode()), Ok(next.clone()));
            for set in 0u64..64 {
                let is_in = |node: NodeId| set >> node.0 & 1 == 1;
                let apart = configuration.is_quorum(is_in) && next.is_quorum(|node| !is_in(node));
                prop_assert!(!apart, "{} and {}", configuration, next);
            }
            let went = configuration.members().iter().filter(|member| {
                next.member(member.node).is_none() && member.role.is_voter()
            });
            prop_assert_eq!(went.count(), 0, "a voter left at once");
            configuration = next;
        }
    }
}

#[test]
fn a_group_that_starts_over_has_one_voter_and_keeps_who_is_which_replica() {
    let at = |index| LogId::new(Term(2), Index(index));
    let [one, two, three, four] = [1, 2, 3, 4].map(NodeId);
    let founding = Configuration::founding(&[one, two, three], Some(three));
    let joined = founding.change(at(5), &[Change::AddLearner(four)]).unwrap();
    let joint = joined.change(at(9), &[Change::Promote(four), Change::Demote(one)]).unwrap();
    let id = LogId::new(Term(1 << 20), Index(12));
    let over = joint.start_over(id, four, &[one, NodeId(7)]).unwrap();
    assert_eq!((over.to_string().as_str(), over.id()), ("voters 4, learners 1", id));
    assert!(!over.is_joint() && over.is_quorum(|node| node == four));
    assert_eq!((over.preferred(), over.founders()), (Some(four), founding.founders()));
    assert_eq!(over.member(four).unwrap().replica, ReplicaId(at(5)));
    assert_eq!(over.member(one).unwrap().replica, ReplicaId::FOUNDER);
    assert_eq!(Configuration::decode(&over.encode()).unwrap(), over);
    assert!(joint.start_over(id, NodeId(7), &[]).is_none());
}
