//! Quorums: the arithmetic of majorities, as pure functions over what each voter has reached.

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

#[cfg(test)]
mod tests {
    use super::{Outcome, majority, reached, tally};
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

    proptest! {
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
