//! Snapshots of a replica: when one is due, how it is sent, and how a leader's is adopted.

use crate::error::RequestError;
use crate::events::NodeEvent;
use crate::replica::event::SnapshotOffer;
use crate::replica::group::Group;
use crate::replica::group::held::Restoring;
use crate::replica::group::requests::Requests;
use crate::replica::request::Capture;
use crate::replica::run_context::RunContext;
use crate::state_machine::{CapturedState, SnapshotWriter};
use crate::turn::jobs::SnapshotJob;
use logboat_raft::{Input, NodeId, Output, SnapshotMeta};
use std::sync::Arc;

impl Group {
    /// Starts a snapshot of the state after all that was handed to the state machine, unless one is
    /// being written. A replica that was added later does not know from the start who belongs to
    /// the group, which a snapshot has to say.
    pub(super) fn snapshot(&mut self, run: &mut RunContext<'_>) {
        if self.configuration.members().is_empty() {
            return;
        }
        let is_awaited = self.on_disk.as_ref().is_some_and(|state| !state.awaited.is_empty());
        let is_new = self.handed.index > self.raft.snapshot().index || is_awaited;
        if self.halted || self.snapshot_running || !is_new {
            return;
        }
        if self.on_disk.as_ref().is_some_and(|state| state.is_ahead_of(self.handed)) {
            return;
        }
        self.snapshot_running = true;
        self.applied_bytes = 0;
        if self.on_disk.is_some() && !is_awaited {
            run.scratch.tasks.sync();
        } else {
            run.scratch.tasks.capture();
        }
    }

    /// What a leader has offered is being checked, or no more. The next leader hears what the
    /// replica lacks: it does not know of the offer. Of several offers the last one counts.
    pub(super) fn offer_checked(&mut self, offer: SnapshotOffer, is_over: bool) {
        if !is_over {
            self.checked = Some(Box::new(offer));
        } else if self.checked.as_deref() == Some(&offer) {
            self.checked = None;
        }
    }

    /// The state was captured after the last entry that was applied.
    pub(super) fn captured(&self, run: &mut RunContext<'_>, writer: SnapshotWriter) {
        run.turn.snapshots.push(SnapshotJob::Write {
            group: self.id,
            slot: self.slot,
            meta: SnapshotMeta {
                last: self.applied,
                configuration: Arc::clone(&self.configuration),
            },
            writer,
        });
    }

    /// Has the state captured for a caller, after all that was handed to the state machine. It is
    /// not captured for one who has it already.
    pub(super) fn capture_for(&self, run: &mut RunContext<'_>, capture: Box<Capture>) {
        if capture.knows(self.handed) {
            return capture.answer(Ok(CapturedState { last: self.handed, writer: None }));
        }
        // Which entry such a state has is known when the replica has come so far.
        if self.on_disk.as_ref().is_some_and(|state| state.is_ahead_of(self.handed)) {
            return capture.answer(Err(RequestError::Busy));
        }
        run.scratch.tasks.capture_for(capture);
    }

    pub(super) fn snapshot_written(
        &mut self,
        run: &mut RunContext<'_>,
        meta: Option<SnapshotMeta>,
    ) {
        self.snapshot_running = false;
        self.due_bytes = self.shared.snapshot_log_bytes;
        // A leader's snapshot may have overtaken ours.
        let begin = self.raft.snapshot().index;
        let is_written = meta.is_some();
        if let Some(meta) = meta.filter(|meta| meta.last.index > begin) {
            let (group, last) = (self.id, meta.last);
            self.shared.events.publish(|| NodeEvent::SnapshotMade { group, last });
            self.step(run, Input::Compact { meta });
        }
        self.send_awaited(run, is_written);
    }

    /// The bytes have left, so the core's offer follows on the same connection.
    pub(super) fn snapshot_sent(
        &mut self,
        run: &mut RunContext<'_>,
        to: NodeId,
        meta: Option<SnapshotMeta>,
    ) {
        let input = match meta {
            Some(meta) => Input::SnapshotSent { to, meta },
            None => Input::SnapshotFailed { to },
        };
        self.step(run, input);
    }

    /// Has the state machine take over a leader's snapshot. What the core wants `then` waits for
    /// that, and so does whatever happens meanwhile.
    pub(super) fn restore(
        &mut self,
        run: &mut RunContext<'_>,
        meta: SnapshotMeta,
        then: Vec<Output>,
    ) {
        self.forget_queries(run);
        run.scratch.tasks.restore(Arc::clone(&run.turn.storage), self.id, meta.clone());
        self.restoring = Some(Box::new(Restoring::new(meta, then)));
    }

    /// The state machine has taken over a leader's snapshot. Only now the snapshot replaces the one
    /// that this node has: a replica whose state machine refuses it can start again from there.
    pub(super) fn restored(&mut self, run: &mut RunContext<'_>) {
        let Some(restoring) = self.restoring.take() else {
            return;
        };
        let offers: Vec<_> = restoring.received().collect();
        let Restoring { meta: SnapshotMeta { last, configuration }, then, events } = *restoring;
        let adopted = run.turn.storage.adopt_snapshot(self.id, last);
        if let Err(error) = adopted {
            for last in offers {
                run.turn.storage.discard_snapshot(self.id, last);
            }
            return self.fail(run, &format!("the leader's snapshot at {last}: {error}"));
        }
        let group = self.id;
        self.shared.events.publish(|| NodeEvent::SnapshotReceived { group, last });
        self.proposals.covered(run.turn, last.index);
        self.handed = last;
        self.applied = last;
        if let Some(state) = &mut self.on_disk {
            state.replaced(last, Arc::clone(&configuration));
        }
        self.configuration = configuration;
        self.applied_bytes = 0;
        self.due_bytes = self.shared.snapshot_log_bytes;
        self.carry_out(run, then);
        let mut requests = Requests::default();
        for event in events {
            // The first of them may bring another snapshot to take over.
            if let Some(event) = self.hold(run, event) {
                self.handle(run, &mut requests, event);
            }
        }
        self.take_in_requests(run, requests);
        // It may have missed either.
        self.step(run, Input::SupportChanged);
        self.step(run, Input::Tick);
    }
}
