//! The contests: who does what work, and which figures come out.

pub(crate) mod cluster;
pub(crate) mod core;
pub(crate) mod wal;
