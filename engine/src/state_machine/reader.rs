//! Queries beside the state machine.

use bytes::Bytes;
use std::io;

/// Answers the queries of a group beside its state machine: on threads of a pool, several at once,
/// while the state machine applies commands. For queries that may wait for a disk, or that take
/// more than some microseconds. See [`StateMachine::reader`](crate::StateMachine::reader).
///
/// It answers from the present state, of which it must see one moment: all commands up to some
/// entry, and none behind it. That is not before the last command whose call has returned when the
/// query comes. The engine asks when enough is applied, so the answers are linearizable.
///
/// A panic or an error stops this replica of the group. A query that does not return within
/// [`NodeConfig::state_machine_timeout`](crate::NodeConfig::state_machine_timeout) costs the
/// replica its leadership until it returns, as a call of the state machine does. The replica goes
/// on applying meanwhile.
///
/// A few queries of a group are under way at once. They may still be, and others be taken up, while
/// a [`restore`](crate::StateMachine::restore) replaces the state, and when the state machine was
/// dropped or another one of the group has taken its place. Nobody gets their answers then, and
/// their errors stop no replica.
pub trait StateReader: Send + Sync + 'static {
    /// Answers a query.
    ///
    /// # Errors
    /// When the state can't be read.
    fn query(&self, query: Bytes) -> io::Result<Bytes>;
}
