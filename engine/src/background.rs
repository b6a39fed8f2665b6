//! The threads that touch the disk or run user code for replicas, so that neither workers nor the
//! network wait for either.

pub(crate) mod arrivals;
pub(crate) mod departures;
pub(crate) mod disk_machines;
pub(crate) mod finishers;
pub(crate) mod guard;
pub(crate) mod lazy_snapshot;
pub(crate) mod log_reader;
pub(crate) mod pace;
pub(crate) mod pool;
pub(crate) mod removals;
pub(crate) mod restores;
pub(crate) mod scrubber;
pub(crate) mod shortage;
pub(crate) mod snapshots;
pub(crate) mod stuck_calls;
pub(crate) mod taken_parts;
pub(crate) mod threads;
pub(crate) mod user_code;
pub(crate) mod writers;
