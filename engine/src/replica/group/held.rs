//! What waits while the state machine takes over a leader's snapshot.
//!
//! The snapshot becomes the replica's own before the log says so, and the state machine has to take
//! it first. So the outputs of the core that follow wait, and with them whatever happens to the
//! replica. To the others it is silent meanwhile.

use crate::replica::event::{GroupEvent, SnapshotOffer};
use crate::replica::group::Group;
use crate::replica::run_context::RunContext;
use logboat_raft::{LogId, Output, SnapshotMeta};

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

    /// An event that offers a snapshot takes the place of the offer that waits: one does at the
    /// most. Returns the snapshot of the one that waited, which nobody takes over now. The same may
    /// have been received again for the other.
    fn supersede_offer(&mut self, event: &GroupEvent) -> Option<LogId> {
        event.offered_snapshot()?;
        let at = self.events.iter().position(|held| held.offered_snapshot().is_some())?;
        self.events.remove(at).offered_snapshot()
    }

    /// The snapshots that were received, that which is taken over and that which waits.
    pub(super) fn received(&self) -> impl Iterator<Item = LogId> {
        let held = self.events.iter().filter_map(GroupEvent::offered_snapshot);
        std::iter::once(self.meta.last).chain(held)
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
            | GroupEvent::SnapshotChecked { .. }
            | GroupEvent::Called(_)
            | GroupEvent::Stuck
            | GroupEvent::LogReadLate
            | GroupEvent::Queried { .. }
            | GroupEvent::QueryStuck(_)
            | GroupEvent::Stop(_)
            | GroupEvent::Fail(_)
            | GroupEvent::Remove(..)
            | GroupEvent::Halt => return Some(event),
            // The replica asked for these, so there are few.
            GroupEvent::LogRead { .. }
            | GroupEvent::SnapshotWritten(_)
            | GroupEvent::SnapshotSent { .. } => self.events.push(event),
            GroupEvent::Message { .. }
                if self.events.len() < MOST_MESSAGES || event.offered_snapshot().is_some() =>
            {
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
    pub(super) fn hold(
        &mut self,
        run: &mut RunContext<'_>,
        event: GroupEvent,
    ) -> Option<GroupEvent> {
        if let GroupEvent::Message { from, message } = &event
            && let Some(offer) = SnapshotOffer::of(*from, message)
        {
            // Another one may take its place before the replica takes it in.
            self.offer_checked(offer, true);
        }
        match &mut self.restoring {
            Some(restoring) => {
                if let Some(last) = restoring.supersede_offer(&event) {
                    run.turn.storage.discard_snapshot(self.id, last);
                }
                restoring.hold(event)
            }
            None => self.hold_log_read(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::{Configuration, Index, Message, NodeId, Payload, Term};
    use std::sync::Arc;

    fn meta(index: u64) -> SnapshotMeta {
        let last = LogId::new(Term(1), Index(index));
        SnapshotMeta { last, configuration: Arc::new(Configuration::unknown()) }
    }

    #[test]
    fn of_the_snapshots_that_are_offered_one_waits_and_none_is_forgotten() {
        let mut restoring = Restoring::new(meta(1), Vec::new());
        let message = |payload| GroupEvent::Message {
            from: NodeId(2),
            message: Message::of_founder(Term(1), payload),
        };
        let mut received = vec![meta(1).last];
        for index in [1, 2, 3, 3, 1, 4].into_iter().chain(5..100) {
            let offer = message(Payload::Snapshot { meta: meta(index) });
            if let Some(forgotten) = restoring.supersede_offer(&offer) {
                let at = received.iter().rposition(|last| *last == forgotten);
                received.remove(at.expect("it was received"));
            }
            received.push(meta(index).last);
            assert!(restoring.hold(offer).is_none());
            assert!(restoring.hold(message(Payload::TimeoutNow)).is_none());
            let kept: Vec<_> = restoring.received().collect();
            assert_eq!(kept, received, "after the offer of {index}");
        }
        assert_eq!(restoring.events.len(), MOST_MESSAGES);
    }
}
