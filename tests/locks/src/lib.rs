//! The locks of `parking_lot`, as far as Logboat's concurrent parts use them, driven by the
//! scheduler `shuttle`. It runs the threads of a test one at a time, and switches between them
//! wherever they meet, in thousands of ways. It notices a deadlock: all threads wait.
//!
//! A file that is tested like this takes its locks from its parent module (`use super::Mutex`). The
//! parent has them from `parking_lot`. A module of tests has them from here, and includes the same
//! file once more by `#[path]`. So the tested code is the code that runs, and nothing in it tells
//! of the tests.

pub use shuttle::{future, thread};
use std::env;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

/// How many schedules a test tries, unless the environment variable `LOGBOAT_SCHEDULES` says
/// otherwise.
const SCHEDULES: usize = 1_000;

/// Runs `test`, which may spawn [`thread`]s, under many schedules. Half of them are random. The
/// others have few switches, at random moments, as in Burckhardt and others, "A randomized
/// scheduler with probabilistic guarantees of finding bugs" (ASPLOS 2010).
///
/// # Panics
/// When `test` panics under one of them, or when all its threads wait. The message has what
/// `shuttle::replay` needs to do the same again.
pub fn explore(test: impl Fn() + Send + Sync + 'static) {
    let wanted = env::var("LOGBOAT_SCHEDULES").ok().and_then(|number| number.parse().ok());
    let schedules = wanted.unwrap_or(SCHEDULES);
    let test = std::sync::Arc::new(test);
    let again = std::sync::Arc::clone(&test);
    shuttle::check_random(move || test(), schedules / 2);
    shuttle::check_pct(move || again(), schedules / 2, 3);
}

/// A mutex whose holder may be interrupted.
#[derive(Debug, Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A mutex around `value`.
    pub const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    /// Waits for the mutex. One whose holder panicked is taken all the same.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The value, which nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds a [`Mutex`].
#[derive(Debug)]
pub struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

const HELD: &str = "a guard lacks its lock only while a condition variable waits with it";

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(HELD)
    }
}

/// A condition variable for holders of a [`Mutex`].
#[derive(Debug, Default)]
pub struct Condvar(shuttle::sync::Condvar);

impl Condvar {
    /// A condition variable that no thread waits for.
    #[must_use]
    pub const fn new() -> Self {
        Self(shuttle::sync::Condvar::new())
    }

    /// Lets go of the mutex until somebody notifies.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.0.take().expect(HELD);
        guard.0 = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
    }

    /// Wakes one of those who wait.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
