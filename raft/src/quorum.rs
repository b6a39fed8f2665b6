//! Quorums: the arithmetic of majorities, as pure functions over what each voter has reached. While
//! a configuration is joint, a majority of each of its halves is needed (Raft thesis, section 4.3).

use crate::configuration::{Half, MemberRole};

/// How many of `voters` make a majority.
pub(crate) const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The largest value that a majority has reached, given one value for each voter.
///
/// With match indexes this is the commit rule of the Raft paper (section 5.3: the largest N with a
/// majority of matchIndex ≥ N). With rounds it is the newest round that a majority confirmed. With
/// times it is the moment until which a majority holds. The algorithm is quadratic. For the few
/// voters of a group that is faster than a sorted copy, and it allocates nothing.
///
/// # Panics
/// When there are no voters.
pub(crate) fn reached<T: Ord + Copy>(values: impl Iterator<Item = T> + Clone) -> T {
    let needed = majority(values.clone().count());
    values
        .clone()
        .filter(|&value| values.clone().filter(|&other| other >= value).count() >= needed)
        .max()
        .expect("the smallest value is reached by all voters, of which there is at least one")
}

/// The largest value that a majority of each half has reached, given the role and the value of each
/// member. Learners don't count.
///
/// # Panics
/// When a half has no voters.
pub(crate) fn jointly_reached<T: Ord + Copy>(
    values: impl Iterator<Item = (MemberRole, T)> + Clone,
    is_joint: bool,
) -> T {
    let half = |half: Half| {
        let voters = values.clone().filter(move |(role, _)| role.votes_in(half));
        reached(voters.map(|(_, value)| value))
    };
    let incoming = half(Half::Incoming);
    if is_joint { incoming.min(half(Half::Outgoing)) } else { incoming }
}

/// The state of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A majority granted.
    Won,
    /// So many refused that a majority can't grant any more.
    Lost,
    /// Too few answered to tell.
    Open,
}

/// The state of an election among `voters` after so many votes were granted and refused.
pub(crate) const fn tally(voters: usize, granted: usize, refused: usize) -> Outcome {
    let needed = majority(voters);
    if granted >= needed {
        Outcome::Won
    } else if voters - refused < needed {
        Outcome::Lost
    } else {
        Outcome::Open
    }
}

