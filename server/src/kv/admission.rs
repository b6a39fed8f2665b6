//! What the leader of a group does with commands before they are proposed.

use super::clock::GroupTime;
use super::memory::DataMemory;
use bytes::Bytes;
use logboat::CommandAdmission;
use std::sync::Arc;

/// Lets commands of a store in as long as there is memory for what they add, and writes the time
/// into those that go by it.
#[derive(Debug)]
pub struct StoreAdmission {
    memory: Arc<DataMemory>,
    time: Arc<GroupTime>,
}

impl StoreAdmission {
    pub(super) const fn new(memory: Arc<DataMemory>, time: Arc<GroupTime>) -> Self {
        Self { memory, time }
    }
}

impl CommandAdmission for StoreAdmission {
    fn admit(&self, command: &Bytes) -> Result<u64, Bytes> {
        self.memory.admit(command)
    }

    fn frees(&self, command: &Bytes) -> bool {
        self.memory.frees(command)
    }

    fn release(&self, amount: u64) {
        self.memory.release(amount);
    }

    fn stamp(&self, command: Bytes) -> Bytes {
        self.time.stamp(command)
    }
}
