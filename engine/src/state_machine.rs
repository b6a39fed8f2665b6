//! The state machine, which users implement and a group replicates.

pub(crate) mod command_batch;
pub(crate) mod disk;
pub(crate) mod reader;

pub use command_batch::{ApplyError, Command, CommandBatch};
pub use disk::{DiskStateMachine, OnDisk};
pub use reader::StateReader;

use bytes::Bytes;
use logboat_raft::LogId;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Writes a captured state, later and on another thread than the one that captured it.
pub type SnapshotWriter = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send>;

/// A state that was captured for a copy outside of the group:
/// [`GroupHandle::capture`](crate::GroupHandle::capture).
pub struct CapturedState {
    /// The last entry that the state has.
    pub last: LogId,
    /// Writes it. None if the caller has it already.
    pub writer: Option<SnapshotWriter>,
}

impl fmt::Debug for CapturedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapturedState").field("last", &self.last).finish_non_exhaustive()
    }
}

/// The state machine that a group replicates, with its state in memory. One that keeps its state on
/// disk is a [`DiskStateMachine`]. Every replica applies the same commands in the same
/// order, so `apply` must depend on nothing but the state and the command.
///
/// Commands are slices of larger buffers, of the log or of the network. Copy what you keep, or
/// those buffers stay in memory.
///
/// The calls for one group come one at a time, in an order that is the same on all replicas for
/// [`apply`](Self::apply); they may come from different threads. A panic stops this replica of the
/// group with an error; other groups go on.
///
/// A call that does not return within
/// [`NodeConfig::state_machine_timeout`](crate::NodeConfig::state_machine_timeout) is taken for one
/// that hangs. Other groups go on, and this replica does not lead until it returns.
///
/// ```
/// use logboat::{Bytes, SnapshotWriter, StateMachine};
/// use std::io::{self, Read};
///
/// /// Counts the bytes of all commands.
/// #[derive(Default)]
/// struct Counter(u64);
///
/// impl StateMachine for Counter {
///     fn apply(&mut self, command: Bytes) -> Bytes {
///         self.0 += command.len() as u64;
///         self.query(Bytes::new())
///     }
///
///     fn query(&self, _query: Bytes) -> Bytes {
///         Bytes::copy_from_slice(&self.0.to_le_bytes())
///     }
///
///     fn snapshot(&self) -> SnapshotWriter {
///         let state = self.0.to_le_bytes();
///         Box::new(move |writer| writer.write_all(&state))
///     }
///
///     fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
///         let mut state = [0; 8];
///         reader.read_exact(&mut state)?;
///         self.0 = u64::from_le_bytes(state);
///         Ok(())
///     }
/// }
///
/// let mut counter = Counter(7);
/// let mut snapshot = Vec::new();
/// counter.snapshot()(&mut snapshot)?;
/// counter.apply(Bytes::from_static(b"forgotten"));
/// counter.restore(&mut &snapshot[..])?;
/// assert_eq!(counter.query(Bytes::new()), &7_u64.to_le_bytes()[..]);
/// # Ok::<(), io::Error>(())
/// ```
pub trait StateMachine: Send + 'static {
    /// Applies a committed command and returns the answer for its proposer. It must accept any
    /// bytes as a command, since it can't refuse what the group has agreed on.
    ///
    /// A state machine has this method or [`apply_batch`](Self::apply_batch). Without either it
    /// panics at the first command.
    fn apply(&mut self, command: Bytes) -> Bytes {
        let _ = command;
        unimplemented!("a state machine has `apply` or `apply_batch`")
    }

    /// Applies committed commands that arrived together, each with the id of its entry, and answers
    /// them. By default each is [applied](Self::apply) alone.
    ///
    /// # Errors
    /// [`ApplyError`], when it stops before the end of the batch.
    fn apply_batch(&mut self, commands: &mut CommandBatch<'_>) -> Result<(), ApplyError> {
        while let Some(Command { data, .. }) = commands.take() {
            let answer = self.apply(data);
            commands.answer(answer);
        }
        Ok(())
    }

    /// Answers a query from the present state, in order with the other calls.
    ///
    /// A state machine has this method or a [`reader`](Self::reader). Without either it panics at
    /// the first query.
    fn query(&self, query: Bytes) -> Bytes {
        let _ = query;
        unimplemented!("a state machine has `query` or `reader`")
    }

    /// What answers queries on other threads, beside the calls of the state machine. Asked before
    /// the replica starts, and after each [`restore`](Self::restore). Without one,
    /// [`query`](Self::query) answers them.
    fn reader(&self) -> Option<Arc<dyn StateReader>> {
        None
    }

    /// Captures the present state. Nothing is applied and no query is answered meanwhile, so it
    /// should be cheap. Writing happens on another thread.
    fn snapshot(&self) -> SnapshotWriter;

    /// Replaces the state by one that a [`SnapshotWriter`] of this type wrote.
    ///
    /// # Errors
    /// The reader's errors, and `InvalidData` when the bytes are no such state.
    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()>;

    /// What decides on the leader which commands are proposed. Asked once, when the replica starts.
    /// Without one, all commands are.
    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        None
    }

    /// Where this state machine is called. Asked once, before the replica starts.
    fn apply_on(&self) -> ApplyOn {
        ApplyOn::Worker
    }

    /// The state machine as one that keeps its state on disk, if it is [`OnDisk`].
    #[doc(hidden)]
    fn on_disk(&mut self) -> Option<&mut dyn DiskStateMachine> {
        None
    }
}

/// Decides on the leader which commands are proposed: the place for what must not be decided in
/// [`StateMachine::apply`], since it is not the same on all replicas, such as a limit on memory.
///
/// It is asked on the group's worker, for commands of callers on all nodes, and must not block. No
/// command is proposed without it, by whichever leader.
pub trait CommandAdmission: Send + Sync {
    /// Lets a command in, and returns how much it may use of what is limited; that counts until
    /// [`Self::release`].
    ///
    /// # Errors
    /// The answer for the proposer of a command that is refused, in place of the state machine's.
    /// The command has no effect then.
    fn admit(&self, command: &Bytes) -> Result<u64, Bytes>;

    /// Whether a command only frees what the state takes. While the leader's disk is full, small
    /// commands of this kind are let in, and no others.
    fn frees(&self, command: &Bytes) -> bool {
        let _ = command;
        false
    }

    /// The command as it is proposed, once it was let in. A state machine that goes by the time has
    /// it written into the command here, by the leader alone, so that all replicas apply the same.
    /// It must hold for a command that was stamped before: a caller may have made it so.
    fn stamp(&self, command: Bytes) -> Bytes {
        command
    }

    /// A command that was let in for `amount`, which is not zero, has its outcome, or nobody waits
    /// for that any more.
    fn release(&self, amount: u64);
}

/// Where a state machine is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApplyOn {
    /// On the thread of the group's worker, which does all that the group wants. That is the
    /// fastest for calls of some microseconds. The groups of the same worker wait for them.
    #[default]
    Worker,
    /// On a thread of a pool, while the group and its neighbours go on. For calls that may take
    /// milliseconds, such as those that read from a disk. The pool has as many threads as the node
    /// has workers.
    Pool,
}