/// The state of an election that both halves have to grant, given the role and the answer of each
/// member. Learners don't count. Without voters nobody is elected.
pub(crate) fn jointly_tallied(
    answers: impl Iterator<Item = (MemberRole, Option<bool>)> + Clone,
    is_joint: bool,
) -> Outcome {
    let half = |half: Half| {
        let (mut voters, mut granted, mut refused) = (0, 0, 0);
        for (_, answer) in answers.clone().filter(|(role, _)| role.votes_in(half)) {
            voters += 1;
            granted += usize::from(answer == Some(true));
            refused += usize::from(answer == Some(false));
        }
        tally(voters, granted, refused)
    };
    let incoming = half(Half::Incoming);
    let outgoing = if is_joint { half(Half::Outgoing) } else { incoming };
    match (incoming, outgoing) {
        (Outcome::Won, Outcome::Won) => Outcome::Won,
        (Outcome::Lost, _) | (_, Outcome::Lost) => Outcome::Lost,
        (Outcome::Open | Outcome::Won, Outcome::Open | Outcome::Won) => Outcome::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, jointly_reached, jointly_tallied, majority, reached, tally};
    use crate::configuration::{Half, MemberRole};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn majority_of_each_group_size() {
        let table = [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)];
        for (voters, expected) in table {
            assert_eq!(majority(voters), expected, "{voters} voters");
        }
    }

    #[test]
    fn reached_by_a_majority() {
        let table: [(&[u64], u64); 14] = [
            (&[0], 0),
            (&[7], 7),
            (&[7, 0], 0),
            (&[7, 3], 3),
            (&[7, 0, 0], 0),
            (&[7, 7, 0], 7),
            (&[1, 2, 3], 2),
            (&[3, 3, 3], 3),
            (&[9, 5, 4, 1], 4),
            (&[9, 9, 1, 1], 1),
            (&[5, 4, 3, 2, 1], 3),
            (&[5, 5, 5, 0, 0], 5),
            (&[9, 8, 1, 1, 1], 1),
            (&[1, 2, 3, 4, 5, 6, 7], 4),
        ];
        for (values, expected) in table {
            assert_eq!(reached(values.iter().copied()), expected, "{values:?}");
        }
    }

    #[test]
    fn tally_of_votes() {
        let table = [
            (1, 1, 0, Outcome::Won),
            (1, 0, 1, Outcome::Lost),
            (2, 1, 0, Outcome::Open),
            (2, 1, 1, Outcome::Lost),
            (2, 2, 0, Outcome::Won),
            (3, 1, 0, Outcome::Open),
            (3, 1, 1, Outcome::Open),
            (3, 1, 2, Outcome::Lost),
            (3, 2, 1, Outcome::Won),
            (4, 2, 1, Outcome::Open),
            (4, 2, 2, Outcome::Lost),
            (4, 3, 1, Outcome::Won),
            (5, 2, 2, Outcome::Open),
            (5, 2, 3, Outcome::Lost),
            (5, 3, 2, Outcome::Won),
        ];
        for (voters, granted, refused, expected) in table {
            assert_eq!(
                tally(voters, granted, refused),
                expected,
                "{granted} granted and {refused} refused of {voters}"
            );
        }
    }

    /// The members of a joint configuration, with what each has reached or answered: `i` votes in
    /// the incoming half, `o` in the outgoing, `b` in both, `l` in none.
    fn members<T: Copy>(roles: &str, values: &[T]) -> Vec<(MemberRole, T)> {
        let role = |letter| match letter {
            'i' => MemberRole::Incoming,
            'o' => MemberRole::Outgoing,
            'b' => MemberRole::Voter,
            _ => MemberRole::Learner,
        };
        assert_eq!(roles.len(), values.len());
        roles.chars().map(role).zip(values.iter().copied()).collect()
    }

    #[test]
    fn reached_by_majorities_of_both_halves() {
        let table: [(&str, &[u64], u64); 15] = [
            // Both halves the same: as if it were not joint.
            ("b", &[7], 7),
            ("bbb", &[9, 5, 1], 5),
            ("bbbl", &[9, 5, 1, 99], 5),
            // One voter on each side.
            ("io", &[7, 3], 3),
            ("io", &[3, 7], 3),
            ("io", &[7, 0], 0),
            // One replaces another.
            ("bbio", &[9, 5, 0, 0], 5),
            ("bbio", &[9, 0, 5, 0], 0),
            ("bbio", &[9, 0, 5, 3], 3),
            // Halves without a common voter.
            ("iiiooo", &[9, 9, 9, 1, 0, 0], 0),
            ("iiiooo", &[9, 9, 1, 4, 4, 0], 4),
            ("iiiooo", &[4, 2, 1, 9, 9, 9], 2),
            // From one to three, and from three to one.
            ("bii", &[9, 5, 1], 5),
            ("boo", &[9, 5, 1], 5),
            ("boo", &[3, 9, 9], 3),
        ];
        for (roles, values, expected) in table {
            let found = jointly_reached(members(roles, values).into_iter(), true);
            assert_eq!(found, expected, "{roles} {values:?}");
        }
    }

    #[test]
    fn votes_of_both_halves() {
        use Outcome::{Lost, Open, Won};
        // y and n are answers, a point is none.
        let table = [
            ("", "", Lost),
            ("l", "y", Lost),
            ("b", "y", Won),
            ("b", ".", Open),
            ("b", "n", Lost),
            ("bl", ".y", Open),
            ("io", "y.", Open),
            ("io", "yy", Won),
            ("io", "yn", Lost),
            ("io", "n.", Lost),
            ("bbio", "yy..", Won),
            ("bbio", "y.y.", Open),
            ("bbio", "y.yn", Open),
            ("bbio", "yny.", Open),
            ("bbio", "ynyn", Lost),
            ("bbio", "ynyy", Won),
            ("bbio", "nn..", Lost),
            ("iiiooo", "yyy...", Open),
            ("iiiooo", "yyynn.", Lost),
            ("iiiooo", "yy.yy.", Won),
            ("boo", "yy.", Won),
            ("boo", "nyy", Lost),
            ("boo", "y.n", Open),
            ("bii", "yy.", Won),
            ("bii", "nyy", Lost),
        ];
        for (roles, answers, expected) in table {
            let answer = |letter| match letter {
                'y' => Some(true),
                'n' => Some(false),
                _ => None,
            };
            let answers: Vec<_> = answers.chars().map(answer).collect();
            let found = jointly_tallied(members(roles, &answers).into_iter(), true);
            assert_eq!(found, expected, "{roles} {answers:?}");
        }
    }

    fn role() -> impl Strategy<Value = MemberRole> {
        prop_oneof![
            Just(MemberRole::Voter),
            Just(MemberRole::Learner),
            Just(MemberRole::Incoming),
            Just(MemberRole::Outgoing),
        ]
    }

    proptest! {
        #[test]
        fn jointly_reached_equals_brute_force(
            mut members in prop::collection::vec((role(), 0u64..12), 0..10),
            both in 0u64..12,
        ) {
            members.push((MemberRole::Voter, both));
            let has = |half: Half, candidate: u64| {
                let voters = members.iter().filter(|(role, _)| role.votes_in(half));
                let held = voters.clone().filter(|(_, value)| *value >= candidate).count();
                2 * held > voters.count()
            };
            let expected = (0..12)
                .rev()
                .find(|&value| has(Half::Incoming, value) && has(Half::Outgoing, value))
                .expect("everybody reached zero");
            prop_assert_eq!(jointly_reached(members.iter().copied(), true), expected);
        }

        #[test]
        fn a_joint_tally_equals_trying_every_completion(
            mut members in prop::collection::vec((role(), prop::option::of(any::<bool>())), 0..7),
            both in prop::option::of(any::<bool>()),
        ) {
            members.push((MemberRole::Voter, both));
            let wins = |open: bool| {
                [Half::Incoming, Half::Outgoing].iter().all(|&half| {
                    let voters = members.iter().filter(|(role, _)| role.votes_in(half));
                    let granted = voters.clone().filter(|(_, answer)| answer.unwrap_or(open));
                    2 * granted.count() > voters.count()
                })
            };
            let expected = match (wins(false), wins(true)) {
                (true, _) => Outcome::Won,
                (false, true) => Outcome::Open,
                (false, false) => Outcome::Lost,
            };
            prop_assert_eq!(jointly_tallied(members.iter().copied(), true), expected);
        }

        #[test]
        fn reached_equals_brute_force(values in prop::collection::vec(0u64..12, 1..10)) {
            let held = |candidate: u64| values.iter().filter(|&&value| value >= candidate).count();
            let expected = (0..12)
                .rev()
                .find(|&candidate| 2 * held(candidate) > values.len())
                .expect("everybody reached zero");
            prop_assert_eq!(reached(values.iter().copied()), expected);
        }

        #[test]
        fn tally_equals_trying_every_completion(answers in prop::collection::vec(0u8..3, 1..9)) {
            let granted = answers.iter().filter(|&&answer| answer == 1).count();
            let refused = answers.iter().filter(|&&answer| answer == 2).count();
            let open = answers.len() - granted - refused;
            let wins: Vec<bool> = (0..=open)
                .map(|more| 2 * (granted + more) > answers.len())
                .collect();
            let expected = match (wins[0], wins[open]) {
                (true, _) => Outcome::Won,
                (false, false) => Outcome::Lost,
                (false, true) => Outcome::Open,
            };
            prop_assert_eq!(tally(answers.len(), granted, refused), expected);
        }
    }
}
