//! The state machine of a replica that has ended, in place of its own.

use crate::state_machine::{SnapshotWriter, StateMachine};
use bytes::Bytes;
use std::io;

/// No state. A halted replica calls none of this.
pub(super) struct Gone;

impl StateMachine for Gone {
    fn apply(&mut self, _: Bytes) -> Bytes {
        Bytes::new()
    }

    fn query(&self, _: Bytes) -> Bytes {
        Bytes::new()
    }

    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_| Err(io::ErrorKind::Unsupported.into()))
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
