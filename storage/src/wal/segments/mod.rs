//! Segment files: how they are preallocated, how entries are read back from them, and how they are
//! recycled.

mod pool;
mod segment;
mod store;
mod worker;

pub(crate) use pool::{is_full, is_temporary};
pub(crate) use store::{LiveGroups, Store};
pub(crate) use worker::SegmentWorker;

pub use pool::SegmentPool;
pub use segment::Segment;
