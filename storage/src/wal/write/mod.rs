//! How batches are written and become durable (group commit): the log itself, the thread that
//! writes, and the queue before the thread that syncs.

use parking_lot::{Condvar, Mutex};

mod durable;
#[cfg(test)]
mod interleavings;
mod log;
mod refusals;
mod shared;
mod sync_queue;
mod writer;

pub(crate) use log::Active;
pub use log::{Log, Unsynced, Written};
pub use refusals::Refusals;
pub(crate) use shared::Shared;
pub(crate) use sync_queue::SyncQueue;
pub(crate) use writer::{Submission, Writer};
