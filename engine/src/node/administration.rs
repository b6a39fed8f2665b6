//! What a node asks the leaders of groups for, here and elsewhere: changes of members, and
//! transfers.

use crate::error::{ChangeError, RequestError, TransferError};
use crate::membership::Membership;
use crate::node::Node;
use crate::request::GroupRequest;
use crate::request::administration::{decode_changed, decode_transferred};
use logboat_raft::{Change, GroupId, LogId, NodeId};

impl Node {
    /// Has the replica of `group` on node `to`, which may be this one, change the group's members:
    /// see [`GroupHandle::change`](crate::GroupHandle::change). Waits for as long as the connection
    /// stands: bound the wait.
    ///
    /// # Errors
    /// See [`ChangeError`].
    ///
    /// ```no_run
    /// use logboat::{Change, ChangeError, GroupId, Membership, Node, NodeId, RequestError};
    /// use std::time::Duration;
    ///
    /// /// Asks a node that has a replica, and whoever leads then, until the change is made or
    /// /// can't be made.
    /// async fn change(
    ///     node: &Node,
    ///     mut to: NodeId,
    ///     group: GroupId,
    ///     changes: &[Change],
    /// ) -> Result<Membership, ChangeError> {
    ///     loop {
    ///         match node.change(to, group, changes).await {
    ///             Err(ChangeError::Request(RequestError::NotLeader { leader })) => {
    ///                 to = leader.unwrap_or(to);
    ///             }
    ///             Err(error) if error.is_transient() => {}
    ///             outcome => return outcome,
    ///         }
    ///         tokio::time::sleep(Duration::from_millis(20)).await;
    ///     }
    /// }
    /// ```
    pub async fn change(
        &self,
        to: NodeId,
        group: GroupId,
        changes: &[Change],
    ) -> Result<Membership, ChangeError> {
        self.ask_for_change(to, group, GroupRequest::change(None, changes)).await
    }

    /// The same, if the group has the members of the entry `from`: see
    /// [`GroupHandle::change_from`](crate::GroupHandle::change_from).
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change_from(
        &self,
        to: NodeId,
        group: GroupId,
        from: LogId,
        changes: &[Change],
    ) -> Result<Membership, ChangeError> {
        self.ask_for_change(to, group, GroupRequest::change(Some(from), changes)).await
    }

    async fn ask_for_change(
        &self,
        to: NodeId,
        group: GroupId,
        request: GroupRequest,
    ) -> Result<Membership, ChangeError> {
        let answer = if to == self.id() {
            let handle = self.group(group).ok_or(RequestError::NoSuchGroup(group))?;
            handle.request(request).await?
        } else {
            self.call(to, group, &request).await?
        };
        decode_changed(&answer).unwrap_or(Err(RequestError::TimedOut.into()))
    }

    /// Has the replica of `group` on node `to`, which may be this one, hand leadership to the voter
    /// on node `successor`: see [`GroupHandle::transfer`](crate::GroupHandle::transfer). Waits for
    /// as long as the connection stands: bound the wait.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn transfer(
        &self,
        to: NodeId,
        group: GroupId,
        successor: NodeId,
    ) -> Result<(), TransferError> {
        if to == self.id() {
            let handle = self.group(group).ok_or(RequestError::NoSuchGroup(group))?;
            return handle.transfer(successor).await;
        }
        let answer = self.call(to, group, &GroupRequest::transfer(successor)).await?;
        decode_transferred(successor, &answer).unwrap_or(Err(RequestError::TimedOut.into()))
    }
}
