//! Segment files: those that hold the log, how they are made ahead and used again, and how
//! entries are read back from them.

mod pool;
mod segment;
mod store;
mod worker;

pub(crate) use pool::{is_full, is_temporary};
pub(crate) use store::{LiveGroups, Store};
pub(crate) use worker::SegmentWorker;

pub use pool::SegmentPool;
pub use segment::Segment;
