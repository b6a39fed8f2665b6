//! What replicas on a node are worth.

use super::facts::{Heard, NodeFacts, Space};
use crate::table::NodeState;

/// What replicas on a node are worth to their groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The node is alive, keeps its replicas and takes new ones.
    Takes,
    /// It is alive and keeps its replicas. It is about to join, or its disk is full.
    Keeps,
    /// It is silent, and may come back.
    Silent,
    /// It is alive, and its replicas should go elsewhere.
    Emptied,
    /// Its replicas should go elsewhere, and it is silent.
    EmptiedSilent,
    /// It was given up for lost, and is there again. Its replicas count for majorities until
    /// others have taken their places.
    Returned,
    /// It is lost.
    Dead,
    /// It is alive, takes nothing yet, and does not count as one of the nodes.
    Joining,
}

impl Standing {
    /// `is_lost`: it has been silent for too long.
    pub(super) fn of(facts: &NodeFacts, is_lost: bool) -> Self {
        let is_alive = facts.heard == Heard::Now;
        match facts.state {
            NodeState::Lost if is_alive => Self::Returned,
            NodeState::Lost => Self::Dead,
            _ if is_lost => Self::Dead,
            NodeState::Draining | NodeState::Leaving if is_alive => Self::Emptied,
            NodeState::Draining | NodeState::Leaving => Self::EmptiedSilent,
            NodeState::Joining if is_alive => Self::Joining,
            NodeState::Up if is_alive && facts.space.is_some_and(Space::is_full) => Self::Keeps,
            NodeState::Up if is_alive => Self::Takes,
            NodeState::Joining | NodeState::Up => Self::Silent,
        }
    }

    /// Whether the node counts when the number of replicas is compared with that of the nodes.
    pub(super) const fn counts(self) -> bool {
        !matches!(self, Self::Dead | Self::Returned | Self::Joining)
    }

    pub(super) const fn is_alive(self) -> bool {
        matches!(self, Self::Takes | Self::Keeps | Self::Emptied | Self::Returned | Self::Joining)
    }

    /// Whether a replica there may stay.
    pub(super) const fn keeps(self) -> bool {
        matches!(self, Self::Takes | Self::Keeps | Self::Silent | Self::Joining)
    }

    pub(super) const fn is_dead(self) -> bool {
        matches!(self, Self::Dead)
    }
}
