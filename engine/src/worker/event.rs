//! The events of a worker: what can happen to it.

use crate::replica::event::GroupEvent;
use crate::replica::recovery::Recovery;
use crate::state_machine::{ApplyOn, StateMachine, StateReader};
use crate::turn::slot::Slot;
use crate::view::GroupView;
use logboat_raft::{Config, Confirmation, Epoch, GroupId, Message, NodeId, WriteSeq};
use logboat_storage::Poisoned;
use logboat_transport::RequestId;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// What can happen to a worker.
pub(crate) enum Event {
    /// A deadline of some replica has come.
    Tick,
    /// This node may promise from now on.
    Founded,
    /// This node supports a peer at an epoch from now on, or no longer.
    SupportForChanged(NodeId, Option<Epoch>),
    /// A peer supports this node at an epoch, or may no longer do so.
    SupportFromChanged(NodeId, Option<Epoch>),
    /// A peer has answered a round of this worker with the epoch at which it supports this node.
    Confirmed { from: NodeId, answer: Confirmation },
    /// There is time to hand leaderships to the replicas that are preferred.
    Rebalance,
    /// Messages of one peer to replicas of this worker.
    Messages { from: NodeId, messages: Vec<(GroupId, Message)> },
    /// Something for one replica, from this process.
    Local(Slot, GroupEvent),
    /// Something for one replica, if it is here.
    Group(GroupId, GroupEvent),
    /// A request of another node.
    Remote { from: NodeId, id: RequestId, group: GroupId, event: GroupEvent },
    /// The oldest batch that was not durable is.
    Durable(Vec<(Slot, WriteSeq)>),
    /// The connection to a node broke.
    Disconnected(NodeId),
    /// The log wants these groups, if they are here, to make a snapshot, or refuses them.
    Compact(Vec<GroupId>),
    /// Nothing will become durable any more.
    Poisoned(Poisoned),
    /// A replica to start.
    Start(Box<StartGroup>),
    /// End the replica of a group in this slot, which has failed. Told when all that it wrote is
    /// durable.
    Retire(GroupId, Slot, Sender<Result<(), Poisoned>>),
    /// The node is about to stop: hand over leaderships. Rounds count from zero.
    Transfer {
        /// Which round of the handover it is.
        round: usize,
    },
    /// The node stops. Told when everything is handed over.
    Stop(Sender<()>),
}

impl Event {
    /// Whether it is a read that may be served on a lease.
    pub(crate) fn wants_lease(&self) -> bool {
        matches!(
            self,
            Self::Local(_, GroupEvent::Read(_, mode))
                | Self::Remote { event: GroupEvent::Read(_, mode), .. } if mode.lease
        )
    }
}

/// A replica to start.
pub(crate) struct StartGroup {
    pub(crate) config: Config,
    pub(crate) recovery: Recovery,
    pub(crate) machine: Box<dyn StateMachine>,
    pub(crate) reader: Option<Arc<dyn StateReader>>,
    pub(crate) apply_on: ApplyOn,
    pub(crate) view: Arc<GroupView>,
    /// Told when the replica runs.
    pub(crate) done: Sender<Slot>,
}
