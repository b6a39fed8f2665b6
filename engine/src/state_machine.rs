//! What users implement: the state that a group replicates.

use bytes::Bytes;
use std::io;

/// Writes a captured state, later and on another thread than the one that captured it.
pub type SnapshotWriter = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send>;

/// The state machine that a group replicates: every replica applies the same commands in the same
/// order, so `apply` must depend on nothing but the state and the command.
///
/// Commands are slices of larger buffers, of the log or of the network: copy what you keep, or it
/// keeps those buffers.
///
/// All calls for one group come from one thread, one at a time. A panic stops this replica of the
/// group with an error; other groups go on.
pub trait StateMachine: Send + 'static {
    /// Applies a committed command and returns the answer for whoever proposed it. It must treat
    /// any bytes as a command, since it can't refuse what the group has agreed on.
    fn apply(&mut self, command: Bytes) -> Bytes;

    /// Answers a query from the present state.
    fn query(&self, query: Bytes) -> Bytes;

    /// Captures the present state. Capturing blocks the group and its neighbours on the same core,
    /// so it should be cheap; writing happens elsewhere.
    fn snapshot(&self) -> SnapshotWriter;

    /// Replaces the state by one that a [`SnapshotWriter`] of this type wrote.
    ///
    /// # Errors
    /// Whatever the reader returns, and `InvalidData` when it is no such state.
    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()>;
}
