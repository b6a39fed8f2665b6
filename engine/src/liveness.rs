//! Store liveness: which nodes support which, whatever the number of groups.

pub(crate) mod manager;
pub(crate) mod protocol;
