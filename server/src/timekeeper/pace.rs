//! How much of a node's time goes into freeing expired keys.

use crate::kv::Sweeps;
use std::time::{Duration, Instant};

/// What sweeps may take of a worker's time, in percent, as long as nobody needs the memory. The
/// groups of a node share it, whichever node leads them.
const BASE_PERCENT: u64 = 4;

/// What they take at the most.
const MOST_PERCENT: u64 = 50;

/// The share doubles whenever a group has waited for so long. So it rises where keys expire faster
/// than it allows, and the memory that they take has a bound.
const DOUBLING: Duration = Duration::from_secs(15);

/// What a tick takes beside the sweep, about, on its way through the log.
const TICK: Duration = Duration::from_micros(50);

/// What was not spent can be spent later, but no more than that of such a time. Otherwise many
/// groups would sweep at once, after a pause.
const SAVED: Duration = Duration::from_millis(25);

/// A tick is sent after this time, however long the ones before it took. They may have been many
/// that a replica had missed.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A budget of time, which fills up while it passes.
#[derive(Debug)]
pub(super) struct Pace {
    percent: u64,
    /// What may be spent, in nanoseconds; less than nothing after a long sweep.
    balance_ns: i64,
    /// When that was reckoned, and what sweeps there had been.
    at: Instant,
    known: Sweeps,
    /// How long a sweep took of late.
    sweep_ns: i64,
}

impl Pace {
    /// A budget that begins at `now`, after these sweeps.
    pub(super) const fn new(now: Instant, known: Sweeps) -> Self {
        Self { percent: BASE_PERCENT, balance_ns: 0, at: now, known, sweep_ns: 0 }
    }

    /// A group has waited for so long, and none for longer. Whether the memory is needed.
    pub(super) fn adjust(&mut self, longest_wait: Duration, is_needed: bool) {
        let doublings = longest_wait.as_secs() / DOUBLING.as_secs();
        let percent = BASE_PERCENT << doublings.min(8);
        self.percent = if is_needed { MOST_PERCENT } else { percent.min(MOST_PERCENT) };
    }

    /// How many groups may hear the time at `now`, after these sweeps: one at least.
    ///
    /// # Errors
    /// None may. Says how long to wait.
    pub(super) fn allowed(&mut self, now: Instant, sweeps: Sweeps) -> Result<usize, Duration> {
        self.reckon(now, sweeps);
        if self.balance_ns < 0 {
            let missing_ns = self.balance_ns.unsigned_abs();
            return Err(Duration::from_nanos(missing_ns * 100 / self.percent + 1));
        }
        Ok(usize::try_from(self.balance_ns / (nanoseconds(TICK) + self.sweep_ns)).unwrap_or(0) + 1)
    }

    /// So many ticks are sent. What they cost beside their sweeps is spent.
    pub(super) fn spend(&mut self, ticks: usize) {
        let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
        self.balance_ns = self.balance_ns.saturating_sub(nanoseconds(TICK).saturating_mul(ticks));
    }

    fn reckon(&mut self, now: Instant, sweeps: Sweeps) {
        let count = sweeps.count.saturating_sub(self.known.count);
        let spent_ns = nanoseconds(sweeps.time.saturating_sub(self.known.time));
        if let Some(mean_ns) = spent_ns.checked_div(i64::try_from(count).unwrap_or(i64::MAX)) {
            self.sweep_ns = (3 * self.sweep_ns + mean_ns) / 4;
        }
        let gained_ns = self.share_of(now.saturating_duration_since(self.at));
        let (least_ns, most_ns) = (-self.share_of(LONGEST_PAUSE), self.share_of(SAVED));
        let balance_ns = self.balance_ns.saturating_add(gained_ns).min(most_ns);
        self.balance_ns = balance_ns.saturating_sub(spent_ns).max(least_ns);
        (self.at, self.known) = (now, sweeps);
    }

    /// What may be spent in such a time.
    fn share_of(&self, time: Duration) -> i64 {
        nanoseconds(time) / 100 * self.percent.cast_signed()
    }
}

/// Up to some ten years, so that sums do not overflow.
fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX).min(1 << 58)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that leads some groups, and the time there.
    struct Node {
        pace: Pace,
        now: Instant,
        sweeps: Sweeps,
    }

    impl Node {
        fn new() -> Self {
            let (now, sweeps) = (Instant::now(), Sweeps::default());
            Self { pace: Pace::new(now, sweeps), now, sweeps }
        }

        /// Sends ticks for so long, each of which takes `sweep`. They are answered after 2 ms.
        /// Returns how many there were, and how many at once at the most.
        fn run(&mut self, time: Duration, sweep: Duration) -> (u32, u32) {
            let until = self.now + time;
            let (mut sent, mut most) = (0, 0);
            while self.now < until {
                match self.pace.allowed(self.now, self.sweeps) {
                    Ok(count) => {
                        self.pace.spend(count);
                        let count = u32::try_from(count).unwrap();
                        (sent, most) = (sent + count, most.max(count));
                        self.sweeps.count += u64::from(count);
                        self.sweeps.time += sweep * count;
                        self.now += Duration::from_millis(2);
                    }
                    Err(pause) => self.now += pause.min(until - self.now),
                }
            }
            (sent, most)
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn sweeps_take_their_share_however_long_each_of_them_takes() {
        for sweep_us in [0, 10, 200, 5_000] {
            let (mut node, sweep) = (Node::new(), Duration::from_micros(sweep_us));
            node.run(SECOND, sweep);
            let (sent, most) = node.run(10 * SECOND, sweep);
            let spent = (sweep + TICK) * sent;
            assert!((spent.as_millis().abs_diff(400)) < 20, "{spent:?} for {sweep:?}");
            assert!(sweep * (most - 1) <= SECOND / 1_000, "{most} sweeps of {sweep:?} at once");
        }
    }

    #[test]
    fn a_pause_is_followed_by_few_sweeps_at_once() {
        let (mut node, sweep) = (Node::new(), Duration::from_micros(200));
        node.run(SECOND, sweep);
        node.now += 100 * SECOND;
        let (_, most) = node.run(SECOND, sweep);
        assert!((2..=5).contains(&most), "{most} at once");
    }

    #[test]
    fn the_share_rises_while_groups_wait_and_when_the_memory_is_needed() {
        let sweep = Duration::from_micros(200);
        let share = |waited_secs, is_needed| {
            let mut node = Node::new();
            node.pace.adjust(Duration::from_secs(waited_secs), is_needed);
            let (sent, _) = node.run(10 * SECOND, sweep);
            (((sweep + TICK) * sent).as_millis() + 50) / 100
        };
        assert_eq!(share(14, false), 4);
        assert_eq!(share(15, false), 8);
        assert_eq!(share(45, false), 32);
        assert_eq!(share(1_000_000, false), 50);
        assert_eq!(share(0, true), 50);
    }

    #[test]
    fn many_sweeps_that_others_asked_for_hold_up_none_for_long() {
        let mut node = Node::new();
        node.sweeps = Sweeps { count: 100_000, time: 60 * SECOND };
        let (sent, _) = node.run(2 * SECOND, Duration::from_micros(200));
        assert!(sent > 100, "{sent} ticks");
    }
}
