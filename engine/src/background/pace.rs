//! The pace of snapshots (rate limiting): how fast a node sends them and takes them in, and how it
//! gives way to requests meanwhile.
//!
//! A thread that copies for long takes a processor from those that serve requests: it keeps one for
//! milliseconds before the scheduler lets others have it. So whoever copies does so in small pieces
//! and rests after each: for as long as the piece takes at the node's rate, and for as long as it
//! has had a processor, so that no copy takes more than half of one. A rest that ends late tells
//! that processors are short, and is followed by another one as long.

use parking_lot::{Condvar, Mutex};
use rustix::time::{ClockId, clock_gettime};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After how many bytes whoever copies rests.
const PIECE_BYTES: usize = 256 << 10;

/// Shorter rests are put off until they come together: a timer is no more exact.
const LEAST_REST: Duration = Duration::from_micros(200);

/// How late a rest may end on a machine that has nothing else to do.
const TIMER_SLACK: Duration = Duration::from_micros(200);

/// The longest rest on account of others. A copy gets on, however busy the machine.
const MOST_YIELDED: Duration = Duration::from_millis(20);

/// How far copies may fall behind the rate and catch up, since a disk kept them waiting.
const MOST_BEHIND: Duration = Duration::from_millis(10);

/// The paces of a node: both directions have the same rate, each for itself.
#[derive(Clone)]
pub(crate) struct Paces {
    /// Of what is sent to peers.
    pub(crate) leaving: Arc<Pace>,
    /// Of what peers send, until a state machine has taken it over.
    pub(crate) arriving: Arc<Pace>,
}

impl Paces {
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        Self { leaving: Pace::new(bytes_per_s), arriving: Pace::new(bytes_per_s) }
    }

    /// Changes the rate of what is copied from now on.
    pub(crate) fn set(&self, bytes_per_s: u64) {
        self.leaving.set(bytes_per_s);
        self.arriving.set(bytes_per_s);
    }

    /// Ends all rests: the node stops.
    pub(crate) fn end(&self) {
        self.leaving.end();
        self.arriving.end();
    }
}

/// A rate that all copies in one direction share.
pub(crate) struct Pace {
    state: Mutex<State>,
    /// The rests have ended for good.
    ended: Condvar,
}

struct State {
    bytes_per_s: u64,
    /// Until when what has been copied takes at the rate.
    taken_until: Instant,
    is_over: bool,
}

impl Pace {
    fn new(bytes_per_s: u64) -> Arc<Self> {
        let state = State { bytes_per_s, taken_until: Instant::now(), is_over: false };
        Arc::new(Self { state: Mutex::new(state), ended: Condvar::new() })
    }

    fn set(&self, bytes_per_s: u64) {
        self.state.lock().bytes_per_s = bytes_per_s;
    }

    fn end(&self) {
        self.state.lock().is_over = true;
        self.ended.notify_all();
    }

    /// Rests after a piece that counts for so many bytes at the rate, and for which the thread has
    /// had a processor for so long.
    fn rest(&self, bytes: usize, worked: Duration) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let until = state.until(bytes, worked, now);
        if state.is_over || until < now + LEAST_REST {
            return;
        }
        if self.ended.wait_until(&mut state, until).timed_out() {
            let late = until.elapsed().min(MOST_YIELDED);
            if late > TIMER_SLACK && !state.is_over {
                let until = Instant::now() + late;
                // Nothing of that is caught up.
                state.taken_until = state.taken_until.max(until);
                self.ended.wait_until(&mut state, until);
            }
        }
    }
}

impl State {
    /// Until when to rest. The time in which nothing was copied earns next to nothing, so that no
    /// copy begins with a burst.
    fn until(&mut self, bytes: usize, worked: Duration, now: Instant) -> Instant {
        let rested = now + worked.min(MOST_YIELDED);
        if bytes == 0 {
            return rested;
        }
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s.max(1) as f64);
        let earliest = now.checked_sub(MOST_BEHIND).unwrap_or(now);
        self.taken_until = self.taken_until.max(earliest) + takes;
        self.taken_until.max(rested)
    }
}

/// A copy: what one thread moves, a piece after the other.
pub(crate) struct Copying {
    pace: Arc<Pace>,
    /// Whether the bytes count at the rate. They do so once on their way through a node.
    is_counted: bool,
    /// How long the thread had had a processor when the piece was begun that is under way.
    began: Duration,
    /// The bytes of that piece until now.
    bytes: usize,
}

impl Copying {
    /// A copy whose bytes count at the rate.
    pub(crate) fn counted(pace: &Arc<Pace>) -> Self {
        Self { pace: Arc::clone(pace), is_counted: true, began: processor_time(), bytes: 0 }
    }

    /// One whose bytes have been counted before, or will be.
    pub(crate) fn uncounted(pace: &Arc<Pace>) -> Self {
        Self { is_counted: false, ..Self::counted(pace) }
    }

    /// The thread has done something else since the last piece, or is another one.
    pub(crate) fn begin(&mut self) {
        self.began = processor_time();
    }

    /// So many bytes have been copied. Rests if that makes a piece, or `is_last`.
    pub(crate) fn moved(&mut self, bytes: usize, is_last: bool) {
        self.bytes += bytes;
        if self.bytes >= PIECE_BYTES || is_last {
            let bytes = std::mem::take(&mut self.bytes);
            let worked = processor_time().saturating_sub(self.began);
            self.pace.rest(if self.is_counted { bytes } else { 0 }, worked);
            self.begin();
        }
    }
}

/// How long this thread has had a processor since it began.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// A reader that rests in between.
pub(crate) struct Paced<R> {
    pub(crate) reader: R,
    pub(crate) copying: Copying,
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.copying.moved(read, false);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const RATE: u64 = 1 << 20;
    const MS: Duration = Duration::from_millis(1);

    fn state(bytes_per_s: u64, start: Instant) -> State {
        State { bytes_per_s, taken_until: start, is_over: false }
    }

    #[test]
    fn all_copies_together_keep_to_the_rate_and_none_begins_with_a_burst() {
        let start = Instant::now();
        let mut state = state(RATE, start);
        let mut until = |now| state.until(RATE as usize / 2, Duration::ZERO, now);
        // Two copies at the same time.
        assert_eq!(until(start), start + 500 * MS);
        assert_eq!(until(start), start + 1_000 * MS);
        // One that a disk has kept waiting.
        assert_eq!(until(start + 1_005 * MS), start + 1_500 * MS);
        let later = start + 9_000 * MS;
        assert_eq!(until(later), later + 500 * MS - MOST_BEHIND);
    }

    #[test]
    fn a_copy_rests_as_long_as_it_works_but_gets_on() {
        let start = Instant::now();
        let mut state = state(u64::MAX, start);
        let later = start + 100 * MS;
        assert_eq!(state.until(1 << 20, 3 * MS, later), later + 3 * MS);
        assert_eq!(state.until(1 << 20, 900 * MS, later), later + MOST_YIELDED);
        // What others copy at the rate is nothing to one that is not counted.
        state.bytes_per_s = 1;
        state.until(1 << 20, Duration::ZERO, later);
        assert_eq!(state.until(0, MS, later), later + MS);
    }

    #[test]
    fn the_stop_of_the_node_ends_all_rests() {
        let paces = Paces::new(1);
        let mut copying = Copying::counted(&paces.arriving);
        let resting = thread::spawn(move || copying.moved(PIECE_BYTES, false));
        paces.end();
        resting.join().unwrap();
    }
}
