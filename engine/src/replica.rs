//! A replica of one group: the consensus core, the state machine, and the requests that wait for them.

pub(crate) mod group;
pub(crate) mod pending;
pub(crate) mod restore;
