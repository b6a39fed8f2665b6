//! State machines that keep their state on disk themselves.

use crate::state_machine::{
    ApplyError, ApplyOn, CommandAdmission, CommandBatch, SnapshotWriter, StateMachine, StateReader,
};
use bytes::Bytes;
use logboat_raft::LogId;
use std::io;
use std::sync::Arc;

/// A state machine that keeps its state on disk itself, and says how far that is durable.
///
/// The log of the group is the log of its state: a write need not be durable when
/// [`apply`](Self::apply) returns. A restart asks how far the state [is there](Self::open), and
/// goes on behind that. The log keeps what [`sync`](Self::sync) has not called durable. So after
/// any crash each command is applied once to what is there.
///
/// What is there after a crash must be a state as it once was: all commands up to some entry and
/// none behind it, with the id of that entry. It must not be older than what was called durable.
///
/// Hand it to a node as [`OnDisk`]. Calls come as for a [`StateMachine`]. An error of any of them
/// stops this replica with the error as the reason. `logboat/examples/files.rs` has one over plain
/// files.
pub trait DiskStateMachine: Send + 'static {
    /// Opens the state, or makes an empty one, and returns the last entry that it holds; `None` if
    /// it is empty. Called once, before anything else but [`clear`](Self::clear).
    ///
    /// # Errors
    /// When that can't be done, as when the state is damaged.
    fn open(&mut self) -> io::Result<Option<LogId>>;

    /// Applies commands. From then on the state stands at [`CommandBatch::last`], also if the batch
    /// holds no command.
    ///
    /// # Errors
    /// [`ApplyError`], when it stops before the end of the batch.
    fn apply(&mut self, commands: &mut CommandBatch<'_>) -> Result<(), ApplyError>;

    /// Answers a query from the present state, in order with the other calls.
    ///
    /// A state machine has this method or a [`reader`](Self::reader). Without either it panics at
    /// the first query.
    ///
    /// # Errors
    /// When the state can't be read.
    fn query(&self, query: Bytes) -> io::Result<Bytes> {
        let _ = query;
        unimplemented!("a state machine has `query` or `reader`")
    }

    /// See [`StateMachine::reader`]. Asked after [`open`](Self::open).
    fn reader(&self) -> Option<Arc<dyn StateReader>> {
        None
    }

    /// Makes the state durable, and returns the last entry that is durable now. It may leave out
    /// the newest entries, if all others will be durable without another call.
    ///
    /// # Errors
    /// When the state could not be made durable.
    fn sync(&mut self) -> io::Result<Option<LogId>>;

    /// Captures the present state for a peer. Writing happens on another thread while the state
    /// machine goes on, so this should copy nothing, or little.
    ///
    /// # Errors
    /// When the state can't be read.
    fn snapshot(&self) -> io::Result<SnapshotWriter>;

    /// Replaces the state by one that a [`SnapshotWriter`] of this type wrote. It stands at `last`.
    /// When this returns, the new state is durable. A crash before leaves the old one or the new
    /// one, and so does an error.
    ///
    /// # Errors
    /// The reader's errors, and whatever keeps the state from being replaced.
    fn restore(&mut self, reader: &mut dyn io::Read, last: LogId) -> io::Result<()>;

    /// Empties the state, durably: it is what a former replica of the group left here.
    ///
    /// # Errors
    /// When that can't be done.
    fn clear(&mut self) -> io::Result<()>;

    /// See [`StateMachine::command_admission`].
    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        None
    }

    /// See [`StateMachine::apply_on`]. Calls that touch a disk should not hold up a worker.
    fn apply_on(&self) -> ApplyOn {
        ApplyOn::Pool
    }
}

/// A [`DiskStateMachine`], as a node takes it.
pub struct OnDisk<M>(
    /// The state machine.
    pub M,
);

impl<M: DiskStateMachine> StateMachine for OnDisk<M> {
    fn apply_batch(&mut self, commands: &mut CommandBatch<'_>) -> Result<(), ApplyError> {
        self.0.apply(commands)
    }

    fn query(&self, query: Bytes) -> Bytes {
        let answer = self.0.query(query);
        answer.unwrap_or_else(|error| panic!("reading the state: {error}"))
    }

    fn reader(&self) -> Option<Arc<dyn StateReader>> {
        self.0.reader()
    }

    fn snapshot(&self) -> SnapshotWriter {
        self.0.snapshot().unwrap_or_else(|error| Box::new(move |_| Err(error)))
    }

    /// A state machine on disk is told where the state stands that it is to take over.
    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        self.0.command_admission()
    }

    fn apply_on(&self) -> ApplyOn {
        self.0.apply_on()
    }

    fn on_disk(&mut self) -> Option<&mut dyn DiskStateMachine> {
        Some(&mut self.0)
    }
}
