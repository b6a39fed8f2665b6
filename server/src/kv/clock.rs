//! The clock of a node, and what it makes of the clock of a group.
//!
//! `docs/expiry.md` says who reads a clock when, and what follows from that.

use super::message::{needs_stamp, stamped, unstamped};
use bytes::Bytes;
use logboat::NodeTime;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// No time: nothing is waited for, or a key does not expire. No clock comes there.
pub(super) const NEVER: u64 = u64::MAX;

/// The latest time of a group, some 285,000 years from now. A stamp beyond it moves no clock.
pub(super) const LATEST_MS: u64 = 1 << 53;

/// The clock of a node, in milliseconds since 1970. Nobody sets it, and it goes on while the
/// machine sleeps.
#[derive(Debug)]
pub struct NodeClock {
    source: Source,
    /// Notified when a group has its first deadline.
    first_deadline: Notify,
    /// The sweeps of the groups that go by this clock.
    sweeps: AtomicU64,
    swept_ns: AtomicU64,
}

/// How often the groups of a node have heard the time for the sake of their memory, and how long it
/// took to free some. It says nothing about what is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweeps {
    /// How many times.
    pub count: u64,
    /// How long that took, all together.
    pub time: Duration,
}

#[derive(Debug)]
enum Source {
    /// The clock that the node has from its peers.
    Node(NodeTime),
    /// The wall clock when it is made. Since then it counts `CLOCK_BOOTTIME`.
    Alone { started_ms: u64, boot: Duration },
    /// A clock that tests set, and how long it says that the node has been running.
    Manual { now_ms: AtomicU64, running_ms: AtomicU64 },
}

impl NodeClock {
    /// The clock of a node of a cluster.
    #[must_use]
    pub fn of_node(time: NodeTime) -> Self {
        Self::of(Source::Node(time))
    }

