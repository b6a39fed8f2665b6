//! Segment files: how they are preallocated, how entries are read back from them, and how they are
//! recycled.

mod pool;
mod segment;
mod store;
mod worker;

pub use pool::SegmentPool;
pub(crate) use pool::{is_full, is_shortage, is_temporary};
pub use segment::Segment;
pub(crate) use store::{LiveGroups, Store};
pub(crate) use worker::{Ahead, SegmentWorker};
