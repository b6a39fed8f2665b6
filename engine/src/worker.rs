//! A worker: the actor that runs the replicas of one arbiter (one thread). It runs those that have
//! something to do, and flushes what they produced in a turn: one batch for the log, one buffer for
//! each peer.
//!
//! User code is called while nobody has the worker's state. A call that takes too long keeps its
//! thread, and the state goes on with an actor on a fresh one, see [`watchdog`].

pub(crate) mod alarms;
pub(crate) mod departed;
pub(crate) mod event;
mod event_pool;
pub(crate) mod inbox;
#[cfg(test)]
mod interleavings;
mod misplaced;
mod prefetch;
mod queue;
mod replica_cell;
mod replicas;
pub(crate) mod runtime;
pub(crate) mod state;
mod ticker;
pub(crate) mod wait_lists;
mod watchdog;

use crate::background::guard::Guard;
use crate::background::stuck_calls::{CallThread, StuckCalls};
use crate::replica::call::EndedCall;
use crate::replica::event::GroupEvent;
use crate::status::UserCode;
use crate::worker::event::Event;
use crate::worker::inbox::{Drain, WorkerInbox};
use crate::worker::state::{Calling, Next, WorkerState};
use actix::{Actor, Arbiter, AsyncContext, Context, Handler};
// The tests of interleavings have other locks.
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

/// What all threads that a worker has had share: its state, which one of them has.
pub(crate) struct WorkerCell {
    inbox: Arc<WorkerInbox>,
    stuck: Arc<StuckCalls>,
    shift: Mutex<Shift>,
}

/// Whose turn it is to work.
struct Shift {
    /// Counts the threads that this worker has had.
    thread: u64,
    /// The state. `None` once the node has stopped.
    state: Option<WorkerState>,
}

/// The actor that runs the replicas of a worker, on one of its threads.
pub(crate) struct Worker {
    cell: Arc<WorkerCell>,
    /// Which of the worker's threads this is.
    thread: u64,
    guard: Guard,
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Drop for Worker {
    /// Whoever posted something, or does it yet, must not wait for a worker that is gone.
    fn drop(&mut self) {
        if self.cell.shift.lock().thread == self.thread {
            self.cell.inbox.close();
        }
    }
}

impl Handler<Drain> for Worker {
    type Result = ();

    fn handle(&mut self, Drain: Drain, context: &mut Context<Self>) {
        self.guard.run("a worker", || self.turn(context));
    }
}

impl Worker {
    /// A turn. The state is this thread's, but for the time in which a state machine is called. It
    /// may go on with another thread meanwhile.
    fn turn(&self, context: &mut Context<Self>) {
        // Whoever is about to post something goes first, so that turns grow when the processor is
        // short.
        std::thread::yield_now();
        let mut called = None;
        loop {
            let mut shift = self.cell.shift.lock();
            let is_own = shift.thread == self.thread;
            let Some(state) = shift.state.as_mut().filter(|_| is_own) else {
                drop(shift);
                return self.leave(called);
            };
            let next = state.go_on(called.map(|(_, ended)| ended));
            drop(shift);
            match next {
                Next::Call(calling, call) => called = Some((calling, call.run())),
                Next::Over { wants_turn } => {
                    if wants_turn {
                        context.notify(Drain);
                    }
                    return;
                }
            }
        }
    }

    /// Ends this thread, whose place another has taken. The replica is told what came of the call
    /// that took so long.
    fn leave(&self, called: Option<(Calling, EndedCall)>) {
        if let Some((Calling { slot, group, .. }, ended)) = called {
            self.cell.stuck.end(group, UserCode::StateMachine, CallThread::Left);
            let event = GroupEvent::Called(Box::new(ended));
            self.cell.inbox.post(Event::Local(slot, event));
        }
        Arbiter::current().stop();
    }
}

impl WorkerCell {
    pub(crate) fn new(
        inbox: Arc<WorkerInbox>,
        stuck: Arc<StuckCalls>,
        state: WorkerState,
    ) -> Arc<Self> {
        let shift = Mutex::new(Shift { thread: 0, state: Some(state) });
        Arc::new(Self { inbox, stuck, shift })
    }

    /// Starts the actor of the worker's newest thread on an arbiter, which is that thread.
    fn work_on(self: &Arc<Self>, arbiter: &Arbiter, guard: Guard) {
        let cell = Arc::clone(self);
        let thread = self.shift.lock().thread;
        arbiter.spawn_fn(move || {
            let inbox = Arc::clone(&cell.inbox);
            inbox.connect(Worker { cell, thread, guard }.start().recipient());
        });
    }

    /// The call of a state machine that goes on.
    fn calling(&self) -> Option<Calling> {
        // Whoever has the state does something else.
        let shift = self.shift.try_lock()?;
        shift.state.as_ref()?.calling()
    }

    /// If this call goes on, goes on without its state machine, and on another thread, for which
    /// [`Self::work_on`] must follow. Returns whether it does.
    fn leave_call(&self, calling: Calling) -> bool {
        let mut shift = self.shift.lock();
        let Some(state) = shift.state.as_mut().filter(|state| state.calling() == Some(calling))
        else {
            return false;
        };
        state.leave_call();
        shift.thread += 1;
        true
    }

    /// Drops the state, once the node has stopped. A thread that is stuck keeps its state machine
    /// alone.
    fn close(&self) {
        let state = self.shift.lock().state.take();
        self.inbox.close();
        drop(state);
    }
}