    /// The clock of a machine that has no peers, from now on.
    #[must_use]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::of(Source::Alone { started_ms: milliseconds(wall), boot: since_boot() })
    }

    /// A clock that stands at `now_ms` until it is [`set`](Self::set).
    #[must_use]
    pub fn manual(now_ms: u64) -> Self {
        let running_ms = AtomicU64::new(now_ms);
        Self::of(Source::Manual { now_ms: AtomicU64::new(now_ms), running_ms })
    }

    fn of(source: Source) -> Self {
        let (sweeps, swept_ns) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { source, first_deadline: Notify::new(), sweeps, swept_ns }
    }

    /// Sets a clock that was made by [`manual`](Self::manual), also back. Others stay as they are.
    pub fn set(&self, now_ms: u64) {
        self.set_apart(now_ms, now_ms);
    }

    /// As [`set`](Self::set), for a node that has been running for so long, whatever it makes of
    /// the time.
    pub fn set_apart(&self, now_ms: u64, running_ms: u64) {
        if let Source::Manual { now_ms: now, running_ms: running } = &self.source {
            now.store(now_ms, Ordering::Relaxed);
            running.store(running_ms, Ordering::Relaxed);
        }
    }

    /// Waits until one of the groups that go by this clock has a deadline where it had none. One
    /// that came before the call counts, too.
    pub async fn first_deadline(&self) {
        self.first_deadline.notified().await;
    }

    /// The sweeps so far of the groups that go by this clock.
    #[must_use]
    pub fn sweeps(&self) -> Sweeps {
        let time = Duration::from_nanos(self.swept_ns.load(Ordering::Relaxed));
        Sweeps { count: self.sweeps.load(Ordering::Relaxed), time }
    }

    /// What the clock shows.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match &self.source {
            Source::Node(time) => time.unix_ms(),
            Source::Alone { started_ms, .. } => started_ms.saturating_add(self.running_ms()),
            Source::Manual { now_ms, .. } => now_ms.load(Ordering::Relaxed),
        }
    }

    /// How long the node has been running, in milliseconds. What the node makes of its peers'
    /// clocks changes nothing about that.
    fn running_ms(&self) -> u64 {
        match &self.source {
            Source::Node(time) => time.running_ms(),
            Source::Alone { boot, .. } => milliseconds(since_boot().saturating_sub(*boot)),
            Source::Manual { running_ms, .. } => running_ms.load(Ordering::Relaxed),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
}

/// What a node knows of the clock of one group: shared by the group's store, which applies what the
/// log says, and those who write the time into the log.
#[derive(Debug)]
pub struct GroupTime {
    clock: Arc<NodeClock>,
    /// The group's clock, as of what was applied here.
    group_ms: AtomicU64,
    /// What the group's clock was when the node began to run, reckoned from what was applied here
    /// and when, at the latest. So the node goes on where the leader before it was, whatever it
    /// makes of its peers' clocks meanwhile.
    group_origin_ms: AtomicI64,
    /// No key has a deadline before this one.
    earliest_ms: AtomicU64,
    /// When the store wants to hear the time for the sake of its memory.
    next_tick_ms: AtomicU64,
}

impl GroupTime {
    /// The time of a group of which nothing was applied.
    #[must_use]
    pub fn new(clock: Arc<NodeClock>) -> Self {
        Self {
            clock,
            group_ms: AtomicU64::new(0),
            group_origin_ms: AtomicI64::new(i64::MIN),
            earliest_ms: AtomicU64::new(NEVER),
            next_tick_ms: AtomicU64::new(NEVER),
        }
    }

    /// The time that this node would write into the log now. Never less than the group's clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let origin = self.group_origin_ms.load(Ordering::Relaxed);
        let goes_on = self.clock.running_ms().saturating_add_signed(origin);
        let group = self.group_ms.load(Ordering::Relaxed);
        self.clock.now_ms().max(goes_on).max(group).min(LATEST_MS)
    }

    /// Whether the time has to be written into the log for the sake of the store's memory.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.next_tick_ms.load(Ordering::Relaxed) <= self.now_ms()
    }

    /// Whether any key has a deadline.
    #[must_use]
    pub fn has_deadlines(&self) -> bool {
        self.next_tick_ms.load(Ordering::Relaxed) != NEVER
    }

    /// A command as the leader proposes it: with the time, if the command goes by it, or if keys
    /// may have expired that the group's clock has not reached. A time that the command has from
    /// elsewhere does not count.
    pub(super) fn stamp(&self, command: Bytes) -> Bytes {
        let command = unstamped(command);
        let may_be_due = self.earliest_ms.load(Ordering::Relaxed);
        if may_be_due == NEVER && !needs_stamp(&command) {
            return command;
        }
        let now_ms = self.now_ms();
        match may_be_due <= now_ms || needs_stamp(&command) {
            true => stamped(now_ms, &command).unwrap_or(command),
            false => command,
        }
    }

    /// The group's clock has come so far.
    pub(super) fn set_group(&self, group_ms: u64) {
        self.group_ms.store(group_ms, Ordering::Relaxed);
        let milliseconds = |time| i64::try_from(time).unwrap_or(i64::MAX);
        let origin = milliseconds(group_ms) - milliseconds(self.clock.running_ms());
        self.group_origin_ms.fetch_max(origin, Ordering::Relaxed);
    }

    /// The group has heard the time for the sake of its memory, and that took so long.
    pub(super) fn note_sweep(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.clock.swept_ns.fetch_add(nanoseconds, Ordering::Relaxed);
        self.clock.sweeps.fetch_add(1, Ordering::Relaxed);
    }

    /// The next deadline, and when the store next wants to hear the time.
    pub(super) fn set_next(&self, earliest_ms: u64, next_tick_ms: u64) {
        self.earliest_ms.store(earliest_ms, Ordering::Relaxed);
        if self.next_tick_ms.swap(next_tick_ms, Ordering::Relaxed) == NEVER && next_tick_ms != NEVER
        {
            self.clock.first_deadline.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::message::{Command, Proposal};

    fn group() -> GroupTime {
        GroupTime::new(Arc::new(NodeClock::manual(1_000)))
    }

    fn stamp_of(command: &[u8]) -> Option<u64> {
        Proposal::decode(command).unwrap().stamp_ms
    }

    #[test]
    fn a_time_that_a_peer_wrote_does_not_count() {
        let clear = Command::Clear.encode();
        for (command, expected) in [(Command::Tick.encode(), Some(1_000)), (clear, None)] {
            for time in [0, 5_000, u64::MAX] {
                let foreign = stamped(time, &command).unwrap();
                assert_eq!(stamp_of(&group().stamp(foreign.clone())), expected);
                // One behind the other, as no leader writes them.
                let head = foreign.len() - command.len() + 1;
                let twice = [&foreign[..head], &foreign[1..]].concat();
                assert_eq!(stamp_of(&group().stamp(Bytes::from(twice))), expected);
            }
        }
        let cut = Bytes::from_static(&[1, 0xf1, 0xff]);
        Proposal::decode(&group().stamp(cut)).unwrap_err();
    }

    #[test]
    fn no_clock_shows_a_time_that_would_be_refused() {
        let time = GroupTime::new(Arc::new(NodeClock::manual(u64::MAX)));
        assert_eq!(stamp_of(&time.stamp(Command::Tick.encode())), Some(LATEST_MS));
    }
}
