//! The work that both sides of a contest do, and what it asks of a side.

pub(crate) mod clients;
pub(crate) mod shared_log;
