//! Writes the time into the logs of the groups in which keys have expired, so that their memory is
//! freed. Commands and queries that need the time bring it with them: `docs/expiry.md` tells how.

mod pace;
mod waiting;

use self::pace::Pace;
use self::waiting::Waiting;
use crate::kv::{Command, DataMemory, GroupTime, NodeClock};
use logboat::{GroupId, Node, RoleKind};
use logboat_router::{Access, RangeRequest, Router};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::time;

/// How often to look which groups are to hear the time, while there are any.
const INTERVAL: Duration = Duration::from_millis(100);

/// How often to look whether a deadline has passed, while there are any.
const LOOK: Duration = Duration::from_millis(250);

/// The most groups that hear the time together.
const MAX_GROUPS: usize = 256;

/// How long to wait for a group to take the time.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a node knows of the clocks of its groups.
#[derive(Debug)]
pub struct GroupTimes {
    clock: Arc<NodeClock>,
    /// Those whose stores were there at the last look, and new ones.
    groups: Mutex<BTreeMap<GroupId, Weak<GroupTime>>>,
}

impl GroupTimes {
    /// Of no group yet.
    #[must_use]
    pub fn new(clock: NodeClock) -> Self {
        Self { clock: Arc::new(clock), groups: Mutex::default() }
    }

    /// The time for a store of `group`, which begins with nothing.
    pub fn enter(&self, group: GroupId) -> Arc<GroupTime> {
        let time = Arc::new(GroupTime::new(Arc::clone(&self.clock)));
        self.groups.lock().insert(group, Arc::downgrade(&time));
        time
    }

    /// Whether any group has deadlines.
    fn any_deadlines(&self) -> bool {
        self.groups.lock().values().filter_map(Weak::upgrade).any(|time| time.has_deadlines())
    }

    /// Whether a group is to hear the time.
    fn is_due(&self, group: GroupId) -> bool {
        let time = self.groups.lock().get(&group).and_then(Weak::upgrade);
        time.is_some_and(|time| time.is_due())
    }

    /// The groups that are to hear the time.
    fn due(&self) -> Vec<GroupId> {
        let mut groups = self.groups.lock();
        groups.retain(|_, time| time.strong_count() > 0);
        let is_due = |time: &Weak<GroupTime>| time.upgrade().is_some_and(|time| time.is_due());
        groups.iter().filter(|(_, time)| is_due(time)).map(|(group, _)| *group).collect()
    }
}

/// Keeps the time in the groups that this node leads. Never returns.
pub async fn keep(times: Arc<GroupTimes>, memory: Arc<DataMemory>, router: Router) {
    let ranges = ranges_of(&router);
    let mut pace = Pace::new(Instant::now(), times.clock.sweeps());
    let mut waiting = Waiting::default();
    let mut looked: Option<Instant> = None;
    loop {
        let now = Instant::now();
        if looked.is_none_or(|looked| now.saturating_duration_since(looked) >= INTERVAL) {
            let mut due = times.due();
            due.retain(|group| leads(router.node(), *group));
            waiting.update(&due, now);
            pace.adjust(waiting.longest(now), memory.is_nearly_full());
            looked = Some(now);
        }
        if waiting.is_empty() {
            rest(&times).await;
            looked = None;
            continue;
        }
        match pace.allowed(now, times.clock.sweeps()) {
            Ok(count) => {
                let groups = waiting.take(count.min(MAX_GROUPS));
                pace.spend(groups.len());
                let all_heard = tell(&router, &ranges, &groups).await;
                let left = groups.into_iter().filter(|(group, _)| times.is_due(*group));
                // Groups that don't answer are not behind for want of pace.
                let since = |since| if all_heard { since } else { Instant::now() };
                left.for_each(|(group, began)| waiting.put_back((group, since(began))));
            }
            Err(pause) => time::sleep(pause.min(INTERVAL)).await,
        }
    }
}

/// Which range each group holds.
fn ranges_of(router: &Router) -> BTreeMap<GroupId, usize> {
    let map = router.map();
    map.ranges().iter().enumerate().map(|(number, range)| (range.group, number)).collect()
}

/// Waits until it is time to look again. Without deadlines nothing is looked at, and the node
/// sleeps.
async fn rest(times: &GroupTimes) {
    let first = times.clock.first_deadline();
    match times.any_deadlines() {
        true => drop(time::timeout(LOOK, first).await),
        false => first.await,
    }
}

/// Writes the time into the logs of these groups, and says whether all have heard it. One that has
/// not will be asked again.
async fn tell(
    router: &Router,
    ranges: &BTreeMap<GroupId, usize>,
    groups: &[(GroupId, Instant)],
) -> bool {
    let request = |(group, _): &(GroupId, Instant)| {
        let range = *ranges.get(group)?;
        Some(RangeRequest { range, access: Access::Write, body: Command::Tick.encode() })
    };
    let mut answers = router.request_all(groups.iter().filter_map(request).collect());
    let heard = async {
        let mut heard = 0;
        while let Some(answered) = answers.next().await {
            heard += answered.iter().filter(|(_, answer)| answer.is_ok()).count();
        }
        heard == groups.len()
    };
    time::timeout(PATIENCE, heard).await.unwrap_or(false)
}

fn leads(node: &Node, group: GroupId) -> bool {
    node.group(group).is_some_and(|replica| replica.view().role() == RoleKind::Leader)
}
