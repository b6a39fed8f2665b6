//! The watchdog of a node: it looks for calls of user code that take too long.
//!
//! A call can't be taken off its thread. So its worker is: the worker's state, which no call
//! borrows, goes on with a fresh thread, and the call keeps the old one until it returns. The same
//! happens to a thread of a pool. Counting looks, rather than time, judges nobody by a moment in
//! which the whole process stood still.

use crate::background::guard::{Guard, contain};
use crate::background::stuck_calls::{CallThread, StuckCalls};
use crate::background::user_code::{LOOKS, UserCode};
use crate::status::UserCode as Code;
use crate::worker::WorkerCell;
use crate::worker::runtime::Arbiters;
use crate::worker::state::Calling;
use actix::{Actor, Arbiter, AsyncContext, Context};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The actor that looks.
pub(crate) struct Watchdog {
    watched: Vec<Watched>,
    user_code: UserCode,
    timeout: Duration,
    arbiters: Arbiters,
    guard: Guard,
}

/// A worker, and the call that it made at the last look.
struct Watched {
    cell: Arc<WorkerCell>,
    seen: Option<Seen>,
}

struct Seen {
    calling: Calling,
    since: Instant,
    /// How often it was seen since.
    looks: u32,
    /// It is known to take too long, and there is no thread to go on with.
    is_noted: bool,
}

impl Actor for Watchdog {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.run_interval(self.timeout / LOOKS, |watchdog, _| {
            let guard = watchdog.guard.clone();
            guard.run("the watchdog", || watchdog.look());
        });
    }
}

impl Watchdog {
    pub(crate) fn new(
        cells: &[Arc<WorkerCell>],
        user_code: UserCode,
        timeout: Duration,
        arbiters: Arbiters,
        guard: Guard,
    ) -> Self {
        let watch = |cell: &Arc<WorkerCell>| Watched { cell: Arc::clone(cell), seen: None };
        let watched = cells.iter().map(watch).collect();
        Self { watched, user_code, timeout, arbiters, guard }
    }

    fn look(&mut self) {
        for number in 0..self.watched.len() {
            if let Some((calling, since)) = self.watched[number].look(&self.user_code.stuck) {
                self.relieve(number, calling, since);
            }
        }
        self.user_code.look();
    }

    /// Has a worker go on with a fresh thread, without the state machine that it calls.
    fn relieve(&mut self, number: usize, calling: Calling, since: Instant) {
        let Self { watched, arbiters, user_code: UserCode { stuck, .. }, guard, .. } = self;
        let Watched { cell, seen } = &mut watched[number];
        if !stuck.begin(calling.group, Code::StateMachine, since) {
            if let Some(seen) = seen {
                seen.is_noted = true;
            }
            return;
        }
        let arbiter = match contain(Arbiter::new) {
            Ok(arbiter) => arbiter,
            Err(error) => {
                tracing::error!("no thread for a worker to go on with: {error}");
                return stuck.end(calling.group, Code::StateMachine, CallThread::Left);
            }
        };
        if cell.leave_call(calling) {
            cell.work_on(&arbiter, guard.clone());
            // The old thread ends by itself, when the call returns.
            drop(arbiters.replace(number, arbiter));
        } else {
            stuck.end(calling.group, Code::StateMachine, CallThread::Left);
            arbiter.stop();
        }
        *seen = None;
    }
}

impl Watched {
    /// Returns the call that goes on if it takes too long by now.
    fn look(&mut self, stuck: &StuckCalls) -> Option<(Calling, Instant)> {
        let calling = self.cell.calling();
        if let Some(seen) = &mut self.seen
            && calling == Some(seen.calling)
        {
            seen.looks += 1;
            let is_late = seen.looks >= LOOKS && !seen.is_noted;
            return is_late.then_some((seen.calling, seen.since));
        }
        if let Some(seen) = self.seen.take()
            && seen.is_noted
        {
            stuck.end(seen.calling.group, Code::StateMachine, CallThread::Shared);
        }
        self.seen = calling.map(|calling| Seen {
            calling,
            since: Instant::now(),
            looks: 0,
            is_noted: false,
        });
        None
    }
}
