//! The answers to requests that are made together. They are gathered in one place, and their caller
//! is woken once.

use crate::error::RequestError;
use crate::request::kind::Answer;
use parking_lot::Mutex;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Where the answers are gathered.
pub(crate) struct Gathering(Mutex<State>);

struct State {
    /// The answers that have come and that the caller has not taken, each with the number of its
    /// request.
    come: Vec<(usize, Answer)>,
    /// How many have not come.
    missing: usize,
    /// Whether the caller takes answers as they come. Otherwise it waits for all of them.
    piecemeal: bool,
    caller: Option<Waker>,
}

impl Gathering {
    /// Gathers nothing yet.
    pub(crate) fn new() -> Arc<Self> {
        let state = State { come: Vec::new(), missing: 0, piecemeal: false, caller: None };
        Arc::new(Self(Mutex::new(state)))
    }

    /// The place of the answer to the request of this number.
    pub(crate) fn place(self: &Arc<Self>, number: usize) -> Place {
        Place { gathering: Some(Arc::clone(self)), number }
    }

    /// Waits for `missing` answers from now on, beside those that are known already.
    pub(crate) fn begin(&self, missing: usize, known: Vec<(usize, Answer)>) {
        let mut state = self.0.lock();
        state.come = known;
        state.come.reserve_exact(missing);
        state.missing = missing;
    }

    /// How many answers have not come.
    pub(crate) fn missing(&self) -> usize {
        self.0.lock().missing
    }

    /// From now on the caller takes answers as they come.
    pub(crate) fn take_piecemeal(&self) {
        self.0.lock().piecemeal = true;
    }

    /// Takes the answers that have come, once all have, or, piecemeal, once any has. `None` when
    /// all were taken.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Option<Vec<(usize, Answer)>>> {
        let mut state = self.0.lock();
        let is_time = state.missing == 0 || state.piecemeal && !state.come.is_empty();
        if is_time {
            let come = std::mem::take(&mut state.come);
            return Poll::Ready((!come.is_empty()).then_some(come));
        }
        match &mut state.caller {
            Some(caller) => caller.clone_from(context.waker()),
            caller @ None => *caller = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn add(&self, number: usize, answer: Answer) -> Option<Waker> {
        let mut state = self.0.lock();
        state.come.push((number, answer));
        state.missing -= 1;
        if state.missing == 0 || state.piecemeal { state.caller.take() } else { None }
    }
}

/// The place of one answer. Dropped without one, it leaves the outcome unknown.
pub(crate) struct Place {
    gathering: Option<Arc<Gathering>>,
    number: usize,
}

impl Place {
    /// Puts the answer there. Returns whom to wake, if the caller waits for nothing else.
    #[must_use]
    pub(crate) fn answer(mut self, answer: Answer) -> Option<Waker> {
        self.gathering.take()?.add(self.number, answer)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(gathering) = self.gathering.take()
            && let Some(caller) = gathering.add(self.number, Err(RequestError::TimedOut))
        {
            caller.wake();
        }
    }
}

/// Callers whose answers are there, to be woken together. Dropping it wakes them.
#[derive(Default)]
pub(crate) struct Callers(Vec<Waker>);

impl Callers {
    pub(crate) fn add(&mut self, caller: Option<Waker>) {
        self.0.extend(caller);
    }

    pub(crate) fn wake(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Caller(AtomicUsize);

    impl Wake for Caller {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Fixture {
        gathering: Arc<Gathering>,
        caller: Arc<Caller>,
    }

    impl Fixture {
        fn new(missing: usize) -> Self {
            let gathering = Gathering::new();
            gathering.begin(missing, Vec::new());
            Self { gathering, caller: Arc::default() }
        }

        fn poll(&self) -> Poll<Option<Vec<(usize, Answer)>>> {
            let waker = Waker::from(Arc::clone(&self.caller));
            self.gathering.poll(&Context::from_waker(&waker))
        }

        fn answer(&self, number: usize) {
            if let Some(caller) = self.gathering.place(number).answer(Ok(Bytes::new())) {
                caller.wake();
            }
        }

        fn wakes(&self) -> usize {
            self.caller.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn the_caller_of_many_requests_is_woken_once() {
        let fixture = Fixture::new(3);
        assert!(fixture.poll().is_pending());
        fixture.answer(2);
        fixture.answer(0);
        assert_eq!(fixture.wakes(), 0);
        assert!(fixture.poll().is_pending());
        fixture.answer(1);
        assert_eq!(fixture.wakes(), 1);
        let Poll::Ready(Some(answers)) = fixture.poll() else { panic!("all have come") };
        assert_eq!(answers.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(fixture.poll(), Poll::Ready(None));
    }

    #[test]
    fn who_takes_answers_piecemeal_hears_of_each() {
        let fixture = Fixture::new(2);
        fixture.answer(0);
        assert!(fixture.poll().is_pending());
        fixture.gathering.take_piecemeal();
        assert_eq!(fixture.poll(), Poll::Ready(Some(vec![(0, Ok(Bytes::new()))])));
        assert!(fixture.poll().is_pending());
        fixture.answer(1);
        assert_eq!(fixture.wakes(), 1);
        assert_eq!(fixture.poll(), Poll::Ready(Some(vec![(1, Ok(Bytes::new()))])));
        assert_eq!(fixture.poll(), Poll::Ready(None));
    }

    #[test]
    fn callers_are_woken_even_if_nobody_comes_to_do_it() {
        let fixture = Fixture::new(1);
        assert!(fixture.poll().is_pending());
        let mut callers = Callers::default();
        callers.add(fixture.gathering.place(0).answer(Ok(Bytes::new())));
        assert_eq!(fixture.wakes(), 0);
        drop(callers);
        assert_eq!(fixture.wakes(), 1);
    }

    #[test]
    fn a_request_that_is_dropped_leaves_its_outcome_unknown() {
        let fixture = Fixture::new(1);
        assert!(fixture.poll().is_pending());
        drop(fixture.gathering.place(0));
        assert_eq!(fixture.wakes(), 1);
        assert_eq!(fixture.poll(), Poll::Ready(Some(vec![(0, Err(RequestError::TimedOut))])));
    }
}
