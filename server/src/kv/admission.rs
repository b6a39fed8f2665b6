//! What the leader of a group does with commands before they are proposed.

use super::clock::GroupTime;
use super::keys::MAX_KEY_BYTES;
use super::memory::DataMemory;
use super::message::{Answer, Failure, Proposal};
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
        if command.len() > MAX_KEY_BYTES && names_too_long_a_key(command) {
            return Err(Answer::Failed(Failure::TooLong).encode());
        }
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

/// Whether a command has a key that is too long for new ones. What only removes keys may name any.
fn names_too_long_a_key(command: &Bytes) -> bool {
    // What is no command is answered by the state machine.
    let decoded = Proposal::decode_shared(command).ok();
    let command = decoded.map(|decoded| decoded.command).filter(|command| !command.frees());
    command.is_some_and(|command| command.longest_key_bytes() > MAX_KEY_BYTES)
}
