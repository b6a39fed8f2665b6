//! The threads that touch the disk for replicas, so that neither workers nor the network wait for
//! files.

pub(crate) mod arrivals;
pub(crate) mod departures;
pub(crate) mod guard;
pub(crate) mod lazy_snapshot;
pub(crate) mod log_reader;
pub(crate) mod snapshots;
