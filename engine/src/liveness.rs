//! Store liveness: which nodes support which. [`protocol`] has the rules, and says what they take
//! over from CockroachDB; [`manager`] carries them out on a node, by the time of its [`clock`].

pub(crate) mod clock;
pub(crate) mod manager;
pub(crate) mod protocol;
