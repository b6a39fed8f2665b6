//! What waits while the state machine takes over a leader's snapshot.
//!
//! The snapshot becomes the replica's own before the log says so, and the state machine has to take
//! it first. So the outputs of the core that follow wait, and with them whatever happens to the
//! replica. To the others it is silent meanwhile.

use crate::replica::event::GroupEvent;
use crate::replica::group::Group;
use logboat_raft::{Output, SnapshotMeta};

/// How many messages of peers wait. More are lost, like any message may be.
const MOST_MESSAGES: usize = 64;

/// A snapshot that the state machine takes over.
pub(super) struct Restoring {
    /// What it is of.
    pub(super) meta: SnapshotMeta,
    /// What the core wants then.
    pub(super) then: Vec<Output>,
    /// What happened meanwhile.
    pub(super) events: Vec<GroupEvent>,
}

impl Restoring {
    pub(super) const fn new(meta: SnapshotMeta, then: Vec<Output>) -> Self {
        Self { meta, then, events: Vec::new() }
    }

    /// Takes an event that has to wait. Returns one that has not to.
    fn hold(&mut self, event: GroupEvent) -> Option<GroupEvent> {
        match event {
            // Requests are refused, and time is over for proposals of an earlier leadership.
            GroupEvent::Propose(_)
            | GroupEvent::ProposeAll(_)
            | GroupEvent::Read(..)
            | GroupEvent::Change(_)
            | GroupEvent::AskedTransfer(_)
            | GroupEvent::ReadLocal(_)
            | GroupEvent::Tick
            | GroupEvent::Founders { .. }
            | GroupEvent::Called(_)
            | GroupEvent::Stuck
            | GroupEvent::Stop(_)
            | GroupEvent::Fail(_)
            | GroupEvent::Remove(_)
            | GroupEvent::Halt => return Some(event),
            // The replica asked for these, so there are few.
            GroupEvent::LogRead { .. }
            | GroupEvent::SnapshotWritten(_)
            | GroupEvent::SnapshotSent { .. } => self.events.push(event),
            GroupEvent::Message { .. } if self.events.len() < MOST_MESSAGES => {
                self.events.push(event);
            }
            // The replica is a follower. It is told of support and of time when it goes on.
            GroupEvent::Message { .. }
            | GroupEvent::Founded
            | GroupEvent::SupportChanged
            | GroupEvent::Confirmed
            | GroupEvent::Disconnected(_)
            | GroupEvent::Compact
            | GroupEvent::Transfer(_)
            | GroupEvent::TransferIfCaughtUp(_) => {}
            #[cfg(feature = "internals")]
            GroupEvent::Campaign => {}
        }
        None
    }
}

impl Group {
    /// Takes an event that has to wait for the state machine. Returns one that has not to.
    pub(super) fn hold(&mut self, event: GroupEvent) -> Option<GroupEvent> {
        match &mut self.restoring {
            Some(restoring) => restoring.hold(event),
            None => self.hold_log_read(event),
        }
    }
}
