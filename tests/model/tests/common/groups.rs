//! The groups that the tests of membership begin with, each by the configurations that it had.

use logboat_model::membership::{Configuration, Nodes};

/// Two voters on the first two nodes.
pub(crate) const TWO: &[Configuration] = &[Configuration::of(&[1, 2], &[])];
/// Three voters on the first three nodes.
pub(crate) const THREE: &[Configuration] = &[Configuration::of(&[1, 2, 3], &[])];
/// Four voters on the first four nodes.
pub(crate) const FOUR: &[Configuration] = &[Configuration::of(&[1, 2, 3, 4], &[])];
/// Two voters, and a learner on the third node.
pub(crate) const TWO_AND_LEARNER: &[Configuration] = &[Configuration::of(&[1, 2], &[3])];
/// Three voters, and a learner on the fourth node.
pub(crate) const THREE_AND_LEARNER: &[Configuration] = &[Configuration::of(&[1, 2, 3], &[4])];
/// The learner was removed and added again, which nobody has told it yet.
pub(crate) const ADDED_AGAIN: &[Configuration] = &[
    Configuration::of(&[1, 2], &[3]),
    Configuration::of(&[1, 2], &[]),
    Configuration::of(&[1, 2], &[3]),
];
/// The third voter was removed and added again, which nobody has told it yet.
pub(crate) const REPLACED: &[Configuration] = &[
    Configuration::of(&[1, 2], &[3]),
    Configuration::of(&[1, 2], &[]),
    Configuration::of(&[1, 2], &[3]),
    Configuration::of(&[1, 2], &[3]).joint(Nodes::of(&[1, 2, 3])),
    Configuration::of(&[1, 2, 3], &[]),
];
/// Two of three voters are being replaced.
pub(crate) const JOINT: &[Configuration] = &[
    Configuration::of(&[1, 2, 3], &[4, 5]),
    Configuration::of(&[1, 2, 3], &[4, 5]).joint(Nodes::of(&[1, 4, 5])),
];
