//! The events of a node: what happens to its replicas, for those who watch it.

use crate::membership::Membership;
use crate::mending::MendedReplica;
use logboat_raft::{GroupId, LogId, NodeId, Term};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// How many events wait for a receiver before the oldest are dropped. It is enough for a node whose
/// thousands of groups change their leaders at once.
const MOST_WAITING: usize = 8_192;

/// Something that happened to a replica on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// The replica knows another leader, or none any more.
    LeaderChanged {
        /// The group.
        group: GroupId,
        /// The leader's node.
        leader: Option<NodeId>,
        /// The replica's term.
        term: Term,
    },
    /// The group has other members, as far as the replica knows.
    MembersChanged {
        /// The group.
        group: GroupId,
        /// The members now.
        members: Membership,
        /// Whether that is committed. What is not may be undone, when the leader is lost.
        is_committed: bool,
    },
    /// The replica has stopped for good, or did not start. Its node goes on.
    Failed {
        /// The group.
        group: GroupId,
        /// Why.
        reason: String,
    },
    /// Another replica has taken the place of one that had failed, and votes.
    Mended(MendedReplica),
    /// A snapshot of the replica's state is durable.
    SnapshotMade {
        /// The group.
        group: GroupId,
        /// The last entry that it covers.
        last: LogId,
    },
    /// The replica has taken over a snapshot that its leader sent.
    SnapshotReceived {
        /// The group.
        group: GroupId,
        /// The last entry that it covers.
        last: LogId,
    },
    /// The replica was removed: its group is without it, or this node was told to remove it
    /// ([`Node::remove_group`](crate::Node::remove_group)). Its data are being deleted.
    Removed {
        /// The group.
        group: GroupId,
    },
    /// The replica has heard no leader for ten election timeouts, though a majority of the group's
    /// nodes is there: they go on without it, or have not heard of it. It may have been removed
    /// from the group, or never been added. Said once, until it hears a leader.
    Orphaned {
        /// The group.
        group: GroupId,
    },
    /// The receiver was too slow, and so many events before the next one are lost to it.
    /// [`Node::status`](crate::Node::status) and the handles of groups say how things stand.
    Missed {
        /// How many.
        events: u64,
    },
}

/// The events of a node, from the call of [`Node::events`](crate::Node::events) on, in the order in
/// which they happened to each replica.
///
/// When a leader or members are told of, the handle of the group shows them already.
///
/// At least 8,192 wait for a receiver. One that lags further is told how many it missed. While
/// nobody listens, events are not even made.
///
/// ```
/// use logboat::{Bytes, GroupId, GroupSpec, Node, NodeConfig, NodeEvent, NodeId, StateMachine};
/// # use std::collections::BTreeMap;
/// # struct Nothing;
/// # impl StateMachine for Nothing {
/// #     fn apply(&mut self, _: Bytes) -> Bytes { Bytes::new() }
/// #     fn query(&self, _: Bytes) -> Bytes { Bytes::new() }
/// #     fn snapshot(&self) -> logboat::SnapshotWriter { Box::new(|_| Ok(())) }
/// #     fn restore(&mut self, _: &mut dyn std::io::Read) -> std::io::Result<()> { Ok(()) }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
/// # let node = Node::start(NodeConfig::new(NodeId(1), members, dir.path())?)?;
/// let mut events = node.events();
/// # node.create_group(GroupSpec {
/// #     group: GroupId(1),
/// #     replicas: vec![NodeId(1)],
/// #     preferred: None,
/// #     machine: Box::new(Nothing),
/// # })?;
/// // A group is started, and elects a leader.
/// while let Some(event) = events.next().await {
///     if let NodeEvent::LeaderChanged { group, leader, .. } = event {
///         assert_eq!((group, leader), (GroupId(1), Some(NodeId(1))));
///         break;
///     }
/// }
/// # node.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Events(broadcast::Receiver<NodeEvent>);

impl Events {
    /// Waits for the next event. `None` once the node has stopped and all events were returned.
    /// None is lost when a wait is abandoned.
    pub async fn next(&mut self) -> Option<NodeEvent> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(events)) => Some(NodeEvent::Missed { events }),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Where replicas say what happens to them.
#[derive(Default)]
pub struct EventPublisher {
    /// Whether anybody has ever listened.
    is_wanted: AtomicBool,
    stage: Mutex<Stage>,
}

#[derive(Default)]
enum Stage {
    /// Nobody has listened yet.
    #[default]
    Idle,
    Open(broadcast::Sender<NodeEvent>),
    /// The node has stopped.
    Closed,
}

impl EventPublisher {
    /// Tells those who listen of an event, which is made only if somebody does.
    pub(crate) fn publish(&self, event: impl FnOnce() -> NodeEvent) {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        if let Stage::Open(sender) = &*self.stage.lock()
            && sender.receiver_count() > 0
        {
            // Somebody listens, so there is no error.
            let _ = sender.send(event());
        }
    }

    /// Someone who listens from now on.
    pub(crate) fn listen(&self) -> Events {
        let mut stage = self.stage.lock();
        self.is_wanted.store(true, Ordering::Relaxed);
        Events(match &*stage {
            Stage::Open(sender) => sender.subscribe(),
            Stage::Idle => {
                let (sender, receiver) = broadcast::channel(MOST_WAITING);
                *stage = Stage::Open(sender);
                receiver
            }
            // The sender is gone at once, so there is an end, and nothing before it.
            Stage::Closed => broadcast::channel(1).1,
        })
    }

    /// Nothing happens any more.
    pub(crate) fn close(&self) {
        *self.stage.lock() = Stage::Closed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(group: u64) -> NodeEvent {
        NodeEvent::Failed { group: GroupId(group), reason: "as the test says".to_owned() }
    }

    #[tokio::test]
    async fn who_lags_is_told_how_much_was_missed_and_goes_on_with_what_is_there() {
        let publisher = EventPublisher::default();
        let mut events = publisher.listen();
        let count = MOST_WAITING as u64 + 5;
        (0..count).for_each(|group| publisher.publish(|| failed(group)));
        let Some(NodeEvent::Missed { events: missed }) = events.next().await else {
            panic!("nothing was missed");
        };
        assert!((1..=5).contains(&missed), "{missed}");
        for group in missed..count {
            assert_eq!(events.next().await, Some(failed(group)));
        }
        publisher.close();
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn what_nobody_hears_is_not_made_and_nobody_waits_for_a_node_that_has_stopped() {
        let publisher = EventPublisher::default();
        let unwanted = || -> NodeEvent { panic!("nobody listens") };
        publisher.publish(unwanted);
        drop(publisher.listen());
        publisher.publish(unwanted);
        let mut events = publisher.listen();
        publisher.publish(|| failed(1));
        publisher.close();
        publisher.publish(unwanted);
        assert_eq!(events.next().await, Some(failed(1)));
        assert_eq!(events.next().await, None);
        assert_eq!(publisher.listen().next().await, None);
    }
}
