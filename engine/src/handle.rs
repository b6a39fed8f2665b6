//! The handle of a group, by which callers reach its replica on this node.

use crate::admission::gate::AdmissionGate;
use crate::error::{ChangeError, RequestError, TransferError};
use crate::membership::Membership;
use crate::replica::event::GroupEvent;
use crate::replica::request::Request;
use crate::request::GroupRequest;
use crate::request::administration::{decode_changed, decode_local, decode_transferred};
use crate::request::kind::RequestKind;
use crate::state_machine::CapturedState;
use crate::turn::slot::Slot;
use crate::view::GroupView;
use crate::worker::event::Event;
use crate::worker::inbox::WorkerInbox;
use bytes::Bytes;
use logboat_raft::{Change, GroupId, LogId, NodeId, ReadFrom, ReadMode};
use std::sync::Arc;
use std::time::Instant;

/// A replica on this node. Clones are cheap and stand for the same replica; futures may be awaited
/// on any executor.
///
/// ```
/// # use logboat::{Bytes, GroupId, GroupSpec, Node, NodeConfig, NodeId, StateMachine};
/// # use std::collections::BTreeMap;
/// # struct Counter(u8);
/// # impl StateMachine for Counter {
/// #     fn apply(&mut self, command: Bytes) -> Bytes {
/// #         self.0 += command[0];
/// #         Bytes::copy_from_slice(&[self.0])
/// #     }
/// #     fn query(&self, _: Bytes) -> Bytes { Bytes::copy_from_slice(&[self.0]) }
/// #     fn snapshot(&self) -> logboat::SnapshotWriter { Box::new(|_| Ok(())) }
/// #     fn restore(&mut self, _: &mut dyn std::io::Read) -> std::io::Result<()> { Ok(()) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
/// # let node = Node::start(NodeConfig::new(NodeId(1), members, dir.path())?)?;
/// # let counter = node.create_group(GroupSpec {
/// #     group: GroupId(1),
/// #     replicas: vec![NodeId(1)],
/// #     preferred: None,
/// #     machine: Box::new(Counter(0)),
/// # })?;
/// // The handle of a group whose commands are numbers to add.
/// counter.view().led().await;
/// assert_eq!(counter.propose(Bytes::from_static(&[5])).await?, &[5][..]);
/// let sums = counter.propose_all(&[[1], [2]]).await?;
/// assert_eq!(sums, [Ok(Bytes::from_static(&[6])), Ok(Bytes::from_static(&[8]))]);
/// assert_eq!(counter.read(Bytes::new()).await?, &[8][..]);
/// # node.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct GroupHandle {
    pub(crate) group: GroupId,
    pub(crate) slot: Slot,
    pub(crate) worker: Arc<WorkerInbox>,
    pub(crate) view: Arc<GroupView>,
    pub(crate) gate: Arc<AdmissionGate>,
}

impl GroupHandle {
    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The newest view of the replica.
    #[must_use]
    pub fn view(&self) -> &GroupView {
        &self.view
    }

    /// The members of the group, as far as this replica knows: see [`GroupView::membership`].
    #[must_use]
    pub fn membership(&self) -> Membership {
        self.view.membership()
    }

    /// Replicates `command` and returns the state machine's answer when it was applied. The command
    /// is durable on a majority then.
    ///
    /// # Errors
    /// See [`RequestError`]. After [`RequestError::TimedOut`], and when the future is dropped, the
    /// command may or may not take effect.
    pub async fn propose(&self, command: Bytes) -> Result<Bytes, RequestError> {
        self.request(GroupRequest::propose(command)).await
    }

    /// Replicates `commands`, which become neighbours in the log in this order. Returns for each of
    /// them what [`Self::propose`] would. It costs less than as many proposals: one permit, one
    /// wake-up of the replica, one of the caller.
    ///
    /// # Errors
    /// See [`RequestError`]: an error of the whole is the outcome of each of the commands. Those of
    /// a list count as one command with 260 bytes more for each.
    pub async fn propose_all(
        &self,
        commands: &[impl AsRef<[u8]>],
    ) -> Result<Vec<Result<Bytes, RequestError>>, RequestError> {
        let request = GroupRequest::propose_all(commands);
        let answer = self.request(request.clone()).await?;
        Ok(request.outcomes(answer))
    }

