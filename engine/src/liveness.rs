//! Store liveness: which nodes support which. [`protocol`] has the rules, and says what they take
//! over from CockroachDB; [`manager`] drives them on a node, by the time of its [`clock`], and
//! [`effects`] has the order in which log, workers and peers hear of what comes of it. With its
//! support a node hands on its clock, which [`node_time`] shows.

pub(crate) mod clock;
pub(crate) mod effects;
pub(crate) mod manager;
pub(crate) mod node_time;
pub(crate) mod protocol;
