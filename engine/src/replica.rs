//! A replica of one group: the consensus core, the state machine, and the requests that wait for
//! them.

pub(crate) mod call;
pub(crate) mod event;
pub(crate) mod founders_check;
pub(crate) mod group;
pub(crate) mod pending;
pub(crate) mod recovery;
pub(crate) mod request;
pub(crate) mod run_context;
pub(crate) mod wake_conditions;