    /// Answers `query` from a state that holds every command acknowledged before the call. Only the
    /// leader does.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn read(&self, query: Bytes) -> Result<Bytes, RequestError> {
        self.read_in(ReadMode::default(), query).await
    }

    /// Like [`Self::read`], and as linearizable, but `mode` says which replica serves the read, and
    /// on what grounds.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn read_in(&self, mode: ReadMode, query: Bytes) -> Result<Bytes, RequestError> {
        self.request(GroupRequest::read(mode, query)).await
    }

    /// Has the replica write a snapshot of its state soon and drop the log that it covers.
    pub fn compact(&self) {
        self.worker.post(Event::Local(self.slot, GroupEvent::Compact));
    }

    /// Answers `query` from the state of this replica, whatever it misses, and tells the last entry
    /// that this state has. That is not linearizable. It asks nobody, so it works without a leader.
    /// A [reader](crate::StateReader) may see later entries as well.
    ///
    /// # Errors
    /// See [`RequestError`]; never [`RequestError::NotLeader`], unless a call of the state machine
    /// hangs.
    ///
    /// ```
    /// # use logboat::{Bytes, GroupId, GroupSpec, Node, NodeConfig, NodeId, StateMachine};
    /// # use std::collections::BTreeMap;
    /// # struct Counter(u8);
    /// # impl StateMachine for Counter {
    /// #     fn apply(&mut self, command: Bytes) -> Bytes {
    /// #         self.0 += command[0];
    /// #         Bytes::copy_from_slice(&[self.0])
    /// #     }
    /// #     fn query(&self, _: Bytes) -> Bytes { Bytes::copy_from_slice(&[self.0]) }
    /// #     fn snapshot(&self) -> logboat::SnapshotWriter { Box::new(|_| Ok(())) }
    /// #     fn restore(&mut self, _: &mut dyn std::io::Read) -> std::io::Result<()> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
    /// # let node = Node::start(NodeConfig::new(NodeId(1), members, dir.path())?)?;
    /// # let counter = node.create_group(GroupSpec {
    /// #     group: GroupId(1),
    /// #     replicas: vec![NodeId(1)],
    /// #     preferred: None,
    /// #     machine: Box::new(Counter(0)),
    /// # })?;
    /// # counter.view().led().await;
    /// counter.propose(Bytes::from_static(&[5])).await?;
    /// let (as_of, count) = counter.read_local(Bytes::new()).await?;
    /// // The first entry is the leader's own.
    /// assert_eq!((as_of.index.0, &count[..]), (2, &[5][..]));
    /// # node.stop();
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_local(&self, query: Bytes) -> Result<(LogId, Bytes), RequestError> {
        let answer = self.request(GroupRequest::read_local(query)).await?;
        decode_local(answer).ok_or(RequestError::TimedOut)
    }

    /// Captures the state of this replica, for a copy of it outside of the group: a backup. The
    /// state holds every command acknowledged before the call, and is that of one entry, which
    /// comes with it. Any replica serves this. It asks the leader how far it has to be, as for a
    /// [read](Self::read_in) from any replica.
    ///
    /// Who has the state after the entry `known` gets no writer if that is still the state.
    ///
    /// # Errors
    /// See [`RequestError`].
    ///
    /// ```
    /// # use logboat::{Bytes, GroupId, GroupSpec, Node, NodeConfig, NodeId, StateMachine};
    /// # use std::collections::BTreeMap;
    /// # struct Counter(u8);
    /// # impl StateMachine for Counter {
    /// #     fn apply(&mut self, command: Bytes) -> Bytes {
    /// #         self.0 += command[0];
    /// #         Bytes::copy_from_slice(&[self.0])
    /// #     }
    /// #     fn query(&self, _: Bytes) -> Bytes { Bytes::copy_from_slice(&[self.0]) }
    /// #     fn snapshot(&self) -> logboat::SnapshotWriter {
    /// #         let count = self.0;
    /// #         Box::new(move |writer| writer.write_all(&[count]))
    /// #     }
    /// #     fn restore(&mut self, _: &mut dyn std::io::Read) -> std::io::Result<()> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
    /// # let node = Node::start(NodeConfig::new(NodeId(1), members, dir.path())?)?;
    /// # let counter = node.create_group(GroupSpec {
    /// #     group: GroupId(1),
    /// #     replicas: vec![NodeId(1)],
    /// #     preferred: None,
    /// #     machine: Box::new(Counter(0)),
    /// # })?;
    /// # counter.view().led().await;
    /// counter.propose(Bytes::from_static(&[5])).await?;
    /// let first = counter.capture(None).await?;
    /// counter.propose(Bytes::from_static(&[2])).await?;
    /// let mut copy = Vec::new();
    /// (first.writer.expect("nothing was known"))(&mut copy)?;
    /// // The first entry is the leader's own.
    /// assert_eq!((first.last.index.0, &copy[..]), (2, &[5][..]));
    ///
    /// let second = counter.capture(Some(first.last)).await?;
    /// assert!(second.writer.is_some() && second.last.index.0 == 3);
    /// assert!(counter.capture(Some(second.last)).await?.writer.is_none());
    /// # node.stop();
    /// # Ok(())
    /// # }
    /// ```
    pub async fn capture(&self, known: Option<LogId>) -> Result<CapturedState, RequestError> {
        let kind = RequestKind::Read(ReadMode { from: ReadFrom::Any, lease: false });
        let permit = self.gate.admit(kind, &Bytes::new())?;
        let (request, receiver) = Request::capture(known, permit);
        self.worker.post(Event::Local(self.slot, GroupEvent::request(kind, request)));
        // A state machine that fails, and a node that is torn down, drop a request.
        receiver.await.unwrap_or(Err(RequestError::TimedOut))
    }

    /// Changes the members of the group. All changes take effect together, through one joint
    /// configuration if they change who votes. Returns the members when they are committed.
    ///
    /// Only the leader does that. It asks the others nothing but what it asks them for a command,
    /// and the group goes on meanwhile. [`Node::change`](crate::Node::change) reaches a leader
    /// elsewhere.
    ///
    /// The way in is from nothing to learner to voter, the way out from voter to learner to
    /// nothing. So a replica is replaced in three steps: [`Change::AddLearner`], once the other
    /// node has [joined](crate::Node::join_group); [`Change::Promote`] of the new one and
    /// [`Change::Demote`] of the old one together, which is refused as
    /// [`ChangeRefusal::NotCaughtUp`](crate::ChangeRefusal::NotCaughtUp) until the learner has
    /// caught up; [`Change::Remove`].
    ///
    /// A leader that is to be no voter hands over first, and answers
    /// [`RequestError::NotLeader`]: its successor is to be asked again.
    ///
    /// # Errors
    /// See [`ChangeError`].
    ///
    /// ```no_run
    /// use logboat::{Change, ChangeError, GroupHandle, NodeId};
    /// use std::time::Duration;
    ///
    /// # async fn replace(group: GroupHandle) -> Result<(), ChangeError> {
    /// let (old, new) = (NodeId(3), NodeId(4));
    /// group.change(&[Change::AddLearner(new)]).await?;
    /// while let Err(error) = group.change(&[Change::Promote(new), Change::Demote(old)]).await {
    ///     if !error.is_transient() {
    ///         return Err(error);
    ///     }
    ///     tokio::time::sleep(Duration::from_millis(50)).await;
    /// }
    /// let members = group.change(&[Change::Remove(old)]).await?;
    /// assert!(members.voters().contains(&new) && !members.contains(old));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn change(&self, changes: &[Change]) -> Result<Membership, ChangeError> {
        self.ask_for_change(GroupRequest::change(None, changes)).await
    }

    /// Like [`Self::change`], but only if the group has the members of the entry `from`
    /// ([`Membership::entry`]): so of two who want to change the same members, one is refused.
    ///
    /// # Errors
    /// See [`ChangeError`]; [`ChangeError::OtherMembers`] if the group has others.
    pub async fn change_from(
        &self,
        from: LogId,
        changes: &[Change],
    ) -> Result<Membership, ChangeError> {
        self.ask_for_change(GroupRequest::change(Some(from), changes)).await
    }

    /// Whether [`Change::Promote`] of this learner would be taken now. Only the leader knows.
    ///
    /// # Errors
    /// See [`ChangeError`]: why not.
    pub async fn check_learner(&self, node: NodeId) -> Result<(), ChangeError> {
        self.ask_for_change(GroupRequest::check_learner(node)).await.map(drop)
    }

    async fn ask_for_change(&self, request: GroupRequest) -> Result<Membership, ChangeError> {
        let answer = self.request(request).await?;
        decode_changed(&answer).unwrap_or(Err(RequestError::TimedOut.into()))
    }

    /// Hands leadership to the voter on node `to`. Returns when that one leads, which takes as long
    /// as it takes the successor to catch up, and a round trip.
    ///
    /// # Errors
    /// See [`TransferError`]. The leader gives up after an election timeout.
    ///
    /// ```
    /// # use logboat::TransferError;
    /// # use logboat::{Bytes, GroupId, GroupSpec, Node, NodeConfig, NodeId, StateMachine};
    /// # use std::collections::BTreeMap;
    /// # struct Counter(u8);
    /// # impl StateMachine for Counter {
    /// #     fn apply(&mut self, command: Bytes) -> Bytes {
    /// #         self.0 += command[0];
    /// #         Bytes::copy_from_slice(&[self.0])
    /// #     }
    /// #     fn query(&self, _: Bytes) -> Bytes { Bytes::copy_from_slice(&[self.0]) }
    /// #     fn snapshot(&self) -> logboat::SnapshotWriter { Box::new(|_| Ok(())) }
    /// #     fn restore(&mut self, _: &mut dyn std::io::Read) -> std::io::Result<()> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
    /// # let node = Node::start(NodeConfig::new(NodeId(1), members, dir.path())?)?;
    /// # let counter = node.create_group(GroupSpec {
    /// #     group: GroupId(1),
    /// #     replicas: vec![NodeId(1)],
    /// #     preferred: None,
    /// #     machine: Box::new(Counter(0)),
    /// # })?;
    /// # counter.view().led().await;
    /// assert_eq!(counter.transfer(NodeId(1)).await, Ok(()), "it leads already");
    /// let stranger = NodeId(2);
    /// let not_voter = TransferError::NotVoter { node: stranger };
    /// assert_eq!(counter.transfer(stranger).await, Err(not_voter));
    /// # node.stop();
    /// # Ok(())
    /// # }
    /// ```
    pub async fn transfer(&self, to: NodeId) -> Result<(), TransferError> {
        let answer = self.request(GroupRequest::transfer(to)).await?;
        decode_transferred(to, &answer).unwrap_or(Err(RequestError::TimedOut.into()))
    }

    /// Makes a request of any kind.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request(&self, request: GroupRequest) -> Result<Bytes, RequestError> {
        let kind = request.kind();
        let permit = self.gate.admit(kind, request.body())?;
        let start = Instant::now();
        let (request, receiver) = Request::local(request.body().clone(), permit);
        self.worker.post(Event::Local(self.slot, GroupEvent::request(kind, request)));
        // Only a node that is torn down drops a request without an answer.
        let answer = receiver.await.unwrap_or(Err(RequestError::TimedOut));
        self.gate.metrics.observe(kind, start.elapsed().as_secs_f64());
        answer
    }
}
