//! Applying committed entries, those among them that had to be read back from the log.

use crate::error::RequestError;
use crate::replica::group::Group;
use crate::replica::run_context::RunContext;
use logboat_raft::{Entries, Entry, EntryKind, Index, Input, LogReadTarget};
use logboat_storage::ReadError;
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Group {
    pub(super) fn apply(&mut self, run: &mut RunContext<'_>, entries: Entries) {
        self.shared.metrics.applied.inc_by(entries.len() as u64);
        for entry in entries {
            let id = entry.id();
            self.applied_bytes += entry.data.len() as u64;
            let responder = self.proposals.applied(run.turn, id);
            match entry.kind {
                EntryKind::Noop => {}
                EntryKind::Command => {
                    let machine = AssertUnwindSafe(&mut self.machine);
                    let answer = catch_unwind(move || { machine }.apply(entry.data));
                    let panicked = answer.is_err();
                    if panicked {
                        self.fail(run, &format!("its state machine panicked at {id}"));
                    }
                    if let Some(responder) = responder {
                        responder.answer(run.turn, answer.map_err(|_| RequestError::TimedOut));
                    }
                    if panicked {
                        return;
                    }
                }
            }
            self.applied = id;
        }
        if self.applied_bytes >= self.shared.snapshot_log_bytes {
            self.snapshot(run);
        }
    }

    pub(super) fn log_read(
        &mut self,
        run: &mut RunContext<'_>,
        target: LogReadTarget,
        first: Index,
        entries: Result<Vec<Entry>, ReadError>,
    ) {
        if self.halted {
            return;
        }
        // A snapshot may have taken the place of what was to be applied meanwhile.
        let awaited = target == LogReadTarget::Apply && first == self.applied.index.next();
        match entries {
            Ok(entries) if entries.is_empty() && awaited => {
                self.fail(run, &format!("its log lacks the committed entry {first}"));
            }
            Ok(entries) => self.step(run, Input::LogRead { target, entries: entries.into() }),
            Err(error) => self.fail(run, &error.to_string()),
        }
    }
}
